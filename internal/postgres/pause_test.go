package postgres_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/veloxpos/reconciled/internal/health"
	"github.com/veloxpos/reconciled/internal/postgres"
	"github.com/veloxpos/reconciled/internal/postgres/postgrestest"
	"github.com/veloxpos/reconciled/internal/testkit"
	"github.com/veloxpos/reconciled/internal/velox"
	"github.com/veloxpos/reconciled/lock"
)

func nothing(context.Context, pgx.Tx) error { return nil }

func TestNobodyWritesWhileAStoreIsPaused(t *testing.T) {
	site := postgrestest.New(t)
	site.AddStore(t, shop)
	site.AddStore(t, id("other store"))
	ctx, pauses, log := t.Context(), postgres.NewPauses(site.DB), postgres.NewLog(site.DB)
	grant, other := site.Grant(t, shop), site.Grant(t, id("other store"))
	if pause, err := pauses.Get(ctx, shop); err != nil || pause != nil {
		t.Fatalf("%v, %v before", pause, err)
	}
	if err := pauses.End(ctx, shop, "ana"); !errors.Is(err, postgres.ErrNotPaused) {
		t.Errorf("%v, want ErrNotPaused", err)
	}
	pause, err := pauses.Begin(ctx, shop, time.Hour, "ana", "an upgrade")
	if err != nil || pause.By != "ana" || pause.Why != "an upgrade" || pause.RetryAfter < 59*time.Minute {
		t.Fatalf("%+v, %v", pause, err)
	}
	events := []velox.Event{{ID: uuid.New(), Store: shop, Device: shop, Type: velox.StockReceived, Version: 1, Payload: []byte(`{}`)}}
	write := func() map[string]error {
		_, ingested := log.Ingest(ctx, grant, uuid.New(), events)
		_, accepted := log.Accept(ctx, shop, uuid.New(), events)
		return map[string]error{"fenced": postgres.Fenced(site.DB, ctx, grant, nothing), "ingest": ingested, "accept": accepted, "check": pauses.Check(ctx, shop)}
	}
	for what, err := range write() {
		var paused *lock.PausedError
		if !errors.Is(err, lock.ErrPaused) || !errors.As(err, &paused) || paused.Why != "an upgrade" {
			t.Errorf("%s: %v, want ErrPaused", what, err)
		}
	}
	if err := postgres.Fenced(site.DB, ctx, other, nothing); err != nil {
		t.Errorf("another store: %v", err)
	}
	s := health.Snapshot{Store: shop}
	if err := postgres.NewHealth(log).Measure(ctx, shop, &s); err != nil || s.Pause == nil || s.Pause.By != "ana" {
		t.Errorf("health sees %+v, %v", s.Pause, err)
	}
	if err := pauses.End(ctx, shop, "luis"); err != nil {
		t.Fatal(err)
	}
	for what, err := range write() {
		if err != nil {
			t.Errorf("%s after the end: %v", what, err)
		}
	}
	var audits string
	err = site.DB.Pool.QueryRow(ctx, `SELECT string_agg(concat_ws(' ', actor, outcome, detail ->> 'why'), ', ' ORDER BY id) FROM reconciled.audit`).Scan(&audits)
	if err != nil || audits != "ana paused an upgrade, luis ended an upgrade" {
		t.Errorf("audit %q, %v", audits, err)
	}
}

func TestAPauseEndsByItself(t *testing.T) {
	site := postgrestest.New(t)
	site.AddStore(t, shop)
	pauses, grant := postgres.NewPauses(site.DB), site.Grant(t, shop)
	if _, err := pauses.Begin(t.Context(), shop, 300*time.Millisecond, "ana", "x"); err != nil {
		t.Fatal(err)
	}
	if err := postgres.Fenced(site.DB, t.Context(), grant, nothing); !errors.Is(err, lock.ErrPaused) {
		t.Errorf("%v, want ErrPaused", err)
	}
	testkit.Eventually(t, 10*time.Second, "the pause is over", func() bool { return postgres.Fenced(site.DB, t.Context(), grant, nothing) == nil })
}

// A pause that has begun has seen the last write: it waits for those in flight, and no
// later one passes it.
func TestAPauseWaitsForWritesInFlight(t *testing.T) {
	for name, write := range map[string]func(*postgrestest.Site, lock.Grant, func(context.Context, pgx.Tx) error) error{
		"fenced": func(site *postgrestest.Site, grant lock.Grant, do func(context.Context, pgx.Tx) error) error {
			return postgres.Fenced(site.DB, t.Context(), grant, do)
		},
		"ingest": func(site *postgrestest.Site, _ lock.Grant, do func(context.Context, pgx.Tx) error) error {
			return postgres.Accepting(site.DB, t.Context(), shop, do)
		},
	} {
		t.Run(name, func(t *testing.T) {
			site := postgrestest.New(t)
			site.AddStore(t, shop)
			grant, pauses := site.Grant(t, shop), postgres.NewPauses(site.DB)
			super, err := pgxpool.New(t.Context(), site.Server.URL("postgres", site.Name)) // who sees what others wait for
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(super.Close)
			writing, finish, written, paused := make(chan struct{}), make(chan struct{}), make(chan error, 1), make(chan error, 1)
			end := sync.OnceFunc(func() { close(finish) })
			t.Cleanup(end)
			go func() {
				written <- write(site, grant, func(context.Context, pgx.Tx) error { close(writing); <-finish; return nil })
			}()
			<-writing
			go func() {
				_, err := pauses.Begin(t.Context(), shop, time.Hour, "ana", "x")
				paused <- err
			}()
			testkit.Eventually(t, 10*time.Second, "the pause waits", func() bool {
				var found int
				err := super.QueryRow(t.Context(), `SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`).Scan(&found)
				return err == nil && found == 1
			})
			if err := write(site, grant, nothing); !errors.Is(err, lock.ErrPaused) {
				t.Errorf("a write while the pause waits: %v", err)
			}
			end()
			if err := <-written; err != nil {
				t.Errorf("the write in flight: %v", err)
			}
			if err := <-paused; err != nil {
				t.Errorf("the pause: %v", err)
			}
			if err := write(site, grant, nothing); !errors.Is(err, lock.ErrPaused) {
				t.Errorf("a write in the pause: %v", err)
			}
		})
	}
}
