package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/veloxpos/reconciled/internal/velox"
)

// HealthHistory is the POS's own history of health, which its backend and Health.Keep
// write. Safe for concurrent use.
type HealthHistory struct{ db *DB }

// NewHealthHistory returns the history kept in db.
func NewHealthHistory(db *DB) *HealthHistory { return &HealthHistory{db: db} }

// PastHealth is a row of federation_health_snapshots.
type PastHealth struct {
	At              time.Time
	Overall         string
	EventLag        int64
	ProjectionGaps  int64
	StockDivergence int64
	NegativeStock   int64
	QueueDepth      int64
	FailedJobs      int64
	RemoteReachable bool
	RemoteLatencyMs *int64
}

// Since lists the store's snapshots of the last span of time, the newest first.
func (h *HealthHistory) Since(ctx context.Context, store velox.StoreID, span time.Duration, limit int) ([]PastHealth, error) {
	rows, err := h.db.Pool.Query(ctx, `
		SELECT snapshot_at, overall_health, coalesce(event_lag_count, 0), coalesce(projection_gap_count, 0), coalesce(stock_divergence_count, 0),
			coalesce(negative_stock_count, 0), coalesce(queue_depth, 0), coalesce(failed_jobs, 0), coalesce(remote_reachable, false), remote_latency_ms
		FROM public.federation_health_snapshots WHERE store_id = $1 AND snapshot_at > now() - $2::interval
		ORDER BY snapshot_at DESC LIMIT $3`, store, span, limit)
	if err != nil {
		return nil, fmt.Errorf("read health history: %w", err)
	}
	list, err := pgx.CollectRows(rows, pgx.RowToStructByPos[PastHealth])
	if err != nil {
		return nil, fmt.Errorf("read health history: %w", err)
	}
	return list, nil
}
