package postgres

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/veloxpos/reconciled/healer/projection"
	"github.com/veloxpos/reconciled/internal/velox"
)

// Facts answers refs, one query a question for all of them.
func (h *Healing) Facts(ctx context.Context, store velox.StoreID, refs []projection.Ref) (projection.Facts, error) {
	r := factReader{ctx: ctx, q: h.db.Pool, store: store, asked: map[projection.Table]idSet{}}
	for _, ref := range refs {
		r.ask(ref.Table, ref.ID)
	}
	r.declared() // names more sales to ask about
	r.rows()
	r.debtsOf()
	r.bodies()
	r.sessions()
	r.removed()
	r.escrow()
	r.series()
	r.warehouses()
	if r.err != nil {
		return projection.Facts{}, fmt.Errorf("read %s: %w", r.failed, r.err)
	}
	return r.facts, nil
}

type idSet map[uuid.UUID]bool

// factReader collects facts until a query fails.
type factReader struct {
	ctx    context.Context
	q      querier
	store  velox.StoreID
	asked  map[projection.Table]idSet
	facts  projection.Facts
	err    error
	failed string
}

func (r *factReader) ask(table projection.Table, id uuid.UUID) {
	if r.asked[table] == nil {
		r.asked[table] = idSet{}
	}
	r.asked[table][id] = true
}

// ids are those that a table or question was asked about, never nil.
func (r *factReader) ids(table projection.Table) []uuid.UUID {
	ids := make([]uuid.UUID, 0, len(r.asked[table]))
	for id := range r.asked[table] {
		ids = append(ids, id)
	}
	return ids
}

// each runs a query and scans every row into dest.
func (r *factReader) each(what, sql string, args []any, dest []any, row func()) {
	if r.err != nil {
		return
	}
	r.failed = what
	rows, err := r.q.Query(r.ctx, sql, args...)
	if err != nil {
		r.err = err
		return
	}
	_, r.err = pgx.ForEachRow(rows, dest, func() error { row(); return nil })
}

// rows finds which of the asked rows exist, and whose they are.
func (r *factReader) rows() {
	r.facts.Rows = map[projection.Ref]uuid.UUID{}
	r.facts.Placeholders, r.facts.Voided, r.facts.Hollow = idSet{}, idSet{}, idSet{}
	var (
		ref            projection.Ref
		owner          uuid.UUID
		special, empty bool
	)
	const nobody = `'00000000-0000-0000-0000-000000000000'::uuid`
	r.each("rows", `
		SELECT 'products', id, store_id, false, false FROM public.products WHERE id = ANY($1)
		UNION ALL SELECT 'product_variants', id, `+nobody+`, false, false FROM public.product_variants WHERE id = ANY($2)
		UNION ALL SELECT 'profiles', id, `+nobody+`, false, false FROM public.profiles WHERE id = ANY($3)
		UNION ALL SELECT 'invoice_series', id, store_id, false, false FROM public.invoice_series WHERE id = ANY($4)
		UNION ALL SELECT 'cash_sessions', id, store_id, false, false FROM public.cash_sessions WHERE id = ANY($5)
		UNION ALL SELECT 'customers', id, store_id, coalesce(starts_with(note, $12), false), false FROM public.customers WHERE id = ANY($6)
		UNION ALL SELECT 'sales', id, store_id, voided_at IS NOT NULL, NOT EXISTS (SELECT FROM public.sale_items i WHERE i.sale_id = s.id)
			FROM public.sales s WHERE id = ANY($7)
		UNION ALL SELECT 'sale_items', id, sale_id, false, false FROM public.sale_items WHERE id = ANY($8)
		UNION ALL SELECT 'inventory_movements', id, store_id, false, false FROM public.inventory_movements WHERE id = ANY($9)
		UNION ALL SELECT 'debts', id, store_id, false, false FROM public.debts WHERE id = ANY($10)
		UNION ALL SELECT 'debt_payments', id, store_id, false, false FROM public.debt_payments WHERE id = ANY($11)`,
		[]any{
			r.ids(projection.Products), r.ids(projection.Variants), r.ids(projection.Profiles), r.ids(projection.SeriesTable),
			r.ids(projection.Sessions), r.ids(projection.Customers), r.ids(projection.Sales), r.ids(projection.Items),
			r.ids(projection.Movements), r.ids(projection.Debts), r.ids(projection.DebtPayments), projection.PlaceholderNote,
		},
		[]any{&ref.Table, &ref.ID, &owner, &special, &empty},
		func() {
			r.facts.Rows[ref] = owner
			switch ref.Table {
			case projection.Customers:
				r.facts.Placeholders[ref.ID] = special
			case projection.Sales:
				r.facts.Voided[ref.ID], r.facts.Hollow[ref.ID] = special, empty
			}
		})
}

// saidInSQL is what an event said (velox.Event.Said).
const saidInSQL = `coalesce(s.said, nullif(e.delta_payload, '{}'), e.payload)`

// declared looks in the log for debts that have no row: which sales are theirs?
func (r *factReader) declared() {
	r.facts.Declared = map[uuid.UUID]uuid.NullUUID{}
	if len(r.asked[projection.Declared]) == 0 {
		return
	}
	var (
		debt uuid.UUID
		sale uuid.NullUUID
	)
	var missing []string
	r.each("debts", `SELECT id FROM unnest($1::uuid[]) AS asked (id) WHERE NOT EXISTS (SELECT FROM public.debts d WHERE d.id = asked.id)`,
		[]any{r.ids(projection.Declared)}, []any{&debt}, func() { missing = append(missing, debt.String()) })
	if len(missing) == 0 {
		return
	}
	r.each("declared debts", `
		SELECT reconciled.try_uuid(`+saidInSQL+` ->> 'debt_id'), reconciled.try_uuid(`+saidInSQL+` ->> 'sale_id')
		FROM `+eventTables+`
		WHERE e.store_id = $1 AND e.type = 'DebtCreated' AND lower(`+saidInSQL+` ->> 'debt_id') = ANY($2)`,
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

func (r *factReader) debtsOf() {
	r.facts.DebtOf = map[uuid.UUID]uuid.UUID{}
	if len(r.asked[projection.DebtsOf]) == 0 {
		return
	}
	var sale, debt uuid.UUID
	r.each("debts of sales", `SELECT sale_id, id FROM public.debts WHERE store_id = $1 AND sale_id = ANY($2)`,
		[]any{r.store, r.ids(projection.DebtsOf)}, []any{&sale, &debt}, func() { r.facts.DebtOf[sale] = debt })
}

// bodies reads what sales consist of: items and movements of those that are to
// be voided, and movements left of sales that are missing. There is no index on
// the sale that a movement names, so its products lead to it.
func (r *factReader) bodies() {
	r.facts.Bodies = map[uuid.UUID]projection.Body{}
	var open, asked []string
	products := idSet{}
	for id := range r.asked[projection.Bodies] {
		if _, exists := r.facts.Rows[projection.Ref{Table: projection.Sales, ID: id}]; exists && !r.facts.Voided[id] {
			open = append(open, id.String())
		}
	}
	for id := range r.asked[projection.Leftovers] {
		if _, exists := r.facts.Rows[projection.Ref{Table: projection.Sales, ID: id}]; !exists {
			asked = append(asked, id.String())
		}
	}
	if asked = append(asked, open...); len(asked) == 0 {
		return
	}
	for id := range r.asked[projection.Products] {
		products[id] = true
	}
	var (
		sale uuid.UUID
		item projection.Item
		m    projection.Movement
	)
	r.each("sale items", `SELECT sale_id, id, product_id, variant_id, qty::text FROM public.sale_items
		WHERE sale_id = ANY($1::uuid[]) ORDER BY id`,
		[]any{open}, []any{&sale, &item.ID, &item.Product, &item.Variant, &item.Qty},
		func() {
			body := r.facts.Bodies[sale]
			body.Items = append(body.Items, item)
			r.facts.Bodies[sale] = body
			products[item.Product] = true
		})
	list := make([]uuid.UUID, 0, len(products))
	for id := range products {
		list = append(list, id)
	}
	r.each("movements of sales", `SELECT (ref ->> 'sale_id')::uuid, product_id, variant_id, warehouse_id,
			coalesce(ref ->> 'reversal' = 'true', false)
		FROM public.inventory_movements
		WHERE store_id = $1 AND product_id = ANY($2) AND movement_type IN ('sold', 'adjust') AND ref ->> 'sale_id' = ANY($3)
		ORDER BY happened_at, id`,
		[]any{r.store, list, asked}, []any{&sale, &m.Product, &m.Variant, &m.Warehouse, &m.Reversal},
		func() {
			body := r.facts.Bodies[sale]
			body.Movements = append(body.Movements, m)
			r.facts.Bodies[sale] = body
		})
}

// sessions reads how sessions were closed, in their rows and in the log.
func (r *factReader) sessions() {
	r.facts.Sessions, r.facts.Closings = map[uuid.UUID]projection.Session{}, map[uuid.UUID][]velox.Event{}
	ids := r.ids(projection.Closings)
	if len(ids) == 0 || r.err != nil {
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
	if r.err != nil {
		return
	}
	r.failed = "closings"
	names := make([]string, len(ids))
	for i, id := range ids {
		names[i] = id.String()
	}
	rows, err := r.q.Query(r.ctx, `SELECT `+eventColumns+`, (`+saidInSQL+` ->> 'session_id')::uuid FROM `+eventTables+`
		WHERE e.store_id = $1 AND e.type = 'CashSessionClosed' AND lower(`+saidInSQL+` ->> 'session_id') = ANY($2)`, r.store, names)
	if err != nil {
		r.err = err
		return
	}
	_, r.err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (struct{}, error) {
		e, err := scanEvent(alongside{row, []any{&id}})
		r.facts.Closings[id] = append(r.facts.Closings[id], e)
		return struct{}{}, err
	})
}

func (r *factReader) removed() {
	r.facts.Removed = idSet{}
	if len(r.asked[projection.Removed]) == 0 {
		return
	}
	var id uuid.UUID
	r.each("removed rows", `SELECT row_id FROM reconciled.removed_row
		WHERE store_id = $1 AND table_name IN ('debts', 'debt_payments') AND row_id = ANY($2)`,
		[]any{r.store, r.ids(projection.Removed)}, []any{&id}, func() { r.facts.Removed[id] = true })
}

func (r *factReader) escrow() {
	r.facts.Escrow = map[projection.Escrow]bool{}
	if len(r.asked[projection.Escrowed]) == 0 {
		return
	}
	var e projection.Escrow
	r.each("escrow", `SELECT device_id, product_id FROM public.stock_escrow WHERE store_id = $1 AND product_id = ANY($2) AND qty_granted > 0
		AND (expires_at IS NULL OR expires_at > now())`,
		[]any{r.store, r.ids(projection.Escrowed)}, []any{&e.Device, &e.Product}, func() { r.facts.Escrow[e] = true })
}

func (r *factReader) series() {
	r.facts.Series = map[uuid.UUID]projection.Series{}
	if len(r.asked[projection.SeriesTable]) == 0 {
		return
	}
	var (
		id uuid.UUID
		s  projection.Series
	)
	r.each("invoice series", `SELECT id, series_code, coalesce(prefix, '') FROM public.invoice_series WHERE id = ANY($1)`,
		[]any{r.ids(projection.SeriesTable)}, []any{&id, &s.Code, &s.Prefix}, func() { r.facts.Series[id] = s })
}

func (r *factReader) warehouses() {
	if len(r.asked[projection.Movements])+len(r.asked[projection.Leftovers]) == 0 {
		return
	}
	var w projection.Warehouse
	r.each("warehouses", `SELECT id, name, is_default, is_active FROM public.warehouses WHERE store_id = $1
		ORDER BY is_default DESC, name, id`,
		[]any{r.store}, []any{&w.ID, &w.Name, &w.Default, &w.Active},
		func() { r.facts.Warehouses = append(r.facts.Warehouses, w) })
}
