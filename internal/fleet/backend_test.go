package fleet_test

import (
	"context"
	"encoding/json"
	"maps"
	"math/rand/v2"
	"regexp"
	"slices"
	"strings"
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

func TestABackendIsWrongInKnownWays(t *testing.T) {
	shop := fleet.NewShop(everything(4))
	events := shop.Trade(2000)
	want := fleet.Fold(events, shop.Reference())
	all := map[string]bool{}
	for _, c := range []struct {
		fleet.Deviation
		differs []string // columns; or that rows are missing, or too many
	}{
		{fleet.DebtsOfVoidedSales, []string{"debt_payments too many", "debts too many"}},
		{fleet.StockMisbooked, []string{"warehouse_stock missing", "warehouse_stock too many", "warehouse_stock.stock"}},
		{fleet.PayloadNotSaid, []string{
			"debt_payments missing", "debts.status", "inventory_movements missing", "inventory_movements.happened_at",
			"warehouse_stock.stock",
		}},
		{fleet.VariantLost, []string{
			"inventory_movements.variant_id", "warehouse_stock missing", "warehouse_stock too many", "warehouse_stock.stock",
		}},
		{fleet.PaymentsByOwnID, []string{"debt_payments missing", "debts.status"}},
		{fleet.GuardByRowTime, []string{
			"cash_sessions.closed_at", "cash_sessions.closed_by", "cash_sessions.counted", "cash_sessions.expected", "cash_sessions.note",
			"products.barcode", "products.category", "products.description", "products.image_url", "products.is_active",
			"products.is_visible_public", "products.low_stock_threshold", "products.name", "products.profit_margin", "products.public_name",
		}},
		{fleet.DiscountsZero, []string{"sales.totals.discount_bs", "sales.totals.discount_usd"}},
		{fleet.ServerMadeUnheeded, []string{
			"cash_ledger_entries missing", "cash_sessions.ledger_n_bs", "cash_sessions.ledger_n_usd", "cash_sessions.ledger_p_bs",
			"inventory_movements missing", "inventory_movements too many", "inventory_movements.qty_delta", "stock_escrow missing",
			"warehouse_stock.stock",
		}},
		{fleet.PlaceholdersStay, []string{
			"customers.credit_limit", "customers.document_id", "customers.email", "customers.name", "customers.note", "customers.phone",
			"customers.updated_at",
		}},
		{fleet.CustomersShortened, []string{"customers.credit_limit", "customers.document_id", "customers.email"}},
		{fleet.OtherPriceZero, []string{"products.price_bs", "products.price_usd"}},
		{fleet.SessionRequired, []string{"cash_ledger_entries missing"}},
		{fleet.QuotasShortened, []string{
			"inventory_movements missing", "inventory_movements too many", "inventory_movements.qty_delta", "stock_escrow.qty_granted",
			"warehouse_stock.stock",
		}},
	} {
		t.Run(string(c.Deviation), func(t *testing.T) {
			got := differing(want, projected(t, shop, events, fleet.BackendOptions{Wrong: []fleet.Deviation{c.Deviation}}))
			if !slices.Equal(got, c.differs) {
				t.Errorf("differences %q, want %q", got, c.differs)
			}
		})
		for _, column := range c.differs {
			all[column] = true
		}
	}
	t.Run("as shipped", func(t *testing.T) {
		delete(all, "stock_escrow.qty_granted") // at home there is no escrow at all
		got := differing(want, projected(t, shop, events, fleet.BackendOptions{AsShipped: true}))
		if !slices.Equal(got, slices.Sorted(maps.Keys(all))) {
			t.Errorf("differences %q, want those of all deviations", got)
		}
	})
}

// projected is the read model that a backend makes of a shop's log at home.
func projected(t testing.TB, shop *fleet.Shop, events []velox.Event, o fleet.BackendOptions) fleet.ReadModel {
	t.Helper()
	ctx := context.Background()
	pool := database(t)
	if err := shop.Reference().Insert(ctx, pool); err != nil {
		t.Fatal(err)
	}
	if _, err := fleet.Insert(ctx, pool, events, fleet.InsertOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := fleet.NewBackend(pool, o).ProjectAll(ctx, store); err != nil {
		t.Fatal(err)
	}
	return mustLoad(t, pool)
}

var oneColumn = regexp.MustCompile(`^(\S+) \S+?\.(\S+): `)

// differing are the columns that differ anywhere, and the tables with rows that
// are missing or too many.
func differing(want, got fleet.ReadModel) []string {
	found := map[string]bool{}
	for _, line := range fleet.Diff(want, got) {
		table, _, _ := strings.Cut(line, " ")
		column := oneColumn.FindStringSubmatch(line)
		switch {
		case strings.HasSuffix(line, ": missing"):
			found[table+" missing"] = true
		case strings.HasSuffix(line, ": too many"):
			found[table+" too many"] = true
		default:
			found[column[1]+"."+column[2]] = true
		}
	}
	return slices.Sorted(maps.Keys(found))
}

func TestTheOrderOfArrivalDoesNotMatterToABackend(t *testing.T) {
	shop := fleet.NewShop(everything(27))
	events := shop.Trade(2500)
	pool := database(t)
	var early, late []velox.Event
	order := rand.New(rand.NewPCG(1, 2))
	for _, e := range events {
		if order.IntN(2) == 0 {
			early = append(early, e)
		} else {
			late = append(late, e)
		}
	}
	for _, part := range [][]velox.Event{late, early} {
		seed(t, pool, shop.Reference(), part)
	}
	same(t, fleet.Fold(events, shop.Reference()), mustLoad(t, pool))
}

func TestWhatComesLateIsMadeUpFor(t *testing.T) {
	ctx := context.Background()
	pool := database(t)
	backend := fleet.NewBackend(pool, fleet.BackendOptions{})
	if err := bare.Insert(ctx, pool); err != nil {
		t.Fatal(err)
	}
	// As they arrive; by their makers' clocks it was otherwise.
	events := []velox.Event{
		at(2, velox.ProductCreated, `{'product_id': '#B#', 'name': 'Arepa'}`),
		at(9, velox.ProductUpdated, `{'product_id': '#A#', 'patch': {'name': 'Arroz blanco'}}`),
		at(8, velox.PriceChanged, `{'product_id': '#A#', 'price_usd': 2}`),
		at(5, velox.RecipeIngredientsUpdated, `{'product_id': '#B#', 'ingredients': [{'ingredient_product_id': '#A#', 'qty': 2}]}`),
		at(4, velox.RecipeIngredientsUpdated, `{'product_id': '#B#', 'ingredients': []}`),
		at(1, velox.ProductCreated, `{'product_id': '#A#', 'name': 'Arroz', 'price_bs': 40}`),
		at(6, velox.ProductUpdated, `{'product_id': '#A#', 'patch': {'name': 'Arroz pardo', 'sku': 's'}}`),
		at(11, velox.CashLedgerEntryCreated, `{'entry_id': '#entryA#', 'entry_type': 'expense', 'amount_bs': 7, 'cash_session_id': '#S#'}`),
		at(10, velox.CashSessionOpened, `{'session_id': '#S#'}`),
		at(21, velox.CustomerUpdated, `{'customer_id': '#C#', 'patch': {'phone': '0414'}}`),
		at(20, velox.SaleCreated, `{'sale_id': '#sale#', 'customer_id': '#C#', 'items': [{'product_id': '#A#', 'qty': 4}, {'product_id': '#A#', 'qty': 8}]}`),
		at(12, velox.StockQuotaGranted, `{'quota_id': '#entryA#', 'request_id': '#request#', 'product_id': '#A#', 'device_id': '#till#', 'qty_granted': 10}`),
		at(13, velox.StockQuotaTransferred, `{'request_id': '#request#', 'product_id': '#A#', 'from_device_id': '#till#', 'to_device_id': '#other#', 'qty': 4}`),
		at(25, velox.CustomerCreated, `{'customer_id': '#C#', 'name': 'Ana', 'phone': '0', 'email': 'a@b'}`),
	}
	for _, e := range events {
		if _, err := fleet.Insert(ctx, pool, []velox.Event{e}, fleet.InsertOptions{}); err != nil {
			t.Fatal(err)
		}
		if err := backend.Project(ctx, store, []velox.Event{e}); err != nil {
			t.Fatal(err)
		}
	}
	same(t, fleet.Fold(events, bare), mustLoad(t, pool))
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
