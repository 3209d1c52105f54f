package central

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"
)

// maxBurst bounds what goes out at once, in bytes: more would stall everything else
// on a slow line.
const maxBurst = 64 << 10

// newLimiter keeps to some bytes a second, in pieces of a tenth of a second's worth;
// nil for zero, which is no limit.
func newLimiter(bytes int64) *rate.Limiter {
	if bytes == 0 {
		return nil
	}
	return rate.NewLimiter(rate.Limit(bytes), int(min(max(bytes/10, 1), maxBurst)))
}

// transfer is a body on its way: at the rate that is allowed, and with a pulse while
// it moves.
type transfer struct {
	io.ReadCloser
	ctx     context.Context
	limiter *rate.Limiter // nil: no limit
	pulse   *pulse
}

// Read waits for its turn after it has read, so that the line fills up no further
// than by what was read.
func (t transfer) Read(into []byte) (int, error) {
	if t.limiter != nil {
		into = into[:min(len(into), t.limiter.Burst())]
	}
	n, err := t.ReadCloser.Read(into)
	if n > 0 && t.limiter != nil {
		if err := t.limiter.WaitN(t.ctx, n); err != nil {
			return n, err
		}
	}
	t.pulse.beat()
	return n, err
}

// pulse is when something last moved in a try.
type pulse struct{ last atomic.Int64 } // nanoseconds since 1970

func (p *pulse) beat() { p.last.Store(time.Now().UnixNano()) }

func (p *pulse) idle() time.Duration { return time.Duration(time.Now().UnixNano() - p.last.Load()) }

// errOthersWait: a try was given up, and is not to be repeated, since others wait.
var errOthersWait = errors.New("other work waits")

// patience is how long nothing may move while other work waits for its turn. A page
// that is slow but moves is not cut, or it would never get through.
const patience = 10 * time.Second

// watch ends the context of a try in which nothing has moved for the timeout, or,
// when other work waits, for patience.
func watch(ctx context.Context, timeout time.Duration) (context.Context, *pulse, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	stop, _ := ctx.Value(stopKey{}).(func() bool)
	p := &pulse{}
	p.beat()
	go func() {
		look := time.NewTicker(min(timeout, time.Second))
		defer look.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-look.C:
			}
			switch idle := p.idle(); {
			case idle >= timeout:
				cancel(fmt.Errorf("%w: nothing moved for %s", ErrUnreachable, timeout))
			case idle >= patience && stop != nil && stop():
				cancel(fmt.Errorf("%w: nothing moved for %s, and %w", ErrUnreachable, patience, errOthersWait))
			}
		}
	}()
	return ctx, p, func() { cancel(nil) }
}

type stopKey struct{}

// WithStop lets calls under the context end early: while stop says that other work
// waits, one in which nothing moves for some seconds is given up and not repeated.
func WithStop(ctx context.Context, stop func() bool) context.Context {
	return context.WithValue(ctx, stopKey{}, stop)
}
