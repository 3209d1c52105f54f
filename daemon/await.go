package daemon

import (
	"context"
	"sync"
	"time"

	"github.com/google/uuid"
	"go.uber.org/zap"
)

// awaitEvery is how long after a try the database is tried again.
const awaitEvery = 5 * time.Second

// Await opens what needs the database. While that is away it tries again, and tells of the
// outage as the daemon does when it runs: a process that ended for it would be started
// again, and never know for how long. Await fails as open does for any other reason, and
// when ctx ends.
func (o *Outage) Await(ctx context.Context, open func(context.Context) error, away func(error) bool) error {
	err := open(ctx)
	if err == nil || !away(err) {
		return err
	}
	o.logger.Warn("the database does not answer: waiting for it", zap.Error(err))
	telling, stop := context.WithCancel(ctx)
	var told sync.WaitGroup
	defer told.Wait()
	defer stop()
	for _, outlet := range o.outlets {
		told.Go(func() { o.tell(telling, outlet) })
	}
	for away(err) {
		o.step(uuid.Nil, err)
		// It is up, for whoever starts it: a boot or an upgrade need not wait as well.
		notify("READY=1\nWATCHDOG=1\nSTATUS=waiting for the database")
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(awaitEvery):
		}
		if err = open(ctx); err == nil {
			o.logger.Info("the database answers")
			o.step(uuid.Nil, nil)
			return nil
		}
	}
	return err
}

// tell tells an outlet until ctx ends.
func (o *Outage) tell(ctx context.Context, outlet Outlet) {
	ticker := time.NewTicker(sendEvery)
	defer ticker.Stop()
	for {
		o.deliver(ctx, outlet)
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}
