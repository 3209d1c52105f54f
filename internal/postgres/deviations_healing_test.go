package postgres_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/veloxpos/reconciled/healer"
	"github.com/veloxpos/reconciled/internal/fleet"
	"github.com/veloxpos/reconciled/internal/postgres"
	"github.com/veloxpos/reconciled/internal/velox"
)

// What the backend gets wrong in federation and healing, and details of projection.

// online makes an event one of the node's own online API.
func online(e said) said {
	e.device = velox.ServerDevice
	return e
}

// cash is a cash entry of a sale.
func cash(name string, minute int, session any) said {
	return event("cash "+name, velox.CashLedgerEntryCreated, minute, map[string]any{
		"entry_id": id("entry " + name), "request_id": id("request " + name), "entry_type": "sale", "amount_bs": "80.00", "amount_usd": 2,
		"currency": "MIXED", "cash_session_id": session, "sold_at": morning.UnixMilli(),
	})
}

func TestD21ServerMadeEventsAreProjectedAtHome(t *testing.T) {
	h := newHealing(t, healer.Options{})
	h.pushed(right, product("flour", 0), opened(1), received("fifty", 2, flour, 50))
	request := map[string]any{"request_id": "00000000-0000-4000-8000-000000000001"} // of events.md 3.2
	numbered := func(e said) said {
		e.body["request_id"] = request["request_id"]
		return online(e)
	}
	h.log(
		online(cash("one", 3, session)),
		numbered(granted("ten", 4, 10, map[string]any{"expires_at": "2026-12-01T00:00:00Z"})),
		numbered(ofQuota("moved", velox.StockQuotaTransferred, 5, map[string]any{"from_device_id": tillA, "to_device_id": tillB, "qty": 4})),
		numbered(ofQuota("back", velox.StockQuotaReclaimed, 6, map[string]any{"device_id": tillA, "qty_reclaimed": "1.5", "reason": "vencida"})),
	)
	h.mends(4)
	h.expect("a 4.500, b 4.000", shares)
	h.expect(id("quota ten").String()+" 2026-12-01 00:00:00+00", `SELECT concat_ws(' ', id, expires_at) FROM stock_escrow WHERE device_id = $1`, tillA)
	for _, m := range []struct{ id, want string }{
		{"29b8836b-6134-50ea-9f3e-c396705380dc", "transfer_out -10.000 Escrow Grant to device " + tillA.String()},
		{"e6dae938-1afd-5cce-9e18-58c006209289", "transfer_out 0.000"},
		{"0d9c13cc-7ac6-54d4-9463-a5ebfd717cc7", "transfer_in 1.500 vencida"},
	} {
		h.expect(m.want, `SELECT concat_ws(' ', movement_type, qty_delta, note) FROM inventory_movements WHERE id = $1::text::uuid`, m.id)
	}
	h.expect("41.500", `SELECT stock FROM warehouse_stock`)
	h.storeroom().want("")
	h.expect("sale 80.00 2.00 MIXED", `SELECT concat_ws(' ', entry_type, amount_bs, amount_usd, currency) FROM cash_ledger_entries WHERE id = $1`, id("entry one"))
	h.expect("80.00 0.00 2.00 0.00", `SELECT concat_ws(' ', ledger_p_bs, ledger_n_bs, ledger_p_usd, ledger_n_usd) FROM cash_sessions`)
}

func TestD22SaleOfAProductMadeOnlineWaitsForItsRow(t *testing.T) {
	h := newHealing(t, healer.Options{})
	sale := sold("one", 2, nil, flour, rice)
	h.pushed(right, product("flour", 0), opened(1))
	h.log(sale)
	h.exec(`UPDATE events SET projection_status = 'failed', projection_error = 'Dependency not ready: product' WHERE event_id = $1`, sale.event)
	if report := h.mends(0); report.Waiting != 1 {
		t.Errorf("report %+v", report.Counts)
	}
	h.wantGap("waiting products "+rice.String(), sale)
	h.exec(`INSERT INTO products (id, store_id, name) VALUES ($1, $2, 'arroz')`, rice, shop) // copied from where it was made
	h.mends(1)
	h.expect("1 2 2", `SELECT concat_ws(' ', count(*), (SELECT count(*) FROM sale_items), (SELECT count(*) FROM inventory_movements)) FROM sales`)
	h.wantGap("", sale)
}

func TestD23MovementsOfNoEventStayAndCount(t *testing.T) {
	h := newHealing(t, healer.Options{})
	h.pushed(right, product("flour", 0))
	h.exec(`INSERT INTO inventory_movements (id, store_id, product_id, movement_type, qty_delta, happened_at, warehouse_id, note)
		SELECT gen_random_uuid(), $1, $2, kind, qty, now(), $3, 'de la API' FROM (VALUES ('received', 20), ('transfer_out', -5), ('adjust', -1.5)) m (kind, qty)`, shop, flour, mainRoom)
	h.exec(`INSERT INTO warehouse_stock (warehouse_id, product_id, stock) VALUES ($1, $2, 13.5)`, mainRoom, flour)
	h.mends(0)
	h.storeroom().want("")
	h.log(received("ten", 1, flour, 10))
	h.mends(1)
	h.expect("23.500 4", `SELECT stock || ' ' || (SELECT count(*) FROM inventory_movements) FROM warehouse_stock`)
}

func TestD24WhatAnOnlineSaleKnowsMoreIsKeptAtItsOrigin(t *testing.T) {
	h := newHealing(t, healer.Options{})
	large, thin := id("large"), online(sold("online", 2, nil, flour))
	thin.body["cash_session_id"] = nil
	h.pushed(right, product("flour", 0))
	h.exec(`INSERT INTO product_variants (id, product_id, variant_type, variant_value) VALUES ($1, $2, 'talla', 'L')`, large, flour)
	h.log(thin)
	h.exec(`INSERT INTO sales (id, store_id, sold_at, currency, totals, payment, sale_number, invoice_number, fiscal_number, sold_by_user_id)
		SELECT $1, store_id, created_at, 'BS', payload -> 'totals', payload -> 'payment', 17, '000017', 'Z-17', actor_user_id FROM events WHERE event_id = $2`, id("sale online"), thin.event)
	h.exec(`INSERT INTO sale_items (id, sale_id, product_id, variant_id, qty, unit_price_bs, unit_price_usd) VALUES (gen_random_uuid(), $1, $2, $3, 2, 40, 1)`, id("sale online"), flour, large)
	h.exec(`INSERT INTO inventory_movements (id, store_id, product_id, variant_id, movement_type, qty_delta, happened_at, warehouse_id, ref)
		SELECT gen_random_uuid(), $1, $2, $3, 'sold', -2, created_at, $4, jsonb_build_object('sale_id', $5::text) FROM events WHERE event_id = $6`,
		shop, flour, large, id("annex"), id("sale online").String(), thin.event)
	before := h.readModel()
	h.mends(0)
	if after := h.readModel(); after != before {
		t.Errorf("read model\n%s\nwas\n%s", after, before)
	}
	// The other node has the event alone: the base product, from the default warehouse.
	peer := newHealing(t, healer.Options{})
	peer.pushed(right, product("flour", 0))
	peer.log(thin)
	peer.exec(`INSERT INTO outbox_entries (event_id, event_type, store_id, target, status, retry_count) VALUES ($1, 'SaleCreated', $2, 'projection', 'failed', 10)`, thin.event.String(), shop)
	peer.mends(1)
	peer.expect("2.000 base", `SELECT qty || CASE WHEN variant_id IS NULL THEN ' base' END FROM sale_items`)
	peer.expect("-2.000 "+mainRoom.String(), `SELECT qty_delta || ' ' || warehouse_id FROM inventory_movements`)
	peer.expect("0", `SELECT count(*) FILTER (WHERE coalesce(invoice_number, fiscal_number, sale_number::text) IS NOT NULL) FROM sales`)
}

// An online sale on credit has no DebtCreated: its debt is its own to bring back. What the
// online API wrote into one is not held against what the event says.
func TestALostDebtOfAnOnlineSaleIsMadeAgainAtItsOrigin(t *testing.T) {
	h := newHealing(t, healer.Options{})
	sale := online(sold("online", 2, onCredit(maria), flour))
	h.pushed(right, product("flour", 0), opened(0), customerCreated(1))
	h.log(sale)
	h.projects(right, sale)
	h.exec(`UPDATE events SET projection_status = 'pending' WHERE event_id = $1`, sale.event)
	h.exec(`DELETE FROM outbox_entries WHERE event_id = $1`, sale.event.String())
	h.exec(`UPDATE debts SET amount_usd = 1.99`)
	h.mends(0)
	h.exec(`DELETE FROM debts`)
	h.mends(1)
	h.expect("80.00 2.00 open "+maria.String(), `SELECT concat_ws(' ', amount_bs, amount_usd, status, customer_id) FROM debts WHERE sale_id = $1`, id("sale online"))
	void := voided("online", 3)
	h.log(void)
	h.mends(1)
	h.expect("0", `SELECT count(*) FROM debts`)
}

func TestD25NoInvoiceNumberIsTakenFromASeries(t *testing.T) {
	h := newHealing(t, healer.Options{})
	unknown := sold("unknown", 3, map[string]any{"invoice_series_id": id("their series"), "invoice_number": "000009"}, flour)
	h.log(product("flour", 0), opened(1), sold("plain", 2, nil, flour), unknown,
		sold("numbered", 4, map[string]any{"invoice_series_id": series, "invoice_number": "000007"}, flour))
	for range 3 { // attempts burn nothing
		h.heal()
		h.exec(`UPDATE reconciled.gap SET next_attempt = now()`)
	}
	if report := h.mends(0); report.Blocked != 1 {
		t.Errorf("report %+v", report.Counts)
	}
	h.wantGap("blocked invoice_series "+id("their series").String(), unknown)
	h.expect("NULL, FAC-A-000007", `SELECT string_agg(coalesce(invoice_full_number, 'NULL'), ', ' ORDER BY sold_at) FROM sales`)
	h.expect("0 0 0", `SELECT concat_ws(' ', current_number, (SELECT count(*) FROM sale_sequences), (SELECT count(sale_number) FROM sales)) FROM invoice_series`)
}

// invoiced gives a sale an issued fiscal invoice.
func (h *healing) invoiced(sale uuid.UUID) {
	h.Helper()
	h.exec(`INSERT INTO fiscal_invoices (store_id, sale_id, invoice_number, status, issuer_name, issuer_tax_id) VALUES ($1, $2, '000001', 'issued', 'Bodega', 'J-1')`, shop, sale)
}

func TestD26VoidOfAnInvoicedSaleIsAppliedAndToldToTheAccountant(t *testing.T) {
	h := newHealing(t, healer.Options{})
	void := voided("one", 3)
	h.pushed(right, product("flour", 0), opened(1), sold("one", 2, nil, flour))
	h.invoiced(id("sale one"))
	h.log(void)
	h.mends(1)
	h.expect("devuelto", `SELECT void_reason FROM sales`)
	h.expect(`["journal entries of the sale stay", "lots and serials are not given back", "its fiscal invoice is issued"]`,
		`SELECT after -> 'outstanding' FROM reconciled.heal_log WHERE event_id = $1`, void.event)
	h.expect("issued", `SELECT status FROM fiscal_invoices`)
}

func TestD27HealingASaleHasNoSideEffects(t *testing.T) {
	h := newHealing(t, healer.Options{})
	e := sold("one", 2, map[string]any{"generate_fiscal_invoice": true}, flour)
	h.log(product("flour", 0), opened(1), e)
	outside := func() string {
		var tables []string
		for _, table := range []string{"fiscal_invoices", "notifications", "fiscal_sequence_ranges", "outbox_entries", "conflict_audit_log", "sale_payments", "sale_sequences"} {
			tables = append(tables, h.text(`SELECT count(*) || ' `+table+`' FROM `+table))
		}
		return strings.Join(tables, ", ")
	}
	before := outside()
	h.mends(3)
	if after := outside(); after != before {
		t.Errorf("%s, were %s", after, before)
	}
	h.expect(`["journal entry", "message to the customer", "fiscal invoice"]`, `SELECT after -> 'outstanding' FROM reconciled.heal_log WHERE event_id = $1`, e.event)
}

func TestD28PlaceholderIsFilledByTheCustomer(t *testing.T) {
	h := newHealing(t, healer.Options{})
	h.pushed(wrong(fleet.PlaceholdersStay), product("flour", 0), opened(1), sold("credit", 2, onCredit(maria), flour), customerCreated(3))
	h.expect("Cliente offline "+maria.String()[:8], `SELECT name FROM customers`)
	h.mends(1)
	h.expect("María 0414 V-1 m@x.ve 99.50 2026-11-23 08:03:00+00 no note",
		`SELECT concat_ws(' ', name, phone, document_id, email, credit_limit, updated_at) || CASE WHEN note IS NULL THEN ' no note' END FROM customers`)
}

func TestD29CustomersHaveAllTheirFields(t *testing.T) {
	h := newHealing(t, healer.Options{})
	h.pushed(wrong(fleet.CustomersShortened), customerCreated(1),
		event("changed", velox.CustomerUpdated, 2, map[string]any{"customer_id": maria, "patch": map[string]any{"phone": "0416", "credit_limit": "150", "document_id": ""}}))
	h.expect("María 0416", `SELECT concat_ws(' ', name, phone, document_id, email, credit_limit) FROM customers`)
	h.mends(1) // any event of a customer mends the whole row
	h.expect("María 0416 m@x.ve 150.00", `SELECT concat_ws(' ', name, phone, document_id, email, credit_limit) FROM customers`)
}

func TestD30PriceInOneCurrencyLeavesTheOther(t *testing.T) {
	h := newHealing(t, healer.Options{})
	priced := func(name string, minute int, body map[string]any) said {
		body["product_id"] = flour
		return event("price "+name, velox.PriceChanged, minute, body)
	}
	h.pushed(wrong(fleet.OtherPriceZero), product("flour", 0), priced("usd", 5, map[string]any{"price_usd": "2"}))
	h.expect("0.00 2.00", `SELECT price_bs || ' ' || price_usd FROM products`)
	h.mends(1)
	h.expect("40.00 2.00", `SELECT price_bs || ' ' || price_usd FROM products`)
	// One that was made before and comes later does not overrule it.
	h.log(priced("both", 4, map[string]any{"price_bs": 44, "price_usd": 1.1}))
	h.mends(1)
	h.expect("44.00 2.00", `SELECT price_bs || ' ' || price_usd FROM products`)
}

// The backend counts an entry that comes before its session for nothing.
func TestACashEntryThatCameBeforeItsSessionIsCounted(t *testing.T) {
	h := newHealing(t, healer.Options{})
	h.log(cash("one", 90, session)) // in another slot of time
	h.mends(1)
	h.log(opened(1))
	h.exec(`INSERT INTO cash_sessions (id, store_id, opened_by, opened_at, note) VALUES ($1, $2, $3, $4, 'abre')`, session, shop, cashier, "2026-11-23 08:01:00+00")
	h.mends(1)
	h.expect("80.00 2.00", `SELECT concat_ws(' ', ledger_p_bs, ledger_p_usd) FROM cash_sessions`)
}

func TestD31CloseBeforeOpenClosesTheSession(t *testing.T) {
	h := newHealing(t, healer.Options{})
	closing := closed("early", 50, nil)
	h.pushed(right, closing)
	if report := h.mends(0); report.Waiting != 1 {
		t.Errorf("report %+v", report.Counts)
	}
	h.wantGap("waiting cash_sessions "+session.String(), closing)
	h.pushed(right, opened(1))
	h.expect("", `SELECT closed_at FROM cash_sessions`)
	h.mends(1)
	h.expect("2026-11-23 08:01:00+00 2026-11-23 08:50:00+00", `SELECT opened_at || ' ' || closed_at FROM cash_sessions`)
	h.wantGap("", closing)
}

func TestD32HalfOfAProjectionIsMadeWhole(t *testing.T) {
	t.Run("a cash entry without its counters", func(t *testing.T) {
		h := newHealing(t, healer.Options{})
		h.pushed(right, opened(1), cash("one", 2, session))
		h.exec(`UPDATE cash_sessions SET ledger_p_bs = 0, ledger_p_usd = 0`)
		h.mends(1)
		h.expect("80.00 2.00", `SELECT ledger_p_bs || ' ' || ledger_p_usd FROM cash_sessions`)
	})
	t.Run("a movement without its stock", func(t *testing.T) {
		h := newHealing(t, healer.Options{})
		h.pushed(right, product("flour", 0), received("ten", 1, flour, 10), received("five", 2, flour, 5))
		h.exec(`UPDATE warehouse_stock SET stock = 10`)
		h.mends(0)
		h.storeroom().want("flour Principal 15/10 diverged")
		h.repairs(1)
		h.expect("15.000", `SELECT stock FROM warehouse_stock`)
	})
	t.Run("a share without its movement", func(t *testing.T) {
		h := newHealing(t, healer.Options{})
		h.pushed(right, product("flour", 0), received("fifty", 1, flour, 50))
		h.exec(`INSERT INTO stock_escrow (id, store_id, product_id, device_id, qty_granted) VALUES ($1, $2, $3, $4, 10)`, id("quota ten"), shop, flour, tillA)
		h.log(granted("ten", 2, 10, nil))
		h.mends(1)
		h.expect("a 10.000", shares)
		h.expect("40.000", `SELECT stock FROM warehouse_stock`)
	})
	t.Run("a movement without its share", func(t *testing.T) {
		h := newHealing(t, healer.Options{})
		h.pushed(right, product("flour", 0), opened(0), received("fifty", 1, flour, 50), granted("ten", 2, 10, map[string]any{"expires_at": "2026-12-01T00:00:00Z"}),
			saleOf("four", 3, flour, 4, nil))
		share := `SELECT concat_ws(' ', id, qty_granted, expires_at) FROM stock_escrow`
		before := h.text(share)
		h.mends(0)
		h.exec(`DELETE FROM stock_escrow`)
		if err := postgresStore(h).Notice(h.ctx, h.grant); err != nil {
			t.Fatal(err)
		}
		h.mends(1)
		h.expect(before, share)
		h.exec(`UPDATE stock_escrow SET qty_granted = 16`) // the grant, and applied again
		h.reread()
		h.mends(1)
		h.expect(before, share)
		h.expect("40.000", `SELECT stock FROM warehouse_stock`)
	})
	t.Run("a share where no warehouse marks it", func(t *testing.T) {
		h := newHealing(t, healer.Options{})
		h.exec(`UPDATE warehouses SET is_active = false`)
		h.pushed(right, product("flour", 0))
		h.log(granted("ten", 2, 10, nil))
		h.mends(1)
		h.expect("a 10.000", shares)
		h.expect("0", `SELECT count(*) FROM inventory_movements`)
		// Those that the backend has applied count, too.
		five := granted("five", 3, 5, nil)
		h.log(five)
		h.exec(`UPDATE stock_escrow SET qty_granted = qty_granted + 5`)
		h.exec(`INSERT INTO outbox_entries (event_id, event_type, store_id, target, status) VALUES ($1, 'StockQuotaGranted', $2, 'projection', 'processed')`, five.event.String(), shop)
		h.mends(0)
		h.log(granted("one", 4, 1, nil))
		h.mends(1)
		h.expect("a 16.000", shares)
	})
	t.Run("a share whose events came in another order", func(t *testing.T) {
		h := newHealing(t, healer.Options{})
		back := ofQuota("back", velox.StockQuotaReclaimed, 3, map[string]any{"device_id": tillA, "qty_reclaimed": 4})
		h.pushed(right, product("flour", 0), opened(0), received("fifty", 1, flour, 50))
		h.pushed(right, back)
		h.pushed(right, granted("ten", 2, 10, nil))
		h.expect("a 10.000", shares)
		h.mends(1)
		h.expect("a 6.000", shares)
		h.storeroom().want("")
		// A sale took what was there, though its till's clock is behind.
		h.log(saleOf("early", 1, flour, 2, nil))
		h.reread()
		h.mends(1)
		h.expect("a 4.000", shares)
	})
	t.Run("a share of which the log lacks an event", func(t *testing.T) {
		h := newHealing(t, healer.Options{})
		h.pushed(right, product("flour", 0), received("fifty", 1, flour, 50), granted("ten", 2, 10, nil), granted("five", 3, 5, nil))
		h.mends(0)
		h.exec(`DELETE FROM events WHERE event_id = $1`, id("event granted ten"))
		h.reread()
		h.mends(0)
		h.expect("a 15.000", shares)
		h.log(granted("one", 4, 1, nil))
		h.mends(1)
		h.expect("a 16.000", shares)
	})
	t.Run("a share of which an event was altered", func(t *testing.T) {
		h := newHealing(t, healer.Options{})
		h.pushed(right, product("flour", 0), received("fifty", 1, flour, 50), granted("ten", 2, 10, nil), granted("five", 3, 5, nil))
		h.mends(0)
		h.exec(`UPDATE events SET payload = payload || '{"qty_granted": 99}', delta_payload = payload || '{"qty_granted": 99}', full_payload_hash = repeat('0', 64)
			WHERE event_id = $1`, id("event granted ten"))
		h.reread()
		h.mends(0)
		h.expect("a 15.000", shares)
		h.log(granted("one", 4, 1, nil))
		h.mends(1)
		h.expect("a 16.000", shares)
	})
	t.Run("a grant that was asked for twice", func(t *testing.T) {
		h := newHealing(t, healer.Options{})
		again := granted("again", 3, 10, nil)
		again.body["request_id"], again.body["quota_id"] = id("request granted ten"), id("quota ten")
		h.log(product("flour", 0), received("fifty", 1, flour, 50), granted("ten", 2, 10, nil), again)
		h.mends(3)
		h.expect("a 10.000", shares)
		h.expect("40.000", `SELECT stock FROM warehouse_stock`)
	})
}

func TestD34GapsOfEveryStatusAgeAndTypeAreFound(t *testing.T) {
	h := newHealing(t, healer.Options{})
	month := aDay()
	for i := range month {
		month[i].at = month[i].at.AddDate(0, -1, 0)
	}
	var want string
	for _, status := range []string{"pending", "processed", "failed", "discarded"} {
		h.empty()
		h.log(month...)
		h.exec(`UPDATE events SET projection_status = $1`, status)
		h.mends(18) // of 21: two debts are absorbed, one closing is followed by another
		h.expect("3 2", `SELECT count(*) || ' ' || count(voided_at) FROM sales`)
		if got := h.readModel(); want == "" {
			want = got
		} else if got != want {
			t.Errorf("%s: read model\n%s\nwant\n%s", status, got, want)
		}
		h.expect("0", `SELECT count(*) FROM reconciled.gap WHERE class <> 'semantic'`)
	}
}

func TestD35EntryThatPointsToNoEventIsCountedAsDead(t *testing.T) {
	h := newHealing(t, healer.Options{})
	h.pushed(right, product("flour", 0))
	h.exec(`INSERT INTO outbox_entries (event_id, event_type, store_id, target, status, retry_count, error)
		VALUES ($1, 'SaleCreated', $2, 'projection', 'pending', 10, 'Event not found')`, id("never stored").String(), shop)
	h.mends(0)
	if s := h.measured(); s.More.OutboxDead != 1 || s.More.OutboxPending != 0 {
		t.Errorf("%d dead, %d pending", s.More.OutboxDead, s.More.OutboxPending)
	}
}

func TestD36CashEntryOfNoSessionIsBooked(t *testing.T) {
	h := newHealing(t, healer.Options{})
	h.pushed(wrong(fleet.SessionRequired), cash("offline", 2, ""))
	h.exec(`UPDATE events SET projection_status = 'failed', projection_error = 'invalid input syntax for type uuid: ""'`)
	h.expect("0", `SELECT count(*) FROM cash_ledger_entries`)
	h.mends(1)
	h.expect("80.00 no session", `SELECT amount_bs || CASE WHEN cash_session_id IS NULL THEN ' no session' END FROM cash_ledger_entries`)
	h.expect("processed", `SELECT projection_status FROM events`)
}

func TestD37EventWithoutItsIDTouchesNoRow(t *testing.T) {
	h := newHealing(t, healer.Options{})
	h.pushed(right, product("flour", 0), opened(1), customerCreated(2), received("ten", 3, flour, 10), sold("one", 4, onCredit(maria), flour), granted("five", 5, 5, nil))
	before := h.readModel()
	for i, c := range []struct {
		kind    velox.Type
		body    map[string]any
		missing string
	}{
		{velox.SaleVoided, map[string]any{"reason": "x"}, "sale_id"},
		{velox.CashSessionOpened, map[string]any{}, "session_id"},
		{velox.CashSessionClosed, map[string]any{"note": "x"}, "session_id"},
		{velox.ProductCreated, map[string]any{"name": "x"}, "product_id"},
		{velox.ProductUpdated, map[string]any{"patch": map[string]any{"name": "x"}}, "product_id"},
		{velox.ProductDeactivated, map[string]any{}, "product_id"},
		{velox.PriceChanged, map[string]any{"price_bs": 1, "price_usd": 1}, "product_id"},
		{velox.RecipeIngredientsUpdated, map[string]any{"ingredients": []any{}}, "product_id"},
		{velox.CustomerCreated, map[string]any{"name": "x"}, "customer_id"},
		{velox.CustomerUpdated, map[string]any{"patch": map[string]any{"name": "x"}}, "customer_id"},
		{velox.StockReceived, map[string]any{"product_id": flour, "qty": 1}, "movement_id"},
		{velox.StockAdjusted, map[string]any{"product_id": flour, "qty_delta": 1}, "movement_id"},
		{velox.StockDeltaApplied, map[string]any{"product_id": flour, "qty_delta": 1}, "movement_id"},
		{velox.StockQuotaGranted, map[string]any{"product_id": flour, "device_id": tillA, "qty_granted": 1}, "quota_id"},
		{velox.StockQuotaTransferred, map[string]any{"product_id": flour, "from_device_id": tillA, "to_device_id": tillB, "qty": 1}, "request_id"},
		{velox.StockQuotaReclaimed, map[string]any{"product_id": flour, "device_id": tillA, "qty_reclaimed": 1}, "request_id"},
		{velox.SaleCreated, map[string]any{"items": []any{map[string]any{"product_id": flour, "qty": 1}}}, "sale_id"},
		{velox.CashLedgerEntryCreated, map[string]any{"amount_bs": 1, "cash_session_id": session}, "entry_id"},
		{velox.DebtCreated, map[string]any{"customer_id": maria, "amount_usd": 1}, "debt_id"},
		{velox.DebtPaymentRecorded, map[string]any{"debt_id": id("d"), "method": "OTHER"}, "payment_id"},
		{velox.DebtPaymentAdded, map[string]any{"payment_id": id("p"), "method": "OTHER"}, "debt_id"},
	} {
		e := event(fmt.Sprint("without id ", i), c.kind, 10+i, c.body)
		h.log(e)
		h.exec(`UPDATE events SET projection_status = 'processed' WHERE event_id = $1`, e.event) // swallowed
		h.mends(0)
		h.expect(fmt.Sprintf("read %s: %s is missing", c.kind, c.missing), `SELECT reason FROM reconciled.quarantine WHERE event_id = $1`, e.event)
	}
	h.expect("21", `SELECT count(*) FROM reconciled.gap WHERE class = 'poison'`)
	if after := h.readModel(); after != before {
		t.Errorf("read model\n%s\nwas\n%s", after, before)
	}
	h.expect("a 5.000", shares)
}

func TestD38SharesAreOfAVariantAndNeedNoExpiry(t *testing.T) {
	h := newHealing(t, healer.Options{})
	large, small := id("large"), id("small")
	h.pushed(right, product("flour", 0), opened(1))
	h.exec(`INSERT INTO product_variants (id, product_id, variant_type, variant_value) VALUES ($1, $3, 'talla', 'L'), ($2, $3, 'talla', 'S')`, large, small, flour)
	first, second := granted("large", 2, 10, map[string]any{"variant_id": large}), granted("small", 3, 5, map[string]any{"variant_id": small})
	h.pushed(wrong(fleet.QuotasShortened), first, second)
	h.expect("a 10.000", shares)
	if report := h.mends(0); report.Blocked != 1 {
		t.Errorf("report %+v", report.Counts)
	}
	h.expect(fmt.Sprintf("device %s holds another variant of product %s, and the POS's index allows one", tillA, flour),
		`SELECT reason FROM reconciled.gap WHERE event_id = $1`, second.event)
	// A share without an expiry is sold from; the warehouse's stock of the variant stays.
	h.log(saleOf("three", 4, flour, 3, map[string]any{"variant_id": large}))
	h.mends(1)
	h.expect("a 7.000", shares)
	h.expect("-3.000 true", `SELECT concat_ws(' ', qty_delta, from_escrow::text) FROM inventory_movements WHERE movement_type = 'sold'`)
}

func TestD39MovementOfAPurgedEventStays(t *testing.T) {
	h := newHealing(t, healer.Options{})
	h.pushed(right, product("flour", 0), event("adjusted", velox.StockAdjusted, 1, map[string]any{"movement_id": id("m"), "product_id": flour, "qty_delta": 9}))
	h.mends(0)
	h.exec(`DELETE FROM events WHERE type = 'StockAdjusted'`)
	h.mends(0)
	h.expect("9.000 9.000", `SELECT stock || ' ' || (SELECT sum(qty_delta) FROM inventory_movements) FROM warehouse_stock`)
	h.expect("0", `SELECT count(*) FROM reconciled.gap`)
	h.storeroom().want("")
}

func TestD40NumbersOfHealthAreOfTheRowsThemselves(t *testing.T) {
	h := newHealing(t, healer.Options{})
	h.pushed(right, product("flour", 0), opened(1), customerCreated(2), sold("credit", 3, onCredit(maria), flour), sold("gone", 4, onCredit(maria), flour))
	h.pushed(right, voided("gone", 5), owes("absorbed", 6, id("sale credit")), owes("removed", 7, id("sale gone")))
	h.log(sold("waits", 8, nil, rice), sold("poison", 9, map[string]any{"items": []any{}}))
	h.exec(`UPDATE warehouse_stock SET stock = 5`)
	h.mends(0)
	s := h.measured()
	if m := s.Metrics; m.ProjectionGapCount != 0 || m.StockDivergenceCount != 1 || m.NegativeStockCount != 1 {
		t.Errorf("metrics %+v", m)
	}
	if m := s.More; m.SemanticGapCount != 2 || m.WaitingGapCount != 1 || m.PoisonCount != 1 {
		t.Errorf("more %+v", m)
	}
	if _, err := postgres.NewLog(h.site.DB).Pin(h.ctx, shop); err != nil {
		t.Fatal(err)
	}
	if lag := h.measured().Metrics.EventLagCount; lag != 10 {
		t.Errorf("%d events unproven, want all 10", lag)
	}
}
