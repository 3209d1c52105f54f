package daemon

import (
	"context"
	"errors"

	"github.com/google/uuid"

	"github.com/veloxpos/reconciled/internal/httpapi"
	"github.com/veloxpos/reconciled/lock"
)

// errBrokeOff: an errand ended in the middle.
var errBrokeOff = errors.New("the work broke off")

// errand does a request's own short work on a store, and waits for its end. It is done in
// the turn of the store's worker, under the lock: a long task gives way to it at its next
// boundary. The audit tells of it, not the history of runs.
func (d *Daemon) errand(ctx context.Context, name string, store uuid.UUID, work func(context.Context, lock.Grant) error) error {
	w := d.worker(store)
	if w == nil {
		return httpapi.ErrUnknownStore
	}
	ended := make(chan error, 1)
	task := &Task{Name: name, errand: true, Work: func(ctx context.Context, grant lock.Grant, _ Handle) (Result, error) {
		err := errBrokeOff // unless it comes to its end: a panic is the worker's to tell of
		defer func() { ended <- err }()
		err = work(ctx, grant)
		return Result{}, err
	}}
	if _, err := d.order(ctx, w, task); err != nil {
		return err
	}
	select {
	case err := <-ended:
		return asHeld(err)
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
