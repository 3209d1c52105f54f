package central_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/veloxpos/reconciled/internal/postgres"
	"github.com/veloxpos/reconciled/internal/velox"
	"github.com/veloxpos/reconciled/lock"
	"github.com/veloxpos/reconciled/merkle/reconcile"
)

// newConflict is a pair whose last round found that an event says 7 at the store and 700
// at central, where its hash is still that of the 7.
func newConflict(t *testing.T) (*pair, velox.Event) {
	t.Helper()
	p := newPair(t)
	common := received(0, 20)
	p.store.add(common...)
	p.central.add(common...)
	here := event(500, velox.StockReceived, `{"qty": 7, "note": "<a> & b"}`)
	there := here
	there.Delta = json.RawMessage(`{"qty": 700, "note": "<a> & b"}`)
	p.store.add(here)
	p.central.add(there)
	p.wantRound(t, reconcile.Differs)
	return p, here
}

// decider is one side, with what it needs to decide.
func (p *pair) decider(tb testing.TB, name string) (*side, lock.Grant) {
	if name == "store" {
		return p.store, p.grant
	}
	return p.central, p.central.Grant(tb, shop)
}

func (s *side) undecided() int {
	s.Helper()
	return s.number(`SELECT count(*) FROM reconciled.conflict WHERE decided_at IS NULL`)
}

// TestTheOtherSidesContentIsTakenOver: one decision is enough, at either side; it leaves
// the evidence of what was there, and becomes none itself.
func TestTheOtherSidesContentIsTakenOver(t *testing.T) {
	for name, says := range map[string]int{"store": 700, "central": 7} {
		t.Run("at the "+name, func(t *testing.T) {
			p, e := newConflict(t)
			s, grant := p.decider(t, name)
			book := postgres.NewConflicts(s.DB)
			delta := s.number(`SELECT (delta_payload ->> 'qty')::int FROM events WHERE event_id = $1`, e.ID)
			shown, err := book.Copies(t.Context(), shop, e.ID)
			if err != nil || strings.Join(shown.Differ, " ") != "said" || string(shown.Here) == string(shown.There) {
				t.Fatalf("shown %+v, %v", shown, err)
			}
			copies, err := book.Decide(t.Context(), grant, e.ID, postgres.KeepThere, "ana", "the delivery note")
			if err != nil || string(copies.There) != string(shown.There) {
				t.Fatalf("took over %s, %v; want what was shown, %s", copies.There, err, shown.There)
			}
			if _, err := book.Decide(t.Context(), grant, e.ID, postgres.KeepHere, "ana", "again"); !errors.Is(err, postgres.ErrNoConflict) {
				t.Errorf("decided a second time: %v, want ErrNoConflict", err)
			}
			if n := s.number(`SELECT (payload ->> 'qty')::int FROM events WHERE event_id = $1`, e.ID); n != says {
				t.Errorf("the POS projects from %d, want %d", n, says)
			}
			if n := s.number(`SELECT (delta_payload ->> 'qty')::int FROM events WHERE event_id = $1`, e.ID); n != delta {
				t.Errorf("delta_payload says %d, want what was there, %d", n, delta)
			}
			r := p.wantRound(t, reconcile.InSync)
			if len(r.Exceptions) != 0 || p.store.root() != p.central.root() {
				t.Errorf("exceptions %v, roots %v and %v", r.Exceptions, p.store.root(), p.central.root())
			}
			if here, there := p.store.undecided(), p.central.undecided(); here != 0 || there != 0 {
				t.Errorf("%d conflicts open at the store and %d at central, want none", here, there)
			}
			if n, _ := p.store.log.Unproven(t.Context(), shop); n != 0 {
				t.Errorf("%d events unproven, want none", n)
			}
			// That its row is not what its hash was taken of is no news after that.
			if _, err := s.log.Scrub(t.Context(), grant, postgres.ScrubOptions{Rate: 1e6}); err != nil {
				t.Fatal(err)
			}
			for what, sql := range map[string]string{
				"the POS's log of conflicts": `SELECT count(*) FROM conflict_audit_log WHERE winner_payload ->> 'qty' <> loser_payloads -> 0 ->> 'qty' AND resolved_by = 'ana'`,
				"the audit":                  `SELECT count(*) FROM reconciled.audit WHERE action = 'event decide' AND actor = 'ana' AND detail ->> 'why' = 'the delivery note'`,
				"the healer's list":          `SELECT count(*) FROM reconciled.worklist WHERE consumer = 'healer'`,
			} {
				if n := s.number(sql); n != 1 {
					t.Errorf("%d lines in %s, want 1", n, what)
				}
			}
			if n := s.number(`SELECT count(*) FROM reconciled.evidence WHERE kind IN ('changed', 'self_check')`); n != 0 {
				t.Errorf("%d pieces of evidence of the decision itself, want none", n)
			}
		})
	}
}

// TestAContentKeptOnBothSidesStaysADifference, and a new content is a new conflict.
func TestAContentKeptOnBothSidesStaysADifference(t *testing.T) {
	p, e := newConflict(t)
	for _, name := range []string{"store", "central"} {
		s, grant := p.decider(t, name)
		if _, err := postgres.NewConflicts(s.DB).Decide(t.Context(), grant, e.ID, postgres.KeepHere, "ana", "mine"); err != nil {
			t.Fatal(err)
		}
	}
	p.wantRound(t, reconcile.Differs)
	if here, there := p.store.undecided(), p.central.undecided(); here != 0 || there != 0 {
		t.Errorf("%d conflicts open at the store and %d at central, want none: both are decided", here, there)
	}
	p.central.exec(`UPDATE events SET delta_payload = '{"qty": 70}' WHERE event_id = $1`, e.ID)
	p.wantRound(t, reconcile.Differs)
	if here, there := p.store.undecided(), p.central.undecided(); here != 1 || there != 1 {
		t.Errorf("%d conflicts open at the store and %d at central, want both: neither decision was about this content", here, there)
	}
	copies, err := postgres.NewConflicts(p.store.DB).Decide(t.Context(), p.grant, e.ID, postgres.KeepThere, "ana", "theirs")
	if err != nil || string(copies.There) != `{"qty": 70}` {
		t.Fatalf("took over %s, %v; want the latest", copies.There, err)
	}
	p.wantRound(t, reconcile.InSync)
	if here, there := p.store.undecided(), p.central.undecided(); here != 0 || there != 0 {
		t.Errorf("%d conflicts open at the store and %d at central, want none", here, there)
	}
}

// What was settled once and is there again is a conflict again.
func TestAConflictThatComesBackIsOpenAgain(t *testing.T) {
	p, e := newConflict(t)
	if _, err := postgres.NewConflicts(p.store.DB).Decide(t.Context(), p.grant, e.ID, postgres.KeepThere, "ana", "theirs"); err != nil {
		t.Fatal(err)
	}
	p.wantRound(t, reconcile.InSync)
	for _, sql := range []string{
		`UPDATE reconciled.said SET said = '{"qty": 7, "note": "<a> & b"}'`,
		`INSERT INTO reconciled.dirty (store_id, slot, op) SELECT store_id, reconciled.slot(created_at), 'm' FROM events WHERE seq = 500`,
	} {
		if _, err := p.store.DB.Pool.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	p.wantRound(t, reconcile.Differs)
	if here, there := p.store.undecided(), p.central.undecided(); here != 1 || there != 1 {
		t.Errorf("%d conflicts open at the store and %d at central, want 1 and 1", here, there)
	}
}

func TestNothingElseOfAnEventIsTakenOver(t *testing.T) {
	p := newPair(t)
	here := event(1, velox.StockReceived, `{"qty": 7}`)
	there := here
	there.Seq++
	p.store.add(here)
	p.central.add(there)
	p.wantRound(t, reconcile.Differs)
	book := postgres.NewConflicts(p.store.DB)
	_, err := book.Decide(t.Context(), p.grant, here.ID, postgres.KeepThere, "ana", "theirs")
	if !errors.Is(err, postgres.ErrOtherEvent) || !strings.Contains(err.Error(), "seq") {
		t.Errorf("%v, want ErrOtherEvent for seq", err)
	}
	if n := p.store.undecided(); n != 1 {
		t.Errorf("%d conflicts open, want the one", n)
	}
	if n := p.store.number(`SELECT (SELECT count(*) FROM reconciled.said) + (SELECT count(*) FROM conflict_audit_log)`); n != 0 {
		t.Errorf("%d lines of a decision that was refused, want none", n)
	}
}

func TestACopyThatChangedSinceItWasReceivedIsNotTakenOver(t *testing.T) {
	p, e := newConflict(t)
	if _, err := p.store.DB.Pool.Exec(t.Context(), `UPDATE reconciled.conflict SET there = replace(there, '700', '7000')`); err != nil {
		t.Fatal(err)
	}
	_, err := postgres.NewConflicts(p.store.DB).Decide(t.Context(), p.grant, e.ID, postgres.KeepThere, "ana", "theirs")
	if err == nil || !strings.Contains(err.Error(), "another digest") {
		t.Errorf("%v, want another digest", err)
	}
}
