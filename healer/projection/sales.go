package projection

import (
	"encoding/json"
	"fmt"
	"slices"
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
	buyer       uuid.UUID // of the row, where that was edited online
	placeholder Row
	debt        *Row // on credit
	lines       []saleLine
	soldAt      string
	near        *Near
	exceptions  []string
}

func readSale(e Event, p payload) shape {
	s := sale{
		id: p.id("sale_id"), session: p.optionalID("cash_session_id"), seller: seller(e, p),
		series: p.optionalID("invoice_series_id"), number: p.textOr("invoice_number", ""),
		warehouse: p.looseID("warehouse_id"), customer: customerOf(p), soldAt: p.time("sold_at", e), near: p.near("sold_at", e),
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
	s.exceptions = []string{"journal entry", "message to the customer"}
	if p.flag("generate_fiscal_invoice") {
		s.exceptions = append(s.exceptions, "fiscal invoice")
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
func seller(e Event, p payload) uuid.NullUUID {
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

func placeholder(e Event, p payload, id uuid.UUID) Row {
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

func (s sale) asks(e Event) Asks {
	refs := []Ref{{Sales, s.id}, {Bodies, s.id}, {DebtsOf, s.id}, {Removed, derive(e.ID, "debt", 0)}}
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
	said := []string{
		"cash_session_id", "exchange_rate", "currency", "totals", "payment", "customer_id", "note", "sold_by_user_id", "fiscal_number",
	}
	if !s.near.Loose { // else the backend read another instant from it
		said = append(said, "sold_at")
	}
	return Asks{Refs: refs, Near: s.near, Row: s.row.only(said...)}
}

func (s sale) plan(e Event, f Facts) Outcome {
	mine, refusal := f.owned(e, Ref{Sales, s.id})
	switch {
	case refusal != nil:
		return *refusal
	case mine:
		return s.standing(e, f)
	}
	if out := s.lacks(e, f); out != nil {
		return *out
	}
	sale := Row{Sales, s.row.beyond()}
	sale.Values["invoice_full_number"] = fullNumber(f, s.series, s.number)
	c := Changes{Insert: &sale, Exceptions: s.exceptions}
	if s.customer.Valid {
		if _, known := f.Rows[Ref{Customers, s.customer.UUID}]; !known {
			c.Dependents = append(c.Dependents, s.placeholder)
		}
	}
	for _, l := range s.lines {
		c.Dependents = append(c.Dependents, l.row)
	}
	if out := s.move(e, f, &c); out != nil {
		return *out
	}
	if _, has := f.DebtOf[s.id]; s.debt != nil && !has {
		c.Dependents = append(c.Dependents, *s.debt)
	}
	out := write(c)
	out.Changes.Bare = len(f.Bodies[s.id].Movements) == 0
	return out
}

// standing mends a sale whose row is there: lines, movements or the debt that are
// missing, values that differ.
func (s sale) standing(e Event, f Facts) Outcome {
	s = s.withoutGone(f)
	edited := s.edited(e, f)
	if slices.Contains(edited, "customer_id") {
		s.buyer, _ = identifier(unquote(f.Differs[e.ID].Before["customer_id"]))
	}
	out := f.standing(e, s.row, edited...)
	if out.Class != Actionable && out.Class != Done {
		return out
	}
	c := out.Changes
	if c.Update == nil {
		c.Update = &Update{Sales, s.id, nil}
	}
	reasons := []string{}
	if out.Class == Actionable {
		reasons = append(reasons, out.Reason)
	}
	if what := s.mendLines(e, f, &c); what != "" {
		reasons = append(reasons, what)
	}
	moved := len(c.Dependents) + len(c.Also)
	if out := s.move(e, f, &c); out != nil {
		return *out
	}
	if len(c.Dependents)+len(c.Also) > moved {
		reasons = append(reasons, "movements of the sale are missing or differ")
	}
	if what := s.mendDebt(e, f, &c); what != "" {
		reasons = append(reasons, what)
	}
	switch {
	case len(reasons) == 0 && len(edited) > 0:
		return Outcome{Class: Semantic, Routine: true, Reason: Ref{Sales, s.id}.String() + " was edited online"}
	case len(reasons) == 0:
		return Outcome{Class: Done}
	case !f.first(e, Ref{Sales, s.id}):
		return superseded
	}
	if out := s.lacks(e, f); out != nil {
		return *out
	}
	for _, column := range edited { // written as it is: the heal log then tells that it was left
		if c.Update.Set == nil {
			c.Update.Set = map[string]any{}
		}
		c.Update.Set[column] = f.Differs[e.ID].Before[column]
	}
	return mend(strings.Join(reasons, "; "), c)
}

// serverMade: an online sale says less than its rows, of variants for one, wherever its
// event comes from by now.
func serverMade(e Event) bool { return e.Online || e.Device == velox.ServerDevice }

// mendDebt adds the debt of a sale on credit, or changes its amounts, unless a
// DebtCreated has the say, or the online API, which wrote what it meant.
func (s sale) mendDebt(e Event, f Facts, c *Changes) string {
	if s.debt == nil || f.Voided[s.id] {
		return ""
	}
	debt, has := f.DebtOf[s.id]
	bs, usd := s.debt.Values["amount_bs"].(string), s.debt.Values["amount_usd"].(string)
	customer := s.customer.UUID
	if debt.Customer == s.buyer {
		customer = s.buyer
	}
	switch {
	case !has && f.Removed[s.debt.ref().ID]:
		return ""
	case !has:
		c.Dependents = append(c.Dependents, *s.debt)
		return "the debt of the sale is missing"
	case !debt.Named && !e.Online && (debt.Bs != bs || debt.USD != usd || debt.Customer != customer):
		c.Also = append(c.Also, Update{Debts, debt.ID, map[string]any{
			"amount_bs": bs, "amount_usd": usd, "customer_id": customer,
		}})
		return "the debt of the sale differs"
	}
	return ""
}

// lacks names the first row that the sale needs and that is not there.
func (s sale) lacks(e Event, f Facts) *Outcome {
	var blocked *Outcome
	for _, l := range s.lines {
		if out := f.parent(e, Ref{Products, l.item.Product}); out != nil {
			return out
		}
		if owner, taken := f.Rows[Ref{Items, l.item.ID}]; taken && owner != s.id {
			return &Outcome{Class: Poison, Reason: fmt.Sprintf("%s belongs to sale %s", Ref{Items, l.item.ID}, owner)}
		}
		blocked = first(blocked, f.variant(e, l.item.Variant))
	}
	if s.session.Valid {
		if out := f.parent(e, Ref{Sessions, s.session.UUID}); out != nil {
			return out
		}
	}
	if s.customer.Valid {
		if _, refusal := f.owned(e, Ref{Customers, s.customer.UUID}); refusal != nil {
			return refusal
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

// move adds the movements that the ledger does not have yet, and changes one whose
// quantity is not the line's. What the maker's device holds in escrow goes first; it
// has left the warehouse before.
func (s sale) move(e Event, f Facts, c *Changes) *Outcome {
	warehouse := f.warehouse(s.warehouse)
	if serverMade(e) && slices.ContainsFunc(f.Bodies[s.id].Movements, func(m Movement) bool { return !m.Reversal }) {
		return nil
	}
	items := make([]Item, len(s.lines))
	for i, l := range s.lines {
		items[i] = l.item
	}
	missing, out := pair(items, f.Bodies[s.id].Movements, false, s.id, c)
	if out != nil {
		return out
	}
	taken := map[Share]string{}
	for _, i := range missing {
		line := items[i]
		note := "Venta " + s.id.String()
		rest := line.Qty
		share := Share{e.Device, line.Product, line.Variant}
		if take := s.escrow(e, f, share, taken[share], rest); take != "" {
			taken[share] = sum(taken[share], take).FloatString(quantity.point)
			held := f.Escrow[share]
			left := sum(held.Qty, "-"+taken[share]).FloatString(quantity.point)
			c.Escrow = append(slices.DeleteFunc(c.Escrow, func(g Grant) bool { return g.Share == share }),
				Grant{Share: share, Row: held.ID, Was: held.Qty, Qty: left})
			part := line
			part.Qty = "-" + take
			row := saleRow(e, derive(e.ID, "sold from escrow", i), "sold", part, warehouse, s.soldAt, note+" (Escrow)", map[string]any{"sale_id": s.id})
			row.Values["from_escrow"] = true
			c.Dependents = append(c.Dependents, row)
			rest = sum(rest, "-"+take).FloatString(quantity.point)
		}
		if !positive(rest) {
			continue
		}
		part := line
		part.Qty = "-" + rest
		c.Dependents = append(c.Dependents, saleRow(e, derive(e.ID, "sold", i), "sold", part, warehouse, s.soldAt, note, map[string]any{"sale_id": s.id}))
		c.Stock = append(c.Stock, StockKey{warehouse, line.Product, line.Variant})
	}
	return nil
}

// escrow is how much of a quantity the maker's device takes from its share: "" when
// nothing.
func (s sale) escrow(_ Event, f Facts, share Share, taken, qty string) string {
	held, has := f.Escrow[share]
	if !has {
		return ""
	}
	if held.Expires != nil && *held.Expires <= s.near.At {
		return ""
	}
	left := sum(held.Qty, "-"+zeroed(taken))
	if left.Sign() <= 0 {
		return ""
	}
	if want := sum(qty); left.Cmp(want) > 0 {
		left = want
	}
	return left.FloatString(quantity.point)
}

func zeroed(text string) string {
	if text == "" {
		return "0"
	}
	return text
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
