package postgres_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/redis/go-redis/v9"

	"github.com/veloxpos/reconciled/internal/postgres"
	"github.com/veloxpos/reconciled/internal/postgres/postgrestest"
	"github.com/veloxpos/reconciled/internal/testkit"
	"github.com/veloxpos/reconciled/lock"
	"github.com/veloxpos/reconciled/lock/locktest"
	"github.com/veloxpos/reconciled/merkle/reconcile"
)

type quiet struct{}

func (quiet) Printf(context.Context, string, ...any) {}

func redisFront(tb testing.TB, addr string) lock.Front {
	tb.Helper()
	redis.SetLogger(quiet{})
	client := redis.NewClient(&redis.Options{Addr: addr, ContextTimeoutEnabled: true, MaxRetries: -1})
	tb.Cleanup(func() { _ = client.Close() })
	return lock.NewRedis(client)
}

func TestTheFenceAloneIsALock(t *testing.T) {
	locktest.Run(t, func(tb testing.TB) locktest.Rig {
		fence := postgres.NewFence(postgrestest.New(tb).DB)
		return locktest.Rig{Fence: fence, Locker: func(ttl time.Duration) *lock.Locker {
			return lock.New(nil, fence, lock.Options{TTL: ttl})
		}}
	})
}

func TestRedisBeforeTheFenceIsALock(t *testing.T) {
	locktest.Run(t, func(tb testing.TB) locktest.Rig {
		fence := postgres.NewFence(postgrestest.New(tb).DB)
		front := redisFront(tb, testkit.SharedRedis(tb).Addr())
		return locktest.Rig{Fence: fence, Locker: func(ttl time.Duration) *lock.Locker {
			return lock.New(front, fence, lock.Options{TTL: ttl})
		}}
	})
}

func TestWithoutRedisTheFenceAloneExcludes(t *testing.T) {
	locktest.Run(t, func(tb testing.TB) locktest.Rig {
		fence := postgres.NewFence(postgrestest.New(tb).DB)
		front := redisFront(tb, "127.0.0.1:1") // nobody listens there
		return locktest.Rig{Fence: fence, Locker: func(ttl time.Duration) *lock.Locker {
			return lock.New(front, fence, lock.Options{TTL: ttl})
		}}
	})
}

func TestADegradedGrantSaysSo(t *testing.T) {
	fence := postgres.NewFence(postgrestest.New(t).DB)
	away := redisFront(t, "127.0.0.1:1")
	req := lock.Request{Store: uuid.New(), Run: uuid.New()}
	err := lock.New(away, fence, lock.Options{}).Do(t.Context(), req, func(_ context.Context, grant lock.Grant) error {
		if !grant.Degraded {
			t.Error("the grant does not know that Redis is away")
		}
		// With Redis and without exclude each other: both take the fence.
		with := lock.New(redisFront(t, testkit.SharedRedis(t).Addr()), fence, lock.Options{})
		if err := with.Do(t.Context(), req, func(context.Context, lock.Grant) error { return nil }); !errors.Is(err, lock.ErrHeld) {
			t.Errorf("%v, want ErrHeld", err)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	strict := lock.New(away, fence, lock.Options{FrontRequired: true})
	err = strict.Do(t.Context(), req, func(context.Context, lock.Grant) error { t.Error("worked without Redis"); return nil })
	if !errors.Is(err, lock.ErrFrontAway) {
		t.Errorf("%v, want ErrFrontAway", err)
	}
}

// writing holds a fenced write open until release is called, and returns how it
// ended.
func writing(t *testing.T, s *postgrestest.Site, grant lock.Grant) (release func() error) {
	t.Helper()
	begun, done, ended := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	go func() {
		ended <- postgres.Fenced(s.DB, context.WithoutCancel(t.Context()), grant, func(ctx context.Context, tx pgx.Tx) error {
			close(begun)
			<-done
			_, err := tx.Exec(ctx, `INSERT INTO reconciled.audit (actor, action, store_id, outcome) VALUES ('test', 'write', $1, 'done')`, grant.Store)
			return err
		})
	}()
	select {
	case <-begun:
	case err := <-ended:
		t.Fatalf("the write did not begin: %v", err)
	}
	return func() error { close(done); return <-ended }
}

func audits(t *testing.T, s *postgrestest.Site) (n int) {
	t.Helper()
	if err := s.DB.Pool.QueryRow(t.Context(), `SELECT count(*) FROM reconciled.audit`).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

func grantNow(t *testing.T, s *postgrestest.Site, store uuid.UUID, ttl time.Duration) (lock.Grant, error) {
	t.Helper()
	grant := lock.Grant{Store: store, Run: uuid.New(), Token: uuid.NewString()}
	var err error
	grant.Epoch, err = postgres.NewFence(s.DB).Grant(t.Context(), lock.Request{Store: store, Run: grant.Run, Owner: "test"}, grant.Token, ttl)
	return grant, err
}

func TestI7TheNextGrantWaitsForAWriteInFlight(t *testing.T) {
	s := postgrestest.New(t)
	first, err := grantNow(t, s, shop, 0) // a lease that is over at once
	if err != nil {
		t.Fatal(err)
	}
	release := writing(t, s, first)
	second := make(chan lock.Grant, 1)
	go func() {
		grant, err := grantNow(t, s, shop, time.Minute)
		if err != nil {
			t.Error(err)
		}
		second <- grant
	}()
	testkit.Eventually(t, 20*time.Second, "the grant waits for the fence", func() bool { return waitsOn(t, s, "UPDATE reconciled.fence") })
	if err := release(); err != nil {
		t.Fatalf("the write in flight: %v", err)
	}
	if grant := <-second; grant.Epoch != first.Epoch+1 || audits(t, s) != 1 {
		t.Errorf("epoch %d after %d, %d writes", grant.Epoch, first.Epoch, audits(t, s))
	}
	err = postgres.Fenced(s.DB, t.Context(), first, func(context.Context, pgx.Tx) error { t.Error("a stale epoch wrote"); return nil })
	if !errors.Is(err, lock.ErrFenced) {
		t.Errorf("%v, want ErrFenced", err)
	}
}

func TestI7AFrozenWriterIsEndedAndWritesNothing(t *testing.T) {
	s := postgrestest.New(t)
	frozen, err := grantNow(t, s, shop, 0)
	if err != nil {
		t.Fatal(err)
	}
	release := writing(t, s, frozen) // and never goes on by itself
	if _, err := grantNow(t, s, shop, time.Minute); err != nil {
		t.Fatalf("the grant behind a frozen writer: %v", err)
	}
	if err := release(); err == nil {
		t.Error("the frozen writer's transaction was not ended")
	}
	if n := audits(t, s); n != 0 {
		t.Errorf("%d writes came through", n)
	}
}

func TestI7ALeaseFromAClockThatWasAheadIsTaken(t *testing.T) {
	s := postgrestest.New(t)
	ahead, err := grantNow(t, s, shop, lock.MaxTTL)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := grantNow(t, s, shop, time.Minute); !errors.Is(err, lock.ErrHeld) {
		t.Fatalf("a lease of the longest TTL: %v, want ErrHeld", err)
	}
	exec(t, s.DB.Pool, `UPDATE reconciled.lease SET expires_at = expires_at + interval '1 hour'`)
	if held, err := postgres.NewFence(s.DB).Holder(t.Context(), shop); held != nil || err != nil {
		t.Errorf("held by %+v, %v; want by nobody", held, err)
	}
	if _, err := grantNow(t, s, shop, time.Minute); err != nil {
		t.Fatalf("a lease from the future: %v, want a grant", err)
	}
	err = postgres.Fenced(s.DB, t.Context(), ahead, func(context.Context, pgx.Tx) error { t.Error("a holder that was robbed wrote"); return nil })
	if !errors.Is(err, lock.ErrFenced) {
		t.Errorf("%v, want ErrFenced", err)
	}
}

func TestI7ARestoredEpochDoesNotBringAnOldHolderBack(t *testing.T) {
	s := postgrestest.New(t)
	old, err := grantNow(t, s, shop, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := grantNow(t, s, shop, 0); err != nil {
		t.Fatal(err)
	}
	exec(t, s.DB.Pool, `UPDATE reconciled.fence SET epoch = $1`, old.Epoch) // the backup's
	err = postgres.Fenced(s.DB, t.Context(), old, func(context.Context, pgx.Tx) error { t.Error("an old token wrote"); return nil })
	if !errors.Is(err, lock.ErrFenced) {
		t.Errorf("%v, want ErrFenced", err)
	}
}

func TestI7AReleasedGrantWritesNoMore(t *testing.T) {
	s := postgrestest.New(t)
	grant, err := grantNow(t, s, shop, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	if err := postgres.NewFence(s.DB).Release(t.Context(), grant); err != nil {
		t.Fatal(err)
	}
	log := postgres.NewLog(s.DB)
	err = log.Except(t.Context(), grant, []reconcile.Outcome{{Event: uuid.New(), Status: reconcile.Refused}})
	if !errors.Is(err, lock.ErrFenced) {
		t.Errorf("%v, want ErrFenced", err)
	}
}
