package fleet

// Changes that the backend swallowed, and customers that it filled in badly.

// newestChange are rows that their own event made and a later one changed; its
// arguments are the table, the type that changes, the id member, a condition on
// the newest of that type, e, and the type that makes.
func newestChange(table, changes, id, condition, makes string) string {
	return `SELECT e.event_id, r.id, NULL::uuid FROM ` + table + ` r JOIN LATERAL (
			SELECT e.* FROM events e WHERE e.store_id = r.store_id AND e.type = '` + changes + `' AND SAID->>'` + id + `' = r.id::text
			ORDER BY e.created_at DESC, e.device_id DESC, e.seq DESC, e.event_id DESC LIMIT 1) e ON ` + condition + `
		WHERE r.store_id = $1 AND EXISTS (SELECT FROM events m WHERE m.store_id = r.store_id AND m.type = '` + makes + `'
			AND coalesce(nullif(m.delta_payload, '{}'), m.payload)->>'` + id + `' = r.id::text) ORDER BY r.id`
}

// ProductChangesSwallowed makes n products what they were when they were made,
// but for their prices (D14).
func ProductChangesSwallowed(n int) RowFault {
	return altered(n, "products whose changes were swallowed",
		newestChange("products", "ProductUpdated", "product_id", "SAID->'patch' ? 'image_url'", "ProductCreated"),
		`UPDATE products SET MERGED_PRODUCT FROM (
				SELECT DISTINCT ON (1) body->>'product_id' AS product, (PRODUCT_BASE) - '{price_bs,price_usd}'::text[] AS m
				FROM (SELECT e.*, SAID AS body FROM events e WHERE e.type = 'ProductCreated') e ORDER BY 1, created_at, device_id, seq, event_id) b
			WHERE b.product = id::text AND id = ANY($1)`)
}

// PricesZeroed zeroes the price that the newest PriceChanged of n products leaves
// alone (D30).
func PricesZeroed(n int) RowFault {
	return altered(n, "products with a price of 0",
		newestChange("products", "PriceChanged", "product_id", "coalesce(SAID->'price_bs', 'null') = 'null' OR coalesce(SAID->'price_usd', 'null') = 'null'", "ProductCreated"),
		`UPDATE products p SET price_bs = CASE WHEN coalesce(SAID->'price_bs', 'null') = 'null' THEN 0 ELSE price_bs END,
				price_usd = CASE WHEN coalesce(SAID->'price_usd', 'null') = 'null' THEN 0 ELSE price_usd END
			FROM (SELECT DISTINCT ON (SAID->>'product_id') e.* FROM events e WHERE e.type = 'PriceChanged'
				ORDER BY SAID->>'product_id', e.created_at DESC, e.device_id DESC, e.seq DESC, e.event_id DESC) e
			WHERE SAID->>'product_id' = p.id::text AND p.id = ANY($1)`)
}

// CustomerChangesSwallowed makes n customers what they were when they were made.
func CustomerChangesSwallowed(n int) RowFault {
	return altered(n, "customers whose changes were swallowed",
		newestChange("customers", "CustomerUpdated", "customer_id", "SAID->'patch' ? 'phone'", "CustomerCreated"),
		`UPDATE customers SET MERGED_CUSTOMER, updated_at = b.created_at FROM (
				SELECT DISTINCT ON (1) body->>'customer_id' AS customer, created_at, CUSTOMER_BASE AS m
				FROM (SELECT e.*, SAID AS body FROM events e WHERE e.type = 'CustomerCreated') e ORDER BY 1, created_at, device_id, seq, event_id) b
			WHERE b.customer = id::text AND id = ANY($1)`)
}

// PlaceholdersLeft leaves n customers as a sale made them up, though their own
// event came later (D28).
func PlaceholdersLeft(n int) RowFault {
	return altered(n, "customers who stayed what a sale made them up as",
		`SELECT DISTINCT ON (c.id) e.event_id, c.id, NULL::uuid FROM customers c
			JOIN events e ON e.store_id = c.store_id AND e.type = 'CustomerCreated' AND SAID->>'customer_id' = c.id::text
			JOIN events s ON s.store_id = c.store_id AND s.type = 'SaleCreated' AND coalesce(nullif(s.delta_payload, '{}'), s.payload)->'customer'->>'customer_id' = c.id::text
			WHERE c.store_id = $1 ORDER BY c.id, e.created_at, e.device_id, e.seq, e.event_id`,
		`UPDATE customers c SET name = coalesce(nullif(SAID->'customer'->>'name', ''), 'Cliente offline ' || left(c.id::text, 8)), phone = NULL,
				document_id = NULL, email = NULL, credit_limit = NULL, note = 'Auto-creado por proyeccion de venta (' || e.event_id || ')', updated_at = now()
			FROM events e WHERE c.id = ANY($1) AND e.store_id = c.store_id AND e.type = 'SaleCreated' AND SAID->'customer'->>'customer_id' = c.id::text`)
}

// CustomerFieldsDropped takes document, e-mail and limit from n customers (D29).
func CustomerFieldsDropped(n int) RowFault {
	return altered(n, "customers without document, e-mail and limit",
		`SELECT DISTINCT ON (r.id) e.event_id, r.id, NULL::uuid FROM customers r
			JOIN events e ON e.store_id = r.store_id AND e.type = 'CustomerCreated' AND SAID->>'customer_id' = r.id::text
			WHERE r.store_id = $1 AND r.document_id IS NOT NULL ORDER BY r.id, e.created_at, e.device_id, e.seq, e.event_id`,
		`UPDATE customers SET document_id = NULL, email = NULL, credit_limit = NULL WHERE id = ANY($1)`)
}
