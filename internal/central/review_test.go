package central_test

import (
	"errors"
	"testing"

	"github.com/google/uuid"

	"github.com/veloxpos/reconciled/internal/velox"
	"github.com/veloxpos/reconciled/lock"
	"github.com/veloxpos/reconciled/merkle"
	"github.com/veloxpos/reconciled/merkle/reconcile"
)

// stocktaking are n adjustments of one morning a week ago, as an inventory makes them.
func stocktaking(n int) []velox.Event {
	events := make([]velox.Event, n)
	for i := range events {
		events[i] = event(100_000+i, velox.StockAdjusted, `{"qty": 1}`)
		events[i].CreatedAt -= 7 * 24 * 3600 * 1000
	}
	return events
}

func TestMorePurgesThanAPageHoldsStopNothing(t *testing.T) {
	p := newPair(t)
	p.central.add(stocktaking(1300)...)
	p.central.exec(`DELETE FROM events`)
	p.central.add(received(0, 10)...)
	for _, e := range stocktaking(2) { // on either side of the purged ones
		e.ID, e.Type = uuid.New(), velox.StockReceived
		e.CreatedAt += velox.Millis(e.Seq-100_000)*2_000_000 - 1
		p.central.add(e)
	}
	r := p.wantRound(t, reconcile.Repaired)
	if r.Pulled[reconcile.Stored] != 12 || r.Exceptions[reconcile.Purged] != 1300 {
		t.Errorf("pulled %v, exceptions %v; want 12 events, and the purges known", r.Pulled, r.Exceptions)
	}
	p.wantRound(t, reconcile.InSync)
}

// duplicates are two sales under one request id, one on each side.
func (p *pair) duplicates() {
	first, second := twins()
	p.store.add(first)
	p.central.add(second)
}

// age makes it a while since the exceptions were last met.
func (p *pair) age() {
	if _, err := p.store.DB.Pool.Exec(p.store.Context(), `UPDATE reconciled.exception SET last_seen = now() - interval '2 hours'`); err != nil {
		p.store.Fatal(err)
	}
}

func TestQuietHoursLeaveKnownExceptionsAlone(t *testing.T) {
	p := newPair(t)
	p.duplicates()
	p.wantRound(t, reconcile.InSync)
	p.age()
	report, err := reconcile.Run(t.Context(), p.store.log, p.client, p.grant, reconcile.Options{Quiet: 1})
	if err != nil || report.Verdict != reconcile.InSync {
		t.Errorf("verdict %v (%v), want in sync: nothing new is to be moved", report.Verdict, err)
	}
	p.store.add(received(10, 5)...)
	report, err = reconcile.Run(t.Context(), p.store.log, p.client, p.grant, reconcile.Options{Quiet: 1})
	if !errors.Is(err, reconcile.ErrQuiet) || report.Verdict != reconcile.Unknown || p.central.number(`SELECT count(*) FROM events`) != 1 {
		t.Errorf("verdict %v (%v), want unknown and nothing moved", report.Verdict, err)
	}
	p.wantRound(t, reconcile.Repaired)
}

func TestARoundThatAlwaysGivesWayGetsOnAllTheSame(t *testing.T) {
	p := newPair(t)
	p.duplicates()
	p.wantRound(t, reconcile.InSync)
	p.age()
	p.store.add(received(10, 1)...)
	options := reconcile.Options{Stop: func() bool { return true }}
	for turn := 0; p.central.number(`SELECT count(*) FROM events`) == 1; turn++ {
		report, err := reconcile.Run(t.Context(), p.store.log, p.client, p.grant, options)
		if turn > 3 || err != nil && !errors.Is(err, lock.ErrGaveWay) {
			t.Fatalf("turn %d: %+v, %v", turn, report, err)
		}
		options.Earlier = &report
	}
}

// TestAMemoryThatIsOldByNowIsNotWritten: two openings of one installation at once, as
// when a command compares beside the daemon.
func TestAMemoryThatIsOldByNowIsNotWritten(t *testing.T) {
	p := newPair(t)
	p.store.add(received(0, 5)...)
	p.wantRound(t, reconcile.Repaired)
	id := installation(t, p.store)
	log := p.central.log
	standing := func() reconcile.Memory {
		s, err := log.Standing(t.Context(), shop, id)
		if err != nil {
			t.Fatal(err)
		}
		return s.Memory
	}
	slow := standing()
	if err := log.Enlist(t.Context(), shop, id, []merkle.Exception{{ID: uuid.New()}}); err != nil {
		t.Fatal(err)
	}
	agreed := standing()
	agreed.Offered, agreed.Confirmed = merkle.Token{1}, slow.Offered
	if err := log.Remember(t.Context(), shop, id, slow, agreed); err != nil {
		t.Fatal(err)
	}
	late := slow
	late.Confirmed = merkle.Token{9}
	if err := log.Remember(t.Context(), shop, id, slow, late); err != nil {
		t.Fatal(err)
	}
	if got := standing(); got.Offered != agreed.Offered || got.Confirmed != agreed.Confirmed || got.List != agreed.List || got.List == slow.List {
		t.Errorf("central remembers %+v, want %+v", got, agreed)
	}
}

func TestADryRunIsNotRemembered(t *testing.T) {
	p := newPair(t)
	p.store.add(received(0, 5)...)
	p.wantRound(t, reconcile.Repaired)
	p.wantRound(t, reconcile.InSync)
	before := p.central.number(`SELECT hashtext(string_agg(w::text, '|')) FROM (SELECT offered, confirmed, agreed_at, last_seen FROM reconciled.witness) w`)
	p.store.add(received(10, 5)...)
	p.central.add(received(20, 3)...)
	report, err := reconcile.Diff(t.Context(), p.store.log, p.client, shop, nil)
	if err != nil || report.Same || report.Push.Events != 5 || report.Pull.Events != 3 || report.Verdict() != reconcile.Differs {
		t.Errorf("%+v, %v; want 5 to send and 3 to fetch", report, err)
	}
	if after := p.central.number(`SELECT hashtext(string_agg(w::text, '|')) FROM (SELECT offered, confirmed, agreed_at, last_seen FROM reconciled.witness) w`); after != before {
		t.Error("central remembers a dry run")
	}
	if n := p.store.number(`SELECT count(*) FROM events`) + p.central.number(`SELECT count(*) FROM events`); n != 18 {
		t.Errorf("%d events on both sides, want 18: a dry run moves nothing", n)
	}
	wantBack(t, p.wantRound(t, reconcile.Repaired), "")
	if report, err := reconcile.Diff(t.Context(), p.store.log, p.client, shop, nil); err != nil || report.Verdict() != reconcile.InSync {
		t.Errorf("%+v, %v; want in sync", report, err)
	}
}

func TestI8EventsOfTheLastAgreementAloneAreMissedToo(t *testing.T) {
	p := newPair(t)
	p.store.add(received(0, 50)...)
	p.wantRound(t, reconcile.Repaired)
	backup := p.store.copy()
	p.store.add(received(50, 5)...)
	p.wantRound(t, reconcile.Repaired) // and restored before the next round
	p.use(t, backup)
	wantBack(t, p.wantRound(t, reconcile.Repaired), reconcile.Here)
}

func TestAnEventReceivedBeforeTimeBeganIsSentToo(t *testing.T) {
	p := newPair(t)
	p.store.add(received(0, 3)...)
	p.store.exec(`UPDATE events SET received_at = '-infinity' WHERE seq = 1`)
	if r := p.wantRound(t, reconcile.Repaired); r.Pushed[reconcile.Stored] != 3 {
		t.Errorf("pushed %v, want all 3", r.Pushed)
	}
}
