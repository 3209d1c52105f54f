package postgres

import (
	"encoding/json"
	"maps"
	"slices"

	"github.com/google/uuid"

	"github.com/veloxpos/reconciled/healer/projection"
	"github.com/veloxpos/reconciled/internal/velox"
)

// declared asks of debts that have no row which sales are theirs: of the log, and of
// what is kept of debts that were deleted here.
func (r *factReader) declared() {
	r.facts.Declared = map[uuid.UUID]uuid.NullUUID{}
	if len(r.asked[projection.Declared]) == 0 {
		return
	}
	var (
		debt uuid.UUID
		sale uuid.NullUUID
	)
	missing := []uuid.UUID{}
	r.each("debts", `SELECT id FROM unnest($1::uuid[]) AS asked (id) WHERE NOT EXISTS (SELECT FROM public.debts d WHERE d.id = asked.id)`,
		[]any{r.ids(projection.Declared)}, []any{&debt}, func() { missing = append(missing, debt) })
	if len(missing) == 0 {
		return
	}
	r.each("declared debts", saying(`asked.id, reconciled.try_uuid(`+saidInSQL+` ->> 'sale_id')`, "debt_id", `e.type = 'DebtCreated'`)+`
		UNION ALL SELECT row_id, parent_id FROM reconciled.deleted_row WHERE store_id = $1 AND table_name = 'debts' AND row_id = ANY($2)`,
		[]any{r.store, missing}, []any{&debt, &sale},
		func() {
			if sale.Valid || !r.facts.Declared[debt].Valid {
				r.facts.Declared[debt] = sale
			}
			if sale.Valid {
				r.ask(projection.Sales, sale.UUID)
				r.ask(projection.DebtsOf, sale.UUID)
			}
		})
}

// debtsOf reads the debts of sales, and which of them an event names.
func (r *factReader) debtsOf() {
	r.facts.DebtOf = map[uuid.UUID]projection.Debt{}
	if len(r.asked[projection.DebtsOf]) == 0 {
		return
	}
	var (
		sale uuid.UUID
		d    projection.Debt
	)
	sales := map[uuid.UUID]uuid.UUID{} // by debt
	r.each("debts of sales", `SELECT d.sale_id, d.id, d.customer_id, s.customer_id, d.amount_bs::text, d.amount_usd::text
		FROM public.debts d LEFT JOIN public.sales s ON s.id = d.sale_id WHERE d.store_id = $1 AND d.sale_id = ANY($2)`,
		[]any{r.store, r.ids(projection.DebtsOf)}, []any{&sale, &d.ID, &d.Customer, &d.Buyer, &d.Bs, &d.USD},
		func() { r.facts.DebtOf[sale], sales[d.ID] = d, sale })
	if len(sales) == 0 {
		return
	}
	var debt uuid.UUID
	r.each("named debts of sales", saying(`asked.id`, "debt_id", `e.type = 'DebtCreated'`),
		[]any{r.store, slices.Collect(maps.Keys(sales))}, []any{&debt}, func() {
			if d := r.facts.DebtOf[sales[debt]]; d.ID == debt {
				d.Named = true
				r.facts.DebtOf[sales[debt]] = d
			}
		})
}

// voids finds the voids in the log of sales that are voided and have a debt all the
// same.
func (r *factReader) voids() {
	r.facts.VoidOf = map[uuid.UUID]uuid.UUID{}
	sales := []uuid.UUID{}
	for sale := range r.asked[projection.Voiding] {
		if _, has := r.facts.DebtOf[sale]; has && r.facts.Voided[sale] {
			sales = append(sales, sale)
		}
	}
	if len(sales) == 0 {
		return
	}
	var sale, event uuid.UUID
	r.each("voids", saying(`asked.id, e.event_id`, "sale_id", `e.type = 'SaleVoided'`)+` ORDER BY 2`,
		[]any{r.store, sales}, []any{&sale, &event}, func() { r.facts.VoidOf[sale] = event })
}

// debtStatus is a debt's status by its payments p, to a cent: measured in USD if the
// debt is in USD, else in BS; a debt of nothing is paid by any payment (events.md
// 3.9).
const debtStatus = `CASE
	WHEN CASE WHEN d.amount_usd > 0.01 THEN p.usd >= d.amount_usd - 0.01
	          WHEN d.amount_bs > 0.01 THEN p.bs >= d.amount_bs - 0.01
	          ELSE true END THEN 'paid'
	WHEN p.usd > 0.01 OR p.bs > 0.01 THEN 'partial'
	ELSE 'open' END`

// stale finds payments whose debt has not the status that its payments give it.
func (r *factReader) stale() {
	r.facts.Stale = map[uuid.UUID]uuid.UUID{}
	if len(r.asked[projection.DebtPayments]) == 0 {
		return
	}
	var payment, debt uuid.UUID
	r.each("debt status", `SELECT m.id, d.id FROM public.debt_payments m JOIN public.debts d ON d.id = m.debt_id
		CROSS JOIN LATERAL (SELECT sum(amount_usd) AS usd, sum(amount_bs) AS bs FROM public.debt_payments WHERE debt_id = d.id) p
		WHERE m.id = ANY($1) AND d.status IS DISTINCT FROM `+debtStatus,
		[]any{r.ids(projection.DebtPayments)}, []any{&payment, &debt}, func() { r.facts.Stale[payment] = debt })
}

// sessions reads how sessions were closed, in their rows and in the log.
func (r *factReader) sessions() {
	r.facts.Sessions, r.facts.Closings = map[uuid.UUID]projection.Session{}, map[uuid.UUID][]projection.Event{}
	ids := r.ids(projection.Closings)
	if len(ids) == 0 {
		return
	}
	var (
		id                uuid.UUID
		s                 projection.Session
		at                *velox.Millis
		expected, counted []byte
	)
	r.each("cash sessions", `SELECT id, reconciled.ms(closed_at), expected::text, counted::text, coalesce(note, '')
		FROM public.cash_sessions WHERE store_id = $1 AND id = ANY($2)`,
		[]any{r.store, ids}, []any{&id, &at, &expected, &counted, &s.Note},
		func() {
			s.Closed, s.Expected, s.Counted = at != nil, json.RawMessage(expected), json.RawMessage(counted)
			if at != nil {
				s.ClosedAt = *at
			}
			r.facts.Sessions[id] = s
		})
	r.events("closings", saying(eventColumns+`, asked.id`, "session_id", `e.type = 'CashSessionClosed'`),
		[]any{r.store, ids}, func(e projection.Event, session uuid.UUID) {
			r.facts.Closings[session] = append(r.facts.Closings[session], e)
		})
}

// sessionCounters are a session's counters as its entries add up to them (events.md
// 3.8), of entries c.
const sessionCounters = `
	coalesce(sum(CASE WHEN c.entry_type = 'expense' THEN 0 WHEN c.entry_type IN ('sale', 'income', 'initial_balance') THEN abs(c.amount_bs) ELSE greatest(c.amount_bs, 0) END), 0) AS p_bs,
	coalesce(sum(CASE WHEN c.entry_type = 'expense' THEN abs(c.amount_bs) WHEN c.entry_type IN ('sale', 'income', 'initial_balance') THEN 0 ELSE greatest(-c.amount_bs, 0) END), 0) AS n_bs,
	coalesce(sum(CASE WHEN c.entry_type = 'expense' THEN 0 WHEN c.entry_type IN ('sale', 'income', 'initial_balance') THEN abs(c.amount_usd) ELSE greatest(c.amount_usd, 0) END), 0) AS p_usd,
	coalesce(sum(CASE WHEN c.entry_type = 'expense' THEN abs(c.amount_usd) WHEN c.entry_type IN ('sale', 'income', 'initial_balance') THEN 0 ELSE greatest(-c.amount_usd, 0) END), 0) AS n_usd
	FROM public.cash_ledger_entries c WHERE c.store_id = t.store_id AND c.cash_session_id = t.id`

// counters finds sessions whose counters are not what their entries add up to.
func (r *factReader) counters() {
	r.facts.Counters = idSet{}
	if len(r.asked[projection.Entries]) == 0 {
		return
	}
	var id uuid.UUID
	r.each("session counters", `SELECT t.id FROM public.cash_sessions t CROSS JOIN LATERAL (SELECT `+sessionCounters+`) s
		WHERE t.store_id = $1 AND t.id = ANY($2)
		  AND (t.ledger_p_bs, t.ledger_n_bs, t.ledger_p_usd, t.ledger_n_usd) IS DISTINCT FROM (s.p_bs, s.n_bs, s.p_usd, s.n_usd)`,
		[]any{r.store, r.ids(projection.Entries)}, []any{&id}, func() { r.facts.Counters[id] = true })
}

// invoiced finds sales with an issued fiscal invoice.
func (r *factReader) invoiced() {
	r.facts.Invoiced = idSet{}
	if len(r.asked[projection.Bodies]) == 0 {
		return
	}
	var id uuid.UUID
	r.each("fiscal invoices", `SELECT sale_id FROM public.fiscal_invoices WHERE sale_id = ANY($1) AND status = 'issued'`,
		[]any{r.ids(projection.Bodies)}, []any{&id}, func() { r.facts.Invoiced[id] = true })
}
