package postgres_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/veloxpos/reconciled/healer"
	"github.com/veloxpos/reconciled/internal/fleet"
	"github.com/veloxpos/reconciled/internal/health"
	"github.com/veloxpos/reconciled/internal/postgres"
	"github.com/veloxpos/reconciled/internal/velox"
)

// The ways in which the POS backend is known to be wrong have numbers, and so have the
// tests of what is done about them: docs/deviations.md.

// right is a backend without a fault; wrong has the ones named.
var right fleet.BackendOptions

func wrong(in ...fleet.Deviation) fleet.BackendOptions { return fleet.BackendOptions{Wrong: in} }

// pushed logs events and lets a backend project them, as on the node to which they
// were relayed: each has an entry in the outbox.
func (h *healing) pushed(backend fleet.BackendOptions, events ...said) {
	h.Helper()
	h.log(events...)
	h.projects(backend, events...)
}

// projects lets a backend project events that were logged, and say so.
func (h *healing) projects(backend fleet.BackendOptions, events ...said) {
	h.Helper()
	var ids []uuid.UUID
	for _, e := range events {
		ids = append(ids, e.event)
	}
	stored, err := fleet.Read(h.ctx, h.owner, shop)
	if err != nil {
		h.Fatal(err)
	}
	stored = slices.DeleteFunc(stored, func(e velox.Event) bool { return !slices.Contains(ids, e.ID) })
	if err := fleet.NewBackend(h.owner, backend).Project(h.ctx, shop, stored); err != nil {
		h.Fatal(err)
	}
	h.exec(`WITH done AS (UPDATE events SET projection_status = 'processed' WHERE event_id = ANY($1) RETURNING *)
		INSERT INTO outbox_entries (event_id, event_type, store_id, target, status, processed_at)
		SELECT event_id::text, type, store_id, 'projection', 'processed', now() FROM done`, ids)
}

// mends runs the healer twice: at first it heals so many events; then it looks at every
// event again and writes nothing.
func (h *healing) mends(events int) healer.Report {
	h.Helper()
	report := h.heal()
	if report.Healed != events || report.Failed > 0 {
		h.Errorf("healed %d events, want %d: %+v", report.Healed, events, report.Counts)
	}
	before := h.everyRow()
	h.exec(`UPDATE reconciled.gap SET next_attempt = now()`)
	h.reread()
	if again := h.heal(); again.Healed+again.Failed > 0 {
		h.Errorf("the second run healed: %+v", again.Counts)
	}
	after := h.everyRow()
	for row := range after {
		if !before[row] {
			h.Errorf("the second run wrote %s", row)
		}
	}
	if len(after) != len(before) {
		h.Errorf("%d rows after the second run, %d before", len(after), len(before))
	}
	return report
}

// everyRow is every row that a heal can write, whole.
func (h *healing) everyRow() map[string]bool {
	h.Helper()
	all := map[string]bool{}
	for _, table := range []string{
		"products", "recipe_ingredients", "customers", "cash_sessions", "cash_ledger_entries", "sales", "sale_items", "debts", "debt_payments",
		"inventory_movements", "warehouse_stock", "stock_escrow", "invoice_series", "sale_sequences", "fiscal_invoices", "reconciled.heal_log", "reconciled.removed_row",
	} {
		rows, err := h.owner.Query(h.ctx, `SELECT to_jsonb(t)::text FROM `+table+` t`)
		if err != nil {
			h.Fatal(err)
		}
		for rows.Next() {
			var row string
			if err := rows.Scan(&row); err != nil {
				h.Fatal(err)
			}
			all[table+" "+row] = true
		}
		if err := rows.Err(); err != nil {
			h.Fatal(err)
		}
	}
	return all
}

// wantGap wants an event's entry in the book of gaps: class and what it waits for; ""
// is none.
func (h *healing) wantGap(want string, e said) {
	h.Helper()
	h.expect(want, `SELECT concat_ws(' ', class, waits_table, waits_id) FROM reconciled.gap WHERE event_id = $1`, e.event)
}

// storeroom is the same store as the stock's tests see it.
func (h *healing) storeroom() storeroom {
	return storeroom{h.TB, h.site, postgres.NewHealing(h.site.DB), h.grant}
}

// measured is the store's health.
func (h *healing) measured() health.Snapshot {
	h.Helper()
	return h.storeroom().measure()
}

// saleOf sells one line of so much.
func saleOf(name string, minute int, product uuid.UUID, qty any, more map[string]any) said {
	line := map[string]any{"line_id": 1, "product_id": product, "qty": qty, "unit_price_bs": 40, "unit_price_usd": 1}
	e := sold(name, minute, nil)
	for member, value := range more {
		if member == "variant_id" {
			line[member] = value
			continue
		}
		e.body[member] = value
	}
	e.body["items"] = []any{line}
	return e
}

// overwrites makes last write wins give an event another one's payload. What was said
// stays in delta_payload, if there is one.
func (h *healing) overwrites(loser, winner said, delta bool) {
	h.Helper()
	text, err := json.Marshal(loser.body)
	if err != nil {
		h.Fatal(err)
	}
	hash, err := velox.PayloadHash(text)
	if err != nil {
		h.Fatal(err)
	}
	h.exec(`UPDATE events l SET payload = w.payload, full_payload_hash = $3, conflict_status = 'auto_resolved',
		delta_payload = CASE WHEN $4 THEN l.delta_payload END FROM events w WHERE l.event_id = $1 AND w.event_id = $2`,
		loser.event, winner.event, hash, delta)
}

func TestD01EarlyVoidIsAppliedToTheSaleThatCameAfterIt(t *testing.T) {
	h := newHealing(t, healer.Options{})
	void := voided("early", 9)
	h.pushed(right, void)
	h.pushed(right, product("flour", 0), opened(1), received("ten", 2, flour, 10), customerCreated(3), sold("early", 10, onCredit(maria), flour))
	h.expect("processed, sale unvoided, 1 debt", `SELECT (SELECT projection_status FROM events WHERE event_id = $1)
		|| CASE WHEN voided_at IS NULL THEN ', sale unvoided, ' END || (SELECT count(*) FROM debts) || ' debt' FROM sales`, void.event)
	h.mends(1)
	h.expect("2026-11-23 08:09:00+00 devuelto", `SELECT voided_at || ' ' || void_reason FROM sales`)
	h.expect("-2.000 2.000", `SELECT string_agg(qty_delta::text, ' ' ORDER BY qty_delta) FROM inventory_movements WHERE ref ? 'sale_id'`)
	h.expect("10.000", `SELECT stock FROM warehouse_stock`)
	h.expect("0", `SELECT count(*) FROM debts`)
	h.wantGap("", void)
}

func TestD02AbsorbedDebtIsNoGapAndMakesNoSecondDebt(t *testing.T) {
	h := newHealing(t, healer.Options{})
	absorbed := owes("absorbed", 4, id("sale credit"))
	h.pushed(right, product("flour", 0), opened(1), customerCreated(2), sold("credit", 3, onCredit(maria), flour), absorbed)
	debt := h.text(`SELECT id FROM debts`)
	if report := h.mends(0); report.Semantic != 1 {
		t.Errorf("report %+v", report.Counts)
	}
	h.expect(debt, `SELECT id FROM debts`)
	h.expect(fmt.Sprintf("sale %s has debt %s already", id("sale credit"), debt), `SELECT reason FROM reconciled.gap`)
	if gaps := h.measured().Metrics.ProjectionGapCount; gaps != 0 {
		t.Errorf("%d projection gaps", gaps)
	}
}

func TestD03DebtOfAVoidedSaleIsNeverResurrected(t *testing.T) {
	for _, c := range []struct {
		name    string
		backend fleet.BackendOptions
		debts   string // that the backend leaves
		heals   int
	}{
		{"made again", wrong(fleet.DebtsOfVoidedSales), "1", 1},
		{"gone", right, "0", 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := newHealing(t, healer.Options{})
			h.pushed(right, product("flour", 0), opened(1), customerCreated(2), sold("credit", 3, onCredit(maria), flour))
			h.pushed(right, voided("credit", 9))
			late, payment := owes("late", 4, id("sale credit")), paid("late", 10, "late", 1)
			h.pushed(c.backend, late, payment)
			h.expect(c.debts, `SELECT count(*) FROM debts`)
			h.mends(c.heals)
			h.expect("0 0", `SELECT (SELECT count(*) FROM debts) || ' ' || count(*) FROM debt_payments`)
			h.expect("semantic debts "+id("debt late").String(), `SELECT concat_ws(' ', class, waits_table, waits_id) FROM reconciled.gap WHERE event_id = $1`, late.event)
			h.wantGap("semantic", payment)
			// What was taken out can be audited.
			h.expect(c.debts, `SELECT count(*) FROM reconciled.removed_row WHERE table_name = 'debts' AND row ->> 'id' = $1`, id("debt late").String())
			if gaps := h.measured().Metrics.ProjectionGapCount; gaps != 0 {
				t.Errorf("%d projection gaps", gaps)
			}
		})
	}
}

func TestD04MalformedIDsStopNobodyElse(t *testing.T) {
	h := newHealing(t, healer.Options{})
	broken := sold("broken", 3, map[string]any{"sale_id": "not-a-uuid"}, flour)
	h.log(product("flour", 0), opened(1), broken, sold("good", 4, nil, flour))
	h.exec(`UPDATE events SET projection_status = 'failed', projection_error = 'invalid input syntax for type uuid' WHERE event_id = $1`, broken.event)
	if report := h.mends(3); report.Poison != 1 {
		t.Errorf("report %+v", report.Counts)
	}
	h.expect(`read SaleCreated: sale_id is not a UUID: "not-a-uuid"`, `SELECT reason FROM reconciled.quarantine WHERE event_id = $1`, broken.event)
	h.expect(id("sale good").String(), `SELECT id FROM sales`)
	s := h.measured()
	if s.More.PoisonCount != 1 || s.Metrics.ProjectionGapCount != 0 {
		t.Errorf("%d poison, %d gaps", s.More.PoisonCount, s.Metrics.ProjectionGapCount)
	}
}

func TestD05StockClampedAtZeroIsSeenToBeOversold(t *testing.T) {
	h := newHealing(t, healer.Options{})
	h.pushed(wrong(fleet.StockMisbooked), product("flour", 0), opened(1))
	h.exec(`INSERT INTO warehouse_stock (warehouse_id, product_id, stock) VALUES ($1, $2, 0)`, mainRoom, flour)
	h.pushed(wrong(fleet.StockMisbooked), received("eleven", 2, flour, 11))
	h.pushed(wrong(fleet.StockMisbooked), saleOf("too much", 3, flour, 500, nil))
	h.expect("0.000", `SELECT stock FROM warehouse_stock`)
	h.mends(0)
	h.storeroom().want("flour Principal -489/0 oversold")
	if n := h.measured().Metrics.NegativeStockCount; n != 1 {
		t.Errorf("%d products below zero, want 1", n)
	}
	// So it is when the healer books the sale.
	h.log(saleOf("more", 4, flour, 2, nil))
	h.mends(1)
	h.expect("0.000", `SELECT stock FROM warehouse_stock`)
	h.storeroom().want("flour Principal -491/0 oversold")
}

func TestD06SalesCountedTwiceInTheCacheAreFoundAndSetRight(t *testing.T) {
	h := newHealing(t, healer.Options{})
	h.pushed(right, product("flour", 0), opened(1), received("ten", 2, flour, 10))
	h.pushed(wrong(fleet.StockMisbooked), sold("one", 3, nil, flour), sold("two", 4, nil, flour))
	h.pushed(wrong(fleet.StockMisbooked), voided("two", 5))
	h.expect("6.000", `SELECT stock FROM warehouse_stock`)
	h.mends(0) // the ledger is right
	h.storeroom().want("flour Principal 8/6 diverged")
	h.repairs(1)
	h.expect("8.000", `SELECT stock FROM warehouse_stock`)
	h.mends(0)
}

// The backend writes a receipt's movement and its total in transactions of their own
// (D32). A repair between the two would have the receipt counted twice.
func TestD32ARepairLeavesAloneWhatTheBackendIsInTheMiddleOf(t *testing.T) {
	h := newHealing(t, healer.Options{})
	ten := received("ten", 1, flour, 10)
	h.pushed(right, product("flour", 0), ten)
	h.exec(`UPDATE warehouse_stock SET stock = 0`)
	h.exec(`UPDATE outbox_entries SET status = 'pending', processed_at = NULL WHERE event_id = $1`, ten.event.String())
	h.storeroom().want("flour Principal 10/0 diverged")
	if done, err := h.storeroom().stock.RepairStock(h.ctx, h.grant, time.Minute, "ana", "counted"); err != nil || len(done) != 0 {
		t.Errorf("repaired %v, %v", done, err)
	}
	h.expect("0.000 0", `SELECT stock || ' ' || (SELECT count(*) FROM reconciled.audit) FROM warehouse_stock`)
	// Nobody is at work on what is a minute old.
	h.exec(`UPDATE outbox_entries SET created_at = now() - interval '2 minutes'`)
	h.repairs(1)
	h.expect("10.000", `SELECT stock FROM warehouse_stock`)
}

func TestD07FirstReceiptGetsItsRowOfStock(t *testing.T) {
	h := newHealing(t, healer.Options{})
	h.pushed(wrong(fleet.StockMisbooked), product("flour", 0), product("rice", 0), received("ten", 1, flour, 10))
	h.expect("0", `SELECT count(*) FROM warehouse_stock`)
	h.mends(0) // the ledger is right
	h.storeroom().want("flour Principal 10/0 diverged")
	h.repairs(1)
	h.expect("10.000", `SELECT stock FROM warehouse_stock`)
	h.log(received("rice", 2, rice, 3))
	h.mends(1)
	h.expect("3.000", `SELECT stock FROM warehouse_stock WHERE product_id = $1`, rice)
}

// repairs sets the cache right, and wants that nothing is found any more.
func (h *healing) repairs(keys int) {
	h.Helper()
	r := h.storeroom()
	done, err := r.stock.RepairStock(h.ctx, h.grant, time.Minute, "ana", "counted twice")
	if err != nil || len(done) != keys {
		h.Errorf("repaired %v, %v", done, err)
	}
	r.want("")
}

func TestD08WhatLastWriteWinsOverwroteIsProjectedAsItWasSaid(t *testing.T) {
	h := newHealing(t, healer.Options{})
	h.pushed(right, product("flour", 0), customerCreated(0), owes("one", 1, nil))
	winner, loser := received("five", 3, flour, 5), received("seven", 2, flour, 7)
	first, second, third := paid("first", 5, "one", "0.5"), paid("second", 4, "one", "1"), paid("third", 6, "one", "0.5")
	third.kind = velox.DebtPaymentAdded // not critical: no delta
	for _, e := range []*said{&loser, &second, &third} {
		e.device = tillB
	}
	h.log(winner, loser, first, second, third)
	h.overwrites(loser, winner, true)
	h.overwrites(second, first, true)
	h.overwrites(third, first, false)
	h.projects(wrong(fleet.PayloadNotSaid), winner, loser, first, second, third)
	h.expect("5.000 0.50", `SELECT (SELECT string_agg(qty_delta::text, ' ') FROM inventory_movements) || ' ' || (SELECT string_agg(amount_usd::text, ' ') FROM debt_payments)`)
	if report := h.mends(3); report.Waiting != 1 { // the first payment has the time of the one it overwrote
		t.Errorf("report %+v", report.Counts)
	}
	h.expect("2026-11-23 08:05:00+00", `SELECT paid_at FROM debt_payments WHERE id = $1`, id("payment first"))
	h.expect("7.000 2026-11-23 08:02:00+00", `SELECT qty_delta || ' ' || happened_at FROM inventory_movements WHERE id = $1`, id("movement seven"))
	h.expect("12.000", `SELECT stock FROM warehouse_stock`)
	h.expect("0.50 1.00 partial", `SELECT string_agg(amount_usd::text, ' ' ORDER BY amount_usd) || ' ' || (SELECT status FROM debts) FROM debt_payments`)
	h.wantGap("waiting said "+third.event.String(), third)
	// The other side gives it back.
	text, _ := json.Marshal(third.body)
	h.exec(`INSERT INTO reconciled.said (event_id, store_id, said, source) VALUES ($1, $2, $3, gen_random_uuid())`, third.event, shop, string(text))
	h.mends(1)
	h.expect("3 paid", `SELECT count(*) || ' ' || (SELECT status FROM debts) FROM debt_payments`)
}

// ofQuota is an event of a product's shares.
func ofQuota(name string, kind velox.Type, minute int, body map[string]any) said {
	body["request_id"] = id("request " + name)
	if _, named := body["product_id"]; !named {
		body["product_id"] = flour
	}
	return event(name, kind, minute, body)
}

func granted(name string, minute int, qty any, more map[string]any) said {
	body := map[string]any{"quota_id": id("quota " + name), "device_id": tillA, "qty_granted": qty}
	for member, value := range more {
		body[member] = value
	}
	return ofQuota("granted "+name, velox.StockQuotaGranted, minute, body)
}

const shares = `SELECT string_agg(concat_ws(' ', left(device_id::text, 1), qty_granted), ', ' ORDER BY device_id) FROM stock_escrow`

func TestD09QuotasAreNotCountedTwice(t *testing.T) {
	for _, by := range []string{"backend", "healer"} {
		t.Run(by, func(t *testing.T) {
			h := newHealing(t, healer.Options{})
			events := []said{product("flour", 0), opened(1), received("fifty", 2, flour, 50), granted("ten", 3, 10, nil), saleOf("four", 4, flour, 4, nil)}
			if by == "backend" {
				h.pushed(right, events...)
				h.mends(0)
			} else {
				// The share goes first: a sale takes what is there when it is projected.
				h.log(events[:4]...)
				h.mends(4)
				h.log(events[4:]...)
				h.mends(1)
			}
			h.expect("a 6.000", shares)
			h.expect("40.000", `SELECT stock FROM warehouse_stock`)
			h.expect("-4.000 true", `SELECT concat_ws(' ', qty_delta, from_escrow::text) FROM inventory_movements WHERE movement_type = 'sold'`)
			h.storeroom().want("")
			h.expect("36.000", `SELECT sum(qty_delta) FROM inventory_movements`) // as the POS's own view adds up
		})
	}
}

func TestD10VariantLostIsWrittenAndBothTotalsFollow(t *testing.T) {
	h := newHealing(t, healer.Options{})
	large := id("large")
	h.pushed(right, product("flour", 0))
	h.exec(`INSERT INTO product_variants (id, product_id, variant_type, variant_value) VALUES ($1, $2, 'talla', 'L')`, large, flour)
	h.pushed(wrong(fleet.VariantLost), event("delta", velox.StockDeltaApplied, 1, map[string]any{
		"movement_id": id("delta"), "product_id": flour, "variant_id": large, "qty_delta": 8, "reason": "conteo", "warehouse_id": "",
	}))
	h.expect("8.000", `SELECT stock FROM warehouse_stock WHERE variant_id IS NULL`)
	h.mends(1)
	h.expect(large.String(), `SELECT variant_id FROM inventory_movements`)
	h.expect("base 0.000, large 8.000", `SELECT string_agg(CASE WHEN variant_id IS NULL THEN 'base ' ELSE 'large ' END || stock, ', ' ORDER BY stock) FROM warehouse_stock`)
	h.storeroom().want("")
}

func TestD11DebtsOfASaleAreComparedByTheSale(t *testing.T) {
	h := newHealing(t, healer.Options{})
	h.pushed(right, product("flour", 0), opened(1), customerCreated(2), sold("credit", 3, onCredit(maria), flour))
	own := h.text(`SELECT id FROM debts`)
	// The debt as either node made it, told by synthetic events.
	here, there := owes("here", 3, id("sale credit")), owes("there", 3, id("sale credit"))
	here.body["debt_id"] = own
	h.pushed(right, here, there)
	if report := h.mends(0); report.Semantic != 1 {
		t.Errorf("report %+v", report.Counts)
	}
	h.wantGap("", here)
	h.wantGap("semantic debts "+id("debt there").String(), there)
	h.expect(own+" open 2.00", `SELECT concat_ws(' ', id, status, amount_usd) FROM debts`)
}

func TestD12PaymentOfAnotherNodesDebtIsBooked(t *testing.T) {
	h := newHealing(t, healer.Options{})
	declared, payment, early := owes("there", 4, id("sale credit")), paid("there", 5, "there", "2.00"), paid("early", 6, "own", 1)
	h.pushed(right, product("flour", 0), opened(1), customerCreated(2), sold("credit", 3, onCredit(maria), flour), declared)
	h.pushed(wrong(fleet.PaymentsByOwnID), payment, early)
	h.pushed(right, owes("own", 1, nil)) // the payment only came too soon
	h.exec(`UPDATE events SET projection_status = 'discarded', projection_error = '[permanent-orphan] La deuda no existe' WHERE type = 'DebtPaymentRecorded'`)
	h.expect("0", `SELECT count(*) FROM debt_payments`)
	h.mends(2)
	h.expect("sale paid, own partial", `SELECT string_agg(CASE WHEN sale_id IS NULL THEN 'own ' ELSE 'sale ' END || status, ', ' ORDER BY status) FROM debts`)
	h.expect("2.00", `SELECT p.amount_usd FROM debt_payments p JOIN debts d ON d.id = p.debt_id WHERE d.sale_id = $1 AND p.id = $2`, id("sale credit"), id("payment there"))
	h.expect("processed", `SELECT DISTINCT projection_status FROM events WHERE type = 'DebtPaymentRecorded'`)
}

func TestD13FiscalDuplicateIsStoredTwiceAndReported(t *testing.T) {
	h := newHealing(t, healer.Options{})
	number := map[string]any{"fiscal_number": 777, "invoice_series_id": series, "invoice_number": "000777"}
	h.pushed(right, product("flour", 0), opened(1), sold("one", 2, number, flour))
	h.log(sold("two", 3, number, flour))
	h.mends(1)
	h.expect("777 777", `SELECT string_agg(fiscal_number, ' ') FROM sales`)
	s := h.measured()
	if s.More.FiscalDuplicateCount != 1 || !slices.ContainsFunc(s.Details, func(a health.Affected) bool {
		return a.Kind == "fiscal_duplicate" && a.ID == "A/777" && strings.Contains(a.Text, id("sale one").String()) && strings.Contains(a.Text, id("sale two").String())
	}) {
		t.Errorf("%d duplicates, %v", s.More.FiscalDuplicateCount, s.Details)
	}
}

func TestD14GuardByTheRowsClockLosesNothing(t *testing.T) {
	h := newHealing(t, healer.Options{})
	guarded := wrong(fleet.GuardByRowTime)
	h.pushed(right, product("flour", 0), product("rice", 0), opened(1), sold("half", 2, nil, flour))
	// Every row was just written, and all of this was made offline, yesterday.
	h.pushed(guarded,
		event("renamed", velox.ProductUpdated, 3, map[string]any{"product_id": flour, "patch": map[string]any{"name": "Harina", "sku": "H-1"}}),
		event("renamed before", velox.ProductUpdated, 2, map[string]any{"product_id": flour, "patch": map[string]any{"name": "Harin", "category": "Granos"}}),
		event("retired", velox.ProductDeactivated, 4, map[string]any{"product_id": rice}),
		closed("late", 50, map[string]any{"note": "cuadrado"}),
	)
	h.exec(`DELETE FROM sale_items`) // the repair is guarded, too
	h.expect("flour true, rice true", `SELECT string_agg(name || ' ' || is_active, ', ' ORDER BY name) FROM products`)
	h.expect("", `SELECT closed_at FROM cash_sessions`)
	h.mends(4) // any event of a product mends the whole row
	h.expect("Harina H-1 Granos true, rice false", `SELECT string_agg(concat_ws(' ', name, sku, category, is_active::text), ', ' ORDER BY name) FROM products`)
	h.expect("2026-11-23 08:50:00+00 cuadrado 50", `SELECT concat_ws(' ', closed_at, note, counted ->> 'cash_bs') FROM cash_sessions`)
	h.expect("1 1", `SELECT count(*) || ' ' || (SELECT count(*) FROM inventory_movements) FROM sale_items`)
}

func TestD15DiscountsOfASaleAreThoseItSaid(t *testing.T) {
	h := newHealing(t, healer.Options{})
	e := sold("one", 2, nil, flour)
	e.body["totals"] = map[string]any{"total_bs": 80, "total_usd": 2, "subtotal_bs": 81.5, "subtotal_usd": 2.25, "discount_bs": 1.5, "discount_usd": "0.25"}
	h.pushed(wrong(fleet.DiscountsZero), product("flour", 0), opened(1), e)
	h.expect("0 0", `SELECT (totals ->> 'discount_bs') || ' ' || (totals ->> 'discount_usd') FROM sales`)
	h.mends(1)
	h.expect("1.5 0.25 81.5 80", `SELECT concat_ws(' ', totals ->> 'discount_bs', totals ->> 'discount_usd', totals ->> 'subtotal_bs', totals ->> 'total_bs') FROM sales`)
}

func TestD16AnEntryThatSaysRelayedProvesNothing(t *testing.T) {
	h := newHealing(t, healer.Options{})
	h.pushed(right, product("flour", 0), opened(1))
	h.exec(`INSERT INTO outbox_entries (event_id, event_type, store_id, target, status, processed_at)
		SELECT event_id::text, type, store_id, 'federation-relay', 'processed', now() FROM events`)
	if _, err := postgres.NewLog(h.site.DB).Pin(h.ctx, shop); err != nil {
		t.Fatal(err)
	}
	if lag := h.measured().Metrics.EventLagCount; lag != 2 {
		t.Errorf("%d events unproven, want 2", lag)
	}
}
