package main

import (
	"context"
	"errors"
	"time"

	"github.com/google/uuid"

	"github.com/veloxpos/reconciled/internal/central"
	"github.com/veloxpos/reconciled/internal/postgres"
	"github.com/veloxpos/reconciled/internal/velox"
	"github.com/veloxpos/reconciled/lock"
	"github.com/veloxpos/reconciled/merkle/reconcile"
)

// door is central's log, which takes no events while it observes or is paused.
type door struct {
	*postgres.Log
	observing bool
}

// observingRetry is when a store may ask again: a mode changes with a restart.
const observingRetry = 10 * time.Minute

// Accept stores events, or says why not now.
func (d door) Accept(ctx context.Context, store velox.StoreID, from uuid.UUID, events []velox.Event) ([]reconcile.Outcome, error) {
	if d.observing {
		return nil, &central.UnavailableError{Code: central.CodeObserving, Reason: "central runs with mode: observe and takes no events", RetryAfter: observingRetry}
	}
	outcomes, err := d.Log.Accept(ctx, store, from, events)
	if paused := new(lock.PausedError); errors.As(err, &paused) {
		return nil, &central.UnavailableError{Code: central.CodePaused, Reason: "at central, " + paused.Error(), RetryAfter: paused.RetryAfter}
	}
	return outcomes, err
}
