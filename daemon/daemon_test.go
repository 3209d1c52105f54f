package daemon

import (
	"context"
	"errors"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/robfig/cron/v3"
	"go.uber.org/zap"

	"github.com/veloxpos/reconciled/internal/httpapi"
	"github.com/veloxpos/reconciled/internal/postgres"
	"github.com/veloxpos/reconciled/internal/postgres/postgrestest"
	"github.com/veloxpos/reconciled/internal/testkit"
	"github.com/veloxpos/reconciled/lock"
)

func TestMain(m *testing.M) { os.Exit(testkit.Main(m)) }

var shop = uuid.MustParse("11111111-1111-4111-8111-111111111111")

// running is a daemon on a database of its own, stopped with the test.
type running struct {
	*Daemon
	site   *postgrestest.Site
	fence  *postgres.Fence
	stop   func()
	ended  chan struct{}
	locker *lock.Locker
}

func start(t *testing.T, tasks ...*Task) *running {
	t.Helper()
	site := postgrestest.New(t)
	site.AddStore(t, shop)
	return startOn(t, site, tasks...)
}

func startOn(t *testing.T, site *postgrestest.Site, tasks ...*Task) *running {
	t.Helper()
	r := &running{site: site, fence: postgres.NewFence(site.DB), ended: make(chan struct{})}
	r.locker = lock.New(nil, r.fence, lock.Options{})
	r.Daemon = New(r.locker, postgres.NewRuns(site.DB), nil, tasks, zap.NewNop(), Options{
		Stores: site.DB.Stores, Owner: "daemon under test", Ping: site.DB.Pool.Ping, Drain: 5 * time.Second,
	})
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	go func() {
		defer close(r.ended)
		if err := r.Serve(ctx); err != nil {
			t.Error(err)
		}
	}()
	r.stop = func() { cancel(); <-r.ended }
	t.Cleanup(r.stop)
	testkit.Eventually(t, 20*time.Second, "the daemon is ready", func() bool { return r.Ready(t.Context()) == nil })
	return r
}

// onDemand is a task without a schedule.
func onDemand(name string, work func(context.Context, lock.Grant, Handle) (Result, error)) *Task {
	return &Task{Name: name, Work: work}
}

// await polls a run until it has ended.
func (r *running) await(t *testing.T, id uuid.UUID) httpapi.Run {
	t.Helper()
	var run httpapi.Run
	testkit.Eventually(t, 20*time.Second, "the run ends", func() bool {
		var err error
		run, err = r.Daemon.Run(t.Context(), id)
		return err == nil && run.State != "running"
	})
	return run
}

func TestATaskRunsAtStartAndIsKept(t *testing.T) {
	var ran atomic.Int64
	r := start(t, &Task{Name: "duty", Schedule: cron.Every(time.Hour), Work: func(context.Context, lock.Grant, Handle) (Result, error) {
		ran.Add(1)
		return Result{Verdict: "done", Report: map[string]int{"checked": 3}}, nil
	}})
	testkit.Eventually(t, 20*time.Second, "the task has run once", func() bool { return ran.Load() == 1 })
	testkit.Eventually(t, 20*time.Second, "its run is kept", func() bool {
		last, success, err := r.runs.Last(t.Context(), shop, "duty")
		return err == nil && last.Verdict == "done" && success.ID == last.ID && string(last.Report) == `{"checked": 3}`
	})
}

func TestARequestGetsItsRunAndItsReport(t *testing.T) {
	r := start(t, onDemand("duty", func(_ context.Context, grant lock.Grant, h Handle) (Result, error) {
		if grant.Store != shop || grant.Run != h.Run {
			t.Errorf("grant %+v of run %s", grant, h.Run)
		}
		return Result{Verdict: "done"}, nil
	}))
	id, err := r.Start(t.Context(), "duty", shop)
	if err != nil {
		t.Fatal(err)
	}
	if run := r.await(t, id); run.State != "succeeded" || run.Verdict != "done" {
		t.Errorf("%+v", run)
	}
	if _, err := r.Start(t.Context(), "duty", uuid.New()); !errors.Is(err, httpapi.ErrUnknownStore) {
		t.Errorf("%v, want ErrUnknownStore", err)
	}
	if _, err := r.Start(t.Context(), "dusty", shop); !errors.Is(err, httpapi.ErrNoTask) {
		t.Errorf("%v, want ErrNoTask", err)
	}
	if _, err := r.Daemon.Run(t.Context(), uuid.New()); !errors.Is(err, httpapi.ErrUnknownRun) {
		t.Errorf("%v, want ErrUnknownRun", err)
	}
}

func TestARequestIsToldWhoHoldsTheLock(t *testing.T) {
	r := start(t, onDemand("duty", func(context.Context, lock.Grant, Handle) (Result, error) {
		t.Error("worked without the lock")
		return Result{}, nil
	}))
	req := lock.Request{Store: shop, Run: uuid.New(), Owner: "the other daemon"}
	err := r.locker.Do(t.Context(), req, func(ctx context.Context, _ lock.Grant) error {
		_, err := r.Start(ctx, "duty", shop)
		var held *httpapi.HeldError
		if !errors.As(err, &held) || held.Holder != req.Owner || held.Run != req.Run || held.RetryAfter <= 0 {
			t.Errorf("%v, want LockHeld by the other daemon", err)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

func TestTriggersOfAWaitingTaskCoalesce(t *testing.T) {
	release := make(chan struct{})
	var ran atomic.Int64
	r := start(t, onDemand("slow", func(context.Context, lock.Grant, Handle) (Result, error) { <-release; return Result{}, nil }),
		onDemand("duty", func(context.Context, lock.Grant, Handle) (Result, error) { ran.Add(1); return Result{}, nil }))
	if _, err := r.Start(t.Context(), "slow", shop); err != nil {
		t.Fatal(err)
	}
	w := r.worker(shop)
	first := w.submit(r.task("duty"), BySchedule)
	for range 5 {
		if w.submit(r.task("duty"), BySchedule) != first {
			t.Error("a task was queued twice")
		}
	}
	close(release)
	<-first.began
	testkit.Eventually(t, 20*time.Second, "the worker is idle", func() bool { return w.busy() == nil })
	if n := ran.Load(); n != 1 {
		t.Errorf("six triggers made %d runs, want 1", n)
	}
}

func TestAPanicIsAFailedRunAndNothingElse(t *testing.T) {
	r := start(t, onDemand("duty", func(context.Context, lock.Grant, Handle) (Result, error) { panic("unheard of") }))
	for range 2 { // the second shows that the lock was released and the worker lives
		id, err := r.Start(t.Context(), "duty", shop)
		if err != nil {
			t.Fatal(err)
		}
		if run := r.await(t, id); run.State != "failed" || run.Error == "" {
			t.Errorf("%+v", run)
		}
	}
}

// A job that panicked must run again at its next tick: Recover has to lie within
// SkipIfStillRunning, or the job counts as running for ever.
func TestTheChainSurvivesAPanic(t *testing.T) {
	ran := 0
	job := cron.NewChain(chain(zap.NewNop())...).Then(cron.FuncJob(func() { ran++; panic("once more") }))
	job.Run()
	job.Run()
	if ran != 2 {
		t.Errorf("the job ran %d times, want 2", ran)
	}
	wrong := chain(zap.NewNop())
	wrong[0], wrong[1] = wrong[1], wrong[0]
	ran = 0
	job = cron.NewChain(wrong...).Then(cron.FuncJob(func() { ran++; panic("once") }))
	job.Run()
	job.Run()
	if ran != 1 {
		t.Errorf("the other order ran the job %d times: this test proves nothing any more", ran)
	}
}

func TestALongTaskGivesWayAndGoesOnAsTheSameRun(t *testing.T) {
	begun := make(chan struct{})
	var once sync.Once
	var tries atomic.Int64
	r := start(t, onDemand("long", func(_ context.Context, _ lock.Grant, h Handle) (Result, error) {
		if tries.Add(1) > 1 {
			if h.Earlier != "half" {
				t.Errorf("the second part knows of %v", h.Earlier)
			}
			return Result{Verdict: "done"}, nil
		}
		once.Do(func() { close(begun) })
		testkit.Eventually(t, 20*time.Second, "the task is asked to stop", h.Stop)
		return Result{Report: "half"}, lock.ErrGaveWay
	}), onDemand("short", func(context.Context, lock.Grant, Handle) (Result, error) { return Result{}, nil }))
	long, err := r.Start(t.Context(), "long", shop)
	if err != nil {
		t.Fatal(err)
	}
	<-begun
	short, err := r.Start(t.Context(), "short", shop)
	if err != nil {
		t.Fatalf("the short task had to wait for the long one: %v", err)
	}
	if run := r.await(t, short); run.State != "succeeded" {
		t.Errorf("%+v", run)
	}
	if run := r.await(t, long); run.Verdict != "done" || tries.Load() != 2 {
		t.Errorf("%+v after %d tries", run, tries.Load())
	}
}

func TestTwoLongTasksDoNotGiveWayToEachOtherForEver(t *testing.T) {
	var pages atomic.Int64
	long := func(name string) *Task {
		return onDemand(name, func(_ context.Context, _ lock.Grant, h Handle) (Result, error) {
			done, _ := h.Earlier.(int)
			for ; done < 5; done++ {
				if h.Stop() {
					return Result{Report: done}, lock.ErrGaveWay
				}
				pages.Add(1)
			}
			return Result{Verdict: "done"}, nil
		})
	}
	gate := make(chan struct{})
	r := start(t, long("a"), long("b"), onDemand("gate", func(context.Context, lock.Grant, Handle) (Result, error) { <-gate; return Result{}, nil }))
	if _, err := r.Start(t.Context(), "gate", shop); err != nil {
		t.Fatal(err)
	}
	w := r.worker(shop)
	a, b := w.submit(r.task("a"), ByAPI), w.submit(r.task("b"), ByAPI)
	close(gate)
	for _, o := range []*order{a, b} {
		if run := r.await(t, o.run.ID); run.Verdict != "done" {
			t.Errorf("%+v", run)
		}
	}
	if n := pages.Load(); n != 10 {
		t.Errorf("the two tasks worked %d pages, want 10", n)
	}
}

func TestARequestForWhatIsUnderWayIsToldItsRun(t *testing.T) {
	gate := make(chan struct{})
	r := start(t, onDemand("duty", func(context.Context, lock.Grant, Handle) (Result, error) { <-gate; return Result{}, nil }))
	id, err := r.Start(t.Context(), "duty", shop)
	if err != nil {
		t.Fatal(err)
	}
	_, err = r.Start(t.Context(), "duty", shop)
	var held *httpapi.HeldError
	if !errors.As(err, &held) || held.Run != id {
		t.Errorf("%v, want LockHeld by run %s", err, id)
	}
	close(gate)
}

func TestRequestsThatShareAWaitingTaskAreAllAnswered(t *testing.T) {
	gate := make(chan struct{})
	var ran atomic.Int64
	r := start(t, onDemand("gate", func(context.Context, lock.Grant, Handle) (Result, error) { <-gate; return Result{}, nil }),
		onDemand("duty", func(context.Context, lock.Grant, Handle) (Result, error) { ran.Add(1); return Result{}, nil }))
	blocking, err := r.Start(t.Context(), "gate", shop)
	if err != nil {
		t.Fatal(err)
	}
	answers := make(chan error, 2)
	for range cap(answers) {
		go func() { _, err := r.Start(t.Context(), "duty", shop); answers <- err }()
	}
	for range cap(answers) {
		var held *httpapi.HeldError
		if err := <-answers; !errors.As(err, &held) || held.Run != blocking {
			t.Errorf("%v, want LockHeld by run %s", err, blocking)
		}
	}
	close(gate)
	r.await(t, blocking)
	if n := ran.Load(); n != 0 {
		t.Errorf("a task that was refused ran %d times", n)
	}
}

func TestAStopEndsTheTaskAtItsPageAndReleasesTheLock(t *testing.T) {
	begun := make(chan struct{})
	r := start(t, onDemand("long", func(ctx context.Context, _ lock.Grant, h Handle) (Result, error) {
		close(begun)
		testkit.Eventually(t, 20*time.Second, "the task is asked to stop", h.Stop)
		return Result{}, errors.Join(ctx.Err(), lock.ErrGaveWay)
	}))
	id, err := r.Start(t.Context(), "long", shop)
	if err != nil {
		t.Fatal(err)
	}
	<-begun
	r.stop()
	run, found, err := r.runs.Get(t.Context(), id)
	if err != nil || !found || run.State != "interrupted" {
		t.Errorf("%+v, %v", run, err)
	}
	if held, err := r.fence.Holder(t.Context(), shop); held != nil || err != nil {
		t.Errorf("the lock is still held: %v, %v", held, err)
	}
	if err := r.Ready(t.Context()); err == nil {
		t.Error("a stopped daemon says it is ready")
	}
}

func TestARunWhoseProcessDiedIsMarkedAtTheNextStart(t *testing.T) {
	site := postgrestest.New(t)
	site.AddStore(t, shop)
	runs := postgres.NewRuns(site.DB)
	dead := postgres.Run{ID: uuid.New(), Task: "reconcile", Store: shop, Trigger: ByAPI, State: "running", Started: time.Now().Add(-time.Minute)}
	if err := runs.Save(t.Context(), dead); err != nil {
		t.Fatal(err)
	}
	if err := runs.Tidy(t.Context(), shop); err != nil {
		t.Fatal(err)
	}
	if run, _, err := runs.Get(t.Context(), dead.ID); err != nil || run.State != "interrupted" || run.Error == "" {
		t.Errorf("%+v, %v", run, err)
	}
}

func TestStoresAreSpreadOverTheMinute(t *testing.T) {
	offsets := map[time.Duration]bool{}
	for range 100 {
		at := offsetOf(uuid.New(), cron.Every(10*time.Minute))
		if at < 0 || at >= time.Minute {
			t.Errorf("offset %s is not within a minute", at)
		}
		offsets[at] = true
	}
	if len(offsets) < 50 {
		t.Errorf("100 stores share %d offsets", len(offsets))
	}
	noon := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	hourly, err := cron.ParseStandard("0 * * * *")
	if err != nil {
		t.Fatal(err)
	}
	s := spread{hourly, 20 * time.Second}
	if got := s.Next(noon); !got.Equal(noon.Add(20 * time.Second)) {
		t.Errorf("next after %s is %s", noon, got)
	}
	every := spread{cron.Every(10 * time.Minute), 20 * time.Second}
	for _, now := range []time.Time{noon, noon.Add(19 * time.Second), noon.Add(-9 * time.Minute)} {
		if got := every.Next(now); !got.Equal(noon.Add(20 * time.Second)) {
			t.Errorf("next after %s is %s", now, got)
		}
	}
}
