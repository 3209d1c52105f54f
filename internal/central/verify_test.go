package central_test

import (
	"context"
	"encoding/json"
	"slices"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/veloxpos/reconciled/internal/velox"
	"github.com/veloxpos/reconciled/merkle"
	"github.com/veloxpos/reconciled/merkle/reconcile"
)

// behind changes a side's log past its triggers.
func (s *side) behind(sql string, args ...any) {
	s.Helper()
	super, err := pgx.Connect(s.Context(), s.Server.URL("postgres", s.Site.Name))
	if err != nil {
		s.Fatal(err)
	}
	defer super.Close(context.WithoutCancel(s.Context()))
	for _, statement := range []func() error{
		func() error { _, err := super.Exec(s.Context(), `SET session_replication_role = replica`); return err },
		func() error { _, err := super.Exec(s.Context(), sql, args...); return err },
	} {
		if err := statement(); err != nil {
			s.Fatal(err)
		}
	}
}

// inBoth is a pair whose sides hold the same events, in some hundred slots.
func inBoth(t *testing.T) (*pair, []velox.Event) {
	p := newPair(t)
	events := received(0, 3000)
	for i := range events {
		events[i].CreatedAt = velox.MillisOf(noon) + velox.Millis(i)*20_000
		events[i].VectorClock = json.RawMessage(`{}`)
	}
	p.store.add(events...)
	p.central.add(events...)
	return p, events
}

func (p *pair) verify(t *testing.T) reconcile.VerifyReport {
	t.Helper()
	return p.verifyThrough(t, p.store.log, p.client)
}

func (p *pair) verifyThrough(t *testing.T, here, there reconcile.Rehasher) reconcile.VerifyReport {
	t.Helper()
	exceptions, err := p.store.log.Exceptions(t.Context(), shop)
	if err != nil {
		t.Fatal(err)
	}
	report, err := reconcile.Verify(t.Context(), shop, here, there, exceptions, nil)
	if err != nil {
		t.Fatal(err)
	}
	return report
}

func slotOf(e velox.Event) int64 { return merkle.Key{At: int64(e.CreatedAt)}.Slot() }

func TestVerifyReadsEverythingOnBothSides(t *testing.T) {
	p, _ := inBoth(t)
	read := uint64(0)
	report, err := reconcile.Verify(t.Context(), shop, p.store.log, p.client, nil, func(events uint64) { read = events })
	if err != nil {
		t.Fatal(err)
	}
	if !report.Good() || report.Here.Events != 3000 || report.There.Events != 3000 || report.Slots < 50 || report.Drift.Count != 0 || read != 3000 {
		t.Errorf("%+v, %d events told of", report, read)
	}
}

func TestVerifyFindsWhatWasChangedBehindTheTriggers(t *testing.T) {
	p, events := inBoth(t)
	p.wantRound(t, reconcile.InSync)
	p.central.behind(`UPDATE events SET seq = seq + 1 WHERE event_id = $1`, events[1500].ID)
	p.wantRound(t, reconcile.InSync) // no tree knows of it
	report := p.verify(t)
	slot := slotOf(events[1500])
	if report.Good() || report.Differ.Count != 1 || report.Differ.First[0].Slot != slot {
		t.Errorf("slots that differ: %+v, want %d alone", report.Differ, slot)
	}
	if report.Here.Stale.Count != 0 || !slices.Equal(report.There.Stale.First, []int64{slot}) {
		t.Errorf("stale here %+v, there %+v; want slot %d there", report.Here.Stale, report.There.Stale, slot)
	}
}

func TestVerifyFindsASlotThatIsGoneFromOneSide(t *testing.T) {
	p, events := inBoth(t)
	slot := slotOf(events[1500])
	p.wantRound(t, reconcile.InSync)
	n := 0
	for _, e := range events {
		if slotOf(e) == slot {
			p.store.behind(`DELETE FROM events WHERE event_id = $1`, e.ID)
			n++
		}
	}
	report := p.verify(t)
	if report.Differ.Count != 1 || report.Differ.First[0].There != uint32(n) || report.Differ.First[0].Here != 0 || report.Drift.Count != 0 {
		t.Errorf("%+v, want slot %d with %d events there and none here", report, slot, n)
	}
	if !slices.Equal(report.Here.Stale.First, []int64{slot}) {
		t.Errorf("stale here: %+v", report.Here.Stale)
	}
}

func TestVerifyFindsContentThatDoesNotMatchItsHash(t *testing.T) {
	p, events := inBoth(t)
	for _, s := range []*side{p.store, p.central} { // the same on both: no comparison would tell
		s.behind(`UPDATE events SET payload = '{"qty": 0}', delta_payload = '{"qty": 0}' WHERE event_id = $1`, events[7].ID)
	}
	report := p.verify(t)
	want := []uuid.UUID{events[7].ID}
	if report.Good() || report.Differ.Count != 0 || !slices.Equal(report.Here.Corrupt.First, want) || !slices.Equal(report.There.Corrupt.First, want) {
		t.Errorf("%+v, want event %s corrupt on both sides", report, events[7].ID)
	}
}

func TestVerifyTellsDriftAndDoesNotCountIt(t *testing.T) {
	p, events := inBoth(t)
	p.central.exec(`UPDATE events SET vector_clock = '{"till": 9}' WHERE event_id = $1`, events[7].ID)
	p.central.exec(`UPDATE events SET causal_dependencies = ARRAY['x'] WHERE event_id = $1`, events[2000].ID)
	report := p.verify(t)
	if want := []int64{slotOf(events[7]), slotOf(events[2000])}; !report.Good() || !slices.Equal(report.Drift.First, want) {
		t.Errorf("%+v, want drift in slots %d and nothing else", report, want)
	}
}

func TestVerifyIsNotMisledByTheOrderWithinAMillisecond(t *testing.T) {
	p := newPair(t)
	events := received(0, 40)
	for i := range events {
		events[i].CreatedAt = velox.MillisOf(noon)
	}
	p.store.add(events...)
	p.central.add(events...)
	// What is below the millisecond is not what a device said.
	p.central.exec(`UPDATE events SET created_at = created_at + interval '1 microsecond' * (abs(hashtext(event_id::text)) % 999)`)
	if report := p.verify(t); !report.Good() || report.Drift.Count != 0 {
		t.Errorf("%+v", report)
	}
}

func TestVerifyKnowsAgreedExceptionsAndHidesNothingBehindThem(t *testing.T) {
	p, events := inBoth(t)
	here, there := event(5000, velox.StockReceived, `{"qty": 1}`), event(5000, velox.StockReceived, `{"qty": 2}`)
	here.CreatedAt, there.CreatedAt = events[7].CreatedAt, events[7].CreatedAt
	p.store.add(here)
	p.central.add(there)
	p.wantRound(t, reconcile.Differs)
	report := p.verify(t)
	if !report.Good() || report.Known.Count != 1 || report.Known.First[0].Slot != slotOf(here) {
		t.Errorf("%+v, want the slot of the conflict to be known", report)
	}
	p.central.behind(`UPDATE events SET seq = seq + 1 WHERE event_id = $1`, events[7].ID)
	report = p.verify(t)
	if report.Good() || report.Known.Count != 0 || report.Differ.Count != 1 {
		t.Errorf("%+v, want another difference in that slot to be one", report)
	}
}

func TestVerifyDoesNotTakeAPurgeForDrift(t *testing.T) {
	p, events := inBoth(t)
	p.wantRound(t, reconcile.InSync)
	p.store.exec(`UPDATE events SET type = 'StockAdjusted' WHERE event_id = $1`, events[7].ID)
	p.central.exec(`UPDATE events SET type = 'StockAdjusted' WHERE event_id = $1`, events[7].ID)
	p.store.exec(`UPDATE events SET created_at = created_at - interval '10 days' WHERE event_id = $1`, events[7].ID)
	p.central.exec(`UPDATE events SET created_at = created_at - interval '10 days' WHERE event_id = $1`, events[7].ID)
	p.store.exec(`DELETE FROM events WHERE event_id = $1`, events[7].ID)
	report := p.verify(t)
	if !report.Good() || report.Drift.Count != 0 || report.Here.Events != 2999 || report.There.Events != 3000 {
		t.Errorf("%+v", report)
	}
}

// trading is a side that both sides get more events behind, once it has
// answered: they trade on, and their relay delivers at once.
type trading struct {
	reconcile.Rehasher
	trade func()
}

func (tr trading) Rehash(ctx context.Context, store velox.StoreID, section reconcile.Section) (reconcile.Rehash, error) {
	answer, err := tr.Rehasher.Rehash(ctx, store, section)
	tr.trade()
	return answer, err
}

func TestVerifyIsNotMisledByLiveTrade(t *testing.T) {
	p, events := inBoth(t)
	n := 0
	report := p.verifyThrough(t, trading{p.store.log, func() {
		if n++; n > 1 { // the second look is at what stands still again
			return
		}
		e := event(6000+n, velox.StockReceived, `{"qty": 1}`)
		e.CreatedAt = events[len(events)-1].CreatedAt
		p.store.add(e)
		p.central.add(e)
	}}, p.client)
	if !report.Good() || n != 2 {
		t.Errorf("%+v after %d answers", report, n)
	}
}

func TestVerifyBoundsItsListsAndCountsAll(t *testing.T) {
	p, events := inBoth(t)
	p.central.behind(`DELETE FROM events`)
	slots := map[int64]bool{}
	for _, e := range events {
		slots[slotOf(e)] = true
	}
	report := p.verify(t)
	if report.Differ.Count != uint64(len(slots)) || len(report.Differ.First) != reconcile.SomeAtMost || report.There.Events != 0 {
		t.Errorf("%d slots differ, %d listed, want %d and %d", report.Differ.Count, len(report.Differ.First), len(slots), reconcile.SomeAtMost)
	}
}

func TestARehashIsCutAndGoesOn(t *testing.T) {
	p := newPair(t)
	events := received(0, 1200)
	for i := range events {
		events[i].CreatedAt = velox.MillisOf(noon) + velox.Millis(i)<<merkle.SlotBits
	}
	p.store.add(events...)
	p.central.add(events...)
	first, err := p.client.Rehash(t.Context(), shop, reconcile.Section{After: reconcile.BeforeFirst})
	if err != nil || len(first.Slots) != reconcile.SectionSlots || first.Done {
		t.Fatalf("%d slots, done %v, %v; want the first %d", len(first.Slots), first.Done, err, reconcile.SectionSlots)
	}
	if report := p.verify(t); !report.Good() || report.Slots != 1200 || report.There.Events != 1200 {
		t.Errorf("%+v", report)
	}
}

func TestI13VerifyEndsWhateverThePeerAnswers(t *testing.T) {
	p, _ := inBoth(t)
	for name, answer := range map[string]reconcile.Rehash{
		"it does not go on":   {After: reconcile.BeforeFirst},
		"it goes back":        {After: 7, Slots: []reconcile.SlotCheck{{Slot: 5}, {Slot: 4}}},
		"beyond what it says": {After: 7, Slots: []reconcile.SlotCheck{{Slot: 8}}},
		"more purges":         {After: 7, Slots: []reconcile.SlotCheck{{Slot: 7, Count: 1, Purged: 2}}},
	} {
		if _, err := reconcile.Verify(t.Context(), shop, p.store.log, scripted(answer), nil, nil); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

type scripted reconcile.Rehash

func (s scripted) Rehash(context.Context, velox.StoreID, reconcile.Section) (reconcile.Rehash, error) {
	return reconcile.Rehash(s), nil
}
