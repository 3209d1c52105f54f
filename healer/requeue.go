package healer

import (
	"bytes"
	"context"
	"fmt"
	"slices"

	"github.com/google/uuid"

	"github.com/veloxpos/reconciled/healer/projection"
	"github.com/veloxpos/reconciled/internal/velox"
)

// requeueable are the types that the POS backend projects right when nothing of them
// is there. It drops patches by the wrong clock and applies a quota twice.
var requeueable = []velox.Type{
	velox.ProductCreated, velox.CustomerCreated, velox.CashSessionOpened, velox.CashLedgerEntryCreated,
	velox.StockReceived, velox.StockAdjusted, velox.StockDeltaApplied, velox.SaleCreated,
	velox.DebtCreated, velox.DebtPaymentRecorded, velox.DebtPaymentAdded,
}

// givable says whether the POS backend can be given the event again: it has an entry
// in the outbox, nothing of it is there, it was not tried before, the backend projects
// its type right, and last write wins has not put another event's content into the payload,
// which is what it would project.
func (h healing) givable() bool {
	overwritten := h.ConflictStatus == velox.AutoResolved && !bytes.Equal(h.Said(), h.Payload)
	return h.Entry != "" && !h.Requeued && h.out.Changes.Bare && slices.Contains(requeueable, h.Type) && !overwritten
}

// givesBack says whether the event is given back to the POS backend, as the strategy
// says.
func (r *run) givesBack(ctx context.Context, h healing) (bool, error) {
	switch {
	case r.opts.Strategy == Native:
		return false, nil
	case r.opts.Strategy == Requeue:
		return true, nil // what cannot be given back stays a gap
	case !h.givable():
		return false, nil
	}
	if r.backend == nil {
		at, err := r.store.Consumed(ctx, r.grant.Store)
		if err != nil {
			return false, fmt.Errorf("look whether a backend is at work: %w", err)
		}
		r.backend = &at
	}
	return *r.backend, nil
}

// requeue sets the events' outbox entries back. Whose entry is not there stays an
// actionable gap.
func (r *run) requeue(ctx context.Context, heals []healing) error {
	if len(heals) == 0 {
		return nil
	}
	var gaps []Gap
	for _, h := range heals {
		if h.givable() {
			gaps = append(gaps, Gap{
				Event: h.ID, Type: h.Type, CreatedAt: h.CreatedAt,
				Class: projection.Actionable, Reason: "given back to the POS backend",
			})
		}
	}
	var given []uuid.UUID
	if len(gaps) > 0 {
		var err error
		if given, err = r.store.Requeue(ctx, r.grant, gaps, r.opts); err != nil {
			return fmt.Errorf("give events back to the backend: %w", err)
		}
	}
	for _, h := range heals {
		if slices.Contains(given, h.ID) {
			r.count(h.Logged, requeued)
			continue
		}
		r.count(h.Logged, projection.Actionable)
		r.gap(h.Logged, h.out, "the strategy is requeue, and the POS backend cannot be given this event: it has no outbox entry, or part of it is there, or it was tried, or the backend gets its type wrong, or its payload is not what it said")
	}
	return nil
}
