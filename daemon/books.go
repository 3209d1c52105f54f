package daemon

import (
	"context"
	"time"

	"github.com/google/uuid"

	"github.com/veloxpos/reconciled/healer/projection"
	"github.com/veloxpos/reconciled/internal/alert"
	"github.com/veloxpos/reconciled/internal/health"
	"github.com/veloxpos/reconciled/internal/httpapi"
	"github.com/veloxpos/reconciled/internal/postgres"
)

// Books are what the database knows, as operators see it; a command reads them also
// where no daemon runs. Safe for concurrent use.
type Books struct {
	past      *postgres.Runs
	health    *postgres.HealthHistory
	outbox    *postgres.Outbox
	conflicts *postgres.Conflicts
	fiscal    *postgres.GrantedRanges
	gaps      *postgres.GapBook
	alerts    *postgres.Alerts
}

// NewBooks opens the books that are kept in db.
func NewBooks(db *postgres.DB) *Books {
	return &Books{
		past: postgres.NewRuns(db), health: postgres.NewHealthHistory(db), outbox: postgres.NewOutbox(db),
		conflicts: postgres.NewConflicts(db), fiscal: postgres.NewGrantedRanges(db), gaps: postgres.NewGapBook(db),
		alerts: postgres.NewAlerts(db),
	}
}

// PastRun reads a run that has begun, or ended, in any process.
func (b *Books) PastRun(ctx context.Context, id uuid.UUID) (httpapi.Run, error) {
	run, found, err := b.past.Get(ctx, id)
	if err == nil && !found {
		err = httpapi.ErrUnknownRun
	}
	return shownRun(run), err
}

// PastRuns reads a store's newest runs, of one task or of all when task is "".
func (b *Books) PastRuns(ctx context.Context, store uuid.UUID, task string, limit int) ([]httpapi.Run, error) {
	runs, err := b.past.List(ctx, store, task, limit)
	return each(runs, shownRun), err
}

func shownRun(run postgres.Run) httpapi.Run {
	shown := httpapi.Run{
		ID: run.ID, Task: run.Task, Store: run.Store, Trigger: run.Trigger, State: run.State, Verdict: run.Verdict, Error: run.Error, StartedAt: run.Started,
	}
	if !run.Finished.IsZero() {
		shown.FinishedAt = &run.Finished
	}
	if run.Report != nil {
		shown.Report = run.Report
	}
	return shown
}

// HealthHistory reads the POS's own snapshots of the last hours, the newest first.
func (b *Books) HealthHistory(ctx context.Context, store uuid.UUID, hours, limit int) ([]httpapi.PastHealth, error) {
	past, err := b.health.Since(ctx, store, time.Duration(hours)*time.Hour, limit)
	return each(past, func(p postgres.PastHealth) httpapi.PastHealth {
		return httpapi.PastHealth{OverallHealth: p.Overall, Store: store, Timestamp: p.At, Metrics: httpapi.PastMetrics{
			EventLagCount: p.EventLag, ProjectionGapCount: p.ProjectionGaps, StockDivergenceCount: p.StockDivergence, NegativeStockCount: p.NegativeStock,
			QueueDepth: p.QueueDepth, FailedJobs: p.FailedJobs, RemoteReachable: p.RemoteReachable, RemoteLatencyMs: p.RemoteLatencyMs,
		}}
	}), err
}

// Outbox reads a page of the POS's outbox.
func (b *Books) Outbox(ctx context.Context, query httpapi.OutboxQuery) (httpapi.OutboxPage, error) {
	entries, counts, more, err := b.outbox.List(ctx, query.Store, postgres.OutboxFilter{
		Pending: query.Status != "dead", Dead: query.Status != "pending", After: query.After, Limit: query.Limit,
	})
	page := httpapi.OutboxPage{
		Store: query.Store, Counts: each(counts, func(c postgres.OutboxCount) httpapi.OutboxCount { return httpapi.OutboxCount(c) }),
		Entries: each(entries, func(e postgres.OutboxEntry) httpapi.OutboxEntry { return httpapi.OutboxEntry(e) }),
	}
	if more {
		page.Next = &entries[len(entries)-1].ID
	}
	return page, asUnknown(err, "after")
}

// Conflicts reads the newest conflicts of either kind.
func (b *Books) Conflicts(ctx context.Context, store uuid.UUID, limit int) (httpapi.ConflictList, error) {
	list := httpapi.ConflictList{Store: store}
	undecided, total, err := b.conflicts.Undecided(ctx, store, limit)
	if err != nil {
		return list, err
	}
	resolved, err := b.conflicts.Resolved(ctx, store, limit)
	list.UndecidedTotal = total
	list.Undecided = each(undecided, func(c postgres.Conflict) httpapi.Conflict {
		return httpapi.Conflict{
			Event: c.Event, Type: string(c.Type), Here: c.Here, There: c.There, From: c.From, Recommendation: c.Recommendation, Found: c.Found,
		}
	})
	list.Resolved = each(resolved, func(r postgres.Resolution) httpapi.Resolution { return httpapi.Resolution(r) })
	return list, err
}

// FiscalRanges reads the POS's ranges of fiscal numbers.
func (b *Books) FiscalRanges(ctx context.Context, store uuid.UUID, limit int) (httpapi.FiscalRangeList, error) {
	ranges, total, err := b.fiscal.List(ctx, store, limit)
	return httpapi.FiscalRangeList{
		Store: store, Total: total, Ranges: each(ranges, func(r postgres.GrantedRange) httpapi.FiscalRange { return httpapi.FiscalRange(r) }),
	}, err
}

// gapText bounds what a gap says of itself.
const gapText = 500

// Gaps reads the newest events that are not projected.
func (b *Books) Gaps(ctx context.Context, query httpapi.GapQuery) (httpapi.GapList, error) {
	list := httpapi.GapList{Store: query.Store, Totals: map[string]int{}}
	totals, err := b.gaps.Counts(ctx, query.Store)
	if err != nil {
		return list, err
	}
	classes := postgres.GapClasses
	for _, class := range classes {
		list.Totals[string(class)] = totals[class]
	}
	if query.Class != "" {
		classes = []projection.Class{projection.Class(query.Class)}
	}
	gaps, err := b.gaps.List(ctx, query.Store, classes, query.Limit, false)
	list.Gaps = each(gaps, func(g postgres.OpenGap) httpapi.Gap {
		return httpapi.Gap{
			Event: g.Event, Type: string(g.Type), Class: string(g.Class), Since: g.Since, WaitsTable: g.WaitsTable, WaitsID: g.WaitsID,
			Attempts: g.Attempts, NextAttempt: g.NextAttempt, Reason: begin(g.Reason, gapText), LastError: begin(g.LastError, gapText),
		}
	})
	return list, err
}

// begin is a text's beginning, of at most so many characters.
func begin(text string, most int) string {
	n := 0
	for i := range text {
		if n == most {
			return text[:i]
		}
		n++
	}
	return text
}

func each[A, B any](list []A, show func(A) B) []B {
	shown := make([]B, len(list))
	for i, v := range list {
		shown[i] = show(v)
	}
	return shown
}

// Alerts reads a store's alerts as they were last kept.
func (b *Books) Alerts(ctx context.Context, query httpapi.AlertQuery) ([]httpapi.Alert, error) {
	list, err := b.alerts.List(ctx, query.Store, query.All, query.Limit)
	return each(list, shownAlert), err
}

func shownAlert(a alert.Alert) httpapi.Alert {
	kind := alert.KindOf(a.Code)
	shown := httpapi.Alert{
		ID: a.ID, Store: a.Store, Code: string(a.Code), Key: a.Key, State: string(a.State), Severity: string(kind.Severity),
		TitleES: kind.Title.ES, TitleEN: kind.Title.EN, Since: a.Since, Value: a.Value, Threshold: a.Threshold,
		Affected: append([]health.Affected{}, a.Affected...), Total: a.Total, InhibitedBy: string(a.InhibitedBy),
		Command: kind.Command(a.Store), Section: kind.Section,
	}
	if a.State == alert.Acknowledged {
		shown.Acknowledged, shown.Why = a.Acknowledgement.By, a.Acknowledgement.Why
	}
	if !a.Resolved.IsZero() {
		shown.Resolved = &a.Resolved
	}
	return shown
}
