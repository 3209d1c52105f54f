package projection

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/google/uuid"

	"github.com/veloxpos/reconciled/internal/velox"
)

// sale is SaleCreated (events.md 3.6). Numbers that a sequence would give stay
// NULL; a fiscal number is kept as the event has it, and never made.
type sale struct {
	row         Row
	id          uuid.UUID
	session     uuid.NullUUID
	seller      uuid.NullUUID
	series      uuid.NullUUID
	number      string // invoice number; "" when none
	warehouse   uuid.NullUUID
	customer    uuid.NullUUID
	placeholder Row
	debt        *Row // on credit
	lines       []saleLine
	soldAt      string
}

type saleLine struct {
	row  Row // of sale_items
	item Item
}

func readSale(e *velox.Event, p payload) shape {
	s := sale{
		id: p.id("sale_id"), session: p.optionalID("cash_session_id"), seller: seller(e, p),
		series: p.optionalID("invoice_series_id"), number: p.textOr("invoice_number", ""),
		warehouse: p.looseID("warehouse_id"), customer: customerOf(p), soldAt: p.time("sold_at", e),
	}
	totals, payment := p.object("totals"), payment(p)
	method, _ := payment["method"].(string)
	s.row = Row{Sales, map[string]any{
		"id": s.id, "store_id": e.Store, "cash_session_id": s.session, "sold_at": s.soldAt,
		"exchange_rate": p.number("exchange_rate", rate), "currency": p.textOr("currency", "BS"),
		"totals": map[string]any{
			"subtotal_bs": totals.amount("subtotal_bs"), "subtotal_usd": totals.amount("subtotal_usd"),
			"discount_bs": discount(totals, "bs"), "discount_usd": discount(totals, "usd"),
			"total_bs": totals.amount("total_bs"), "total_usd": totals.amount("total_usd"),
		},
		"payment": payment, "customer_id": s.customer, "sold_by_user_id": s.seller, "note": p.text("note"),
		"fiscal_number": p.text("fiscal_number"), "invoice_series_id": s.series, "invoice_number": p.text("invoice_number"),
	}}
	seen := map[uuid.UUID]bool{}
	for i, p := range p.lines("items") {
		line := readLine(e, p, s.id, i)
		if seen[line.item.ID] {
			p.fail("item_id", "is that of another line")
		}
		seen[line.item.ID] = true
		s.lines = append(s.lines, line)
	}
	if s.customer.Valid {
		s.placeholder = placeholder(e, p, s.customer.UUID)
	}
	if method == "FIAO" && s.customer.Valid {
		s.debt = &Row{Debts, map[string]any{
			"id": derive(e.ID, "debt", 0), "store_id": e.Store, "sale_id": s.id, "customer_id": s.customer.UUID,
			"created_at": s.soldAt, "status": "open", "note": nil,
			"amount_bs": totals.number("total_bs", money), "amount_usd": totals.number("total_usd", money),
		}}
	}
	return s
}

// discount is read where makers write it, then where the backend looks.
func discount(totals payload, currency string) json.RawMessage {
	if !totals.absent("discount_" + currency) {
		return totals.amount("discount_" + currency)
	}
	return totals.amount("discount_total_" + currency)
}

// payment is the payment as it stands, with a method.
func payment(p payload) map[string]any {
	members := map[string]any{}
	for name, raw := range p.object("payment").members {
		members[name] = raw
	}
	members["method"] = "UNKNOWN"
	if method := p.object("payment").textOr("method", ""); strings.TrimSpace(method) != "" {
		members["method"] = method
	}
	return members
}

// seller is the first user that the event names.
func seller(e *velox.Event, p payload) uuid.NullUUID {
	if user := actor(e); user.Valid {
		return user
	}
	metadata := p.object("metadata")
	for _, candidate := range []struct {
		in   payload
		name string
	}{
		{p, "sold_by_user_id"},
		{p, "user_id"},
		{metadata, "user_id"},
		{metadata, "actor_user_id"},
		{metadata, "sold_by_user_id"},
	} {
		if user := candidate.in.optionalID(candidate.name); user.Valid && user.UUID != velox.NoActor {
			return user
		}
	}
	return uuid.NullUUID{}
}

func customerOf(p payload) uuid.NullUUID {
	if id := p.object("customer").optionalID("customer_id"); id.Valid {
		return id
	}
	return p.optionalID("customer_id")
}

// PlaceholderNote begins the note of a customer that a sale stood in for.
const PlaceholderNote = "Auto-creado por proyeccion de venta"

func placeholder(e *velox.Event, p payload, id uuid.UUID) Row {
	inner := p.object("customer")
	either := func(name string) any {
		if text := inner.text(name); text != nil {
			return text
		}
		return p.text("customer_" + name)
	}
	name := either("name")
	if name == nil {
		name = p.textOr("customerName", "Cliente offline "+id.String()[:8])
	}
	return Row{Customers, map[string]any{
		"id": id, "store_id": e.Store, "name": name, "phone": either("phone"),
		"document_id": either("document_id"), "email": either("email"),
		"note": fmt.Sprintf("%s (%s)", PlaceholderNote, e.ID),
	}}
}

func readLine(e *velox.Event, p payload, sale uuid.UUID, i int) saleLine {
	id := p.optionalID("item_id")
	if !id.Valid {
		id = some(derive(e.ID, "item", i))
	}
	item := Item{ID: id.UUID, Product: p.id("product_id"), Variant: p.optionalID("variant_id")}
	weighed := p.flag("is_weight_product")
	weight := p.optionalNumber("weight_value", quantity)
	item.Qty = p.number("qty", quantity)
	if text, ok := weight.(string); ok && weighed {
		item.Qty = text
	}
	return saleLine{item: item, row: Row{Items, map[string]any{
		"id": item.ID, "sale_id": sale, "product_id": item.Product, "variant_id": item.Variant,
		"lot_id": p.optionalID("lot_id"), "qty": item.Qty,
		"unit_price_bs": p.number("unit_price_bs", price), "unit_price_usd": p.number("unit_price_usd", price),
		"discount_bs": p.number("discount_bs", money), "discount_usd": p.number("discount_usd", money),
		"is_weight_product": weighed, "weight_unit": p.text("weight_unit"), "weight_value": weight,
		"price_per_weight_bs":  p.optionalNumber("price_per_weight_bs", price),
		"price_per_weight_usd": p.optionalNumber("price_per_weight_usd", price),
	}}}
}

func (s sale) refs() []Ref {
	refs := []Ref{{Sales, s.id}, {Leftovers, s.id}, {DebtsOf, s.id}}
	optional := func(table Table, id uuid.NullUUID) {
		if id.Valid {
			refs = append(refs, Ref{table, id.UUID})
		}
	}
	optional(Sessions, s.session)
	optional(Profiles, s.seller)
	optional(SeriesTable, s.series)
	optional(Customers, s.customer)
	for _, l := range s.lines {
		refs = append(refs, Ref{Items, l.item.ID}, Ref{Products, l.item.Product}, Ref{Escrowed, l.item.Product})
		optional(Variants, l.item.Variant)
	}
	return refs
}

func (s sale) plan(e *velox.Event, f Facts) Outcome {
	if out := f.settled(e, Ref{Sales, s.id}); out != nil {
		if out.Class == Done && f.Hollow[s.id] {
			return Outcome{Class: Unsupported, Reason: "the sale's row is there without its items; a partial projection is not repaired natively"}
		}
		return *out
	}
	if out := s.lacks(e, f); out != nil {
		return *out
	}
	sale := Row{Sales, s.row.beyond()}
	sale.Values["invoice_full_number"] = fullNumber(f, s.series, s.number)
	c := Changes{Insert: &sale}
	if s.customer.Valid {
		if _, known := f.Rows[Ref{Customers, s.customer.UUID}]; !known {
			c.Dependents = append(c.Dependents, s.placeholder)
		}
	}
	for _, l := range s.lines {
		c.Dependents = append(c.Dependents, l.row)
	}
	s.move(e, f, &c)
	if _, has := f.DebtOf[s.id]; s.debt != nil && !has {
		c.Dependents = append(c.Dependents, *s.debt)
	}
	return write(c)
}

// lacks names the first row that the sale needs and that is not there.
func (s sale) lacks(e *velox.Event, f Facts) *Outcome {
	var blocked *Outcome
	for _, l := range s.lines {
		if out := f.parent(e, Ref{Products, l.item.Product}); out != nil {
			return out
		}
		if owner, taken := f.Rows[Ref{Items, l.item.ID}]; taken && owner != s.id {
			return &Outcome{Class: Poison, Reason: fmt.Sprintf("%s belongs to sale %s", Ref{Items, l.item.ID}, owner)}
		}
		if f.Escrow[Escrow{e.Device, l.item.Product}] {
			return &Outcome{Class: Unsupported, Reason: fmt.Sprintf("device %s holds escrow of product %s; quotas are not projected natively", e.Device, l.item.Product)}
		}
		blocked = first(blocked, f.variant(e, l.item.Variant))
	}
	if s.session.Valid {
		if out := f.parent(e, Ref{Sessions, s.session.UUID}); out != nil {
			return out
		}
	}
	if s.customer.Valid {
		if out := f.settled(e, Ref{Customers, s.customer.UUID}); out != nil && out.Class == Poison {
			return out
		}
	}
	if s.seller.Valid {
		blocked = first(blocked, f.reference(e, Ref{Profiles, s.seller.UUID}))
	}
	if s.series.Valid {
		blocked = first(blocked, f.reference(e, Ref{SeriesTable, s.series.UUID}))
	}
	return blocked
}

// move adds the movements that the ledger does not have yet. Those of a product
// and variant are there or not as a whole: the backend writes them with the sale.
func (s sale) move(e *velox.Event, f Facts, c *Changes) {
	warehouse := f.warehouse(s.warehouse)
	for i, l := range s.lines {
		if !positive(l.item.Qty) || moved(f.Bodies[s.id].Movements, l.item, false) {
			continue
		}
		sold := l.item
		sold.Qty = "-" + sold.Qty
		c.Dependents = append(c.Dependents, saleRow(e, derive(e.ID, "sold", i), "sold", sold, warehouse, s.soldAt,
			"Venta "+s.id.String(), map[string]any{"sale_id": s.id}))
		c.Stock = append(c.Stock, StockKey{warehouse, sold.Product, sold.Variant})
	}
}

func moved(movements []Movement, item Item, reversal bool) bool {
	for _, m := range movements {
		if m.Product == item.Product && m.Variant == item.Variant && m.Reversal == reversal {
			return true
		}
	}
	return false
}

// positive tells a quantity above zero from its text.
func positive(qty string) bool {
	return !strings.HasPrefix(qty, "-") && strings.Trim(qty, "0.") != ""
}

// fullNumber is what an invoice number that the event brought is printed as.
func fullNumber(f Facts, series uuid.NullUUID, number string) any {
	s, known := f.Series[series.UUID]
	if !series.Valid || !known || number == "" {
		return nil
	}
	if s.Prefix != "" {
		return s.Prefix + "-" + s.Code + "-" + number
	}
	return s.Code + "-" + number
}
