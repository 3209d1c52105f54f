package fleet

import (
	"regexp"
	"strings"

	"github.com/veloxpos/reconciled/internal/velox"
)

// The projector's statements take ($1 store, $2 event ids or NULL for all, $3 ids left out) and
// return what they moved: warehouse, product, variant, quantity. In them, num,
// txt, uid and at stand for the conversions of a payload's member, {said} for the
// content that is projected, {D10} for whether the backend is wrong in that way,
// EVENTS for the events to be looked at, and LOG for all of the store's.

// statements are in the order in which one's rows are another's parents.
var statements = []struct {
	doing, sql string
	types      []velox.Type
}{
	{"products", projectProducts, []velox.Type{velox.ProductCreated}},
	{"product details", projectProductDetails, catalogue},
	{"recipes", projectRecipes, []velox.Type{velox.ProductCreated, velox.RecipeIngredientsUpdated}},
	{"customers", projectCustomers, []velox.Type{velox.CustomerCreated}},
	{"opened sessions", projectOpened, []velox.Type{velox.CashSessionOpened}},
	{"closed sessions", projectClosed, []velox.Type{velox.CashSessionClosed}},
	{"cash entries", projectLedger, []velox.Type{velox.CashLedgerEntryCreated}},
	{"cash counters", projectCounters, []velox.Type{velox.CashSessionOpened, velox.CashLedgerEntryCreated}},
	{"receipts", projectReceipts, []velox.Type{velox.StockReceived}},
	{"adjustments", projectAdjustments, []velox.Type{velox.StockAdjusted}},
	{"deltas", projectDeltas, []velox.Type{velox.StockDeltaApplied}},
	{"sales", projectSales, []velox.Type{velox.SaleCreated}},
	{"customer details", projectCustomerDetails, []velox.Type{velox.CustomerCreated, velox.CustomerUpdated, velox.SaleCreated}},
	{"voids", projectVoids, []velox.Type{velox.SaleVoided}},
	{"debts", projectDebts, []velox.Type{velox.DebtCreated}},
	{"payments", projectPayments, payments},
	{"debt status", projectStatus, payments},
}

var catalogue = []velox.Type{velox.ProductCreated, velox.ProductUpdated, velox.PriceChanged, velox.ProductDeactivated}

var payments = []velox.Type{velox.DebtPaymentRecorded, velox.DebtPaymentAdded}

var conversion = regexp.MustCompile(`\b(num|txt|uid|at)\((\w+), (\w+)\)`)

// $1 is the payload, $2 the member.
var conversions = map[string]string{
	"num": `(CASE WHEN $1->>'$2' ~ '^\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,3})?\s*$$' THEN ($1->>'$2')::numeric ELSE 0 END)`,
	"txt": `(CASE WHEN $1->'$2' IN ('0', 'false') THEN NULL ELSE nullif($1->>'$2', '') END)`,
	"uid": `(CASE WHEN $1->>'$2' ~* '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$$' THEN ($1->>'$2')::uuid END)`,
	"at": `(CASE WHEN jsonb_typeof($1->'$2') = 'number' THEN 'epoch'::timestamptz + ($1->>'$2')::float8 * interval '1 millisecond'
		WHEN $1->>'$2' <> '' THEN ($1->>'$2')::timestamptz ELSE e.created_at END)`,
}

func (b *Backend) expand(sql string) string {
	said := `coalesce(nullif(delta_payload, '{}'), payload)`
	if b.opts.wrong(PayloadNotSaid) {
		said = "payload"
	}
	sql = strings.NewReplacer("READY_ITEMS", readyItemsSQL, "MERGED_PRODUCT", productColumnsSQL, "MERGED_CUSTOMER", customerColumnsSQL,
		"PRODUCT_BASE", productBaseSQL, "CUSTOMER_BASE", customerBaseSQL).Replace(sql)
	sql = strings.NewReplacer("EVENTS", eventsSQL, "LOG", logSQL, "HEEDED", heededSQL).Replace(sql)
	sql = conversion.ReplaceAllStringFunc(sql, func(call string) string {
		m := conversion.FindStringSubmatch(call)
		return strings.NewReplacer("$$", "$", "$1", m[2], "$2", m[3]).Replace(conversions[m[1]])
	})
	sql = strings.ReplaceAll(sql, "{said}", said)
	for _, d := range deviations {
		sql = strings.ReplaceAll(sql, "{"+string(d)+"}", bit(b.opts.wrong(d)))
	}
	return sql
}

const (
	logSQL = `(SELECT event_id, store_id, type, device_id, created_at, seq,
			nullif(actor_user_id, '00000000-0000-0000-0000-000000000002') AS actor, {said} AS body
		FROM events WHERE store_id = $1 AND event_id <> ALL($3::uuid[])) e`
	eventsSQL = `(SELECT event_id, store_id, type, device_id, created_at, seq,
			nullif(actor_user_id, '00000000-0000-0000-0000-000000000002') AS actor, {said} AS body
		FROM events WHERE store_id = $1 AND ($2::uuid[] IS NULL OR event_id = ANY($2)) AND event_id <> ALL($3::uuid[])) e`
	// heededSQL: what the own online API made has no outbox row, and so nobody projects it.
	heededSQL = `(NOT {D21} OR device_id <> '00000000-0000-0000-0000-000000000001'
		OR EXISTS (SELECT FROM outbox_entries o WHERE o.event_id = e.event_id::text AND o.target = 'projection'))`
)

const nothingMoved = ` SELECT NULL::uuid, NULL::uuid, NULL::uuid, ''::text WHERE false`

const placeSQL = `coalesce((SELECT w.id FROM warehouses w WHERE w.store_id = $1 AND w.id = uid(body, warehouse_id)),
		(SELECT w.id FROM warehouses w WHERE w.store_id = $1 AND w.is_active ORDER BY w.is_default DESC, w.name LIMIT 1))`

const moveColumns = `(id, store_id, product_id, movement_type, qty_delta, unit_cost_bs, unit_cost_usd, note, ref, happened_at, variant_id, warehouse_id, from_escrow)`

const (
	newMovement = ` AND uid(body, movement_id) IS NOT NULL AND EXISTS (SELECT FROM products p WHERE p.id = uid(body, product_id) AND p.store_id = $1)
		AND NOT EXISTS (SELECT FROM inventory_movements m WHERE m.id = uid(body, movement_id)) ORDER BY 1, created_at, device_id, seq, event_id
		RETURNING warehouse_id, product_id, variant_id, qty_delta, from_escrow)
	SELECT warehouse_id, product_id, variant_id, qty_delta::text FROM m WHERE NOT from_escrow`

	projectReceipts = `WITH m AS (INSERT INTO inventory_movements ` + moveColumns + `
		SELECT DISTINCT ON (1) uid(body, movement_id), store_id, uid(body, product_id), 'received', num(body, qty), num(body, unit_cost_bs), num(body, unit_cost_usd),
			txt(body, note), nullif(body->'ref', 'null'), created_at, uid(body, variant_id), ` + placeSQL + `, false
		FROM EVENTS WHERE type = 'StockReceived'` + newMovement

	projectAdjustments = `WITH m AS (INSERT INTO inventory_movements ` + moveColumns + `
		SELECT DISTINCT ON (1) uid(body, movement_id), store_id, uid(body, product_id), 'adjust', num(body, qty_delta), 0, 0,
			txt(body, note), NULL::jsonb, created_at, uid(body, variant_id), ` + placeSQL + `, false
		FROM EVENTS WHERE type = 'StockAdjusted'` + newMovement

	projectDeltas = `WITH m AS (INSERT INTO inventory_movements ` + moveColumns + `
		SELECT DISTINCT ON (1) uid(body, movement_id), store_id, uid(body, product_id), 'adjust', num(body, qty_delta), num(body, unit_cost_bs), num(body, unit_cost_usd),
			coalesce(txt(body, reason), 'Stock Delta Applied'),
			coalesce(nullif(body->'ref', 'null'), jsonb_build_object('request_id', body->'request_id', 'reason', body->'reason')),
			created_at, CASE WHEN NOT {D10} THEN uid(body, variant_id) END, ` + placeSQL + `, txt(body, from_escrow) IS NOT NULL
		FROM EVENTS WHERE type = 'StockDeltaApplied'` + newMovement
)

// readyItemsSQL are the items of sales that have none yet and whose products are
// all there. When all events are projected at once, a sale whose session is not
// there is left as the backend leaves it after its retries: without rows.
const readyItemsSQL = `sale AS (
		SELECT DISTINCT ON (1) uid(body, sale_id) AS sale, at(body, sold_at) AS sold_at, coalesce(uid(c, customer_id), uid(body, customer_id)) AS buyer,
			` + placeSQL + ` AS place, c, e.*
		FROM EVENTS, LATERAL (SELECT CASE jsonb_typeof(body->'customer') WHEN 'object' THEN body->'customer' ELSE '{}' END AS c) buyer
		WHERE type = 'SaleCreated' AND uid(body, sale_id) IS NOT NULL AND jsonb_typeof(body->'items') = 'array'
			AND NOT EXISTS (SELECT FROM sale_items i WHERE i.sale_id = uid(body, sale_id))
		ORDER BY 1, created_at, device_id, seq, event_id),
	line AS (
		SELECT sale, coalesce(uid(item, item_id), gen_random_uuid()) AS id, uid(item, product_id) AS product, uid(item, variant_id) AS variant, item,
			CASE WHEN lower(trim(item->>'is_weight_product')) IN ('1', 'true', 't', 'yes', 'y') AND txt(item, weight_value) IS NOT NULL
				THEN num(item, weight_value) ELSE num(item, qty) END AS qty
		FROM sale, jsonb_array_elements(body->'items') AS item),
	ready AS MATERIALIZED (
		SELECT * FROM sale s WHERE NOT EXISTS (SELECT FROM line l
			WHERE l.sale = s.sale AND NOT EXISTS (SELECT FROM products p WHERE p.id = l.product AND p.store_id = $1))
		AND NOT EXISTS (SELECT FROM line l WHERE l.sale = s.sale AND l.qty <= 0)
		AND ($2::uuid[] IS NOT NULL OR uid(body, cash_session_id) IS NULL OR EXISTS (SELECT FROM cash_sessions k WHERE k.id = uid(body, cash_session_id))))`

const projectSales = `WITH READY_ITEMS,
	fresh AS MATERIALIZED (
		SELECT r.*, row_number() OVER (ORDER BY r.created_at, device_id, seq) AS n,
			count(*) FILTER (WHERE txt(body, invoice_number) IS NULL) OVER (PARTITION BY series.id ORDER BY r.created_at, device_id, seq) AS unnumbered, series.id AS series, series.current_number, series.series_code, series.prefix
		FROM ready r LEFT JOIN LATERAL (SELECT s.* FROM invoice_series s WHERE s.store_id = $1 AND s.is_active
			ORDER BY s.id = uid(body, invoice_series_id) DESC NULLS LAST, s.created_at LIMIT 1) series ON true
		WHERE NOT EXISTS (SELECT FROM sales s WHERE s.id = r.sale)),
	counter AS (INSERT INTO sale_sequences AS q (store_id, current_number)
		SELECT $1, count(*) FROM fresh HAVING count(*) > 0
		ON CONFLICT (store_id) DO UPDATE SET current_number = q.current_number + excluded.current_number, updated_at = now()
		RETURNING current_number - (SELECT count(*) FROM fresh) AS base),
	invoices AS (UPDATE invoice_series s SET current_number = s.current_number + f.n, updated_at = now()
		FROM (SELECT series, count(*) AS n FROM fresh WHERE txt(body, invoice_number) IS NULL GROUP BY 1) f WHERE s.id = f.series),
	buyers AS (INSERT INTO customers (id, store_id, name, phone, document_id, email, note)
		SELECT DISTINCT ON (1) buyer, $1, coalesce(txt(c, name), txt(body, customer_name), txt(body, customerName), 'Cliente offline ' || left(buyer::text, 8)),
			txt(c, phone), txt(c, document_id), txt(c, email), 'Auto-creado por proyeccion de venta (' || event_id || ')'
		FROM ready WHERE buyer IS NOT NULL AND NOT EXISTS (SELECT FROM customers k WHERE k.id = buyer)
		ORDER BY 1, created_at, device_id, seq, event_id),
	heads AS (INSERT INTO sales (id, store_id, sale_number, cash_session_id, sold_at, exchange_rate, currency, totals, payment, customer_id,
			sold_by_user_id, note, fiscal_number, invoice_series_id, invoice_number, invoice_full_number)
		SELECT sale, $1, base + n, uid(body, cash_session_id), sold_at, num(body, exchange_rate), coalesce(txt(body, currency), 'BS'),
			jsonb_build_object('subtotal_bs', num(t, subtotal_bs), 'subtotal_usd', num(t, subtotal_usd),
				'discount_bs', CASE WHEN {D15} THEN num(t, discount_total_bs) ELSE num(t, discount_bs) END,
				'discount_usd', CASE WHEN {D15} THEN num(t, discount_total_usd) ELSE num(t, discount_usd) END,
				'total_bs', num(t, total_bs), 'total_usd', num(t, total_usd)),
			CASE WHEN coalesce(trim(pay->>'method'), '') = '' THEN pay || '{"method": "UNKNOWN"}' ELSE pay END, buyer,
			coalesce(actor, uid(body, sold_by_user_id), uid(body, user_id)), txt(body, note), txt(body, fiscal_number),
			series, invoice, prefix || '-' || series_code || '-' || invoice
		FROM fresh f, counter, LATERAL (SELECT coalesce(body->'totals', '{}') AS t, coalesce(nullif(body->'payment', 'null'), '{}') AS pay,
			coalesce(txt(body, invoice_number), lpad((current_number + unnumbered)::text, 6, '0')) AS invoice) parts),
	items AS (INSERT INTO sale_items (id, sale_id, product_id, variant_id, qty, unit_price_bs, unit_price_usd, discount_bs, discount_usd,
			is_weight_product, weight_unit, weight_value, price_per_weight_bs, price_per_weight_usd)
		SELECT l.id, sale, product, variant, qty, num(item, unit_price_bs), num(item, unit_price_usd), num(item, discount_bs), num(item, discount_usd),
			lower(trim(coalesce(item->>'is_weight_product', ''))) IN ('1', 'true', 't', 'yes', 'y'), txt(item, weight_unit),
			CASE WHEN txt(item, weight_value) IS NOT NULL THEN num(item, weight_value) END,
			CASE WHEN txt(item, price_per_weight_bs) IS NOT NULL THEN num(item, price_per_weight_bs) END,
			CASE WHEN txt(item, price_per_weight_usd) IS NOT NULL THEN num(item, price_per_weight_usd) END
		FROM line l JOIN ready USING (sale)),
	debts AS (INSERT INTO debts (id, store_id, sale_id, customer_id, created_at, amount_bs, amount_usd)
		SELECT gen_random_uuid(), $1, sale, buyer, sold_at, num(t, total_bs), num(t, total_usd)
		FROM ready, LATERAL (SELECT coalesce(body->'totals', '{}') AS t) totals
		WHERE body->'payment'->>'method' = 'FIAO' AND buyer IS NOT NULL AND NOT EXISTS (SELECT FROM debts d WHERE d.sale_id = sale)),
	m AS (INSERT INTO inventory_movements ` + moveColumns + `
		SELECT gen_random_uuid(), $1, product, 'sold', -qty, 0, 0, 'Venta ' || sale,
			jsonb_build_object('sale_id', sale, 'warehouse_id', place), sold_at, variant, place, false
		FROM line l JOIN ready USING (sale)
		WHERE qty > 0 AND NOT EXISTS (SELECT FROM inventory_movements k WHERE k.store_id = $1 AND k.ref->>'sale_id' = sale::text)
		RETURNING warehouse_id, product_id, variant_id, qty_delta)
	SELECT warehouse_id, product_id, variant_id, qty_delta::text FROM m`

const projectVoids = `WITH v AS MATERIALIZED (
		SELECT DISTINCT ON (1) s.id AS sale, at(body, voided_at) AS at, uid(body, voided_by_user_id) AS who, txt(body, reason) AS why
		FROM EVENTS JOIN sales s ON s.id = uid(body, sale_id) AND s.store_id = $1 AND s.voided_at IS NULL
		WHERE type = 'SaleVoided' ORDER BY 1, e.created_at, device_id, seq, event_id),
	heads AS (UPDATE sales s SET voided_at = v.at, voided_by_user_id = who, void_reason = why, updated_at = now() FROM v WHERE s.id = v.sale),
	paid AS (DELETE FROM debt_payments p USING debts d, v WHERE p.debt_id = d.id AND d.sale_id = v.sale),
	debts AS (DELETE FROM debts d USING v WHERE d.sale_id = v.sale),
	sold AS MATERIALIZED (SELECT DISTINCT ON (1, 2, 3) v.sale, k.product_id, k.variant_id, k.warehouse_id
		FROM v JOIN inventory_movements k ON k.store_id = $1 AND k.ref->>'sale_id' = v.sale::text AND k.movement_type = 'sold'),
	m AS (INSERT INTO inventory_movements ` + moveColumns + `
		SELECT gen_random_uuid(), $1, i.product_id, 'adjust', i.qty, 0, 0, 'Anulación venta ' || v.sale,
			jsonb_build_object('sale_id', v.sale, 'reversal', true, 'warehouse_id', k.warehouse_id), v.at, i.variant_id, k.warehouse_id, false
		FROM v JOIN sale_items i ON i.sale_id = v.sale
		LEFT JOIN sold k ON k.sale = v.sale AND k.product_id = i.product_id AND k.variant_id IS NOT DISTINCT FROM i.variant_id
		RETURNING warehouse_id, product_id, variant_id, qty_delta)
	SELECT warehouse_id, product_id, variant_id, qty_delta::text FROM m WHERE warehouse_id IS NOT NULL`

const projectDebts = `WITH rows AS (INSERT INTO debts (id, store_id, sale_id, customer_id, created_at, amount_bs, amount_usd, note)
	SELECT DISTINCT ON (coalesce(uid(body, sale_id), uid(body, debt_id))) uid(body, debt_id), $1, uid(body, sale_id), uid(body, customer_id),
		at(body, created_at), num(body, amount_bs), num(body, amount_usd), txt(body, note)
	FROM EVENTS WHERE type = 'DebtCreated' AND uid(body, debt_id) IS NOT NULL
		AND EXISTS (SELECT FROM customers c WHERE c.id = uid(body, customer_id))
		AND (uid(body, sale_id) IS NULL OR EXISTS (SELECT FROM sales s WHERE s.id = uid(body, sale_id) AND (s.voided_at IS NULL OR {D3})))
		AND NOT EXISTS (SELECT FROM debts d WHERE d.id = uid(body, debt_id))
		AND NOT EXISTS (SELECT FROM debts d WHERE d.store_id = $1 AND d.sale_id = uid(body, sale_id))
	ORDER BY coalesce(uid(body, sale_id), uid(body, debt_id)), created_at, device_id, seq, event_id)` + nothingMoved

// A payment of a credit sale's debt names the id of the till's own DebtCreated,
// which the sale's debt has absorbed.
const projectPayments = `WITH absorbed AS MATERIALIZED (
		SELECT uid(body, debt_id) AS debt, d.id FROM (SELECT {said} AS body FROM events WHERE store_id = $1 AND type = 'DebtCreated') e
		JOIN debts d ON d.store_id = $1 AND d.sale_id = uid(body, sale_id) WHERE NOT {D12}),
	rows AS (INSERT INTO debt_payments (id, store_id, debt_id, paid_at, amount_bs, amount_usd, method, note)
		SELECT DISTINCT ON (1) uid(body, payment_id), $1, coalesce(d.id, a.id), at(body, paid_at), num(body, amount_bs), num(body, amount_usd),
			body->>'method', txt(body, note)
		FROM EVENTS LEFT JOIN debts d ON d.store_id = $1 AND d.id = uid(body, debt_id) LEFT JOIN absorbed a ON a.debt = uid(body, debt_id)
		WHERE type IN ('DebtPaymentRecorded', 'DebtPaymentAdded') AND uid(body, payment_id) IS NOT NULL AND coalesce(d.id, a.id) IS NOT NULL
			AND NOT EXISTS (SELECT FROM debt_payments p WHERE p.id = uid(body, payment_id))
		ORDER BY 1, created_at, device_id, seq, event_id)` + nothingMoved

// projectStatus comes after the payments are there to be summed.
const projectStatus = `WITH rows AS (UPDATE debts d SET status = s.status FROM (
		SELECT d.id, CASE
			WHEN d.amount_usd > 0.01 AND sum(p.amount_usd) >= d.amount_usd - 0.01 THEN 'paid'
			WHEN d.amount_usd <= 0.01 AND d.amount_bs > 0.01 AND sum(p.amount_bs) >= d.amount_bs - 0.01 THEN 'paid'
			WHEN d.amount_usd <= 0.01 AND d.amount_bs <= 0.01 THEN 'paid'
			WHEN sum(p.amount_usd) > 0.01 OR sum(p.amount_bs) > 0.01 THEN 'partial' ELSE 'open' END AS status
		FROM debts d JOIN debt_payments p ON p.debt_id = d.id
		WHERE d.store_id = $1 AND d.id IN (SELECT paid.debt_id FROM EVENTS JOIN debt_payments paid ON paid.id = uid(body, payment_id)
			WHERE type IN ('DebtPaymentRecorded', 'DebtPaymentAdded'))
		GROUP BY d.id) s
	WHERE d.id = s.id AND d.status <> s.status)` + nothingMoved

// targetSQL is the total that a stock row should show, from the ledger.
const targetSQL = `target AS (
		SELECT warehouse_id, product_id, variant_id, greatest(0, sum(qty_delta)) AS stock FROM inventory_movements
		WHERE product_id = ANY($1) AND warehouse_id IS NOT NULL AND NOT coalesce(from_escrow, false)
			AND movement_type IN ('received', 'adjust', 'sold', 'sale', 'transfer_in', 'transfer_out')
		GROUP BY 1, 2, 3)`

// doneSQL tells whether the projector would end the event ($1) without an error.
const doneSQL = `SELECT CASE
		WHEN type IN ('StockReceived', 'StockAdjusted', 'StockDeltaApplied') THEN EXISTS (SELECT FROM inventory_movements m WHERE m.id = uid(body, movement_id))
		WHEN type = 'SaleCreated' THEN EXISTS (SELECT FROM sale_items i WHERE i.sale_id = uid(body, sale_id))
		WHEN type = 'DebtCreated' THEN EXISTS (SELECT FROM debts d WHERE d.id = uid(body, debt_id) OR d.store_id = e.store_id AND d.sale_id = uid(body, sale_id))
			OR EXISTS (SELECT FROM sales s WHERE s.id = uid(body, sale_id) AND s.voided_at IS NOT NULL)
		WHEN type IN ('DebtPaymentRecorded', 'DebtPaymentAdded') THEN EXISTS (SELECT FROM debt_payments p WHERE p.id = uid(body, payment_id))
		WHEN type IN ('ProductUpdated', 'PriceChanged', 'ProductDeactivated', 'RecipeIngredientsUpdated') THEN {D14} OR EXISTS (SELECT FROM products p WHERE p.id = uid(body, product_id))
		WHEN type = 'CustomerUpdated' THEN {D28} OR EXISTS (SELECT FROM customers c WHERE c.id = uid(body, customer_id))
		WHEN type IN ('StockQuotaGranted', 'StockQuotaTransferred', 'StockQuotaReclaimed') THEN EXISTS (SELECT FROM inventory_movements m
			WHERE m.store_id = e.store_id AND m.movement_type IN ('transfer_out', 'transfer_in')
				AND coalesce(m.ref->>'request_id', m.ref->>'quota_id') = coalesce(txt(body, request_id), txt(body, quota_id)))
		ELSE true END
	FROM (SELECT *, {said} AS body FROM events WHERE event_id = $1) e`
