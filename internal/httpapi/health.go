package httpapi

import (
	"context"
	"net/http"
	"time"

	"github.com/google/uuid"

	"github.com/veloxpos/reconciled/internal/health"
)

// Monitor knows how stores are.
type Monitor interface {
	// Health is the store's report: the last one, or when fresh is wanted one that is
	// measured now, once for all who want it at the time.
	Health(ctx context.Context, store uuid.UUID, fresh bool) (health.Report, error)
	// HealthHistory are the snapshots of the last hours in the POS's own table, the
	// newest first, at most limit.
	HealthHistory(ctx context.Context, store uuid.UUID, hours, limit int) ([]PastHealth, error)
}

// PastHealth is a row of federation_health_snapshots, in the shape of a report.
type PastHealth struct {
	OverallHealth string      `json:"overallHealth"`
	Metrics       PastMetrics `json:"metrics"`
	Store         uuid.UUID   `json:"storeId"`
	Timestamp     time.Time   `json:"timestamp"`
}

// PastMetrics are what such a row counts.
type PastMetrics struct {
	EventLagCount        int64  `json:"eventLagCount"`
	ProjectionGapCount   int64  `json:"projectionGapCount"`
	StockDivergenceCount int64  `json:"stockDivergenceCount"`
	NegativeStockCount   int64  `json:"negativeStockCount"`
	QueueDepth           int64  `json:"queueDepth"`
	FailedJobs           int64  `json:"failedJobs"`
	RemoteReachable      bool   `json:"remoteReachable"`
	RemoteLatencyMs      *int64 `json:"remoteLatencyMs"` // null: not measured
}

func (a *api) health(c *call) (int, any, error) {
	f := a.query(c)
	store, fresh := f.store(), f.flag("fresh")
	if err := f.end(); err != nil {
		return 0, nil, err
	}
	report, err := a.daemon.Health(c.ctx(), store, fresh)
	return http.StatusOK, report, err
}

// historyMost is more than a week of what the POS and the daemon write, each every five
// minutes.
const historyMost = 5000

func (a *api) healthHistory(c *call) (int, any, error) {
	f := a.query(c)
	store, hours := f.store(), f.number("hours", 1, 168, 24)
	if err := f.end(); err != nil {
		return 0, nil, err
	}
	list, err := a.daemon.HealthHistory(c.ctx(), store, hours, historyMost)
	return http.StatusOK, some(list), err
}

// some is a list that JSON shows as one, also when it is empty.
func some[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}
