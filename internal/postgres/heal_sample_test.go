package postgres_test

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/veloxpos/reconciled/healer"
)

// shared are the columns of events.md section 5 that every node must agree on.
var shared = map[string][]string{
	"products": {
		"id", "store_id", "name", "price_bs", "price_usd", "cost_bs", "cost_usd", "low_stock_threshold", "is_active", "category", "sku", "barcode", "product_type", "is_recipe", "is_visible_public", "profit_margin", "description", "image_url", "is_weight_product",
		"public_name", "public_description", "public_image_url", "public_category",
	},
	"customers":           {"id", "store_id", "name", "phone", "note", "updated_at"},
	"cash_sessions":       {"id", "store_id", "opened_by", "opened_at", "opening_amount_bs", "opening_amount_usd", "closed_by", "closed_at", "expected", "counted", "note"},
	"sales":               {"id", "store_id", "cash_session_id", "sold_at", "exchange_rate", "currency", "totals", "payment", "customer_id", "sold_by_user_id", "note", "fiscal_number", "voided_at", "voided_by_user_id", "void_reason"},
	"sale_items":          {"id", "sale_id", "product_id", "variant_id", "lot_id", "qty", "unit_price_bs", "unit_price_usd", "discount_bs", "discount_usd", "is_weight_product", "weight_unit", "weight_value", "price_per_weight_bs", "price_per_weight_usd"},
	"debts":               {"store_id", "sale_id", "customer_id", "amount_bs", "amount_usd", "status", "note", "created_at"},
	"debt_payments":       {"id", "store_id", "debt_id", "amount_bs", "amount_usd", "method", "paid_at", "note"},
	"inventory_movements": {"store_id", "product_id", "variant_id", "warehouse_id", "movement_type", "qty_delta", "unit_cost_bs", "unit_cost_usd", "note", "ref", "from_escrow", "approved", "happened_at"},
}

// The rows of the sample that the backend got wrong, by what names them.
var (
	earlyVoided = "532c6fea-bda1-409e-82f6-dcdf76942c8a" // its void came first and was dropped
	lostReceipt = "81075682-b272-44a7-a521-d2a4d9cf8940" // carries the time of the receipt it overwrote
)

func TestI5RealEventsGiveTheRowsOfTheRealBackend(t *testing.T) {
	h := newHealing(t, healer.Options{})
	h.logSample()
	report := h.heal()
	if report.Checked != 29 || report.Waiting != 1 || report.Semantic != 2 || report.Healed != 26 {
		t.Errorf("report %+v", report.Counts)
	}
	rows := 0
	lines(t, "projected.jsonl", func(line []byte) {
		var want struct {
			Table string
			Row   map[string]any
		}
		if err := json.Unmarshal(line, &want); err != nil {
			t.Fatal(err)
		}
		columns, compared := shared[want.Table]
		if !compared {
			return
		}
		rows++
		where, key := `r.id::text = $1`, want.Row["id"]
		switch {
		case want.Table == "debts" && want.Row["sale_id"] != nil:
			where, key = `r.sale_id::text = $1`, want.Row["sale_id"]
		case want.Table == "inventory_movements" && want.Row["ref"] != nil:
			where = `(r.ref ->> 'sale_id', r.movement_type) = ($1::jsonb ->> 'sale_id', $1::jsonb ->> 'type')`
			key = fmt.Sprintf(`{"sale_id": %q, "type": %q}`, want.Row["ref"].(map[string]any)["sale_id"], want.Row["movement_type"])
		}
		// Through jsonb_populate_record, so that both sides are printed alike.
		var got, expected map[string]any
		var gotText, wantText string
		err := h.owner.QueryRow(h.ctx, fmt.Sprintf(`SELECT to_jsonb(r)::text, to_jsonb(jsonb_populate_record(NULL::public.%[1]s, $2::jsonb))::text
			FROM public.%[1]s r WHERE %[2]s`, want.Table, where), key, encode(t, want.Row)).Scan(&gotText, &wantText)
		if err != nil {
			t.Errorf("%s %v: %v", want.Table, key, err)
			return
		}
		decode(t, gotText, &got)
		decode(t, wantText, &expected)
		for _, column := range columns {
			switch {
			case want.Row["id"] == earlyVoided && (column == "voided_at" || column == "voided_by_user_id" || column == "void_reason"):
			case want.Row["id"] == lostReceipt && column == "happened_at":
			case !reflect.DeepEqual(got[column], expected[column]):
				t.Errorf("%s %v: %s is %v, want %v", want.Table, key, column, got[column], expected[column])
			}
		}
	})
	if rows != 54 {
		t.Errorf("compared %d rows, want 54", rows)
	}
	// And no more rows than those, but for what the backend got wrong.
	for table, want := range map[string]string{
		"products": "1", "customers": "1", "cash_sessions": "1", "sales": "15", "sale_items": "15", "debts": "2", "cash_ledger_entries": "0", "stock_escrow": "0",
		"debt_payments": "2", "inventory_movements": "20", // a payment and a receipt that were overwritten, the reversal of the early void
	} {
		h.expect(want, `SELECT count(*) FROM `+table)
	}
	h.wantWhatTheBackendGotWrong()
	h.expect("2026-11-23 13:17:47.251+00", `SELECT happened_at FROM inventory_movements WHERE id = $1::text::uuid`, lostReceipt)
	// Numbers that a sequence gives are nobody's to invent.
	h.expect("0", `SELECT count(sale_number) FROM sales`)
	h.expect("2 FAC-A-000777", `SELECT count(*) || ' ' || min(invoice_full_number) FROM sales WHERE invoice_number IS NOT NULL`)
	h.expect("0.000", `SELECT stock FROM warehouse_stock`)
	h.expect("26", `SELECT count(*) FROM reconciled.heal_log WHERE strategy = 'native' AND epoch = $1 AND run_id = $2`, h.grant.Epoch, h.grant.Run)
}

// The events of the sample that the backend projected to nothing.
var (
	voidOfEarlyVoided  = "e1e8e098"
	overwrittenReceipt = "783a6a63"
	overwrittenPayment = "dfe31bbf"
)

func TestI5OverTheRealBackendsRowsOnlyItsErrorsAreMended(t *testing.T) {
	h := newHealing(t, healer.Options{})
	h.logSample()
	rows := map[string][]string{}
	lines(t, "projected.jsonl", func(line []byte) {
		var of struct{ Table string }
		decode(t, string(line), &of)
		rows[of.Table] = append(rows[of.Table], string(line))
	})
	for _, table := range []string{
		"products", "customers", "cash_sessions", "sales", "sale_items", "debts", "debt_payments", "inventory_movements", "outbox_entries",
	} {
		for _, row := range rows[table] {
			h.exec(fmt.Sprintf(`INSERT INTO %[1]s SELECT * FROM jsonb_populate_record(NULL::%[1]s, $1::jsonb -> 'row')`, table), row)
		}
	}
	h.mends(3)
	h.wantWhatTheBackendGotWrong()
	h.expect(strings.Join([]string{overwrittenReceipt, overwrittenPayment, voidOfEarlyVoided}, " "),
		`SELECT string_agg(left(event_id::text, 8), ' ' ORDER BY event_id) FROM reconciled.heal_log`)
}

// wantWhatTheBackendGotWrong asserts what is right where the sample's rows are not.
func (h *healing) wantWhatTheBackendGotWrong() {
	h.Helper()
	h.expect("2026-11-23 13:17:47.251+00 early", `SELECT voided_at || ' ' || void_reason FROM sales WHERE id = $1::text::uuid`, earlyVoided)
	h.expect("1.000", `SELECT qty_delta FROM inventory_movements WHERE ref ->> 'sale_id' = $1 AND ref ->> 'reversal' = 'true'`, earlyVoided)
	h.expect("7.000 2026-11-23 13:16:47.251+00", `SELECT qty_delta || ' ' || happened_at FROM inventory_movements WHERE id = 'ce9c4795-eb18-4788-8755-9edf166b702b'`)
	h.expect("3.00 cd2f364d-c70d-48a8-9306-a78eeed66277", `SELECT amount_usd || ' ' || debt_id FROM debt_payments WHERE id = '1234c868-8169-408f-87d5-0da0c4713bab'`)
	h.expect("waiting products fb97f93e-e1ea-421e-a43a-c840b4c8347a",
		`SELECT class || ' ' || waits_table || ' ' || waits_id FROM reconciled.gap WHERE event_id = '65a86da4-eaf8-4e0e-bedd-15ea4b8dd58a'`)
	h.expect("semantic", `SELECT class FROM reconciled.gap WHERE event_id = '4e20d611-caea-438a-90d2-8fa9045352b0'`)
	h.expect("0", `SELECT count(*) FROM debts WHERE sale_id = '2ea485f9-bf06-484b-928d-07781bc6d86b'`)
	h.expect("semantic", `SELECT class FROM reconciled.gap WHERE event_id = '89dc8df6-646c-4ff9-be53-7be2198c3fdb'`)
	h.expect("2", `SELECT count(*) FROM sales WHERE fiscal_number = '777'`) // stored both, renumbered neither
	// 10 + 5 + 7 received, 2 sold, 1 sold and given back twice, 500, and 11 times 1.
	h.expect("-491.000", `SELECT sum(qty_delta) FROM inventory_movements`)
}

func encode(t testing.TB, value any) string {
	t.Helper()
	text, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func decode(t testing.TB, text string, into any) {
	t.Helper()
	if err := json.Unmarshal([]byte(text), into); err != nil {
		t.Fatal(err)
	}
}

func TestI4HealingAgainChangesNothing(t *testing.T) {
	h := newHealing(t, healer.Options{})
	h.logSample()
	h.heal()
	before := h.readModel()
	h.reread()
	report := h.heal()
	if report.Healed != 0 || report.Checked != 29 {
		t.Errorf("second run: %+v", report.Counts)
	}
	if after := h.readModel(); after != before {
		t.Errorf("read model changed\nbefore:\n%s\nafter:\n%s", before, after)
	}
	h.expect("26", `SELECT count(*) FROM reconciled.heal_log`)
	h.expect("0", `SELECT count(*) FROM reconciled.worklist`)
}
