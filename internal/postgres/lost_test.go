package postgres_test

import (
	"encoding/json"
	"errors"
	"testing"

	"github.com/google/uuid"

	"github.com/veloxpos/reconciled/healer"
	"github.com/veloxpos/reconciled/internal/fleet"
	"github.com/veloxpos/reconciled/internal/postgres"
	"github.com/veloxpos/reconciled/internal/velox"
)

// sealed gives every event the hash that the backend would have computed.
func (h *healing) sealed() {
	h.Helper()
	for _, e := range h.events() {
		if e.Hash != "" {
			continue
		}
		hash, err := velox.PayloadHash(e.Said())
		if err != nil {
			h.Fatal(err)
		}
		h.exec(`UPDATE events SET full_payload_hash = $2 WHERE event_id = $1`, e.ID, hash)
	}
}

func (h *healing) events() []velox.Event {
	h.Helper()
	events, err := fleet.Read(h.ctx, h.owner, shop)
	if err != nil {
		h.Fatal(err)
	}
	return events
}

// overwrite is last write wins: the loser is stored with the winner's payload.
func (h *healing) overwrite(loser, winner uuid.UUID) {
	h.Helper()
	h.exec(`UPDATE events l SET payload = w.payload, conflict_status = 'auto_resolved' FROM events w WHERE l.event_id = $1 AND w.event_id = $2`, loser, winner)
}

func (h *healing) note(store *postgres.Healing) {
	h.Helper()
	if err := store.NoteLost(h.ctx, h.grant, h.events()); err != nil {
		h.Fatal(err)
	}
}

func (h *healing) pin(log *postgres.Log) string {
	h.Helper()
	if _, err := log.Pin(h.ctx, shop); err != nil {
		h.Fatal(err)
	}
	return h.text(`SELECT encode(digest, 'hex') FROM reconciled.root`)
}

// overwritten is a shop where one receipt's payload is another's.
func overwritten(t *testing.T) (h *healing, store *postgres.Healing, log *postgres.Log, loser, winner uuid.UUID) {
	t.Helper()
	h = newHealing(t, healer.Options{})
	h.log(product("flour", 0), received("five", 1, flour, 5), received("seven", 2, flour, 7))
	h.sealed()
	loser, winner = id("event received seven"), id("event received five")
	h.overwrite(loser, winner)
	return h, postgresStore(h), postgres.NewLog(h.site.DB), loser, winner
}

const lostUpdates = `SELECT string_agg(concat_ws(' ', event_id, entity_type, entity_id, winner, restored_by), ', ' ORDER BY event_id) FROM reconciled.lost_update`

func TestALostUpdateIsNotedWithItsWinner(t *testing.T) {
	h, store, log, loser, winner := overwritten(t)
	h.note(store)
	want := loser.String() + " stock " + flour.String() + " " + winner.String()
	h.expect(want, lostUpdates)
	list, total, err := store.Lost(h.ctx, shop, 10)
	if err != nil || total != 1 || len(list) != 1 || list[0].Winner.UUID != winner || string(list[0].Payload) == string(list[0].Said) {
		t.Fatalf("%+v of %d, %v", list, total, err)
	}
	found := h.text(`SELECT found_at FROM reconciled.lost_update`)
	h.note(store)
	h.expect(found, `SELECT found_at FROM reconciled.lost_update`)
	// What is as it was said again is forgotten, as is what is gone.
	h.exec(`UPDATE events SET payload = delta_payload WHERE event_id = $1`, loser)
	h.pin(log)
	h.note(store)
	h.expect("", lostUpdates)
	h.overwrite(loser, winner)
	h.note(store)
	h.expect(want, lostUpdates)
	h.exec(`DELETE FROM events WHERE event_id = $1`, loser)
	h.pin(log)
	h.expect("", lostUpdates)
}

// A payment names a debt by the id that it has on the payment's own node. Only the
// DebtCreated knows the sale, and it knows it still when its payload is another's.
func TestAPaymentFindsTheDebtOfADeclarationThatWasOverwritten(t *testing.T) {
	h := newHealing(t, healer.Options{})
	sale, debt := sold("one", 2, onCredit(maria), flour), owes("one", 3, id("sale one"))
	h.log(product("flour", 0), opened(0), customerCreated(1), sale, debt, owes("other", 4, nil), paid("one", 5, "one", 2))
	h.sealed()
	h.overwrite(debt.event, id("event debt other"))
	h.heal()
	h.expect("one 2.00 paid", `SELECT concat_ws(' ', CASE d.sale_id WHEN $1 THEN 'one' END, p.amount_usd, d.status) FROM debt_payments p JOIN debts d ON d.id = p.debt_id`, id("sale one"))
	h.mends(0)
}

// The sale's own total is not held against a debt that an event has declared.
func TestADebtIsAsItsOverwrittenDeclarationSays(t *testing.T) {
	h := newHealing(t, healer.Options{})
	sale, debt := sold("one", 2, onCredit(maria), flour), owes("one", 3, id("sale one"))
	debt.body["amount_usd"] = 1.5
	h.log(product("flour", 0), opened(0), customerCreated(1), debt)
	h.exec(`INSERT INTO sales (id, store_id, sold_at, currency, totals, payment) VALUES ($1, $2, now(), 'BS', '{}', '{"method": "FIAO"}')`, id("sale one"), shop)
	h.heal()
	h.log(sale, owes("other", 4, nil))
	h.sealed()
	h.overwrite(debt.event, id("event debt other"))
	for range 3 {
		h.heal()
		h.reread()
	}
	h.expect("1.50", `SELECT amount_usd FROM debts WHERE sale_id = $1`, id("sale one"))
	h.mends(0)
}

// What a peer wrote over the event may be nested more deeply than can be hashed.
func TestALostUpdateInAContentThatCannotBeHashedIsNotedWithoutAWinner(t *testing.T) {
	h, store, _, loser, _ := overwritten(t)
	h.reread()
	h.exec(`UPDATE events SET payload = jsonb_build_object('product_id', $2::text, 'x', (repeat('[', 10001) || repeat(']', 10001))::jsonb) WHERE event_id = $1`, loser, flour)
	h.heal()
	h.expect(loser.String()+" stock "+flour.String(), lostUpdates)
	list, total, err := store.Lost(h.ctx, shop, 10)
	if _, unprintable := json.Marshal(list); err != nil || unprintable != nil || total != 1 || list[0].Payload != nil || list[0].Said == nil {
		t.Errorf("%d listed, %v, %v", total, err, unprintable)
	}
}

func TestWhatIsNoLostUpdateIsNotNoted(t *testing.T) {
	h, store, _, loser, _ := overwritten(t)
	for name, c := range map[string]struct {
		sql  string
		want bool
	}{
		"overwritten":                  {`SELECT`, true},
		"softly validated":             {`UPDATE events SET conflict_status = 'resolved', payload = delta_payload || '{"metadata": {"sync_soft_validation": {"accepted": true}}}' WHERE event_id = $1`, false},
		"softly validated, and beaten": {`UPDATE events SET conflict_status = 'auto_resolved' WHERE event_id = $1`, true},
		"its hash is another's":        {`UPDATE events SET full_payload_hash = repeat('0', 64) WHERE event_id = $1`, false},
		"without a hash":               {`UPDATE events SET full_payload_hash = NULL WHERE event_id = $1`, false},
		"without a delta":              {`UPDATE events SET delta_payload = NULL WHERE event_id = $1`, false},
		"an empty delta":               {`UPDATE events SET delta_payload = '{}' WHERE event_id = $1`, false},
	} {
		t.Run(name, func(t *testing.T) {
			saved := h.text(`SELECT to_jsonb(e) FROM events e WHERE event_id = $1`, loser)
			if name != "overwritten" {
				if name == "softly validated, and beaten" {
					h.exec(`UPDATE events SET payload = delta_payload || '{"metadata": {"sync_soft_validation": {"accepted": true}}}' WHERE event_id = $1`, loser)
				}
				h.exec(c.sql, loser)
			}
			h.exec(`DELETE FROM reconciled.lost_update`)
			h.note(store)
			if got := h.text(lostUpdates) != ""; got != c.want {
				t.Errorf("noted %v, want %v", got, c.want)
			}
			h.exec(`UPDATE events e SET payload = s.payload, delta_payload = s.delta_payload, full_payload_hash = s.full_payload_hash, conflict_status = s.conflict_status
				FROM jsonb_populate_record(NULL::events, $2) s WHERE e.event_id = $1`, loser, saved)
		})
	}
}

func TestAContentThatCameBackIsALostUpdateToo(t *testing.T) {
	h, store, _, loser, _ := overwritten(t)
	h.exec(`INSERT INTO reconciled.said (event_id, store_id, said, source) SELECT event_id, store_id, delta_payload, event_id FROM events WHERE event_id = $1`, loser)
	h.exec(`UPDATE events SET delta_payload = NULL WHERE event_id = $1`, loser)
	h.note(store)
	if restored, err := store.RestoreLost(h.ctx, h.grant, []uuid.UUID{loser}, "ana"); err != nil || len(restored) != 1 {
		t.Fatalf("%+v, %v", restored, err)
	}
	h.expect("7", `SELECT payload ->> 'qty' FROM events WHERE event_id = $1`, loser)
}

func TestARestoredEventSaysWhatItSaidAndIsNoEvidence(t *testing.T) {
	h, store, log, loser, winner := overwritten(t)
	before := h.pin(log)
	h.note(store)
	if _, err := store.RestoreLost(h.ctx, h.grant, []uuid.UUID{loser, winner}, "ana"); !errors.Is(err, postgres.ErrNotLost) {
		t.Errorf("%v: what nobody overwrote was restored", err)
	}
	h.expect("0", `SELECT count(*) FROM reconciled.audit`)
	h.exec(`DELETE FROM reconciled.worklist`)
	restored, err := store.RestoreLost(h.ctx, h.grant, []uuid.UUID{loser}, "ana")
	if err != nil || len(restored) != 1 || restored[0].Winner.UUID != winner {
		t.Fatalf("%+v, %v", restored, err)
	}
	h.expect("true", `SELECT payload = delta_payload AND conflict_status = 'auto_resolved' FROM events WHERE event_id = $1`, loser)
	h.expect("1", `SELECT count(*) FROM reconciled.worklist WHERE consumer = 'healer' AND slot = (SELECT reconciled.slot(created_at) FROM events WHERE event_id = $1)`, loser)
	h.expect(loser.String()+" {"+winner.String()+"} reconciled-restore stock "+flour.String()+" 7 5 ana", `SELECT concat_ws(' ', winner_event_id, loser_event_ids, strategy,
		entity_type, entity_id, winner_payload ->> 'qty', loser_payloads -> 0 ->> 'qty', resolved_by) FROM conflict_audit_log`)
	h.expect("ana 5", `SELECT actor || ' ' || (detail -> 'overwritten' ->> 'qty') FROM reconciled.audit WHERE action = 'event restore' AND target = $1`, loser.String())

	if after := h.pin(log); after != before {
		t.Errorf("root %s, before %s: what was said has not changed", after, before)
	}
	h.expect("0", `SELECT count(*) FROM reconciled.evidence`)
	if _, err := log.Scrub(h.ctx, h.grant, postgres.ScrubOptions{}); err != nil {
		t.Error(err)
	}
	h.expect("0", `SELECT count(*) FROM reconciled.evidence`)
	if _, total, err := store.Lost(h.ctx, shop, 10); err != nil || total != 0 {
		t.Errorf("%d lost updates left, %v", total, err)
	}
	h.expect("ana", `SELECT restored_by FROM reconciled.lost_update`)
	// Overwritten again, it is one again.
	h.overwrite(loser, winner)
	h.pin(log)
	h.note(store)
	if _, total, err := store.Lost(h.ctx, shop, 10); err != nil || total != 1 {
		t.Errorf("%d lost updates, %v", total, err)
	}
}
