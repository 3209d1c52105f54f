//go:build !race

package main

import (
	"testing"
	"time"

	"github.com/veloxpos/reconciled/internal/fleet"
	"github.com/veloxpos/reconciled/internal/stage"
	"github.com/veloxpos/reconciled/merkle/reconcile"
)

// Folding a hundred thousand events anew takes ten minutes under the race detector
// and one without; what is under test runs as it is shipped either way.

// A hundred thousand events, a thousand missing on each side, five hundred
// orphans: one round and one heal mend it all.
func TestI5AHundredThousandEventsAreMendedInOneRoundAndOneHeal(t *testing.T) {
	c := newChain(t, stage.Options{Binary: plain}, 100_000,
		fleet.Outage(fleet.Store, 700), fleet.Scattered(fleet.Store, 300),
		fleet.Outage(fleet.Central, 600), fleet.Scattered(fleet.Central, 400))
	c.plant(c.Store, fleet.Store,
		fleet.SalesWithoutRows(200, false), fleet.SalesWithoutRows(100, true), fleet.VoidsIgnored(40), fleet.EarlyVoids(40),
		fleet.PaymentsMissing(40), fleet.MovementsMissing(40), fleet.SessionsLeftOpen(10), fleet.UpdatesLost(30))
	c.patience = 15 * time.Minute // all of it is folded anew on both sides at once
	c.start(c.Central, c.Store)
	round, err := stage.Report[reconcile.Report](c.must(c.Store, "auto-reconcile", false))
	if err != nil {
		t.Fatal(err)
	}
	if round.Verdict != reconcile.Repaired || round.Here != round.There {
		t.Errorf("%+v, want repaired and equal roots", round)
	}
	t.Logf("%d messages, pulled %v, pushed %v, %s", round.Messages, round.Pulled, round.Pushed, round.Elapsed)
	heal := c.must(c.Store, "heal", true)
	t.Logf("heal: %v", heal.Report)
	c.must(c.Central, "heal", true)
	c.wantSame()
	again, err := stage.Report[reconcile.Report](c.must(c.Store, "auto-reconcile", false))
	if err != nil || again.Verdict != reconcile.InSync || again.Messages != 1 {
		t.Errorf("%+v, %v; want in sync after one message", again, err)
	}
}
