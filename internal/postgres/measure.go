package postgres

import (
	"context"
	"errors"
	"fmt"

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

// fiscalDuplicates are series and numbers that more than one unvoided sale has.
// A sale without a series has the one the POS would have given it. The numbers
// are compared without the spaces around them.
const fiscalDuplicates = `
	SELECT coalesce(s.invoice_series_id, d.id) AS series_id, btrim(s.fiscal_number) AS number, count(*) AS sales,
	       string_agg(s.id::text, ' ' ORDER BY s.id) AS ids
	FROM public.sales s
	LEFT JOIN LATERAL (SELECT id FROM public.invoice_series WHERE store_id = $1 AND is_active ORDER BY created_at LIMIT 1) d ON true
	WHERE s.store_id = $1 AND s.voided_at IS NULL AND btrim(s.fiscal_number) <> ''
	GROUP BY 1, 2 HAVING count(*) > 1`

// Measure fills in a snapshot's numbers and names what they count.
func (h *Health) Measure(ctx context.Context, store velox.StoreID, into *health.Snapshot) error {
	unproven, err := h.log.Unproven(ctx, store)
	if errors.Is(err, ErrCapture) { // nothing is proven then, and that is told by the evidence below
		err = h.db.Pool.QueryRow(ctx, `SELECT coalesce(max(count), 0) FROM reconciled.root WHERE store_id = $1`, store).Scan(&unproven)
	}
	if err != nil {
		return fmt.Errorf("measure unproven events: %w", err)
	}
	into.Metrics.EventLagCount = unproven
	return pgx.BeginTxFunc(ctx, h.db.Pool, pgx.TxOptions{AccessMode: pgx.ReadOnly, IsoLevel: pgx.RepeatableRead}, func(tx pgx.Tx) error {
		for _, step := range []func(context.Context, pgx.Tx, velox.StoreID, *health.Snapshot) error{measureGaps, measureEvidence, measureStock, measureFiscal, measureQueues} {
			if err := step(ctx, tx, store, into); err != nil {
				return err
			}
		}
		return nil
	})
}

func measureGaps(ctx context.Context, tx pgx.Tx, store velox.StoreID, into *health.Snapshot) error {
	err := tx.QueryRow(ctx, `
		SELECT count(*) FILTER (WHERE class = 'actionable'), count(*) FILTER (WHERE class = 'waiting'),
		       count(*) FILTER (WHERE class = 'blocked'), count(*) FILTER (WHERE class = 'unsupported'),
		       (SELECT count(*) FROM reconciled.quarantine WHERE store_id = $1 AND dismissed_at IS NULL),
		       (SELECT count(DISTINCT event_id) FROM reconciled.conflict WHERE store_id = $1 AND decided_at IS NULL)
		FROM reconciled.gap WHERE store_id = $1`, store).
		Scan(&into.Metrics.ProjectionGapCount, &into.More.WaitingGapCount, &into.More.BlockedGapCount, &into.More.UnsupportedCount,
			&into.More.PoisonCount, &into.More.ConflictCount)
	if err != nil {
		return fmt.Errorf("measure gaps: %w", err)
	}
	for _, named := range []struct{ kind, sql string }{
		{"waiting", `SELECT event_id::text, type || ': ' || reason FROM reconciled.gap WHERE store_id = $1 AND class IN ('waiting', 'blocked') ORDER BY first_seen LIMIT $2`},
		{"poison", `SELECT event_id::text, type || ': ' || reason FROM reconciled.quarantine WHERE store_id = $1 AND dismissed_at IS NULL ORDER BY first_seen LIMIT $2`},
		{"conflict", `SELECT event_id::text, recommendation FROM reconciled.conflict WHERE store_id = $1 AND decided_at IS NULL ORDER BY found_at LIMIT $2`},
	} {
		if err := name(ctx, tx, store, into, named.kind, named.sql); err != nil {
			return err
		}
	}
	return nil
}

func measureEvidence(ctx context.Context, tx pgx.Tx, store velox.StoreID, into *health.Snapshot) error {
	err := tx.QueryRow(ctx, `
		SELECT count(*), count(*) FILTER (WHERE kind = 'deleted'),
		       (SELECT count(*) FROM reconciled.deletion WHERE store_id = $1 AND `+isHeld+`)
		FROM reconciled.evidence WHERE store_id = $1 AND cleared_at IS NULL`, store).
		Scan(&into.More.EventTamperedCount, &into.More.EventDeletedCount, &into.More.DeletionsHeldCount)
	if err != nil {
		return fmt.Errorf("measure evidence: %w", err)
	}
	err = name(ctx, tx, store, into, "tampered", `SELECT coalesce(event_id::text, slot::text, ''), kind || ': ' || detail
		FROM reconciled.evidence WHERE store_id = $1 AND cleared_at IS NULL ORDER BY found_at DESC, id DESC LIMIT $2`)
	if err != nil {
		return err
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

func measureStock(ctx context.Context, tx pgx.Tx, store velox.StoreID, into *health.Snapshot) error {
	err := tx.QueryRow(ctx, `
		WITH ledger AS (`+ledger+`), cache AS (
			SELECT s.warehouse_id, s.product_id, s.variant_id, s.stock FROM public.warehouse_stock s
			JOIN public.warehouses w ON w.id = s.warehouse_id WHERE w.store_id = $1)
		SELECT count(*) FILTER (WHERE greatest(coalesce(l.qty, 0), 0) <> coalesce(c.stock, 0)),
		       count(DISTINCT coalesce(l.product_id, c.product_id)) FILTER (WHERE l.qty < 0)
		FROM ledger l FULL JOIN cache c ON c.warehouse_id = l.warehouse_id AND c.product_id = l.product_id
			AND coalesce(c.variant_id::text, '') = coalesce(l.variant_id::text, '')`, store).
		Scan(&into.Metrics.StockDivergenceCount, &into.Metrics.NegativeStockCount)
	if err != nil {
		return fmt.Errorf("measure stock: %w", err)
	}
	if into.Metrics.NegativeStockCount == 0 {
		return nil // the ledger need not be added up a second time to name nothing
	}
	return name(ctx, tx, store, into, "negative_stock", `
		SELECT l.product_id::text, coalesce(p.name, '?') || ': ' || l.qty FROM (`+ledger+`) l
		LEFT JOIN public.products p ON p.id = l.product_id WHERE l.qty < 0 ORDER BY l.qty LIMIT $2`)
}

func measureFiscal(ctx context.Context, tx pgx.Tx, store velox.StoreID, into *health.Snapshot) error {
	if err := tx.QueryRow(ctx, `SELECT count(*) FROM (`+fiscalDuplicates+`) d`, store).Scan(&into.More.FiscalDuplicateCount); err != nil {
		return fmt.Errorf("measure fiscal numbers: %w", err)
	}
	if into.More.FiscalDuplicateCount == 0 {
		return nil
	}
	return name(ctx, tx, store, into, "fiscal_duplicate", `
		SELECT number, 'series ' || coalesce(series_id::text, '?') || ', sales ' || ids FROM (`+fiscalDuplicates+`) d ORDER BY number LIMIT $2`)
}

func measureQueues(ctx context.Context, tx pgx.Tx, store velox.StoreID, into *health.Snapshot) error {
	err := tx.QueryRow(ctx, `
		SELECT (SELECT count(*) FROM public.outbox_entries WHERE store_id = $1 AND status = 'pending' AND coalesce(retry_count, 0) < 10),
		       (SELECT count(*) FROM public.outbox_entries WHERE store_id = $1 AND (status = 'failed' OR (status = 'pending' AND retry_count >= 10))),
		       (SELECT count(*) FROM public.conflict_audit_log WHERE store_id = $1 AND resolved_at > now() - interval '1 hour')`, store).
		Scan(&into.More.OutboxPending, &into.More.OutboxDead, &into.More.ConflictRate)
	if err != nil {
		return fmt.Errorf("measure queues: %w", err)
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
			clampInt(m.NegativeStockCount), clampInt(report.More.OutboxPending), clampInt(report.More.OutboxDead), m.RemoteReachable,
			clampInt(report.More.RemoteLatencyMs), report.Timestamp)
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
