package postgres

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/veloxpos/reconciled/healer"
	"github.com/veloxpos/reconciled/healer/projection"
	"github.com/veloxpos/reconciled/internal/velox"
	"github.com/veloxpos/reconciled/lock"
)

// Apply writes the heals in one fenced transaction.
//
// The order is what keeps it right beside a backend at work on the same events:
// outbox rows are locked first, and an event whose row the backend holds is left
// to it; then the parents that a plan relied on; then each event claims its row,
// and only those that got it write anything else.
func (h *Healing) Apply(ctx context.Context, grant lock.Grant, heals []healer.Heal) (fates []healer.Fate, err error) {
	err = h.db.fenced(ctx, grant, func(ctx context.Context, tx pgx.Tx) error {
		a := application{tx: tx, grant: grant, heals: heals, fates: make([]healer.Fate, len(heals))}
		fates = a.fates
		for _, step := range []func(context.Context) error{
			a.lockOutbox, a.holdParents, a.claim, a.insertDependents, a.setStock,
			a.setDebtStatus, a.removeDebts, a.rememberEarlyVoids, a.markHealed,
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
	heals  []healer.Heal
	fates  []healer.Fate
	outbox []uuid.UUID // locked entries
}

// going are the heals that are still to be written.
func (a *application) going(yield func(int, *healer.Heal) bool) {
	for i := range a.heals {
		if a.fates[i] == healer.Written && !yield(i, &a.heals[i]) {
			return
		}
	}
}

// lockOutbox locks the events' open outbox entries. An entry that another
// transaction holds means that the backend is at work on the event.
func (a *application) lockOutbox(ctx context.Context) error {
	events := make([]string, 0, len(a.heals))
	for i := range a.heals {
		events = append(events, a.heals[i].Event.ID.String())
	}
	const open = ` FROM public.outbox_entries WHERE event_id = ANY($1) AND target = 'projection' AND status IN ('pending', 'failed')`
	rows, err := a.tx.Query(ctx, `SELECT id, event_id`+open, events)
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
			a.fates[i] = healer.Left
		}
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
				a.fates[i] = healer.Raced
			}
		}
	}
	return nil
}

// claim writes each event's own row. Who does not get it has been raced.
func (a *application) claim(ctx context.Context) error {
	inserts, updates := map[projection.Table][]map[string]any{}, map[projection.Table][]map[string]any{}
	for _, heal := range a.going {
		if c := heal.Changes; c.Insert != nil {
			inserts[c.Insert.Table] = append(inserts[c.Insert.Table], c.Insert.Values)
		} else {
			values := maps.Clone(c.Update.Set)
			values["id"] = c.Update.ID
			updates[c.Update.Table] = append(updates[c.Update.Table], values)
		}
	}
	claimed := map[projection.Ref]bool{}
	note := func(table projection.Table, ids []uuid.UUID) {
		for _, id := range ids {
			claimed[projection.Ref{Table: table, ID: id}] = true
		}
	}
	for _, table := range slices.Sorted(maps.Keys(inserts)) {
		ids, err := a.insert(ctx, table, inserts[table], claiming[table])
		if err != nil {
			return err
		}
		note(table, ids)
	}
	for _, table := range slices.Sorted(maps.Keys(updates)) {
		ids, err := a.update(ctx, table, updates[table])
		if err != nil {
			return err
		}
		note(table, ids)
	}
	for i, heal := range a.going {
		if !claimed[heal.Changes.Claims()] {
			a.fates[i] = healer.Raced
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

// insert writes rows of one shape and returns the ids of those written.
func (a *application) insert(ctx context.Context, table projection.Table, rows []map[string]any, conflict string) ([]uuid.UUID, error) {
	if len(rows) == 0 {
		return nil, nil
	}
	text, err := json.Marshal(rows)
	if err != nil {
		return nil, fmt.Errorf("print rows of %s: %w", table, err)
	}
	columns := strings.Join(slices.Sorted(maps.Keys(rows[0])), ", ")
	return a.ids(ctx, "insert into "+string(table), fmt.Sprintf(
		`INSERT INTO public.%[1]s (%[2]s) SELECT %[2]s FROM jsonb_populate_recordset(NULL::public.%[1]s, $1::jsonb) %[3]s RETURNING id`,
		table, columns, conflict), string(text))
}

// guards are the conditions under which an update may claim a row.
var guards = map[projection.Table]string{
	projection.Sales:     `t.voided_at IS NULL`,
	projection.Customers: `starts_with(t.note, '` + projection.PlaceholderNote + `')`,
	projection.Sessions:  `(t.closed_at, t.expected, t.counted, t.note) IS DISTINCT FROM (n.closed_at, n.expected, n.counted, n.note)`,
}

// update changes rows whose guard holds and returns their ids.
func (a *application) update(ctx context.Context, table projection.Table, rows []map[string]any) ([]uuid.UUID, error) {
	text, err := json.Marshal(rows)
	if err != nil {
		return nil, fmt.Errorf("print rows of %s: %w", table, err)
	}
	var set []string
	for _, column := range slices.Sorted(maps.Keys(rows[0])) {
		set = append(set, fmt.Sprintf("%[1]s = n.%[1]s", column))
	}
	if _, own := rows[0]["updated_at"]; !own {
		set = append(set, "updated_at = now()")
	}
	return a.ids(ctx, "update "+string(table), fmt.Sprintf(
		`UPDATE public.%[1]s t SET %[2]s FROM jsonb_populate_recordset(NULL::public.%[1]s, $1::jsonb) n
		WHERE t.id = n.id AND t.store_id = $2 AND %[3]s RETURNING t.id`,
		table, strings.Join(set, ", "), guards[table]), string(text), a.grant.Store)
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

// removeDebts lets the definer function take the debts of voided sales out.
func (a *application) removeDebts(ctx context.Context) error {
	for _, heal := range a.going {
		if sale := heal.Changes.DebtOf; sale.Valid {
			_, err := a.tx.Exec(ctx, `SELECT reconciled.remove_voided_debt($1, $2, $3, $4, $5)`,
				a.grant.Store, sale.UUID, heal.Event.ID, a.grant.Epoch, a.grant.Token)
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
	var sales []string
	for _, heal := range a.going {
		if heal.Event.Type == velox.SaleCreated {
			sales = append(sales, heal.Changes.Claims().ID.String())
		}
	}
	if len(sales) == 0 {
		return nil
	}
	_, err := a.tx.Exec(ctx, `
		INSERT INTO reconciled.gap (store_id, event_id, type, created_ms, class, reason, waits_table, waits_id)
		SELECT e.store_id, e.event_id, e.type, reconciled.ms(e.created_at), 'waiting', 'came before its sale', 'sales',
			reconciled.try_uuid(`+saidInSQL+` ->> 'sale_id')
		FROM `+eventTables+`
		WHERE e.store_id = $1 AND e.type = 'SaleVoided' AND lower(`+saidInSQL+` ->> 'sale_id') = ANY($2)
		ON CONFLICT DO NOTHING`, a.grant.Store, sales)
	if err != nil {
		return fmt.Errorf("remember early voids: %w", err)
	}
	return nil
}

// markHealed settles the events' statuses and outbox entries, and writes the
// heal log.
func (a *application) markHealed(ctx context.Context) error {
	type entry struct {
		Event uuid.UUID      `json:"event_id"`
		After map[string]any `json:"after"`
	}
	var entries []entry
	var events []string
	for _, heal := range a.going {
		rows := map[projection.Table]int{}
		for _, row := range heal.Changes.Dependents {
			rows[row.Table]++
		}
		entries = append(entries, entry{heal.Event.ID, map[string]any{
			"projection_status": "processed", "claim": heal.Changes.Claims().String(), "rows": rows,
		}})
		events = append(events, heal.Event.ID.String())
	}
	if len(entries) == 0 {
		return nil
	}
	text, err := json.Marshal(entries)
	if err != nil {
		return fmt.Errorf("print heal log: %w", err)
	}
	_, err = a.tx.Exec(ctx, `
		WITH healed AS (
			SELECT e.event_id, e.type, n.after, jsonb_build_object(
				'projection_status', e.projection_status, 'projection_error', e.projection_error) AS before
			FROM jsonb_to_recordset($2::jsonb) AS n (event_id uuid, after jsonb) JOIN public.events e ON e.event_id = n.event_id
		), marked AS (
			UPDATE public.events e SET projection_status = 'processed', projection_error = NULL FROM healed
			WHERE e.event_id = healed.event_id
			  AND (e.projection_status <> 'processed' OR e.projection_error IS NOT NULL)
		)
		INSERT INTO reconciled.heal_log (store_id, event_id, type, strategy, before, after, epoch, run_id)
		SELECT $1, event_id, type, 'native', before, after, $3, $4 FROM healed`,
		a.grant.Store, string(text), a.grant.Epoch, a.grant.Run)
	if err != nil {
		return fmt.Errorf("mark events healed: %w", err)
	}
	_, err = a.tx.Exec(ctx, `UPDATE public.outbox_entries SET status = 'processed', error = NULL, processed_at = now()
		WHERE id = ANY($1) AND event_id = ANY($2)`, a.outbox, events)
	if err != nil {
		return fmt.Errorf("settle outbox: %w", err)
	}
	return nil
}

// unmet reads the detail of a broken foreign key, as Postgres says it in English.
var unmet = regexp.MustCompile(`^Key \(\w+\)=\(([0-9a-f-]{36})\) is not present in table "(\w+)"`)

// rejected tells rows that the database refuses from a database that cannot be
// worked with: a broken foreign key becomes a *healer.MissingError, what does not
// fit its column healer.ErrUnfit, any other refusal healer.ErrRejected.
func rejected(err error) error {
	pgErr, ok := errors.AsType[*pgconn.PgError](err)
	switch {
	case !ok:
		return err
	case pgErr.Code[:2] == "22":
		return fmt.Errorf("%w: %w", healer.ErrUnfit, err)
	case pgErr.Code == "23503":
	case slices.Contains([]string{"23", "44", "54", "P0", "RC"}, pgErr.Code[:2]):
		return fmt.Errorf("%w: %w", healer.ErrRejected, err)
	default:
		return err
	}
	out := &healer.MissingError{Constraint: pgErr.ConstraintName}
	if m := unmet.FindStringSubmatch(pgErr.Detail); m != nil {
		out.Row = projection.Ref{Table: projection.Table(m[2]), ID: uuid.MustParse(m[1])}
	}
	return out
}
