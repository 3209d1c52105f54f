package daemon

import (
	"context"
	"errors"
	"slices"

	"github.com/google/uuid"
	"go.uber.org/zap"

	"github.com/veloxpos/reconciled/healer/projection"
	"github.com/veloxpos/reconciled/internal/alert"
	"github.com/veloxpos/reconciled/internal/central"
	"github.com/veloxpos/reconciled/internal/httpapi"
	"github.com/veloxpos/reconciled/internal/postgres"
	"github.com/veloxpos/reconciled/internal/velox"
	"github.com/veloxpos/reconciled/lock"
)

// Breakers are the circuit breakers towards central.
type Breakers interface {
	Breaker(store velox.StoreID) central.Breaker
	ResetBreaker(store velox.StoreID)
}

// Desk is where operators' requests arrive: the daemon, its books, and what they may
// change. What they do is written into the audit, who and what.
type Desk struct {
	*Daemon
	*Books
	*Journal
	breakers  Breakers // nil at central
	observing bool
}

var _ httpapi.Daemon = (*Desk)(nil)

// NewDesk stands in front of a daemon on db. breakers is nil at central; observing: the
// configuration lets nobody write to the POS's data.
func NewDesk(d *Daemon, db *postgres.DB, breakers Breakers, observing bool) *Desk {
	return &Desk{Daemon: d, Books: NewBooks(db), Journal: NewJournal(db), breakers: breakers, observing: observing}
}

// Serves reports whether the store has a worker here.
func (d *Desk) Serves(store uuid.UUID) bool { return d.worker(store) != nil }

// Start begins a task for a store and returns its run once the lock is held.
func (d *Desk) Start(ctx context.Context, task string, store uuid.UUID, by string) (uuid.UUID, error) {
	run, err := d.Daemon.Start(ctx, task, store)
	if err != nil {
		return run, err
	}
	if err := d.did(ctx, by, task, store, run.String(), "accepted"); err != nil { // it runs: only the log can tell
		d.logger.Error("audit not written", zap.String("task", task), zap.Stringer("run", run), zap.Error(err))
	}
	return run, nil
}

// Runs are those under way here, and those that the history knows, the newest first.
func (d *Desk) Runs(ctx context.Context, store uuid.UUID, task string, limit int) ([]httpapi.Run, error) {
	var runs []httpapi.Run
	if w := d.worker(store); w != nil {
		runs = w.underWay() // first: what ends meanwhile is then in both
	}
	past, err := d.PastRuns(ctx, store, task, limit)
	if err != nil {
		return nil, err
	}
	runs = slices.DeleteFunc(runs, func(run httpapi.Run) bool {
		return task != "" && run.Task != task ||
			slices.ContainsFunc(past, func(p httpapi.Run) bool { return p.ID == run.ID && p.State != "running" })
	})
	for _, p := range past {
		if !slices.ContainsFunc(runs, func(run httpapi.Run) bool { return run.ID == p.ID }) {
			runs = append(runs, p)
		}
	}
	slices.SortStableFunc(runs, func(a, b httpapi.Run) int { return b.StartedAt.Compare(a.StartedAt) })
	return runs[:min(len(runs), limit)], nil
}

// Breaker tells how the store's circuit breaker stands.
func (d *Desk) Breaker(_ context.Context, store uuid.UUID) (httpapi.Breaker, error) {
	if d.breakers == nil {
		return httpapi.Breaker{}, httpapi.ErrNoBreaker
	}
	b := d.breakers.Breaker(store)
	shown := httpapi.Breaker{Store: store, State: string(b.State), Failures: b.Failures, Since: b.Since.UTC()}
	if !b.Probe.IsZero() {
		probe := b.Probe.UTC()
		shown.NextProbe = &probe
	}
	return shown, nil
}

// ResetBreaker closes the store's breaker: written down first, since it cannot fail.
func (d *Desk) ResetBreaker(ctx context.Context, store uuid.UUID, by string) error {
	if d.breakers == nil {
		return httpapi.ErrNoBreaker
	}
	was := d.breakers.Breaker(store).State
	if err := d.did(ctx, by, "breaker reset", store, string(was), "reset"); err != nil {
		return err
	}
	d.breakers.ResetBreaker(store)
	return nil
}

// RetryOutbox lets the POS try outbox entries again.
func (d *Desk) RetryOutbox(ctx context.Context, retry httpapi.OutboxRetry) error {
	if d.observing {
		return httpapi.ErrObserving
	}
	err := d.errand(ctx, "outbox retry", retry.Store, func(ctx context.Context, grant lock.Grant) error {
		return d.outbox.Retry(ctx, grant, retry.IDs, retry.By, retry.Why)
	})
	return asUnknown(err, "ids")
}

// RetryGaps makes gaps due.
func (d *Desk) RetryGaps(ctx context.Context, retry httpapi.GapRetry) (due []uuid.UUID, err error) {
	if d.observing {
		return nil, httpapi.ErrObserving
	}
	err = d.errand(ctx, "gaps retry", retry.Store, func(ctx context.Context, grant lock.Grant) (err error) {
		due, err = d.gaps.Retry(ctx, grant, retry.Events, projection.Class(retry.Class), retry.By)
		return err
	})
	return due, asUnknown(err, "event_ids")
}

// DismissGap leaves a malformed event as it is.
func (d *Desk) DismissGap(ctx context.Context, dismissal httpapi.GapDismissal) error {
	err := d.errand(ctx, "gaps dismiss", dismissal.Store, func(ctx context.Context, grant lock.Grant) error {
		return d.gaps.Dismiss(ctx, grant, dismissal.Event, dismissal.By, dismissal.Why)
	})
	return asUnknown(err, "event_id")
}

// Acknowledge takes an alert on. It writes nothing of the POS's, so it needs no turn.
func (d *Desk) Acknowledge(ctx context.Context, taking httpapi.Taking) (httpapi.Alert, error) {
	taken, err := d.alerts.Acknowledge(ctx, taking.Store, taking.Alert, taking.By, taking.Why)
	if errors.Is(err, alert.ErrNotFiring) {
		return httpapi.Alert{}, httpapi.ErrNotFiring
	}
	return shownAlert(taken), asUnknown(err, "alert_id")
}

// asUnknown turns what is not there into what operators are told.
func asUnknown(err error, field string) error {
	for _, missing := range []struct {
		err  error
		code string
	}{{postgres.ErrNoEntry, "UNKNOWN_ENTRY"}, {postgres.ErrNoGap, "UNKNOWN_GAP"}, {postgres.ErrNotPoison, "NOT_IN_QUARANTINE"}, {postgres.ErrNoAlert, "UNKNOWN_ALERT"}} {
		if errors.Is(err, missing.err) {
			return &httpapi.UnknownError{Code: missing.code, Field: field, Message: err.Error()}
		}
	}
	return err
}
