package fleet_test

import (
	"bytes"
	"context"
	"maps"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"
	"pgregory.net/rapid"

	"github.com/veloxpos/reconciled/internal/fleet"
	"github.com/veloxpos/reconciled/internal/velox"
)

func TestEqualOptionsYieldEqualEvents(t *testing.T) {
	one, other := fleet.NewShop(everything(7)), fleet.NewShop(everything(7))
	if !reflect.DeepEqual(one.Reference(), other.Reference()) {
		t.Error("reference rows differ")
	}
	if !reflect.DeepEqual(one.Trade(3000), other.Trade(3000)) {
		t.Error("events differ")
	}
	if reflect.DeepEqual(one.Trade(10), fleet.NewShop(everything(8)).Trade(10)) {
		t.Error("another seed yields the same events")
	}
}

func TestStoresOfOneSeedShareNoIds(t *testing.T) {
	here := everything(7)
	there := here
	there.Store = uuid.MustParse("22222222-2222-4222-8222-222222222222")
	seen := map[uuid.UUID]bool{}
	for _, e := range append(fleet.NewShop(here).Trade(500), fleet.NewShop(there).Trade(500)...) {
		if seen[e.ID] {
			t.Fatalf("event id %s came twice", e.ID)
		}
		seen[e.ID] = true
	}
}

func TestAnyShopKnowsAllTypesAndRareThingsAreRare(t *testing.T) {
	const n = 20_000
	types := map[velox.Type]int{}
	for _, e := range fleet.NewShop(fleet.Options{Seed: 9, Store: store, Start: monday}).Trade(n) {
		types[e.Type]++
	}
	for _, typ := range velox.Types() {
		if types[typ] == 0 {
			t.Errorf("no %s", typ)
		}
	}
	for _, typ := range []velox.Type{
		velox.ProductUpdated, velox.ProductDeactivated, velox.PriceChanged, velox.RecipeIngredientsUpdated, velox.CustomerUpdated,
		velox.StockQuotaGranted, velox.StockQuotaTransferred, velox.StockQuotaReclaimed,
	} {
		if types[typ] > n/100 {
			t.Errorf("%d of %d events are %s", types[typ], n, typ)
		}
	}
}

func TestEveryEventIsAsABackendStoresIt(t *testing.T) {
	types, integrity := map[velox.Type]int{}, map[velox.Integrity]int{}
	seqs := map[uuid.UUID]int64{}
	gaps, dead, texts := 0, 0, 0
	for _, e := range fleet.NewShop(everything(9)).Trade(20_000) {
		types[e.Type]++
		got := e.Verify()
		integrity[got]++
		switch {
		case e.Device == velox.ServerDevice && e.Type != velox.SaleVoided && got != velox.Unverifiable,
			e.Device != velox.ServerDevice && got == velox.Unverifiable,
			got == velox.Corrupt,
			(got == velox.Overwritten || got == velox.LostContent) && e.ConflictStatus != velox.AutoResolved:
			t.Errorf("%s %s is %v", e.Type, e.ID, got)
		}
		if e.Device != velox.ServerDevice {
			if e.Seq <= seqs[e.Device] {
				t.Errorf("seq %d of device %s after %d", e.Seq, e.Device, seqs[e.Device])
			}
			if seqs[e.Device] > 0 && e.Seq > seqs[e.Device]+1 {
				gaps++
			}
			seqs[e.Device] = e.Seq
			if e.CreatedAt.Time().Year() < 2000 {
				dead++
			}
		}
		if bytes.Contains(e.Payload, []byte(`"qty": "`)) {
			texts++
		}
	}
	for _, typ := range velox.Types() {
		if types[typ] == 0 {
			t.Errorf("no %s", typ)
		}
	}
	for _, i := range []velox.Integrity{velox.Intact, velox.Overwritten, velox.LostContent, velox.Unverifiable} {
		if integrity[i] == 0 {
			t.Errorf("no event is %v", i)
		}
	}
	if gaps == 0 || dead == 0 || texts == 0 || len(seqs) != 4 {
		t.Errorf("%d gaps, %d events of 1970, %d quantities as strings, %d tills", gaps, dead, texts, len(seqs))
	}
}

func TestAShopNeverSellsWhatItHasNot(t *testing.T) {
	var shop *fleet.Shop
	var events []velox.Event
	for _, seed := range []uint64{11, 17, 32} { // where slow clocks sell before what a quota was taken back
		shop = fleet.NewShop(everything(seed))
		events = shop.Trade(4000)
		m := fleet.Fold(events, shop.Reference())
		if len(m.Waiting)+len(m.Blocked)+len(m.Poison)+len(m.Unsupported) > 0 {
			t.Errorf("%d wait, %d are blocked, %d are poison, %d unknown", len(m.Waiting), len(m.Blocked), len(m.Poison), len(m.Unsupported))
		}
	}
	pool := database(t)
	seed(t, pool, shop.Reference(), events)
	var below int
	err := pool.QueryRow(context.Background(), `SELECT count(*) FROM (SELECT FROM inventory_movements WHERE NOT from_escrow
		GROUP BY warehouse_id, product_id, variant_id HAVING sum(qty_delta) < 0) s`).Scan(&below)
	if err != nil {
		t.Fatal(err)
	}
	if below > 0 {
		t.Errorf("%d shelves below zero", below)
	}
}

func TestPayloadsAreJSONBsOwnText(t *testing.T) {
	shop := fleet.NewShop(everything(11))
	events := shop.Trade(3000)
	pool := database(t)
	seed(t, pool, shop.Reference(), events)
	stored, err := fleet.Read(context.Background(), pool, store)
	if err != nil {
		t.Fatal(err)
	}
	made := map[uuid.UUID]velox.Event{}
	for _, e := range events {
		made[e.ID] = e
	}
	for _, e := range stored {
		if want := made[e.ID]; !reflect.DeepEqual(e, want) {
			t.Fatalf("read back\n%+v\nwant\n%+v", e, want)
		}
	}
	if len(stored) != len(events) {
		t.Errorf("%d events read back, want %d", len(stored), len(events))
	}
}

func TestInsertPassesOverWhatIsThere(t *testing.T) {
	ctx := context.Background()
	shop := fleet.NewShop(everything(12))
	events := shop.Trade(500)
	pool := database(t)
	if err := shop.Reference().Insert(ctx, pool); err != nil {
		t.Fatal(err)
	}
	for i, want := range []int64{500, 0} {
		if n, err := fleet.Insert(ctx, pool, events, fleet.InsertOptions{}); err != nil || n != want {
			t.Errorf("insert %d stored %d (%v), want %d", i+1, n, err, want)
		}
	}
	again := events[len(events)-1]
	for _, e := range events {
		if e.RequestID.Valid {
			again = e
		}
	}
	again.ID = uuid.MustParse("99999999-9999-4999-8999-999999999999")
	if n, err := fleet.Insert(ctx, pool, []velox.Event{again}, fleet.InsertOptions{}); err != nil || n != 0 {
		t.Errorf("%d stored (%v) under a request id that is taken, want none", n, err)
	}
}

func TestARelayFillsInWhatServerMadeEventsLack(t *testing.T) {
	seen := 0
	for _, e := range fleet.NewShop(everything(13)).Trade(3000) {
		r := fleet.Relayed(e)
		if r.Verify() == velox.Unverifiable {
			t.Errorf("%s %s has no hash where it was relayed to", e.Type, e.ID)
		}
		if !bytes.Equal(r.Said(), e.Said()) {
			t.Errorf("%s %s says something else", e.Type, e.ID)
		}
		if e.Device == velox.ServerDevice {
			seen++
			if r.RequestID.Valid {
				t.Errorf("%s %s kept its request id", e.Type, e.ID)
			}
		}
	}
	if seen == 0 {
		t.Error("nothing was made by a server")
	}
}

func TestTheOrderOfEventsDoesNotMatterToTheFold(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		shop := fleet.NewShop(everything(rapid.Uint64().Draw(t, "seed")))
		events := shop.Trade(rapid.IntRange(1, 400).Draw(t, "events"))
		// Some never come, so that others wait.
		for range rapid.IntRange(0, 5).Draw(t, "lost") {
			i := rapid.IntRange(0, len(events)-1).Draw(t, "which")
			events[i] = events[0]
		}
		want := fleet.Fold(events, shop.Reference())
		order := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "order"), 1))
		order.Shuffle(len(events), func(i, j int) { events[i], events[j] = events[j], events[i] })
		got := fleet.Fold(events, shop.Reference())
		if !reflect.DeepEqual(got, want) {
			t.Fatalf("read models differ: %v", fleet.Diff(want, got))
		}
	})
}

func TestDiffNamesEveryColumnThatDiffers(t *testing.T) {
	shop := fleet.NewShop(everything(14))
	events := shop.Trade(800)
	want := fleet.Fold(events, shop.Reference())
	got := fleet.Fold(events, shop.Reference())
	if lines := fleet.Diff(want, got); len(lines) > 0 {
		t.Fatalf("two folds differ: %v", lines)
	}
	spoiled := 0
	for _, table := range []fleet.Table{
		got.Products, got.Recipes, got.Customers, got.Sales, got.Items, got.Movements, got.Stock, got.Escrow,
		got.Debts, got.Payments, got.Sessions, got.Ledger,
	} {
		for _, key := range slices.Sorted(maps.Keys(table)) {
			row := table[key]
			if strings.HasPrefix(row["note"], "Auto-creado") {
				continue // of these not every column counts
			}
			for column := range row {
				row[column] += "x"
				spoiled++
			}
			break
		}
	}
	if lines := fleet.Diff(want, got); len(lines) != spoiled {
		t.Errorf("%d differences named, want %d: %v", len(lines), spoiled, lines)
	}
	clear(got.Sales)
	if lines := fleet.Diff(want, got); len(lines) < len(want.Sales) {
		t.Errorf("%d differences named, want one for each of %d sales that are missing", len(lines), len(want.Sales))
	}
}
