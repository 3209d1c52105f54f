package postgres_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/veloxpos/reconciled/healer"
	"github.com/veloxpos/reconciled/internal/postgres"
	"github.com/veloxpos/reconciled/internal/postgres/postgrestest"
	"github.com/veloxpos/reconciled/internal/velox"
	"github.com/veloxpos/reconciled/lock"
)

// The cast of the sample, and of the tests beside it.
var (
	shop     = uuid.MustParse("11111111-1111-4111-8111-111111111111")
	cashier  = uuid.MustParse("22222222-2222-4222-8222-222222222222")
	mainRoom = uuid.MustParse("33333333-3333-4333-8333-333333333333")
	series   = uuid.MustParse("f7ce1856-460d-41af-b5e0-65bd17c05156")
	tillA    = uuid.MustParse("aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa")
	tillB    = uuid.MustParse("bbbbbbbb-bbbb-4bbb-8bbb-bbbbbbbbbbbb")
)

// id is a readable UUID: the same name gives the same id.
func id(name string) uuid.UUID { return uuid.NewSHA1(uuid.NameSpaceOID, []byte(name)) }

// healing is a store's database, with a healer at work on it under a grant.
type healing struct {
	testing.TB
	ctx    context.Context
	site   *postgrestest.Site
	owner  *pgxpool.Pool // a superuser, who sees both schemas
	healer *healer.Healer
	grant  lock.Grant
}

// newHealing makes a database with the sample's store in it.
func newHealing(t testing.TB, opts healer.Options) *healing {
	t.Helper()
	site := postgrestest.New(t)
	owner, err := pgxpool.New(t.Context(), site.Server.URL("postgres", site.Name))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(owner.Close)
	h := &healing{
		TB: t, ctx: t.Context(), site: site, owner: owner,
		healer: healer.New(postgres.NewHealing(site.DB), opts), grant: site.Grant(t, shop),
	}
	h.seed()
	return h
}

// exec runs SQL as the POS.
func (h *healing) exec(sql string, args ...any) {
	h.Helper()
	if _, err := h.owner.Exec(h.ctx, sql, args...); err != nil {
		h.Fatalf("%v\n%s", err, sql)
	}
}

// text reads one value as text, "" when NULL or no row.
func (h *healing) text(sql string, args ...any) string {
	h.Helper()
	var text string
	err := h.owner.QueryRow(h.ctx, `SELECT coalesce((`+sql+`)::text, '')`, args...).Scan(&text)
	if err != nil {
		h.Fatalf("%v\n%s", err, sql)
	}
	return text
}

// expect compares what text reads.
func (h *healing) expect(want, sql string, args ...any) {
	h.Helper()
	if got := h.text(sql, args...); got != want {
		h.Errorf("%s %v\n got %q\nwant %q", sql, args, got, want)
	}
}

// seed makes the rows that no event brings.
func (h *healing) seed() {
	h.Helper()
	h.exec(`INSERT INTO stores (id, name) VALUES ($1, 'Bodega'), ($2, 'Otra')`, shop, id("other store"))
	h.exec(`INSERT INTO profiles (id, full_name) VALUES ($1, 'Ana')`, cashier)
	h.exec(`INSERT INTO warehouses (id, store_id, name, code, is_default) VALUES ($1, $2, 'Principal', 'P', true), ($3, $2, 'Anexo', 'A', false)`,
		mainRoom, shop, id("annex"))
	h.exec(`INSERT INTO invoice_series (id, store_id, series_code, name, prefix) VALUES ($1, $2, 'A', 'Serie A', 'FAC')`, series, shop)
}

// said is an event as a till makes it.
type said struct {
	event  uuid.UUID
	kind   velox.Type
	device uuid.UUID
	seq    int64
	at     time.Time
	actor  uuid.UUID
	body   map[string]any
}

var morning = time.Date(2026, 11, 23, 8, 0, 0, 0, time.UTC)

// event makes an event of till A; its name gives its id.
func event(name string, kind velox.Type, minute int, body map[string]any) said {
	return said{
		event: id("event " + name), kind: kind, device: tillA, seq: int64(minute + 1),
		at: morning.Add(time.Duration(minute) * time.Minute), actor: cashier, body: body,
	}
}

// log appends events to the log the way a push of long ago did.
func (h *healing) log(events ...said) {
	h.Helper()
	for _, e := range events {
		body, err := json.Marshal(e.body)
		if err != nil {
			h.Fatal(err)
		}
		h.exec(`INSERT INTO events (event_id, store_id, device_id, seq, type, version, created_at, actor_user_id, actor_role,
				payload, delta_payload, received_at)
			VALUES ($1, $2, $3, $4, $5, 1, $6, nullif($7, '00000000-0000-0000-0000-000000000000'::uuid), 'owner', $8, $8, now() - interval '1 hour')`,
			e.event, shop, e.device, e.seq, e.kind, e.at, e.actor, string(body))
	}
}

// enlist hands dirty slots on to the healer, as a drain does.
func (h *healing) enlist() {
	h.Helper()
	h.exec(`WITH taken AS (DELETE FROM reconciled.dirty RETURNING store_id, slot)
		INSERT INTO reconciled.worklist AS w (consumer, store_id, slot) SELECT DISTINCT 'healer', store_id, slot FROM taken
		ON CONFLICT (consumer, store_id, slot) DO UPDATE SET stamp = w.stamp + 1, not_before = now()`)
}

// heal enlists what changed and runs the healer.
func (h *healing) heal() healer.Report {
	h.Helper()
	h.enlist()
	h.grant.Run = uuid.New()
	report, err := h.healer.Run(h.ctx, h.grant, nil)
	if err != nil {
		h.Fatal(err)
	}
	return report
}

// reread puts every slot of the log on the worklist.
func (h *healing) reread() {
	h.Helper()
	h.exec(`INSERT INTO reconciled.worklist (consumer, store_id, slot)
		SELECT DISTINCT 'healer', store_id, reconciled.slot(created_at) FROM events ON CONFLICT DO NOTHING`)
}

// readModel prints what must be the same on every node and in every order.
func (h *healing) readModel() string {
	h.Helper()
	var out strings.Builder
	for _, q := range []struct{ table, columns, order string }{
		{"products", "id, store_id, name, category, sku, barcode, price_bs, price_usd, cost_bs, cost_usd, low_stock_threshold, is_active, product_type, is_recipe, profit_margin", "id"},
		{"customers", "id, store_id, name, phone, note, document_id, email, credit_limit", "id"},
		{"cash_sessions", "id, store_id, opened_by, opened_at, opening_amount_bs, opening_amount_usd, closed_by, closed_at, expected, counted, note", "id"},
		{"sales", "id, store_id, cash_session_id, sold_at, exchange_rate, currency, totals, payment, customer_id, sold_by_user_id, note, fiscal_number, voided_at, voided_by_user_id, void_reason", "id"},
		{"sale_items", "sale_id, product_id, variant_id, qty, unit_price_bs, unit_price_usd, discount_bs, discount_usd, is_weight_product, weight_value", "1, 2, 3, 4"},
		{"debts", "coalesce(sale_id, id) AS key, store_id, customer_id, created_at, amount_bs, amount_usd, status, note", "1"},
		{"debt_payments", "id, store_id, (SELECT coalesce(d.sale_id, d.id) FROM debts d WHERE d.id = debt_id) AS debt, paid_at, amount_bs, amount_usd, method, note", "id"},
		{"inventory_movements", "product_id, variant_id, warehouse_id, movement_type, qty_delta, unit_cost_bs, unit_cost_usd, note, ref, happened_at, from_escrow", "1, 2, 3, 4, 5, happened_at, note"},
		{"warehouse_stock", "warehouse_id, product_id, variant_id, stock, reserved", "1, 2, 3"},
	} {
		rows, err := h.owner.Query(h.ctx, fmt.Sprintf(`SELECT to_jsonb(r)::text FROM (SELECT %s FROM public.%s ORDER BY %s) r`, q.columns, q.table, q.order))
		if err != nil {
			h.Fatal(err)
		}
		for rows.Next() {
			var line string
			if err := rows.Scan(&line); err != nil {
				h.Fatal(err)
			}
			fmt.Fprintln(&out, q.table, line)
		}
		if err := rows.Err(); err != nil {
			h.Fatal(err)
		}
	}
	return out.String()
}

// lines reads a file of JSON lines in the sample's directory.
func lines(t testing.TB, name string, each func([]byte)) {
	t.Helper()
	f, err := os.Open(filepath.Join("..", "velox", "testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	s := bufio.NewScanner(f)
	s.Buffer(nil, 1<<20)
	for s.Scan() {
		each(s.Bytes())
	}
	if err := s.Err(); err != nil {
		t.Fatal(err)
	}
}

// logSample appends the real events, as their own node received them.
func (h *healing) logSample() {
	h.Helper()
	lines(h, "events.jsonl", func(line []byte) {
		h.exec(`INSERT INTO events SELECT * FROM jsonb_populate_record(NULL::events, $1::jsonb || '{"received_at": "2026-11-01T00:00:00Z"}')`, string(line))
	})
}

func postgresStore(h *healing) *postgres.Healing { return postgres.NewHealing(h.site.DB) }
