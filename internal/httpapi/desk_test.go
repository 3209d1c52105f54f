package httpapi

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/veloxpos/reconciled/internal/health"
)

var (
	shop  = uuid.MustParse("11111111-1111-4111-8111-111111111111")
	run   = uuid.MustParse("99999999-9999-4999-8999-999999999999")
	event = uuid.MustParse("22222222-2222-4222-8222-222222222222")
	noon  = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
)

// desk is a daemon that serves one store. It answers with something in every field, or
// with the error that it is told, and remembers what it was asked.
type desk struct {
	mu      sync.Mutex
	err     error
	asked   []any // what reached it
	refused []Refusal
	keys    map[string]claimed
}

type claimed struct {
	digest [32]byte
	answer *Answer
}

func (d *desk) note(asked any) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.asked = append(d.asked, asked)
	return d.err
}

func (d *desk) Ready(context.Context) error { return d.err }
func (d *desk) Serves(store uuid.UUID) bool { return store == shop }

func (d *desk) Health(_ context.Context, store uuid.UUID, fresh bool) (health.Report, error) {
	report := health.Evaluate(health.Snapshot{
		Store: store, At: noon, Mode: health.Normal, Metrics: health.Metrics{ProjectionGapCount: 1, CircuitBreakerState: "OPEN"}, RemoteError: "no answer",
		Details: []health.Affected{{Kind: "poison", ID: event.String(), Text: "SaleCreated: no id"}}, LastReconcile: health.Last{Verdict: "in_sync", At: noon},
	}, health.Thresholds{})
	return report, d.note(fresh)
}

func (d *desk) HealthHistory(_ context.Context, store uuid.UUID, hours, _ int) ([]PastHealth, error) {
	latency := int64(40)
	return []PastHealth{
		{OverallHealth: "critical", Store: store, Timestamp: noon, Metrics: PastMetrics{EventLagCount: 3, RemoteLatencyMs: &latency}},
		{OverallHealth: "healthy", Store: store, Timestamp: noon},
	}, d.note(hours)
}

func (d *desk) Start(_ context.Context, task string, _ uuid.UUID, by string) (uuid.UUID, error) {
	return run, d.note(task + " by " + by)
}

var ended = Run{
	ID: run, Task: "heal", Store: shop, Trigger: "api", State: "failed", Verdict: "partly_failed", Error: "why", StartedAt: noon, FinishedAt: &noon,
}

func (d *desk) Run(_ context.Context, id uuid.UUID) (Run, error) {
	if id != run {
		return Run{}, ErrUnknownRun
	}
	whole := ended
	whole.Report, whole.Progress = map[string]int{"healed": 3}, map[string]int{"done": 1}
	return whole, d.note(id)
}

func (d *desk) Runs(_ context.Context, _ uuid.UUID, _ string, limit int) ([]Run, error) {
	return []Run{{ID: run, Task: "scrub", Store: shop, Trigger: "schedule", State: "running", StartedAt: noon}, ended}, d.note(limit)
}

func (d *desk) Breaker(_ context.Context, store uuid.UUID) (Breaker, error) {
	return Breaker{Store: store, State: "OPEN", Failures: 5, Since: noon, NextProbe: &noon}, d.note("breaker")
}

func (d *desk) ResetBreaker(_ context.Context, _ uuid.UUID, by string) error {
	return d.note("reset by " + by)
}

func (d *desk) Outbox(_ context.Context, query OutboxQuery) (OutboxPage, error) {
	return OutboxPage{
		Store: query.Store, Next: &run, Counts: []OutboxCount{{Target: "projection", Pending: 1, Dead: 2, Zombies: 1}},
		Entries: []OutboxEntry{{ID: run, Event: event.String(), Type: "SaleCreated", Target: "projection", Status: "pending", Error: "why", Retries: 10, Created: noon, Dead: true, Zombie: true}},
	}, d.note(query)
}

func (d *desk) RetryOutbox(_ context.Context, retry OutboxRetry) error { return d.note(retry) }

func (d *desk) Conflicts(_ context.Context, store uuid.UUID, limit int) (ConflictList, error) {
	return ConflictList{
		Store: store, UndecidedTotal: 3,
		Undecided: []Conflict{{Event: event, Type: "SaleCreated", Here: "0a", There: "0b", From: run, Recommendation: "both copies match their own hashes", Found: noon}},
		Resolved:  []Resolution{{ID: run, EntityType: "stock", EntityID: "p", Winner: event.String(), Losers: []string{run.String()}, Strategy: "lww", At: noon, By: "auto"}},
	}, d.note(limit)
}

func (d *desk) FiscalRanges(_ context.Context, store uuid.UUID, limit int) (FiscalRangeList, error) {
	return FiscalRangeList{Store: store, Total: 2, Ranges: []FiscalRange{
		{ID: run, Series: event, Device: "till 1", Start: 1, End: 100, UsedUpTo: 7, Status: "active", Granted: noon},
		{ID: run, Series: event, Device: "till 1", Start: 101, End: 200, Status: "expired", Granted: noon, Expires: &noon},
	}}, d.note(limit)
}

func (d *desk) Alerts(_ context.Context, query AlertQuery) ([]Alert, error) {
	return []Alert{{
		ID: event, Store: query.Store, Code: "FISCAL_DUPLICATE", Key: "A/777", State: "acknowledged", Severity: "critical", TitleES: "repetido", TitleEN: "used twice",
		Since: noon, Resolved: &noon, Value: 2, Threshold: 1, Affected: []health.Affected{{Kind: "sale", ID: "s", Text: "t"}}, Total: 2,
		InhibitedBy: "X", Acknowledged: "ana", Why: "legal knows", Command: "reconciled doctor", Section: "2",
	}}, d.note(query)
}

func (d *desk) Acknowledge(_ context.Context, taking Taking) (Alert, error) {
	return Alert{ID: taking.Alert, Store: taking.Store, Code: "X", State: "acknowledged", Severity: "high", Since: noon, Affected: []health.Affected{}, Acknowledged: taking.By}, d.note(taking)
}

func (d *desk) Gaps(_ context.Context, query GapQuery) (GapList, error) {
	return GapList{Store: query.Store, Totals: map[string]int{"waiting": 2}, Gaps: []Gap{
		{Event: event, Type: "SaleCreated", Class: "waiting", Since: noon, WaitsTable: "products", WaitsID: uuid.NullUUID{UUID: run, Valid: true}, Attempts: 1, NextAttempt: &noon, Reason: "no product", LastError: "why"},
		{Event: event, Type: "SaleCreated", Class: "poison", Since: noon, Reason: "no id"},
	}}, d.note(query)
}

func (d *desk) RetryGaps(_ context.Context, retry GapRetry) ([]uuid.UUID, error) {
	return []uuid.UUID{event}, d.note(retry)
}

func (d *desk) DismissGap(_ context.Context, dismissal GapDismissal) error { return d.note(dismissal) }

func (d *desk) Refused(_ context.Context, r Refusal) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.refused = append(d.refused, r)
	return nil
}

func (d *desk) Claim(_ context.Context, key string, digest [32]byte) (*Answer, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	before, known := d.keys[key]
	switch {
	case !known:
		if d.keys == nil {
			d.keys = map[string]claimed{}
		}
		d.keys[key] = claimed{digest: digest}
		return nil, nil
	case before.digest != digest:
		return nil, ErrKeyReused
	case before.answer == nil:
		return nil, ErrKeyInUse
	}
	return before.answer, nil
}

func (d *desk) Keep(_ context.Context, key string, answer Answer) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.keys[key] = claimed{d.keys[key].digest, &answer}
	return nil
}

func (d *desk) Release(_ context.Context, key string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.keys, key)
	return nil
}

func (d *desk) at() http.Handler { return at(d) }

// at is a handler in front of a daemon, with two valid tokens.
func at(d Daemon) http.Handler {
	return New(d, Options{
		Tokens:  func() ([]string, error) { return []string{"admin", "the one before"}, nil },
		Metrics: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Content-Type", "text/plain") }),
	})
}

func newServer(t *testing.T, d *desk) *httptest.Server {
	t.Helper()
	server := httptest.NewServer(d.at())
	t.Cleanup(server.Close)
	return server
}

// request asks with the admin's token and a JSON body, unless header says otherwise.
func request(h http.Handler, method, target, body string, header ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, target, strings.NewReader(body))
	r.Header.Set("Authorization", "Bearer admin")
	r.Header.Set("Content-Type", "application/json")
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}
