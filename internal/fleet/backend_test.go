package fleet_test

import (
	"context"
	"encoding/json"
	"slices"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/veloxpos/reconciled/internal/fleet"
	"github.com/veloxpos/reconciled/internal/velox"
)

// seed fills a database with a shop's reference rows and events, and projects.
func seed(t testing.TB, pool *pgxpool.Pool, ref fleet.Reference, events []velox.Event) {
	t.Helper()
	ctx := context.Background()
	if err := ref.Insert(ctx, pool); err != nil {
		t.Fatal(err)
	}
	if _, err := fleet.Insert(ctx, pool, events, fleet.InsertOptions{Outbox: fleet.OutboxProcessed, Status: "processed"}); err != nil {
		t.Fatal(err)
	}
	if err := fleet.NewBackend(pool, fleet.BackendOptions{}).ProjectAll(ctx, ref.Store); err != nil {
		t.Fatal(err)
	}
}

func mustLoad(t testing.TB, pool *pgxpool.Pool) fleet.ReadModel {
	t.Helper()
	m, err := fleet.Load(context.Background(), pool, store)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// same fails the test with the first differences.
func same(t testing.TB, want, got fleet.ReadModel) {
	t.Helper()
	differences := fleet.Diff(want, got)
	for i, line := range differences {
		if i == 20 {
			t.Errorf("and %d more", len(differences)-i)
			return
		}
		t.Error(line)
	}
}

func TestABackendsReadModelIsTheFoldOfTheLog(t *testing.T) {
	shop := fleet.NewShop(everything(1))
	events := shop.Trade(4000)
	pool := database(t)
	seed(t, pool, shop.Reference(), events)

	stored, err := fleet.Read(context.Background(), pool, store)
	if err != nil {
		t.Fatal(err)
	}
	if len(stored) != len(events) {
		t.Fatalf("%d events stored, want %d", len(stored), len(events))
	}
	same(t, fleet.Fold(stored, shop.Reference()), mustLoad(t, pool))
}

func TestProjectingTwiceChangesNothing(t *testing.T) {
	ctx := context.Background()
	shop := fleet.NewShop(everything(2))
	pool := database(t)
	seed(t, pool, shop.Reference(), shop.Trade(1500))
	before := mustLoad(t, pool)
	if err := fleet.NewBackend(pool, fleet.BackendOptions{}).ProjectAll(ctx, store); err != nil {
		t.Fatal(err)
	}
	same(t, before, mustLoad(t, pool))
}

func TestThePollerComesToTheSameReadModel(t *testing.T) {
	ctx := context.Background()
	shop := fleet.NewShop(fleet.Options{Seed: 3, Store: store, Start: monday, Conflicts: true})
	events := shop.Trade(400)
	pool := database(t)
	if err := shop.Reference().Insert(ctx, pool); err != nil {
		t.Fatal(err)
	}
	// As on the node that a relay brings them to, where every event has its row.
	for i := range events {
		events[i] = fleet.Relayed(events[i])
	}
	if _, err := fleet.Insert(ctx, pool, events, fleet.InsertOptions{Relayed: true}); err != nil {
		t.Fatal(err)
	}
	backend := fleet.NewBackend(pool, fleet.BackendOptions{})
	for taken := 1; taken > 0; {
		var err error
		if taken, err = backend.Poll(ctx); err != nil {
			t.Fatal(err)
		}
	}
	var stuck string
	if err := pool.QueryRow(ctx, `SELECT coalesce(string_agg(DISTINCT type || ': ' || projection_error, '; '), '') FROM events WHERE projection_status <> 'processed'`).Scan(&stuck); err != nil {
		t.Fatal(err)
	}
	if stuck != "" {
		t.Errorf("not processed: %s", stuck)
	}
	same(t, fleet.Fold(events, shop.Reference()), mustLoad(t, pool))
}

func TestABackendAsShippedIsWrongInKnownWays(t *testing.T) {
	ctx := context.Background()
	shop := fleet.NewShop(fleet.Options{Seed: 4, Store: store, Start: monday})
	events := shop.Trade(600)
	pool := database(t)
	if err := shop.Reference().Insert(ctx, pool); err != nil {
		t.Fatal(err)
	}
	if _, err := fleet.Insert(ctx, pool, events, fleet.InsertOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := fleet.NewBackend(pool, fleet.BackendOptions{AsShipped: true}).ProjectAll(ctx, store); err != nil {
		t.Fatal(err)
	}
	want, got := fleet.Fold(events, shop.Reference()), mustLoad(t, pool)
	if len(got.Stock) >= len(want.Stock) {
		t.Errorf("%d stock rows with something in them, want fewer than %d: first receipts make none", len(got.Stock), len(want.Stock))
	}
	// Rows are all there; what differs is what it is known to get wrong.
	got.Stock = want.Stock
	if differences := fleet.Diff(want, got); len(differences) == 0 {
		t.Error("discounts and customer details are right, want them wrong")
	}
	if len(got.Sales) != len(want.Sales) || len(got.Movements) < len(want.Sales) {
		t.Errorf("%d sales, want %d", len(got.Sales), len(want.Sales))
	}
}

func TestAVoidThatComesFirstGoesByWithoutEffect(t *testing.T) {
	ctx := context.Background()
	shop := fleet.NewShop(fleet.Options{Seed: 5, Store: store, Start: monday})
	events := shop.Trade(1500)
	var void, sale velox.Event
	for _, v := range events {
		for _, s := range events {
			if v.Type == velox.SaleVoided && v.Device != velox.ServerDevice && s.Type == velox.SaleCreated && s.Device != velox.ServerDevice &&
				saleID(t, v) == saleID(t, s) {
				void, sale = v, s
			}
		}
	}
	pool := database(t)
	backend := fleet.NewBackend(pool, fleet.BackendOptions{})
	rest := slices.DeleteFunc(slices.Clone(events), func(e velox.Event) bool { return e.ID == void.ID || e.ID == sale.ID })
	seed(t, pool, shop.Reference(), rest)
	for _, e := range []velox.Event{void, sale} {
		if _, err := fleet.Insert(ctx, pool, []velox.Event{e}, fleet.InsertOptions{}); err != nil {
			t.Fatal(err)
		}
		if n, err := backend.Poll(ctx); err != nil || n != 1 {
			t.Fatalf("polled %d events (%v), want 1", n, err)
		}
	}
	var processed, voided int
	err := pool.QueryRow(ctx, `SELECT (SELECT count(*) FROM events WHERE event_id = ANY($1) AND projection_status = 'processed'),
		(SELECT count(*) FROM sales WHERE id = $2 AND voided_at IS NOT NULL)`, []uuid.UUID{void.ID, sale.ID}, saleID(t, sale)).Scan(&processed, &voided)
	if err != nil {
		t.Fatal(err)
	}
	if processed != 2 || voided != 0 {
		t.Errorf("%d of 2 processed, %d voided; want both processed and the sale unvoided", processed, voided)
	}
	if lines := fleet.Diff(fleet.Fold(events, shop.Reference()), mustLoad(t, pool)); len(lines) == 0 {
		t.Error("the fold does not see that the void had no effect")
	}
	if err := backend.Project(ctx, store, []velox.Event{void}); err != nil {
		t.Fatal(err)
	}
	same(t, fleet.Fold(events, shop.Reference()), mustLoad(t, pool))
}

func saleID(t testing.TB, e velox.Event) string {
	t.Helper()
	var content struct {
		Sale string `json:"sale_id"`
	}
	if err := json.Unmarshal(e.Said(), &content); err != nil {
		t.Fatal(err)
	}
	return content.Sale
}

func TestThePollerGivesUpOnWhatNeverComes(t *testing.T) {
	ctx := context.Background()
	shop := fleet.NewShop(fleet.Options{Seed: 6, Store: store, Start: monday})
	events := shop.Trade(200)
	pool := database(t)
	if err := shop.Reference().Insert(ctx, pool); err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(events, func(e velox.Event) bool { return e.Type == velox.StockReceived })
	if _, err := fleet.Insert(ctx, pool, events[i:i+1], fleet.InsertOptions{}); err != nil {
		t.Fatal(err)
	}
	backend, rounds := fleet.NewBackend(pool, fleet.BackendOptions{}), 0
	for taken := 1; taken > 0; rounds++ {
		var err error
		if taken, err = backend.Poll(ctx); err != nil {
			t.Fatal(err)
		}
	}
	var event, entry string
	err := pool.QueryRow(ctx, `SELECT e.projection_status, o.status || ' ' || o.retry_count FROM events e
		JOIN outbox_entries o ON o.event_id = e.event_id::text AND o.target = 'projection'`).Scan(&event, &entry)
	if err != nil {
		t.Fatal(err)
	}
	if event != "failed" || entry != "failed 10" || rounds != 11 {
		t.Errorf("event %s, entry %s after %d rounds", event, entry, rounds)
	}
}

func TestPollersSideBySideKeepTheTotalsRight(t *testing.T) {
	ctx := context.Background()
	shop := fleet.NewShop(fleet.Options{Seed: 7, Store: store, Start: monday, Products: 3})
	pool := database(t)
	events := shop.Trade(2500)
	stock := []velox.Type{velox.StockReceived, velox.StockAdjusted, velox.StockDeltaApplied}
	var early, late []velox.Event
	for i, e := range events {
		if e = fleet.Relayed(e); i > 100 && slices.Contains(stock, e.Type) {
			late = append(late, e)
		} else {
			early = append(early, e)
		}
	}
	seed(t, pool, shop.Reference(), early)
	if _, err := fleet.Insert(ctx, pool, late, fleet.InsertOptions{Relayed: true}); err != nil {
		t.Fatal(err)
	}
	backend := fleet.NewBackend(pool, fleet.BackendOptions{})
	errs := make(chan error, 3)
	for range cap(errs) {
		go func() {
			for {
				if n, err := backend.Poll(ctx); n == 0 || err != nil {
					errs <- err
					return
				}
			}
		}()
	}
	for range cap(errs) {
		if err := <-errs; err != nil {
			t.Fatal(err)
		}
	}
	same(t, fleet.Fold(events, shop.Reference()), mustLoad(t, pool))
}
