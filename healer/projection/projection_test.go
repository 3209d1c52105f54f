package projection

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"pgregory.net/rapid"

	"github.com/veloxpos/reconciled/internal/velox"
)

var (
	store = id(1)
	other = id(2)
	till  = id(3)
	clerk = id(4)
)

const at velox.Millis = 1_795_439_777_065 // 2026-11-23T13:16:17.065Z

// id is a readable UUID.
func id(n int) uuid.UUID { return uuid.MustParse(fmt.Sprintf("00000000-0000-4000-8000-%012d", n)) }

func event(kind velox.Type, payload string) Event {
	return Event{Event: velox.Event{
		ID: id(900), Store: store, Device: till, Seq: 7, Type: kind, CreatedAt: at,
		Actor: some(clerk), Payload: json.RawMessage(payload), ConflictStatus: velox.Resolved,
	}}
}

// withIDs writes #n for the n-th id.
func withIDs(payload string) string {
	for n := range 40 {
		payload = strings.ReplaceAll(payload, fmt.Sprintf("#%d#", n), id(n).String())
	}
	return payload
}

// owned makes the facts that rows exist in the store.
func owned(refs ...Ref) Facts {
	f := Facts{Rows: map[Ref]uuid.UUID{}, Warehouses: []Warehouse{
		{ID: id(30), Name: "B", Active: true, Default: true}, {ID: id(31), Name: "A", Active: true}, {ID: id(32), Name: "0"},
	}}
	for _, r := range refs {
		f.Rows[r] = store
	}
	return f
}

func plan(t *testing.T, e Event, f Facts) Outcome {
	t.Helper()
	intent, err := Read(e)
	if err != nil {
		t.Fatalf("read: %v", err)
	}
	return intent.Plan(f)
}

// column prints a value of a row as JSON.
func column(t *testing.T, values map[string]any, name string) string {
	t.Helper()
	value, set := values[name]
	if !set {
		return "unset"
	}
	text, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestEachTypeGivesItsRow(t *testing.T) {
	parents := owned(Ref{Products, id(10)}, Ref{Products, id(11)}, Ref{Sessions, id(12)}, Ref{Customers, id(13)},
		Ref{Sales, id(14)}, Ref{Debts, id(15)}, Ref{SeriesTable, id(16)})
	parents.Rows[Ref{Profiles, clerk}], parents.Rows[Ref{Variants, id(17)}] = uuid.Nil, uuid.Nil
	parents.Series = map[uuid.UUID]Series{id(16): {Code: "A", Prefix: "FAC"}}
	for _, c := range []struct {
		name    string
		kind    velox.Type
		payload string
		table   Table
		want    map[string]string
	}{
		{
			"product, numbers as text and as nonsense", velox.ProductCreated,
			`{"product_id": "#20#", "name": "Harina", "price_bs": " 40.005 ", "price_usd": "", "cost_bs": "12abc", "cost_usd": null,
			  "low_stock_threshold": "0x10", "profit_margin": true, "is_recipe": 1, "sku": 0, "barcode": 759.0, "is_active": 0}`,
			Products,
			map[string]string{
				"id": `"#20#"`, "store_id": `"#1#"`, "name": `"Harina"`, "price_bs": `"40.01"`, "price_usd": `"0.00"`, "cost_bs": `"0"`,
				"cost_usd": `"0.00"`, "low_stock_threshold": `"16"`, "profit_margin": `"1.00"`, "is_recipe": "true", "product_type": `"prepared"`,
				"sku": "null", "barcode": `"759"`, "is_active": "true", "is_visible_public": "false", "updated_at": "unset",
			},
		},
		{
			"product with less than half a cent below nothing", velox.ProductCreated, `{"product_id": "#20#", "name": "x", "price_bs": -0.001, "cost_bs": "-0.004", "price_usd": "-0.005"}`,
			Products,
			map[string]string{"price_bs": `"0.00"`, "cost_bs": `"0.00"`, "price_usd": `"-0.01"`},
		},
		{
			"customer with what the backend drops", velox.CustomerCreated,
			`{"customer_id": "#20#", "name": "María", "phone": "", "document_id": "V-1", "email": "m@x.ve", "credit_limit": "1e2"}`,
			Customers,
			map[string]string{
				"name": `"María"`, "phone": "null", "document_id": `"V-1"`, "email": `"m@x.ve"`, "credit_limit": `"100.00"`,
				"updated_at": `"2026-11-23T13:16:17.065Z"`,
			},
		},
		{
			"session without a time of its own", velox.CashSessionOpened, `{"session_id": "#20#", "opened_at": "", "opening_amount_usd": "1.005"}`,
			Sessions,
			map[string]string{"opened_at": `"2026-11-23T13:16:17.065Z"`, "opened_by": `"#4#"`, "opening_amount_bs": `"0.00"`, "opening_amount_usd": `"1.01"`, "note": "null"},
		},
		{
			"receipt to a warehouse of nobody", velox.StockReceived,
			`{"movement_id": "#20#", "product_id": "#10#", "qty": "1.0005", "warehouse_id": "rubbish", "variant_id": "#17#", "unit_cost_bs": 3, "ref": {"a": 1}}`,
			Movements,
			map[string]string{
				"movement_type": `"received"`, "qty_delta": `"1.001"`, "warehouse_id": `"#30#"`, "variant_id": `"#17#"`, "unit_cost_bs": `"3.00"`,
				"ref": `{"a":1}`, "happened_at": `"2026-11-23T13:16:17.065Z"`, "from_escrow": "false",
			},
		},
		{
			"adjustment below zero", velox.StockAdjusted, `{"movement_id": "#20#", "product_id": "#10#", "qty_delta": -2.5, "warehouse_id": "#32#", "ref": {"ignored": 1}}`,
			Movements,
			map[string]string{"movement_type": `"adjust"`, "qty_delta": `"-2.500"`, "warehouse_id": `"#32#"`, "ref": "null", "unit_cost_bs": `"0"`},
		},
		{
			"delta with a reason", velox.StockDeltaApplied, `{"movement_id": "#20#", "product_id": "#10#", "qty_delta": 1, "reason": "conteo", "request_id": "r", "warehouse_id": ""}`,
			Movements,
			map[string]string{"movement_type": `"adjust"`, "note": `"conteo"`, "ref": `{"reason":"conteo","request_id":"r"}`, "warehouse_id": `"#30#"`},
		},
		{
			"sale with the discount where makers write it", velox.SaleCreated,
			`{"sale_id": "#20#", "items": [{"product_id": "#10#", "qty": 1}], "totals": {"discount_bs": "1.50", "discount_total_bs": 9, "discount_total_usd": 0.1, "total_bs": "x"},
			  "sold_at": "2026-11-23T09:16:17.5-04:00", "exchange_rate": "36.1234567", "cash_session_id": "", "fiscal_number": 777, "invoice_series_id": "#16#", "invoice_number": "000777"}`,
			Sales,
			map[string]string{
				"sold_at": `"2026-11-23T13:16:17.500Z"`, "exchange_rate": `"36.123457"`, "currency": `"BS"`, "payment": `{"method":"UNKNOWN"}`, "cash_session_id": "null",
				"totals":        `{"discount_bs":1.5,"discount_usd":0.1,"subtotal_bs":0,"subtotal_usd":0,"total_bs":0,"total_usd":0}`,
				"fiscal_number": `"777"`, "invoice_series_id": `"#16#"`, "invoice_number": `"000777"`, "invoice_full_number": `"FAC-A-000777"`,
				"sale_number": "unset", "sold_by_user_id": `"#4#"`, "customer_id": "null",
			},
		},
		{
			"debt with an empty sale", velox.DebtCreated, `{"debt_id": "#20#", "customer_id": "#13#", "sale_id": "", "amount_usd": "10", "created_at": 1795439777066, "status": "paid"}`,
			Debts,
			map[string]string{"sale_id": "null", "amount_bs": `"0.00"`, "amount_usd": `"10.00"`, "status": `"open"`, "created_at": `"2026-11-23T13:16:17.066Z"`},
		},
		{
			"payment", velox.DebtPaymentAdded, `{"payment_id": "#20#", "debt_id": "#15#", "method": "ROLLOVER", "amount_bs": 1.005, "paid_at": "2026-11-23"}`,
			DebtPayments,
			map[string]string{"debt_id": `"#15#"`, "method": `"ROLLOVER"`, "amount_bs": `"1.01"`, "paid_at": `"2026-11-23T00:00:00.000Z"`},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			out := plan(t, event(c.kind, withIDs(c.payload)), parents)
			if out.Class != Actionable {
				t.Fatalf("%s: %s", out.Class, out.Reason)
			}
			row := out.Changes.Insert
			if row.Table != c.table || out.Changes.Claims() != (Ref{c.table, id(20)}) {
				t.Errorf("claims %v", out.Changes.Claims())
			}
			for name, want := range c.want {
				if got := column(t, row.Values, name); got != withIDs(want) {
					t.Errorf("%s is %s, want %s", name, got, withIDs(want))
				}
			}
			// Once its row is there, the event is done.
			after := owned(Ref{c.table, id(20)})
			after.Bodies = map[uuid.UUID]Body{id(20): {
				Items: []Item{{
					ID: id(39), Product: id(10), Qty: "1.000", PriceBs: "0.0000", PriceUSD: "0.0000", DiscountBs: "0.00", DiscountUSD: "0.00",
				}},
				Movements: []Movement{{Product: id(10), Qty: "-1.000"}},
			}}
			if again := plan(t, event(c.kind, withIDs(c.payload)), after); again.Class != Done {
				t.Errorf("projected, and yet %s: %s", again.Class, again.Reason)
			}
		})
	}
}

func TestPoisonNamesTheMemberAndItsValue(t *testing.T) {
	long := strings.Repeat("x", 500)
	sale := func(more string) string {
		return `{"sale_id": "#20#", "items": [{"product_id": "#10#", "qty": 1}]` + more + `}`
	}
	for _, c := range []struct {
		kind          velox.Type
		payload, want string
	}{
		{velox.ProductCreated, `7`, `payload is not an object: 7`},
		{velox.ProductCreated, `{"name": "x"}`, `product_id is missing`},
		{velox.ProductCreated, `{"product_id": "#20#", "name": ""}`, `name is empty: ""`},
		{velox.ProductCreated, `{"product_id": "{00000000-0000-4000-8000-000000000020}", "name": "x"}`, `product_id is not a UUID: "{0000`},
		{velox.ProductCreated, `{"product_id": "#20#", "name": "x", "price_bs": 1e30}`, `price_bs does not fit: 1e30`},
		{velox.ProductCreated, `{"product_id": "#20#", "name": "x", "price_bs": "1e999999999"}`, `price_bs does not fit`},
		{velox.ProductCreated, `{"product_id": "#20#", "name": "x", "price_bs": "-Infinity"}`, `price_bs does not fit: "-Infinity"`},
		{velox.ProductCreated, `{"product_id": "#20#", "name": "x", "price_bs": {"a": 1}}`, `price_bs is not a number: {"a": 1}`},
		{velox.CustomerCreated, `{"customer_id": "` + long + `", "name": "x"}`, `customer_id is not a UUID: "` + long[:64] + `…"`},
		{velox.CashSessionOpened, `{"session_id": "#20#", "opened_at": "1795439777065"}`, `opened_at is not a time: "1795439777065"`},
		{velox.CashSessionClosed, `{"session_id": "#20#", "closed_at": 1e300}`, `closed_at is not a time: 1e300`},
		{velox.CashSessionClosed, `{"cash_session_id": "#20#"}`, `session_id is missing`},
		{velox.StockReceived, `{"movement_id": "#20#", "product_id": "#10#"}`, `qty is missing`},
		{velox.StockDeltaApplied, `{"product_id": "#10#", "qty_delta": 1}`, `movement_id is missing`},
		{velox.StockAdjusted, `{"movement_id": "#20#", "product_id": "#10#", "qty_delta": 1, "variant_id": "v"}`, `variant_id is not a UUID: "v"`},
		{velox.SaleCreated, `{"sale_id": "not-a-uuid", "items": [{}]}`, `sale_id is not a UUID: "not-a-uuid"`},
		{velox.SaleCreated, `{"sale_id": "#20#"}`, `items is missing`},
		{velox.SaleCreated, `{"sale_id": "#20#", "items": []}`, `items is not a list of lines: []`},
		{velox.SaleCreated, `{"sale_id": "#20#", "items": [{"product_id": "#10#", "qty": 1}, {"product_id": 5}]}`, `items[1].product_id is not a UUID: 5`},
		{velox.SaleCreated, `{"sale_id": "#20#", "items": [{"product_id": "#10#", "qty": 1, "item_id": "#11#"}, {"product_id": "#10#", "qty": 1, "item_id": "#11#"}]}`, `items[1].item_id is that of another line`},
		{velox.SaleCreated, `{"sale_id": "#20#", "items": [{"product_id": "#10#", "qty": "-1"}]}`, `items[0].qty is not above 0: "-1"`},
		{velox.SaleCreated, `{"sale_id": "#20#", "items": [{"product_id": "#10#", "qty": "NaN"}]}`, `items[0].qty is not above 0: "NaN"`},
		{velox.SaleCreated, `{"sale_id": "#20#", "items": [{"product_id": "#10#"}]}`, `items[0].qty is missing`},
		{velox.SaleCreated, `{"sale_id": "#20#", "items": [{"product_id": "#10#", "qty": 1, "is_weight_product": true, "weight_value": -0.5}]}`, `items[0].weight_value is not above 0: -0.5`},
		{velox.PriceChanged, `{}`, `product_id is missing`},
		{velox.ProductUpdated, `{"product_id": "#20#"}`, `patch is missing`},
		{velox.ProductUpdated, `{"product_id": "#20#", "patch": {"name": null}}`, `patch.name is missing`},
		{velox.CustomerUpdated, `{"customer_id": "#20#", "patch": [1]}`, `patch is not an object: [1]`},
		{velox.RecipeIngredientsUpdated, `{"product_id": "#20#", "ingredients": [{"ingredient_product_id": "x", "qty": 1}]}`, `ingredients[0].ingredient_product_id is not a UUID: "x"`},
		{velox.RecipeIngredientsUpdated, `{"product_id": "#20#", "ingredients": null}`, `ingredients is missing`},
		{velox.RecipeIngredientsUpdated, `{"product_id": "#20#"}`, `ingredients is missing`},
		{velox.StockQuotaGranted, `{"quota_id": "#20#", "product_id": "#10#", "device_id": "#3#", "qty_granted": -1}`, `qty_granted is not above 0: -1`},
		{velox.StockQuotaTransferred, `{"from_device_id": "#3#", "to_device_id": "#4#", "product_id": "#10#", "qty": 1}`, `request_id is missing`},
		{velox.StockQuotaReclaimed, `{"device_id": "#3#", "product_id": "#10#", "qty_reclaimed": 1, "request_id": ""}`, `request_id is empty: ""`},
		{velox.CashLedgerEntryCreated, `{"amount_bs": 1}`, `entry_id is missing`},
		{velox.SaleCreated, sale(`, "customer": {"customer_id": "yo"}`), `customer.customer_id is not a UUID: "yo"`},
		{velox.SaleCreated, sale(`, "totals": {"total_bs": []}`), `totals.total_bs is not a number: []`},
		{velox.SaleVoided, `{"sale_id": null}`, `sale_id is missing`},
		{velox.SaleVoided, `{"sale_id": "#20#", "voided_at": true}`, `voided_at is not a time: true`},
		{velox.DebtCreated, `{"debt_id": "#20#"}`, `customer_id is missing`},
		{velox.DebtPaymentRecorded, `{"payment_id": "#20#", "debt_id": "#15#"}`, `method is missing`},
	} {
		_, err := Read(event(c.kind, withIDs(c.payload)))
		if err == nil || !strings.Contains(err.Error(), withIDs(c.want)) || !strings.Contains(err.Error(), string(c.kind)) {
			t.Errorf("%s %s\n got %v\nwant %s", c.kind, c.payload, err, c.want)
		}
		if err != nil && len(err.Error()) > 200 {
			t.Errorf("%s: an error of %d bytes", c.kind, len(err.Error()))
		}
	}
	timeless := event(velox.StockReceived, withIDs(`{"movement_id": "#20#", "product_id": "#10#", "qty": 1}`))
	timeless.CreatedAt = velox.MaxMillis
	if _, err := Read(timeless); err == nil || !strings.Contains(err.Error(), "created_at is no time") {
		t.Errorf("infinite created_at: %v", err)
	}
}

// The marker's id comes of the quota's id as the maker spelt it (events.md 3.2), and a
// share that is said to end at no time has no end.
func TestAGrantIsMarkedAsItsMakerSpeltIt(t *testing.T) {
	const quota = "00000000-0000-4000-8000-00000000000A"
	for _, ends := range []string{`null`, `""`, `0`, `false`} {
		out := plan(t, event(velox.StockQuotaGranted, withIDs(`{"quota_id": "`+quota+`", "product_id": "#10#", "device_id": "#3#", "qty_granted": 2, "expires_at": `+ends+`}`)),
			owned(Ref{Products, id(10)}))
		if out.Class != Actionable {
			t.Fatalf("%s: %s", out.Class, out.Reason)
		}
		if want := uuid.NewSHA1(quotaNamespace, []byte("grant-"+quota)); out.Changes.Claims() != (Ref{Movements, want}) {
			t.Errorf("claims %v, want movement %s", out.Changes.Claims(), want)
		}
		if grant := out.Changes.Escrow[0]; grant.Expires != nil || grant.Qty != "2.000" || grant.Row != uuid.MustParse(quota) {
			t.Errorf("expires_at %s: share %+v", ends, grant)
		}
	}
}

func TestOnlyTheFirstUserOfASaleMatters(t *testing.T) {
	for payload, want := range map[string]string{
		`"sold_by_user_id": "#5#"`: "#5#",
		`"sold_by_user_id": "", "metadata": {"user_id": "00000000-0000-0000-0000-000000000002", "actor_user_id": "#6#"}`: "#6#",
		`"note": "nobody"`: "",
	} {
		e := event(velox.SaleCreated, withIDs(`{"sale_id": "#20#", "items": [{"product_id": "#10#", "qty": 1}], `+payload+`}`))
		e.Actor = some(velox.NoActor)
		intent, err := Read(e)
		if err != nil {
			t.Fatal(err)
		}
		got := intent.shape.(sale).seller
		if want == "" && got.Valid || want != "" && got.UUID.String() != withIDs(want) {
			t.Errorf("%s: seller %v", payload, got)
		}
	}
	e := event(velox.SaleCreated, withIDs(`{"sale_id": "#20#", "items": [{"product_id": "#10#", "qty": 1}], "user_id": "garbage"}`))
	if _, err := Read(e); err != nil {
		t.Errorf("the actor is known, and yet: %v", err)
	}
}

func TestASaleMovesStockAndOwesMoney(t *testing.T) {
	e := event(velox.SaleCreated, withIDs(`{"sale_id": "#20#", "customer_id": "#13#", "customer_name": "Pedro", "payment": {"method": "FIAO", "x": 1},
		"totals": {"total_bs": 80.005, "total_usd": "2"}, "items": [
			{"product_id": "#10#", "qty": 2, "item_id": "#21#"},
			{"product_id": "#11#", "qty": 1, "is_weight_product": "yes", "weight_value": "0.3505", "weight_unit": "kg"}]}`))
	facts := owned(Ref{Products, id(10)}, Ref{Products, id(11)})
	facts.Rows[Ref{Profiles, clerk}] = uuid.Nil
	out := plan(t, e, facts)
	if out.Class != Actionable {
		t.Fatalf("%s: %s", out.Class, out.Reason)
	}
	var got []string
	for _, row := range out.Changes.Dependents {
		line := string(row.Table)
		for _, name := range []string{"qty", "qty_delta", "weight_value", "name", "amount_bs", "amount_usd", "warehouse_id"} {
			if value := column(t, row.Values, name); value != "unset" && value != "null" {
				line += " " + value
			}
		}
		got = append(got, line)
	}
	want := []string{
		`customers "Pedro"`, `sale_items "2.000"`, `sale_items "0.351" "0.351"`,
		withIDs(`inventory_movements "-2.000" "#30#"`), withIDs(`inventory_movements "-0.351" "#30#"`), `debts "80.01" "2.00"`,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("dependents (-want +got)\n%s", diff)
	}
	stock := []StockKey{{some(id(30)), id(10), uuid.NullUUID{}}, {some(id(30)), id(11), uuid.NullUUID{}}}
	if diff := cmp.Diff(stock, out.Changes.Stock); diff != "" {
		t.Errorf("totals (-want +got)\n%s", diff)
	}
	// Drawn ids would double rows when a plan is made again.
	if diff := cmp.Diff(out, plan(t, e, facts)); diff != "" {
		t.Errorf("another plan for the same facts\n%s", diff)
	}
	// What the ledger and the debts have already is not written again.
	facts.Bodies = map[uuid.UUID]Body{id(20): {Movements: []Movement{{Product: id(10), Qty: "-2.000"}, {Product: id(11), Qty: "0.351", Reversal: true}}}}
	facts.DebtOf = map[uuid.UUID]Debt{id(20): {ID: id(22)}}
	out = plan(t, e, facts)
	if n := len(out.Changes.Dependents); n != 4 || out.Changes.Bare || len(out.Changes.Stock) != 1 {
		t.Errorf("%d dependents, %d totals beside leftovers, want 4 and 1", n, len(out.Changes.Stock))
	}
}

func TestOnlyWholeCreditMakesADebt(t *testing.T) {
	for payload, want := range map[string]int{
		`"customer_id": "#13#", "payment": {"method": "FIAO"}`: 1, `"payment": {"method": "FIAO"}`: 0,
		`"customer_id": "#13#", "payment": {"method": "fiao"}`: 0, `"customer_id": "#13#", "payment": {"method": "SPLIT", "split_payments": [{"method": "FIAO"}]}`: 0,
	} {
		facts := owned(Ref{Products, id(10)}, Ref{Customers, id(13)})
		facts.Rows[Ref{Profiles, clerk}] = uuid.Nil
		out := plan(t, event(velox.SaleCreated, withIDs(`{"sale_id": "#20#", "items": [{"product_id": "#10#", "qty": 1}], `+payload+`}`)), facts)
		debts := 0
		for _, row := range out.Changes.Dependents {
			if row.Table == Debts {
				debts++
			}
		}
		if out.Class != Actionable || debts != want {
			t.Errorf("%s: %s, %d debts, want %d", payload, out.Class, debts, want)
		}
	}
}

func TestAVoidGivesBackWhatWasSold(t *testing.T) {
	e := event(velox.SaleVoided, withIDs(`{"sale_id": "#20#", "voided_at": 1795439777066, "voided_by_user_id": "", "reason": 0}`))
	facts := owned(Ref{Sales, id(20)})
	facts.Bodies = map[uuid.UUID]Body{id(20): {
		Items: []Item{
			{ID: id(21), Product: id(10), Qty: "2.000"},
			{ID: id(22), Product: id(10), Variant: some(id(17)), Qty: "1.000"},
			{ID: id(23), Product: id(11), Qty: "5.000"},
			{ID: id(24), Product: id(12), Qty: "0.000"},
		},
		Movements: []Movement{
			{Product: id(10), Qty: "-2.000", Warehouse: some(id(31))},
			{Product: id(10), Qty: "-1.000", Warehouse: some(id(32))},
			{Product: id(11), Qty: "-5.000", Warehouse: some(id(31))},
			{Product: id(11), Qty: "5.000", Reversal: true},
		},
	}}
	out := plan(t, e, facts)
	if out.Class != Actionable || out.Changes.DebtOf != some(id(20)) || out.Changes.Claims() != (Ref{Sales, id(20)}) {
		t.Fatalf("%+v", out)
	}
	if set := out.Changes.Update.Set; column(t, set, "voided_at") != `"2026-11-23T13:16:17.066Z"` || column(t, set, "voided_by_user_id") != "null" || set["void_reason"] != nil {
		t.Errorf("set %v", set)
	}
	var got []string
	for _, row := range out.Changes.Dependents {
		got = append(got, fmt.Sprint(row.Values["movement_type"], " ", row.Values["qty_delta"], " ", column(t, row.Values, "warehouse_id"), " ", column(t, row.Values, "ref")))
	}
	want := []string{
		withIDs(`adjust 2.000 "#31#" {"reversal":true,"sale_id":"#20#","warehouse_id":"#31#"}`),
		withIDs(`adjust 1.000 null {"reversal":true,"sale_id":"#20#","warehouse_id":null}`),
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("reversals (-want +got)\n%s", diff)
	}
	// Voided without its reversals, it is given back all the same, and once.
	facts.Voided = map[uuid.UUID]bool{id(20): true}
	out = plan(t, e, facts)
	if out.Class != Actionable || len(out.Changes.Update.Set) != 0 || len(out.Changes.Dependents) != 2 {
		t.Errorf("voided without reversals: %+v", out)
	}
	facts.Bodies[id(20)] = Body{Items: facts.Bodies[id(20)].Items, Movements: append(facts.Bodies[id(20)].Movements,
		Movement{Product: id(10), Qty: "2.000", Reversal: true}, Movement{Product: id(10), Variant: some(id(17)), Qty: "1.000", Reversal: true})}
	if out := plan(t, e, facts); out.Class != Done {
		t.Errorf("voided, and yet %s: %s", out.Class, out.Reason)
	}
	facts.DebtOf = map[uuid.UUID]Debt{id(20): {ID: id(22)}}
	if out := plan(t, e, facts); out.Class != Actionable || out.Changes.DebtOf != some(id(20)) {
		t.Errorf("voided, its debt is there: %+v", out)
	}
}

func TestWhatIsMissingIsNamed(t *testing.T) {
	sale := `{"sale_id": "#20#", "cash_session_id": "#12#", "invoice_series_id": "#16#", "customer_id": "#13#", "items": [{"product_id": "#10#", "qty": 1, "variant_id": "#17#", "item_id": "#21#"}]}`
	product, session, profile, variant := Ref{Products, id(10)}, Ref{Sessions, id(12)}, Ref{Profiles, clerk}, Ref{Variants, id(17)}
	for _, c := range []struct {
		kind    velox.Type
		payload string
		facts   Facts
		class   Class
		waits   Ref
	}{
		{velox.StockAdjusted, `{"movement_id": "#20#", "product_id": "#10#", "qty_delta": 1}`, owned(), Waiting, product},
		{velox.StockAdjusted, `{"movement_id": "#20#", "product_id": "#10#", "qty_delta": 1, "variant_id": "#17#"}`, owned(product), Blocked, variant},
		{velox.StockQuotaReclaimed, `{"product_id": "#10#", "device_id": "#3#", "qty_reclaimed": 2, "request_id": "r"}`, owned(), Waiting, product},
		{velox.ProductUpdated, `{"product_id": "#10#", "patch": {"name": "x"}}`, owned(), Waiting, product},
		{velox.RecipeIngredientsUpdated, `{"product_id": "#10#", "ingredients": [{"ingredient_product_id": "#11#", "qty": 1}]}`, owned(product), Waiting, Ref{Products, id(11)}},
		{velox.SaleCreated, sale, owned(), Waiting, product},
		{velox.SaleCreated, sale, owned(product), Waiting, session},
		{velox.SaleCreated, sale, owned(product, session), Blocked, variant},
		{velox.SaleCreated, sale, owned(product, session, variant), Blocked, profile},
		{velox.SaleCreated, sale, owned(product, session, variant, profile), Blocked, Ref{SeriesTable, id(16)}},
		{velox.SaleVoided, `{"sale_id": "#20#"}`, owned(), Waiting, Ref{Sales, id(20)}},
		{velox.CashSessionClosed, `{"session_id": "#12#"}`, owned(), Waiting, session},
		{velox.DebtCreated, `{"debt_id": "#20#", "customer_id": "#13#", "sale_id": "#14#"}`, owned(), Waiting, Ref{Sales, id(14)}},
		{velox.DebtCreated, `{"debt_id": "#20#", "customer_id": "#13#", "sale_id": "#14#"}`, owned(Ref{Sales, id(14)}), Waiting, Ref{Customers, id(13)}},
		{velox.DebtPaymentRecorded, `{"payment_id": "#20#", "debt_id": "#15#", "method": "CASH"}`, owned(), Waiting, Ref{Debts, id(15)}},
		{"Strange", `7`, owned(), Unsupported, Ref{}},
	} {
		out := plan(t, event(c.kind, withIDs(c.payload)), c.facts)
		if out.Class != c.class || out.Waits != c.waits || out.Reason == "" {
			t.Errorf("%s with %v\n got %s %v (%s)\nwant %s %v", c.kind, c.facts.Rows, out.Class, out.Waits, out.Reason, c.class, c.waits)
		}
	}
}

func TestWhatIsAnothersIsRefused(t *testing.T) {
	for _, taken := range []Ref{{Products, id(10)}, {Sessions, id(12)}, {Customers, id(13)}, {Sales, id(20)}, {Items, id(21)}, {SeriesTable, id(16)}} {
		facts := owned(Ref{Products, id(10)}, Ref{Sessions, id(12)}, Ref{SeriesTable, id(16)})
		facts.Rows[Ref{Profiles, clerk}] = uuid.Nil
		facts.Rows[taken] = other
		out := plan(t, event(velox.SaleCreated, withIDs(`{"sale_id": "#20#", "cash_session_id": "#12#", "invoice_series_id": "#16#", "customer_id": "#13#",
			"items": [{"product_id": "#10#", "qty": 1, "item_id": "#21#"}]}`)), facts)
		if out.Class != Poison || !strings.Contains(out.Reason, taken.String()) {
			t.Errorf("%s is another's: %s %s", taken, out.Class, out.Reason)
		}
	}
}

func TestDebtsThatWillNeverBe(t *testing.T) {
	debt := event(velox.DebtCreated, withIDs(`{"debt_id": "#15#", "customer_id": "#13#", "sale_id": "#14#"}`))
	payment := event(velox.DebtPaymentRecorded, withIDs(`{"payment_id": "#20#", "debt_id": "#15#", "method": "CASH"}`))
	base := func() Facts {
		f := owned(Ref{Sales, id(14)}, Ref{Customers, id(13)})
		f.Declared = map[uuid.UUID]uuid.NullUUID{id(15): some(id(14))}
		return f
	}
	absorbed, voided, removed := base(), base(), base()
	absorbed.DebtOf = map[uuid.UUID]Debt{id(14): {ID: id(19)}}
	voided.Voided = map[uuid.UUID]bool{id(14): true}
	removed.Removed = map[uuid.UUID]bool{id(15): true}
	for name, facts := range map[string]Facts{"absorbed": absorbed, "voided": voided, "removed": removed} {
		if out := plan(t, debt, facts); out.Class != Semantic || out.Waits != (Ref{Debts, id(15)}) {
			t.Errorf("%s: debt %s %v", name, out.Class, out.Waits)
		}
	}
	if out := plan(t, payment, absorbed); out.Class != Actionable || out.Changes.Insert.Values["debt_id"] != id(19) || out.Changes.Status != some(id(19)) {
		t.Errorf("payment of an absorbed debt: %+v", out)
	}
	for name, facts := range map[string]Facts{"voided": voided, "removed": removed} {
		if out := plan(t, payment, facts); out.Class != Semantic {
			t.Errorf("%s: payment %s", name, out.Class)
		}
	}
	if out := plan(t, debt, base()); out.Class != Actionable || out.Changes.Unvoided != some(id(14)) {
		t.Errorf("debt of a sale: %+v", out)
	}
}

func TestNumbersAreNeverFloats(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		cents := rapid.Int64Range(-999_999_999_999_999_999, 999_999_999_999_999_999).Draw(t, "cents")
		sign, abs := "", cents
		if cents < 0 {
			sign, abs = "-", -cents
		}
		want := fmt.Sprintf("%s%d.%02d", sign, abs/100, abs%100)
		for _, raw := range []string{want, `"` + want + `"`, fmt.Sprintf("%de-2", cents)} {
			n, err := number(json.RawMessage(raw))
			if err != nil {
				t.Fatal(err)
			}
			got, err := money.text(n)
			if err != nil || got != want && cents != 0 {
				t.Fatalf("%s became %s (%v), want %s", raw, got, err, want)
			}
		}
	})
}

func FuzzReadNeverPanics(f *testing.F) {
	for _, payload := range []string{`{}`, `[]`, `{"sale_id": 1, "items": [{}, 2, null]}`, `{"items": {"0": 1}}`, `{"qty": "0x", "metadata": [], "totals": 5}`} {
		f.Add(payload)
	}
	f.Fuzz(func(t *testing.T, payload string) {
		if !json.Valid([]byte(payload)) {
			t.Skip()
		}
		for _, kind := range velox.Types() {
			if intent, err := Read(event(kind, payload)); err == nil {
				intent.Asks()
				intent.Plan(owned())
			}
		}
	})
}
