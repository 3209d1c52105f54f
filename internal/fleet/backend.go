package fleet

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/veloxpos/reconciled/internal/velox"
)

// Backend stands in for the POS backend's projector. It knows all 21 types, and
// draws random ids for items, for movements of sales and voids and for credit
// debts, as the real one does. Like it, it takes no lock, so another projector can
// get between its look and its write; a row that is there by then fails the
// attempt. A void without its sale has no effect.
//
// Products, customers, recipes, cash counters and quotas are computed anew from
// the whole log when an event speaks of them, which also mends them; other rows
// are only ever added.
type Backend struct {
	pool *pgxpool.Pool
	opts BackendOptions
}

// NewBackend returns a projector on a database. A Poll takes two of the pool's
// connections at a time.
func NewBackend(pool *pgxpool.Pool, o BackendOptions) *Backend { return &Backend{pool: pool, opts: o} }

// ProjectAll writes the rows of every event of a store that lacks them, set-wise
// and in one transaction. It looks at no status and changes none; what counts as processed
// was processed now, or its rows would look as if somebody had edited them since.
func (b *Backend) ProjectAll(ctx context.Context, store velox.StoreID) error {
	return atomically(ctx, b.pool, "project all events", func(tx pgx.Tx) error {
		// Of a log that was just copied in, the planner knows nothing.
		if _, err := tx.Exec(ctx, `ANALYZE events; SET LOCAL enable_nestloop = off; SET LOCAL jit = off`); err != nil {
			return err
		}
		lost, err := b.lost(ctx, tx, store)
		if err != nil {
			return err
		}
		if err := b.project(ctx, tx, store, "", nil, lost); err != nil {
			return err
		}
		_, err = tx.Exec(ctx, `UPDATE outbox_entries SET processed_at = now()
			WHERE store_id = $1 AND target = 'projection' AND status = 'processed' AND processed_at < now()`, store)
		return err
	})
}

// Project writes the rows of events that are stored, at once, as the online API
// does for its own. It changes no status.
func (b *Backend) Project(ctx context.Context, store velox.StoreID, events []velox.Event) error {
	wanted := slices.DeleteFunc(slices.Clone(events), func(e velox.Event) bool { return e.Lost() && !b.opts.wrong(PayloadNotSaid) })
	return atomically(ctx, b.pool, "project events", func(tx pgx.Tx) error {
		return b.project(ctx, tx, store, "", ids(wanted), nil)
	})
}

// The poller's batch, and the attempts after which it gives a row up.
const (
	pollBatch   = 50
	maxAttempts = 10
)

// Poll is one round of the backend's outbox poller: up to 50 events, each in a
// transaction of its own. It returns how many it took up.
func (b *Backend) Poll(ctx context.Context) (int, error) {
	taken := 0
	err := atomically(ctx, b.pool, "poll outbox", func(tx pgx.Tx) error {
		rows, err := tx.Query(ctx, `SELECT o.id, e.event_id, e.store_id, e.type, e.payload, e.delta_payload, e.conflict_status, coalesce(e.full_payload_hash, '')
			FROM outbox_entries o JOIN events e ON e.event_id::text = o.event_id
			WHERE o.target = 'projection' AND o.status = 'pending' AND o.retry_count < $1
			ORDER BY e.created_at, e.device_id, e.seq, o.created_at LIMIT $2 FOR UPDATE OF o SKIP LOCKED`, maxAttempts, pollBatch)
		if err != nil {
			return err
		}
		type work struct {
			entry uuid.UUID
			event velox.Event
		}
		batch, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (w work, err error) {
			err = row.Scan(&w.entry, &w.event.ID, &w.event.Store, &w.event.Type, &w.event.Payload, &w.event.Delta, &w.event.ConflictStatus, &w.event.Hash)
			return w, err
		})
		if err != nil {
			return err
		}
		taken = len(batch)
		for _, w := range batch {
			if err := b.settle(ctx, tx, w.entry, w.event.ID, b.projectOne(ctx, w.event)); err != nil {
				return err
			}
		}
		return nil
	})
	return taken, err
}

// errDependency is what the projector answers when a row it needs is missing.
var errDependency = errors.New("dependency not ready")

func (b *Backend) projectOne(ctx context.Context, e velox.Event) error {
	if e.Lost() && !b.opts.wrong(PayloadNotSaid) {
		return nil
	}
	return pgx.BeginFunc(ctx, b.pool, func(tx pgx.Tx) error {
		if err := b.project(ctx, tx, e.Store, e.Type, []uuid.UUID{e.ID}, nil); err != nil {
			return err
		}
		var done bool
		if err := tx.QueryRow(ctx, b.expand(doneSQL), e.ID).Scan(&done); err != nil {
			return err
		}
		if !done {
			return errDependency
		}
		return nil
	})
}

// settle writes down how an attempt ended.
func (b *Backend) settle(ctx context.Context, tx pgx.Tx, entry, event uuid.UUID, failure error) error {
	if failure == nil {
		_, err := tx.Exec(ctx, `WITH o AS (UPDATE outbox_entries SET status = 'processed', error = NULL, processed_at = now() WHERE id = $1)
			UPDATE events SET projection_status = 'processed', projection_error = NULL WHERE event_id = $2`, entry, event)
		return err
	}
	pgErr, ofPostgres := errors.AsType[*pgconn.PgError](failure)
	if !ofPostgres && !errors.Is(failure, errDependency) {
		return failure
	}
	retryable := !ofPostgres || pgErr.Code == "23503"
	_, err := tx.Exec(ctx, `WITH o AS (
			UPDATE outbox_entries SET retry_count = retry_count + 1, error = $3,
				status = CASE WHEN retry_count + 1 >= $4 THEN 'failed' ELSE 'pending' END
			WHERE id = $1 RETURNING status)
		UPDATE events SET projection_status = CASE WHEN $5 THEN (SELECT status FROM o) ELSE 'failed' END, projection_error = $3
		WHERE event_id = $2`, entry, event, failure.Error(), maxAttempts, retryable)
	return err
}

// move is what a statement did to stock.
type move struct {
	Warehouse uuid.NullUUID
	Product   uuid.UUID
	Variant   uuid.NullUUID
	Qty       string
}

// lost are the events that no longer hold what they said, which are not projected.
func (b *Backend) lost(ctx context.Context, tx pgx.Tx, store velox.StoreID) ([]uuid.UUID, error) {
	if b.opts.wrong(PayloadNotSaid) {
		return nil, nil
	}
	rows, err := tx.Query(ctx, `SELECT event_id, payload, full_payload_hash FROM events
		WHERE store_id = $1 AND conflict_status = $2 AND delta_payload IS NULL AND full_payload_hash IS NOT NULL`, store, velox.AutoResolved)
	if err != nil {
		return nil, err
	}
	var lost []uuid.UUID
	e := velox.Event{ConflictStatus: velox.AutoResolved}
	_, err = pgx.ForEachRow(rows, []any{&e.ID, &e.Payload, &e.Hash}, func() error {
		if e.Lost() {
			lost = append(lost, e.ID)
		}
		return nil
	})
	return lost, err
}

// project runs the statements for the events named, which may be of only one
// type, or for all of the store's but the lost ones when ids is nil.
func (b *Backend) project(ctx context.Context, tx pgx.Tx, store velox.StoreID, only velox.Type, ids, lost []uuid.UUID) error {
	if lost == nil {
		lost = []uuid.UUID{}
	}
	var moved []move
	for _, s := range statements {
		if only != "" && !slices.Contains(s.types, only) {
			continue
		}
		rows, err := tx.Query(ctx, b.expand(s.sql), store, ids, lost)
		if err != nil {
			return fmt.Errorf("project %s: %w", s.doing, err)
		}
		moves, err := pgx.CollectRows(rows, pgx.RowToStructByPos[move])
		if err != nil {
			return fmt.Errorf("project %s: %w", s.doing, err)
		}
		moved = append(moved, moves...)
		if err := b.misbook(ctx, tx, s.doing, moves); err != nil {
			return err
		}
	}
	if only == "" || slices.Contains(escrowTypes, only) {
		moves, err := b.quotas(ctx, tx, store, ids, lost)
		if err != nil {
			return fmt.Errorf("project quotas: %w", err)
		}
		moved = append(moved, moves...)
		if err := b.misbook(ctx, tx, "quotas", moves); err != nil {
			return err
		}
	}
	if b.opts.wrong(StockMisbooked) {
		return nil
	}
	return refreshStock(ctx, tx, moved)
}

// refreshStock sets the totals of what moved from the ledger. The rows are locked
// before the ledger is read, so the last of two writers sees both.
func refreshStock(ctx context.Context, tx pgx.Tx, moved []move) error {
	if len(moved) == 0 {
		return nil
	}
	var products []uuid.UUID
	seen := map[uuid.UUID]bool{}
	for _, m := range moved {
		if !seen[m.Product] {
			seen[m.Product] = true
			products = append(products, m.Product)
		}
	}
	for _, sql := range []string{
		`SELECT FROM warehouse_stock WHERE product_id = ANY($1) ORDER BY product_id, id FOR UPDATE`,
		`UPDATE warehouse_stock w SET stock = 0, updated_at = now() WHERE product_id = ANY($1) AND stock <> 0
			AND NOT EXISTS (SELECT FROM inventory_movements m WHERE m.product_id = w.product_id AND m.warehouse_id = w.warehouse_id)`,
		`WITH ` + targetSQL + ` UPDATE warehouse_stock w SET stock = t.stock, updated_at = now() FROM target t
			WHERE w.warehouse_id = t.warehouse_id AND w.product_id = t.product_id AND w.variant_id IS NOT DISTINCT FROM t.variant_id`,
		`WITH ` + targetSQL + ` INSERT INTO warehouse_stock (warehouse_id, product_id, variant_id, stock) SELECT * FROM target t
			WHERE NOT EXISTS (SELECT FROM warehouse_stock w
				WHERE w.warehouse_id = t.warehouse_id AND w.product_id = t.product_id AND w.variant_id IS NOT DISTINCT FROM t.variant_id)`,
	} {
		if _, err := tx.Exec(ctx, sql, products); err != nil {
			return fmt.Errorf("refresh stock: %w", err)
		}
	}
	return nil
}

// misbook changes the totals the way the real backend does: sales and voids
// twice, receipts only where there is a row, never below zero.
func (b *Backend) misbook(ctx context.Context, tx pgx.Tx, doing string, moves []move) error {
	if !b.opts.wrong(StockMisbooked) {
		return nil
	}
	const update = `UPDATE warehouse_stock SET stock = greatest(0, stock + $4::numeric), updated_at = now()
		WHERE warehouse_id = $1 AND product_id = $2 AND variant_id IS NOT DISTINCT FROM $3`
	const insert = `INSERT INTO warehouse_stock (warehouse_id, product_id, variant_id, stock)
		SELECT $1, $2, $3, greatest(0, $4::numeric) WHERE NOT EXISTS (SELECT FROM warehouse_stock
			WHERE warehouse_id = $1 AND product_id = $2 AND variant_id IS NOT DISTINCT FROM $3)`
	statements := []string{update}
	if doing == "sales" || doing == "voids" {
		statements = []string{update, insert, update}
	}
	for _, m := range moves {
		for _, sql := range statements {
			if _, err := tx.Exec(ctx, sql, m.Warehouse, m.Product, m.Variant, m.Qty); err != nil {
				return fmt.Errorf("book stock: %w", err)
			}
		}
	}
	return nil
}
