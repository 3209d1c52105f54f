package fleet

import "fmt"

// sold are sales that stand, with their event; the placeholder is one condition more.
const sold = `SELECT e.event_id, s.id, NULL::uuid FROM sales s JOIN events e ON e.store_id = s.store_id AND e.type = 'SaleCreated' AND SAID->>'sale_id' = s.id::text
	WHERE s.store_id = $1 AND s.voided_at IS NULL AND %s ORDER BY s.id`

// SalesWithoutItems leaves of n sales all but their items.
func SalesWithoutItems(n int) RowFault {
	return RowFault{
		Name: fmt.Sprintf("%d sales without their items", n), n: n,
		victims: fmt.Sprintf(sold, "EXISTS (SELECT FROM sale_items i WHERE i.sale_id = s.id)"),
		spoil:   []string{dropItems},
	}
}

// SalesShortOfAnItem takes one of several items from n sales.
func SalesShortOfAnItem(n int) RowFault {
	return RowFault{
		Name: fmt.Sprintf("%d sales with one of several items gone", n), n: n,
		victims: fmt.Sprintf(sold, "(SELECT count(*) FROM sale_items i WHERE i.sale_id = s.id) > 1"),
		spoil: []string{`DELETE FROM sale_items WHERE id IN
			(SELECT DISTINCT ON (sale_id) id FROM sale_items WHERE sale_id = ANY($1) ORDER BY sale_id, id)`},
	}
}

// SalesWithoutMovements takes the stock movements of n sales.
func SalesWithoutMovements(n int) RowFault {
	return RowFault{
		Name: fmt.Sprintf("%d sales without their stock movements", n), n: n,
		victims:  fmt.Sprintf(sold, "EXISTS (SELECT FROM inventory_movements m WHERE m.store_id = s.store_id AND m.ref->>'sale_id' = s.id::text)"),
		products: productsOfSales,
		spoil:    []string{dropMovements},
	}
}

// VoidsWithoutReversal leaves n sales voided, but what they sold not put back.
func VoidsWithoutReversal(n int) RowFault {
	return RowFault{
		Name: fmt.Sprintf("%d voids without their reversal movements", n), n: n,
		victims:  fmt.Sprintf(voided, "v.event_id, s.id, NULL::uuid"),
		products: productsOfSales,
		spoil:    []string{dropMovements + ` AND ref->'reversal' = 'true'`},
	}
}

// DebtsResurrected gives n voided sales the debt of their DebtCreated back, as if
// it had come after the void.
func DebtsResurrected(n int) RowFault {
	return RowFault{
		Name: fmt.Sprintf("%d voided sales that still have a debt", n), n: n,
		victims: `SELECT v.event_id, s.id, NULL::uuid FROM sales s
			JOIN events e ON e.store_id = s.store_id AND e.type = 'DebtCreated' AND SAID->>'sale_id' = s.id::text
			JOIN events v ON v.store_id = s.store_id AND v.type = 'SaleVoided' AND coalesce(nullif(v.delta_payload, '{}'), v.payload)->>'sale_id' = s.id::text
			WHERE s.store_id = $1 AND s.voided_at IS NOT NULL AND e.conflict_status = 'resolved' ORDER BY s.id`,
		spoil: []string{`INSERT INTO debts (id, store_id, sale_id, customer_id, created_at, amount_bs, amount_usd)
			SELECT (SAID->>'debt_id')::uuid, e.store_id, (SAID->>'sale_id')::uuid, (SAID->>'customer_id')::uuid, e.created_at,
				(SAID->>'amount_bs')::numeric, (SAID->>'amount_usd')::numeric
			FROM events e WHERE e.type = 'DebtCreated' AND SAID->>'sale_id' = ANY($1::uuid[]::text[])`},
		quiet: true,
	}
}

// PaymentsWithoutEffect leaves n debts open that have been paid on.
func PaymentsWithoutEffect(n int) RowFault {
	return RowFault{
		Name: fmt.Sprintf("%d debts open in spite of their payments", n), n: n,
		victims: `SELECT DISTINCT ON (d.id) e.event_id, d.id, NULL::uuid FROM debts d JOIN debt_payments p ON p.debt_id = d.id
			JOIN events e ON e.store_id = p.store_id AND e.type IN ('DebtPaymentRecorded', 'DebtPaymentAdded') AND SAID->>'payment_id' = p.id::text
			WHERE d.store_id = $1 AND d.status <> 'open' ORDER BY d.id, e.created_at DESC, e.device_id DESC, e.seq DESC`,
		spoil: []string{`UPDATE debts SET status = 'open' WHERE id = ANY($1)`},
		quiet: true,
	}
}

// RecipesMissing takes the ingredients of n recipes.
func RecipesMissing(n int) RowFault {
	return RowFault{
		Name: fmt.Sprintf("%d recipes without their ingredients", n), n: n,
		victims: `SELECT e.event_id, p.id, NULL::uuid FROM products p JOIN LATERAL (
				SELECT event_id FROM events e WHERE e.store_id = p.store_id AND e.type = 'RecipeIngredientsUpdated' AND SAID->>'product_id' = p.id::text
				ORDER BY created_at DESC, device_id DESC, seq DESC, event_id DESC LIMIT 1) e ON true
			WHERE p.store_id = $1 AND EXISTS (SELECT FROM recipe_ingredients r WHERE r.recipe_product_id = p.id) ORDER BY p.id`,
		spoil: []string{`DELETE FROM recipe_ingredients WHERE recipe_product_id = ANY($1)`},
	}
}

// LedgerMissing takes out n cash entries, and what their sessions count of them.
func LedgerMissing(n int) RowFault {
	return RowFault{
		Name: fmt.Sprintf("%d cash entries missing", n), n: n,
		victims: `SELECT event_id, id, NULL::uuid FROM cash_ledger_entries WHERE store_id = $1 AND cash_session_id IS NOT NULL ORDER BY id`,
		spoil: []string{
			`UPDATE cash_sessions SET ledger_p_bs = 0, ledger_n_bs = 0, ledger_p_usd = 0, ledger_n_usd = 0
				WHERE id IN (SELECT cash_session_id FROM cash_ledger_entries WHERE id = ANY($1))`,
			`DELETE FROM cash_ledger_entries WHERE id = ANY($1)`,
		},
	}
}

// QuotasMissing takes the escrow of n products and the movements of their quotas,
// as where the online API made them and nobody projected them (D21). Of these
// products nothing was sold from a quota; or, when sold is true, something was,
// and the sales look as if it came off the shelf.
func QuotasMissing(n int, sold bool) RowFault {
	f := RowFault{
		Name: fmt.Sprintf("quotas of %d products without effect", n), n: 1000 * n,
		products: `SELECT unnest($1::uuid[])`,
		spoil: []string{
			`DELETE FROM stock_escrow WHERE product_id = ANY($1)`,
			`DELETE FROM inventory_movements WHERE product_id = ANY($1) AND movement_type IN ('transfer_out', 'transfer_in')`,
		},
		quiet: true,
	}
	has := "NOT EXISTS"
	if sold {
		f.Name = fmt.Sprintf("quotas of %d products without effect, which were sold from", n)
		has = "EXISTS"
		f.spoil = append(f.spoil, `UPDATE inventory_movements SET from_escrow = false WHERE product_id = ANY($1) AND movement_type = 'sold'`)
	}
	f.victims = fmt.Sprintf(`SELECT e.event_id, p.id, NULL::uuid FROM (SELECT DISTINCT x.product_id AS id, x.store_id FROM stock_escrow x WHERE x.store_id = $1
			AND %s (SELECT FROM inventory_movements m WHERE m.product_id = x.product_id AND m.movement_type = 'sold' AND m.from_escrow)
			ORDER BY x.product_id LIMIT %d) p
		JOIN events e ON e.store_id = p.store_id AND e.type IN ('StockQuotaGranted', 'StockQuotaTransferred', 'StockQuotaReclaimed')
			AND SAID->>'product_id' = p.id::text ORDER BY p.id, e.created_at`, has, n)
	return f
}
