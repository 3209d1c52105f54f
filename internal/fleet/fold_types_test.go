package fleet_test

import (
	"encoding/json"
	"maps"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/veloxpos/reconciled/internal/fleet"
	"github.com/veloxpos/reconciled/internal/velox"
)

// More ids for events written by hand; till is who makes them.
const (
	productB  = "bbbbbbbb-0000-4000-8000-000000000001"
	unknown   = "bbbbbbbb-0000-4000-8000-000000000009"
	entryA    = "bbbbbbbb-0000-4000-8000-000000000002"
	entryB    = "bbbbbbbb-0000-4000-8000-000000000003"
	till      = "dddddddd-0000-4000-8000-000000000001"
	otherTill = "dddddddd-0000-4000-8000-000000000002"
	request   = "00000000-0000-4000-8000-000000000001"
	house     = "33333333-3333-4333-8333-333333333333"

	// What events.md gives as the ids of the three movements of request.
	grantID    = "29b8836b-6134-50ea-9f3e-c396705380dc"
	transferID = "e6dae938-1afd-5cce-9e18-58c006209289"
	reclaimID  = "0d9c13cc-7ac6-54d4-9463-a5ebfd717cc7"
)

// spelledOut spells the short names in a payload written by hand.
var spelledOut = strings.NewReplacer("#A#", productA, "#B#", productB, "#?#", unknown, "#C#", customerA, "#S#", sessionA, "#sale#", saleA,
	"#till#", till, "#other#", otherTill, "#request#", request, "#entryA#", entryA, "#entryB#", entryB, "#debt#", debtA, "'", `"`)

// at is the n-th thing that happened, at the till.
func at(n int, typ velox.Type, payload string) velox.Event {
	e := event(n, typ, spelledOut.Replace(payload))
	e.VectorClock, e.Causal = json.RawMessage("{}"), []string{}
	e.Device = uuid.MustParse(till)
	return e
}

// A case is a log and what is to become of it.
type foldCase struct {
	name    string
	events  []velox.Event
	table   func(fleet.ReadModel) fleet.Table
	key     string
	want    map[string]string // columns, "" for NULL; nil when there must be no row
	waiting []int             // the events in each list, by number
	poison  []int
	settled []int
	blocked []int
}

func TestFoldOfEachType(t *testing.T) {
	rice := at(1, velox.ProductCreated, `{'product_id': '#A#', 'name': 'Arroz', 'category': 'Víveres', 'price_bs': '40.005', 'price_usd': 1, 'cost_usd': 0.5, 'barcode': '759'}`)
	dish := at(2, velox.ProductCreated, `{'product_id': '#B#', 'name': 'Arepa', 'is_recipe': 1}`)
	shift := at(3, velox.CashSessionOpened, `{'session_id': '#S#', 'opening_amount_bs': 5}`)
	granted := at(10, velox.StockQuotaGranted, `{'quota_id': '#entryA#', 'request_id': '#request#', 'product_id': '#A#', 'device_id': '#till#', 'qty_granted': '10'}`)
	expiring := at(10, velox.StockQuotaGranted, `{'quota_id': '#request#', 'product_id': '#A#', 'device_id': '#till#', 'qty_granted': 10, 'expires_at': 50}`)
	transferred := at(11, velox.StockQuotaTransferred, `{'request_id': '#request#', 'product_id': '#A#', 'from_device_id': '#till#', 'to_device_id': '#other#', 'qty': 4}`)
	reclaimed := at(12, velox.StockQuotaReclaimed, `{'request_id': '#request#', 'product_id': '#A#', 'device_id': '#till#', 'qty_reclaimed': 6}`)
	tooMuch := at(13, velox.StockQuotaReclaimed, `{'request_id': '#entryB#', 'product_id': '#A#', 'device_id': '#till#', 'qty_reclaimed': 10.001}`)
	saleOf := func(n int, rest string) velox.Event {
		return at(n, velox.SaleCreated, `{'sale_id': '#sale#', 'items': [{'product_id': '#A#', 'qty': 4}, {'product_id': '#A#', 'qty': 8}]`+rest+`}`)
	}
	held, shelf := productA+"/"+till+"/", house+"/"+productA+"/"
	sold, escrow, back := saleA+"/"+productA+"//sold", saleA+"/"+productA+"//escrow", saleA+"/"+productA+"//void"
	recipe := func(n int, lines string) velox.Event {
		return at(n, velox.RecipeIngredientsUpdated, `{'product_id': '#B#', 'ingredients': [`+lines+`]}`)
	}
	line := func(unit, qty string) string {
		return productB + "/" + "map[ingredient_product_id:" + productA + " qty:" + qty + unit + "]"
	}
	cash := func(n int, id, rest string) velox.Event {
		return at(n, velox.CashLedgerEntryCreated, `{'entry_id': '#`+id+`#'`+rest+`}`)
	}

	for _, c := range []foldCase{
		// 1-4
		{
			name: "a product", events: []velox.Event{rice}, table: products, key: productA,
			want: map[string]string{"name": "Arroz", "price_bs": "40.01", "cost_usd": "0.50", "product_type": "sale_item", "is_active": "true", "low_stock_threshold": "0"},
		},
		{name: "a recipe is prepared", events: []velox.Event{dish}, table: products, key: productB, want: map[string]string{"product_type": "prepared", "is_recipe": "true"}},
		{
			name: "a patch changes what it names", events: []velox.Event{at(5, velox.ProductUpdated, `{'product_id': '#A#', 'patch': {'name': 'Arroz blanco', 'category': '', 'low_stock_threshold': '7', 'profit_margin': '12.345', 'is_visible_public': 1}}`), rice},
			table: products, key: productA,
			want: map[string]string{"name": "Arroz blanco", "category": "", "barcode": "759", "low_stock_threshold": "7", "profit_margin": "12.35", "is_visible_public": "true"},
		},
		{name: "the newest wins, field by field", events: []velox.Event{
			at(6, velox.ProductUpdated, `{'product_id': '#A#', 'patch': {'category': 'c6'}}`), at(5, velox.ProductUpdated, `{'product_id': '#A#', 'patch': {'category': 'c5', 'sku': 's5'}}`), rice,
		}, table: products, key: productA, want: map[string]string{"category": "c6", "sku": "s5"}},
		{
			name: "a patch from before the product was made counts", events: []velox.Event{rice, at(0, velox.ProductUpdated, `{'product_id': '#A#', 'patch': {'sku': 's0'}}`)},
			table: products, key: productA, want: map[string]string{"sku": "s0"},
		},
		{
			name: "prices and costs are not patched", events: []velox.Event{rice, at(5, velox.ProductUpdated, `{'product_id': '#A#', 'patch': {'price_usd': 9}}`)},
			table: products, key: productA, want: map[string]string{"price_usd": "1.00"}, settled: []int{5},
		},
		{
			name: "a name cannot be taken away", events: []velox.Event{rice, at(5, velox.ProductUpdated, `{'product_id': '#A#', 'patch': {'name': ''}}`), at(6, velox.ProductUpdated, `{'product_id': '#A#', 'patch': {'product_type': null}}`)},
			table: products, key: productA, want: map[string]string{"name": "Arroz"}, poison: []int{5, 6},
		},
		{name: "changes of nothing wait", events: []velox.Event{
			at(5, velox.ProductUpdated, `{'product_id': '#A#', 'patch': {'sku': 's'}}`), at(6, velox.PriceChanged, `{'product_id': '#A#', 'price_bs': 1}`), at(7, velox.ProductDeactivated, `{'product_id': '#A#'}`),
		}, table: products, key: productA, waiting: []int{5, 6, 7}},
		{
			name: "a price in one currency leaves the other", events: []velox.Event{rice, at(5, velox.PriceChanged, `{'product_id': '#A#', 'price_bs': null, 'price_usd': '1.25'}`)},
			table: products, key: productA, want: map[string]string{"price_bs": "40.01", "price_usd": "1.25"},
		},
		{
			name: "the newest price wins", events: []velox.Event{at(6, velox.PriceChanged, `{'product_id': '#A#', 'price_usd': 6}`), at(5, velox.PriceChanged, `{'product_id': '#A#', 'price_bs': 5, 'price_usd': 5}`), rice},
			table: products, key: productA, want: map[string]string{"price_bs": "5.00", "price_usd": "6.00"},
		},
		{
			name: "a price of nothing says nothing", events: []velox.Event{rice, at(5, velox.PriceChanged, `{'product_id': '#A#'}`)},
			table: products, key: productA, want: map[string]string{"price_usd": "1.00"}, settled: []int{5},
		},
		{name: "a product is retired", events: []velox.Event{rice, at(5, velox.ProductDeactivated, `{'product_id': '#A#', 'is_active': true}`)}, table: products, key: productA, want: map[string]string{"is_active": "false"}},

		// 5
		{
			name: "a recipe's lines are counted", events: []velox.Event{rice, dish, recipe(5, `{'ingredient_product_id': '#A#', 'qty': '0.25', 'unit': 'kg'}, {'ingredient_product_id': '#A#', 'qty': 0.25, 'unit': 'kg'}, {'ingredient_product_id': '#B#', 'qty': 1}, {'ingredient_product_id': '#A#', 'qty': 0.0004}`)},
			table: recipes, key: line(" unit:kg", "0.250"), want: map[string]string{"n": "2"},
		},
		{name: "a line of too little is left out", events: []velox.Event{rice, dish, recipe(5, `{'ingredient_product_id': '#A#', 'qty': 0.0004}`)}, table: recipes, key: line("", "0.000")},
		{
			name: "the newest recipe stands", events: []velox.Event{recipe(6, `{'ingredient_product_id': '#A#', 'qty': 1}`), recipe(5, `{'ingredient_product_id': '#A#', 'qty': 2}`), dish, rice},
			table: recipes, key: line("", "1.000"), want: map[string]string{"n": "1"}, settled: []int{5},
		},
		{name: "an older one does not", events: []velox.Event{recipe(6, ``), recipe(5, `{'ingredient_product_id': '#A#', 'qty': 2}`), dish, rice}, table: recipes, key: line("", "2.000"), settled: []int{5}},
		{
			name: "an unknown ingredient is left out, and waited for", events: []velox.Event{rice, dish, recipe(5, `{'ingredient_product_id': '#?#', 'qty': 2}, {'ingredient_product_id': '#A#', 'qty': 2}`)},
			table: recipes, key: line("", "2.000"), want: map[string]string{"n": "1"}, waiting: []int{5},
		},
		{
			name: "a malformed ingredient is poison, and the older recipe stands", events: []velox.Event{rice, dish, recipe(5, `{'ingredient_product_id': '#A#', 'qty': 2}`), recipe(6, `{'ingredient_product_id': 'x', 'qty': 2}`)},
			table: recipes, key: line("", "2.000"), want: map[string]string{"n": "1"}, poison: []int{6},
		},

		// 6-8
		{
			name: "a receipt", events: []velox.Event{rice, at(5, velox.StockReceived, `{'movement_id': '#entryA#', 'product_id': '#A#', 'qty': 7, 'unit_cost_usd': 0.5, 'note': 'n', 'warehouse_id': 'elsewhere'}`)},
			table: movements, key: entryA, want: map[string]string{"movement_type": "received", "qty_delta": "7.000", "unit_cost_usd": "0.50", "warehouse_id": house, "happened_at": "5", "note": "n"},
		},
		{
			name: "an adjustment", events: []velox.Event{rice, at(5, velox.StockAdjusted, `{'movement_id': '#entryA#', 'product_id': '#A#', 'qty_delta': -2, 'unit_cost_usd': 0.5, 'reason': 'r'}`)},
			table: movements, key: entryA, want: map[string]string{"movement_type": "adjust", "qty_delta": "-2.000", "unit_cost_usd": "0.00", "note": ""},
		},
		{
			name: "a delta", events: []velox.Event{rice, at(5, velox.StockDeltaApplied, `{'movement_id': '#entryA#', 'product_id': '#A#', 'qty_delta': 2, 'unit_cost_bs': 3, 'reason': ''}`)},
			table: movements, key: entryA, want: map[string]string{"movement_type": "adjust", "unit_cost_bs": "3.00", "note": "Stock Delta Applied", "from_escrow": "false"},
		},
		{
			name: "the first of a movement id counts", events: []velox.Event{at(6, velox.StockAdjusted, `{'movement_id': '#entryA#', 'product_id': '#A#', 'qty_delta': 6}`), rice, at(5, velox.StockReceived, `{'movement_id': '#entryA#', 'product_id': '#A#', 'qty': 5}`)},
			table: stock, key: shelf, want: map[string]string{"stock": "5.000"}, settled: []int{6},
		},
		{name: "an unknown variant blocks", events: []velox.Event{rice, at(5, velox.StockReceived, `{'movement_id': '#entryA#', 'product_id': '#A#', 'qty': 5, 'variant_id': '#?#'}`)}, table: movements, key: entryA, blocked: []int{5}},
		{
			name: "a delta from escrow leaves the shelf alone", events: []velox.Event{rice, granted, at(15, velox.StockDeltaApplied, `{'movement_id': '#entryB#', 'product_id': '#A#', 'qty_delta': -3, 'from_escrow': true}`)},
			table: escrows, key: held, want: map[string]string{"qty_granted": "7.000"},
		},
		{
			name: "it does not go below zero", events: []velox.Event{rice, granted, at(15, velox.StockDeltaApplied, `{'movement_id': '#entryB#', 'product_id': '#A#', 'qty_delta': -30, 'from_escrow': 1}`)},
			table: escrows, key: held, want: map[string]string{"qty_granted": "0.000"},
		},
		{name: "nor makes a holding", events: []velox.Event{rice, at(15, velox.StockDeltaApplied, `{'movement_id': '#entryB#', 'product_id': '#A#', 'qty_delta': 3, 'from_escrow': true}`)}, table: escrows, key: held},

		// 9-11
		{
			name: "a grant moves stock out", events: []velox.Event{rice, granted}, table: movements, key: grantID,
			want: map[string]string{"movement_type": "transfer_out", "qty_delta": "-10.000", "note": "Escrow Grant to device " + till, "warehouse_id": house, "happened_at": "10", "from_escrow": "false"},
		},
		{name: "into the till's escrow", events: []velox.Event{rice, granted}, table: escrows, key: held, want: map[string]string{"qty_granted": "10.000", "expires_at": ""}},
		{name: "a grant without request goes by its quota", events: []velox.Event{rice, expiring}, table: movements, key: grantID, want: map[string]string{"qty_delta": "-10.000"}},
		{
			name: "grants add up, the last expiry given stands", events: []velox.Event{rice, expiring, at(11, velox.StockQuotaGranted, `{'quota_id': '#entryB#', 'product_id': '#A#', 'device_id': '#till#', 'qty_granted': 1, 'expires_at': null}`)},
			table: escrows, key: held, want: map[string]string{"qty_granted": "11.000", "expires_at": "50"},
		},
		{
			name: "a request is granted once", events: []velox.Event{rice, granted, at(11, velox.StockQuotaGranted, `{'quota_id': '#entryB#', 'request_id': '#request#', 'product_id': '#A#', 'device_id': '#till#', 'qty_granted': 1}`)},
			table: escrows, key: held, want: map[string]string{"qty_granted": "10.000"}, settled: []int{11},
		},
		{
			name: "a transfer leaves a mark", events: []velox.Event{rice, granted, transferred}, table: movements, key: transferID,
			want: map[string]string{"movement_type": "transfer_out", "qty_delta": "0.000", "warehouse_id": "", "note": ""},
		},
		{name: "and a holding", events: []velox.Event{rice, granted, transferred}, table: escrows, key: productA + "/" + otherTill + "/", want: map[string]string{"qty_granted": "4.000"}},
		{name: "taken from the other", events: []velox.Event{rice, granted, transferred}, table: escrows, key: held, want: map[string]string{"qty_granted": "6.000"}},
		{
			name: "a reclaim brings stock back", events: []velox.Event{reclaimed, transferred, granted, rice}, table: movements, key: reclaimID,
			want: map[string]string{"movement_type": "transfer_in", "qty_delta": "6.000", "note": "Escrow Reclaimed from " + till, "warehouse_id": house},
		},
		{name: "all of it", events: []velox.Event{reclaimed, transferred, granted, rice}, table: escrows, key: held, want: map[string]string{"qty_granted": "0.000"}},
		{name: "too much waits whole", events: []velox.Event{rice, granted, tooMuch}, table: escrows, key: held, want: map[string]string{"qty_granted": "10.000"}, waiting: []int{13}},
		{name: "as does what comes before its grant", events: []velox.Event{rice, at(9, velox.StockQuotaTransferred, string(transferred.Payload)), granted}, table: movements, key: transferID, waiting: []int{9}},
		{name: "quotas without a product wait", events: []velox.Event{granted, transferred, reclaimed}, table: escrows, key: held, waiting: []int{10, 11, 12}},
		{name: "a quota without id or quantity is poison", events: []velox.Event{
			rice, at(5, velox.StockQuotaGranted, `{'product_id': '#A#', 'device_id': '#till#', 'qty_granted': 1}`),
			at(6, velox.StockQuotaTransferred, `{'product_id': '#A#', 'from_device_id': '#till#', 'to_device_id': '#other#', 'qty': 1}`),
			at(7, velox.StockQuotaReclaimed, `{'product_id': '#A#', 'device_id': '#till#', 'request_id': '#request#'}`),
		}, table: escrows, key: held, poison: []int{5, 6, 7}},

		// 12, 13
		{name: "a sale takes from its till's quota", events: []velox.Event{rice, granted, saleOf(20, "")}, table: movements, key: escrow, want: map[string]string{"qty_delta": "-10.000"}},
		{name: "and the rest off the shelf", events: []velox.Event{rice, granted, saleOf(20, "")}, table: movements, key: sold, want: map[string]string{"qty_delta": "-2.000"}},
		{name: "until the quota expires", events: []velox.Event{rice, expiring, saleOf(20, `, 'sold_at': 50`)}, table: movements, key: sold, want: map[string]string{"qty_delta": "-12.000"}},
		{name: "not a moment sooner", events: []velox.Event{rice, expiring, saleOf(60, `, 'sold_at': 49`)}, table: escrows, key: held, want: map[string]string{"qty_granted": "0.000"}},
		{name: "a sale before the grant takes none", events: []velox.Event{rice, granted, saleOf(9, "")}, table: movements, key: escrow},
		{name: "another till's neither", events: []velox.Event{rice, transferred, granted, event(20, velox.SaleCreated, string(saleOf(20, "").Payload))}, table: escrows, key: held, want: map[string]string{"qty_granted": "6.000"}},
		{name: "a void puts all of it on the shelf", events: []velox.Event{rice, granted, saleOf(20, ""), at(21, velox.SaleVoided, `{'sale_id': '#sale#'}`)}, table: movements, key: back, want: map[string]string{"qty_delta": "12.000"}},
		{name: "and none into escrow", events: []velox.Event{rice, granted, saleOf(20, ""), at(21, velox.SaleVoided, `{'sale_id': '#sale#'}`)}, table: escrows, key: held, want: map[string]string{"qty_granted": "0.000"}},
		{name: "escrow does not count as stock", events: []velox.Event{rice, at(5, velox.StockReceived, `{'movement_id': '#entryA#', 'product_id': '#A#', 'qty': 30}`), granted, saleOf(20, "")}, table: stock, key: shelf, want: map[string]string{"stock": "18.000"}},
		{name: "a line of nothing is poison", events: []velox.Event{rice, at(5, velox.SaleCreated, `{'sale_id': '#sale#', 'items': [{'product_id': '#A#', 'qty': 0}]}`)}, table: sales, key: saleA, poison: []int{5}},
		{
			name: "of what is weighed the weight counts", events: []velox.Event{rice, at(5, velox.SaleCreated, `{'sale_id': '#sale#', 'items': [{'product_id': '#A#', 'qty': 0, 'is_weight_product': 1, 'weight_value': '0.3'}]}`)},
			table: movements, key: sold, want: map[string]string{"qty_delta": "-0.300"},
		},
		{name: "and must be there", events: []velox.Event{rice, at(5, velox.SaleCreated, `{'sale_id': '#sale#', 'items': [{'product_id': '#A#', 'qty': 2, 'is_weight_product': 1, 'weight_value': -1}]}`)}, table: sales, key: saleA, poison: []int{5}},
		{name: "a sale of nothing is poison", events: []velox.Event{at(5, velox.SaleCreated, `{'sale_id': '#sale#', 'items': []}`), at(6, velox.SaleCreated, `{'sale_id': '#sale#'}`)}, table: sales, key: saleA, poison: []int{5, 6}},
		{name: "an unknown currency is kept", events: []velox.Event{rice, saleOf(5, `, 'currency': 'EUR'`)}, table: sales, key: saleA, want: map[string]string{"currency": "EUR"}},
		{
			name: "discounts as makers once sent them", events: []velox.Event{rice, saleOf(5, `, 'totals': {'discount_total_bs': 3, 'discount_total_usd': 1, 'discount_usd': 2}`)}, table: sales, key: saleA,
			want: map[string]string{"totals.discount_bs": "3", "totals.discount_usd": "2"},
		},

		// 14-16
		{name: "a session", events: []velox.Event{shift}, table: sessions, key: sessionA, want: map[string]string{"opening_amount_bs": "5.00", "ledger_p_bs": "0.00", "closed_at": ""}},
		{name: "a close waits for its session", events: []velox.Event{at(5, velox.CashSessionClosed, `{'session_id': '#S#'}`)}, table: sessions, key: sessionA, waiting: []int{5}},
		{
			name: "a cash entry", events: []velox.Event{cash(5, "entryA", `, 'entry_type': 'sale', 'amount_bs': '7.005', 'cash_session_id': '', 'request_id': '#request#'`)}, table: ledger, key: entryA,
			want: map[string]string{"entry_type": "sale", "amount_bs": "7.01", "amount_usd": "0.00", "currency": "BS", "cash_session_id": "", "sold_at": "5", "device_id": till, "seq": "5", "event_id": event(5, "", "").ID.String(), "request_id": request},
		},
		{name: "entries are counted in their session", events: []velox.Event{
			cash(5, "entryA", `, 'entry_type': 'expense', 'amount_bs': -7, 'amount_usd': 1, 'cash_session_id': '#S#'`),
			cash(6, "entryB", `, 'entry_type': 'adjustment', 'amount_bs': 2, 'amount_usd': -3, 'cash_session_id': '#S#'`),
			cash(7, "request", `, 'entry_type': 'income', 'amount_bs': -0.5, 'cash_session_id': '#S#'`), shift,
		}, table: sessions, key: sessionA, want: map[string]string{"ledger_p_bs": "2.50", "ledger_n_bs": "7.00", "ledger_p_usd": "0.00", "ledger_n_usd": "4.00"}},
		{
			name: "one request, one entry", events: []velox.Event{shift, cash(6, "entryB", `, 'request_id': '#request#', 'amount_bs': 6, 'cash_session_id': '#S#'`), cash(5, "entryA", `, 'request_id': '#request#', 'amount_bs': 5, 'cash_session_id': '#S#'`)},
			table: sessions, key: sessionA, want: map[string]string{"ledger_p_bs": "5.00"}, settled: []int{6},
		},
		{name: "an entry without or with a malformed id is poison", events: []velox.Event{cash(5, "", ""), cash(6, "entryA", `, 'cash_session_id': 'caja'`), cash(7, "entryB", `, 'request_id': 'x'`)}, table: ledger, key: entryA, poison: []int{5, 6, 7}},

		// 17, 18
		{
			name: "a customer has all that was said", events: []velox.Event{at(5, velox.CustomerCreated, `{'customer_id': '#C#', 'name': 'Ana', 'document_id': 'V-1', 'email': 'a@b', 'credit_limit': '10.5'}`)}, table: customers, key: customerA,
			want: map[string]string{"document_id": "V-1", "email": "a@b", "credit_limit": "10.50", "updated_at": "5"},
		},
		{
			name: "a patch changes a customer", events: []velox.Event{maria, at(7, velox.CustomerUpdated, `{'customer_id': '#C#', 'patch': {'credit_limit': '', 'phone': null, 'email': 'x@y'}}`), at(6, velox.CustomerUpdated, `{'customer_id': '#C#', 'patch': {'credit_limit': 5, 'note': 'n'}}`)},
			table: customers, key: customerA, want: map[string]string{"name": "Maria", "credit_limit": "", "phone": "", "email": "x@y", "note": "n", "updated_at": "7"},
		},
		{name: "one from before it was made does not make it older", events: []velox.Event{maria, at(1, velox.CustomerUpdated, `{'customer_id': '#C#', 'patch': {'note': 'n'}}`)}, table: customers, key: customerA, want: map[string]string{"note": "n", "updated_at": "2"}},
		{
			name: "a placeholder can be changed", events: []velox.Event{flour, creditSale, at(9, velox.CustomerUpdated, `{'customer_id': '#C#', 'patch': {'phone': '0'}}`)}, table: customers, key: customerA,
			want: map[string]string{"name": "M.", "phone": "0", "updated_at": "9", "note": "Auto-creado por proyeccion de venta (" + creditSale.ID.String() + ")"},
		},
		{name: "a change of nobody waits", events: []velox.Event{at(9, velox.CustomerUpdated, `{'customer_id': '#C#', 'patch': {'phone': '0'}}`)}, table: customers, key: customerA, waiting: []int{9}},
		{name: "a customer's name cannot be taken away", events: []velox.Event{maria, at(9, velox.CustomerUpdated, `{'customer_id': '#C#', 'patch': {'name': null}}`)}, table: customers, key: customerA, want: map[string]string{"name": "Maria"}, poison: []int{9}},

		// 19-21
		{name: "a debt waits for its customer", events: []velox.Event{at(5, velox.DebtCreated, `{'debt_id': '#debt#', 'customer_id': '#C#', 'amount_usd': 1}`)}, table: debts, key: debtA, waiting: []int{5}},
		{name: "a payment for its debt", events: []velox.Event{payment}, table: payments, key: paymentA, waiting: []int{6}},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := fleet.Fold(c.events, bare)
			c.check(t, m)
			slices.Reverse(c.events)
			if again := fleet.Fold(c.events, bare); !reflect.DeepEqual(again, m) {
				t.Errorf("backwards it differs: %v", fleet.Diff(m, again))
			}
		})
	}
}

func (c foldCase) check(t *testing.T, m fleet.ReadModel) {
	t.Helper()
	row, there := c.table(m)[c.key]
	if there != (c.want != nil) {
		t.Errorf("row %s is there: %v (%v)", c.key, there, slices.Collect(maps.Keys(c.table(m))))
	}
	for column, want := range c.want {
		if row[column] != want {
			t.Errorf("%s is %q, want %q", column, row[column], want)
		}
	}
	for _, l := range []struct {
		name string
		got  []uuid.UUID
		want []int
	}{
		{"waiting", m.Waiting, c.waiting},
		{"poison", m.Poison, c.poison},
		{"settled", m.Settled, c.settled},
		{"blocked", m.Blocked, c.blocked},
		{"unsupported", m.Unsupported, nil},
		{"lost", m.Lost, nil},
	} {
		var want []uuid.UUID
		for _, n := range l.want {
			want = append(want, event(n, "", "").ID)
		}
		if !slices.Equal(l.got, want) {
			t.Errorf("%s: %v, want %v", l.name, l.got, want)
		}
	}
}

// An id that an event cannot do without is never taken for granted.
func TestEventsWithoutTheirIDsArePoison(t *testing.T) {
	for _, typ := range velox.Types() {
		for _, payload := range []string{`{}`, `[]`, `7`, `null`} {
			m := fleet.Fold([]velox.Event{event(1, typ, payload)}, bare)
			if len(m.Poison) != 1 {
				t.Errorf("%s %s is no poison", typ, payload)
			}
		}
	}
}

func TestEveryPermutationOfALogFoldsAlike(t *testing.T) {
	shop := fleet.NewShop(everything(15))
	events := shop.Trade(1000)
	// Content that cannot be, among what can.
	for i := range 20 {
		e := events[i*40]
		var members map[string]any
		if err := json.Unmarshal(e.Said(), &members); err != nil {
			t.Fatal(err)
		}
		delete(members, slices.Sorted(maps.Keys(members))[i%len(members)])
		said, err := json.Marshal(members)
		if err != nil {
			t.Fatal(err)
		}
		e.ID, e.Payload, e.Delta, e.Hash = uuid.MustParse(event(1000+i, "", "").ID.String()), said, nil, ""
		events = append(events, e)
	}
	want := fleet.Fold(events, shop.Reference())
	order := rand.New(rand.NewPCG(1, 2))
	for range 10 {
		order.Shuffle(len(events), func(i, j int) { events[i], events[j] = events[j], events[i] })
		if got := fleet.Fold(events, shop.Reference()); !reflect.DeepEqual(got, want) {
			t.Fatalf("read models differ: %v", fleet.Diff(want, got))
		}
	}
}

func products(m fleet.ReadModel) fleet.Table { return m.Products }
func recipes(m fleet.ReadModel) fleet.Table  { return m.Recipes }
func stock(m fleet.ReadModel) fleet.Table    { return m.Stock }
func escrows(m fleet.ReadModel) fleet.Table  { return m.Escrow }
func ledger(m fleet.ReadModel) fleet.Table   { return m.Ledger }
