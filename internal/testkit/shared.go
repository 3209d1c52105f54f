package testkit

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// startTimeout bounds the start of a shared server on a loaded machine.
const startTimeout = 2 * time.Minute

// once starts a server for the first test that asks, and closes it for Main.
type once[T interface{ Close() error }] struct {
	mu      sync.Mutex
	started bool
	server  T
	err     error
}

func (o *once[T]) get(tb testing.TB, start func(context.Context) (T, error)) T {
	tb.Helper()
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.started {
		ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
		defer cancel()
		o.server, o.err = start(ctx)
		o.started = true
	}
	if o.err != nil {
		tb.Fatal(o.err)
	}
	return o.server
}

func (o *once[T]) close() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.started || o.err != nil {
		return nil
	}
	o.started = false
	return o.server.Close()
}

// One of each for the tests of a process; Main closes them.
var (
	sharedPostgres     once[*Postgres]
	sharedRedis        once[*Redis]
	sharedAlertmanager once[*Alertmanager]
)

// Shared is the cluster that all tests of a process share, started for the
// first that asks. A test takes a database of its own in it.
func Shared(tb testing.TB) *Postgres {
	tb.Helper()
	return sharedPostgres.get(tb, func(ctx context.Context) (*Postgres, error) {
		return StartPostgres(ctx, PostgresOptions{})
	})
}

// SharedRedis is the Redis server that all tests of a process share. A test
// takes keys of its own in it.
func SharedRedis(tb testing.TB) *Redis {
	tb.Helper()
	return sharedRedis.get(tb, func(ctx context.Context) (*Redis, error) {
		return StartRedis(ctx, RedisOptions{})
	})
}

// SharedAlertmanager is the Alertmanager that all tests of a process share. A test
// posts alerts of a store of its own.
func SharedAlertmanager(tb testing.TB) *Alertmanager {
	tb.Helper()
	return sharedAlertmanager.get(tb, StartAlertmanager)
}

// Main runs the tests of a package, closes what they shared, and fails when a
// goroutine is left over:
//
//	func TestMain(m *testing.M) { os.Exit(testkit.Main(m)) }
func Main(m *testing.M) int {
	code := m.Run()
	if err := errors.Join(sharedPostgres.close(), sharedRedis.close(), sharedAlertmanager.close()); err != nil {
		fmt.Fprintln(os.Stderr, "testkit: close shared servers:", err)
		code = max(code, 1)
	}
	if code != 0 {
		return code
	}
	if err := goleak.Find(); err != nil {
		fmt.Fprintln(os.Stderr, "testkit: goroutines left over:", err)
		return 1
	}
	return 0
}

// Eventually polls holds until it is true, and fails the test when it still is
// not after timeout; what names the thing waited for.
func Eventually(tb testing.TB, timeout time.Duration, what string, holds func() bool) {
	tb.Helper()
	tick := time.NewTicker(2 * pollEvery)
	defer tick.Stop()
	for deadline := time.Now().Add(timeout); !holds(); <-tick.C {
		if time.Now().After(deadline) {
			tb.Fatalf("not within %v: %s", timeout, what)
		}
	}
}
