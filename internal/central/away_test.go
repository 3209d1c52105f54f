package central_test

import (
	"context"
	"errors"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/veloxpos/reconciled/internal/central"
	"github.com/veloxpos/reconciled/internal/postgres"
	"github.com/veloxpos/reconciled/internal/velox"
	"github.com/veloxpos/reconciled/merkle/reconcile"
)

// away is a log that takes no events for now.
type away struct{ *postgres.Log }

func (away) Accept(context.Context, velox.StoreID, uuid.UUID, []velox.Event) ([]reconcile.Outcome, error) {
	return nil, &central.UnavailableError{Code: central.CodePaused, Reason: "paused by ana: an upgrade", RetryAfter: time.Hour}
}

func TestACentralThatTakesNothingForNowIsNotTakenForBroken(t *testing.T) {
	p := newPair(t)
	p.store.add(received(0, 3)...)
	server := central.NewServer(away{p.central.log}, central.ServerOptions{
		Installation: installation(t, p.central), Tokens: map[velox.StoreID][]string{shop: {token}},
		Failed: func(call string, _ velox.StoreID, err error) { t.Errorf("a failure: %s: %v", call, err) },
	}).Handler()
	var pushes atomic.Int64
	var retryAfter atomic.Value
	p.serve(t, func(http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			server.ServeHTTP(w, r)
			if w.Header().Get("Retry-After") != "" {
				pushes.Add(1)
				retryAfter.Store(w.Header().Get("Retry-After"))
			}
		})
	})
	for n := range int64(7) { // more than the breaker bears
		report, err := p.round(t)
		var status *central.StatusError
		if !errors.As(err, &status) || status.Status != http.StatusServiceUnavailable || status.Code != central.CodePaused ||
			status.Message != "paused by ana: an upgrade" || report.Verdict != reconcile.Unknown {
			t.Fatalf("round %d: %v, %v; want 503 PAUSED", n, report.Verdict, err)
		}
		if pushes.Load() != n+1 {
			t.Errorf("%d pushes after %d rounds: it was repeated", pushes.Load(), n+1)
		}
	}
	if retryAfter.Load() != "3600" || p.client.Breaker(shop).State != central.Closed {
		t.Errorf("Retry-After %v, breaker %s", retryAfter.Load(), p.client.Breaker(shop).State)
	}
}
