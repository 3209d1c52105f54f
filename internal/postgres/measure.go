package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/veloxpos/reconciled/internal/health"
	"github.com/veloxpos/reconciled/internal/velox"
	"github.com/veloxpos/reconciled/lock"
)

// Health measures what the database knows of a store's health, and keeps the
// POS's own history of it.
type Health struct {
	db  *DB
	log *Log
}

// NewHealth measures over a log's database.
func NewHealth(log *Log) *Health { return &Health{db: log.db, log: log} }

// affectedAtMost bounds what is named of each kind.
const affectedAtMost = 20

// ledger is the target of 3.3 of the event reference: what the movements add up
// to, before it is clamped at zero.
const ledger = `
	SELECT coalesce(m.warehouse_id, w.id) AS warehouse_id, m.product_id, m.variant_id, sum(m.qty_delta) AS qty
	FROM public.inventory_movements m
	LEFT JOIN LATERAL (SELECT id FROM public.warehouses WHERE store_id = $1 AND is_active ORDER BY is_default DESC, name, id LIMIT 1) w ON true
	WHERE m.store_id = $1 AND m.from_escrow IS NOT TRUE
	  AND m.movement_type IN ('received', 'adjust', 'sold', 'sale', 'transfer_in', 'transfer_out')
	GROUP BY 1, 2, 3`

// Measure fills in a snapshot's numbers and names what they count.
func (h *Health) Measure(ctx context.Context, store velox.StoreID, into *health.Snapshot) error {
	var unproven int64
	var err error
	if !into.Central { // nothing stands between central and itself
		unproven, err = h.log.Unproven(ctx, store)
	}
	if errors.Is(err, ErrCapture) { // nothing is proven then, and that is told by the evidence below
		err = h.db.Pool.QueryRow(ctx, `SELECT coalesce(max(count), 0) FROM reconciled.root WHERE store_id = $1`, store).Scan(&unproven)
	}
	if err != nil {
		return fmt.Errorf("measure unproven events: %w", err)
	}
	into.Metrics.EventLagCount = unproven
	if err := followFiscal(ctx, h.db, store); err != nil { // a store's log was drained just now, central's is by its rounds and heals
		return err
	}
	return pgx.BeginTxFunc(ctx, h.db.Pool, pgx.TxOptions{AccessMode: pgx.ReadOnly, IsoLevel: pgx.RepeatableRead}, func(tx pgx.Tx) error {
		for _, step := range []func(context.Context, pgx.Tx, velox.StoreID, *health.Snapshot) error{measureName, measurePause, measureGaps, measureLost, measureEvidence, measureStock, measureFiscal, measureQueues, measureClock, measureSilence} {
			if err := step(ctx, tx, store, into); err != nil {
				return err
			}
		}
		return nil
	})
}

// measureName reads what people call the store; at central it may not be known.
func measureName(ctx context.Context, tx pgx.Tx, store velox.StoreID, into *health.Snapshot) error {
	if err := tx.QueryRow(ctx, `SELECT coalesce(max(name), '') FROM public.stores WHERE id = $1`, store).Scan(&into.Name); err != nil {
		return fmt.Errorf("read store's name: %w", err)
	}
	return nil
}

func measureGaps(ctx context.Context, tx pgx.Tx, store velox.StoreID, into *health.Snapshot) error {
	err := tx.QueryRow(ctx, `
		SELECT count(*) FILTER (WHERE class = 'actionable'), count(*) FILTER (WHERE class = 'waiting'),
		       count(*) FILTER (WHERE class = 'blocked'), count(*) FILTER (WHERE class = 'unsupported'), count(*) FILTER (WHERE class = 'semantic'),
		       count(*) FILTER (WHERE class = 'poison'),
		       (SELECT coalesce(extract(epoch FROM now() - min(class_since))::bigint, 0) FROM reconciled.gap WHERE store_id = $1 AND class = 'actionable'),
		       (SELECT coalesce(extract(epoch FROM now() - min(class_since))::bigint, 0) FROM reconciled.gap WHERE store_id = $1 AND class = 'waiting'),
		       (SELECT count(DISTINCT event_id) FROM reconciled.conflict WHERE store_id = $1 AND decided_at IS NULL)
		FROM (SELECT class FROM (`+openGaps+`) o) gap`, store).
		Scan(&into.Metrics.ProjectionGapCount, &into.More.WaitingGapCount, &into.More.BlockedGapCount, &into.More.UnsupportedCount,
			&into.More.SemanticGapCount, &into.More.PoisonCount, &into.More.OldestGapSeconds, &into.More.OldestWaitingSeconds,
			&into.More.ConflictCount)
	if err != nil {
		return fmt.Errorf("measure gaps: %w", err)
	}
	for _, named := range []struct{ kind, sql string }{
		{"gap", `SELECT event_id::text, type || ': ' || reason || coalesce(' (' || last_error || ')', '') FROM reconciled.gap WHERE store_id = $1 AND class = 'actionable' ORDER BY first_seen LIMIT $2`},
		{"waiting", `SELECT event_id::text, type || ': ' || reason FROM reconciled.gap WHERE store_id = $1 AND class IN ('waiting', 'blocked') ORDER BY first_seen LIMIT $2`},
		{"poison", `SELECT event_id::text, type || ': ' || reason FROM reconciled.quarantine q WHERE ` + isPoison + ` AND dismissed_at IS NULL ORDER BY first_seen LIMIT $2`},
		{"conflict", `SELECT event_id::text, recommendation FROM reconciled.conflict WHERE store_id = $1 AND decided_at IS NULL ORDER BY found_at LIMIT $2`},
	} {
		if err := name(ctx, tx, store, into, named.kind, named.sql); err != nil {
			return err
		}
	}
	return nil
}

func measurePause(ctx context.Context, tx pgx.Tx, store velox.StoreID, into *health.Snapshot) error {
	pause, err := readPause(ctx, tx, store)
	if err == nil && pause != nil {
		into.Pause = &health.Pause{Until: pause.Until, By: pause.By, Why: pause.Why}
	}
	return err
}

func measureLost(ctx context.Context, tx pgx.Tx, store velox.StoreID, into *health.Snapshot) error {
	err := tx.QueryRow(ctx, `SELECT count(*) FROM reconciled.lost_update WHERE store_id = $1 AND restored_at IS NULL`, store).Scan(&into.More.LostUpdateCount)
	if err != nil {
		return fmt.Errorf("measure lost updates: %w", err)
	}
	return name(ctx, tx, store, into, "lost_update", `SELECT event_id::text, type || ' of ' || entity_type || ' ' || entity_id || coalesce(', overwritten by ' || winner, '')
		FROM reconciled.lost_update WHERE store_id = $1 AND restored_at IS NULL ORDER BY found_at DESC LIMIT $2`)
}

func measureEvidence(ctx context.Context, tx pgx.Tx, store velox.StoreID, into *health.Snapshot) error {
	err := tx.QueryRow(ctx, `
		SELECT count(*) FILTER (WHERE kind NOT IN ('capture', 'went_back')), count(*) FILTER (WHERE kind = 'deleted'),
		       count(*) FILTER (WHERE kind = 'capture'), count(*) FILTER (WHERE kind = 'went_back'),
		       (SELECT count(*) FROM reconciled.deletion WHERE store_id = $1 AND `+isHeld+`)
		FROM reconciled.evidence WHERE store_id = $1 AND cleared_at IS NULL`, store).
		Scan(&into.More.EventTamperedCount, &into.More.EventDeletedCount, &into.More.CaptureBrokenCount, &into.More.WentBackCount,
			&into.More.DeletionsHeldCount)
	if err != nil {
		return fmt.Errorf("measure evidence: %w", err)
	}
	for _, named := range []struct{ kind, which string }{
		{"tampered", `kind NOT IN ('capture', 'went_back')`}, {"capture", `kind = 'capture'`}, {"went_back", `kind = 'went_back'`},
	} {
		err = name(ctx, tx, store, into, named.kind, `SELECT coalesce(event_id::text, slot::text, ''), kind || ': ' || detail
			FROM reconciled.evidence WHERE store_id = $1 AND cleared_at IS NULL AND `+named.which+` ORDER BY found_at DESC, id DESC LIMIT $2`)
		if err != nil {
			return err
		}
	}
	return name(ctx, tx, store, into, "held", `SELECT event_id::text, type || ', deleted at ' || deleted_at
		FROM reconciled.deletion WHERE store_id = $1 AND `+isHeld+` ORDER BY deleted_at DESC LIMIT $2`)
}

func name(ctx context.Context, tx pgx.Tx, store velox.StoreID, into *health.Snapshot, kind, sql string) error {
	rows, err := tx.Query(ctx, sql, store, affectedAtMost)
	if err != nil {
		return fmt.Errorf("name %s: %w", kind, err)
	}
	list, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (health.Affected, error) {
		a := health.Affected{Kind: kind}
		return a, row.Scan(&a.ID, &a.Text)
	})
	if err != nil {
		return fmt.Errorf("name %s: %w", kind, err)
	}
	into.Details = append(into.Details, list...)
	return nil
}

// foundStock are the findings of the last drain, followedStock says whether there
// was one. Where stock is not followed, summedStock adds up the whole ledger.
const (
	followedStock = `SELECT EXISTS (SELECT FROM reconciled.stock_baseline WHERE store_id = $1)`
	foundStock    = `SELECT product_id, ledger, cache, diverged_since IS NOT NULL AS diverged FROM reconciled.stock WHERE store_id = $1 AND ` + isFound
	summedStock   = `
		SELECT coalesce(l.product_id, c.product_id) AS product_id, coalesce(l.qty, 0) AS ledger, coalesce(c.stock, 0) AS cache,
		       coalesce(l.warehouse_id, c.warehouse_id) IS NOT NULL AND greatest(coalesce(l.qty, 0), 0) <> coalesce(c.stock, 0) AS diverged
		FROM (` + ledger + `) l FULL JOIN (
			SELECT s.warehouse_id, s.product_id, s.variant_id, s.stock FROM public.warehouse_stock s
			JOIN public.warehouses w ON w.id = s.warehouse_id WHERE w.store_id = $1) c
		ON c.warehouse_id = l.warehouse_id AND c.product_id = l.product_id
			AND coalesce(c.variant_id::text, '') = coalesce(l.variant_id::text, '')`
)

func measureStock(ctx context.Context, tx pgx.Tx, store velox.StoreID, into *health.Snapshot) error {
	var followed bool
	if err := tx.QueryRow(ctx, followedStock, store).Scan(&followed); err != nil {
		return fmt.Errorf("measure stock: %w", err)
	}
	stock := foundStock
	if !followed {
		stock = summedStock
	}
	err := tx.QueryRow(ctx, `SELECT count(*) FILTER (WHERE diverged), count(DISTINCT product_id) FILTER (WHERE ledger < 0) FROM (`+stock+`) s`, store).
		Scan(&into.Metrics.StockDivergenceCount, &into.Metrics.NegativeStockCount)
	if err != nil {
		return fmt.Errorf("measure stock: %w", err)
	}
	// The ledger need not be added up a second time to name nothing.
	if into.Metrics.NegativeStockCount > 0 {
		err = name(ctx, tx, store, into, "negative_stock", `
			SELECT s.product_id::text, coalesce(p.name, '?') || ': ' || trim_scale(s.ledger) FROM (`+stock+`) s
			LEFT JOIN public.products p ON p.id = s.product_id WHERE s.ledger < 0 ORDER BY s.ledger LIMIT $2`)
	}
	if err == nil && into.Metrics.StockDivergenceCount > 0 {
		err = name(ctx, tx, store, into, "stock_divergence", `
			SELECT s.product_id::text, coalesce(p.name, '?') || ': ledger ' || trim_scale(s.ledger) || ', cache ' || trim_scale(s.cache) FROM (`+stock+`) s
			LEFT JOIN public.products p ON p.id = s.product_id WHERE s.diverged ORDER BY s.product_id LIMIT $2`)
	}
	return err
}

func measureQueues(ctx context.Context, tx pgx.Tx, store velox.StoreID, into *health.Snapshot) error {
	err := tx.QueryRow(ctx, `
		SELECT (SELECT count(*) FROM public.outbox_entries o WHERE store_id = $1 AND `+isPending+`),
		       (SELECT count(*) FROM public.outbox_entries o WHERE store_id = $1 AND `+isDead+`),
		       (SELECT count(*) FROM public.conflict_audit_log WHERE store_id = $1 AND resolved_at > now() - interval '1 hour' AND strategy NOT IN ('`+restoredBy+`', '`+decidedBy+`'))`, store).
		Scan(&into.More.OutboxPending, &into.More.OutboxDead, &into.More.ConflictRate)
	if err != nil {
		return fmt.Errorf("measure queues: %w", err)
	}
	if into.More.OutboxDead == 0 {
		return nil
	}
	return name(ctx, tx, store, into, "outbox_dead", `SELECT id::text, event_type || ' ' || event_id || ' for ' || target || coalesce(': ' || left(error, 200), '')
		FROM public.outbox_entries o WHERE store_id = $1 AND `+isDead+` ORDER BY created_at DESC LIMIT $2`)
}

// measureClock is how far this process's clock is ahead of the database's, to the
// length of a query.
func measureClock(ctx context.Context, tx pgx.Tx, _ velox.StoreID, into *health.Snapshot) error {
	var theirs time.Time
	if err := tx.QueryRow(ctx, `SELECT clock_timestamp()`).Scan(&theirs); err != nil {
		return fmt.Errorf("read the database's clock: %w", err)
	}
	into.More.ClockSkewMs = time.Since(theirs).Milliseconds()
	return nil
}

// measureSilence is for how long central has not heard of a store, since it was first
// awaited if it never called.
func measureSilence(ctx context.Context, tx pgx.Tx, store velox.StoreID, into *health.Snapshot) error {
	into.More.SilentSeconds = -1
	if !into.Central {
		return nil
	}
	err := tx.QueryRow(ctx, `SELECT coalesce(max(extract(epoch FROM now() - at)::bigint), -1) FROM reconciled.heard WHERE store_id = $1`, store).
		Scan(&into.More.SilentSeconds)
	if err != nil {
		return fmt.Errorf("measure silence: %w", err)
	}
	return nil
}

// Keep adds a report to the POS's own history of health.
func (h *Health) Keep(ctx context.Context, grant lock.Grant, report health.Report) error {
	return h.db.fenced(ctx, grant, func(ctx context.Context, tx pgx.Tx) error {
		m := report.Metrics
		_, err := tx.Exec(ctx, `INSERT INTO public.federation_health_snapshots (store_id, overall_health, event_lag_count, projection_gap_count,
				stock_divergence_count, negative_stock_count, queue_depth, failed_jobs, remote_reachable, remote_latency_ms, snapshot_at)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)`,
			grant.Store, string(report.OverallHealth), clampInt(m.EventLagCount), clampInt(m.ProjectionGapCount), clampInt(m.StockDivergenceCount),
			clampInt(m.NegativeStockCount), clampInt(m.OutboxPending), clampInt(m.OutboxDead), m.RemoteReachable,
			clampInt(m.RemoteLatencyMs), report.Timestamp)
		if err != nil {
			return fmt.Errorf("keep health snapshot: %w", err)
		}
		return nil
	})
}

// clampInt fits a count into the POS's int columns.
func clampInt(n int64) int32 {
	const most = 1<<31 - 1
	return int32(min(n, most))
}
