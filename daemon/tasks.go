package daemon

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/robfig/cron/v3"

	"github.com/veloxpos/reconciled/healer"
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

// HealFull looks at every event of the store: a row that went missing from a read
// model touches no event.
func HealFull(log reconcile.Log, h *healer.Healer, schedule cron.Schedule) *Task {
	return &Task{Name: TaskHealFull, Schedule: schedule, Work: func(ctx context.Context, grant lock.Grant, handle Handle) (Result, error) {
		if _, err := log.Pin(ctx, grant.Store); err != nil {
			return Result{}, err
		}
		if handle.Earlier == nil { // else the list is what the first part left of it
			if _, err := h.HealFull(ctx, grant); err != nil {
				return Result{}, err
			}
		}
		return heal(ctx, h, grant, handle)
	}}
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

// Snapshot measures health and keeps it in the POS's own history.
func Snapshot(monitor *Monitor, schedule cron.Schedule) *Task {
	return &Task{Name: TaskSnapshot, Schedule: schedule, Work: func(ctx context.Context, grant lock.Grant, _ Handle) (Result, error) {
		monitor.degrade(grant.Store, grant.Degraded)
		report, err := monitor.Measure(ctx, grant.Store)
		if err != nil {
			return Result{}, err
		}
		if err := monitor.gauge.Keep(ctx, grant, report); err != nil {
			return Result{}, err
		}
		if err := monitor.runs.Tidy(ctx, grant.Store); err != nil {
			return Result{}, err
		}
		return Result{Verdict: string(report.OverallHealth), Report: report.Metrics, Quiet: true}, nil
	}}
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
