package veloxdb

import (
	"maps"
	"slices"
	"strings"
)

// family is a group of column types that this program treats alike.
type family string

const (
	uuids    family = "uuid"
	texts    family = "text"
	integers family = "bigint"
	decimals family = "numeric"
	booleans family = "boolean"
	instants family = "timestamptz"
	jsonbs   family = "jsonb"
	lists    family = "text[]"
)

// members are the types of a family, by their names in pg_type.
var members = map[family][]string{
	uuids:    {"uuid"},
	texts:    {"text", "varchar"},
	integers: {"int4", "int8"},
	decimals: {"numeric"},
	booleans: {"bool"},
	instants: {"timestamptz"},
	jsonbs:   {"jsonb"}, // json has no canonical text
	lists:    {"_text"},
}

// need is what this program asks of one table: it selects every column named,
// and may write some.
type need struct {
	table    string
	columns  map[family]string // names, separated by spaces
	insert   bool              // rows with every column named
	update   string            // columns it changes; "*" for every one named
	fixed    bool              // no other column may be changed
	optional bool              // a database without the table will do
}

// drift holds the definition of columns that some live databases lack.
var drift = map[string]string{
	"events.projection_status": "text NOT NULL DEFAULT 'pending'",
	"events.projection_error":  "text",
	"sales.created_at":         "timestamptz NOT NULL DEFAULT now()",
	"sales.updated_at":         "timestamptz NOT NULL DEFAULT now()",
	"debts.parent_debt_id":     "uuid",
	"cash_sessions.updated_at": "timestamptz NOT NULL DEFAULT now()",
}

// needs is the whole of what is asked. deploy/roles.sql grants it.
var needs = []need{
	{table: "stores", columns: map[family]string{uuids: "id", texts: "name"}},
	{table: "profiles", columns: map[family]string{uuids: "id"}},
	{table: "products", insert: true, update: "*", columns: map[family]string{
		uuids:    "id store_id",
		texts:    "name category sku barcode product_type public_name public_description public_image_url public_category image_url description",
		decimals: "price_bs price_usd cost_bs cost_usd profit_margin",
		integers: "low_stock_threshold",
		booleans: "is_active is_visible_public is_recipe",
		instants: "created_at updated_at",
	}},
	{table: "product_variants", columns: map[family]string{uuids: "id product_id"}},
	{table: "product_lots", optional: true, columns: map[family]string{uuids: "id product_id"}},
	{table: "recipe_ingredients", insert: true, update: "*", columns: map[family]string{
		uuids: "id recipe_product_id ingredient_product_id", decimals: "qty", texts: "unit", instants: "created_at updated_at",
	}},
	{table: "customers", insert: true, update: "*", columns: map[family]string{
		uuids: "id store_id", texts: "name phone note document_id email", decimals: "credit_limit", instants: "created_at updated_at",
	}},
	{table: "events", insert: true, update: "projection_status projection_error", fixed: true, columns: map[family]string{
		uuids:    "event_id store_id device_id actor_user_id request_id",
		integers: "seq version",
		texts:    "type actor_role conflict_status full_payload_hash projection_status projection_error",
		instants: "created_at received_at",
		jsonbs:   "payload delta_payload vector_clock",
		lists:    "causal_dependencies",
	}},
	{table: "outbox_entries", insert: true, update: "status error retry_count processed_at", columns: map[family]string{
		uuids: "id store_id", texts: "event_id event_type target status error", integers: "retry_count", instants: "created_at processed_at",
	}},
	{table: "conflict_audit_log", insert: true, columns: map[family]string{
		uuids: "id store_id", texts: "entity_type entity_id winner_event_id strategy resolved_by",
		lists: "loser_event_ids", jsonbs: "winner_payload loser_payloads", instants: "resolved_at",
	}},
	{table: "fiscal_sequence_ranges", columns: map[family]string{
		uuids: "id store_id series_id", texts: "device_id status", integers: "range_start range_end used_up_to", instants: "granted_at expires_at",
	}},
	{table: "federation_health_snapshots", insert: true, columns: map[family]string{
		uuids: "id store_id", texts: "overall_health", booleans: "remote_reachable", instants: "snapshot_at",
		integers: "event_lag_count projection_gap_count stock_divergence_count negative_stock_count queue_depth failed_jobs remote_latency_ms",
	}},
	{table: "sales", insert: true, update: "*", columns: map[family]string{
		uuids:    "id store_id cash_session_id customer_id sold_by_user_id invoice_series_id voided_by_user_id",
		texts:    "currency note invoice_number invoice_full_number void_reason fiscal_number",
		decimals: "exchange_rate",
		integers: "sale_number",
		jsonbs:   "totals payment",
		instants: "sold_at voided_at created_at updated_at",
	}},
	{table: "sale_items", insert: true, update: "product_id variant_id lot_id qty unit_price_bs unit_price_usd discount_bs discount_usd " +
		"is_weight_product weight_unit weight_value price_per_weight_bs price_per_weight_usd", columns: map[family]string{
		uuids:    "id sale_id product_id variant_id lot_id",
		decimals: "qty unit_price_bs unit_price_usd discount_bs discount_usd weight_value price_per_weight_bs price_per_weight_usd",
		booleans: "is_weight_product",
		texts:    "weight_unit",
	}},
	{table: "debts", insert: true, update: "*", columns: map[family]string{
		uuids: "id store_id sale_id customer_id parent_debt_id", decimals: "amount_bs amount_usd book_rate_bcv",
		texts: "status note", instants: "created_at book_rate_as_of",
	}},
	{table: "debt_payments", insert: true, update: "debt_id paid_at amount_bs amount_usd method note", columns: map[family]string{
		uuids: "id store_id debt_id", decimals: "amount_bs amount_usd bcv_rate book_rate_bcv fx_gain_loss_bs",
		texts: "method note", instants: "paid_at",
	}},
	{table: "warehouses", columns: map[family]string{
		uuids: "id store_id", texts: "name", booleans: "is_default is_active",
	}},
	{table: "warehouse_stock", insert: true, update: "*", columns: map[family]string{
		uuids: "id warehouse_id product_id variant_id", decimals: "stock reserved", instants: "updated_at",
	}},
	{table: "inventory_movements", insert: true, update: "product_id variant_id qty_delta", columns: map[family]string{
		uuids:    "id store_id product_id variant_id warehouse_id requested_by approved_by",
		texts:    "movement_type note",
		decimals: "qty_delta unit_cost_bs unit_cost_usd",
		jsonbs:   "ref",
		booleans: "approved from_escrow",
		instants: "happened_at approved_at",
	}},
	{table: "stock_escrow", insert: true, update: "*", columns: map[family]string{
		uuids: "id store_id product_id variant_id device_id", decimals: "qty_granted", instants: "expires_at last_updated_at",
	}},
	{table: "invoice_series", columns: map[family]string{
		uuids: "id store_id", texts: "series_code name prefix", integers: "current_number", booleans: "is_active", instants: "created_at",
	}},
	{table: "fiscal_invoices", columns: map[family]string{
		uuids: "id store_id sale_id invoice_series_id", texts: "invoice_number fiscal_number invoice_type status", instants: "issued_at created_at",
	}},
	{table: "cash_sessions", insert: true, update: "*", columns: map[family]string{
		uuids: "id store_id opened_by closed_by", texts: "note", jsonbs: "expected counted",
		decimals: "opening_amount_bs opening_amount_usd ledger_p_bs ledger_n_bs ledger_p_usd ledger_n_usd",
		instants: "opened_at closed_at updated_at",
	}},
	{table: "cash_ledger_entries", insert: true, update: "entry_type amount_bs amount_usd currency cash_session_id sold_at", columns: map[family]string{
		uuids: "id store_id device_id cash_session_id event_id request_id", integers: "seq", texts: "entry_type currency",
		decimals: "amount_bs amount_usd", jsonbs: "vector_clock metadata", instants: "sold_at created_at",
	}},
	{table: "notifications", insert: true, columns: map[family]string{
		uuids: "id store_id user_id entity_id", texts: "notification_type category title message priority severity entity_type action_url action_label",
		jsonbs: "metadata delivery_channels", booleans: "is_read", instants: "created_at",
	}},
}

// all lists the columns named, sorted, with their families.
func (n need) all() ([]string, map[string]family) {
	families := map[string]family{}
	for f, names := range n.columns {
		for _, name := range strings.Fields(names) {
			families[name] = f
		}
	}
	return slices.Sorted(maps.Keys(families)), families
}

// updates says whether this program changes the column.
func (n need) updates(column string) bool {
	return n.update == "*" || slices.Contains(strings.Fields(n.update), column)
}

func tableNames() []string {
	names := make([]string, len(needs))
	for i, n := range needs {
		names[i] = n.table
	}
	return names
}
