package postgres_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/veloxpos/reconciled/healer"
	"github.com/veloxpos/reconciled/internal/velox"
)

// malformed is content that no good maker sends, and what the book of gaps then says
// of the event; "" where it is projected all the same.
type malformed struct {
	name string
	kind velox.Type
	body any // members to change of the good content; nil takes one away
	gap  string
}

// good is the content that malformed ones are made of.
func good(kind velox.Type, name string) map[string]any {
	switch kind {
	case velox.SaleCreated:
		return sold(name, 0, nil, flour).body
	case velox.ProductCreated:
		return map[string]any{"product_id": id(name), "name": name}
	case velox.StockReceived:
		return received(name, 0, flour, 1).body
	case velox.DebtCreated:
		return owes(name, 0, nil).body
	case velox.CustomerCreated:
		return map[string]any{"customer_id": id(name), "name": name}
	case velox.CashLedgerEntryCreated:
		return cash(name, 0, session).body
	default:
		return paid(name, 0, "own", 1).body
	}
}

// line is the good line of a sale with members changed.
func line(more map[string]any) map[string]any {
	items := sold("", 0, nil, flour).body["items"].([]any)
	maps.Copy(items[0].(map[string]any), more)
	return map[string]any{"items": items}
}

func TestD04MalformedContentHasAClassAndAMessage(t *testing.T) {
	long := strings.Repeat("x", 300)
	cases := []malformed{
		// Ids.
		{"sale id is a word", velox.SaleCreated, map[string]any{"sale_id": "not-a-uuid"}, `poison: read SaleCreated: sale_id is not a UUID: "not-a-uuid"`},
		{"sale id is a number", velox.SaleCreated, map[string]any{"sale_id": 7}, `poison: read SaleCreated: sale_id is not a UUID: 7`},
		{"sale id is in braces", velox.SaleCreated, map[string]any{"sale_id": "{" + flour.String() + "}"}, `poison: read SaleCreated: sale_id is not a UUID: "{` + flour.String() + `}"`},
		{"no sale id", velox.SaleCreated, map[string]any{"sale_id": nil}, `poison: read SaleCreated: sale_id is missing`},
		{"session is a word", velox.SaleCreated, map[string]any{"cash_session_id": "caja 1"}, `poison: read SaleCreated: cash_session_id is not a UUID: "caja 1"`},
		{"no session", velox.SaleCreated, map[string]any{"cash_session_id": ""}, ``},
		{"warehouse is a word", velox.SaleCreated, map[string]any{"warehouse_id": "tienda"}, ``},
		{"product is a word", velox.SaleCreated, line(map[string]any{"product_id": "harina"}), `poison: read SaleCreated: items[0].product_id is not a UUID: "harina"`},
		{"product is unknown", velox.SaleCreated, line(map[string]any{"product_id": id("unknown")}), `waiting: products ` + id("unknown").String() + ` is not there yet`},
		{"variant is unknown", velox.SaleCreated, line(map[string]any{"variant_id": id("unknown")}), `blocked: product_variants ` + id("unknown").String() + ` does not exist here`},
		{"product id in capitals", velox.SaleCreated, line(map[string]any{"product_id": strings.ToUpper(flour.String())}), ``},
		// Lines.
		{"no items", velox.SaleCreated, map[string]any{"items": nil}, `poison: read SaleCreated: items is missing`},
		{"empty items", velox.SaleCreated, map[string]any{"items": []any{}}, `poison: read SaleCreated: items is not a list of lines: []`},
		{"items is a number", velox.SaleCreated, map[string]any{"items": 7}, `poison: read SaleCreated: items is not a list of lines: 7`},
		{"a line is a number", velox.SaleCreated, map[string]any{"items": []any{7}}, `poison: read SaleCreated: items line 0 is not an object: [7]`},
		// Quantities.
		{"quantity below zero", velox.SaleCreated, line(map[string]any{"qty": -2}), `poison: read SaleCreated: items[0].qty is not above 0: -2`},
		{"quantity of zero", velox.SaleCreated, line(map[string]any{"qty": "0.000"}), `poison: read SaleCreated: items[0].qty is not above 0: "0.000"`},
		{"quantity that rounds to zero", velox.SaleCreated, line(map[string]any{"qty": 0.0004}), `poison: read SaleCreated: items[0].qty is not above 0: 0.0004`},
		{"quantity is text", velox.SaleCreated, line(map[string]any{"qty": " 2.5 "}), ``},
		{"quantity is not a number", velox.SaleCreated, line(map[string]any{"qty": "NaN"}), `poison: read SaleCreated: items[0].qty is not above 0: "NaN"`},
		{"quantity is infinite", velox.SaleCreated, line(map[string]any{"qty": "Infinity"}), `poison: read SaleCreated: items[0].qty does not fit: "Infinity"`},
		{"quantity of 1e30", velox.SaleCreated, line(map[string]any{"qty": json.RawMessage("1e30")}), `poison: read SaleCreated: items[0].qty does not fit: 1000000000000000000000000000000`},
		{"weight below zero", velox.SaleCreated, line(map[string]any{"is_weight_product": "yes", "weight_value": "-1"}), `poison: read SaleCreated: items[0].weight_value is not above 0: "-1"`},
		{"weight for a quantity", velox.SaleCreated, line(map[string]any{"qty": -1, "is_weight_product": 1, "weight_value": "0.350"}), ``},
		{"receipt below zero", velox.StockReceived, map[string]any{"qty": "-5"}, ``},
		{"no quantity received", velox.StockReceived, map[string]any{"qty": nil}, `poison: read StockReceived: qty is missing`},
		// Amounts.
		{"amounts are text", velox.DebtCreated, map[string]any{"amount_bs": "1e3", "amount_usd": " 7 "}, ``},
		{"amount is a word", velox.DebtCreated, map[string]any{"amount_bs": "NaN", "amount_usd": "12abc"}, ``},
		{"amount of 1e30", velox.DebtCreated, map[string]any{"amount_usd": json.RawMessage("1e30")}, `poison: read DebtCreated: amount_usd does not fit: 1000000000000000000000000000000`},
		{"amount of 1e999", velox.DebtCreated, map[string]any{"amount_usd": "1e999"}, `poison: read DebtCreated: amount_usd does not fit: "1e999"`},
		{"amount is an object", velox.DebtCreated, map[string]any{"amount_usd": map[string]any{}}, `poison: read DebtCreated: amount_usd is not a number: {}`},
		{"payment below zero", velox.DebtPaymentRecorded, map[string]any{"amount_usd": "-1"}, ``},
		{"payment by no method", velox.DebtPaymentRecorded, map[string]any{"method": ""}, `poison: read DebtPaymentRecorded: method is empty: ""`},
		{"price of 1e30", velox.ProductCreated, map[string]any{"price_bs": "1e30"}, `poison: read ProductCreated: price_bs does not fit: "1e30"`},
		{"product without a name", velox.ProductCreated, map[string]any{"name": ""}, `poison: read ProductCreated: name is empty: ""`},
		// Currencies and other words.
		{"sale in euros", velox.SaleCreated, map[string]any{"currency": "EUR"}, ``},
		{"cash in euros", velox.CashLedgerEntryCreated, map[string]any{"currency": "EUR"}, ``},
		{"cash in a long word", velox.CashLedgerEntryCreated, map[string]any{"currency": "bolívares soberanos"}, `poison: value does not fit its column`},
		{"long e-mail", velox.CustomerCreated, map[string]any{"email": long}, `poison: value does not fit its column`},
		{"payment is a word", velox.SaleCreated, map[string]any{"payment": "FIAO"}, ``},
		// Times.
		{"sold in 1970", velox.SaleCreated, map[string]any{"sold_at": 1}, ``},
		{"sold in 2262", velox.SaleCreated, map[string]any{"sold_at": int64(9223372036855)}, ``},
		{"sold in the year 10000", velox.SaleCreated, map[string]any{"sold_at": int64(253402300800000)}, `poison: read SaleCreated: sold_at is not a time: 253402300800000`},
		{"sold yesterday", velox.SaleCreated, map[string]any{"sold_at": "ayer"}, `poison: read SaleCreated: sold_at is not a time: "ayer"`},
		{"sold at digits", velox.SaleCreated, map[string]any{"sold_at": "1795439777065"}, `poison: read SaleCreated: sold_at is not a time: "1795439777065"`},
		// No object at all.
		{"a list", velox.SaleCreated, []any{}, `poison: read SaleCreated: payload is not an object: []`},
		{"text", velox.StockReceived, "text", `poison: read StockReceived: payload is not an object: "text"`},
		{"null", velox.DebtCreated, json.RawMessage("null"), `poison: read DebtCreated: payload is not an object: null`},
	}
	h := newHealing(t, healer.Options{Batch: 10})
	var all []said
	for i, c := range cases {
		e := event(c.name, c.kind, 100+i, good(c.kind, c.name))
		if members, ok := c.body.(map[string]any); ok {
			maps.Copy(e.body, members)
			maps.DeleteFunc(e.body, func(_ string, value any) bool { return value == nil })
		}
		all = append(all, e)
	}
	h.log(slices.Concat(aDay()[:11], all, aDay()[11:])...)
	for i, c := range cases {
		if _, ok := c.body.(map[string]any); !ok {
			text, err := json.Marshal(c.body)
			if err != nil {
				t.Fatal(err)
			}
			h.exec(`UPDATE events SET payload = $2, delta_payload = NULL WHERE event_id = $1`, all[i].event, string(text))
		}
	}
	// The envelope's time is a till's, too.
	clocks := []struct {
		name, at, gap string
		e             said
	}{
		{"product in infinity", "infinity", ``, product("of the end", 0)},
		{"product before all time", "-infinity", ``, product("of the beginning", 0)},
		{"receipt of 1970", "1970-01-01Z", ``, received("of 1970", 0, flour, 1)},
		{"receipt of 2262", "2262-04-12Z", ``, received("of 2262", 0, flour, 1)},
		{"receipt in infinity", "infinity", `poison: read StockReceived: created_at is no time of this calendar: 9223372036854775807 ms`, received("of the end", 0, flour, 1)},
		{"sale in infinity", "infinity", `poison: read SaleCreated: sold_at is missing`, sold("of the end", 0, nil, flour)},
		{"sale in infinity that says when", "infinity", ``, sold("at the end", 0, map[string]any{"sold_at": morning.Format(time.RFC3339)}, flour)},
		{
			"customer in infinity", "infinity", `poison: read CustomerCreated: created_at is no time of this calendar: 9223372036854775807 ms`,
			event("customer of the end", velox.CustomerCreated, 0, map[string]any{"customer_id": id("of the end"), "name": "x"}),
		},
	}
	for _, c := range clocks {
		h.log(c.e)
		h.exec(`UPDATE events SET created_at = $2::text::timestamptz WHERE event_id = $1`, c.e.event, c.at)
	}
	report := h.heal()
	if report.Failed > 0 || report.Backend > 0 {
		t.Errorf("report %+v", report.Counts)
	}
	expect := func(name, gap string, event uuid.UUID) {
		t.Helper()
		got := h.text(`SELECT class || ': ' || reason FROM reconciled.gap WHERE event_id = $1`, event)
		if got != gap && (gap != "poison: value does not fit its column" || !strings.HasPrefix(got, gap)) {
			t.Errorf("%s:\n got %q\nwant %q", name, got, gap)
		}
		quarantined := h.text(`SELECT count(*) FROM reconciled.quarantine WHERE event_id = $1`, event)
		if want := fmt.Sprint(strings.Count(gap, "poison: ")); quarantined != want {
			t.Errorf("%s: %s entries in quarantine, want %s", name, quarantined, want)
		}
	}
	for i, c := range cases {
		expect(c.name, c.gap, all[i].event)
	}
	for _, c := range clocks {
		expect(c.name, c.gap, c.e.event)
	}
	// The good ones among them went their way in the same run.
	for _, e := range aDay() {
		if got := h.text(`SELECT class FROM reconciled.gap WHERE event_id = $1 AND class <> 'semantic'`, e.event); got != "" {
			t.Errorf("%s %s is %s", e.kind, e.event, got)
		}
	}
	h.expect("3 2", `SELECT count(*) || ' ' || count(voided_at) FROM sales WHERE id = ANY($1)`, []uuid.UUID{id("sale cash"), id("sale credit"), id("sale returned")})
	h.expect("EUR", `SELECT currency FROM sales WHERE id = $1`, id("sale sale in euros"))
	h.expect("1000.00 7.00, 0.00 0.00", `SELECT string_agg(amount_bs || ' ' || amount_usd, ', ' ORDER BY amount_bs DESC) FROM debts WHERE id = ANY($1)`,
		[]uuid.UUID{id("debt amounts are text"), id("debt amount is a word")})
	h.mends(0)
}
