package main

import (
	"encoding/json"
	"testing"

	"github.com/veloxpos/reconciled/internal/stage"
	"github.com/veloxpos/reconciled/merkle/reconcile"
)

func TestVerifyReadsBothLogsBesideTheDaemons(t *testing.T) {
	c := newChain(t, stage.Options{}, 600)
	c.start(c.Central, c.Store)
	verify := []string{"--config", c.Store.Config, "verify", "--store", shopID.String()}
	cmd(t, verify...).want(t, exitOK, "the same", "600 events")

	super := c.super(c.Central)
	if _, err := super.Exec(t.Context(), `BEGIN; SET LOCAL session_replication_role = replica;
		UPDATE events SET vector_clock = '{"x": 1}' WHERE event_id = (SELECT min(event_id::text)::uuid FROM events); COMMIT`); err != nil {
		t.Fatal(err)
	}
	cmd(t, verify...).want(t, exitOK, "1 slots with the same events")

	if _, err := super.Exec(t.Context(), `BEGIN; SET LOCAL session_replication_role = replica;
		UPDATE events SET seq = seq + 1 WHERE event_id = (SELECT min(event_id::text)::uuid FROM events); COMMIT`); err != nil {
		t.Fatal(err)
	}
	// Whether the leaf there is stale depends on whether its scrub was there already.
	cmd(t, verify...).want(t, exitDiffers, "NOT the same", "1 slots differ")
	r := cmd(t, append(verify, "--output", "json")...)
	var report struct {
		Good bool `json:"good"`
		reconcile.VerifyReport
	}
	if err := json.Unmarshal([]byte(r.out), &report); err != nil || r.code != exitDiffers || report.Good || report.Differ.Count != 1 {
		t.Errorf("exit %d, %+v, %v: %s", r.code, report, err, r.err)
	}

	if err := c.Central.Kill(); err != nil {
		t.Fatal(err)
	}
	cmd(t, verify...).want(t, exitTrouble, "unreachable")
}
