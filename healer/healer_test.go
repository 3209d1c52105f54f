package healer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/veloxpos/reconciled/healer/projection"
	"github.com/veloxpos/reconciled/internal/velox"
	"github.com/veloxpos/reconciled/lock"
)

// shelf is a store in memory that holds products, by name.
type shelf struct {
	events  []Logged
	refuses map[string]error   // by product: what the database says to it
	rows    map[uuid.UUID]bool // claimed
	gaps    map[uuid.UUID]Gap  // open
	batches []int              // sizes of Apply
	settled map[int64]time.Duration

	consumed bool
	requeued map[uuid.UUID]bool
}

func newShelf() *shelf {
	return &shelf{requeued: map[uuid.UUID]bool{}, refuses: map[string]error{}, rows: map[uuid.UUID]bool{}, gaps: map[uuid.UUID]Gap{}, settled: map[int64]time.Duration{}}
}

var shop = uuid.New()

func (s *shelf) add(kind velox.Type, body map[string]any) *Logged {
	payload, err := json.Marshal(body)
	if err != nil {
		panic(err)
	}
	s.events = append(s.events, Logged{Event: projection.Event{Event: velox.Event{
		ID: uuid.New(), Store: shop, Type: kind, CreatedAt: velox.Millis(len(s.events)), Payload: payload, ConflictStatus: velox.Resolved,
	}}})
	return &s.events[len(s.events)-1]
}

func (s *shelf) product(name string) *Logged {
	return s.add(velox.ProductCreated, map[string]any{"product_id": uuid.NewSHA1(uuid.Nil, []byte(name)), "name": name})
}

func (s *shelf) Due(_ context.Context, _ velox.StoreID, after int64, _ int) ([]Slot, error) {
	if after != math.MinInt64 {
		return nil, nil
	}
	return []Slot{{Slot: 0, Stamp: 1}}, nil
}

func (s *shelf) Scan(ctx context.Context, _ lock.Grant, _ []Slot, opts Options, visit Visit) error {
	for page := s.events; len(page) > 0; {
		n := min(opts.Batch, len(page))
		if err := visit(ctx, page[:n]); err != nil {
			return err
		}
		page = page[n:]
	}
	return nil
}

func (s *shelf) Awake(ctx context.Context, _ lock.Grant, _ Options, visit Visit) error {
	var page []Logged
	for _, l := range s.events {
		gap, open := s.gaps[l.ID]
		came := s.rows[gap.Waits.ID]
		if gap.Waits.Table == projection.Events {
			_, lacks := s.gaps[gap.Waits.ID]
			came = !lacks && slices.ContainsFunc(s.events, func(l Logged) bool { return l.ID == gap.Waits.ID })
		}
		if open && gap.Class == projection.Waiting && came {
			l.Gap, l.Counted = true, gap.Class
			page = append(page, l)
		}
	}
	if len(page) == 0 {
		return nil
	}
	return visit(ctx, page)
}

func (s *shelf) Named(_ context.Context, _ lock.Grant, events []uuid.UUID, _ Options) (found []Logged, err error) {
	for _, l := range s.events {
		if slices.Contains(events, l.ID) {
			found = append(found, l)
		}
	}
	return found, nil
}

func (s *shelf) Facts(_ context.Context, store velox.StoreID, asks []projection.Asks) (projection.Facts, error) {
	f := projection.Facts{Rows: map[projection.Ref]uuid.UUID{}}
	for _, a := range asks {
		for _, r := range a.Refs {
			if s.rows[r.ID] {
				f.Rows[r] = store
			}
		}
	}
	return f, nil
}

func (s *shelf) Apply(_ context.Context, _ lock.Grant, heals []Heal, _ Options) ([]Fate, error) {
	s.batches = append(s.batches, len(heals))
	for _, h := range heals {
		name, _ := h.Changes.Insert.Values["name"].(string)
		if err := s.refuses[name]; err != nil {
			return nil, err
		}
	}
	for _, h := range heals {
		s.rows[h.Changes.Claims().ID] = true
	}
	return make([]Fate, len(heals)), nil
}

func (s *shelf) Record(_ context.Context, _ lock.Grant, open []Gap, closed []uuid.UUID, _ Options) error {
	for _, id := range closed {
		delete(s.gaps, id)
	}
	for _, g := range open {
		s.gaps[g.Event] = g
	}
	return nil
}

func (s *shelf) Settle(_ context.Context, _ lock.Grant, slots []Slot) error {
	for _, slot := range slots {
		s.settled[slot.Slot] = slot.Again
	}
	return nil
}

func (s *shelf) Notice(context.Context, lock.Grant) error { return nil }

func (s *shelf) All(ctx context.Context, store velox.StoreID, after int64, limit int) ([]Slot, error) {
	return s.Due(ctx, store, after, limit)
}

func (s *shelf) DrainStock(context.Context, lock.Grant) error { return nil }

func (s *shelf) NoteLost(context.Context, lock.Grant, []velox.Event) error { return nil }

func (s *shelf) Consumed(context.Context, velox.StoreID) (bool, error) { return s.consumed, nil }

func (s *shelf) Requeue(_ context.Context, _ lock.Grant, gaps []Gap, _ Options) (given []uuid.UUID, err error) {
	for _, g := range gaps {
		s.requeued[g.Event] = true
		s.gaps[g.Event] = g
		given = append(given, g.Event)
	}
	return given, nil
}

func (s *shelf) Sift(context.Context, lock.Grant, func() bool) (int64, error) {
	return 0, errors.ErrUnsupported
}

func (s *shelf) Refill(context.Context, lock.Grant) (int64, error) { return 0, errors.ErrUnsupported }

func TestI6OneBadEventIsFoundByHalvingAndTheRestAreWritten(t *testing.T) {
	s := newShelf()
	for i := range 64 {
		s.product(fmt.Sprint(i))
	}
	s.refuses["42"] = fmt.Errorf("barcode taken: %w", ErrRejected)
	report, err := New(s, Options{}).Run(t.Context(), lock.Grant{Store: shop}, nil)
	if err != nil || report.Healed != 63 || report.Failed != 1 {
		t.Errorf("%+v, %v", report.Counts, err)
	}
	if len(s.batches) != 13 { // one whole, and two for each of log2(64) halvings
		t.Errorf("batches %v", s.batches)
	}
	for _, gap := range s.gaps {
		if gap.Class != projection.Actionable || gap.LastError != "barcode taken: row is refused" {
			t.Errorf("gap %+v", gap)
		}
	}
	if len(s.gaps) != 1 {
		t.Errorf("%d gaps", len(s.gaps))
	}
}

// stretch is a shelf whose events lie in several slots, and which notes what was read.
type stretch struct {
	*shelf
	read int
}

func (s *stretch) Due(_ context.Context, _ velox.StoreID, after int64, limit int) (due []Slot, err error) {
	for _, l := range s.events {
		_, settled := s.settled[l.Slot]
		if l.Slot > after && !settled && len(due) < limit && (len(due) == 0 || due[len(due)-1].Slot != l.Slot) {
			due = append(due, Slot{Slot: l.Slot, Stamp: 1})
		}
	}
	return due, nil
}

func (s *stretch) Scan(ctx context.Context, _ lock.Grant, slots []Slot, opts Options, visit Visit) error {
	var asked []Logged
	for _, l := range s.events {
		if slices.ContainsFunc(slots, func(slot Slot) bool { return slot.Slot == l.Slot }) {
			asked = append(asked, l)
		}
	}
	for page := range slices.Chunk(asked, opts.Batch) {
		if err := visit(ctx, page); err != nil {
			return err
		}
		s.read += len(page)
	}
	return nil
}

// Who is asked to give way at every boundary still comes to the end, for what is done
// stays done: else a stretch longer than a turn would be begun anew for ever.
// What a maker says that an event follows from comes first, or is waited for; what never
// will have rows, and what is no event's id, is not.
func TestAnEventWaitsForThoseThatItNames(t *testing.T) {
	s := newShelf()
	first, second, broken := s.product("first"), s.product("second"), s.add(velox.ProductCreated, map[string]any{"name": "without an id"})
	freed, own, stuck := s.product("freed"), s.product("own"), s.product("stuck")
	for i := range s.events { // append may have moved them
		switch l := &s.events[i]; l.ID {
		case first.ID:
			l.Causal = []string{second.ID.String()}
		case freed.ID:
			l.Causal = []string{broken.ID.String(), "no id"}
		case own.ID:
			l.Causal = []string{own.ID.String()}
		case stuck.ID:
			l.Causal = []string{"not yet", uuid.Nil.String()}
		}
	}
	report, err := New(s, Options{}).Run(t.Context(), lock.Grant{Store: shop}, nil)
	if err != nil || report.Healed != 4 || report.Waiting != 1 || report.Poison != 1 {
		t.Errorf("%+v, %v", report.Counts, err)
	}
	gap := s.gaps[stuck.ID]
	if want := (projection.Ref{Table: projection.Events}); gap.Class != projection.Waiting || gap.Waits != want || gap.Reason != "it follows event "+uuid.Nil.String()+", which is not in the log" {
		t.Errorf("gap %+v", gap)
	}
	if _, open := s.gaps[first.ID]; open || len(s.gaps) != 2 {
		t.Errorf("gaps %+v", s.gaps)
	}
}

// The backend counts a quota a second time, so no strategy gives it one.
func TestAQuotaIsGivenBackByNoStrategy(t *testing.T) {
	for _, strategy := range []Strategy{Requeue, RequeueThenNative} {
		s := newShelf()
		s.consumed = true
		ids := []uuid.UUID{uuid.New(), uuid.New()}
		s.rows[ids[0]] = true // the quota's product
		s.add(velox.StockQuotaGranted, map[string]any{"quota_id": uuid.New(), "product_id": ids[0], "device_id": uuid.New(), "qty_granted": 1})
		s.add(velox.ProductCreated, map[string]any{"product_id": ids[1], "name": "x"})
		for i := range s.events {
			s.events[i].Entry = "failed"
		}
		report, err := New(s, Options{Strategy: strategy}).Run(t.Context(), lock.Grant{Store: shop}, nil)
		if err != nil || report.Requeued != 1 || s.requeued[s.events[0].ID] || !s.requeued[s.events[1].ID] {
			t.Errorf("%s: %+v, %v, given back %v", strategy, report.Counts, err, s.requeued)
		}
	}
}

func TestWhoAlwaysGivesWayStillComesToAnEnd(t *testing.T) {
	s := &stretch{shelf: newShelf()}
	for slot, events := range []int{3, 10, 1, 1, 1, 4} { // a crowded one among them
		for i := range events {
			s.product(fmt.Sprint(slot, " ", i)).Slot = int64(slot)
		}
	}
	healed, turns := 0, 0
	for done := false; !done; turns++ {
		report, err := New(s, Options{Batch: 2}).Run(t.Context(), lock.Grant{Store: shop}, func() bool { return true })
		if err != nil && !errors.Is(err, lock.ErrGaveWay) {
			t.Fatal(err)
		}
		healed += report.Healed
		if done = len(s.settled) == 6; turns > 6 {
			t.Fatalf("after %d turns: %d healed, settled %v", turns, healed, s.settled)
		}
	}
	if healed != 20 || turns < 2 {
		t.Errorf("%d healed in %d turns", healed, turns)
	}
	if s.read > 2*20 {
		t.Errorf("%d events read to look at 20", s.read)
	}
}

func TestI7AFencedRunStopsAtOnce(t *testing.T) {
	s := newShelf()
	for i := range 8 {
		s.product(fmt.Sprint(i))
	}
	s.refuses["3"] = fmt.Errorf("epoch 7: %w", lock.ErrFenced)
	report, err := New(s, Options{}).Run(t.Context(), lock.Grant{Store: shop}, nil)
	if !errors.Is(err, lock.ErrFenced) || report.Healed != 0 || len(s.batches) != 1 || len(s.settled) != 0 {
		t.Errorf("%+v, %v, batches %v, settled %v", report.Counts, err, s.batches, s.settled)
	}
}

func TestADatabaseThatCannotBeWorkedWithEndsTheRunAndBlamesNoEvent(t *testing.T) {
	s := newShelf()
	for i := range 8 {
		s.product(fmt.Sprint(i))
	}
	s.refuses["3"] = errors.New("canceling statement due to statement timeout")
	report, err := New(s, Options{}).Run(t.Context(), lock.Grant{Store: shop}, nil)
	if err == nil || report.Failed != 0 || len(s.batches) != 1 || len(s.gaps) != 0 || len(s.settled) != 0 {
		t.Errorf("%+v, %v, batches %v, gaps %v, settled %v", report.Counts, err, s.batches, s.gaps, s.settled)
	}
}

func TestARowThatTheShopHoldsIsLeftForLaterAndNoOther(t *testing.T) {
	s := newShelf()
	for i := range 8 {
		s.product(fmt.Sprint(i))
	}
	s.refuses["3"] = fmt.Errorf("lock: %w", ErrBusy)
	report, err := New(s, Options{Grace: time.Minute}).Run(t.Context(), lock.Grant{Store: shop}, nil)
	if err != nil || report.Backend != 1 || report.Healed != 7 || s.settled[0] != time.Minute {
		t.Errorf("%+v, %v, batches %v, settled %v", report.Counts, err, s.batches, s.settled)
	}
}

func TestAValueThatFitsNoColumnIsPoison(t *testing.T) {
	s := newShelf()
	s.product("long")
	s.refuses["long"] = fmt.Errorf("insert products: %w", ErrUnfit)
	report, err := New(s, Options{}).Run(t.Context(), lock.Grant{Store: shop}, nil)
	if err != nil || report.Poison != 1 || report.Failed != 0 {
		t.Errorf("%+v, %v", report.Counts, err)
	}
	for _, gap := range s.gaps {
		if gap.Class != projection.Poison || gap.Reason == "" {
			t.Errorf("gap %+v", gap)
		}
	}
}

func TestARowThatIsMissingBlocksAndIsNamed(t *testing.T) {
	s := newShelf()
	s.product("a")
	lot := projection.Ref{Table: "product_lots", ID: uuid.New()}
	s.refuses["a"] = fmt.Errorf("write: %w", &MissingError{Row: lot, Constraint: "lot_fk"})
	report, err := New(s, Options{}).Run(t.Context(), lock.Grant{Store: shop}, nil)
	if err != nil || report.Blocked != 1 || report.Failed != 0 {
		t.Errorf("%+v, %v", report.Counts, err)
	}
	for _, gap := range s.gaps {
		if gap.Class != projection.Blocked || gap.Waits != lot {
			t.Errorf("gap %+v", gap)
		}
	}
}

func TestAnEventCountsOnceAsWhatItWasInTheEnd(t *testing.T) {
	s := newShelf()
	s.add(velox.StockAdjusted, map[string]any{"movement_id": uuid.New(), "product_id": uuid.NewSHA1(uuid.Nil, []byte("late")), "qty_delta": 1})
	s.add(velox.StockAdjusted, map[string]any{"movement_id": uuid.New(), "product_id": uuid.New(), "qty_delta": 1})
	s.product("late")
	s.product("late") // the same row again: done once the first is written
	fresh := s.product("fresh")
	fresh.Grace = 20 * time.Second
	s.add("Strange", nil)
	// Pages of one: the product comes after what waits for it.
	report, err := New(s, Options{Batch: 1}).Run(t.Context(), lock.Grant{Store: shop}, nil)
	if err != nil {
		t.Fatal(err)
	}
	want := Counts{Checked: 6, Healed: 2, Waiting: 1, Backend: 1, Unsupported: 1}
	if report.Counts != want {
		t.Errorf("counts %+v, want %+v", report.Counts, want)
	}
	byType := map[velox.Type]Counts{
		velox.StockAdjusted:  {Checked: 2, Healed: 1, Waiting: 1},
		velox.ProductCreated: {Checked: 3, Healed: 1, Backend: 1},
		Unknown:              {Checked: 1, Unsupported: 1},
	}
	if diff := cmp.Diff(byType, report.ByType); diff != "" {
		t.Errorf("by type (-want +got)\n%s", diff)
	}
	if s.settled[0] != 20*time.Second {
		t.Errorf("slot is seen again in %v, want when the grace ends", s.settled[0])
	}
}
