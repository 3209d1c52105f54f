package lock

import (
	"context"
	"errors"
	"sync"
	"time"
)

// instant is a moment by both clocks. The monotonic one stands still while the
// machine is suspended, the wall clock may be set back: a lease is proved only
// as long as neither has run for a TTL.
type instant struct{ mono, wall time.Time }

func now() instant {
	t := time.Now()
	return instant{mono: t, wall: t.Round(0)} // Round strips the monotonic reading
}

// within reports whether less than ttl has passed since i by both clocks.
func (i instant) within(ttl time.Duration) bool {
	n := now()
	return n.mono.Sub(i.mono) < ttl && n.wall.Sub(i.wall) < ttl
}

// keep renews the grant every TTL/3 until stop is called, and cancels the
// returned context with ErrLost once it cannot be proved. A renewal proves the
// lease from the instant at which it was asked for, not answered.
//
// The front is refreshed beside it, but only the fence decides: a front that
// forgot the key (a restarted Redis) excludes nobody from the fence.
func (l *Locker) keep(ctx context.Context, front Lease, grant Grant, proved instant) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	var done sync.WaitGroup
	done.Go(func() {
		// Looking more often than renewing notices a machine that slept.
		ticker := time.NewTicker(l.opts.TTL / 12)
		defer ticker.Stop()
		renewed := proved
		for {
			select {
			case <-ctx.Done():
				return
			case <-ticker.C:
			}
			if !proved.within(l.opts.TTL) {
				cancel(ErrLost)
				return
			}
			if renewed.within(l.opts.TTL / 3) {
				continue
			}
			asked := now()
			renewed = asked
			switch err := l.renew(ctx, front, grant); {
			case err == nil:
				proved = asked
			case errors.Is(err, ErrLost):
				cancel(ErrLost)
				return
			}
			// Any other error: the database did not answer; try again until the
			// lease runs out.
		}
	})
	return ctx, func() {
		cancel(context.Canceled)
		done.Wait()
	}
}

// renew gives each half a deadline of its own, so that a front that swallows
// calls does not eat the fence's time.
func (l *Locker) renew(ctx context.Context, front Lease, grant Grant) error {
	if front != nil {
		call, cancel := context.WithTimeout(ctx, l.opts.TTL/8)
		err := front.Refresh(call, l.opts.TTL)
		cancel()
		if err != nil && l.opts.FrontRequired {
			return err
		}
	}
	call, cancel := context.WithTimeout(ctx, l.opts.TTL/4)
	defer cancel()
	return l.fence.Renew(call, grant, l.opts.TTL)
}
