package fleet

import "fmt"

// A row whose event is processed, and which says something else.

// made are rows and the event that made each; its arguments are the table, the
// types, the member that is the row's id, and one condition more.
const made = `SELECT e.event_id, r.id, NULL::uuid FROM %s r JOIN events e ON e.store_id = r.store_id AND e.type IN (%s) AND SAID->>'%s' = r.id::text
	WHERE r.store_id = $1 AND %s ORDER BY r.id`

func altered(n int, what, victims, spoil string) RowFault {
	return RowFault{Name: fmt.Sprintf("%d %s", n, what), n: n, victims: victims, spoil: []string{spoil}, quiet: true}
}

// SalesAltered changes the total of n sales.
func SalesAltered(n int) RowFault {
	return altered(n, "sales whose total was changed", fmt.Sprintf(sold, "true"),
		`UPDATE sales SET totals = totals || '{"total_usd": 0.07}' WHERE id = ANY($1)`)
}

// ItemsAltered changes the price of an item in each of n sales.
func ItemsAltered(n int) RowFault {
	return altered(n, "sales with an item whose price was changed", fmt.Sprintf(sold, "EXISTS (SELECT FROM sale_items i WHERE i.sale_id = s.id)"),
		`UPDATE sale_items SET unit_price_usd = unit_price_usd + 1 WHERE id IN
			(SELECT DISTINCT ON (sale_id) id FROM sale_items WHERE sale_id = ANY($1) ORDER BY sale_id, id)`)
}

// DebtsAltered changes the amount of n debts that no sale stands behind.
func DebtsAltered(n int) RowFault {
	return altered(n, "debts whose amount was changed", fmt.Sprintf(made, "debts", "'DebtCreated'", "debt_id", "r.sale_id IS NULL"),
		`UPDATE debts SET amount_bs = amount_bs + 1 WHERE id = ANY($1)`)
}

// PaymentsAltered changes the method of n payments.
func PaymentsAltered(n int) RowFault {
	return altered(n, "debt payments whose method was changed",
		fmt.Sprintf(made, "debt_payments", "'DebtPaymentRecorded', 'DebtPaymentAdded'", "payment_id", "e.conflict_status = 'resolved'"),
		`UPDATE debt_payments SET method = 'ZELLE' WHERE id = ANY($1)`)
}

// ProductsAltered changes the cost of n products, which only their making sets.
func ProductsAltered(n int) RowFault {
	return altered(n, "products whose cost was changed", fmt.Sprintf(made, "products", "'ProductCreated'", "product_id", "true"),
		`UPDATE products SET cost_usd = cost_usd + 1 WHERE id = ANY($1)`)
}

// SessionsAltered changes what n cash sessions opened with.
func SessionsAltered(n int) RowFault {
	return altered(n, "cash sessions whose opening amount was changed", fmt.Sprintf(made, "cash_sessions", "'CashSessionOpened'", "session_id", "true"),
		`UPDATE cash_sessions SET opening_amount_bs = opening_amount_bs + 1 WHERE id = ANY($1)`)
}

// LedgerAltered changes the amount of n cash entries.
func LedgerAltered(n int) RowFault {
	return altered(n, "cash entries whose amount was changed",
		`SELECT event_id, id, NULL::uuid FROM cash_ledger_entries WHERE store_id = $1 ORDER BY id`,
		`UPDATE cash_ledger_entries SET amount_bs = amount_bs + 1 WHERE id = ANY($1)`)
}

// MovementsAltered changes the quantity of n receipts and adjustments; the totals
// follow.
func MovementsAltered(n int) RowFault {
	f := altered(n, "stock movements whose quantity was changed",
		fmt.Sprintf(made, "inventory_movements", "'StockReceived', 'StockAdjusted', 'StockDeltaApplied'", "movement_id",
			"e.conflict_status = 'resolved' AND NOT r.from_escrow"),
		`UPDATE inventory_movements SET qty_delta = qty_delta + 1 WHERE id = ANY($1)`)
	f.products = productsOfMovements
	return f
}

// MovementsWithoutVariant are n movements of StockDeltaApplied that have lost
// their variant (D10).
func MovementsWithoutVariant(n int) RowFault {
	f := altered(n, "stock movements whose variant was lost",
		fmt.Sprintf(made, "inventory_movements", "'StockDeltaApplied'", "movement_id", "e.conflict_status = 'resolved' AND NOT r.from_escrow AND r.variant_id IS NOT NULL"),
		`UPDATE inventory_movements SET variant_id = NULL WHERE id = ANY($1)`)
	f.products = productsOfMovements
	return f
}

const productsOfMovements = `SELECT DISTINCT product_id FROM inventory_movements WHERE id = ANY($1)`

// DiscountsDropped zeroes the discounts in the totals of n sales (D15).
func DiscountsDropped(n int) RowFault {
	return altered(n, "sales whose discounts are 0", fmt.Sprintf(sold, "(s.totals->>'discount_usd')::numeric > 0"),
		`UPDATE sales SET totals = totals || '{"discount_bs": 0, "discount_usd": 0}' WHERE id = ANY($1)`)
}
