package postgres

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/veloxpos/reconciled/healer"
	"github.com/veloxpos/reconciled/healer/projection"
	"github.com/veloxpos/reconciled/internal/velox"
	"github.com/veloxpos/reconciled/lock"
)

// Apply writes the heals in one fenced transaction.
//
// The order is what keeps it right beside a backend at work on the same events:
// outbox rows are locked first, and an event whose row the backend holds is left
// to it; then the rows that are to be changed, and what is to be changed is planned
// again under that lock; then the parents that a plan relied on; then each event
// claims its row, and only those that got it write anything else.
func (h *Healing) Apply(ctx context.Context, grant lock.Grant, heals []healer.Heal, opts healer.Options) (fates []healer.Fate, err error) {
	err = h.db.fenced(ctx, grant, func(ctx context.Context, tx pgx.Tx) error {
		a := application{tx: tx, grant: grant, grace: opts.Grace, heals: slices.Clone(heals), fates: make([]healer.Fate, len(heals)), before: map[uuid.UUID]map[string]json.RawMessage{}}
		fates = a.fates
		for _, step := range []func(context.Context) error{
			a.yield, a.lockOutbox, a.lockAnchors, a.holdParents, a.holdShares, a.claim, a.changeDependents, a.insertDependents,
			a.setStock, a.moveShares, a.replaceRecipes, a.setCounters, a.setDebtStatus, a.removeDebts,
			a.rememberEarlyVoids, a.markHealed,
		} {
			if err := step(ctx); err != nil {
				return err
			}
		}
		return nil
	})
	return fates, rejected(err)
}

// application is one Apply under way. A heal goes on while its fate is Written.
type application struct {
	tx     pgx.Tx
	grant  lock.Grant
	grace  time.Duration
	heals  []healer.Heal
	fates  []healer.Fate
	outbox []uuid.UUID                              // locked entries
	before map[uuid.UUID]map[string]json.RawMessage // rows that are changed, as they were
}

// going are the heals that are still to be written.
func (a *application) going(yield func(int, *healer.Heal) bool) {
	for i := range a.heals {
		if a.fates[i].Kind == healer.Written && !yield(i, &a.heals[i]) {
			return
		}
	}
}

// yield bounds how long the transaction waits for a row that the shop holds. The shop
// looks for a deadlock when it has waited for a second, and ends its own statement if we
// wait for it at that moment: so we hardly wait.
func (a *application) yield(ctx context.Context) error {
	if _, err := a.tx.Exec(ctx, `SELECT set_config('lock_timeout', '50ms', true)`); err != nil {
		return fmt.Errorf("bound waiting: %w", err)
	}
	return nil
}

// lockOutbox locks the events' open outbox entries. An entry that another
// transaction holds means that the backend is at work on the event.
func (a *application) lockOutbox(ctx context.Context) error {
	events := make([]string, 0, len(a.heals))
	for i := range a.heals {
		id := a.heals[i].Event.ID.String()
		events = append(events, id, strings.ToUpper(id))
	}
	const open = ` FROM public.outbox_entries WHERE event_id = ANY($1) AND target = 'projection' AND status IN ('pending', 'failed')`
	rows, err := a.tx.Query(ctx, `SELECT id, lower(event_id)`+open, events)
	if err != nil {
		return fmt.Errorf("read outbox: %w", err)
	}
	var (
		id    uuid.UUID
		event string
	)
	entries := map[uuid.UUID]string{}
	if _, err := pgx.ForEachRow(rows, []any{&id, &event}, func() error { entries[id] = event; return nil }); err != nil {
		return fmt.Errorf("read outbox: %w", err)
	}
	if len(entries) == 0 {
		return nil
	}
	if a.outbox, err = a.ids(ctx, "lock outbox", `SELECT id`+open+` ORDER BY id FOR UPDATE SKIP LOCKED`, events); err != nil {
		return err
	}
	for _, id := range a.outbox {
		delete(entries, id)
	}
	taken := map[string]bool{}
	for _, event := range entries {
		taken[event] = true
	}
	for i, heal := range a.going {
		if taken[heal.Event.ID.String()] {
			a.fates[i].Kind = healer.Left
		}
	}
	return nil
}

// lockAnchors locks the rows that heals change, and plans those heals again.
func (a *application) lockAnchors(ctx context.Context) error {
	anchors := map[projection.Table][]uuid.UUID{}
	var asks []projection.Asks
	for _, heal := range a.going {
		if u := heal.Changes.Update; u != nil {
			anchors[u.Table] = append(anchors[u.Table], u.ID)
			asks = append(asks, heal.Intent.Asks())
		}
	}
	if len(asks) == 0 {
		return nil
	}
	for _, table := range slices.Sorted(maps.Keys(anchors)) {
		if err := a.lockRows(ctx, table, anchors[table]); err != nil {
			return err
		}
	}
	facts, err := readFacts(ctx, a.tx, a.grant.Store, asks, true)
	if err != nil {
		return fmt.Errorf("read facts again: %w", err)
	}
	for i, heal := range a.going {
		if heal.Changes.Update == nil {
			continue
		}
		out := heal.Intent.Plan(facts)
		switch {
		case out.Class != projection.Actionable:
			a.fates[i] = healer.Fate{Kind: healer.Overtaken, Outcome: out}
		case out.Changes.Update == nil || !slices.Equal(out.Changes.Keys(), heal.Changes.Keys()):
			a.fates[i].Kind = healer.Raced
		default:
			heal.Changes = out.Changes
		}
	}
	return nil
}

// lockRows locks rows of the store that are to be changed, and remembers what they were.
func (a *application) lockRows(ctx context.Context, table projection.Table, ids []uuid.UUID) error {
	ours := `t.store_id = $1`
	if table == projection.Items {
		ours = `EXISTS (SELECT FROM public.sales s WHERE s.id = t.sale_id AND s.store_id = $1)`
	}
	rows, err := a.tx.Query(ctx, `SELECT t.id, to_jsonb(t) FROM public.`+string(table)+` t
		WHERE t.id = ANY($2) AND `+ours+` ORDER BY t.id FOR NO KEY UPDATE`, a.grant.Store, ids)
	if err != nil {
		return fmt.Errorf("lock %s: %w", table, err)
	}
	var (
		id   uuid.UUID
		text []byte
	)
	_, err = pgx.ForEachRow(rows, []any{&id, &text}, func() error {
		row := map[string]json.RawMessage{}
		a.before[id] = row
		return json.Unmarshal(text, &row)
	})
	if err != nil {
		return fmt.Errorf("lock %s: %w", table, err)
	}
	return nil
}

// holdParents locks the rows that the plans rely on to stay as they are: sales
// that must not be voided, debts that must be there to be paid.
func (a *application) holdParents(ctx context.Context) error {
	var sales, debts []uuid.UUID
	for _, heal := range a.going {
		if sale := heal.Changes.Unvoided; sale.Valid {
			sales = append(sales, sale.UUID)
		}
		if debt := heal.Changes.Status; debt.Valid {
			debts = append(debts, debt.UUID)
		}
	}
	held := map[uuid.UUID]bool{}
	hold := func(what, sql string, ids []uuid.UUID) error {
		if len(ids) == 0 {
			return nil
		}
		found, err := a.ids(ctx, what, sql, a.grant.Store, ids)
		for _, id := range found {
			held[id] = true
		}
		return err
	}
	if err := hold("lock sales", `SELECT id FROM public.sales WHERE store_id = $1 AND id = ANY($2) AND voided_at IS NULL ORDER BY id FOR SHARE`, sales); err != nil {
		return err
	}
	if err := hold("lock debts", `SELECT id FROM public.debts WHERE store_id = $1 AND id = ANY($2) ORDER BY id FOR UPDATE`, debts); err != nil {
		return err
	}
	for i, heal := range a.going {
		for _, parent := range []uuid.NullUUID{heal.Changes.Unvoided, heal.Changes.Status} {
			if parent.Valid && !held[parent.UUID] {
				a.fates[i].Kind = healer.Raced
			}
		}
	}
	return nil
}

// claim writes each event's own row. Who does not get it has been raced. A row that
// is changed was claimed by its lock.
func (a *application) claim(ctx context.Context) error {
	inserts, updates := map[projection.Table][]map[string]any{}, map[projection.Table][]map[string]any{}
	claimed := map[projection.Ref]bool{}
	for _, heal := range a.going {
		switch c := heal.Changes; {
		case c.Insert != nil:
			inserts[c.Insert.Table] = append(inserts[c.Insert.Table], c.Insert.Values)
		default:
			claimed[c.Claims()] = true
			if len(c.Update.Set) > 0 {
				values := maps.Clone(c.Update.Set)
				values["id"] = c.Update.ID
				updates[c.Update.Table] = append(updates[c.Update.Table], values)
			}
		}
	}
	for _, table := range slices.Sorted(maps.Keys(inserts)) {
		ids, err := a.insert(ctx, table, inserts[table], claiming[table])
		if err != nil {
			return err
		}
		for _, id := range ids {
			claimed[projection.Ref{Table: table, ID: id}] = true
		}
	}
	for _, table := range slices.Sorted(maps.Keys(updates)) {
		if err := a.update(ctx, table, updates[table]); err != nil {
			return err
		}
	}
	for i, heal := range a.going {
		if !claimed[heal.Changes.Claims()] {
			a.fates[i].Kind = healer.Raced
		}
	}
	return nil
}

// claiming is how a claim gives way. A debt gives way to another debt of its
// sale, too; any other clash on a unique index is an error of the event's own.
var claiming = map[projection.Table]string{
	projection.Products:     `ON CONFLICT (id) DO NOTHING`,
	projection.Customers:    `ON CONFLICT (id) DO NOTHING`,
	projection.Sessions:     `ON CONFLICT (id) DO NOTHING`,
	projection.Movements:    `ON CONFLICT (id) DO NOTHING`,
	projection.Sales:        `ON CONFLICT (id) DO NOTHING`,
	projection.Debts:        `ON CONFLICT DO NOTHING`,
	projection.DebtPayments: `ON CONFLICT (id) DO NOTHING`,
	projection.Ledger:       `ON CONFLICT (id) DO NOTHING`,
	projection.Applied:      `ON CONFLICT DO NOTHING`,
}

// depending lists the tables of dependents, parents first. A customer may have
// come meanwhile, and so may a debt; a line or a movement of a row that was just
// claimed may not.
var depending = []struct {
	table    projection.Table
	conflict string
}{
	{projection.Customers, `ON CONFLICT (id) DO NOTHING`},
	{projection.Items, ``},
	{projection.Movements, ``},
	{projection.Debts, `ON CONFLICT DO NOTHING`},
}

// changeDependents changes rows of an event beside its own.
func (a *application) changeDependents(ctx context.Context) error {
	updates, ids := map[projection.Table][]map[string]any{}, map[projection.Table][]uuid.UUID{}
	for _, heal := range a.going {
		for _, u := range heal.Changes.Also {
			values := maps.Clone(u.Set)
			values["id"] = u.ID
			updates[u.Table], ids[u.Table] = append(updates[u.Table], values), append(ids[u.Table], u.ID)
		}
	}
	for _, table := range slices.Sorted(maps.Keys(updates)) {
		if err := a.lockRows(ctx, table, ids[table]); err != nil {
			return err
		}
		if err := a.update(ctx, table, updates[table]); err != nil {
			return err
		}
	}
	return nil
}

func (a *application) insertDependents(ctx context.Context) error {
	rows := map[projection.Table][]map[string]any{}
	for _, heal := range a.going {
		for _, row := range heal.Changes.Dependents {
			rows[row.Table] = append(rows[row.Table], row.Values)
		}
	}
	for _, d := range depending {
		if _, err := a.insert(ctx, d.table, rows[d.table], d.conflict); err != nil {
			return err
		}
	}
	return nil
}

// shapes sorts rows by the columns that they have.
func shapes(rows []map[string]any) [][]map[string]any {
	byColumns := map[string][]map[string]any{}
	for _, row := range rows {
		columns := strings.Join(slices.Sorted(maps.Keys(row)), ", ")
		byColumns[columns] = append(byColumns[columns], row)
	}
	var all [][]map[string]any
	for _, columns := range slices.Sorted(maps.Keys(byColumns)) {
		all = append(all, byColumns[columns])
	}
	return all
}

// relation is a table's full name.
func relation(table projection.Table) string {
	if table == projection.Applied {
		return "reconciled.applied"
	}
	return "public." + string(table)
}

// insert writes rows and returns the ids of those written.
func (a *application) insert(ctx context.Context, table projection.Table, rows []map[string]any, conflict string) (written []uuid.UUID, err error) {
	for _, shape := range shapes(rows) {
		text, err := json.Marshal(shape)
		if err != nil {
			return nil, fmt.Errorf("print rows of %s: %w", table, err)
		}
		columns := strings.Join(slices.Sorted(maps.Keys(shape[0])), ", ")
		ids, err := a.ids(ctx, "insert into "+string(table), fmt.Sprintf(
			`INSERT INTO %[1]s (%[2]s) SELECT %[2]s FROM jsonb_populate_recordset(NULL::%[1]s, $1::jsonb) %[3]s RETURNING id`,
			relation(table), columns, conflict), string(text))
		if err != nil {
			return nil, err
		}
		written = append(written, ids...)
	}
	return written, nil
}

// touching lists the tables whose rows say when they were last written.
var touching = []projection.Table{projection.Products, projection.Sales, projection.Sessions}

// update changes rows of the store. Those of events are locked.
func (a *application) update(ctx context.Context, table projection.Table, rows []map[string]any) error {
	mine := `t.store_id = $2`
	if table == projection.Items {
		mine = `EXISTS (SELECT FROM public.sales s WHERE s.id = t.sale_id AND s.store_id = $2)`
	}
	for _, shape := range shapes(rows) {
		text, err := json.Marshal(shape)
		if err != nil {
			return fmt.Errorf("print rows of %s: %w", table, err)
		}
		var set []string
		for _, column := range slices.Sorted(maps.Keys(shape[0])) {
			if column != "id" {
				set = append(set, fmt.Sprintf("%[1]s = n.%[1]s", column))
			}
		}
		if slices.Contains(touching, table) {
			set = append(set, "updated_at = now()")
		}
		_, err = a.tx.Exec(ctx, fmt.Sprintf(`UPDATE public.%[1]s t SET %[2]s FROM jsonb_populate_recordset(NULL::public.%[1]s, $1::jsonb) n
			WHERE t.id = n.id AND %[3]s`, table, strings.Join(set, ", "), mine), string(text), a.grant.Store)
		if err != nil {
			return fmt.Errorf("update %s: %w", table, err)
		}
	}
	return nil
}

func (a *application) ids(ctx context.Context, what, sql string, args ...any) ([]uuid.UUID, error) {
	rows, err := a.tx.Query(ctx, sql, args...)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	ids, err := pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
	if err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	return ids, nil
}

// replaceRecipes lets the definer function take recipes out, and writes them anew.
func (a *application) replaceRecipes(ctx context.Context) error {
	var rows []map[string]any
	for _, heal := range a.going {
		book := heal.Changes.Recipe
		if book == nil {
			continue
		}
		_, err := a.tx.Exec(ctx, `SELECT reconciled.remove_recipe($1, $2, $3, $4, $5)`,
			a.grant.Store, book.Product, heal.Event.ID, a.grant.Epoch, a.grant.Token)
		if err != nil {
			return fmt.Errorf("take out recipe of product %s: %w", book.Product, err)
		}
		for _, row := range book.Rows {
			rows = append(rows, row.Values)
		}
	}
	_, err := a.insert(ctx, projection.Recipes, rows, "")
	return err
}

// removeDebts lets the definer function take the debts of voided sales out.
func (a *application) removeDebts(ctx context.Context) error {
	for _, heal := range a.going {
		if sale := heal.Changes.DebtOf; sale.Valid {
			void := heal.Event.ID
			if heal.Changes.Void.Valid {
				void = heal.Changes.Void.UUID
			}
			_, err := a.tx.Exec(ctx, `SELECT reconciled.remove_voided_debt($1, $2, $3, $4, $5)`,
				a.grant.Store, sale.UUID, void, a.grant.Epoch, a.grant.Token)
			if err != nil {
				return fmt.Errorf("remove debt of voided sale %s: %w", sale.UUID, err)
			}
		}
	}
	return nil
}

// rememberEarlyVoids makes gaps of the voids in the log whose sales were just
// written, in the same transaction: whatever their status says, they are due.
func (a *application) rememberEarlyVoids(ctx context.Context) error {
	var sales []uuid.UUID
	for _, heal := range a.going {
		if heal.Event.Type == velox.SaleCreated && heal.Changes.Insert != nil {
			sales = append(sales, heal.Changes.Claims().ID)
		}
	}
	if len(sales) == 0 {
		return nil
	}
	_, err := a.tx.Exec(ctx, `
		INSERT INTO reconciled.gap (store_id, event_id, type, created_ms, class, reason, waits_table, waits_id)
		`+saying(`e.store_id, e.event_id, e.type, reconciled.ms(e.created_at), 'waiting', 'came before its sale', 'sales', asked.id`,
		"sale_id", `e.type = 'SaleVoided'`)+`
		ON CONFLICT DO NOTHING`, a.grant.Store, sales)
	if err != nil {
		return fmt.Errorf("remember early voids: %w", err)
	}
	return nil
}
