// Package daemon is the process: which tasks there are, when they run, and what
// is known of how they went.
//
// Each store has a worker that runs its tasks one after another, so the duties of
// one daemon never find the lock held by each other. Triggers coalesce: a task
// that is already waiting is not queued twice. Every run happens under the
// store's lock, ends as a value, and is logged once.
package daemon

import (
	"context"
	"time"

	"github.com/google/uuid"
	"github.com/robfig/cron/v3"

	"github.com/veloxpos/reconciled/lock"
)

// Names of tasks, as schedules, runs and the API know them.
const (
	TaskHeal      = "heal"
	TaskHealFull  = "heal-full"
	TaskSift      = "sift"
	TaskReconcile = "reconcile"
	TaskScrub     = "scrub"
	TaskSnapshot  = "snapshot"
	TaskScreen    = "screen"
)

// What made a run begin.
const (
	ByStart    = "start"
	BySchedule = "schedule"
	ByAPI      = "api"
	ByCommand  = "cli"
	ByAlert    = "alert"
)

// Result is what a run's work says of itself.
type Result struct {
	Verdict string // one word
	Report  any    // encoded as JSON for the log, the history and the API
	// Quiet: nothing happened. A quiet run that the schedule began is not kept in
	// the history, which would else be full of them.
	Quiet bool
}

// Handle is how a running task and its worker talk.
type Handle struct {
	Run uuid.UUID
	// Trigger is what made the run begin. A request that came while it waited counts.
	Trigger string
	// Earlier is the report of the part of this run that gave way; nil in the first.
	Earlier any
	// Stop asks whether the task should end at its next boundary, with
	// lock.ErrGaveWay: a request waits for the store, another task has waited for a
	// while, or the daemon is on its way down.
	Stop func() bool
	// Progress shows where the task is. Safe to call often.
	Progress func(any)
}

// Task is a duty that each store has.
type Task struct {
	Name     string
	Schedule cron.Schedule // nil: on demand alone
	InPause  bool          // runs while the store is paused, too: it then writes nothing
	Work     func(ctx context.Context, grant lock.Grant, handle Handle) (Result, error)

	errand bool // a request's own short work, and no run
}

// spread shifts a schedule by an offset, so that the stores of one daemon, and
// the daemons of one chain, do not all begin at the same second.
type spread struct {
	cron.Schedule
	offset time.Duration
}

// Next is the schedule's own time, later by the offset. A period (@every) has no
// times of its own: it is counted from 1970, or every daemon that is restarted at
// once would tick at once.
func (s spread) Next(t time.Time) time.Time {
	if every, ok := s.Schedule.(cron.ConstantDelaySchedule); ok {
		since := t.Sub(time.Unix(0, 0).Add(s.offset))
		return t.Add(every.Delay - since%every.Delay)
	}
	return s.Schedule.Next(t.Add(-s.offset)).Add(s.offset)
}

// periodOf is how far a schedule's next two times lie apart.
func periodOf(schedule cron.Schedule) time.Duration {
	first := schedule.Next(time.Now())
	return schedule.Next(first).Sub(first)
}

// offsetOf is a store's place within a period, from its id.
func offsetOf(store uuid.UUID, schedule cron.Schedule) time.Duration {
	period := periodOf(schedule)
	if period <= 0 {
		return 0
	}
	place := uint64(store[12])<<24 | uint64(store[13])<<16 | uint64(store[14])<<8 | uint64(store[15])
	return time.Duration(place % uint64(min(period, time.Minute)/time.Millisecond) * uint64(time.Millisecond))
}
