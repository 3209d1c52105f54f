package central_test

import (
	"errors"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/veloxpos/reconciled/internal/postgres"
	"github.com/veloxpos/reconciled/merkle/reconcile"
)

// TestWhatWasChangedBehindTheTriggersIsNamed: the scrub finds the slot, the next round
// the events, with both digests, before it mends what it can.
func TestWhatWasChangedBehindTheTriggersIsNamed(t *testing.T) {
	p := newPair(t)
	p.store.add(received(0, 200)...)
	p.wantRound(t, reconcile.Repaired)
	gone, other := received(7, 1)[0], received(9, 1)[0]
	err := p.store.Server.Exec(t.Context(), p.store.Site.Name, `SET session_replication_role = replica;
		DELETE FROM events WHERE event_id = '`+gone.ID.String()+`';
		UPDATE events SET delta_payload = '{"qty": 1000}' WHERE event_id = '`+other.ID.String()+`'`)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.store.log.Scrub(t.Context(), p.grant, postgres.ScrubOptions{Rate: 1e6}); err != nil {
		t.Fatal(err)
	}
	r := p.wantRound(t, reconcile.Differs)
	if r.Pulled[reconcile.Stored] != 1 || r.Exceptions[reconcile.Conflict] != 1 {
		t.Errorf("pulled %v, exceptions %v; want the deleted event back and the changed one in conflict", r.Pulled, r.Exceptions)
	}
	rows, err := p.store.DB.Pool.Query(t.Context(), `SELECT kind || ' ' || event_id || ' ' || (octet_length(expected) = 32) || ' ' || (found IS NOT NULL)
		FROM reconciled.evidence WHERE kind IN ('vanished', 'differs') AND slot IS NOT NULL ORDER BY kind`)
	if err != nil {
		t.Fatal(err)
	}
	got, err := pgx.CollectRows(rows, pgx.RowTo[string])
	want := []string{"differs " + other.ID.String() + " true true", "vanished " + gone.ID.String() + " true false"}
	if err != nil || len(got) != 2 || got[0] != want[0] || got[1] != want[1] {
		t.Errorf("evidence %q (%v), want %q", got, err, want)
	}

	list, total, err := p.store.log.Evidence(t.Context(), shop, 2)
	if err != nil || total < 4 || len(list) != 2 { // the slot, two events, and the one that no longer matches its own hash
		t.Errorf("%d of %d pieces of evidence (%v), want 2 of 4", len(list), total, err)
	}
	if _, err := p.store.log.Clear(t.Context(), p.grant, []int64{list[0].ID, 1 << 40}, "tester", "a drill"); !errors.Is(err, postgres.ErrNoEvidence) {
		t.Errorf("clearing what is not there: %v, want ErrNoEvidence", err)
	}
	if cleared, err := p.store.log.Clear(t.Context(), p.grant, nil, "tester", "a drill"); err != nil || len(cleared) != total {
		t.Errorf("cleared %d (%v), want all %d", len(cleared), err, total)
	}
	if n := p.store.number(`SELECT count(*) FROM reconciled.audit WHERE action = 'event clear' AND detail ->> 'why' = 'a drill'`); n != 1 {
		t.Errorf("%d lines in the audit, want one", n)
	}
}
