package daemon

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/veloxpos/reconciled/internal/health"
	"github.com/veloxpos/reconciled/internal/httpapi"
	"github.com/veloxpos/reconciled/lock"
)

// patience is how long a request waits for the store's own worker, which gives
// way to it at its next boundary, before it is told LockHeld.
const patience = 5 * time.Second

// Start begins a task for a store and returns its run once the lock is held.
func (d *Daemon) Start(ctx context.Context, name string, store uuid.UUID) (uuid.UUID, error) {
	w := d.worker(store)
	if w == nil {
		return uuid.Nil, httpapi.ErrUnknownStore
	}
	task := d.task(name)
	if task == nil {
		return uuid.Nil, fmt.Errorf("%s: %w", name, httpapi.ErrNoTask)
	}
	if current := w.busy(); current != nil && current.task == task {
		return uuid.Nil, d.heldBy(current)
	}
	o, err := d.order(ctx, w, task)
	if err != nil {
		return uuid.Nil, err
	}
	return o.run.ID, nil
}

// order lets a store's worker begin a task that a request waits for, and returns once
// the lock is held.
func (d *Daemon) order(ctx context.Context, w *worker, task *Task) (*order, error) {
	if d.isStopping() {
		return nil, httpapi.ErrStopping
	}
	o := w.submit(task, ByAPI)
	patient := time.NewTimer(patience)
	defer patient.Stop()
	if begun, err := d.await(ctx, o, patient.C); begun {
		if err != nil {
			w.withdraw(o) // nobody waits any more
		}
		return o, err
	}
	if w.withdraw(o) {
		return nil, d.heldBy(w.busy())
	}
	_, err := d.await(ctx, o, nil) // it is being begun at this moment
	return o, err
}

// await waits until an order has begun or cannot; false when patience ends first.
func (d *Daemon) await(ctx context.Context, o *order, patience <-chan time.Time) (begun bool, err error) {
	select {
	case <-o.began:
		return true, asHeld(o.refused)
	case <-ctx.Done():
		return true, context.Cause(ctx)
	case <-d.stopping:
		return true, httpapi.ErrStopping
	case <-patience:
		return false, nil
	}
}

// heldBy says that this daemon itself is at work on the store.
func (d *Daemon) heldBy(current *order) error {
	held := &httpapi.HeldError{Holder: d.opts.Owner, RetryAfter: 5 * time.Second}
	if current != nil {
		held.Holder, held.Run = fmt.Sprintf("%s (%s)", d.opts.Owner, current.task.Name), current.run.ID
	}
	return held
}

// asHeld turns what keeps a task from its store into what operators are told.
func asHeld(err error) error {
	if paused := new(lock.PausedError); errors.As(err, &paused) {
		return &httpapi.PausedError{Message: paused.Error(), Until: paused.Until.UTC(), RetryAfter: paused.RetryAfter}
	}
	var held *lock.HeldError
	if !errors.As(err, &held) {
		return err
	}
	owner := held.Owner
	if owner == "" {
		owner = "another process"
	}
	return &httpapi.HeldError{Holder: owner, Run: held.Run, RetryAfter: held.RetryAfter}
}

func (d *Daemon) task(name string) *Task {
	for _, task := range d.tasks {
		if task.Name == name {
			return task
		}
	}
	return nil
}

// Run looks a run up: among those under way, then in the history.
func (d *Daemon) Run(ctx context.Context, id uuid.UUID) (httpapi.Run, error) {
	for _, store := range d.Stores() {
		if run, found := d.worker(store).find(id); found {
			return run, nil
		}
	}
	run, found, err := d.runs.Get(ctx, id)
	if err == nil && !found {
		err = httpapi.ErrUnknownRun
	}
	return shownRun(run), err
}

// healthAge is how old a report may be that is answered with: some looks may be missed.
const healthAge = 5 * time.Minute

// Health is a store's report: the last one, or one measured now when that is wanted or
// the last one says nothing of now.
func (d *Daemon) Health(ctx context.Context, store uuid.UUID, fresh bool) (health.Report, error) {
	if d.worker(store) == nil || d.monitor == nil {
		return health.Report{}, httpapi.ErrUnknownStore
	}
	if report, ok := d.monitor.Latest(store); ok && !fresh {
		// A report from the future is of before the clock was set back: its age is not known.
		if age := time.Since(report.Timestamp); age >= 0 && age < healthAge {
			return report, nil
		}
	}
	return d.monitor.Fresh(ctx, store)
}
