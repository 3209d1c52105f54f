package healer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
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
}

func newShelf() *shelf {
	return &shelf{refuses: map[string]error{}, rows: map[uuid.UUID]bool{}, gaps: map[uuid.UUID]Gap{}, settled: map[int64]time.Duration{}}
}

var shop = uuid.New()

func (s *shelf) add(kind velox.Type, body map[string]any) *Logged {
	payload, err := json.Marshal(body)
	if err != nil {
		panic(err)
	}
	s.events = append(s.events, Logged{Event: velox.Event{
		ID: uuid.New(), Store: shop, Type: kind, CreatedAt: velox.Millis(len(s.events)), Payload: payload, ConflictStatus: velox.Resolved,
	}})
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

func (s *shelf) Scan(ctx context.Context, _ velox.StoreID, _ []Slot, opts Options, visit Visit) error {
	for page := s.events; len(page) > 0; {
		n := min(opts.Batch, len(page))
		if err := visit(ctx, page[:n]); err != nil {
			return err
		}
		page = page[n:]
	}
	return nil
}

func (s *shelf) Awake(ctx context.Context, _ velox.StoreID, _ Options, visit Visit) error {
	var page []Logged
	for _, l := range s.events {
		if gap, open := s.gaps[l.ID]; open && gap.Class == projection.Waiting && s.rows[gap.Waits.ID] {
			l.Gap = true
			page = append(page, l)
		}
	}
	if len(page) == 0 {
		return nil
	}
	return visit(ctx, page)
}

func (s *shelf) Facts(_ context.Context, store velox.StoreID, refs []projection.Ref) (projection.Facts, error) {
	f := projection.Facts{Rows: map[projection.Ref]uuid.UUID{}}
	for _, r := range refs {
		if s.rows[r.ID] {
			f.Rows[r] = store
		}
	}
	return f, nil
}

func (s *shelf) Apply(_ context.Context, _ lock.Grant, heals []Heal) ([]Fate, error) {
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
