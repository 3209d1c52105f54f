package fleet_test

import (
	"context"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/veloxpos/reconciled/internal/fleet"
	"github.com/veloxpos/reconciled/internal/velox"
)

// held is a log by event id.
func held(events []velox.Event) map[uuid.UUID]velox.Event {
	m := map[uuid.UUID]velox.Event{}
	for _, e := range events {
		m[e.ID] = e
	}
	return m
}

func plant(t testing.TB, f fleet.LogFault, d *fleet.Sides) fleet.Expect {
	t.Helper()
	e, err := f.Plant(d)
	if err != nil {
		t.Fatal(err)
	}
	if e.Fault != f.Name || !strings.HasPrefix(e.String(), f.Name) {
		t.Errorf("%s is reported as %q", f.Name, e)
	}
	return e
}

func TestFaultsKeepEventsFromOneSide(t *testing.T) {
	for _, side := range []fleet.Side{fleet.Store, fleet.Central} {
		for _, f := range []fleet.LogFault{fleet.Outage(side, 200), fleet.Scattered(side, 50)} {
			t.Run(f.Name, func(t *testing.T) {
				shop := fleet.NewShop(everything(20))
				log := shop.Trade(1000)
				d := fleet.NewSides(shop, log)
				e := plant(t, f, d)
				there, other := held(d.At(side)), held(d.At(fleet.Store))
				if side == fleet.Store {
					other = held(d.At(fleet.Central))
				}
				if len(e.Fetched) != 50 && len(e.Fetched) != 200 || len(there) != 1000-len(e.Fetched) || len(other) != 1000 {
					t.Errorf("%d expected, %d on %s, %d on the other side", len(e.Fetched), len(there), side, len(other))
				}
				for _, id := range e.Fetched {
					if _, ok := there[id]; ok {
						t.Errorf("event %s is on %s", id, side)
					}
				}
			})
		}
	}
}

func TestFaultsThatChangeWhatASideHolds(t *testing.T) {
	shop := fleet.NewShop(everything(21))
	d := fleet.NewSides(shop, shop.Trade(2000))

	altered := plant(t, fleet.Altered(fleet.Central), d)
	here, there := held(d.At(fleet.Store)), held(d.At(fleet.Central))
	id := altered.Conflicts[0]
	a, b := here[id], there[id]
	if a.Verify() != velox.Intact || b.Verify() != velox.Corrupt {
		t.Errorf("the copies are %v and %v, want intact and corrupt", a.Verify(), b.Verify())
	}

	twice := plant(t, fleet.Twice(), d)
	here, there = held(d.At(fleet.Store)), held(d.At(fleet.Central))
	one, other := here[twice.Agreed[0]], there[twice.Agreed[1]]
	if one.RequestID != other.RequestID || !one.RequestID.Valid {
		t.Errorf("request ids %v and %v, want one", one.RequestID, other.RequestID)
	}
	if _, ok := there[twice.Agreed[0]]; ok {
		t.Error("central holds the sale under both ids")
	}

	lost := plant(t, fleet.LostContent(fleet.Store), d)
	here, there = held(d.At(fleet.Store)), held(d.At(fleet.Central))
	a, b = here[lost.Restored[0]], there[lost.Restored[0]]
	if !a.Lost() || b.Lost() || !a.Restores(b.Said()) {
		t.Errorf("lost here %v, there %v; the other copy does not restore it", a.Lost(), b.Lost())
	}
}

func TestOddSalesLeaveTheirMark(t *testing.T) {
	shop := fleet.NewShop(everything(22))
	d := fleet.NewSides(shop, shop.Trade(1500))
	poison := plant(t, fleet.Malformed(), d)
	unknown := plant(t, fleet.UnknownProduct(), d)
	oversold := plant(t, fleet.Oversold(), d)
	fiscal := plant(t, fleet.FiscalDuplicate(), d)
	for _, side := range []fleet.Side{fleet.Store, fleet.Central} {
		pool := database(t)
		seed(t, pool, shop.Reference(), d.At(side))
		m := fleet.Fold(d.At(side), shop.Reference())
		if !slices.Equal(m.Poison, poison.Poison) {
			t.Errorf("poison at %s: %v, want %v", side, m.Poison, poison.Poison)
		}
		if !slices.Contains(m.Waiting, unknown.Waiting[0]) {
			t.Errorf("waiting at %s: %v, want %v among them", side, m.Waiting, unknown.Waiting)
		}
		same(t, m, mustLoad(t, pool))
		var product, number string
		err := pool.QueryRow(context.Background(), `SELECT (SELECT string_agg(product_id::text, ',') FROM (SELECT product_id FROM inventory_movements WHERE NOT from_escrow
				GROUP BY warehouse_id, product_id, variant_id HAVING sum(qty_delta) < 0) o),
			(SELECT string_agg(fiscal_number, ',') FROM (SELECT fiscal_number FROM sales WHERE voided_at IS NULL AND fiscal_number IS NOT NULL
				GROUP BY invoice_series_id, fiscal_number HAVING count(*) > 1) f)`).Scan(&product, &number)
		if err != nil {
			t.Fatal(err)
		}
		if product != oversold.Health[0] || number != fiscal.Health[0] {
			t.Errorf("oversold %s, duplicate %s, want %s and %s", product, number, oversold.Health[0], fiscal.Health[0])
		}
	}
}

// wantSpoiled fails the test unless the fault differs from want in the tables
// that it says, and in nothing else.
func wantSpoiled(t *testing.T, want, got fleet.ReadModel, tables string) {
	t.Helper()
	spoiled := map[string]bool{}
	for _, line := range fleet.Diff(want, got) {
		table, _, _ := strings.Cut(line, " ")
		spoiled[table] = true
	}
	if found := strings.Join(slices.Sorted(maps.Keys(spoiled)), " "); found != tables {
		t.Errorf("differences in %q, want them in %q", found, tables)
	}
}

func TestRowFaultsSpoilTheReadModelAndProjectingMendsIt(t *testing.T) {
	ctx := context.Background()
	shop := fleet.NewShop(everything(23))
	events := shop.Trade(2500)
	pool := database(t)
	seed(t, pool, shop.Reference(), events)
	want := fleet.Fold(events, shop.Reference())
	same(t, want, mustLoad(t, pool))
	for _, f := range []struct {
		fleet.RowFault
		tables string // that differ
	}{
		{fleet.SalesWithoutRows(200, false), "debts inventory_movements sale_items sales stock_escrow warehouse_stock"},
		{fleet.SalesWithoutRows(200, true), "debts sale_items sales"},
		{fleet.DebtsMissing(2), "debts"},
		{fleet.PaymentsMissing(3), "debt_payments debts"},
		{fleet.CustomersMissing(3), "customers"},
		{fleet.ProductsMissing(1), "products"},
		{fleet.SessionsLeftOpen(2), "cash_sessions"},
		{fleet.MovementsMissing(4), "inventory_movements warehouse_stock"},
		{fleet.UpdatesLost(1), "inventory_movements warehouse_stock"},
		{fleet.EarlyVoids(2), "inventory_movements sale_items sales"},
		{fleet.VoidsIgnored(2), "inventory_movements sales warehouse_stock"},
		{fleet.SalesWithoutItems(5), "sale_items"},
		{fleet.PaymentsWithoutEffect(3), "debts"},
		{fleet.ProductsAltered(3), "products"},
		{fleet.ProductChangesSwallowed(3), "products"},
		{fleet.PricesZeroed(2), "products"},
		{fleet.CustomerChangesSwallowed(3), "customers"},
		{fleet.PlaceholdersLeft(3), "customers"},
		{fleet.CustomerFieldsDropped(3), "customers"},
		{fleet.RecipesMissing(2), "recipe_ingredients"},
		{fleet.LedgerMissing(5), "cash_ledger_entries cash_sessions"},
		{fleet.QuotasMissing(1, true), "inventory_movements stock_escrow warehouse_stock"},
	} {
		t.Run(f.Name, func(t *testing.T) {
			e, err := f.Plant(ctx, pool, fleet.Store, store)
			if err != nil {
				t.Fatal(err)
			}
			if len(e.Healed) == 0 || e.Fault != f.Name {
				t.Errorf("expectation %q heals nothing", e)
			}
			wantSpoiled(t, want, mustLoad(t, pool), f.tables)
			if err := fleet.NewBackend(pool, fleet.BackendOptions{}).ProjectAll(ctx, store); err != nil {
				t.Fatal(err)
			}
			same(t, want, mustLoad(t, pool))
		})
	}
}

// What the stand-in takes for done, it does not mend.
func TestRowFaultsThatProjectingDoesNotSee(t *testing.T) {
	ctx := context.Background()
	shop := fleet.NewShop(everything(26))
	events := shop.Trade(4000)
	pool := database(t)
	seed(t, pool, shop.Reference(), events)
	want := fleet.Fold(events, shop.Reference())
	same(t, want, mustLoad(t, pool))
	for _, f := range []struct {
		fleet.RowFault
		tables string
		healed int
	}{
		{fleet.SalesShortOfAnItem(4), "sale_items", 4},
		{fleet.SalesWithoutMovements(4), "inventory_movements warehouse_stock", 4},
		{fleet.VoidsWithoutReversal(3), "inventory_movements warehouse_stock", 3},
		{fleet.DebtsResurrected(2), "debts", 2},
		{fleet.SalesAltered(3), "sales", 3},
		{fleet.ItemsAltered(3), "sale_items", 3},
		{fleet.DebtsAltered(3), "debts", 3},
		{fleet.PaymentsAltered(3), "debt_payments", 3},
		{fleet.SessionsAltered(3), "cash_sessions", 3},
		{fleet.LedgerAltered(3), "cash_ledger_entries", 3},
		{fleet.MovementsAltered(3), "inventory_movements warehouse_stock", 3},
		{fleet.MovementsWithoutVariant(2), "inventory_movements warehouse_stock", 2},
		{fleet.DiscountsDropped(3), "sales", 3},
	} {
		t.Run(f.Name, func(t *testing.T) {
			tx, err := pool.Begin(ctx)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = tx.Rollback(ctx) }()
			e, err := f.Plant(ctx, tx, fleet.Store, store)
			if err != nil {
				t.Fatal(err)
			}
			if len(e.Healed) != f.healed {
				t.Errorf("%d events expected, want %d", len(e.Healed), f.healed)
			}
			got, err := fleet.Load(ctx, tx, store)
			if err != nil {
				t.Fatal(err)
			}
			wantSpoiled(t, want, got, f.tables)
		})
	}
}

func TestABackendsReadModelOfALogWithHolesIsItsFold(t *testing.T) {
	shop := fleet.NewShop(everything(28))
	d := fleet.NewSides(shop, shop.Trade(2500))
	for _, f := range []fleet.LogFault{fleet.Outage(fleet.Central, 300), fleet.Scattered(fleet.Central, 100)} {
		plant(t, f, d)
	}
	pool := database(t)
	seed(t, pool, shop.Reference(), d.At(fleet.Central))
	m := fleet.Fold(d.At(fleet.Central), shop.Reference())
	if len(m.Waiting) == 0 {
		t.Error("nothing waits for what is not there")
	}
	same(t, m, mustLoad(t, pool))
}

func TestQuotasThatNothingWasSoldFromAreMissing(t *testing.T) {
	ctx := context.Background()
	shop := fleet.NewShop(fleet.Options{Seed: 4, Store: store, Start: monday})
	events := shop.Trade(500)
	pool := database(t)
	seed(t, pool, shop.Reference(), events)
	want := fleet.Fold(events, shop.Reference())
	e, err := fleet.QuotasMissing(1, false).Plant(ctx, pool, fleet.Store, store)
	if err != nil {
		t.Fatal(err)
	}
	wantSpoiled(t, want, mustLoad(t, pool), "inventory_movements stock_escrow warehouse_stock")
	var quotas []velox.Event
	for _, v := range events {
		if slices.Contains(e.Healed, v.ID) {
			quotas = append(quotas, v)
		}
	}
	if err := fleet.NewBackend(pool, fleet.BackendOptions{}).Project(ctx, store, quotas); err != nil {
		t.Fatal(err)
	}
	same(t, want, mustLoad(t, pool))
}

func TestAFaultWithoutAVictimSaysSo(t *testing.T) {
	ctx := context.Background()
	shop := fleet.NewShop(everything(24))
	pool := database(t)
	seed(t, pool, shop.Reference(), nil)
	if _, err := fleet.VoidsIgnored(1).Plant(ctx, pool, fleet.Store, store); err == nil || !strings.Contains(err.Error(), "no row that fits") {
		t.Errorf("error %v", err)
	}
	if _, err := fleet.Altered(fleet.Store).Plant(fleet.NewSides(shop, nil)); err == nil {
		t.Error("an event of an empty log was altered")
	}
}

func TestLostEventsAreAbsentAndTheirRowsStay(t *testing.T) {
	ctx := context.Background()
	shop := fleet.NewShop(everything(25))
	events := shop.Trade(600)
	pool := database(t)
	seed(t, pool, shop.Reference(), events)
	before := mustLoad(t, pool)
	gone := []uuid.UUID{events[10].ID, events[300].ID, events[599].ID}
	// The dirty log of schema reconciled, as far as a lost disk has to do with it.
	if _, err := pool.Exec(ctx, `CREATE SCHEMA reconciled;
		CREATE TABLE reconciled.dirty (store_id uuid, slot bigint, op "char");
		CREATE FUNCTION reconciled.slot(at timestamptz) RETURNS bigint LANGUAGE sql RETURN (extract(epoch FROM at) * 1000)::bigint >> 20`); err != nil {
		t.Fatal(err)
	}
	e, err := fleet.LoseEvents(ctx, pool, fleet.Store, gone)
	if err != nil {
		t.Fatal(err)
	}
	stored, err := fleet.Read(ctx, pool, store)
	if err != nil {
		t.Fatal(err)
	}
	if len(stored) != 597 || !slices.Equal(e.Fetched, gone) {
		t.Errorf("%d events left, want 597; %d to be fetched", len(stored), len(e.Fetched))
	}
	same(t, before, mustLoad(t, pool))
	var marked int
	if err := pool.QueryRow(ctx, `SELECT count(*) FROM reconciled.dirty WHERE store_id = $1 AND op = 'm'`, store).Scan(&marked); err != nil {
		t.Fatal(err)
	}
	if marked != len(gone) {
		t.Errorf("%d slots marked, want %d", marked, len(gone))
	}
}
