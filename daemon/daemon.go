package daemon

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/robfig/cron/v3"
	"go.uber.org/zap"

	"github.com/veloxpos/reconciled/internal/health"
	"github.com/veloxpos/reconciled/internal/postgres"
	"github.com/veloxpos/reconciled/internal/telemetry"
	"github.com/veloxpos/reconciled/lock"
)

// Locker is lock.Locker, as far as the daemon needs it.
type Locker interface {
	Do(ctx context.Context, req lock.Request, work func(context.Context, lock.Grant) error) error
}

// History is where runs are kept.
type History interface {
	Save(ctx context.Context, run postgres.Run) error
	Get(ctx context.Context, id uuid.UUID) (postgres.Run, bool, error)
	Last(ctx context.Context, store uuid.UUID, task string) (last, success postgres.Run, err error)
	Tidy(ctx context.Context, store uuid.UUID) error
}

// Options of a Daemon.
type Options struct {
	// Stores lists the stores to serve; it is asked again every minute.
	Stores func(ctx context.Context) ([]uuid.UUID, error)
	Owner  string // who holds the lock, for people: host and pid
	// Parallel is how many stores are worked on at once; 4 when zero.
	Parallel int
	// Drain is how long a stop waits for tasks to reach a page boundary before
	// their context is cancelled; 20 s when zero.
	Drain   time.Duration
	Metrics *telemetry.Metrics // may be nil
	// Paused fails with a *lock.PausedError while a store is paused. May be nil.
	Paused func(ctx context.Context, store uuid.UUID) error
	// Ping asks whether the database answers, for readiness.
	Ping func(ctx context.Context) error
	// Watch tells people what is wrong, by a schedule; nil: nobody does.
	Watch         *Watch
	WatchSchedule cron.Schedule
}

// Daemon schedules tasks for stores. Make it with New, run it with Serve.
type Daemon struct {
	locker   Locker
	runs     History
	monitor  *Monitor
	tasks    []*Task
	opts     Options
	logger   *zap.Logger
	slots    slots
	looks    slots
	stopping chan struct{}
	stopOnce sync.Once
	beat     atomic.Pointer[time.Time] // the scheduler's last heartbeat, by the monotonic clock
	wall     func(time.Time) time.Time // what a clock on the wall shows

	mu      sync.Mutex
	workers map[uuid.UUID]*worker
}

// New makes a daemon that runs tasks under locker. monitor may be nil.
func New(locker Locker, runs History, monitor *Monitor, tasks []*Task, logger *zap.Logger, opts Options) *Daemon {
	if opts.Parallel == 0 {
		opts.Parallel = 4
	}
	if opts.Drain == 0 {
		opts.Drain = 20 * time.Second
	}
	if monitor != nil {
		monitor.expect(tasks)
	}
	return &Daemon{
		locker: locker, runs: runs, monitor: monitor, tasks: tasks, opts: opts, logger: logger,
		slots: make(slots, opts.Parallel), looks: make(slots, opts.Parallel), stopping: make(chan struct{}), workers: map[uuid.UUID]*worker{},
		wall: onWall,
	}
}

// slots bounds how many stores are worked on at once.
type slots chan struct{}

func (s slots) enter(ctx context.Context) bool {
	select {
	case s <- struct{}{}:
		return true
	case <-ctx.Done():
		return false
	}
}

func (s slots) leave() { <-s }

// Serve works until ctx ends, then stops in order: no new work, tasks end at a
// page boundary and release their locks, and only then does Serve return. What
// has not ended after Options.Drain is cancelled.
func (d *Daemon) Serve(ctx context.Context) error {
	working, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	var workers sync.WaitGroup
	schedule := cron.New(cron.WithLogger(cronLogger{d.logger}))
	begin := func(store uuid.UUID) {
		w := newWorker(d, store)
		d.mu.Lock()
		d.workers[store] = w
		d.mu.Unlock()
		workers.Go(func() { w.loop(working) })
		for _, task := range d.tasks {
			if task.Schedule == nil {
				continue
			}
			w.submit(task, ByStart)
			schedule.Schedule(spread{task.Schedule, offsetOf(store, task.Schedule)}, d.job(func() { w.submit(task, BySchedule) }))
		}
		if at := d.opts.WatchSchedule; d.opts.Watch != nil {
			schedule.Schedule(spread{at, offsetOf(store, at)}, d.job(func() { d.watch(ctx, w) }))
		}
	}
	if err := d.discover(ctx, begin); err != nil {
		d.stop()
		cancel()
		workers.Wait()
		return err
	}
	schedule.Schedule(cron.Every(time.Minute), d.job(func() {
		listing, cancel := context.WithTimeout(working, time.Minute)
		defer cancel()
		if err := d.discover(listing, begin); err != nil {
			d.logger.Error("stores not listed", zap.Error(err))
		}
	}))
	d.live()
	schedule.Schedule(cron.Every(time.Second), d.job(d.live))
	schedule.Start()
	workers.Go(func() { d.mindClock(ctx, schedule) })
	if d.opts.Watch != nil {
		telling, stopTelling := context.WithCancel(working)
		var told sync.WaitGroup
		told.Go(func() { d.opts.Watch.send(telling) })
		defer told.Wait()
		defer stopTelling()
	}
	stopWatchdog := d.watchdog()
	notify("READY=1\nSTATUS=serving")
	d.logger.Info("daemon started", zap.Int("stores", len(d.Stores())), zap.String("owner", d.opts.Owner))

	<-ctx.Done()
	d.logger.Info("daemon stopping", zap.NamedError("cause", context.Cause(ctx)))
	d.stop()
	notify("STOPPING=1")
	ended := make(chan struct{})
	go func() {
		<-schedule.Stop().Done()
		workers.Wait()
		close(ended)
	}()
	select {
	case <-ended:
	case <-time.After(d.opts.Drain):
		d.logger.Warn("tasks cancelled: they did not end in time", zap.Duration("waited", d.opts.Drain))
		cancel()
		<-ended
	}
	stopWatchdog()
	d.logger.Info("daemon stopped")
	return nil
}

// job is work as the scheduler takes it. It is wrapped here, once: an entry that is made
// anew is still the same job, which may be running.
func (d *Daemon) job(work func()) cron.Job {
	return cron.NewChain(chain(d.logger)...).Then(cron.FuncJob(work))
}

// chain wraps every scheduled job. SkipIfStillRunning must be outermost: inside
// Recover, a panic would leave it believing for ever that the job still runs.
func chain(logger *zap.Logger) []cron.JobWrapper {
	return []cron.JobWrapper{cron.SkipIfStillRunning(cronLogger{logger}), cron.Recover(cronLogger{logger})}
}

// discover begins with every store that is listed and not yet served. A store
// that is gone keeps its worker: its tasks say what is wrong.
func (d *Daemon) discover(ctx context.Context, begin func(uuid.UUID)) error {
	listed, err := d.opts.Stores(ctx)
	if err != nil {
		return err
	}
	served := d.Stores()
	for _, store := range listed {
		if !slices.Contains(served, store) {
			if err := d.runs.Tidy(ctx, store); err != nil {
				return err
			}
			begin(store)
		}
	}
	return nil
}

// Stores are those that are served now.
func (d *Daemon) Stores() []uuid.UUID {
	d.mu.Lock()
	defer d.mu.Unlock()
	stores := make([]uuid.UUID, 0, len(d.workers))
	for store := range d.workers {
		stores = append(stores, store)
	}
	return stores
}

func (d *Daemon) worker(store uuid.UUID) *worker {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.workers[store]
}

func (d *Daemon) stop() { d.stopOnce.Do(func() { close(d.stopping) }) }

func (d *Daemon) isStopping() bool {
	select {
	case <-d.stopping:
		return true
	default:
		return false
	}
}

// measureTimeout is more than a probe of a silent central takes.
const measureTimeout = 20 * time.Second

// paused says whether a task must wait for the end of the store's pause.
func (d *Daemon) paused(ctx context.Context, task *Task, store uuid.UUID) error {
	if task.InPause || d.opts.Paused == nil {
		return nil
	}
	return d.opts.Paused(ctx, store)
}

// ended lets the monitor look again at a store that a run has just changed, at one
// that was paused, or is no more, since it last looked, and at one whose snapshot
// another daemon takes. A daemon on its way down does not look: a silent central would
// hold up its end.
func (d *Daemon) ended(store uuid.UUID, run postgres.Run, changed, paused bool) {
	if d.monitor == nil || d.isStopping() {
		return
	}
	d.monitor.note(store, run)
	latest, _ := d.monitor.Latest(store)
	changed = changed || paused != (latest.Mode == health.Paused)
	if changed && run.Task != TaskSnapshot || run.State == "held" && run.Task == TaskSnapshot {
		ctx, cancel := context.WithTimeout(context.Background(), measureTimeout)
		defer cancel()
		if _, err := d.monitor.Measure(ctx, store); err != nil && !errors.Is(err, context.Canceled) {
			d.logger.Warn("health not measured", zap.Stringer("store", store), zap.Error(err))
		}
	}
}

// watch looks at a worker's store and, where its screens are to show something, lets
// the worker write that.
func (d *Daemon) watch(ctx context.Context, w *worker) {
	if !d.looks.enter(ctx) {
		return
	}
	defer d.looks.leave()
	screen, err := d.opts.Watch.look(ctx, w.store)
	if ctx.Err() != nil {
		return // on the way down a look that failed says nothing
	}
	var down error
	if err == nil {
		w.blind = 0
	} else {
		w.blind++
		d.logger.Warn("store not looked at", zap.Stringer("store", w.store), zap.Error(err))
		if down = d.ping(ctx); down == nil && w.blind > blindLooks {
			down = fmt.Errorf("store %s could not be looked at %d times in a row: %w", w.store, w.blind, err)
		}
	}
	d.opts.Watch.database(w.store, down)
	if task := d.task(TaskScreen); screen && task != nil {
		w.submit(task, ByAlert)
	}
}

// blindLooks is how many looks at a store may fail while the database answers. Nobody is
// told of the store meanwhile, so more of them are told like a database that is down.
const blindLooks = 3

// ping asks whether the database answers at all: a look may fail for another reason.
func (d *Daemon) ping(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, pingTimeout)
	defer cancel()
	return d.opts.Ping(ctx)
}

const pingTimeout = 10 * time.Second

// Ready says why the daemon cannot do its work, nil when it can.
func (d *Daemon) Ready(ctx context.Context) error {
	if d.isStopping() {
		return errors.New("the daemon is stopping")
	}
	if d.beat.Load() == nil {
		return errors.New("the daemon has not started")
	}
	if err := d.opts.Ping(ctx); err != nil {
		return fmt.Errorf("the database does not answer: %w", err)
	}
	return nil
}
