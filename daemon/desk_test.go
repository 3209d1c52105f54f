package daemon

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/veloxpos/reconciled/internal/central"
	"github.com/veloxpos/reconciled/internal/httpapi"
	"github.com/veloxpos/reconciled/internal/postgres"
	"github.com/veloxpos/reconciled/internal/testkit"
	"github.com/veloxpos/reconciled/internal/velox"
	"github.com/veloxpos/reconciled/lock"
)

// line is a breaker that is open until it is reset.
type line struct{ closed atomic.Bool }

func (l *line) Breaker(velox.StoreID) central.Breaker {
	if l.closed.Load() {
		return central.Breaker{State: central.Closed, Since: time.Now()}
	}
	return central.Breaker{State: central.Open, Failures: 5, Since: time.Now(), Probe: time.Now().Add(time.Minute)}
}

func (l *line) ResetBreaker(velox.StoreID) { l.closed.Store(true) }

func (r *running) desk(breakers Breakers) *Desk {
	return NewDesk(r.Daemon, r.site.DB, breakers, false)
}

func (r *running) text(t *testing.T, sql string, args ...any) (text string) {
	t.Helper()
	if err := r.site.DB.Pool.QueryRow(t.Context(), `SELECT coalesce(string_agg(line, '; '), '') FROM (`+sql+`) AS l (line)`, args...).Scan(&text); err != nil {
		t.Fatal(err)
	}
	return text
}

const audited = `SELECT concat_ws(' ', actor, action, outcome, target) FROM reconciled.audit ORDER BY id`

// dead puts a dead entry into the store's outbox.
func (r *running) dead(t *testing.T) uuid.UUID {
	t.Helper()
	id := uuid.New()
	_, err := r.site.Owner.Exec(t.Context(), `INSERT INTO outbox_entries (id, event_id, event_type, store_id, target, status, retry_count) VALUES ($1, 'e', 'SaleCreated', $2, 'projection', 'failed', 10)`, id, shop)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func TestARequestsShortWorkIsDoneUnderTheLockBetweenThePagesOfALongTask(t *testing.T) {
	begun := make(chan struct{}, 2)
	r := start(t, onDemand("long", func(_ context.Context, _ lock.Grant, h Handle) (Result, error) {
		if h.Earlier != nil {
			return Result{Verdict: "done"}, nil
		}
		begun <- struct{}{}
		testkit.Eventually(t, 20*time.Second, "the task is asked to stop", h.Stop)
		return Result{Report: "half"}, lock.ErrGaveWay
	}))
	long, err := r.Start(t.Context(), "long", shop)
	if err != nil {
		t.Fatal(err)
	}
	<-begun
	id := r.dead(t)
	retry := httpapi.OutboxRetry{Store: shop, IDs: []uuid.UUID{id}, By: "ana", Why: "the product came"}
	if err := r.desk(nil).RetryOutbox(t.Context(), retry); err != nil {
		t.Fatal(err)
	}
	if got := r.text(t, `SELECT concat_ws(' ', status, retry_count) FROM outbox_entries`); got != "pending 0" {
		t.Errorf("the entry is %s", got)
	}
	if run := r.await(t, long); run.Verdict != "done" {
		t.Errorf("the long task: %+v", run)
	}
	if got, want := r.text(t, audited), "ana outbox retry pending outbox_entries"; got != want {
		t.Errorf("audit: %s, want %s", got, want)
	}
	if n := r.count(t, `SELECT count(*) FROM reconciled.run`); n != 1 {
		t.Errorf("%d runs are kept, want the long one alone", n)
	}
}

func TestARequestThatNamesWhatIsNotThereIsTold(t *testing.T) {
	r := start(t)
	desk := r.desk(nil)
	id := uuid.New()
	for name, c := range map[string]struct {
		err         error
		code, field string
	}{
		"entries": {desk.RetryOutbox(t.Context(), httpapi.OutboxRetry{Store: shop, IDs: []uuid.UUID{id}}), "UNKNOWN_ENTRY", "ids"},
		"gaps":    {second(desk.RetryGaps(t.Context(), httpapi.GapRetry{Store: shop, Events: []uuid.UUID{id}})), "UNKNOWN_GAP", "event_ids"},
		"poison":  {desk.DismissGap(t.Context(), httpapi.GapDismissal{Store: shop, Event: id}), "NOT_IN_QUARANTINE", "event_id"},
		"a page":  {second(desk.Outbox(t.Context(), httpapi.OutboxQuery{Store: shop, Limit: 1, After: uuid.NullUUID{UUID: id, Valid: true}})), "UNKNOWN_ENTRY", "after"},
	} {
		var unknown *httpapi.UnknownError
		if !errors.As(c.err, &unknown) || unknown.Code != c.code || unknown.Field != c.field || !strings.Contains(unknown.Message, id.String()) {
			t.Errorf("%s: %v, want %s that names it", name, c.err, c.code)
		}
	}
	if _, err := desk.Run(t.Context(), id); !errors.Is(err, httpapi.ErrUnknownRun) {
		t.Errorf("%v, want ErrUnknownRun", err)
	}
	if _, err := desk.Breaker(t.Context(), shop); !errors.Is(err, httpapi.ErrNoBreaker) {
		t.Errorf("%v, want ErrNoBreaker", err)
	}
	if err := desk.ResetBreaker(t.Context(), shop, "ana"); !errors.Is(err, httpapi.ErrNoBreaker) || r.text(t, audited) != "" {
		t.Errorf("%v, want ErrNoBreaker", err)
	}
}

func second[T any](_ T, err error) error { return err }

func TestWhoeverHoldsTheStoreIsNamedToARequestsShortWork(t *testing.T) {
	r := start(t)
	desk := r.desk(nil)
	id := r.dead(t)
	retry := func(ctx context.Context) error {
		return desk.RetryOutbox(ctx, httpapi.OutboxRetry{Store: shop, IDs: []uuid.UUID{id}, By: "ana", Why: "why"})
	}
	err := r.locker.Do(t.Context(), lock.Request{Store: shop, Run: uuid.New(), Owner: "the other daemon"}, func(ctx context.Context, _ lock.Grant) error {
		var held *httpapi.HeldError
		if err := retry(ctx); !errors.As(err, &held) || held.Holder != "the other daemon" {
			t.Errorf("%v, want LockHeld by the other daemon", err)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := postgres.NewPauses(r.site.DB).Begin(t.Context(), shop, time.Hour, "luis", "an upgrade"); err != nil {
		t.Fatal(err)
	}
	var paused *httpapi.PausedError
	if err := retry(t.Context()); !errors.As(err, &paused) {
		t.Errorf("%v, want the pause", err)
	}
	if err := NewDesk(r.Daemon, r.site.DB, nil, true).RetryOutbox(t.Context(), httpapi.OutboxRetry{Store: shop}); !errors.Is(err, httpapi.ErrObserving) {
		t.Errorf("%v, want ErrObserving", err)
	}
	if got := r.text(t, `SELECT status FROM outbox_entries`); got != "failed" {
		t.Errorf("the entry is %s", got)
	}
}

func TestWorkThatBreaksOffIsNoSuccess(t *testing.T) {
	r := start(t)
	err := r.errand(t.Context(), "duty", shop, func(context.Context, lock.Grant) error { panic("unheard of") })
	if !errors.Is(err, errBrokeOff) {
		t.Errorf("%v, want errBrokeOff", err)
	}
	if err := r.errand(t.Context(), "duty", shop, func(context.Context, lock.Grant) error { return nil }); err != nil {
		t.Errorf("the next: %v", err)
	}
}

func TestWhoStartsAndResetsIsInTheAudit(t *testing.T) {
	r := start(t, onDemand("heal", func(context.Context, lock.Grant, Handle) (Result, error) { return Result{Verdict: "healed"}, nil }))
	breaker := &line{}
	desk := r.desk(breaker)
	run, err := desk.Start(t.Context(), "heal", shop, "ana")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := desk.Start(t.Context(), "dance", shop, "ana"); !errors.Is(err, httpapi.ErrNoTask) {
		t.Errorf("%v, want ErrNoTask", err)
	}
	if b, err := desk.Breaker(t.Context(), shop); err != nil || b.State != "OPEN" || b.Failures != 5 || b.NextProbe == nil {
		t.Errorf("%+v, %v", b, err)
	}
	if err := desk.ResetBreaker(t.Context(), shop, "luis"); err != nil {
		t.Fatal(err)
	}
	if b, err := desk.Breaker(t.Context(), shop); err != nil || b.State != "CLOSED" || b.NextProbe != nil {
		t.Errorf("%+v, %v", b, err)
	}
	if got, want := r.text(t, audited), fmt.Sprintf("ana heal accepted %s; luis breaker reset reset OPEN", run); got != want {
		t.Errorf("audit: %s, want %s", got, want)
	}
}

func TestRunsUnderWayAreListedWithThosePast(t *testing.T) {
	begun, release := make(chan struct{}), make(chan struct{})
	r := start(t, onDemand("heal", func(context.Context, lock.Grant, Handle) (Result, error) {
		return Result{Verdict: "healed", Report: 1}, nil
	}),
		onDemand("reconcile", func(_ context.Context, _ lock.Grant, h Handle) (Result, error) {
			h.Progress("half")
			close(begun)
			<-release
			return Result{}, nil
		}))
	desk := r.desk(nil)
	past, err := desk.Start(t.Context(), "heal", shop, "ana")
	if err != nil {
		t.Fatal(err)
	}
	r.await(t, past)
	now, err := desk.Start(t.Context(), "reconcile", shop, "ana")
	if err != nil {
		t.Fatal(err)
	}
	<-begun
	list := func(task string, limit int) string {
		runs, err := desk.Runs(t.Context(), shop, task, limit)
		if err != nil {
			t.Fatal(err)
		}
		var lines []string
		for _, run := range runs {
			lines = append(lines, fmt.Sprintf("%s %s %s %v", run.ID, run.Task, run.State, run.Progress))
		}
		return strings.Join(lines, "; ")
	}
	running, ended := fmt.Sprintf("%s reconcile running half", now), fmt.Sprintf("%s heal succeeded <nil>", past)
	for _, c := range []struct {
		task  string
		limit int
		want  string
	}{{"", 10, running + "; " + ended}, {"heal", 10, ended}, {"reconcile", 10, running}, {"", 1, running}} {
		if got := list(c.task, c.limit); got != c.want {
			t.Errorf("%d of task %q: %s, want %s", c.limit, c.task, got, c.want)
		}
	}
	close(release)
	r.await(t, now)
	if got := list("reconcile", 10); got != fmt.Sprintf("%s reconcile succeeded <nil>", now) {
		t.Errorf("when it has ended: %s", got)
	}
}

func TestACallWithAKeyIsAnsweredTheSameAfterARestart(t *testing.T) {
	var ran atomic.Int64
	task := onDemand("heal", func(context.Context, lock.Grant, Handle) (Result, error) {
		ran.Add(1)
		return Result{Verdict: "healed"}, nil
	})
	r := start(t, task)
	ask := func(d *running, token string) *httptest.ResponseRecorder {
		api := httpapi.New(d.desk(nil), httpapi.Options{Tokens: func() ([]string, error) { return []string{"admin"}, nil }, Metrics: http.NotFoundHandler()})
		request := httptest.NewRequest("POST", "/sync/federation/heal", strings.NewReader(`{"store_id": "`+shop.String()+`"}`))
		for name, value := range map[string]string{"Authorization": "Bearer " + token, "Content-Type": "application/json", "Idempotency-Key": "k1", "X-Request-Id": "r1"} {
			request.Header.Set(name, value)
		}
		w := httptest.NewRecorder()
		api.ServeHTTP(w, request)
		return w
	}
	first := ask(r, "admin")
	r.stop()
	again := ask(startOn(t, r.site, task), "admin")
	if first.Code != 202 || again.Code != 202 || again.Body.String() != first.Body.String() || ran.Load() != 1 {
		t.Errorf("%d %s, then %d %s; it ran %d times", first.Code, first.Body, again.Code, again.Body, ran.Load())
	}
	if w := ask(r, "s3cret"); w.Code != 401 {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	got := r.text(t, `SELECT concat_ws(' ', actor, action, store_id, outcome, detail - 'remote'::text) FROM reconciled.audit WHERE outcome = 'refused'`)
	if want := `unauthenticated heal refused {"code": "UNAUTHORIZED", "field": "Authorization", "status": 401, "request": "r1"}`; got != want {
		t.Errorf("audit: %s, want %s", got, want)
	}
}
