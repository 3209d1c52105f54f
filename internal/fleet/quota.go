package fleet

import (
	"time"

	"github.com/google/uuid"

	"github.com/veloxpos/reconciled/internal/velox"
)

// ware is what quotas are of.
type ware struct{ product, variant uuid.UUID }

// quota is what a till may sell without asking. Its clock may be off, so in
// the order of clocks its sales of a day may come before a grant or behind it:
// sure is what is left in any of these orders, and may be below zero by day. When
// some of it is taken away it is closed for the day, lest a slow clock put a later
// sale first.
type quota struct {
	till   *till
	of     *product
	ware   ware
	sure   int64 // thousandths
	closed bool
}

func (s *Shop) quotaOf(t *till, w ware) *quota {
	for _, q := range s.quotas {
		if q.till == t && q.ware == w {
			return q
		}
	}
	return nil
}

// quotaFor is the till's quota, empty at first.
func (s *Shop) quotaFor(t *till, p *product, w ware) *quota {
	if q := s.quotaOf(t, w); q != nil {
		return q
	}
	q := &quota{till: t, of: p, ware: w, sure: -t.sold[w]}
	s.quotas = append(s.quotas, q)
	return q
}

// sells tells whether the till may sell of the ware today.
func (s *Shop) sells(t *till, w ware) bool {
	q := s.quotaOf(t, w)
	return q == nil || !q.closed
}

// drawn counts what a till has sold against its quota, before and after it has one.
func (s *Shop) drawn(t *till, w ware, qty int64) {
	t.sold[w] += qty
	if q := s.quotaOf(t, w); q != nil {
		q.sure -= qty
	}
}

// newQuotaDay forgets the sales of a day: all clocks agree that they are over.
func (s *Shop) newQuotaDay() {
	for _, t := range s.tills {
		t.sold = map[ware]int64{}
	}
	for _, q := range s.quotas {
		q.sure, q.closed = max(0, q.sure), false
	}
}

// grantable is a product that quotas are given of, and the one variant of it.
func (s *Shop) grantable() (*product, ware, bool) {
	var fit []*product
	for _, p := range s.products {
		if p.quoted && !p.retired {
			fit = append(fit, p)
		}
	}
	p := pick(s, fit) // those that were made online always fit
	w := ware{product: p.id}
	if len(p.variants) > 0 {
		w.variant = p.variants[0]
	}
	return p, w, s.stock[shelf{s.ref.Warehouses[0], w.product, w.variant}] >= 40_000
}

// grant gives a till part of the stock. Like all that the online API does with
// quotas, it is known by its event alone.
func (s *Shop) grant() {
	t := s.anyTill()
	p, w, enough := s.grantable()
	if !enough {
		s.receiveProduct(t, p, w.variant, s.ref.Warehouses[0])
		return
	}
	qty := s.between(3, 15) * 1000
	s.move(s.ref.Warehouses[0], w.product, w.variant, -qty)
	s.quotaFor(t, p, w).sure += qty
	payload := object{"quota_id": s.id().String(), "device_id": t.id.String(), "qty_granted": s.amount(qty, 3)}
	if !s.chance(4) {
		payload["request_id"] = s.id().String()
	}
	expires := s.now.Add(time.Duration(s.between(1, 30)) * time.Hour)
	switch s.rng.IntN(4) {
	case 0:
		payload["expires_at"] = expires.UnixMilli()
	case 1:
		payload["expires_at"] = iso(expires)
	case 2:
		payload["expires_at"] = nil
	}
	s.serveQuota(velox.StockQuotaGranted, w, payload)
}

// serveQuota names the ware, and the variant where there is one.
func (s *Shop) serveQuota(typ velox.Type, w ware, payload object) {
	payload["product_id"] = w.product.String()
	if w.variant != uuid.Nil {
		payload["variant_id"] = w.variant.String()
	}
	s.serve(typ, payload)
}

// someQuota is one of which something is surely left.
func (s *Shop) someQuota() *quota {
	for _, i := range s.rng.Perm(len(s.quotas)) {
		if s.quotas[i].sure >= 1000 {
			return s.quotas[i]
		}
	}
	return nil
}

// transferQuota passes some of a till's quota to another.
func (s *Shop) transferQuota() {
	from, to := s.someQuota(), s.anyTill()
	if from == nil || from.till == to {
		s.grant()
		return
	}
	qty := s.between(1, from.sure/1000) * 1000
	from.sure, from.closed = from.sure-qty, true
	s.quotaFor(to, from.of, from.ware).sure += qty
	s.serveQuota(velox.StockQuotaTransferred, from.ware, object{
		"from_device_id": from.till.id.String(), "to_device_id": to.id.String(), "qty": s.amount(qty, 3), "request_id": s.id().String(),
	})
}

// reclaim takes some of a till's quota back.
func (s *Shop) reclaim() {
	from := s.someQuota()
	if from == nil {
		s.grant()
		return
	}
	qty := s.between(1, from.sure/1000) * 1000
	from.sure, from.closed = from.sure-qty, true
	s.move(s.ref.Warehouses[0], from.ware.product, from.ware.variant, qty)
	payload := object{"device_id": from.till.id.String(), "qty_reclaimed": s.amount(qty, 3), "request_id": s.id().String()}
	if s.chance(2) {
		payload["reason"] = "vencida"
	}
	s.serveQuota(velox.StockQuotaReclaimed, from.ware, payload)
}

// drawQuota takes a broken piece off a till's quota.
func (s *Shop) drawQuota() {
	q := s.someQuota()
	if q == nil || q.closed {
		s.grant()
		return
	}
	s.drawn(q.till, q.ware, 1000)
	payload := object{
		"movement_id": s.id().String(), "product_id": q.ware.product.String(), "qty_delta": int64(-1),
		"reason": "dañado", "request_id": s.id().String(), "warehouse_id": "", "from_escrow": true,
	}
	if q.ware.variant != uuid.Nil {
		payload["variant_id"] = q.ware.variant.String()
	}
	s.ring(q.till, velox.StockDeltaApplied, payload)
}
