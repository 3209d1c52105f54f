package fleet

import (
	"github.com/google/uuid"

	"github.com/veloxpos/reconciled/internal/velox"
)

// plainProduct is one that is sold by the piece, has no variants and no quotas, and is in stock.
func (s *Shop) plainProduct() (*product, shelf) {
	for {
		for _, p := range s.products {
			at := shelf{s.ref.Warehouses[0], p.id, uuid.Nil}
			if len(p.variants) == 0 && !p.byWeight && !p.idle && !p.retired && !p.quoted && s.stock[at] >= 1000 {
				return p, at
			}
		}
		s.act()
	}
}

// oddSale rings a sale of some plain product with something changed in its
// payload.
func (s *Shop) oddSale(change func(object), qty int64) velox.Event {
	p, at := s.plainProduct()
	return s.oddSaleOf(p, at, qty, change)
}

// oddSaleOf takes the sale out of the queue: it is nobody's to trade.
func (s *Shop) oddSaleOf(p *product, at shelf, qty int64, change func(object)) velox.Event {
	s.stock[at] -= qty
	t := s.tills[0]
	payload, usd := s.salePayload([]line{{product: p, at: at, qty: qty, usd: p.usd}}, true)
	request := s.id()
	payload["request_id"] = request.String()
	payload["sold_at"] = s.stamp(t)
	payload["cash_session_id"] = ""
	payload["payment"] = s.payment(t, false, usd)
	if change != nil {
		change(payload)
	}
	e := *s.ring(t, velox.SaleCreated, payload)
	e.RequestID = uuid.NullUUID{UUID: request, Valid: true}
	e.Actor = uuid.NullUUID{UUID: t.actor, Valid: true}
	s.queue = s.queue[:len(s.queue)-1]
	return e
}
