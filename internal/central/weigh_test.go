package central_test

import (
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/veloxpos/reconciled/internal/velox"
	"github.com/veloxpos/reconciled/merkle"
	"github.com/veloxpos/reconciled/merkle/reconcile"
)

func named(w reconcile.Weight) (ids []uuid.UUID) {
	for _, n := range w.First {
		ids = append(ids, n.Event)
	}
	return ids
}

func TestWeighCountsWhatIsWantedAndItsContent(t *testing.T) {
	p := newPair(t)
	events := received(0, 100)
	p.central.add(events...)
	bytes := func(events []velox.Event) (n int64) {
		for _, e := range events {
			n += int64(len(e.Said()))
		}
		return n
	}
	key := func(i int) merkle.Key { return reconcile.Key(&events[i]) }
	for name, c := range map[string]struct {
		want   merkle.Want
		events []velox.Event
	}{
		"nothing":    {merkle.Want{}, nil},
		"one event":  {merkle.Want{Spans: []merkle.Span{{From: key(5), To: key(5)}}}, events[5:6]},
		"two spans":  {merkle.Want{Spans: []merkle.Span{{From: key(0), To: key(9)}, {From: key(50), To: key(89)}}}, slices.Concat(events[:10], events[50:90])},
		"everything": {merkle.Want{Spans: []merkle.Span{merkle.Range{}.Span()}}, events},
	} {
		for side, scales := range map[string]reconcile.Scales{"here": p.central.log, "over the wire": p.client} {
			got, err := scales.Weigh(t.Context(), shop, c.want)
			if err != nil {
				t.Fatal(err)
			}
			var first []uuid.UUID
			for _, e := range c.events[:min(len(c.events), reconcile.NamedAtMost)] {
				first = append(first, e.ID)
			}
			if got.Events != int64(len(c.events)) || got.Bytes != bytes(c.events) || !slices.Equal(named(got), first) {
				t.Errorf("%s, %s: %d events, %d bytes, first %v; want %d, %d, %v",
					name, side, got.Events, got.Bytes, named(got), len(c.events), bytes(c.events), first)
			}
		}
	}
}

func TestWeighCountsAPurgeAsAnEventWithoutContent(t *testing.T) {
	p := newPair(t)
	e := event(1, velox.StockAdjusted, `{"qty": 1}`)
	e.CreatedAt = velox.MillisOf(time.Now().Add(-48 * time.Hour))
	p.central.add(e)
	p.central.exec(`DELETE FROM events`)
	p.central.root() // drains
	got, err := p.client.Weigh(t.Context(), shop, merkle.Want{Spans: []merkle.Span{merkle.Range{}.Span()}})
	if err != nil || got.Events != 1 || got.Bytes != 0 || !slices.Equal(named(got), []uuid.UUID{e.ID}) {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestADryRunWeighsBothWaysAndMovesNothing(t *testing.T) {
	p := newPair(t)
	all := received(0, 600)
	p.store.add(all...)
	p.central.add(all[3:]...)
	p.store.exec(`DELETE FROM events WHERE event_id = ANY($1)`, []uuid.UUID{all[400].ID, all[500].ID})
	report, err := reconcile.Diff(t.Context(), p.store.log, p.client, shop, nil)
	if err != nil {
		t.Fatal(err)
	}
	if report.Push.Events != 3 || report.Pull.Events != 2 || report.Verdict() != reconcile.Differs {
		t.Errorf("%+v", report)
	}
	for _, n := range report.Pull.First {
		if n.Deleted == nil || n.Type != velox.StockReceived {
			t.Errorf("%+v is not told to have been deleted", n)
		}
	}
	if here, there := p.store.root().Count, p.central.root().Count; here != 598 || there != 597 {
		t.Errorf("%d and %d events, a dry run moved something", here, there)
	}
}
