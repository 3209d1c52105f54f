package fleet

import (
	"maps"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/veloxpos/reconciled/internal/velox"
)

// soldSale is what voiding a sale needs to know.
type soldSale struct {
	id    uuid.UUID
	debt  uuid.UUID // Nil when there is none
	lines []line
}

// line is an item of a sale.
type line struct {
	product  *product
	at       shelf
	qty      int64 // thousandths
	usd      int64 // cents a unit
	discount int64 // cents of USD
}

// maxVoidable bounds the sales that are remembered.
const maxVoidable = 200

// basket takes up to n lines from a warehouse's shelves, for a till or, when that
// is nil, for the online API.
func (s *Shop) basket(t *till, warehouse uuid.UUID, n int) []line {
	var lines []line
	for range 3 * n {
		if len(lines) == n {
			break
		}
		p, variant := s.stocked()
		at := shelf{warehouse, p.id, variant}
		qty := s.between(1, 4) * 1000
		if p.byWeight {
			qty = s.between(100, 2500)
		}
		if s.stock[at] < qty || !s.sells(t, ware{p.id, variant}) {
			continue
		}
		s.stock[at] -= qty
		l := line{product: p, at: at, qty: qty, usd: p.usd}
		if s.chance(8) {
			l.discount = max(1, l.usd/20)
		}
		lines = append(lines, l)
	}
	return lines
}

// fromQuota is a line that the till may have a quota of. What it sells is counted
// as if it came off the shelf, which is the least that can be there.
func (s *Shop) fromQuota(t *till, warehouse uuid.UUID) []line {
	for _, q := range s.quotas {
		at, qty := shelf{warehouse, q.ware.product, q.ware.variant}, s.between(1, 3)*1000
		if q.till == t && !q.closed && !q.of.retired && s.stock[at] >= qty && s.chance(8) {
			s.stock[at] -= qty
			return []line{{product: q.of, at: at, qty: qty, usd: q.of.usd}}
		}
	}
	return nil
}

// item is a line in a payload; known ones carry an id that the row will have.
func (s *Shop) item(l line, known bool) object {
	item := object{
		"product_id": l.product.id.String(), "qty": plain(l.qty, 3),
		"unit_price_bs": plain(s.bs(l.usd), 2), "unit_price_usd": plain(l.usd, 2),
		"discount_bs": plain(s.bs(l.discount), 2), "discount_usd": plain(l.discount, 2),
	}
	key := "line_id"
	if known {
		key = "item_id"
	}
	item[key] = s.id().String()
	if l.at.variant != uuid.Nil {
		item["variant_id"] = l.at.variant.String()
	}
	if l.product.byWeight {
		maps.Copy(item, object{
			"qty": int64(1), "is_weight_product": pick(s, []any{true, int64(1), "true"}), "weight_unit": "kg",
			"weight_value": s.amount(l.qty, 3), "price_per_weight_bs": plain(s.bs(l.usd), 2), "price_per_weight_usd": plain(l.usd, 2),
		})
	}
	return item
}

// sums are a sale's totals in cents of USD.
func sums(lines []line) (subtotal, discount int64) {
	for _, l := range lines {
		subtotal += (l.usd*l.qty + 500) / 1000
		discount += l.discount
	}
	return subtotal, discount
}

// salePayload is what tills and the online API have in common.
func (s *Shop) salePayload(lines []line, known bool) (payload object, usd int64) {
	subtotal, discount := sums(lines)
	usd = subtotal - discount
	items := make([]any, len(lines))
	for i, l := range lines {
		items[i] = s.item(l, known)
	}
	return object{
		"sale_id": s.id().String(), "items": items,
		"exchange_rate": plain(s.rate, 2), "currency": pick(s, []string{"BS", "BS", "USD", "MIXED"}),
		"totals": object{
			"subtotal_bs": plain(s.bs(subtotal), 2), "subtotal_usd": plain(subtotal, 2),
			"discount_bs": plain(s.bs(discount), 2), "discount_usd": plain(discount, 2),
			"total_bs": plain(s.bs(subtotal)-s.bs(discount), 2), "total_usd": plain(usd, 2),
		},
	}, usd
}

// sell makes a sale at a till. When the shelves are too empty it restocks.
func (s *Shop) sell() {
	t := s.anyTill()
	warehouse := s.ref.Warehouses[0]
	if s.chance(10) {
		warehouse = s.ref.Warehouses[1]
	}
	lines := s.fromQuota(t, warehouse)
	lines = append(lines, s.basket(t, warehouse, 1+min(s.rng.IntN(8), s.rng.IntN(8)))...) // most baskets are small
	if len(lines) == 0 {
		s.receive()
		return
	}
	payload, usd := s.salePayload(lines, s.chance(2))
	for _, l := range lines {
		s.drawn(t, ware{l.product.id, l.at.variant}, l.qty)
	}
	s.ringSale(t, payload, lines, warehouse, usd)
	if s.chance(6) {
		s.book(t, payload["sale_id"].(string), "sale", s.bs(usd), 0, t.session.String())
	}
}

func (s *Shop) ringSale(t *till, payload object, lines []line, warehouse uuid.UUID, usd int64) *velox.Event {
	request := s.id()
	payload["request_id"] = request.String()
	payload["sold_at"] = s.stamp(t)
	payload["cash_session_id"] = t.session.String()
	if s.chance(30) {
		payload["cash_session_id"] = ""
	}
	if warehouse != s.ref.Warehouses[0] || s.chance(3) {
		payload["warehouse_id"] = warehouse.String()
	}
	if s.chance(2) {
		s.fiscal++
		payload["invoice_series_id"] = s.ref.Series[0].String()
		payload["invoice_number"] = fixed(s.fiscal, 0)
		payload["fiscal_number"] = pick(s, []any{s.fiscal, fixed(s.fiscal, 0)})
	}
	if s.chance(6) {
		payload["note"] = "Entregar en puerta \\ llamar"
	}
	sold := soldSale{id: uuid.MustParse(payload["sale_id"].(string)), lines: lines}
	credit := len(s.customers) > 0 && s.chance(14)
	if credit || (len(s.customers) > 0 && s.chance(5)) {
		c := pick(s, s.customers)
		if s.chance(20) { // made online: no event tells of it, or a later one
			c = customer{id: s.id(), name: pick(s, firstNames)}
			defer func() {
				if s.chance(2) {
					s.ring(t, velox.CustomerCreated, object{"customer_id": c.id.String(), "name": c.name + " Gil", "phone": "0416", "note": nil})
				}
				if s.chance(3) {
					s.changeCustomer(c)
				}
			}()
		}
		payload["customer"] = object{"customer_id": c.id.String(), "name": c.name}
	}
	payload["payment"] = s.payment(t, credit, usd)
	e := s.ring(t, velox.SaleCreated, payload)
	e.RequestID = uuid.NullUUID{UUID: request, Valid: true}
	sale := *e
	if credit && s.chance(2) {
		sold.debt = s.creditDebt(t, payload, usd)
	}
	s.remember(sold)
	return &sale
}

// payment is how a sale is paid.
func (s *Shop) payment(t *till, credit bool, usd int64) object {
	switch {
	case credit:
		return object{"method": "FIAO"}
	case s.chance(6):
		half := s.bs(usd) / 2
		t.cashBS += half
		return object{"method": "SPLIT", "split": object{
			"cash_bs": plain(half, 2), "pago_movil_bs": plain(s.bs(usd)-half, 2), "cash_usd": int64(0),
		}}
	case s.chance(3):
		t.cashUSD += usd
		return object{"method": "CASH_USD", "cash_payment": object{"received": plain(usd+100, 2), "change": int64(1)}}
	default:
		t.cashBS += s.bs(usd)
		return object{"method": pick(s, []string{"CASH_BS", "PAGO_MOVIL", "TRANSFER", "OTHER"})}
	}
}

// creditDebt is the till's own record of a credit sale's debt: the projection of
// the sale makes one too, and absorbs it.
func (s *Shop) creditDebt(t *till, sale object, usd int64) uuid.UUID {
	d := openDebt{id: s.id(), leftUSD: usd, rate: s.rate}
	totals := sale["totals"].(object)
	s.ring(t, velox.DebtCreated, object{
		"debt_id": d.id.String(), "sale_id": sale["sale_id"], "customer_id": sale["customer"].(object)["customer_id"],
		"amount_bs": totals["total_bs"], "amount_usd": totals["total_usd"], "created_at": sale["sold_at"],
	})
	s.debts = append(s.debts, d)
	return d.id
}

// sellOnline makes a sale by the online API: thin, and its rows are there already.
func (s *Shop) sellOnline() {
	lines := s.basket(nil, s.ref.Warehouses[0], 1+s.rng.IntN(3))
	if len(lines) == 0 {
		s.receive()
		return
	}
	for _, l := range lines {
		if l.at.variant != uuid.Nil { // the event names no variant: another shelf would pay
			for _, back := range lines {
				s.stock[back.at] += back.qty
			}
			return
		}
	}
	payload, usd := s.salePayload(lines, false)
	payload["sold_at"] = iso(s.now)
	payload["cash_session_id"] = s.tills[0].session.String()
	payload["payment"] = object{"method": "CASH_BS"}
	if len(s.customers) > 0 && s.chance(3) {
		payload["customer_id"] = pick(s, s.customers).id.String()
	}
	s.serve(velox.SaleCreated, payload)
	s.serve(velox.CashLedgerEntryCreated, s.cashEntry(payload["sale_id"].(string), "sale", s.bs(usd), 0, s.tills[0].session.String(), iso(s.now)))
	s.remember(soldSale{id: uuid.MustParse(payload["sale_id"].(string)), lines: lines})
}

func (s *Shop) remember(sold soldSale) {
	s.sales = append(s.sales, sold)
	if len(s.sales) > maxVoidable {
		s.sales = s.sales[len(s.sales)-maxVoidable:]
	}
}

// void takes a sale back, online or, as older tills do, by the till itself.
func (s *Shop) void() {
	if len(s.sales) == 0 {
		s.sell()
		return
	}
	i := s.rng.IntN(len(s.sales))
	if credit := slices.IndexFunc(s.sales, func(sold soldSale) bool { return sold.debt != uuid.Nil }); credit >= 0 && s.chance(4) {
		i = credit
	}
	sold := s.sales[i]
	s.sales = append(s.sales[:i:i], s.sales[i+1:]...)
	for _, l := range sold.lines {
		s.stock[l.at] += l.qty
	}
	s.debts = dropDebt(s.debts, sold.debt)
	s.pass(time.Second)
	payload := object{"sale_id": sold.id.String(), "reason": "devuelto", "voided_by_user_id": s.ref.Profiles[0].String()}
	if s.chance(2) {
		payload["voided_at"] = iso(s.now)
		s.serve(velox.SaleVoided, payload)
		return
	}
	t := s.anyTill()
	payload["voided_at"] = s.stamp(t)
	s.ring(t, velox.SaleVoided, payload)
}

func dropDebt(debts []openDebt, id uuid.UUID) []openDebt {
	for i, d := range debts {
		if d.id == id {
			return append(debts[:i:i], debts[i+1:]...)
		}
	}
	return debts
}
