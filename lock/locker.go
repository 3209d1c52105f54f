package lock

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
)

const (
	// DefaultTTL is how long a lease outlives its holder.
	DefaultTTL = 30 * time.Second
	// MaxTTL is the longest TTL. A lease that ends later is from a clock that was ahead.
	MaxTTL = 10 * time.Minute
)

// Options of a Locker.
type Options struct {
	TTL time.Duration // DefaultTTL when zero
	// FrontRequired makes Do fail with ErrFrontAway where it would otherwise go
	// on under the fence alone.
	FrontRequired bool
}

// Locker runs work under the lock. It is safe for concurrent use.
type Locker struct {
	front Front // nil: fence alone, by configuration
	fence Fence
	opts  Options
}

// New builds a Locker. front may be nil: the fence alone then excludes.
func New(front Front, fence Fence, opts Options) *Locker {
	if opts.TTL == 0 {
		opts.TTL = DefaultTTL
	}
	return &Locker{front: front, fence: fence, opts: opts}
}

// Key is the front's key for a store.
func Key(store uuid.UUID) string { return "velox:reconcile:" + store.String() }

// Do runs work while this process holds the store's lock, and returns work's
// error. It fails at once with a *HeldError when another holds it. The context
// that work gets is cancelled, with ErrLost as its cause, the moment the lease
// cannot be proved. Releasing survives ctx's cancellation.
func (l *Locker) Do(ctx context.Context, req Request, work func(context.Context, Grant) error) error {
	front, degraded, err := l.obtainFront(ctx, req.Store)
	if err != nil {
		return err
	}
	if front != nil {
		defer l.detached(ctx, front.Release)
	}

	grant := Grant{Store: req.Store, Run: req.Run, Token: newToken(), Degraded: degraded}
	asked := now()
	asking, cancel := context.WithTimeout(ctx, l.opts.TTL)
	grant.Epoch, err = l.fence.Grant(asking, req, grant.Token, l.opts.TTL)
	cancel()
	if err != nil {
		return fmt.Errorf("take fence of store %s: %w", req.Store, err)
	}
	defer l.detached(ctx, func(ctx context.Context) error { return l.fence.Release(ctx, grant) })

	keeping, stop := l.keep(ctx, front, grant, asked)
	defer stop()
	err = work(keeping, grant)
	if cause := context.Cause(keeping); errors.Is(cause, ErrLost) && err != nil && !errors.Is(err, ErrLost) {
		return fmt.Errorf("%w: %w", cause, err)
	}
	return err
}

// obtainFront takes the front's key. A front that is away is no error unless it
// is required: the grant is then degraded.
func (l *Locker) obtainFront(ctx context.Context, store uuid.UUID) (lease Lease, degraded bool, err error) {
	if l.front == nil {
		return nil, false, nil
	}
	call, cancel := context.WithTimeout(ctx, l.opts.TTL/3)
	defer cancel()
	lease, err = l.front.Obtain(call, Key(store), l.opts.TTL)
	switch {
	case err == nil:
		return lease, false, nil
	case ctx.Err() != nil:
		return nil, false, fmt.Errorf("obtain lock of store %s: %w", store, context.Cause(ctx))
	case errors.Is(err, ErrHeld):
		return nil, false, l.held(ctx, store)
	case l.opts.FrontRequired:
		return nil, false, fmt.Errorf("obtain lock of store %s: %w", store, err)
	default:
		return nil, true, nil
	}
}

// held describes a holder that the front knows only as "somebody".
func (l *Locker) held(ctx context.Context, store uuid.UUID) error {
	if holder, err := l.fence.Holder(ctx, store); err == nil && holder != nil {
		return holder
	}
	return &HeldError{Store: store, RetryAfter: l.opts.TTL}
}

// detached runs a release that must happen even though ctx is cancelled. Its
// error changes nothing: what is not released ends with its TTL.
func (l *Locker) detached(ctx context.Context, release func(context.Context) error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), l.opts.TTL/3)
	defer cancel()
	_ = release(ctx)
}

func newToken() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails: crypto/rand crashes the program instead
	return hex.EncodeToString(b[:])
}
