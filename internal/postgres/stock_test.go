package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/veloxpos/reconciled/internal/health"
	"github.com/veloxpos/reconciled/internal/postgres"
	"github.com/veloxpos/reconciled/internal/postgres/postgrestest"
	"github.com/veloxpos/reconciled/internal/testkit"
	"github.com/veloxpos/reconciled/lock"
)

// storeroom is a shop with two warehouses and some products, one of which has a
// variant.
type storeroom struct {
	testing.TB
	site  *postgrestest.Site
	stock *postgres.Healing
	grant lock.Grant
}

func newStoreroom(t testing.TB) storeroom {
	t.Helper()
	s, _ := site(t)
	s.AddStore(t, otherShop)
	exec(t, s.Owner, `INSERT INTO warehouses (id, store_id, name, code, is_default) VALUES
		($1, $2, 'Principal', 'P', true), ($3, $2, 'Anexo', 'A', false), ($4, $5, 'Otra', 'O', true)`, mainRoom, shop, id("annex"), id("their room"), otherShop)
	for _, name := range []string{"flour", "rice", "salt", "oil"} {
		exec(t, s.Owner, `INSERT INTO products (id, store_id, name) VALUES ($1, $2, $3)`, id(name), shop, name)
	}
	exec(t, s.Owner, `INSERT INTO product_variants (id, product_id, variant_type, variant_value) VALUES ($1, $2, 'size', 'L')`, id("large"), id("flour"))
	return storeroom{t, s, postgres.NewHealing(s.DB), s.Grant(t, shop)}
}

// move inserts a movement; warehouse and variant may be nil.
func (r storeroom) move(kind string, product, warehouse, variant any, qty float64) {
	r.Helper()
	exec(r.TB, r.site.Owner, `INSERT INTO inventory_movements (id, store_id, product_id, movement_type, qty_delta, happened_at, warehouse_id, variant_id, from_escrow)
		VALUES (gen_random_uuid(), $1, $2, replace($3, ' from escrow', ''), $4, now(), $5, $6, $3 LIKE '%from escrow')`, shop, product, kind, qty, warehouse, variant)
}

// cache writes a row of warehouse_stock.
func (r storeroom) cache(product, warehouse, variant any, qty float64) {
	r.Helper()
	exec(r.TB, r.site.Owner, `DELETE FROM warehouse_stock WHERE product_id = $1 AND warehouse_id = $2 AND variant_id IS NOT DISTINCT FROM $3`, product, warehouse, variant)
	exec(r.TB, r.site.Owner, `INSERT INTO warehouse_stock (warehouse_id, product_id, variant_id, stock) VALUES ($1, $2, $3, $4)`, warehouse, product, variant, qty)
}

func (r storeroom) drain() {
	r.Helper()
	if err := r.stock.DrainStock(r.Context(), r.grant); err != nil {
		r.Fatal(err)
	}
}

// findings drains and prints what is found: product, warehouse, ledger/cache.
func (r storeroom) findings() string {
	r.Helper()
	r.drain()
	list, total, err := r.stock.Stock(r.Context(), shop, 100)
	if err != nil || total != len(list) {
		r.Fatalf("%d of %d findings, %v", len(list), total, err)
	}
	var lines []string
	for _, f := range list {
		line := fmt.Sprintf("%s %s %s/%s", f.Name, f.WarehouseName, f.Ledger, f.Cache)
		if f.Variant.Valid {
			line += " variant"
		}
		if f.Diverged {
			line += " diverged"
		}
		if f.Oversold {
			line += " oversold"
		}
		if f.Since.IsZero() {
			r.Errorf("%s: since never", line)
		}
		lines = append(lines, line)
	}
	return strings.Join(lines, ", ")
}

func (r storeroom) want(findings string) {
	r.Helper()
	if got := r.findings(); got != findings {
		r.Errorf("found %q\nwant  %q", got, findings)
	}
	r.wantSums()
}

// wantSums holds what is kept against the movements and the cache, by a query of its own.
func (r storeroom) wantSums() {
	r.Helper()
	rows, err := r.site.DB.Pool.Query(r.Context(), `
		WITH room AS (SELECT id FROM warehouses WHERE store_id = $1 AND is_active ORDER BY is_default DESC, name LIMIT 1),
		truth AS (
			SELECT product_id, coalesce(variant_id::text, '') AS variant, coalesce(warehouse_id::text, (SELECT id::text FROM room), '') AS warehouse,
				sum(ledger) AS ledger, sum(cache) AS cache
			FROM (SELECT product_id, variant_id, warehouse_id, qty_delta AS ledger, 0 AS cache FROM inventory_movements
					WHERE store_id = $1 AND movement_type = ANY('{received,adjust,sold,sale,transfer_in,transfer_out}') AND coalesce(from_escrow, false) = false
				UNION ALL SELECT product_id, variant_id, warehouse_id, 0, stock FROM warehouse_stock WHERE warehouse_id IN (SELECT id FROM warehouses WHERE store_id = $1)) x
			GROUP BY 1, 2, 3),
		kept AS (
			SELECT product_id, CASE variant_id WHEN '00000000-0000-0000-0000-000000000000' THEN '' ELSE variant_id::text END AS variant,
				CASE warehouse_id WHEN '00000000-0000-0000-0000-000000000000' THEN '' ELSE warehouse_id::text END AS warehouse,
				ledger, cache, diverged_since IS NOT NULL AS diverged, oversold_since IS NOT NULL AS oversold, stale
			FROM reconciled.stock WHERE store_id = $1)
		SELECT format('product %s variant %s warehouse %s: kept %s/%s diverged %s oversold %s stale %s, true %s/%s', coalesce(t.product_id, k.product_id),
			coalesce(t.variant, k.variant), coalesce(t.warehouse, k.warehouse), k.ledger, k.cache, k.diverged, k.oversold, k.stale, t.ledger, t.cache)
		FROM truth t FULL JOIN kept k ON k.product_id = t.product_id AND k.variant = t.variant AND k.warehouse = t.warehouse
		WHERE coalesce(k.ledger, 0) <> coalesce(t.ledger, 0) OR coalesce(k.cache, 0) <> coalesce(t.cache, 0)
		   OR coalesce(k.diverged, false) <> (coalesce(t.warehouse, k.warehouse) <> '' AND greatest(coalesce(t.ledger, 0), 0) <> coalesce(t.cache, 0))
		   OR coalesce(k.oversold, false) <> (coalesce(t.ledger, 0) < 0) OR k.stale`, shop)
	if err != nil {
		r.Fatal(err)
	}
	wrong, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		r.Fatal(err)
	}
	if len(wrong) > 0 {
		r.Errorf("%d keys are wrong:\n%s", len(wrong), strings.Join(wrong[:min(len(wrong), 5)], "\n"))
	}
}

func (r storeroom) measure() health.Snapshot {
	r.Helper()
	var s health.Snapshot
	if err := postgres.NewHealth(postgres.NewLog(r.site.DB)).Measure(r.Context(), shop, &s); err != nil {
		r.Fatal(err)
	}
	return s
}

func TestStockIsHeldAgainstTheLedger(t *testing.T) {
	r := newStoreroom(t)
	flour, rice, salt := id("flour"), id("rice"), id("salt")
	r.want("")
	r.move("received", flour, mainRoom, nil, 10)
	r.want("flour Principal 10/0 diverged")
	r.cache(flour, mainRoom, nil, 10)
	r.want("")
	r.move("sold", flour, nil, nil, -2.5) // counts in the default warehouse
	r.want("flour Principal 7.5/10 diverged")
	r.cache(flour, mainRoom, nil, 7.5)
	for _, kind := range []string{"sold from escrow", "purchase"} {
		r.move(kind, flour, mainRoom, nil, -100)
	}
	r.want("")
	r.move("transfer_in", flour, id("annex"), id("large"), 3)
	r.move("sale", rice, mainRoom, nil, -4)
	r.want("flour Anexo 3/0 variant diverged, rice Principal -4/0 oversold")
	r.cache(salt, id("annex"), nil, 1) // no movement at all
	r.cache(rice, mainRoom, nil, 1)
	r.want("flour Anexo 3/0 variant diverged, rice Principal -4/1 diverged oversold, salt Anexo 0/1 diverged")

	s := r.measure()
	if s.Metrics.StockDivergenceCount != 3 || s.Metrics.NegativeStockCount != 1 {
		t.Errorf("measured %d diverged, %d oversold", s.Metrics.StockDivergenceCount, s.Metrics.NegativeStockCount)
	}
	if oversold := details(s, "negative_stock"); oversold != rice.String()+": rice: -4" {
		t.Errorf("oversold %q", oversold)
	}
	diverged := strings.Split(details(s, "stock_divergence"), "; ")
	slices.Sort(diverged)
	want := []string{
		flour.String() + ": flour: ledger 3, cache 0",
		rice.String() + ": rice: ledger -4, cache 1",
		salt.String() + ": salt: ledger 0, cache 1",
	}
	slices.Sort(want)
	if !slices.Equal(diverged, want) {
		t.Errorf("diverged %q, want %q", diverged, want)
	}

	exec(t, r.site.Owner, `UPDATE inventory_movements SET qty_delta = 5 WHERE product_id = $1`, rice)
	exec(t, r.site.Owner, `UPDATE inventory_movements SET warehouse_id = $1 WHERE variant_id IS NOT NULL`, mainRoom)
	exec(t, r.site.Owner, `DELETE FROM warehouse_stock WHERE product_id = $1`, salt)
	r.want("rice Principal 5/1 diverged, flour Principal 3/0 variant diverged")
	exec(t, r.site.Owner, `UPDATE inventory_movements SET movement_type = 'purchase' WHERE product_id = $1`, rice)
	exec(t, r.site.Owner, `UPDATE inventory_movements SET from_escrow = true WHERE variant_id IS NOT NULL`)
	r.want("rice Principal 0/1 diverged")
	exec(t, r.site.Owner, `UPDATE warehouse_stock SET warehouse_id = $2 WHERE product_id = $1`, rice, id("annex"))
	r.want("rice Anexo 0/1 diverged")
	exec(t, r.site.Owner, `UPDATE warehouse_stock SET product_id = $2 WHERE product_id = $1`, rice, id("oil"))
	r.want("oil Anexo 0/1 diverged")
	exec(t, r.site.Owner, `DELETE FROM products WHERE id = $1`, id("oil"))
	r.want("")
	exec(t, r.site.Owner, `DELETE FROM products WHERE id = $1`, rice)
	r.want("")
}

func TestAFindingKeepsItsBeginning(t *testing.T) {
	r := newStoreroom(t)
	r.move("sold", id("flour"), mainRoom, nil, -1)
	r.drain()
	since := number(t, r.site, `SELECT (extract(epoch FROM oversold_since) * 1000000)::bigint FROM reconciled.stock`)
	r.move("sold", id("flour"), mainRoom, nil, -1)
	r.want("flour Principal -2/0 oversold")
	if err := r.stock.RebuildStock(t.Context(), shop); err != nil {
		t.Fatal(err)
	}
	r.want("flour Principal -2/0 oversold")
	if now := number(t, r.site, `SELECT (extract(epoch FROM oversold_since) * 1000000)::bigint FROM reconciled.stock`); now != since {
		t.Errorf("since %d, want %d", now, since)
	}
}

func TestMovementsWithoutAWarehouseFollowTheDefaultOne(t *testing.T) {
	r := newStoreroom(t)
	r.move("received", id("flour"), nil, nil, 5)
	r.cache(id("flour"), mainRoom, nil, 5)
	r.want("")
	exec(t, r.site.Owner, `UPDATE warehouses SET is_default = (id = $1) WHERE store_id = $2`, id("annex"), shop)
	r.want("flour Principal 0/5 diverged, flour Anexo 5/0 diverged")
	exec(t, r.site.Owner, `UPDATE warehouses SET is_active = false WHERE store_id = $1`, shop)
	r.want("flour Principal 0/5 diverged")
	r.move("sold", id("flour"), nil, nil, -6)
	r.want("flour Principal 0/5 diverged, flour  -1/0 oversold")
	r.move("received", id("flour"), nil, nil, 6)
	r.want("flour Principal 0/5 diverged")
	execSuper(t, r.site, `DELETE FROM reconciled.stock_baseline`) // as measured where stock is not followed
	if s := r.measure(); s.Metrics.StockDivergenceCount != 1 {
		t.Errorf("%d diverged", s.Metrics.StockDivergenceCount)
	}
	exec(t, r.site.Owner, `UPDATE warehouses SET is_active = true WHERE store_id = $1`, shop)
	exec(t, r.site.Owner, `DELETE FROM warehouses WHERE id = $1`, id("annex"))
	r.want("")
	exec(t, r.site.Owner, `INSERT INTO warehouses (id, store_id, name, code) VALUES ($1, $2, 'Zaguán', 'Z')`, id("new room"), shop)
	r.cache(id("rice"), id("new room"), nil, 2)
	r.cache(id("rice"), id("their room"), nil, 2) // another store's
	r.want("rice Zaguán 0/2 diverged")
	if n := number(t, r.site, `SELECT count(*) FROM reconciled.stock_change`); n != 1 {
		t.Errorf("%d rows in the log, want the other store's", n)
	}
}

func TestATruncatedLedgerIsSummedAnew(t *testing.T) {
	r := newStoreroom(t)
	r.move("received", id("flour"), mainRoom, nil, 5)
	r.cache(id("flour"), mainRoom, nil, 5)
	r.want("")
	execSuper(t, r.site, `TRUNCATE inventory_movements`)
	r.move("received", id("flour"), mainRoom, nil, 1)
	r.want("flour Principal 1/5 diverged")
	execSuper(t, r.site, `TRUNCATE warehouse_stock`)
	r.want("flour Principal 1/0 diverged")
}

func TestALongLogIsWorkedOffInParts(t *testing.T) {
	r := newStoreroom(t)
	r.want("")
	exec(t, r.site.Owner, `INSERT INTO products (id, store_id, name) SELECT md5(i::text)::uuid, $1, 'many' FROM generate_series(1, 6000) i`, shop)
	exec(t, r.site.Owner, `INSERT INTO inventory_movements (id, store_id, product_id, movement_type, qty_delta, happened_at)
		SELECT gen_random_uuid(), $1, md5((i % 6000 + 1)::text)::uuid, 'received', 1, now() FROM generate_series(1, 45000) i`, shop)
	r.drain()
	r.wantSums()
}

func TestEveryTriggerOfTheStockIsWatched(t *testing.T) {
	for trigger, table := range map[string]string{
		"reconciled_stock": "warehouse_stock", "reconciled_stock_gone": "warehouse_stock", "reconciled_stock_truncate": "inventory_movements",
	} {
		r := newStoreroom(t)
		r.want("")
		execSuper(t, r.site, fmt.Sprintf(`ALTER TABLE %s DISABLE TRIGGER %s`, table, trigger))
		r.drain()
		if _, _, err := r.stock.Stock(t.Context(), shop, 1); !errors.Is(err, postgres.ErrStockUnknown) {
			t.Errorf("%s on %s: %v, want ErrStockUnknown", trigger, table, err)
		}
	}
}

func TestStockIsNotFollowedPastABrokenTrigger(t *testing.T) {
	r := newStoreroom(t)
	r.move("received", id("flour"), mainRoom, nil, 5)
	r.want("flour Principal 5/0 diverged")
	execSuper(t, r.site, `ALTER TABLE inventory_movements DISABLE TRIGGER reconciled_stock`)
	r.move("sold", id("flour"), mainRoom, nil, -7)
	for range 2 {
		r.drain()
	}
	if _, _, err := r.stock.Stock(t.Context(), shop, 1); !errors.Is(err, postgres.ErrStockUnknown) {
		t.Errorf("%v, want ErrStockUnknown", err)
	}
	wantEvidence(t, r.site, "capture")
	if n := number(t, r.site, `SELECT count(*) FROM reconciled.evidence WHERE detail LIKE '%reconciled_stock on inventory_movements%'`); n != 1 {
		t.Error("the evidence does not name the trigger")
	}
	if s := r.measure(); s.Metrics.NegativeStockCount != 1 { // from the ledger itself
		t.Errorf("%d oversold", s.Metrics.NegativeStockCount)
	}
	execSuper(t, r.site, `ALTER TABLE inventory_movements ENABLE TRIGGER reconciled_stock`)
	r.want("flour Principal -2/0 oversold")
	execSuper(t, r.site, `ALTER TABLE inventory_movements DISABLE TRIGGER USER; UPDATE inventory_movements SET qty_delta = 1; ALTER TABLE inventory_movements ENABLE TRIGGER USER`)
	r.want("flour Principal 2/0 diverged")
}

func TestAScrubSumsWhatMovedPastTheTriggers(t *testing.T) {
	r := newStoreroom(t)
	r.move("received", id("flour"), mainRoom, nil, 5)
	r.cache(id("flour"), mainRoom, nil, 5)
	r.want("")
	behind(t, r.site, `INSERT INTO inventory_movements (id, store_id, product_id, movement_type, qty_delta, happened_at, warehouse_id)
		VALUES (gen_random_uuid(), $1, $2, 'received', 3, now(), $3)`, shop, id("flour"), mainRoom)
	if got := r.findings(); got != "" {
		t.Fatalf("found %q: it did not go past the triggers", got)
	}
	log := postgres.NewLog(r.site.DB)
	pin(t, log)
	scrub(t, log, r.grant, quick)
	r.want("flour Principal 8/5 diverged")
}

// trade lets tills move stock, some in transactions that roll back, until stop. Each
// moves ledger and cache together and in the same order, so they never diverge.
func (r storeroom) trade(tills int) (stop func()) {
	r.Helper()
	ctx, cancel := context.WithCancel(r.Context())
	var all sync.WaitGroup
	for till := range tills {
		all.Go(func() {
			dice := rand.New(rand.NewPCG(uint64(till), 1))
			for ctx.Err() == nil {
				if err := r.sell(ctx, dice); err != nil && ctx.Err() == nil {
					r.Error(err)
					return
				}
			}
		})
	}
	return func() { cancel(); all.Wait() }
}

var errAbandoned = errors.New("the sale is abandoned")

func (r storeroom) sell(ctx context.Context, dice *rand.Rand) error {
	products := []uuid.UUID{id("flour"), id("rice"), id("salt"), id("oil")}
	err := pgx.BeginFunc(ctx, r.site.Owner, func(tx pgx.Tx) error {
		first := dice.IntN(len(products))
		for _, product := range products[first:] {
			qty := float64(dice.IntN(2000)) / 8
			var warehouse any = mainRoom
			if dice.IntN(3) == 0 {
				warehouse = nil
			}
			_, err := tx.Exec(ctx, `INSERT INTO inventory_movements (id, store_id, product_id, movement_type, qty_delta, happened_at, warehouse_id)
				VALUES (gen_random_uuid(), $1, $2, 'received', $3, now(), $4)`, shop, product, qty, warehouse)
			if err == nil {
				_, err = tx.Exec(ctx, `INSERT INTO warehouse_stock AS s (warehouse_id, product_id, stock) VALUES ($1, $2, $3::numeric(18,3))
					ON CONFLICT (warehouse_id, product_id) WHERE variant_id IS NULL DO UPDATE SET stock = s.stock + excluded.stock`, mainRoom, product, qty)
			}
			if err != nil {
				return err
			}
		}
		if dice.IntN(4) == 0 {
			return errAbandoned
		}
		return nil
	})
	if errors.Is(err, errAbandoned) {
		return nil
	}
	return err
}

func TestDrainsWhileTheShopTradesLoseAndInventNothing(t *testing.T) {
	r := newStoreroom(t)
	stop := r.trade(3)
	found, drains := "", 0
	for end := time.Now().Add(3 * time.Second); time.Now().Before(end) && found == ""; drains++ {
		found = r.findings()
		if drains%10 == 5 {
			if err := r.stock.RebuildStock(t.Context(), shop); err != nil {
				t.Error(err)
				break
			}
		}
	}
	stop()
	if found != "" {
		t.Errorf("a cache that is right was found wrong: %s", found)
	}
	r.want("")
	t.Logf("%d drains, %d movements", drains, number(t, r.site, `SELECT count(*) FROM inventory_movements`))
	if drains < 10 {
		t.Errorf("only %d drains", drains)
	}
}

func TestASaleThatRollsBackMovesNothing(t *testing.T) {
	r := newStoreroom(t)
	r.want("")
	tx, err := r.site.Owner.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	exec(t, tx, `INSERT INTO inventory_movements (id, store_id, product_id, movement_type, qty_delta, happened_at)
		VALUES (gen_random_uuid(), $1, $2, 'sold', -1, now())`, shop, id("flour"))
	r.want("")
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	r.want("")
}

func (r storeroom) repair() []postgres.StockRepair {
	r.Helper()
	done, err := r.stock.RepairStock(r.Context(), r.grant, time.Minute, "ana", "counted")
	if err != nil {
		r.Fatal(err)
	}
	return done
}

func TestARepairSetsTheCacheAndSaysSo(t *testing.T) {
	r := newStoreroom(t)
	r.move("received", id("flour"), mainRoom, nil, 5)           // no row
	r.move("received", id("flour"), mainRoom, id("large"), 2.5) // a wrong one
	r.cache(id("flour"), mainRoom, id("large"), 7)
	exec(t, r.site.Owner, `UPDATE warehouse_stock SET reserved = 3`)
	r.move("sold", id("rice"), nil, nil, -4) // oversold
	r.cache(id("rice"), mainRoom, nil, 2)
	r.cache(id("salt"), mainRoom, nil, 0) // right
	r.want("flour Principal 5/0 diverged, flour Principal 2.5/7 variant diverged, rice Principal -4/2 diverged oversold")

	if done := r.repair(); len(done) != 3 {
		t.Errorf("repaired %+v", done)
	}
	r.want("rice Principal -4/0 oversold")
	if n := number(t, r.site, `SELECT count(*) FROM warehouse_stock WHERE stock = 2.5 AND reserved = 3`); n != 1 {
		t.Error("what is reserved was changed")
	}
	if n := number(t, r.site, `SELECT count(*) FROM inventory_movements`); n != 3 {
		t.Errorf("%d movements: one was made", n)
	}
	if n := number(t, r.site, `SELECT count(*) FROM reconciled.audit WHERE actor = 'ana' AND action = 'stock repair' AND store_id = $1
		AND detail @> jsonb_build_object('before', '7', 'after', '2.5', 'ledger', '2.5', 'why', 'counted', 'product_id', $2::text)`, shop, id("flour").String()); n != 1 {
		t.Error("no audit row says what was set")
	}
	if n := number(t, r.site, `SELECT count(*) FROM reconciled.audit`); n != 3 {
		t.Errorf("%d audit rows, want one a key", n)
	}
	if done := r.repair(); len(done) != 0 {
		t.Errorf("repaired again: %+v", done)
	}
}

func TestARepairOfManyKeysReachesAll(t *testing.T) {
	r := newStoreroom(t)
	exec(t, r.site.Owner, `INSERT INTO products (id, store_id, name) SELECT gen_random_uuid(), $1, 'many' FROM generate_series(1, 450)`, shop)
	exec(t, r.site.Owner, `INSERT INTO inventory_movements (id, store_id, product_id, movement_type, qty_delta, happened_at)
		SELECT gen_random_uuid(), $1, id, 'received', 1, now() FROM products WHERE name = 'many'`, shop)
	r.drain()
	if done := r.repair(); len(done) != 450 {
		t.Errorf("repaired %d", len(done))
	}
	r.want("")
}

// A sale that has moved stock and not committed is waited for.
func TestARepairRacingASaleSeesIt(t *testing.T) {
	r := newStoreroom(t)
	r.move("received", id("flour"), mainRoom, nil, 10)
	r.cache(id("flour"), mainRoom, nil, 12)
	r.drain()
	tx, err := r.site.Owner.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	exec(t, tx, `INSERT INTO inventory_movements (id, store_id, product_id, movement_type, qty_delta, happened_at, warehouse_id)
		VALUES (gen_random_uuid(), $1, $2, 'sold', -3, now(), $3)`, shop, id("flour"), mainRoom)
	exec(t, tx, `UPDATE warehouse_stock SET stock = stock - 3`)
	repaired := make(chan []postgres.StockRepair, 1)
	go func() { repaired <- r.repair() }()
	testkit.Eventually(t, 20*time.Second, "the repair waits for the sale", func() bool { return waitsOn(t, r.site, "warehouse_stock") })
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if done := <-repaired; len(done) != 1 || done[0].Before != "9" || done[0].After != "7" {
		t.Errorf("repaired %+v", done)
	}
	r.want("")
}

// A repair while tills trade: whoever comes first, the cache ends as the ledger says.
func TestRepairsWhileTheShopTradesLeaveTheCacheRight(t *testing.T) {
	r := newStoreroom(t)
	r.want("")
	stop := r.trade(3)
	for end := time.Now().Add(2 * time.Second); time.Now().Before(end); {
		exec(t, r.site.Owner, `UPDATE warehouse_stock SET stock = stock + 1 WHERE product_id = $1`, id("rice"))
		exec(t, r.site.Owner, `UPDATE warehouse_stock SET stock = stock + 1 WHERE product_id = $1`, id("flour"))
		r.drain()
		r.repair()
	}
	stop()
	r.drain()
	r.repair()
	r.want("")
}

func TestARepairUnderAnOldGrantSetsNothing(t *testing.T) {
	r := newStoreroom(t)
	r.move("received", id("flour"), mainRoom, nil, 5)
	r.drain()
	execSuper(t, r.site, `UPDATE reconciled.lease SET expires_at = now() - interval '1 minute'`)
	r.site.Grant(t, shop)
	if _, err := r.stock.RepairStock(t.Context(), r.grant, time.Minute, "ana", "x"); !errors.Is(err, lock.ErrFenced) {
		t.Errorf("%v, want ErrFenced", err)
	}
	if n := number(t, r.site, `SELECT count(*) FROM warehouse_stock`); n != 0 {
		t.Error("it wrote a row")
	}
}
