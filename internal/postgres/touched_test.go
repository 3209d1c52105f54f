package postgres_test

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/veloxpos/reconciled/internal/postgres"
	"github.com/veloxpos/reconciled/internal/postgres/postgrestest"
	"github.com/veloxpos/reconciled/internal/testkit"
	"github.com/veloxpos/reconciled/lock"
)

// models is a database with a row in every read model and the events they stand for,
// each in an hour of its own.
type models struct {
	testing.TB
	site  *postgrestest.Site
	grant lock.Grant
}

func newModels(t testing.TB) models {
	t.Helper()
	s, log := site(t)
	s.AddStore(t, otherShop)
	m := models{t, s, s.Grant(t, shop)}
	for hour, e := range []struct{ kind, payload string }{
		{"ProductCreated", `{"product_id": "{p}"}`},
		{"StockReceived", `{"product_id": "{p}", "movement_id": "{m}"}`},
		{"RecipeIngredientsUpdated", `{"product_id": "{p}"}`},
		{"CustomerCreated", `{"customer_id": "{c}"}`},
		{"SaleCreated", `{"sale_id": "{s}", "customer": {"customer_id": "{c}"}, "cash_session_id": "{ses}"}`},
		{"SaleVoided", `{"sale_id": "{s}"}`},
		{"DebtCreated", `{"debt_id": "{d}", "customer_id": "{c}", "sale_id": null}`},
		{"DebtPaymentRecorded", `{"payment_id": "{pay}", "debt_id": "{d}"}`},
		{"CashSessionOpened", `{"session_id": "{ses}"}`},
		{"CashLedgerEntryCreated", `{"entry_id": "{entry}", "cash_session_id": "{ses}"}`},
		{"StockQuotaGranted", `{"request_id": "{request}", "product_id": "{p}"}`},
		{"SaleCreated", `{"sale_id": "not-a-uuid", "product_id": 5, "customer": "x", "movement_id": {}, "debt_id": null}`},
		{"SaleCreated", `["no object"]`},
	} {
		exec(t, s.Owner, `INSERT INTO events (event_id, store_id, device_id, seq, type, version, created_at, payload)
			VALUES (gen_random_uuid(), $1, $1, 1, $2, 1, '2026-11-23'::timestamptz + $3 * interval '1 hour', $4::text::jsonb)`,
			shop, e.kind, hour, named(e.payload))
	}
	exec(t, s.Owner, `INSERT INTO events (event_id, store_id, device_id, seq, type, version, created_at, payload)
		VALUES (gen_random_uuid(), $1, $1, 1, 'SaleCreated', 1, '2026-11-24 20:00', jsonb_build_object('sale_id', $2::text))`, otherShop, id("s").String())
	for _, sql := range []string{
		`INSERT INTO products (id, store_id, name) VALUES ('{p}', '{shop}', 'Harina'), ('{q}', '{shop}', 'Sal')`,
		`INSERT INTO recipe_ingredients (id, recipe_product_id, ingredient_product_id, qty) VALUES ('{line}', '{p}', '{q}', 1)`,
		`INSERT INTO customers (id, store_id, name) VALUES ('{c}', '{shop}', 'María')`,
		`INSERT INTO cash_sessions (id, store_id, opened_at) VALUES ('{ses}', '{shop}', now())`,
		`INSERT INTO cash_ledger_entries (id, store_id) VALUES ('{entry}', '{shop}')`,
		`INSERT INTO sales (id, store_id, sold_at, currency, totals, payment, cash_session_id) VALUES ('{s}', '{shop}', now(), 'BS', '{}', '{}', '{ses}')`,
		`INSERT INTO sale_items (id, sale_id, product_id, qty) VALUES ('{item}', '{s}', '{q}', 1)`,
		`INSERT INTO warehouses (id, store_id, name, code) VALUES ('{room}', '{shop}', 'Principal', 'P')`,
		`INSERT INTO inventory_movements (id, store_id, product_id, movement_type, qty_delta, happened_at, warehouse_id, ref) VALUES
			('{m}', '{shop}', '{q}', 'received', 5, now(), '{room}', '"no object"'), ('{m2}', '{shop}', '{q}', 'sold', -1, now(), '{room}', '{"sale_id": "{s}"}'),
			('{m3}', '{shop}', '{q}', 'transfer_out', -1, now(), '{room}', '{"request_id": "{request}"}'), ('{m4}', '{shop}', '{q}', 'sold', -1, now(), NULL, '{"sale_id": "not-a-uuid"}')`,
		`INSERT INTO debts (id, store_id, customer_id, created_at, sale_id) VALUES ('{d}', '{shop}', '{c}', now(), NULL), ('{fiao}', '{shop}', '{c}', now(), '{s}')`,
		`INSERT INTO debt_payments (id, store_id, debt_id, paid_at, method) VALUES ('{pay}', '{shop}', '{d}', now(), 'CASH_BS')`,
		`INSERT INTO stock_escrow (id, store_id, product_id, device_id, qty_granted) VALUES ('{item}', '{shop}', '{p}', '{room}', 5)`,
	} {
		exec(t, s.Owner, named(sql))
	}
	pin(t, log) // every slot has a leaf
	m.notice()  // and is off the list
	return m
}

// named puts ids where their names are in braces.
func named(sql string) string {
	for _, name := range []string{"p", "q", "line", "c", "ses", "entry", "s", "item", "room", "m", "m2", "m3", "m4", "request", "d", "fiao", "pay"} {
		sql = strings.ReplaceAll(sql, "{"+name+"}", id(name).String())
	}
	return strings.ReplaceAll(sql, "{shop}", shop.String())
}

// notice returns the hours whose slots Notice puts on the healer's list.
func (m models) notice() []int {
	m.Helper()
	execSuper(m.TB, m.site, `TRUNCATE reconciled.worklist`)
	if err := postgres.NewHealing(m.site.DB).Notice(m.Context(), m.grant); err != nil {
		m.Fatal(err)
	}
	rows, err := m.site.DB.Pool.Query(m.Context(), `SELECT coalesce(extract(hour FROM e.created_at)::int, -1) FROM reconciled.worklist w
		LEFT JOIN events e ON e.store_id = w.store_id AND reconciled.slot(e.created_at) = w.slot WHERE w.consumer = 'healer' AND w.not_before <= now() ORDER BY 1`)
	if err != nil {
		m.Fatal(err)
	}
	hours, err := pgx.CollectRows(rows, pgx.RowTo[int])
	if err != nil {
		m.Fatal(err)
	}
	return hours
}

// spoil does something to the read models, as the POS.
func (m models) spoil(sql string) {
	m.Helper()
	execSuper(m.TB, m.site, `BEGIN; SET LOCAL ROLE velox; `+named(sql)+`; COMMIT`)
}

var everyHour = []int{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}

func TestWhatIsTouchedInAReadModelIsLookedAtAgain(t *testing.T) {
	m := newModels(t)
	const (
		made, stock, recipe, customer, sale, void, debt, payment, session, entry, quota = 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10
	)
	for _, c := range []struct {
		name, sql string
		want      []int
	}{
		{"product changed", `UPDATE products SET price_usd = 2 WHERE id = '{p}'`, []int{made, recipe}},
		{"recipe line changed", `UPDATE recipe_ingredients SET qty = 2`, []int{recipe}},
		{"recipe line deleted", `DELETE FROM recipe_ingredients`, []int{recipe}},
		{"sold from a share", `UPDATE stock_escrow SET qty_granted = 4`, []int{}},
		{"share given to another device", `UPDATE stock_escrow SET device_id = '{q}'`, []int{quota}},
		{"share deleted", `DELETE FROM stock_escrow`, []int{quota}},
		{"product deleted", `DELETE FROM products WHERE id = '{p}'`, []int{made, recipe}},
		{"customer changed", `UPDATE customers SET phone = '1'`, []int{customer, sale}},
		{"sale changed", `UPDATE sales SET totals = '{"total_bs": 1}'`, []int{sale, void}},
		{"item changed", `UPDATE sale_items SET qty = 3`, []int{sale, void}},
		{"item taken to another sale", `INSERT INTO sales (id, store_id, sold_at, currency, totals, payment) VALUES ('{fiao}', '{shop}', now(), 'BS', '{}', '{}');
			UPDATE sale_items SET sale_id = '{fiao}'`, []int{sale, void}},
		{"item brought from another sale", `UPDATE sale_items SET sale_id = '{s}'`, []int{sale, void}},
		{"item deleted", `DELETE FROM sale_items`, []int{sale, void}},
		{"movement changed", `UPDATE inventory_movements SET qty_delta = 4 WHERE id = '{m}'`, []int{stock}},
		{"movement deleted", `DELETE FROM inventory_movements WHERE id = '{m}'`, []int{stock}},
		{"sale's movement taken from it", `UPDATE inventory_movements SET ref = NULL WHERE id = '{m2}'`, []int{sale, void}},
		{"quota's movement deleted", `DELETE FROM inventory_movements WHERE id = '{m3}'`, []int{quota}},
		{"movement with a malformed ref deleted", `DELETE FROM inventory_movements WHERE id = '{m4}'`, []int{}},
		{"payment changed", `UPDATE debt_payments SET amount_usd = 9`, []int{debt, payment}},
		{"payment deleted", `DELETE FROM debt_payments`, []int{debt, payment}},
		{"debt's status changed", `UPDATE debts SET status = 'paid' WHERE id = '{d}'`, []int{debt, payment}},
		{"debt deleted", `DELETE FROM debts WHERE id = '{d}'`, []int{debt, payment}},
		{"sale's debt deleted", `DELETE FROM debts WHERE id = '{fiao}'`, []int{sale, void}},
		{"entry changed", `UPDATE cash_ledger_entries SET amount_bs = 1`, []int{entry}},
		{"entry deleted", `DELETE FROM cash_ledger_entries`, []int{entry}},
		{"session changed", `UPDATE cash_sessions SET note = 'x'`, []int{session}},
		{"session deleted, and the sale's with it", `DELETE FROM cash_sessions`, []int{sale, void, session}},
		{"customer deleted", `DELETE FROM customers`, []int{customer, sale}},
		{"sale deleted with its items", `INSERT INTO sale_items (id, sale_id, product_id, qty) VALUES ('{item}', '{s}', '{q}', 1); DELETE FROM sales`, []int{sale, void}},
		{"nothing", `SELECT 1`, []int{}},
	} {
		m.spoil(c.sql)
		if got := m.notice(); !slices.Equal(got, c.want) {
			t.Errorf("%s: hours %v, want %v", c.name, got, c.want)
		}
	}
	wantEvidence(t, m.site)
	if n := number(t, m.site, `SELECT count(*) FROM reconciled.touched`); n != 0 {
		t.Errorf("%d rows stay in the log", n)
	}
}

func TestWhatNoEventBearsTouchesNothing(t *testing.T) {
	m := newModels(t)
	m.spoil(`INSERT INTO products (id, store_id, name) VALUES (gen_random_uuid(), '{shop}', 'Café');
		UPDATE products SET updated_at = now(), created_at = now(), scale_plu = 'x', name = name;
		UPDATE sales SET sale_number = 5, invoice_number = '7', updated_at = now();
		UPDATE cash_sessions SET ledger_p_bs = 5, updated_at = now();
		UPDATE debts SET book_rate_bcv = 5; UPDATE debt_payments SET fx_gain_loss_bs = 1;
		UPDATE customers SET updated_at = now(), debt_cutoff_at = now();
		UPDATE inventory_movements SET approved = false, requested_by = NULL;
		UPDATE recipe_ingredients SET updated_at = now()`)
	if n := number(t, m.site, `SELECT count(*) FROM reconciled.touched`); n != 0 {
		t.Errorf("%d rows are logged", n)
	}
	// A transaction that rolls back touches nothing.
	tx, err := m.site.Owner.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	exec(t, tx, `DELETE FROM sale_items`)
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := m.notice(); len(got) != 0 {
		t.Errorf("hours %v are looked at again", got)
	}
}

func TestATruncatedOrThinnedOutReadModelIsLookedAtWhole(t *testing.T) {
	m := newModels(t)
	m.spoil(`TRUNCATE cash_ledger_entries`)
	if got := m.notice(); !slices.Equal(got, everyHour) {
		t.Errorf("after a truncation hours %v, want all", got)
	}
	for _, log := range []struct{ events, singly int }{{13, 500}, {16_000, 1000}, {1_000_000, 20_000}} {
		m.longAs(log.events)
		for more, want := range [][]int{nil, everyHour} {
			rows := log.singly + more
			m.spoil(fmt.Sprintf(`INSERT INTO customers (id, store_id, name) SELECT gen_random_uuid(), '{shop}', 'x' FROM generate_series(1, %d);
				DELETE FROM customers WHERE name = 'x'`, rows))
			if got := m.notice(); !slices.Equal(got, want) {
				t.Errorf("in a log of %d, after %d deletions of what no event bears hours %v, want %v", log.events, rows, got, want)
			}
			if n := number(t, m.site, `SELECT count(*) FROM reconciled.touched`); n != 0 {
				t.Errorf("%d of %d rows stay in the log", n, rows)
			}
		}
	}
}

// longAs makes the store's root say that its log has so many events.
func (m models) longAs(events int) {
	m.Helper()
	execSuper(m.TB, m.site, fmt.Sprintf(`UPDATE reconciled.root SET count = %d WHERE store_id = '%s'`, events, shop))
	if got := number(m.TB, m.site, `SELECT count FROM reconciled.root WHERE store_id = $1`, shop); got != events {
		m.Fatalf("the root says %d", got)
	}
}

func TestATriggerThatIsMissingDoesNotGoUnnoticed(t *testing.T) {
	const anew = `SET LOCAL ROLE reconciled_migrator; SELECT reconciled.watch_read_models()`
	for name, c := range map[string]struct{ spoil, mend, want string }{
		"disabled":  {`ALTER TABLE sales DISABLE TRIGGER reconciled_touch_delete`, anew, "reconciled_touch_delete on sales"},
		"dropped":   {`DROP TRIGGER reconciled_touch_truncate ON debts`, anew, "reconciled_touch_truncate on debts"},
		"its table": {`ALTER TABLE cash_ledger_entries RENAME TO old`, `ALTER TABLE old RENAME TO cash_ledger_entries`, "reconciled_touch_update on cash_ledger_entries"},
		"of another function": {
			`CREATE FUNCTION nothing() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
				CREATE OR REPLACE TRIGGER reconciled_touch_delete AFTER DELETE ON sales FOR EACH ROW EXECUTE FUNCTION nothing()`,
			anew, "reconciled_touch_delete on sales",
		},
	} {
		t.Run(name, func(t *testing.T) {
			m := newModels(t)
			execSuper(t, m.site, c.spoil)
			if got := m.notice(); !slices.Equal(got, everyHour) {
				t.Errorf("hours %v, want all once", got)
			}
			wantEvidence(t, m.site, "capture")
			if n := number(t, m.site, `SELECT count(*) FROM reconciled.evidence WHERE detail LIKE '%' || $1 || '%'`, c.want); n != 1 {
				t.Errorf("no evidence names %s", c.want)
			}
			if got := m.notice(); len(got) != 0 {
				t.Errorf("hours %v again, though nothing is new", got)
			}
			execSuper(t, m.site, c.mend)
			if got := m.notice(); !slices.Equal(got, everyHour) {
				t.Errorf("hours %v after it was mended, want all: what happened meanwhile went by", got)
			}
			wantEvidence(t, m.site, "capture")
			m.spoil(`UPDATE sales SET note = 'x'`)
			if got := m.notice(); len(got) != 2 {
				t.Errorf("hours %v after all is well again", got)
			}
		})
	}
}

// Who makes triggers gives up before Postgres would end a sale for a deadlock.
func TestMakingTriggersNeverEndsASale(t *testing.T) {
	m := newModels(t)
	sale, err := m.site.Owner.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	exec(t, sale, `UPDATE sale_items SET qty = 2`)
	made := make(chan error, 1)
	go func() {
		made <- m.site.Server.Exec(context.WithoutCancel(t.Context()), m.site.Name, `SET ROLE reconciled_migrator; SELECT reconciled.watch_read_models()`)
	}()
	testkit.Eventually(t, 20*time.Second, "the triggers' maker waits", func() bool {
		return number(t, m.site, `SELECT count(*) FROM pg_locks WHERE NOT granted AND mode = 'ShareRowExclusiveLock'`) > 0
	})
	exec(t, sale, `UPDATE products SET name = name`) // which the other has locked
	if err := sale.Commit(t.Context()); err != nil {
		t.Error(err)
	}
	if err := <-made; err == nil || !strings.Contains(err.Error(), "lock timeout") {
		t.Errorf("%v, want a lock timeout", err)
	}
}

func TestTriggersOfReadModelsThatWereAwayForATimeAreNoticed(t *testing.T) {
	m := newModels(t)
	execSuper(t, m.site, `ALTER TABLE sales DISABLE TRIGGER USER; DELETE FROM sale_items; ALTER TABLE sales ENABLE TRIGGER USER`)
	if got := m.notice(); !slices.Equal(got, everyHour) {
		t.Errorf("hours %v, want all", got)
	}
	wantEvidence(t, m.site, "capture")
}

// A change that commits after the log was drained is in the log for the next time.
func TestAChangeThatCommitsLateIsNoticedLater(t *testing.T) {
	m := newModels(t)
	tx, err := m.site.Owner.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	exec(t, tx, named(`DELETE FROM cash_ledger_entries`))
	if got := m.notice(); len(got) != 0 {
		t.Errorf("hours %v before it is committed", got)
	}
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := m.notice(); !slices.Equal(got, []int{9}) {
		t.Errorf("hours %v, want that of the entry", got)
	}
}

func TestNoticeWritesNothingUnderAnOldGrant(t *testing.T) {
	m := newModels(t)
	m.spoil(`DELETE FROM cash_ledger_entries`)
	old := m.grant
	execSuper(t, m.site, `UPDATE reconciled.lease SET expires_at = now() - interval '1 minute'`)
	m.grant = m.site.Grant(t, shop)
	if err := postgres.NewHealing(m.site.DB).Notice(t.Context(), old); err == nil {
		t.Error("an old grant passes")
	}
	if got := m.notice(); !slices.Equal(got, []int{9}) {
		t.Errorf("hours %v, want that of the entry", got)
	}
}

// On a slow disk a whole step may take longer than the lease leaves a statement. Were it
// tried again as it is, the store would not be healed until the disk is faster.
func TestAStepThatTakesTooLongIsTakenInSmallerOnes(t *testing.T) {
	const sales, lease = 200, 2 * time.Second
	s := postgrestest.NewOn(t, testkit.Shared(t), postgres.Options{LeaseTTL: lease})
	s.AddStore(t, shop)
	m := models{t, s, s.Grant(t, shop)}
	execSuper(t, s, fmt.Sprintf(`
		INSERT INTO events (event_id, store_id, device_id, seq, type, version, created_at, payload)
		SELECT gen_random_uuid(), '%[1]s', '%[1]s', i, 'SaleCreated', 1, '2026-11-01'::timestamptz + i * interval '1 hour', jsonb_build_object('sale_id', md5(i::text)::uuid)
		FROM generate_series(1, %[2]d) i`, shop, sales))
	m.spoil(`INSERT INTO sales (id, store_id, sold_at, currency, totals, payment)
		SELECT (payload ->> 'sale_id')::uuid, store_id, created_at, 'BS', '{}', '{}' FROM events; UPDATE sales SET note = 'x'`)
	pin(t, postgres.NewLog(s.DB)) // what is new in the log is on the list by that
	execSuper(t, s, `TRUNCATE reconciled.worklist;
		CREATE FUNCTION slowly() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(0.02); RETURN new; END $$;
		CREATE TRIGGER slowly BEFORE INSERT ON reconciled.worklist FOR EACH ROW EXECUTE FUNCTION slowly()`) // in all 4 s
	if err := postgres.NewHealing(s.DB).Notice(t.Context(), m.grant); err != nil {
		t.Fatal(err)
	}
	if got := number(t, s, `SELECT count(*)::bigint FROM reconciled.worklist WHERE consumer = 'healer'`); got != sales {
		t.Errorf("%d slots on the list, want %d", got, sales)
	}
	if left := number(t, s, `SELECT count(*)::bigint FROM reconciled.touched`); left != 0 {
		t.Errorf("%d touched rows are left", left)
	}
}

// The events are found through the index on payload, however long the log is.
func TestEventsOfTouchedRowsAreFoundByTheIndex(t *testing.T) {
	if testing.Short() {
		t.Skip("a log of 100000 events")
	}
	t.Run("long", func(t *testing.T) { foundByTheIndex(t, 100_000, `VACUUM ANALYZE events`) })
	t.Run("short, just written", func(t *testing.T) { foundByTheIndex(t, 8_000, ``) }) // all of it in the index's pending list, and nothing known of it
}

func foundByTheIndex(t *testing.T, events int, then string) {
	m := newModels(t)
	execSuper(t, m.site, `INSERT INTO events (event_id, store_id, device_id, seq, type, version, created_at, payload)
		SELECT gen_random_uuid(), '`+shop.String()+`', '`+shop.String()+`', i, CASE i % 3 WHEN 0 THEN 'SaleCreated' WHEN 1 THEN 'StockDeltaApplied' ELSE 'DebtPaymentRecorded' END, 1,
			'2025-01-01'::timestamptz + i * interval '1 minute',
			CASE i % 3 WHEN 0 THEN jsonb_build_object('sale_id', gen_random_uuid(), 'items', '[{"qty": 1}]'::jsonb, 'customer_id', md5((i % 50)::text)::uuid)
				WHEN 1 THEN jsonb_build_object('movement_id', gen_random_uuid(), 'product_id', md5((i % 20)::text)::uuid)
				ELSE jsonb_build_object('payment_id', gen_random_uuid(), 'debt_id', md5((i % 900)::text)::uuid) END
		FROM generate_series(1, `+strconv.Itoa(events)+`) i`)
	execSuper(t, m.site, then)
	m.longAs(events)
	for what, spoil := range map[string]string{
		"2000 sales": `INSERT INTO sales (id, store_id, sold_at, currency, totals, payment) SELECT (payload ->> 'sale_id')::uuid, store_id, now(), 'BS', '{}', '{}'
			FROM events WHERE seq > 1 AND type = 'SaleCreated' ORDER BY seq LIMIT 2000; UPDATE sales SET note = 'x'`,
		"22 products":  `INSERT INTO products (id, store_id, name) SELECT md5((i % 20)::text)::uuid, '{shop}', 'x' FROM generate_series(1, 20) i; UPDATE products SET name = 'y'`,
		"51 customers": `INSERT INTO customers (id, store_id, name) SELECT md5((i % 50)::text)::uuid, '{shop}', 'x' FROM generate_series(1, 50) i; UPDATE customers SET name = 'y'`,
		"2004 movements": `INSERT INTO inventory_movements (id, store_id, product_id, movement_type, qty_delta, happened_at, ref)
			SELECT (payload ->> 'movement_id')::uuid, store_id, '{q}', 'adjust', 1, now(), jsonb_build_object('request_id', gen_random_uuid())
			FROM events WHERE seq > 1 AND type = 'StockDeltaApplied' ORDER BY seq LIMIT 2000; DELETE FROM inventory_movements`,
	} {
		m.spoil(spoil)
		for _, mode := range []string{"custom", "generic"} {
			plan := m.plan(mode)
			if strings.Contains(plan, "Seq Scan on events") || !strings.Contains(plan, "Bitmap Index Scan on events_payload_idx") {
				t.Errorf("%s, %s plan:\n%s", what, mode, plan)
			}
		}
		start := time.Now()
		m.notice()
		t.Logf("%s: %s", what, time.Since(start).Round(time.Millisecond))
	}
}

// plan is how Postgres finds the events of what is in the log.
func (m models) plan(mode string) string {
	m.Helper()
	tx, err := m.site.DB.Pool.Begin(m.Context())
	if err != nil {
		m.Fatal(err)
	}
	defer func() { _ = tx.Rollback(context.Background()) }()
	exec(m.TB, tx, `SELECT set_config('plan_cache_mode', 'force_' || $1 || '_plan', true)`, mode)
	exec(m.TB, tx, postgres.ByPayload)
	name := "enlist_" + strings.ReplaceAll(uuid.NewString(), "-", "")
	exec(m.TB, tx, `PREPARE `+name+` (uuid, int) AS `+postgres.EnlistTouched)
	rows, err := tx.Query(m.Context(), fmt.Sprintf(`EXPLAIN EXECUTE %s ('%s', 2000)`, name, shop))
	if err != nil {
		m.Fatal(err)
	}
	lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		m.Fatal(err)
	}
	return strings.Join(lines, "\n")
}
