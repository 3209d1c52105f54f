package daemon

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/google/uuid"
	"github.com/robfig/cron/v3"
	"golang.org/x/sync/singleflight"

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
	Breaker(store velox.StoreID) central.Breaker
}

// MonitorOptions of a Monitor.
type MonitorOptions struct {
	Remote     Remote      // nil at central
	Mode       health.Mode // Normal or Observe
	Thresholds health.Thresholds
	Redis      bool     // the lock has Redis in front
	Disks      []string // paths on the disks that are watched
	// LatePeriods is for how many of its own times a task may come to no good end.
	LatePeriods int
	Metrics     *telemetry.Metrics // may be nil
}

// Monitor keeps each store's latest health report.
type Monitor struct {
	gauge   Gauge
	runs    History
	opts    MonitorOptions
	started time.Time

	fresh singleflight.Group // of each store's measurement that somebody waits for

	mu       sync.Mutex
	schedule map[string]cron.Schedule // of tasks
	latest   map[uuid.UUID]health.Report
	degraded map[uuid.UUID]bool
	ends     map[uuid.UUID]map[string]end // by task, also those of which the history keeps nothing
}

// end is how a task ended that did not fail.
type end struct {
	at      time.Time
	verdict string // "" when it was interrupted
}

// NewMonitor measures through gauge.
func NewMonitor(gauge Gauge, runs History, opts MonitorOptions) *Monitor {
	return &Monitor{
		gauge: gauge, runs: runs, opts: opts, started: time.Now(),
		latest: map[uuid.UUID]health.Report{}, degraded: map[uuid.UUID]bool{}, ends: map[uuid.UUID]map[string]end{},
	}
}

// expect tells the monitor which tasks are due, and how often.
func (m *Monitor) expect(tasks []*Task) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.schedule = map[string]cron.Schedule{}
	for _, task := range tasks {
		if task.Schedule != nil {
			m.schedule[task.Name] = task.Schedule
		}
	}
}

// Latest is the last report that was measured.
func (m *Monitor) Latest(store uuid.UUID) (health.Report, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	report, ok := m.latest[store]
	return report, ok
}

// note remembers how a task ended. One that was interrupted goes on later, and where the
// lock was held another one works: it is not late for that.
func (m *Monitor) note(store uuid.UUID, run postgres.Run) {
	if run.State == "failed" {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.ends[store] == nil {
		m.ends[store] = map[string]end{}
	}
	m.ends[store][run.Task] = end{run.Finished, run.Verdict}
}

// Fresh measures a store for a request: once at a time, for all that ask meanwhile. It
// goes on when one of them goes away.
func (m *Monitor) Fresh(ctx context.Context, store uuid.UUID) (health.Report, error) {
	measured := m.fresh.DoChan(store.String(), func() (any, error) {
		measuring, cancel := context.WithTimeout(context.WithoutCancel(ctx), measureTimeout)
		defer cancel()
		return m.Measure(measuring, store)
	})
	select {
	case result := <-measured:
		report, _ := result.Val.(health.Report)
		return report, result.Err
	case <-ctx.Done():
		return health.Report{}, context.Cause(ctx)
	}
}

// Measure takes a snapshot of a store now and judges it.
func (m *Monitor) Measure(ctx context.Context, store uuid.UUID) (health.Report, error) {
	s := health.Snapshot{Store: store, At: time.Now().UTC(), Central: m.opts.Remote == nil, Mode: m.opts.Mode}
	if err := m.gauge.Measure(ctx, store, &s); err != nil {
		return health.Report{}, err
	}
	if err := m.measureRemote(ctx, store, &s); err != nil {
		return health.Report{}, err
	}
	m.measureDisks(&s)
	for task, into := range map[string]*health.Last{TaskReconcile: &s.LastReconcile, TaskHeal: &s.LastHeal, TaskScrub: &s.LastScrub} {
		var err error
		if *into, err = m.last(ctx, store, task); err != nil {
			return health.Report{}, err
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	s.Duties = m.duties(store, s)
	s.LockDegraded = m.opts.Redis && m.degraded[store]
	s.More.LockBackend = "fence"
	if m.opts.Redis && !s.LockDegraded {
		s.More.LockBackend = "redis"
	}
	report := health.Evaluate(s, m.opts.Thresholds)
	m.latest[store] = report
	m.publish(store.String(), report)
	return report, nil
}

// lateMargin is what a task may take beside its times: they are spread over a minute.
const lateMargin = time.Minute

// duties say for how long each scheduled task has come to no good end. A restart is none:
// of rounds, which are all in the history, the last success there counts. Ages are reckoned
// by the monotonic clock, as far as they lie within this process.
func (m *Monitor) duties(store uuid.UUID, s health.Snapshot) []health.Duty {
	var duties []health.Duty
	for _, task := range slices.Sorted(maps.Keys(m.schedule)) {
		age := time.Since(m.started)
		if at := m.ends[store][task].at; !at.IsZero() {
			age = time.Since(at)
		} else if task == TaskReconcile {
			age = max(age, time.Duration(s.LastReconcile.SecondsSince)*time.Second)
		}
		due := s.At.Add(-age) // a schedule may rest, at night for one
		for range max(m.opts.LatePeriods, 1) {
			due = m.schedule[task].Next(due)
		}
		duties = append(duties, health.Duty{Task: task, Since: age, Due: due.Add(lateMargin)})
	}
	return duties
}

// keep adds a report to the POS's own history, where that may be written.
func (m *Monitor) keep(ctx context.Context, grant lock.Grant, report health.Report) error {
	if report.Mode != health.Normal {
		return nil
	}
	if err := m.gauge.Keep(ctx, grant, report); !errors.Is(err, lock.ErrPaused) {
		return err
	}
	return nil // paused a moment ago
}

// measureRemote asks central, if there is one. At central the runbook's fields
// say that nothing stands between.
func (m *Monitor) measureRemote(ctx context.Context, store uuid.UUID, s *health.Snapshot) error {
	if m.opts.Remote == nil {
		s.Metrics.RemoteReachable, s.More.SyncReady, s.Metrics.CircuitBreakerState = true, true, "CLOSED"
		s.Metrics.EventLagCount = 0
		return nil
	}
	ready, latency, err := m.opts.Remote.Probe(ctx, store)
	answered := time.Now()
	s.More.SyncReady, s.Metrics.RemoteReachable = err == nil, err == nil
	if refused := new(central.StatusError); errors.As(err, &refused) { // a proxy's 502 is no answer of central's
		s.Metrics.RemoteReachable = refused.Status < 500 || refused.Code != ""
	}
	s.Metrics.CircuitBreakerState = string(m.opts.Remote.Breaker(store).State)
	if s.Metrics.RemoteReachable { // else it is how long it was waited in vain
		s.More.RemoteLatencyMs = latency.Milliseconds()
	}
	if err != nil {
		s.RemoteError = err.Error()
		return ctx.Err()
	}
	// It took its time half-way: what is left over is the clocks' difference.
	skew := answered.Add(-latency / 2).Sub(time.UnixMilli(int64(ready.Time))).Milliseconds()
	if abs(skew) > abs(s.More.ClockSkewMs) {
		s.More.ClockSkewMs = skew
	}
	return nil
}

func abs(n int64) int64 { return max(n, -n) }

// measureDisks finds the fullest of the disks that are watched.
func (m *Monitor) measureDisks(s *health.Snapshot) {
	for _, path := range m.opts.Disks {
		used, free, err := diskUse(path)
		if err != nil { // what is not there must not keep anybody from hearing of the rest
			s.Details = append(s.Details, health.Affected{Kind: health.DiskUnread, ID: path, Text: err.Error()})
			continue
		}
		if used >= s.More.DiskUsedPercent {
			s.More.DiskUsedPercent = used
		}
		if used > m.opts.Thresholds.DiskUsedPercent.Degraded {
			s.Details = append(s.Details, health.Affected{Kind: "disk", ID: path, Text: humanize.IBytes(free) + " free"})
		}
	}
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
	m.mu.Lock()
	defer m.mu.Unlock()
	// What went well and found nothing to do is not in the history.
	if ended := m.ends[store][task]; ended.verdict != "" && ended.at.After(last.At) {
		last = health.Last{Verdict: ended.verdict, At: ended.at.UTC(), SecondsSince: int64(time.Since(ended.at).Seconds())}
	}
	return last, nil
}

func (m *Monitor) publish(store string, r health.Report) {
	if m.opts.Metrics == nil {
		return
	}
	for metric, value := range r.Numbers() {
		m.opts.Metrics.Health(store, metric, value)
	}
}

// degrade remembers whether the lock went without Redis.
func (m *Monitor) degrade(store uuid.UUID, degraded bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.degraded[store] = degraded
}
