package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
	"time"

	"github.com/google/uuid"
	"go.uber.org/zap"

	"github.com/veloxpos/reconciled/internal/httpapi"
	"github.com/veloxpos/reconciled/internal/postgres"
	"github.com/veloxpos/reconciled/lock"
	"github.com/veloxpos/reconciled/merkle/reconcile"
)

// order is a task that waits for its store's worker, or is being worked on.
type order struct {
	task *Task
	run  postgres.Run
	// began is closed once the lock is held, or could not be: then refused says why.
	began   chan struct{}
	once    sync.Once
	refused error

	earlier any  // report of the part that gave way; the worker's alone
	paused  bool // it has given way and waits to go on
	asked   int  // requests that wait for it to begin
	own     bool // no schedule or start wants it, only requests

	mu       sync.Mutex
	progress any
}

// begin tells whoever waits that the lock is held, or why it could not be.
func (o *order) begin(err error) {
	o.once.Do(func() {
		o.refused = err
		close(o.began)
	})
}

// start notes the time of the first try.
func (o *order) start() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.run.Started.IsZero() {
		o.run.Started = time.Now()
	}
}

func (o *order) show(progress any) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.progress = progress
}

// shown is when the run began and where it is.
func (o *order) shown() (started time.Time, progress any) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.run.Started, o.progress
}

// view is the run under way.
func (o *order) view() httpapi.Run {
	started, progress := o.shown()
	return httpapi.Run{ID: o.run.ID, Task: o.task.Name, Store: o.run.Store, Trigger: o.run.Trigger, State: "running", StartedAt: started, Progress: progress}
}

// worker runs one store's tasks, one after another.
type worker struct {
	daemon *Daemon
	store  uuid.UUID
	blind  int // looks that failed in a row; the watch's alone

	mu      sync.Mutex
	waiting []*order
	current *order
	arrived chan struct{} // capacity 1: something waits
}

func newWorker(d *Daemon, store uuid.UUID) *worker {
	return &worker{daemon: d, store: store, arrived: make(chan struct{}, 1)}
}

// submit queues a task, unless it waits already: then that order is returned. A
// request makes it its own, so that whoever asked finds its run.
func (w *worker) submit(task *Task, trigger string) *order {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, o := range w.waiting {
		if o.task == task {
			if trigger == ByAPI {
				o.run.Trigger = ByAPI
				o.asked++
			} else {
				o.own = false
			}
			return o
		}
	}
	o := &order{task: task, began: make(chan struct{}), run: postgres.Run{
		ID: uuid.Must(uuid.NewV7()), Task: task.Name, Store: w.store, Trigger: trigger, State: "running",
	}}
	if trigger == ByAPI {
		o.asked, o.own = 1, true
	}
	w.waiting = append(w.waiting, o)
	select {
	case w.arrived <- struct{}{}:
	default:
	}
	return o
}

// withdraw takes a request's order back if it has not begun, and nobody else wants
// it; false when it is being begun.
func (w *worker) withdraw(o *order) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	o.asked--
	for i, other := range w.waiting {
		if other == o {
			if o.own && o.asked == 0 {
				w.waiting = append(w.waiting[:i], w.waiting[i+1:]...)
			}
			return true
		}
	}
	return false
}

// busy is the order being worked on, nil when there is none.
func (w *worker) busy() *order {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.current
}

// find looks a run up that has begun and not ended.
func (w *worker) find(id uuid.UUID) (run httpapi.Run, found bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, o := range append([]*order{w.current}, w.waiting...) {
		if o != nil && o.run.ID == id {
			return o.view(), true
		}
	}
	return run, false
}

// underWay are the runs that have begun and not ended.
func (w *worker) underWay() (runs []httpapi.Run) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, o := range append([]*order{w.current}, w.waiting...) {
		if o == nil || o.task.errand || o != w.current && !o.paused {
			continue
		}
		if run := o.view(); !run.StartedAt.IsZero() {
			runs = append(runs, run)
		}
	}
	return runs
}

func (w *worker) next() *order {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.waiting) == 0 {
		w.current = nil
		return nil
	}
	w.current, w.waiting = w.waiting[0], w.waiting[1:]
	return w.current
}

// turn is how long a task works before it gives way to others that wait. A new
// request does not wait for it; one that has given way itself does, or two would
// give way to each other for ever.
const turn = 15 * time.Second

// wanted reports whether the task that began its turn at since should give way.
func (w *worker) wanted(since time.Time) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, o := range w.waiting {
		if (o.run.Trigger == ByAPI && !o.paused) || time.Since(since) > turn {
			return true
		}
	}
	return false
}

// loop works until ctx ends or the daemon stops taking work.
func (w *worker) loop(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-w.daemon.stopping:
			return
		case <-w.arrived:
		}
		for w.daemon.slots.enter(ctx) { // first a slot, then an order: nobody waits for a popped one
			o := w.next()
			if o != nil && w.daemon.isStopping() {
				o.begin(httpapi.ErrStopping)
			} else if o != nil {
				w.execute(ctx, o)
			}
			w.daemon.slots.leave()
			if o == nil {
				break
			}
		}
	}
}

// execute runs one order and tells what became of it: to whoever waits, to the
// history, the log, the metrics. A task that gave way to another goes to the end
// of the queue, as the same run.
func (w *worker) execute(ctx context.Context, o *order) {
	o.start()
	since := time.Now()
	var (
		result   Result
		began    bool
		degraded bool
	)
	work := func(ctx context.Context, grant lock.Grant) (err error) {
		began, degraded = true, grant.Degraded
		w.degrade(degraded)
		if o.run.Trigger == ByAPI && !o.task.errand { // whoever asked may look at it at once
			if err := w.daemon.runs.Save(ctx, o.run); err != nil {
				o.begin(err)
				return err
			}
		}
		o.begin(nil)
		defer func() {
			if r := recover(); r != nil {
				err = fmt.Errorf("panic: %v\n%s", r, debug.Stack())
			}
		}()
		result, err = o.task.Work(ctx, grant, Handle{
			Run: o.run.ID, Trigger: o.run.Trigger, Progress: o.show, Earlier: o.earlier,
			Stop: func() bool { return w.daemon.isStopping() || w.wanted(since) },
		})
		return err
	}
	err := w.daemon.paused(ctx, o.task, w.store)
	if err == nil {
		err = w.daemon.locker.Do(ctx, lock.Request{Store: w.store, Run: o.run.ID, Owner: w.daemon.opts.Owner}, work)
	}
	if !began {
		o.begin(err)
	}
	if away := errors.Is(err, lock.ErrFrontAway); began || away { // else the lock was not seen
		degraded = degraded || away
		w.degrade(degraded)
	}
	if errors.Is(err, lock.ErrGaveWay) && !w.daemon.isStopping() {
		o.earlier = result.Report
		w.daemon.logger.Info("run gave way", zap.String("task", o.task.Name), zap.Stringer("store", w.store), zap.Stringer("run", o.run.ID))
		w.putBack(o)
		return
	}
	if o.task.errand { // whoever waits is told, and the audit tells the rest
		w.daemon.ended(w.store, o.run, err == nil, errors.Is(err, lock.ErrPaused))
		return
	}
	w.finish(ctx, o, result, err, degraded)
}

// degrade tells whether the lock goes without Redis, or cannot be had without it.
func (w *worker) degrade(degraded bool) {
	if w.daemon.monitor != nil {
		w.daemon.monitor.degrade(w.store, degraded)
	}
	if w.daemon.opts.Metrics != nil {
		w.daemon.opts.Metrics.Degraded(w.store.String(), degraded)
	}
}

// putBack lets an order wait again, behind those that wait already.
func (w *worker) putBack(o *order) {
	w.mu.Lock()
	defer w.mu.Unlock()
	o.paused = true
	w.waiting = append(w.waiting, o)
}

// finish writes a run down. A run that never held the lock leaves a log line.
func (w *worker) finish(ctx context.Context, o *order, result Result, err error, degraded bool) {
	o.run.Finished = time.Now()
	o.run.Verdict = result.Verdict
	switch {
	case err == nil:
		o.run.State = "succeeded"
	case errors.Is(err, lock.ErrHeld):
		o.run.State = "held"
	case errors.Is(err, lock.ErrLost): // its context was cancelled, but that is no stop
		o.run.State = "failed"
	case errors.Is(err, lock.ErrGaveWay), errors.Is(err, context.Canceled), errors.Is(err, reconcile.ErrQuiet), errors.Is(err, lock.ErrPaused):
		o.run.State = "interrupted"
	default:
		o.run.State = "failed"
	}
	if err != nil {
		o.run.Error = err.Error()
	}
	report, encodeErr := json.Marshal(result.Report)
	if encodeErr == nil && result.Report != nil {
		o.run.Report = report
	}
	if took := o.run.Finished.Sub(o.run.Started); w.daemon.opts.Metrics != nil {
		outcome := o.run.State
		if o.run.State == "succeeded" && o.run.Verdict != "" {
			outcome = o.run.Verdict
		}
		w.daemon.opts.Metrics.Ended(w.store.String(), o.task.Name, outcome, took, o.run.State == "succeeded")
	}
	w.log(o, result, err, degraded)

	paused := errors.Is(err, lock.ErrPaused)
	quiet := o.run.Trigger != ByAPI && (o.run.State == "held" || paused || (result.Quiet && err == nil))
	if quiet || paused && o.refused != nil {
		w.daemon.ended(w.store, o.run, false, paused)
		return
	}
	// The history survives the run's own end, be it a cancelled context.
	saving, cancel := context.WithTimeout(context.WithoutCancel(ctx), saveTimeout)
	defer cancel()
	if err := w.daemon.runs.Save(saving, o.run); err != nil {
		w.daemon.logger.Error("run not saved", zap.Stringer("run", o.run.ID), zap.Error(err))
	}
	w.daemon.ended(w.store, o.run, true, paused)
}

const saveTimeout = 5 * time.Second

func (w *worker) log(o *order, result Result, err error, degraded bool) {
	fields := []zap.Field{
		zap.String("task", o.task.Name), zap.Stringer("store", w.store), zap.Stringer("run", o.run.ID), zap.String("trigger", o.run.Trigger),
		zap.String("state", o.run.State), zap.String("verdict", o.run.Verdict), zap.Duration("took", o.run.Finished.Sub(o.run.Started)),
	}
	if o.run.Report != nil {
		fields = append(fields, zap.Reflect("report", o.run.Report))
	}
	if degraded {
		fields = append(fields, zap.String("lock", "fence alone: Redis is away"))
	}
	switch {
	case err == nil && result.Quiet:
		w.daemon.logger.Debug("run finished", fields...)
	case errors.Is(err, lock.ErrPaused) && o.run.Trigger != ByAPI:
		w.daemon.logger.Debug("run skipped", append(fields, zap.Error(err))...)
	case err == nil:
		w.daemon.logger.Info("run finished", fields...)
	case o.run.State == "held" || o.run.State == "interrupted":
		w.daemon.logger.Info("run "+o.run.State, append(fields, zap.Error(err))...)
	default:
		w.daemon.logger.Error("run failed", append(fields, zap.Error(err))...)
	}
}
