// Package locktest is the conformance suite of lock.Locker: what every pair of
// front and fence must keep.
package locktest

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/veloxpos/reconciled/lock"
)

// Rig is a lock backend under test. Each Locker made from it stands for another
// process.
type Rig struct {
	Locker func(ttl time.Duration) *lock.Locker
	Fence  lock.Fence
}

// long is a TTL that no test outlives, short one that a test waits for.
const (
	long  = time.Minute
	short = 600 * time.Millisecond
)

// Run runs the suite; rig makes a fresh backend for each test.
func Run(t *testing.T, rig func(testing.TB) Rig) {
	for name, test := range map[string]func(*testing.T, Rig){
		"one works, the other is told who":                  oneWorks,
		"stores do not exclude each other":                  storesAreApart,
		"every grant has a higher epoch":                    epochsGrow,
		"at most one works at a time":                       atMostOne,
		"a lease is kept for as long as the work takes":     leaseIsKept,
		"a panic lets go":                                   panicLetsGo,
		"cancelled work lets go":                            cancelledWorkLetsGo,
		"a dead holder's lease ends with its TTL":           deadHolder,
		"work is cancelled once its lease cannot be proved": lostLease,
	} {
		t.Run(name, func(t *testing.T) { test(t, rig(t)) })
	}
}

func request(store uuid.UUID) lock.Request {
	return lock.Request{Store: store, Run: uuid.New(), Owner: "locktest"}
}

// do runs work and fails the test on any error.
func do(t *testing.T, l *lock.Locker, req lock.Request, work func(context.Context, lock.Grant)) {
	t.Helper()
	err := l.Do(t.Context(), req, func(ctx context.Context, grant lock.Grant) error {
		work(ctx, grant)
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

func oneWorks(t *testing.T, rig Rig) {
	holder, req := rig.Locker(long), request(uuid.New())
	do(t, holder, req, func(context.Context, lock.Grant) {
		err := rig.Locker(long).Do(t.Context(), request(req.Store), func(context.Context, lock.Grant) error {
			t.Error("two work on one store")
			return nil
		})
		var held *lock.HeldError
		if !errors.Is(err, lock.ErrHeld) || !errors.As(err, &held) {
			t.Fatalf("%v, want a HeldError", err)
		}
		if held.Owner != req.Owner || held.Run != req.Run || held.RetryAfter <= 0 || held.RetryAfter > long {
			t.Errorf("%+v, want owner %q, run %s and at most %s", held, req.Owner, req.Run, long)
		}
	})
	do(t, rig.Locker(long), request(req.Store), func(context.Context, lock.Grant) {})
}

func storesAreApart(t *testing.T, rig Rig) {
	l := rig.Locker(long)
	do(t, l, request(uuid.New()), func(context.Context, lock.Grant) {
		do(t, l, request(uuid.New()), func(context.Context, lock.Grant) {})
	})
}

func epochsGrow(t *testing.T, rig Rig) {
	store, last := uuid.New(), int64(0)
	for range 5 {
		do(t, rig.Locker(long), request(store), func(_ context.Context, grant lock.Grant) {
			if grant.Epoch <= last || len(grant.Token) != 32 {
				t.Errorf("epoch %d after %d, token of %d digits", grant.Epoch, last, len(grant.Token))
			}
			last = grant.Epoch
		})
	}
}

func atMostOne(t *testing.T, rig Rig) {
	store := uuid.New()
	var working, worked atomic.Int64
	var all sync.WaitGroup
	for range 8 {
		l := rig.Locker(long)
		all.Go(func() {
			for range 10 {
				err := l.Do(t.Context(), request(store), func(context.Context, lock.Grant) error {
					if working.Add(1) != 1 {
						t.Error("two work at once")
					}
					defer working.Add(-1)
					worked.Add(1)
					return nil
				})
				if err != nil && !errors.Is(err, lock.ErrHeld) {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	if worked.Load() == 0 {
		t.Error("nobody worked")
	}
}

func leaseIsKept(t *testing.T, rig Rig) {
	req := request(uuid.New())
	do(t, rig.Locker(short), req, func(ctx context.Context, grant lock.Grant) {
		select {
		case <-ctx.Done():
			t.Errorf("cancelled: %v", context.Cause(ctx))
		case <-time.After(3 * short):
		}
		err := rig.Locker(short).Do(t.Context(), request(req.Store), func(context.Context, lock.Grant) error { return nil })
		if !errors.Is(err, lock.ErrHeld) {
			t.Errorf("after three TTLs of work: %v, want ErrHeld", err)
		}
	})
}

func panicLetsGo(t *testing.T, rig Rig) {
	l, store := rig.Locker(long), uuid.New()
	func() {
		defer func() {
			if recover() == nil {
				t.Error("the panic was swallowed")
			}
		}()
		_ = l.Do(t.Context(), request(store), func(context.Context, lock.Grant) error { panic("work") })
	}()
	do(t, l, request(store), func(context.Context, lock.Grant) {})
}

func cancelledWorkLetsGo(t *testing.T, rig Rig) {
	l, store := rig.Locker(long), uuid.New()
	ctx, cancel := context.WithCancel(t.Context())
	err := l.Do(ctx, request(store), func(ctx context.Context, _ lock.Grant) error {
		cancel()
		<-ctx.Done()
		return ctx.Err()
	})
	if !errors.Is(err, context.Canceled) || errors.Is(err, lock.ErrLost) {
		t.Errorf("%v, want context.Canceled alone", err)
	}
	do(t, l, request(store), func(context.Context, lock.Grant) {})
}

func deadHolder(t *testing.T, rig Rig) {
	req := request(uuid.New())
	if _, err := rig.Fence.Grant(t.Context(), req, "dead", short); err != nil {
		t.Fatal(err)
	}
	l := rig.Locker(long)
	deadline := time.Now().Add(20 * time.Second)
	for tries := 0; ; tries++ {
		err := l.Do(t.Context(), request(req.Store), func(context.Context, lock.Grant) error { return nil })
		switch {
		case err == nil && tries == 0:
			t.Error("an unexpired lease was not respected")
			return
		case err == nil:
			return
		case !errors.Is(err, lock.ErrHeld) || time.Now().After(deadline):
			t.Fatalf("%v", err)
		}
		<-time.After(short / 10)
	}
}

func lostLease(t *testing.T, rig Rig) {
	store := uuid.New()
	var stolen lock.Grant
	err := rig.Locker(short).Do(t.Context(), request(store), func(ctx context.Context, grant lock.Grant) error {
		// What a restore from backup or an operator's hand would do.
		if err := rig.Fence.Release(ctx, grant); err != nil {
			t.Fatal(err)
		}
		stolen = grant
		<-ctx.Done()
		return ctx.Err()
	})
	if !errors.Is(err, lock.ErrLost) {
		t.Errorf("%v, want ErrLost", err)
	}
	if err := rig.Fence.Renew(t.Context(), stolen, long); !errors.Is(err, lock.ErrLost) {
		t.Errorf("renewing a lost lease: %v, want ErrLost", err)
	}
}
