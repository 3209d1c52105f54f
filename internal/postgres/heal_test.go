package postgres_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/veloxpos/reconciled/healer"
	"github.com/veloxpos/reconciled/internal/postgres"
	"github.com/veloxpos/reconciled/internal/velox"
)

// A small shop's day.
var (
	flour, rice = id("flour"), id("rice")
	maria       = id("maria")
	session     = id("session")
)

func product(name string, minute int) said {
	return event("product "+name, velox.ProductCreated, minute, map[string]any{"product_id": id(name), "name": name, "price_bs": "40.00", "price_usd": 1})
}

func opened(minute int) said {
	return event("opened", velox.CashSessionOpened, minute, map[string]any{"session_id": session, "opening_amount_bs": 0, "note": "abre"})
}

func closed(name string, minute int, more map[string]any) said {
	body := map[string]any{"session_id": session, "counted": map[string]any{"cash_bs": minute}}
	for k, v := range more {
		body[k] = v
	}
	return event("closed "+name, velox.CashSessionClosed, minute, body)
}

func received(name string, minute int, product uuid.UUID, qty any) said {
	return event("received "+name, velox.StockReceived, minute, map[string]any{"movement_id": id("movement " + name), "product_id": product, "qty": qty})
}

func sold(name string, minute int, more map[string]any, products ...uuid.UUID) said {
	var items []any
	for _, p := range products {
		items = append(items, map[string]any{"line_id": 1, "product_id": p, "qty": 2, "unit_price_bs": 40, "unit_price_usd": 1})
	}
	body := map[string]any{
		"sale_id": id("sale " + name), "items": items, "exchange_rate": 40, "currency": "BS", "payment": map[string]any{"method": "CASH_BS"},
		"totals": map[string]any{"total_bs": 80, "total_usd": 2, "subtotal_bs": 80, "subtotal_usd": 2, "discount_bs": 1.5}, "cash_session_id": session,
	}
	for k, v := range more {
		body[k] = v
	}
	return event("sale "+name, velox.SaleCreated, minute, body)
}

func onCredit(customer uuid.UUID) map[string]any {
	return map[string]any{"payment": map[string]any{"method": "FIAO"}, "customer": map[string]any{"customer_id": customer}}
}

func voided(name string, minute int) said {
	e := event("void "+name, velox.SaleVoided, minute, map[string]any{"sale_id": id("sale " + name), "reason": "devuelto"})
	e.device = velox.ServerDevice
	return e
}

func owes(name string, minute int, sale any) said {
	return event("debt "+name, velox.DebtCreated, minute, map[string]any{"debt_id": id("debt " + name), "customer_id": maria, "sale_id": sale, "amount_bs": 80, "amount_usd": 2})
}

func paid(name string, minute int, debt string, usd any) said {
	return event("payment "+name, velox.DebtPaymentRecorded, minute, map[string]any{"payment_id": id("payment " + name), "debt_id": id("debt " + debt), "method": "CASH_USD", "amount_usd": usd, "amount_bs": 0})
}

func customerCreated(minute int) said {
	return event("maria", velox.CustomerCreated, minute, map[string]any{"customer_id": maria, "name": "María", "phone": "0414", "document_id": "V-1", "email": "m@x.ve", "credit_limit": "99.5"})
}

func TestI6AVoidThatCameFirstIsAppliedWhenItsSaleIsThere(t *testing.T) {
	h := newHealing(t, healer.Options{})
	h.log(product("flour", 0), opened(1), voided("early", 9))
	h.exec(`UPDATE events SET projection_status = 'processed'`) // as the backend marks it
	h.heal()
	h.expect("waiting", `SELECT class FROM reconciled.gap WHERE type = 'SaleVoided'`)
	h.log(sold("early", 10, nil, flour))
	if report := h.heal(); report.Healed != 2 {
		t.Errorf("healed %+v", report)
	}
	h.expect("devuelto", `SELECT void_reason FROM sales`)
	h.expect("0.000", `SELECT sum(qty_delta) FROM inventory_movements`)
	h.expect("0", `SELECT count(*) FROM reconciled.gap`)
}

func TestI6AVoidThatWasAppliedIsAppliedAgainWhenItsSaleIs(t *testing.T) {
	h := newHealing(t, healer.Options{})
	h.log(product("flour", 0), opened(1), sold("one", 20, nil, flour), voided("one", 60))
	h.heal()
	h.exec(`DELETE FROM sales`)
	h.exec(`INSERT INTO reconciled.dirty (store_id, slot, op) SELECT store_id, reconciled.slot(created_at), 'm' FROM events WHERE type = 'SaleCreated'`)
	if report := h.heal(); report.Healed != 2 {
		t.Errorf("report %+v", report)
	}
	h.expect("devuelto", `SELECT void_reason FROM sales`)
	h.expect("2 0.000", `SELECT count(*) || ' ' || sum(qty_delta) FROM inventory_movements`)
}

func TestI6ASaleWaitsForItsProductAndSession(t *testing.T) {
	h := newHealing(t, healer.Options{})
	h.log(sold("one", 5, nil, flour, rice))
	for _, step := range []struct {
		waits string
		event said
	}{
		{"products " + flour.String(), product("flour", 90)},
		{"products " + rice.String(), product("rice", 91)},
		{"cash_sessions " + session.String(), opened(92)},
	} {
		h.heal()
		h.expect(step.waits, `SELECT waits_table || ' ' || waits_id FROM reconciled.gap`)
		h.expect("0", `SELECT count(*) FROM sales`)
		h.log(step.event)
	}
	h.heal()
	h.expect("1", `SELECT count(*) FROM sales`)
	h.expect("2", `SELECT count(*) FROM sale_items`)
	h.expect("0", `SELECT count(*) FROM reconciled.gap`)
}

func TestAnEventIsProjectedAfterThoseThatItNames(t *testing.T) {
	h := newHealing(t, healer.Options{})
	cause := product("rice", 60) // of another slot
	h.log(product("flour", 0))
	h.exec(`UPDATE events SET causal_dependencies = ARRAY[$1::text]`, cause.event)
	if report := h.heal(); report.Waiting != 1 {
		t.Errorf("report %+v", report.Counts)
	}
	h.expect("events "+cause.event.String(), `SELECT waits_table || ' ' || waits_id FROM reconciled.gap`)
	h.log(cause)
	h.exec(`UPDATE events SET causal_dependencies = ARRAY[$1::text] WHERE event_id = $2`, id("event of nobody"), cause.event)
	if report := h.heal(); report.Waiting != 1 || report.Healed != 0 { // the cause itself; who waits for it is not looked at
		t.Errorf("report %+v", report.Counts)
	}
	h.exec(`UPDATE events SET causal_dependencies = '{}' WHERE event_id = $1`, cause.event)
	h.exec(`UPDATE reconciled.gap SET next_attempt = now() WHERE event_id = $1`, cause.event)
	if report := h.heal(); report.Healed != 2 {
		t.Errorf("report %+v", report.Counts)
	}
	h.expect("0", `SELECT count(*) FROM reconciled.gap`)
}

func TestBlockedNamesTheMissingReferenceAndInventsNone(t *testing.T) {
	h := newHealing(t, healer.Options{})
	h.log(product("flour", 0), opened(1))
	stranger := sold("seller", 2, nil, flour)
	stranger.actor = id("stranger")
	lot := sold("lot", 4, nil, flour)
	lot.body["items"].([]any)[0].(map[string]any)["lot_id"] = id("lot")
	h.log(stranger, sold("series", 3, map[string]any{"invoice_series_id": id("series"), "invoice_number": "1"}, flour), lot)
	report := h.heal()
	if report.Blocked != 3 || report.Failed != 0 {
		t.Errorf("report %+v", report.Counts)
	}
	h.expect(fmt.Sprintf("profiles %s", id("stranger")), `SELECT waits_table || ' ' || waits_id FROM reconciled.gap WHERE event_id = $1`, id("event sale seller"))
	h.expect(fmt.Sprintf("invoice_series %s", id("series")), `SELECT waits_table || ' ' || waits_id FROM reconciled.gap WHERE event_id = $1`, id("event sale series"))
	h.expect(fmt.Sprintf("product_lots %s", id("lot")), `SELECT waits_table || ' ' || waits_id FROM reconciled.gap WHERE event_id = $1`, id("event sale lot"))
	h.expect("1", `SELECT count(*) FROM profiles`)
	h.exec(`INSERT INTO profiles (id) VALUES ($1)`, id("stranger"))
	if report := h.heal(); report.Healed != 1 {
		t.Errorf("after the profile came: %+v", report.Counts)
	}
}

func TestACustomerFillsThePlaceholderThatASaleMade(t *testing.T) {
	h := newHealing(t, healer.Options{})
	h.log(product("flour", 0), opened(1), sold("credit", 2, onCredit(maria), flour))
	h.heal()
	h.expect("Cliente offline "+maria.String()[:8], `SELECT name FROM customers`)
	h.expect("open 2.00", `SELECT status || ' ' || amount_usd FROM debts`)
	h.log(customerCreated(3))
	h.heal()
	h.expect("María V-1 m@x.ve 99.50 true", `SELECT concat_ws(' ', name, document_id, email, credit_limit, (note IS NULL)::text) FROM customers`)
}

func TestPaymentsOfAnotherNodesDebtFindTheLocalOne(t *testing.T) {
	h := newHealing(t, healer.Options{})
	h.log(product("flour", 0), opened(1), customerCreated(1), paid("early", 30, "there", 1))
	h.heal()
	h.expect("waiting debts", `SELECT class || ' ' || waits_table FROM reconciled.gap`)
	h.log(owes("there", 3, id("sale credit"))) // the debt's id at the other node
	h.heal()
	h.expect("2", `SELECT count(*) FROM reconciled.gap WHERE class = 'waiting'`)
	h.log(sold("credit", 2, onCredit(maria), flour))
	h.heal()
	h.expect("partial", `SELECT status FROM debts`)
	h.expect("DebtCreated semantic", `SELECT string_agg(type || ' ' || class, ',') FROM reconciled.gap`)
	h.log(paid("rest", 31, "there", "1.00"))
	h.heal()
	h.expect("paid", `SELECT status FROM debts`)
	h.expect("1 1", `SELECT (SELECT count(*) FROM debts) || ' ' || count(DISTINCT debt_id) FROM debt_payments`)
}

func TestADebtThatAVoidRemovedStaysRemoved(t *testing.T) {
	h := newHealing(t, healer.Options{})
	h.log(product("flour", 0), opened(1), customerCreated(1), sold("credit", 2, onCredit(maria), flour))
	h.heal()
	h.log(owes("own", 3, id("sale credit")), paid("some", 4, "own", 1))
	h.heal()
	h.expect("1", `SELECT count(*) FROM debt_payments`)
	h.log(voided("credit", 5))
	h.heal()
	h.expect("0 0", `SELECT (SELECT count(*) FROM debts) || ' ' || (SELECT count(*) FROM debt_payments)`)
	h.expect("debts, debt_payments", `SELECT string_agg(table_name, ', ' ORDER BY id DESC) FROM reconciled.removed_row`)
	h.log(paid("late", 6, "own", 1))
	h.reread()
	if report := h.heal(); report.Healed != 0 || report.Semantic != 3 {
		t.Errorf("after the void: %+v", report.Counts)
	}
	h.expect("0 0", `SELECT (SELECT count(*) FROM debts) || ' ' || (SELECT count(*) FROM debt_payments)`)
	h.expect("2.000", `SELECT coalesce(sum(qty_delta), 0) + 2 FROM inventory_movements`)
}

func TestTheNewestClosingWinsWhateverCameFirst(t *testing.T) {
	for _, order := range [][]string{{"first", "second"}, {"second", "first"}} {
		t.Run(order[0], func(t *testing.T) {
			h := newHealing(t, healer.Options{})
			h.log(opened(1))
			events := map[string]said{"first": closed("first", 50, map[string]any{"note": "cuadrado"}), "second": closed("second", 60, nil)}
			for _, name := range order {
				h.log(events[name])
				h.heal()
			}
			h.expect(`{"cash_bs": 60} cuadrado`, `SELECT concat_ws(' ', counted, note) FROM cash_sessions`)
			h.expect("09:00:00", `SELECT closed_at::time FROM cash_sessions`)
			h.expect("0", `SELECT count(*) FROM reconciled.gap`)
		})
	}
}

func TestAClosingByHandIsNotOverruled(t *testing.T) {
	h := newHealing(t, healer.Options{})
	h.log(opened(1))
	h.heal()
	h.exec(`UPDATE cash_sessions SET closed_at = '2026-11-23 20:00Z', note = 'a mano'`)
	h.log(closed("first", 50, nil))
	h.heal()
	h.expect("a mano", `SELECT note FROM cash_sessions`)
}

func TestStockTotalsFollowTheLedger(t *testing.T) {
	for name, breaks := range map[string]string{
		"from what was added up": "",
		"from the movements":     `ALTER TABLE inventory_movements DISABLE TRIGGER reconciled_stock`,
		"of a truncated ledger":  `TRUNCATE inventory_movements`,
	} {
		t.Run(name, func(t *testing.T) {
			h := newHealing(t, healer.Options{})
			large := id("large")
			if breaks != "" {
				execSuper(t, h.site, breaks)
			}
			h.log(product("flour", 0))
			h.heal()
			h.exec(`INSERT INTO product_variants (id, product_id, variant_type, variant_value) VALUES ($1, $2, 'size', 'L')`, large, flour)
			h.log(opened(1), received("ten", 2, flour, "10.5"))
			h.heal()
			h.expect("10.500", `SELECT stock FROM warehouse_stock WHERE warehouse_id = $1 AND variant_id IS NULL`, mainRoom)
			h.exec(`UPDATE warehouse_stock SET stock = 77`) // the backend lost count
			elsewhere := received("annex", 3, flour, 3)
			elsewhere.body["warehouse_id"] = id("annex")
			h.log(elsewhere, sold("one", 4, nil, flour))
			h.heal()
			h.expect("8.500", `SELECT stock FROM warehouse_stock WHERE warehouse_id = $1 AND variant_id IS NULL`, mainRoom)
			// Movements without a warehouse count in the default one; escrow in none.
			h.exec(`INSERT INTO inventory_movements (id, store_id, product_id, movement_type, qty_delta, happened_at, from_escrow)
				SELECT gen_random_uuid(), $1, $2, 'received', 100, now(), escrow FROM unnest('{true,false}'::bool[]) escrow`, shop, flour)
			ofLarge := received("large", 5, flour, 4)
			ofLarge.body["variant_id"] = large
			h.log(received("one more", 6, flour, 1), ofLarge)
			h.heal()
			h.expect("109.500", `SELECT stock FROM warehouse_stock WHERE warehouse_id = $1 AND variant_id IS NULL`, mainRoom)
			h.expect("3.000", `SELECT stock FROM warehouse_stock WHERE warehouse_id = $1`, id("annex"))
			h.expect("4.000", `SELECT stock FROM warehouse_stock WHERE variant_id = $1`, large)
		})
	}
}

// The backend writes a movement, and then adds to the total. What is healed in between
// would be counted by both.
func TestATotalIsNotSetWhileTheBackendIsHalfWay(t *testing.T) {
	h := newHealing(t, healer.Options{})
	h.log(product("flour", 0), received("five", 1, flour, 5))
	h.heal()
	half := received("nine", 100, flour, 9)
	h.log(half)
	h.exec(`UPDATE events SET received_at = now() WHERE event_id = $1`, half.event)
	h.exec(`INSERT INTO outbox_entries (event_id, event_type, store_id, target) VALUES ($1, 'StockReceived', $2, 'projection')`, half.event.String(), shop)
	h.exec(`INSERT INTO inventory_movements (id, store_id, product_id, movement_type, qty_delta, happened_at, warehouse_id) VALUES ($1, $2, $3, 'received', 9, $4, $5)`,
		id("movement nine"), shop, flour, half.at, mainRoom)
	h.log(product("rice", 2), received("seven", 3, flour, 7), received("three", 4, rice, 3))
	if report := h.heal(); report.Healed != 2 || report.Backend != 2 {
		t.Errorf("report %+v", report.Counts)
	}
	h.expect("3.000, 5.000", `SELECT string_agg(stock::text, ', ' ORDER BY stock) FROM warehouse_stock`)
	h.exec(`UPDATE warehouse_stock SET stock = stock + 9 WHERE product_id = $1`, flour)
	h.exec(`UPDATE outbox_entries SET status = 'processed', processed_at = now()`)
	h.exec(`UPDATE reconciled.worklist SET not_before = now()`)
	if report := h.heal(); report.Healed != 1 {
		t.Errorf("report %+v", report.Counts)
	}
	h.expect("3.000, 21.000", `SELECT string_agg(stock::text, ', ' ORDER BY stock) FROM warehouse_stock`)
	h.storeroom().want("")
}

func TestEventsOfOneInstantAreAllRead(t *testing.T) {
	h := newHealing(t, healer.Options{Batch: 3})
	for i := range 10 {
		p := product(fmt.Sprint(i), 0)
		p.at = morning
		h.log(p)
	}
	for _, dead := range []string{"infinity", "-infinity", "4000-01-01 BC", "294000-01-01"} { // a till whose clock died
		h.log(product(dead, 0))
		h.exec(`UPDATE events SET created_at = $2::text::timestamptz WHERE event_id = $1`, id("event product "+dead), dead)
	}
	if report := h.heal(); report.Checked != 14 || report.Healed != 14 {
		t.Errorf("report %+v", report.Counts)
	}
}

func TestMovementsLeftOfADeletedSaleAreNotDoubled(t *testing.T) {
	h := newHealing(t, healer.Options{})
	h.log(product("flour", 0), opened(1), received("ten", 2, flour, 10), sold("one", 3, nil, flour), voided("one", 4))
	h.heal()
	h.heal() // sees what the first has changed
	before := h.readModel()
	// A backend's movements have ids of their own. The sale is gone as with a disk: no
	// trigger has seen it.
	h.exec(`SET session_replication_role = replica; UPDATE inventory_movements SET id = gen_random_uuid() WHERE ref IS NOT NULL;
		DELETE FROM sale_items; DELETE FROM sales; RESET session_replication_role`)
	h.exec(`INSERT INTO reconciled.leaf (store_id, slot, count, digest, sum, digest_version, version)
		SELECT DISTINCT store_id, reconciled.slot(created_at), 1, ''::bytea, 0, 1, 1 FROM events`)
	if report := h.heal(); report.Checked != 0 {
		t.Errorf("nothing was due: %+v", report)
	}
	if slots, err := h.healer.HealFull(h.ctx, h.grant); err != nil || slots == 0 {
		t.Fatalf("full: %d slots, %v", slots, err)
	}
	if report := h.heal(); report.Healed != 2 {
		t.Errorf("healed %+v", report.Counts)
	}
	if after := h.readModel(); after != before {
		t.Errorf("read model\n%s\nwant\n%s", after, before)
	}
}

// A sum of such quantities fits no numeric, and a sift that failed on one would fail for
// ever.
func TestQuantitiesBeyondAllSumsAreSiftedToo(t *testing.T) {
	h := newHealing(t, healer.Options{})
	h.log(product("flour", 0), opened(0), sold("one", 1, nil, flour, flour))
	h.heal()
	h.exec(`UPDATE events SET payload = jsonb_set(jsonb_set(payload, '{items,0,qty}', '9e131071'), '{items,1,qty}', '9e131071'), delta_payload = NULL WHERE type = 'SaleCreated'`)
	h.pin(postgres.NewLog(h.site.DB))
	h.exec(`DELETE FROM reconciled.worklist`)
	if n, err := h.healer.Sift(h.ctx, h.grant, nil); n != 1 || err != nil {
		t.Fatalf("%d suspects, %v", n, err)
	}
	if report := h.heal(); report.Poison != 1 {
		t.Errorf("report %+v", report.Counts)
	}
}

func TestTheGapOfAPurgedEventIsForgotten(t *testing.T) {
	h := newHealing(t, healer.Options{})
	h.log(received("ten", 2, flour, 10), received("more", 3, flour, 10))
	h.heal()
	h.exec(`DELETE FROM events WHERE event_id = $1`, id("event received ten"))
	h.heal()
	if _, err := h.healer.HealFull(h.ctx, h.grant); err != nil {
		t.Fatal(err)
	}
	h.expect(id("event received more").String(), `SELECT string_agg(event_id::text, ',') FROM reconciled.gap`)
}

func TestATypeThatIsNoneOfThePOSsIsCountedAndNoGap(t *testing.T) {
	h := newHealing(t, healer.Options{})
	h.log(event("strange", "SomethingNew", 4, map[string]any{}))
	if report := h.heal(); report.Unsupported != 1 || report.ByType[healer.Unknown].Unsupported != 1 {
		t.Errorf("report %+v", report)
	}
	h.expect("0", `SELECT count(*) FROM reconciled.gap`)
}

func TestARowOfAnotherStoreIsNeverTakenOver(t *testing.T) {
	h := newHealing(t, healer.Options{})
	other := id("other store")
	h.exec(`INSERT INTO products (id, store_id, name) VALUES ($1, $2, 'ajeno')`, flour, other)
	h.exec(`INSERT INTO customers (id, store_id, name, note) VALUES ($1, $2, 'ajena', 'Auto-creado por proyeccion de venta (x)')`, maria, other)
	h.log(product("flour", 0), opened(1), customerCreated(2), received("ten", 3, flour, 1), sold("one", 4, nil, flour))
	if report := h.heal(); report.Poison != 4 || report.Healed != 1 {
		t.Errorf("report %+v", report.Counts)
	}
	h.expect("ajeno", `SELECT name FROM products`)
	h.expect("ajena", `SELECT name FROM customers`)
	h.expect("4", `SELECT count(*) FROM reconciled.quarantine WHERE reason LIKE '%belongs to another store%'`)
}

func TestALostCopyWaitsForWhatWasSaid(t *testing.T) {
	h := newHealing(t, healer.Options{})
	h.log(customerCreated(1), owes("one", 2, nil))
	h.exec(`UPDATE events SET delta_payload = NULL, conflict_status = 'auto_resolved',
		full_payload_hash = '0bc18bb22d6ebaf135d0327d668bdb1603763fabd6a60e73de1defe7c8249494' WHERE type = 'DebtCreated'`)
	h.heal()
	h.expect("waiting said", `SELECT class || ' ' || waits_table FROM reconciled.gap`)
	h.expect("0", `SELECT count(*) FROM debts`)
	h.exec(`INSERT INTO reconciled.said (event_id, store_id, said, source) SELECT event_id, store_id, payload || '{"amount_usd": 7}', gen_random_uuid() FROM events WHERE type = 'DebtCreated'`)
	h.heal()
	h.expect("7.00", `SELECT amount_usd FROM debts`)
}

func TestAnEventWhoseContentDoesNotMatchItsHashIsNotProjected(t *testing.T) {
	h := newHealing(t, healer.Options{})
	h.log(product("flour", 0))
	h.exec(`UPDATE events SET full_payload_hash = repeat('0', 64)`)
	if report := h.heal(); report.Poison != 1 {
		t.Errorf("report %+v", report.Counts)
	}
	h.expect("0", `SELECT count(*) FROM products`)
}

// A price that somebody changed in the log is not written in the name of the product's
// other events either, and stands in the way of none that is missing.
func TestAnAlteredEventHasNoSayInWhatOthersStandFor(t *testing.T) {
	h := newHealing(t, healer.Options{})
	price := event("price", velox.PriceChanged, 1, map[string]any{"product_id": flour, "price_usd": 3})
	last := closed("evening", 9, map[string]any{"counted": map[string]any{"usd": 5}})
	h.log(product("flour", 0), price, opened(0), closed("noon", 5, map[string]any{"counted": map[string]any{"usd": 4}}), last)
	h.heal()
	const models = `SELECT (SELECT price_usd FROM products) || ' ' || (SELECT counted::text FROM cash_sessions)`
	was := h.text(models)
	for table, change := range map[string]string{"PriceChanged": `{"price_usd": 0.01}`, "CashSessionClosed": `{"counted": {"usd": 1}}`} {
		h.exec(`UPDATE events SET payload = payload || $2, delta_payload = payload || $2, full_payload_hash = repeat('0', 64) WHERE type = $1 AND event_id = ANY($3)`,
			table, change, []uuid.UUID{price.event, last.event})
	}
	h.reread()
	h.heal()
	h.expect(was, models)
	h.exec(`UPDATE products SET price_usd = 7`) // not what any event says
	h.reread()
	if report := h.heal(); report.Poison != 2 {
		t.Errorf("report %+v", report.Counts)
	}
	h.expect("7.00", `SELECT price_usd FROM products`)
	h.exec(`DELETE FROM products`)
	h.reread()
	h.heal()
	h.expect("1.00", `SELECT price_usd FROM products`)
	// A person says what it said.
	h.exec(`INSERT INTO reconciled.said (event_id, store_id, said, source) SELECT event_id, store_id, payload || '{"price_usd": 3}', store_id FROM events WHERE type = 'PriceChanged'`)
	h.reread()
	h.heal()
	h.expect("3.00", `SELECT price_usd FROM products`)
}

func TestStatusesOfHealedEventsAreSettledAndNoOthers(t *testing.T) {
	h := newHealing(t, healer.Options{})
	h.log(product("flour", 0), product("rice", 1))
	h.exec(`INSERT INTO products (id, store_id, name, created_at) VALUES ($1, $2, 'arroz', now() - interval '2 hours')`, rice, shop) // edited online
	h.exec(`UPDATE events SET projection_status = 'failed', projection_error = 'x' WHERE event_id = $1`, id("event product flour"))
	h.exec(`INSERT INTO outbox_entries (event_id, event_type, store_id, target, status, error, retry_count)
		SELECT event_id::text, type, store_id, unnest('{projection,federation-relay}'::text[]), 'failed', 'x', 10 FROM events WHERE projection_status = 'failed'`)
	h.heal()
	h.expect("processed", `SELECT concat_ws(' ', projection_status, projection_error) FROM events WHERE event_id = $1`, id("event product flour"))
	h.expect("processed", `SELECT concat_ws(' ', status, error) FROM outbox_entries WHERE target = 'projection'`)
	h.expect("failed x", `SELECT concat_ws(' ', status, error) FROM outbox_entries WHERE target = 'federation-relay'`)
	h.expect("pending", `SELECT projection_status FROM events WHERE event_id = $1`, id("event product rice"))
	h.expect(`failed x processed`, `SELECT concat_ws(' ', before ->> 'projection_status', before ->> 'projection_error', after ->> 'projection_status') FROM reconciled.heal_log`)
}

func TestAFreshEventIsTheBackendsUntilItsGraceEnds(t *testing.T) {
	h := newHealing(t, healer.Options{})
	online := product("online", 0) // by the online API: rows and event, no outbox entry
	online.device, online.at = velox.ServerDevice, online.at.AddDate(-3, 0, 0)
	h.log(product("flour", 0), product("rice", 0))
	h.exec(`UPDATE events SET received_at = now(), created_at = created_at - interval '3 years' WHERE event_id = $1`, id("event product flour"))
	h.exec(`INSERT INTO outbox_entries (event_id, event_type, store_id, target) SELECT event_id::text, type, store_id, 'projection' FROM events`)
	h.log(online)
	h.exec(`UPDATE events SET received_at = now() WHERE device_id = $1`, velox.ServerDevice)
	report := h.heal()
	if report.Backend != 2 || report.Healed != 1 {
		t.Errorf("report %+v", report.Counts)
	}
	h.expect("0", `SELECT count(*) FROM reconciled.gap`)
	h.expect("true", `SELECT not_before > now() + interval '30 s' AND not_before <= now() + interval '60 s' FROM reconciled.worklist`)
	h.exec(`UPDATE events SET received_at = now() - interval '61 s'`)
	h.exec(`UPDATE reconciled.worklist SET not_before = now()`)
	if report := h.heal(); report.Healed != 2 {
		t.Errorf("after the grace: %+v", report.Counts)
	}
	h.expect("0", `SELECT count(*) FROM reconciled.worklist`)
}

func TestASlotThatChangedWhileItWasReadStaysOnTheWorklist(t *testing.T) {
	h := newHealing(t, healer.Options{})
	h.log(product("flour", 0))
	h.enlist()
	store := postgresStore(h)
	slots, err := store.Due(h.ctx, shop, -1<<62, 10)
	if err != nil || len(slots) != 1 {
		t.Fatalf("due %v, %v", slots, err)
	}
	h.log(product("rice", 0))
	h.enlist()
	if err := store.Settle(h.ctx, h.grant, slots); err != nil {
		t.Fatal(err)
	}
	h.expect("1", `SELECT count(*) FROM reconciled.worklist`)
	slots[0].Stamp++
	slots[0].Again = time.Hour
	if err := store.Settle(h.ctx, h.grant, slots); err != nil {
		t.Fatal(err)
	}
	if slots, err = store.Due(h.ctx, shop, -1<<62, 10); err != nil || len(slots) != 0 {
		t.Errorf("due %v, %v", slots, err)
	}
}

// What a heal writes over is in the heal log, whichever row it was in.
func TestTheHealLogHasWhatWasThereBefore(t *testing.T) {
	h := newHealing(t, healer.Options{})
	h.log(product("flour", 0), received("all", 0, flour, 100), opened(1), sold("one", 2, onCredit(maria), flour), customerCreated(0), granted("ten", 3, 10, nil))
	h.heal()
	h.exec(`UPDATE sale_items SET qty = 9`)
	h.exec(`UPDATE debts SET amount_usd = 0.01`)
	h.exec(`UPDATE stock_escrow SET qty_granted = 3`)
	h.reread()
	h.heal()
	h.expect("9.000 -> 2.000, 0.01 -> 2.00", `SELECT string_agg(b.value ->> c.key || ' -> ' || (a.value ->> c.key), ', ' ORDER BY b.key LIKE 'debts%')
		FROM reconciled.heal_log l, jsonb_each(l.before -> 'changed') b, jsonb_each(l.after -> 'changed') a, (VALUES ('qty'), ('amount_usd')) AS c (key)
		WHERE a.key = b.key AND b.value ? c.key`)
	h.expect("3 -> 10", `SELECT trim_scale(b.value::numeric) || ' -> ' || trim_scale(a.value::numeric) FROM reconciled.heal_log l, jsonb_each_text(l.before -> 'shares') b,
		jsonb_each_text(l.after -> 'shares') a WHERE a.key = b.key AND b.value <> ''`)
}
