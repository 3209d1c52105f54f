// Package lock serialises whatever changes a store's data, across processes and
// machines.
//
// Redis says who should work; the database decides who may write. A Locker asks
// the front (Redis) first, since that is cheap and queues nobody in the database,
// and then the fence (a row per store in Postgres), which respects an unexpired
// lease whoever holds it and hands out an epoch that grows with every grant.
// Every writing transaction checks that epoch and the holder's token, so a
// process that slept through its lease can do no harm when it wakes.
//
// What the package promises: at most one Do per store runs with a lease that can
// be proved; the context of a Do whose lease cannot be proved any more is
// cancelled with ErrLost as its cause; nothing is held for longer than the TTL
// after a crash.
package lock

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
)

var (
	// ErrHeld: another holder has an unexpired lease. The error is a *HeldError.
	ErrHeld = errors.New("lock held")
	// ErrLost: the lease could not be renewed in time; somebody else may hold it.
	ErrLost = errors.New("lease lost")
	// ErrFenced: the database refused a write because its epoch is not current.
	ErrFenced = errors.New("fenced: epoch is not current")
	// ErrGaveWay: work ended at a boundary of its own, unfinished, so that another
	// may have the lock. It goes on later from where the database stands.
	ErrGaveWay = errors.New("work gave way")
	// ErrFrontAway: the front cannot be reached, and the lock is configured not
	// to work under the fence alone.
	ErrFrontAway = errors.New("lock backend unreachable")
	// ErrPaused: a person has stopped all writing to the store for a while. The error
	// is a *PausedError.
	ErrPaused = errors.New("paused")
)

// Request says who wants to work on which store.
type Request struct {
	Store uuid.UUID
	Run   uuid.UUID
	Owner string // for people: host, pid and purpose
}

// Grant is the right to write to one store until it is lost. The database checks
// Epoch and Token at the start of every writing transaction.
type Grant struct {
	Store    uuid.UUID
	Run      uuid.UUID
	Epoch    int64
	Token    string // random, 128 bits in hex
	Degraded bool   // granted by the fence alone: the front was away
}

// HeldError names the holder that a Do ran into.
type HeldError struct {
	Store      uuid.UUID
	Owner      string        // "" when not known
	Run        uuid.UUID     // uuid.Nil when not known
	RetryAfter time.Duration // when the lease ends if nobody renews it
}

func (e *HeldError) Error() string {
	owner := e.Owner
	if owner == "" {
		owner = "another process"
	}
	return fmt.Sprintf("lock held: store %s by %s, try again in %s", e.Store, owner, e.RetryAfter.Round(time.Second))
}

// Is makes errors.Is(err, ErrHeld) true.
func (e *HeldError) Is(target error) bool { return target == ErrHeld }

// PausedError says who stopped the writing, and until when.
type PausedError struct {
	Store      uuid.UUID
	Until      time.Time // by the database's clock
	RetryAfter time.Duration
	By, Why    string
}

func (e *PausedError) Error() string {
	return fmt.Sprintf("store %s is paused until %s by %s: %s", e.Store, e.Until.UTC().Format(time.RFC3339), e.By, e.Why)
}

// Is makes errors.Is(err, ErrPaused) true.
func (e *PausedError) Is(target error) bool { return target == ErrPaused }

// Front is the first, cheap half of the lock.
type Front interface {
	// Obtain takes key for ttl. It fails with ErrHeld when another has it and
	// with ErrFrontAway when that cannot be known.
	Obtain(ctx context.Context, key string, ttl time.Duration) (Lease, error)
}

// Lease is a key that was obtained from a Front.
type Lease interface {
	// Refresh fails with ErrHeld when the key is no longer this lease's.
	Refresh(ctx context.Context, ttl time.Duration) error
	Release(ctx context.Context) error
}

// Fence is the second half, the one that the database enforces.
type Fence interface {
	// Grant increments the store's epoch unless an unexpired lease is held, in
	// which case it fails with a *HeldError.
	Grant(ctx context.Context, req Request, token string, ttl time.Duration) (epoch int64, err error)
	// Renew fails with ErrLost when grant is no longer the current one.
	Renew(ctx context.Context, grant Grant, ttl time.Duration) error
	Release(ctx context.Context, grant Grant) error
	// Holder describes the unexpired lease on a store; nil when there is none.
	Holder(ctx context.Context, store uuid.UUID) (*HeldError, error)
}
