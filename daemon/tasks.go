package daemon

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/robfig/cron/v3"

	"github.com/veloxpos/reconciled/healer"
	"github.com/veloxpos/reconciled/internal/alert"
	"github.com/veloxpos/reconciled/internal/central"
	"github.com/veloxpos/reconciled/internal/postgres"
	"github.com/veloxpos/reconciled/lock"
	"github.com/veloxpos/reconciled/merkle/reconcile"
)

// Heal drains the dirty log, which puts changed slots on the healer's list, and
// heals what is due.
func Heal(log reconcile.Log, h *healer.Healer, schedule cron.Schedule) *Task {
	return &Task{Name: TaskHeal, Schedule: schedule, Work: func(ctx context.Context, grant lock.Grant, handle Handle) (Result, error) {
		if _, err := log.Pin(ctx, grant.Store); err != nil {
			return Result{}, err
		}
		return heal(ctx, h, grant, handle)
	}}
}

// Sift goes through the whole log beside the read models, roughly: what went missing
// past every trigger touches no event.
func Sift(log reconcile.Log, h *healer.Healer, schedule cron.Schedule) *Task {
	return &Task{Name: TaskSift, Schedule: schedule, Work: over(log, h, func(ctx context.Context, grant lock.Grant, stop func() bool) (int64, error) {
		return h.Sift(ctx, grant, stop)
	})}
}

// HealFull compares every event with its rows, when a person asks for it.
func HealFull(log reconcile.Log, h *healer.Healer) *Task {
	return &Task{Name: TaskHealFull, Work: over(log, h, func(ctx context.Context, grant lock.Grant, _ func() bool) (int64, error) {
		return h.HealFull(ctx, grant)
	})}
}

// over puts slots on the healer's list and heals what is there.
func over(log reconcile.Log, h *healer.Healer, list func(context.Context, lock.Grant, func() bool) (int64, error)) func(context.Context, lock.Grant, Handle) (Result, error) {
	return func(ctx context.Context, grant lock.Grant, handle Handle) (Result, error) {
		if _, err := log.Pin(ctx, grant.Store); err != nil {
			return Result{}, err
		}
		if handle.Earlier == nil { // else the list is what the first part left of it
			if _, err := list(ctx, grant, handle.Stop); err != nil {
				return Result{}, err
			}
		}
		return heal(ctx, h, grant, handle)
	}
}

func heal(ctx context.Context, h *healer.Healer, grant lock.Grant, handle Handle) (Result, error) {
	report, err := h.Run(ctx, grant, handle.Stop)
	if earlier, ok := handle.Earlier.(healer.Report); ok {
		report = earlier.Plus(report)
	}
	return healed(report), err
}

func healed(report healer.Report) Result {
	result := Result{Report: report, Verdict: "healed", Quiet: report.Healed+report.Failed == 0}
	switch {
	case report.Failed > 0:
		result.Verdict = "partly_failed"
	case report.Healed == 0:
		result.Verdict = "nothing_to_do"
	}
	return result
}

// Quiet says whether the line is to be left alone at a time, and until when.
type Quiet func(time.Time) (until time.Time, quiet bool)

// quietEvents is what a round may move in quiet hours: as much as the store trades,
// and not what an outage left.
const quietEvents = 500

// Reconcile makes a round against central. One that nobody asked for keeps to the
// quiet hours: where more waits, it ends as interrupted, which is no failure, and the
// verdict is unknown, since nothing was proven.
func Reconcile(store reconcile.Store, peer reconcile.Peer, quiet Quiet, schedule cron.Schedule) *Task {
	return &Task{Name: TaskReconcile, Schedule: schedule, Work: func(ctx context.Context, grant lock.Grant, handle Handle) (Result, error) {
		options := reconcile.Options{Stop: handle.Stop, Progress: func(p reconcile.Progress) { handle.Progress(p) }}
		if earlier, ok := handle.Earlier.(reconcile.Report); ok {
			options.Earlier = &earlier
		}
		until, isQuiet := quiet(time.Now())
		if isQuiet && (handle.Trigger == BySchedule || handle.Trigger == ByStart) {
			options.Quiet = quietEvents
		}
		report, err := reconcile.Run(central.WithStop(ctx, handle.Stop), store, peer, grant, options)
		if errors.Is(err, reconcile.ErrQuiet) {
			err = fmt.Errorf("until %s: %w", until.Format("15:04"), err)
			report.Reason = err.Error()
		}
		if err == nil && report.Verdict == reconcile.Unknown {
			err = errors.New(report.Reason) // a round that proved nothing is no success
		}
		return Result{Report: report, Verdict: report.Verdict.String()}, err
	}}
}

// Compare compares with central and moves nothing: reconcile where nothing may be
// written.
func Compare(store reconcile.DiffStore, peer reconcile.DiffPeer, schedule cron.Schedule) *Task {
	return &Task{Name: TaskReconcile, Schedule: schedule, Work: func(ctx context.Context, grant lock.Grant, handle Handle) (Result, error) {
		report, err := reconcile.Diff(ctx, store, peer, grant.Store, func(p reconcile.Progress) { handle.Progress(p) })
		return Result{Report: report, Verdict: report.Verdict().String()}, err
	}}
}

// Snapshot measures health and keeps it in the POS's own history. What is old goes: from
// the history of runs, and by tidy.
func Snapshot(monitor *Monitor, schedule cron.Schedule, tidy func(context.Context, uuid.UUID) error) *Task {
	return &Task{Name: TaskSnapshot, Schedule: schedule, InPause: true, Work: func(ctx context.Context, grant lock.Grant, _ Handle) (Result, error) {
		report, err := monitor.Measure(ctx, grant.Store)
		if err != nil {
			return Result{}, err
		}
		if err := monitor.keep(ctx, grant, report); err != nil {
			return Result{}, err
		}
		for _, tidy := range []func(context.Context, uuid.UUID) error{monitor.runs.Tidy, tidy} {
			if err := tidy(ctx, grant.Store); err != nil {
				return Result{}, err
			}
		}
		return Result{Verdict: string(report.OverallHealth), Report: report.Metrics, Quiet: true}, nil
	}}
}

// Screen writes what the shop's screens are to show into the POS's own notifications.
func Screen(screen ScreenWriter, channel alert.Channel, schedule cron.Schedule) *Task {
	return &Task{Name: TaskScreen, Schedule: schedule, Work: func(ctx context.Context, grant lock.Grant, _ Handle) (Result, error) {
		shown, err := screen.Show(ctx, grant, channel)
		result := Result{Report: map[string]int{"shown": shown}, Verdict: "shown", Quiet: shown == 0}
		if shown == 0 {
			result.Verdict = "nothing_to_do"
		}
		return result, err
	}}
}

// ScreenWriter is where the shop's screens look.
type ScreenWriter interface {
	// Show writes what waits for the channel of the screens, and how many messages that
	// were.
	Show(ctx context.Context, grant lock.Grant, channel alert.Channel) (int, error)
}

// Scrub goes on with the slow pass that digests everything anew.
func Scrub(log *postgres.Log, schedule cron.Schedule) *Task {
	return &Task{Name: TaskScrub, Schedule: schedule, Work: func(ctx context.Context, grant lock.Grant, handle Handle) (Result, error) {
		options := postgres.ScrubOptions{Stop: handle.Stop, Events: scrubEvents}
		earlier, _ := handle.Earlier.(postgres.ScrubReport)
		options.Events -= earlier.Events
		report, err := log.Scrub(ctx, grant, options)
		report = earlier.Plus(report)
		result := Result{Report: report, Verdict: "clean", Quiet: report.Found == 0}
		if report.Found > 0 {
			result.Verdict = "evidence"
		}
		return result, err
	}}
}

// scrubEvents is a turn's share: a log of a million events is gone through in ten
// turns.
const scrubEvents = 100_000
