package postgres_test

import (
	"errors"
	"maps"
	"testing"

	"github.com/google/uuid"

	"github.com/veloxpos/reconciled/healer"
	"github.com/veloxpos/reconciled/healer/projection"
	"github.com/veloxpos/reconciled/internal/health"
	"github.com/veloxpos/reconciled/internal/postgres"
	"github.com/veloxpos/reconciled/internal/velox"
)

// gapped is a shop with a gap of each class but actionable: a sale that waits for a
// product, one of a series that is not there, a debt that its sale stands for, and an
// event without the id of its product.
func gapped(t *testing.T) (*healing, *postgres.GapBook) {
	t.Helper()
	h := newHealing(t, healer.Options{})
	h.log(product("flour", 0), opened(0), customerCreated(0), sold("credit", 1, onCredit(maria), flour), owes("other", 2, id("sale credit")),
		sold("waits", 3, nil, rice), sold("blocked", 4, map[string]any{"invoice_series_id": id("series"), "invoice_number": "1"}, flour),
		event("malformed", velox.StockReceived, 5, map[string]any{"movement_id": id("m"), "qty": 1}))
	h.heal()
	return h, postgres.NewGapBook(h.site.DB)
}

func (h *healing) counts(book *postgres.GapBook, want map[projection.Class]int) {
	h.Helper()
	got, err := book.Counts(h.ctx, shop)
	if err != nil || !maps.Equal(got, want) {
		h.Errorf("counts %v, %v; want %v", got, err, want)
	}
}

func TestTheGapBookNamesEveryGapOnce(t *testing.T) {
	h, book := gapped(t)
	h.counts(book, map[projection.Class]int{"waiting": 1, "blocked": 1, "semantic": 1, "poison": 1})
	list, err := book.List(h.ctx, shop, postgres.GapClasses, 10, false)
	if err != nil || len(list) != 4 {
		t.Fatalf("%+v, %v", list, err)
	}
	waiting := list[2]
	if list[0].Class != "blocked" || list[0].WaitsTable != "invoice_series" || list[1].Class != "poison" || list[1].Reason == "" ||
		waiting.Event != id("event sale waits") || waiting.WaitsTable != "products" || waiting.WaitsID.UUID != rice || waiting.Attempts != 1 || waiting.NextAttempt == nil {
		t.Errorf("%+v", list)
	}
	h.log(sold("waits too", 6, nil, rice))
	h.heal()
	list, err = book.List(h.ctx, shop, []projection.Class{"waiting"}, 1, false)
	if err != nil || len(list) != 1 || list[0].Event != id("event sale waits too") {
		t.Errorf("%+v, %v; want the newest", list, err)
	}
	// What was malformed and is no more is a gap of its new class alone.
	h.exec(`UPDATE reconciled.gap SET class = 'waiting' WHERE class = 'poison'`)
	h.counts(book, map[projection.Class]int{"waiting": 3, "blocked": 1, "semantic": 1})
}

func TestARetriedGapIsDueAtOnce(t *testing.T) {
	h, book := gapped(t)
	due := func() string {
		return h.text(`SELECT string_agg(class, ' ' ORDER BY class) FROM reconciled.gap WHERE next_attempt <= now()`)
	}
	if got := due(); got != "" {
		t.Fatalf("due before: %s", got)
	}
	if _, err := book.Retry(h.ctx, h.grant, []uuid.UUID{id("event sale blocked"), uuid.New()}, "", "ana"); !errors.Is(err, postgres.ErrNoGap) {
		t.Errorf("%v, want ErrNoGap", err)
	}
	if got := due(); got != "" {
		t.Errorf("one that is not known, and due is %q", got)
	}
	h.exec(`UPDATE reconciled.gap SET requeued_at = '2026-01-01' WHERE class = 'blocked'`)
	if events, err := book.Retry(h.ctx, h.grant, []uuid.UUID{id("event sale blocked")}, "", "ana"); err != nil || len(events) != 1 || due() != "blocked" {
		t.Errorf("%v, %v, due %s", events, err, due())
	}
	// What was given back once may be given back again.
	h.expect("0", `SELECT count(*) FROM reconciled.gap WHERE requeued_at IS NOT NULL`)
	if events, err := book.Retry(h.ctx, h.grant, nil, "waiting", "ana"); err != nil || len(events) != 1 || due() != "blocked waiting" {
		t.Errorf("%v, %v, due %s", events, err, due())
	}
	if events, err := book.Retry(h.ctx, h.grant, nil, "", "ana"); err != nil || len(events) != 4 {
		t.Errorf("%v, %v", events, err)
	}
	h.expect("1 1 4", `SELECT string_agg(detail ->> 'count', ' ' ORDER BY id) FROM reconciled.audit WHERE action = 'gaps retry' AND actor = 'ana'`)
	h.expect("2", `SELECT count(DISTINCT event_id) FROM events e JOIN reconciled.worklist w ON w.slot = reconciled.slot(e.created_at) WHERE e.event_id IN ($1, $2)`,
		id("event malformed"), id("event debt other"))
	if report := h.heal(); report.Poison != 1 || report.Semantic != 1 || report.Blocked != 1 || report.Waiting != 1 {
		t.Errorf("the next heal saw %+v", report.Counts)
	}
}

func TestADismissedEventStaysOutOfCountsAndLists(t *testing.T) {
	h, book := gapped(t)
	if err := book.Dismiss(h.ctx, h.grant, id("event sale waits"), "ana", "x"); !errors.Is(err, postgres.ErrNotPoison) {
		t.Errorf("%v: what only waits was dismissed", err)
	}
	bad := id("event malformed")
	if err := book.Dismiss(h.ctx, h.grant, bad, "ana", "a test till"); err != nil {
		t.Fatal(err)
	}
	h.expect("a test till", `SELECT detail ->> 'why' FROM reconciled.audit WHERE action = 'gaps dismiss' AND target = $1`, bad.String())
	without := map[projection.Class]int{"waiting": 1, "blocked": 1, "semantic": 1}
	h.counts(book, without)
	h.reread()
	if report := h.heal(); report.Poison != 1 {
		t.Errorf("report %+v", report.Counts)
	}
	h.counts(book, without)
	if list, err := book.List(h.ctx, shop, postgres.GapClasses, 10, false); err != nil || len(list) != 3 {
		t.Errorf("%+v, %v", list, err)
	}
	list, err := book.List(h.ctx, shop, []projection.Class{"poison"}, 10, true)
	if err != nil || len(list) != 1 || list[0].Dismissed == nil || list[0].Dismissed.Why != "a test till" || list[0].Dismissed.By != "ana" {
		t.Errorf("%+v, %v", list, err)
	}
	if err := book.Dismiss(h.ctx, h.grant, bad, "ana", "again"); !errors.Is(err, postgres.ErrNotPoison) {
		t.Errorf("%v: dismissed twice", err)
	}
	// All open gaps are not those that were dismissed; one that is named is open again.
	if events, err := book.Retry(h.ctx, h.grant, nil, "", "ana"); err != nil || len(events) != 3 {
		t.Errorf("%v, %v", events, err)
	}
	h.counts(book, without)
	if _, err := book.Retry(h.ctx, h.grant, []uuid.UUID{bad}, "", "ana"); err != nil {
		t.Error(err)
	}
	h.counts(book, map[projection.Class]int{"waiting": 1, "blocked": 1, "semantic": 1, "poison": 1})
}

func TestADismissedEventThatIsMendedHeals(t *testing.T) {
	h, book := gapped(t)
	bad := id("event malformed")
	if err := book.Dismiss(h.ctx, h.grant, bad, "ana", "x"); err != nil {
		t.Fatal(err)
	}
	h.exec(`UPDATE events SET payload = payload || jsonb_build_object('product_id', $2::text), delta_payload = payload || jsonb_build_object('product_id', $2::text) WHERE event_id = $1`, bad, flour.String())
	if report := h.heal(); report.Healed != 1 {
		t.Errorf("report %+v", report.Counts)
	}
	h.expect("1", `SELECT count(*) FROM inventory_movements WHERE id = $1`, id("m"))
}

func TestWhatIsOutstandingIsListedUntilItIsSettled(t *testing.T) {
	h, book := gapped(t)
	h.log(sold("cash", 7, nil, flour))
	h.heal()
	list, total, err := book.Outstanding(h.ctx, shop, 1)
	if err != nil || total != 2 || len(list) != 1 || list[0].Event != id("event sale cash") || list[0].Sale.UUID != id("sale cash") || len(list[0].Tasks) != 2 || list[0].Healed.IsZero() {
		t.Fatalf("%+v of %d, %v", list, total, err)
	}
	both := []uuid.UUID{id("event sale cash"), id("event sale credit")}
	if err := book.Settle(h.ctx, shop, append(both, id("event sale waits")), "luis", "booked"); !errors.Is(err, postgres.ErrNotOutstanding) {
		t.Errorf("%v, want ErrNotOutstanding", err)
	}
	h.expect("0", `SELECT count(*) FROM reconciled.audit`)
	if err := book.Settle(h.ctx, shop, both[:1], "luis", "booked"); err != nil {
		t.Fatal(err)
	}
	h.expect("luis booked", `SELECT actor || ' ' || (detail ->> 'why') FROM reconciled.audit WHERE action = 'outstanding.settle' AND target = $1`, both[0].String())
	if list, total, err = book.Outstanding(h.ctx, shop, 10); err != nil || total != 1 || list[0].Event != both[1] {
		t.Errorf("%+v of %d, %v", list, total, err)
	}
	// Healed again, it is the same sale, and settled.
	h.exec(`DELETE FROM sales WHERE id = $1`, id("sale cash"))
	h.reread()
	h.heal()
	entries, err := book.HealLog(h.ctx, shop, both[0])
	if err != nil || len(entries) != 2 || entries[0].Strategy != "native" || entries[0].Epoch != h.grant.Epoch || len(entries[0].After) == 0 || entries[1].Run.UUID != h.grant.Run {
		t.Errorf("%+v, %v", entries, err)
	}
	if _, total, err = book.Outstanding(h.ctx, shop, 10); err != nil || total != 1 {
		t.Errorf("%d outstanding, %v", total, err)
	}
}

func TestHealthCountsWhatTheGapBookLists(t *testing.T) {
	h, book := gapped(t)
	log := postgres.NewLog(h.site.DB)
	measure := func() (s health.Snapshot, kinds map[string]int) {
		t.Helper()
		if err := postgres.NewHealth(log).Measure(h.ctx, shop, &s); err != nil {
			t.Fatal(err)
		}
		kinds = map[string]int{}
		for _, a := range s.Details {
			kinds[a.Kind]++
		}
		return s, kinds
	}
	h.exec(`UPDATE reconciled.gap SET class_since = now() - interval '2 h' WHERE class = 'waiting'`)
	h.exec(`UPDATE reconciled.gap SET class_since = now() - interval '9 h' WHERE class <> 'waiting'`)
	h.exec(`UPDATE public.stores SET name = 'Café Centro' WHERE id = $1`, shop)
	if s, _ := measure(); s.Name != "Café Centro" {
		t.Errorf("the store is called %q", s.Name)
	}
	if s, _ := measure(); s.More.OldestWaitingSeconds < 7200 || s.More.OldestWaitingSeconds > 2*7200 {
		t.Errorf("the oldest has waited for %d s, want two hours", s.More.OldestWaitingSeconds)
	}
	if s, kinds := measure(); s.More.SemanticGapCount != 1 || s.More.PoisonCount != 1 || s.More.BlockedGapCount != 1 || s.More.WaitingGapCount != 1 ||
		s.Metrics.ProjectionGapCount != 0 || kinds["poison"] != 1 || kinds["waiting"] != 2 {
		t.Errorf("%+v, %v", s.More, kinds)
	}
	if err := book.Dismiss(h.ctx, h.grant, id("event malformed"), "ana", "x"); err != nil {
		t.Fatal(err)
	}
	h.log(received("five", 8, flour, 5), received("seven", 9, flour, 7))
	h.sealed()
	h.overwrite(id("event received seven"), id("event received five"))
	h.pin(log) // else to measure drains what has just changed, and forgets it until it is looked at again
	h.note(postgresStore(h))
	if s, kinds := measure(); s.More.PoisonCount != 0 || kinds["poison"] != 0 || s.More.LostUpdateCount != 1 || kinds["lost_update"] != 1 {
		t.Errorf("%+v, %v", s.More, kinds)
	}
	if _, err := postgresStore(h).RestoreLost(h.ctx, h.grant, []uuid.UUID{id("event received seven")}, "ana"); err != nil {
		t.Fatal(err)
	}
	if s, kinds := measure(); s.More.LostUpdateCount != 0 || kinds["lost_update"] != 0 || s.More.ConflictRate != 0 {
		t.Errorf("%+v, %v", s.More, kinds)
	}
}
