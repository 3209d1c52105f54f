package daemon

import (
	"context"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/veloxpos/reconciled/internal/central"
	"github.com/veloxpos/reconciled/internal/health"
	"github.com/veloxpos/reconciled/internal/postgres"
	"github.com/veloxpos/reconciled/internal/telemetry"
	"github.com/veloxpos/reconciled/internal/velox"
	"github.com/veloxpos/reconciled/lock"
)

// Gauge measures what the database knows of a store's health.
type Gauge interface {
	Measure(ctx context.Context, store velox.StoreID, into *health.Snapshot) error
	Keep(ctx context.Context, grant lock.Grant, report health.Report) error
}

// Remote is central, as far as health looks at it.
type Remote interface {
	Probe(ctx context.Context, store velox.StoreID) (central.Ready, time.Duration, error)
	Breaker(store velox.StoreID) string
}

// Monitor keeps each store's latest health report.
type Monitor struct {
	gauge      Gauge
	remote     Remote // nil at central
	runs       History
	thresholds health.Thresholds
	metrics    *telemetry.Metrics

	mu       sync.Mutex
	latest   map[uuid.UUID]health.Report
	degraded map[uuid.UUID]bool
	quiet    map[uuid.UUID]time.Time // when a heal last succeeded, also one that found nothing to do
}

// NewMonitor measures through gauge. remote is nil at central.
func NewMonitor(gauge Gauge, remote Remote, runs History, thresholds health.Thresholds, metrics *telemetry.Metrics) *Monitor {
	return &Monitor{
		gauge: gauge, remote: remote, runs: runs, thresholds: thresholds, metrics: metrics,
		latest: map[uuid.UUID]health.Report{}, degraded: map[uuid.UUID]bool{}, quiet: map[uuid.UUID]time.Time{},
	}
}

// Latest is the last report that was measured.
func (m *Monitor) Latest(store uuid.UUID) (health.Report, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	report, ok := m.latest[store]
	return report, ok
}

// note remembers what the history does not keep.
func (m *Monitor) note(store uuid.UUID, run postgres.Run) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if run.Task == TaskHeal && run.State == "succeeded" {
		m.quiet[store] = run.Finished
	}
}

// Measure takes a snapshot of a store now and judges it.
func (m *Monitor) Measure(ctx context.Context, store uuid.UUID) (health.Report, error) {
	s := health.Snapshot{Store: store, At: time.Now().UTC(), Central: m.remote == nil}
	if err := m.gauge.Measure(ctx, store, &s); err != nil {
		return health.Report{}, err
	}
	if err := m.measureRemote(ctx, store, &s); err != nil {
		return health.Report{}, err
	}
	var err error
	if s.LastReconcile, err = m.last(ctx, store, TaskReconcile); err != nil {
		return health.Report{}, err
	}
	if s.LastHeal, err = m.last(ctx, store, TaskHeal); err != nil {
		return health.Report{}, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	s.More.LockBackend = "redis"
	if m.degraded[store] {
		s.More.LockBackend = "fence"
	}
	if at := m.quiet[store]; at.After(s.LastHeal.At) {
		s.LastHeal = health.Last{Verdict: "nothing_to_do", At: at.UTC(), SecondsSince: int64(time.Since(at).Seconds())}
	}
	report := health.Evaluate(s, m.thresholds)
	m.latest[store] = report
	m.publish(store.String(), report)
	return report, nil
}

// measureRemote asks central, if there is one. At central the runbook's fields
// say that nothing stands between.
func (m *Monitor) measureRemote(ctx context.Context, store uuid.UUID, s *health.Snapshot) error {
	if m.remote == nil {
		s.Metrics.RemoteReachable, s.Metrics.CircuitBreakerState = true, "CLOSED"
		s.Metrics.EventLagCount = 0
		return nil
	}
	_, latency, err := m.remote.Probe(ctx, store)
	s.Metrics.RemoteReachable = err == nil
	s.Metrics.CircuitBreakerState = m.remote.Breaker(store)
	s.More.RemoteLatencyMs = latency.Milliseconds()
	if err != nil {
		s.RemoteError = err.Error()
	}
	return ctx.Err()
}

// last says how a task ended when it last ran; unknown before it ever did.
func (m *Monitor) last(ctx context.Context, store uuid.UUID, task string) (health.Last, error) {
	run, success, err := m.runs.Last(ctx, store, task)
	if err != nil {
		return health.Last{}, err
	}
	last := health.Last{Verdict: "unknown", SecondsSince: -1, Reason: run.Error}
	if !run.Finished.IsZero() {
		last.At = run.Finished.UTC()
	}
	if run.State == "succeeded" {
		last.Verdict = run.Verdict
	}
	if !success.Finished.IsZero() {
		last.SecondsSince = int64(time.Since(success.Finished).Seconds())
	}
	return last, nil
}

func (m *Monitor) publish(store string, r health.Report) {
	if m.metrics == nil {
		return
	}
	level := map[health.Level]float64{health.Healthy: 0, health.Degraded: 1, health.Critical: 2}
	reachable := 0.0
	if r.Metrics.RemoteReachable {
		reachable = 1
	}
	for metric, value := range map[string]float64{
		"overallHealth": level[r.OverallHealth], "eventLagCount": float64(r.Metrics.EventLagCount),
		"projectionGapCount": float64(r.Metrics.ProjectionGapCount), "stockDivergenceCount": float64(r.Metrics.StockDivergenceCount),
		"negativeStockCount": float64(r.Metrics.NegativeStockCount), "remoteReachable": reachable,
		"fiscalDuplicateCount": float64(r.More.FiscalDuplicateCount), "conflictCount": float64(r.More.ConflictCount),
		"poisonCount": float64(r.More.PoisonCount), "waitingGapCount": float64(r.More.WaitingGapCount),
		"outboxPending": float64(r.More.OutboxPending), "outboxDead": float64(r.More.OutboxDead),
	} {
		m.metrics.Health(store, metric, value)
	}
}

// degrade remembers whether the lock went without Redis.
func (m *Monitor) degrade(store uuid.UUID, degraded bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.degraded[store] = degraded
}
