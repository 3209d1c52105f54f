package postgres

import (
	"context"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/veloxpos/reconciled/healer/projection"
	"github.com/veloxpos/reconciled/internal/velox"
)

// Facts answers what intents ask, one query a question for all of them.
func (h *Healing) Facts(ctx context.Context, store velox.StoreID, asks []projection.Asks) (projection.Facts, error) {
	return readFacts(ctx, h.db.Pool, store, asks, false)
}

// readFacts reads what plans are made of; locked says that they are made again under
// the locks of the rows that are to be changed.
func readFacts(ctx context.Context, q querier, store velox.StoreID, asks []projection.Asks, locked bool) (projection.Facts, error) {
	r := factReader{ctx: ctx, q: q, store: store, asks: asks, locked: locked, asked: map[projection.Table]idSet{}}
	for _, a := range asks {
		for _, ref := range a.Refs {
			r.ask(ref.Table, ref.ID)
		}
	}
	for _, question := range []func(){
		r.declared, // names more sales to ask about
		r.rows, r.differences, r.debtsOf, r.voids, r.bodies, r.sessions, r.counters, r.removed, r.stale,
		r.escrow, r.quotas, r.series, r.invoiced, r.warehouses, r.entities, r.recipes, r.sold, r.claimants,
	} {
		question()
	}
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
	asks   []projection.Asks
	locked bool
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
func (r *factReader) ids(table projection.Table) []uuid.UUID { return listed(r.asked[table]) }

func listed(set idSet) []uuid.UUID {
	ids := make([]uuid.UUID, 0, len(set))
	for id := range set {
		ids = append(ids, id)
	}
	return ids
}

// exists says whether a row was found.
func (r *factReader) exists(table projection.Table, id uuid.UUID) bool {
	_, exists := r.facts.Rows[projection.Ref{Table: table, ID: id}]
	return exists
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

// events runs a query of loggedColumns' event part and one id behind it.
func (r *factReader) events(what, sql string, args []any, row func(projection.Event, uuid.UUID)) {
	if r.err != nil {
		return
	}
	r.failed = what
	rows, err := r.q.Query(r.ctx, sql, args...)
	if err != nil {
		r.err = err
		return
	}
	_, r.err = pgx.CollectRows(rows, func(found pgx.CollectableRow) (struct{}, error) {
		var id uuid.UUID
		e, err := scanEvent(alongside{found, []any{&id}})
		if err == nil {
			row(projection.Event{Event: e}, id)
		}
		return struct{}{}, err
	})
}

// existing asks a table which of its rows are there, and whose they are.
var existing = []struct {
	table projection.Table
	sql   string
}{
	{projection.Products, `SELECT id, store_id, false FROM public.products`},
	{projection.Variants, `SELECT id, ` + nobody + `, false FROM public.product_variants`},
	{projection.Profiles, `SELECT id, ` + nobody + `, false FROM public.profiles`},
	{projection.SeriesTable, `SELECT id, store_id, false FROM public.invoice_series`},
	{projection.Sessions, `SELECT id, store_id, false FROM public.cash_sessions`},
	{projection.Customers, `SELECT id, store_id, false FROM public.customers`},
	{projection.Sales, `SELECT id, store_id, voided_at IS NOT NULL FROM public.sales`},
	{projection.Items, `SELECT id, sale_id, false FROM public.sale_items`},
	{projection.Movements, `SELECT id, store_id, false FROM public.inventory_movements`},
	{projection.Debts, `SELECT id, store_id, false FROM public.debts`},
	{projection.DebtPayments, `SELECT id, store_id, false FROM public.debt_payments`},
	{projection.Ledger, `SELECT id, store_id, false FROM public.cash_ledger_entries`},
	{projection.Applied, `SELECT id, store_id, false FROM reconciled.applied`},
}

// rows finds which of the asked rows exist, and whose they are.
func (r *factReader) rows() {
	r.facts.Rows, r.facts.Voided = map[projection.Ref]uuid.UUID{}, idSet{}
	var (
		id, owner uuid.UUID
		voided    bool
	)
	for _, e := range existing {
		ids := r.ids(e.table)
		if len(ids) == 0 {
			continue
		}
		r.each(string(e.table), e.sql+` WHERE id = ANY($1)`, []any{ids}, []any{&id, &owner, &voided}, func() {
			r.facts.Rows[projection.Ref{Table: e.table, ID: id}] = owner
			if voided {
				r.facts.Voided[id] = true
			}
		})
	}
}

// saidInSQL is what an event said (velox.Event.Said).
const saidInSQL = `coalesce(s.said, nullif(e.delta_payload, '{}'), e.payload)`

// saying is a query of columns of the events e of store $1, and s of them, that say one
// of the ids $2, asked.id, under a member. They are found by the index on payload; those
// whose payload another event's has replaced are in the list of lost updates, which is
// short. Ids are spelled in small letters, or in capitals. Written as one condition the
// two spellings would make the planner compare all with all.
func saying(columns, member, condition string) string {
	says := `reconciled.try_uuid(` + saidInSQL + ` ->> '` + member + `') = asked.id`
	return `SELECT ` + columns + ` FROM unnest($2::uuid[]) AS asked (id)
		CROSS JOIN LATERAL (SELECT asked.id::text UNION SELECT upper(asked.id::text)) AS spelled (id)
		JOIN public.events e ON e.payload @> jsonb_build_object('` + member + `', spelled.id)
		LEFT JOIN reconciled.said s ON s.event_id = e.event_id
		WHERE e.store_id = $1 AND ` + says + ` AND ` + condition + `
		UNION ALL SELECT ` + columns + ` FROM reconciled.lost_update l
		JOIN public.events e ON e.event_id = l.event_id LEFT JOIN reconciled.said s ON s.event_id = e.event_id
		JOIN unnest($2::uuid[]) AS asked (id) ON ` + says + `
		WHERE l.store_id = $1 AND l.restored_at IS NULL AND e.store_id = $1 AND ` + condition + `
		  AND reconciled.try_uuid(e.payload ->> '` + member + `') IS DISTINCT FROM asked.id`
}

// removed finds rows that a void took out: this program's, which kept them whole, and
// the backend's, of which is known that the debt was of a sale that is voided.
func (r *factReader) removed() {
	r.facts.Removed = idSet{}
	if len(r.asked[projection.Removed]) == 0 {
		return
	}
	var id uuid.UUID
	r.each("removed rows", `SELECT row_id FROM reconciled.removed_row
		WHERE store_id = $1 AND table_name IN ('debts', 'debt_payments') AND row_id = ANY($2)
		UNION SELECT d.row_id FROM reconciled.deleted_row d JOIN public.sales s ON s.id = d.parent_id AND s.store_id = $1
		WHERE d.store_id = $1 AND d.table_name = 'debts' AND d.row_id = ANY($2) AND s.voided_at IS NOT NULL`,
		[]any{r.store, r.ids(projection.Removed)}, []any{&id}, func() { r.facts.Removed[id] = true })
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
	if len(r.asked[projection.Movements])+len(r.asked[projection.Bodies]) == 0 {
		return
	}
	var w projection.Warehouse
	r.each("warehouses", `SELECT id, name, is_default, is_active FROM public.warehouses WHERE store_id = $1
		ORDER BY is_default DESC, name, id`,
		[]any{r.store}, []any{&w.ID, &w.Name, &w.Default, &w.Active},
		func() { r.facts.Warehouses = append(r.facts.Warehouses, w) })
}
