package fleet

import (
	"github.com/google/uuid"

	"github.com/veloxpos/reconciled/internal/velox"
)

// move books stock in the shop's own head.
func (s *Shop) move(warehouse, product, variant uuid.UUID, thousandths int64) {
	s.stock[shelf{warehouse, product, variant}] += thousandths
}

// receiveProduct books a delivery of a product.
func (s *Shop) receiveProduct(t *till, p *product, variant, warehouse uuid.UUID) *velox.Event {
	qty := s.between(40, 400) * 1000
	s.move(warehouse, p.id, variant, qty)
	payload := object{
		"movement_id": s.id().String(), "product_id": p.id.String(), "qty": s.amount(qty, 3),
		"warehouse_id": warehouse.String(),
	}
	if warehouse == s.ref.Warehouses[0] && s.chance(4) {
		payload["warehouse_id"] = pick(s, []any{"", nil, s.id().String()}) // all mean the default
	}
	if variant != uuid.Nil {
		payload["variant_id"] = variant.String()
	}
	if s.chance(2) {
		payload["unit_cost_bs"] = s.amount(s.bs(p.usd*3/4), 2)
		payload["unit_cost_usd"] = s.amount(p.usd*3/4, 2)
	}
	if s.chance(5) {
		payload["note"] = "Factura del proveedor"
		payload["ref"] = object{"supplier": pick(s, brands)}
	}
	return s.ring(t, velox.StockReceived, payload)
}

// stockVariants fills the shelves of products that were made online.
func (s *Shop) stockVariants() {
	for _, p := range s.products[:len(s.ref.Products)] {
		for _, v := range p.variants {
			s.receiveProduct(s.tills[0], p, v, s.ref.Warehouses[0])
		}
	}
}

// stocked is a product that may move, and one of its variants if it has any.
func (s *Shop) stocked() (*product, uuid.UUID) {
	for {
		p := pick(s, s.products)
		if p.idle || p.retired {
			continue
		}
		if len(p.variants) > 0 {
			return p, pick(s, p.variants)
		}
		return p, uuid.Nil
	}
}

func (s *Shop) receive() {
	p, variant := s.stocked()
	warehouse := s.ref.Warehouses[0]
	if s.chance(4) {
		warehouse = s.ref.Warehouses[1]
	}
	s.receiveProduct(s.anyTill(), p, variant, warehouse)
}

// spare is a small quantity that may leave the shelf: 0 when it is almost empty.
func (s *Shop) spare(at shelf) int64 { return min(s.between(1, 4)*1000, s.stock[at]/2/1000*1000) }

func (s *Shop) adjust() {
	p, variant := s.stocked()
	at := shelf{s.ref.Warehouses[0], p.id, variant}
	delta := s.between(1, 5) * 1000
	if s.chance(2) {
		delta = -s.spare(at)
	}
	s.stock[at] += delta
	payload := object{
		"movement_id": s.id().String(), "product_id": p.id.String(), "qty_delta": s.amount(delta, 3),
		"reason": "conteo", "warehouse_id": at.warehouse.String(),
	}
	if variant != uuid.Nil {
		payload["variant_id"] = variant.String()
	}
	if s.chance(3) {
		payload["note"] = "Merma"
	}
	if s.chance(3) {
		s.serve(velox.StockAdjusted, payload)
		return
	}
	s.ring(s.anyTill(), velox.StockAdjusted, payload)
}

func (s *Shop) applyDelta() {
	p, variant := s.stocked()
	at := shelf{s.ref.Warehouses[0], p.id, variant}
	delta := s.between(1, 30) * 1000
	if s.chance(3) {
		delta = -s.spare(at)
	}
	s.stock[at] += delta
	request := s.id()
	payload := object{
		"movement_id": s.id().String(), "product_id": p.id.String(), "qty_delta": s.amount(delta, 3),
		"reason": pick(s, []string{"received", "ajuste", ""}), "request_id": request.String(),
	}
	if variant != uuid.Nil {
		payload["variant_id"] = variant.String()
	}
	if s.chance(2) { // the online API
		payload["warehouse_id"] = at.warehouse.String()
		payload["unit_cost_bs"] = plain(s.bs(p.usd/2), 2)
		s.serve(velox.StockDeltaApplied, payload).RequestID = uuid.NullUUID{UUID: request, Valid: true}
		return
	}
	payload["warehouse_id"] = ""
	payload["ref"] = object{"note": "sin conexión", "unit_cost_usd": plain(p.usd/2, 2)}
	s.ring(s.anyTill(), velox.StockDeltaApplied, payload)
}
