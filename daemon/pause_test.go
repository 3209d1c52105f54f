package daemon

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/robfig/cron/v3"
	"go.uber.org/zap"

	"github.com/veloxpos/reconciled/internal/health"
	"github.com/veloxpos/reconciled/internal/httpapi"
	"github.com/veloxpos/reconciled/internal/postgres"
	"github.com/veloxpos/reconciled/internal/postgres/postgrestest"
	"github.com/veloxpos/reconciled/internal/testkit"
	"github.com/veloxpos/reconciled/lock"
)

// startWatched is a daemon with a monitor on a store, which looks at pauses.
func startWatched(t *testing.T, site *postgrestest.Site, mode health.Mode, tasks func(*Monitor) []*Task) *running {
	t.Helper()
	r := &running{site: site, fence: postgres.NewFence(site.DB), ended: make(chan struct{})}
	r.locker = lock.New(nil, r.fence, lock.Options{})
	runs := postgres.NewRuns(site.DB)
	monitor := NewMonitor(postgres.NewHealth(postgres.NewLog(site.DB)), runs, MonitorOptions{Mode: mode})
	r.Daemon = New(r.locker, runs, monitor, tasks(monitor), zap.NewNop(), Options{
		Stores: site.DB.Stores, Owner: "daemon under test", Ping: site.DB.Pool.Ping, Drain: 5 * time.Second, Paused: postgres.NewPauses(site.DB).Check,
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

func (r *running) count(t *testing.T, sql string) (n int) {
	t.Helper()
	if err := r.site.DB.Pool.QueryRow(t.Context(), sql).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

const (
	keptRuns  = `SELECT count(*) FROM reconciled.run WHERE task = 'duty'`
	snapshots = `SELECT count(*) FROM federation_health_snapshots`
)

func TestAPausedStoreIsLeftAloneAndSaysSo(t *testing.T) {
	site := postgrestest.New(t)
	site.AddStore(t, shop)
	pauses := postgres.NewPauses(site.DB)
	if _, err := pauses.Begin(t.Context(), shop, time.Hour, "ana", "an upgrade"); err != nil {
		t.Fatal(err)
	}
	var ran atomic.Int64
	r := startWatched(t, site, health.Normal, func(m *Monitor) []*Task {
		return []*Task{
			{Name: "duty", Schedule: cron.Every(time.Hour), Work: func(context.Context, lock.Grant, Handle) (Result, error) { ran.Add(1); return Result{}, nil }},
			Snapshot(m, cron.Every(time.Hour), postgres.NewAlerts(site.DB).Tidy),
		}
	})
	testkit.Eventually(t, 20*time.Second, "health says that it is paused", func() bool {
		report, ok := r.monitor.Latest(shop)
		return ok && report.Mode == health.Paused && report.OverallHealth == health.Degraded
	})
	_, err := r.Start(t.Context(), "duty", shop)
	var paused *httpapi.PausedError
	if !errors.As(err, &paused) || paused.Until.Before(time.Now()) || paused.RetryAfter <= 0 {
		t.Errorf("%v, want the pause", err)
	}
	id, err := r.Start(t.Context(), TaskSnapshot, shop)
	if err != nil {
		t.Fatal(err)
	}
	if run := r.await(t, id); run.State != "succeeded" {
		t.Errorf("the snapshot %s: %s", run.State, run.Error)
	}
	if ran.Load() != 0 || r.count(t, keptRuns) != 0 || r.count(t, snapshots) != 0 {
		t.Errorf("in a pause it worked %d times, kept %d runs and %d snapshots", ran.Load(), r.count(t, keptRuns), r.count(t, snapshots))
	}
	if err := pauses.End(t.Context(), shop, "ana"); err != nil {
		t.Fatal(err)
	}
	if id, err = r.Start(t.Context(), "duty", shop); err != nil {
		t.Fatal(err)
	}
	r.await(t, id)
	testkit.Eventually(t, 20*time.Second, "health says that it goes on", func() bool {
		report, _ := r.monitor.Latest(shop)
		return ran.Load() == 1 && report.Mode == health.Normal
	})
}

func TestARunThatMeetsAPauseIsInterruptedQuietly(t *testing.T) {
	site := postgrestest.New(t)
	site.AddStore(t, shop)
	pause := fmt.Errorf("write rows: %w", &lock.PausedError{Store: shop, Until: time.Now().Add(time.Hour), By: "ana", Why: "x"})
	var ran atomic.Int64
	r := startOn(t, site, &Task{Name: "duty", Schedule: cron.Every(time.Hour), Work: func(context.Context, lock.Grant, Handle) (Result, error) {
		ran.Add(1)
		return Result{}, pause
	}})
	testkit.Eventually(t, 20*time.Second, "it has run", func() bool { return ran.Load() == 1 && r.worker(shop).busy() == nil })
	if n := r.count(t, keptRuns); n != 0 {
		t.Errorf("%d runs kept", n)
	}
	id, err := r.Start(t.Context(), "duty", shop)
	if err != nil {
		t.Fatal(err)
	}
	if run := r.await(t, id); run.State != "interrupted" {
		t.Errorf("a request's run %s: %s, want interrupted", run.State, run.Error)
	}
}

func TestObservingComparesAndMovesNothing(t *testing.T) {
	client, there := remoteOf(t)
	site := postgrestest.New(t)
	site.AddStore(t, shop)
	trade(t, site, 3)
	r := startWatched(t, site, health.Observe, func(m *Monitor) []*Task {
		return []*Task{Compare(postgres.NewLog(site.DB), client, nil), Snapshot(m, nil, postgres.NewAlerts(site.DB).Tidy)}
	})
	id, err := r.Start(t.Context(), TaskReconcile, shop)
	if err != nil {
		t.Fatal(err)
	}
	if run := r.await(t, id); run.State != "succeeded" || run.Verdict != "differs" {
		t.Errorf("%+v", run)
	}
	var moved int
	if err := there.DB.Pool.QueryRow(t.Context(), `SELECT count(*) FROM events`).Scan(&moved); err != nil || moved != 0 {
		t.Errorf("%d events at central, %v", moved, err)
	}
	if id, err = r.Start(t.Context(), TaskSnapshot, shop); err != nil {
		t.Fatal(err)
	}
	r.await(t, id)
	if report, _ := r.monitor.Latest(shop); report.Mode != health.Observe || r.count(t, snapshots) != 0 {
		t.Errorf("mode %s, %d snapshots kept", report.Mode, r.count(t, snapshots))
	}
}
