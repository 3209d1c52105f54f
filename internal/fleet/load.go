package fleet

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/veloxpos/reconciled/internal/velox"
)

// A query yields a key and the columns of a row as a JSON object of texts; those
// that are NULL are dropped. ms() spells an instant.
const (
	ms = `(floor(extract(epoch FROM %s) * 1000)::bigint)`

	productsSQL = `SELECT id, to_jsonb(r) FROM (SELECT id, name, category, sku, barcode, description, image_url, price_bs, price_usd,
		cost_bs, cost_usd, profit_margin, low_stock_threshold, is_active, is_recipe, is_visible_public, product_type,
		public_name, public_description, public_image_url, public_category FROM products WHERE store_id = $1) r`
	customersSQL = `SELECT id, to_jsonb(r) FROM (SELECT id, name, phone, note, document_id, email, credit_limit, ms(updated_at) AS updated_at
		FROM customers WHERE store_id = $1) r`
	salesSQL = `SELECT id, to_jsonb(r) FROM (SELECT id, cash_session_id, ms(sold_at) AS sold_at, exchange_rate, currency, totals, payment,
		customer_id, sold_by_user_id, note, fiscal_number, ms(voided_at) AS voided_at, voided_by_user_id, void_reason
		FROM sales WHERE store_id = $1) r`
	itemsSQL = `SELECT sale_id, to_jsonb(r) - 'sale_id' FROM (SELECT i.sale_id, i.product_id, i.variant_id, i.qty, i.unit_price_bs, i.unit_price_usd,
		i.discount_bs, i.discount_usd, i.is_weight_product, i.weight_unit, i.weight_value, i.price_per_weight_bs, i.price_per_weight_usd
		FROM sale_items i JOIN sales s ON s.id = i.sale_id WHERE s.store_id = $1) r`
	movementsSQL = `SELECT id, to_jsonb(r) FROM (SELECT id, product_id, variant_id, warehouse_id, movement_type, qty_delta, unit_cost_bs,
		unit_cost_usd, note, from_escrow, ms(happened_at) AS happened_at
		FROM inventory_movements WHERE store_id = $1 AND ref ->> 'sale_id' IS NULL) r`
	saleMovementsSQL = `SELECT concat_ws('/', ref ->> 'sale_id', product_id, coalesce(variant_id::text, ''),
			CASE WHEN ref -> 'reversal' = 'true' THEN 'void' WHEN from_escrow THEN 'escrow' ELSE 'sold' END), jsonb_build_object('qty_delta', sum(qty_delta))
		FROM inventory_movements WHERE store_id = $1 AND ref ->> 'sale_id' IS NOT NULL GROUP BY 1`
	stockSQL = `SELECT concat_ws('/', w.warehouse_id, w.product_id, coalesce(w.variant_id::text, '')), jsonb_build_object('stock', w.stock)
		FROM warehouse_stock w JOIN warehouses h ON h.id = w.warehouse_id WHERE h.store_id = $1 AND w.stock <> 0`
	debtsSQL = `SELECT coalesce('sale:' || sale_id, id::text), to_jsonb(r) - 'sale_id' FROM (SELECT id, sale_id, customer_id, amount_bs, amount_usd, status,
		CASE WHEN sale_id IS NULL THEN ms(created_at) END AS created_at, CASE WHEN sale_id IS NULL THEN note END AS note
		FROM debts WHERE store_id = $1) r`
	paymentsSQL = `SELECT id, to_jsonb(r) FROM (SELECT p.id, coalesce('sale:' || d.sale_id, d.id::text) AS debt, p.amount_bs, p.amount_usd,
		p.method, p.note, ms(p.paid_at) AS paid_at FROM debt_payments p JOIN debts d ON d.id = p.debt_id WHERE p.store_id = $1) r`
	sessionsSQL = `SELECT id, to_jsonb(r) FROM (SELECT id, opened_by, ms(opened_at) AS opened_at, opening_amount_bs, opening_amount_usd,
		closed_by, ms(closed_at) AS closed_at, expected, counted, note, coalesce(ledger_p_bs, 0.00) AS ledger_p_bs, coalesce(ledger_n_bs, 0.00) AS ledger_n_bs,
		coalesce(ledger_p_usd, 0.00) AS ledger_p_usd, coalesce(ledger_n_usd, 0.00) AS ledger_n_usd FROM cash_sessions WHERE store_id = $1) r`
	ledgerSQL = `SELECT id, to_jsonb(r) FROM (SELECT id, entry_type, amount_bs, amount_usd, currency, cash_session_id, ms(sold_at) AS sold_at,
		device_id, seq, event_id, request_id FROM cash_ledger_entries WHERE store_id = $1) r`
	recipesSQL = `SELECT i.recipe_product_id, jsonb_build_object('ingredient_product_id', i.ingredient_product_id, 'qty', i.qty, 'unit', i.unit)
		FROM recipe_ingredients i JOIN products p ON p.id = i.recipe_product_id WHERE p.store_id = $1`
	escrowSQL = `SELECT concat_ws('/', product_id, device_id, coalesce(variant_id::text, '')), to_jsonb(r) - 'product_id' - 'device_id' - 'variant_id'
		FROM (SELECT product_id, device_id, variant_id, qty_granted, ms(expires_at) AS expires_at FROM stock_escrow WHERE store_id = $1) r`
)

// Load reads a store's read model from a database, in one snapshot.
func Load(ctx context.Context, db Conn, store velox.StoreID) (ReadModel, error) {
	m := newReadModel()
	err := atomically(ctx, db, "load read model", func(tx pgx.Tx) error {
		// In a transaction of the caller's this fails, and its isolation stands.
		if _, ok := db.(pgx.Tx); !ok {
			if _, err := tx.Exec(ctx, `SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY`); err != nil {
				return err
			}
		}
		for _, q := range []struct {
			sql string
			to  Table
		}{
			{productsSQL, m.Products},
			{recipesSQL, m.Recipes},
			{customersSQL, m.Customers},
			{salesSQL, m.Sales},
			{itemsSQL, m.Items},
			{movementsSQL, m.Movements},
			{saleMovementsSQL, m.Movements},
			{stockSQL, m.Stock},
			{escrowSQL, m.Escrow},
			{debtsSQL, m.Debts},
			{paymentsSQL, m.Payments},
			{sessionsSQL, m.Sessions},
			{ledgerSQL, m.Ledger},
		} {
			if err := load(ctx, tx, store, q.sql, q.to); err != nil {
				return err
			}
		}
		return nil
	})
	return m, err
}

// spread gives a sale's totals columns of their own.
func (r Row) spread(totals json.RawMessage) {
	var values fields
	_ = json.Unmarshal(totals, &values) // jsonb is valid JSON
	for name, value := range values {
		r.set("totals."+name, canonical(value))
	}
}

func load(ctx context.Context, tx pgx.Tx, store velox.StoreID, sql string, to Table) error {
	rows, err := tx.Query(ctx, expandMS(sql), store)
	if err != nil {
		return err
	}
	var (
		key     string
		columns json.RawMessage
	)
	_, err = pgx.ForEachRow(rows, []any{&key, &columns}, func() error {
		var values fields
		if err := json.Unmarshal(columns, &values); err != nil {
			return err
		}
		row := Row{}
		for column, value := range values {
			switch column {
			case "id":
			case "totals":
				row.spread(value)
			default:
				row.set(column, spelled(value))
			}
		}
		if sql == itemsSQL || sql == recipesSQL {
			to.count(key, row)
		} else {
			to[key] = row
		}
		return nil
	})
	return err
}

// spelled is a column's text: objects canonical, all else as Postgres prints it.
func spelled(value json.RawMessage) string {
	var s string
	switch {
	case string(value) == "null":
		return ""
	case value[0] == '{':
		return canonical(value)
	case json.Unmarshal(value, &s) == nil:
		return s
	default:
		return string(value)
	}
}

func expandMS(sql string) string {
	for {
		before, rest, found := strings.Cut(sql, "ms(")
		if !found {
			return sql
		}
		column, after, _ := strings.Cut(rest, ")")
		sql = before + fmt.Sprintf(ms, column) + after
	}
}
