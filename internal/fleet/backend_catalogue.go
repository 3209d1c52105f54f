package fleet

import "strings"

// What made a product or a customer, with every member that a column stands for.
const (
	productBaseSQL = `jsonb_build_object(
				'price_bs', 0, 'price_usd', 0, 'cost_bs', 0, 'cost_usd', 0, 'low_stock_threshold', 0, 'profit_margin', 0, 'is_active', true,
				'category', null, 'sku', null, 'barcode', null, 'description', null, 'image_url', null, 'is_recipe', false, 'is_visible_public', false,
				'public_name', null, 'public_description', null, 'public_image_url', null, 'public_category', null) || body
				|| jsonb_build_object('product_type', coalesce(txt(body, product_type), CASE WHEN txt(body, is_recipe) IS NULL THEN 'sale_item' ELSE 'prepared' END))`
	customerBaseSQL = `'{"phone": null, "note": null, "document_id": null, "email": null, "credit_limit": null}' || body`
)

const (
	// projectProducts only sees to it that there is a row; its details come next.
	projectProducts = `WITH rows AS (INSERT INTO products (id, store_id, name)
		SELECT DISTINCT ON (1) uid(body, product_id), store_id, body->>'name'
		FROM EVENTS WHERE type = 'ProductCreated' AND uid(body, product_id) IS NOT NULL
			AND NOT EXISTS (SELECT FROM products p WHERE p.id = uid(body, product_id))
		ORDER BY 1, created_at, device_id, seq, event_id)` + nothingMoved

	// A product is what made it, with the newest of every member that changed it.
	projectProductDetails = `WITH concerned AS MATERIALIZED (SELECT DISTINCT uid(body, product_id) AS product FROM EVENTS
			WHERE type IN ('ProductCreated', 'ProductUpdated', 'PriceChanged', 'ProductDeactivated')),
		base AS (SELECT DISTINCT ON (1) uid(body, product_id) AS product, PRODUCT_BASE AS said
			FROM LOG WHERE type = 'ProductCreated' AND uid(body, product_id) IN (SELECT product FROM concerned)
				AND (NOT {D14} OR event_id IN (SELECT e.event_id FROM EVENTS))
			ORDER BY 1, created_at, device_id, seq, event_id),
		change AS (
			SELECT uid(body, product_id) AS product, e.*, CASE type
				WHEN 'ProductUpdated' THEN CASE jsonb_typeof(body->'patch') WHEN 'object' THEN body->'patch' ELSE '{}' END
				WHEN 'ProductDeactivated' THEN '{"is_active": false}'
				ELSE jsonb_strip_nulls(jsonb_build_object(
					'price_bs', CASE WHEN {D30} THEN to_jsonb(num(body, price_bs)) ELSE body->'price_bs' END,
					'price_usd', CASE WHEN {D30} THEN to_jsonb(num(body, price_usd)) ELSE body->'price_usd' END)) END AS patch
			FROM LOG WHERE type IN ('ProductUpdated', 'PriceChanged', 'ProductDeactivated') AND uid(body, product_id) IN (SELECT product FROM concerned)),
		newest AS (SELECT DISTINCT ON (product, key) product, key, value FROM change c, jsonb_each(patch)
			WHERE NOT {D14} OR type = 'PriceChanged' OR created_at >= (SELECT p.updated_at FROM products p WHERE p.id = c.product)
			ORDER BY product, key, created_at DESC, device_id DESC, seq DESC, event_id DESC),
		merged AS (SELECT product, coalesce(b.said, '{}') || coalesce(c.patch, '{}') AS m
			FROM base b FULL JOIN (SELECT product, jsonb_object_agg(key, value) AS patch FROM newest GROUP BY 1) c USING (product)),
		rows AS (UPDATE products SET MERGED_PRODUCT, updated_at = now() FROM merged WHERE id = product AND store_id = $1)` + nothingMoved

	// The newest list stands, as far as its products are there; one that comes
	// later completes it.
	projectRecipes = `WITH newest AS MATERIALIZED (
			SELECT DISTINCT ON (1) uid(body, product_id) AS recipe, body->'ingredients' AS ingredients FROM LOG
			WHERE type = 'RecipeIngredientsUpdated' AND jsonb_typeof(body->'ingredients') = 'array'
			ORDER BY 1, created_at DESC, device_id DESC, seq DESC, event_id DESC),
		concerned AS MATERIALIZED (
			SELECT recipe, ingredients FROM newest n WHERE EXISTS (SELECT FROM products p WHERE p.id = recipe AND p.store_id = $1)
				AND EXISTS (SELECT FROM EVENTS WHERE type = 'RecipeIngredientsUpdated' AND uid(body, product_id) = n.recipe
					OR type = 'ProductCreated' AND n.ingredients @> jsonb_build_array(jsonb_build_object('ingredient_product_id', body->'product_id')))),
		gone AS (DELETE FROM recipe_ingredients r USING concerned c WHERE r.recipe_product_id = c.recipe),
		rows AS (INSERT INTO recipe_ingredients (recipe_product_id, ingredient_product_id, qty, unit)
			SELECT recipe, uid(line, ingredient_product_id), round(num(line, qty), 3), txt(line, unit)
			FROM concerned, jsonb_array_elements(ingredients) AS line
			WHERE round(num(line, qty), 3) > 0 AND uid(line, ingredient_product_id) <> recipe
				AND EXISTS (SELECT FROM products p WHERE p.id = uid(line, ingredient_product_id) AND p.store_id = $1))` + nothingMoved

	// projectCustomers leaves those whom a sale speaks of first to the sale, where
	// that is what becomes of them.
	projectCustomers = `WITH named AS (SELECT body->'customer'->>'customer_id' AS customer, min(created_at) AS at FROM EVENTS
			WHERE type = 'SaleCreated' AND {D28} GROUP BY 1),
		rows AS (INSERT INTO customers (id, store_id, name, phone, note, updated_at)
		SELECT DISTINCT ON (1) uid(body, customer_id), store_id, body->>'name', txt(body, phone), txt(body, note), created_at
		FROM EVENTS WHERE type = 'CustomerCreated' AND uid(body, customer_id) IS NOT NULL
			AND NOT EXISTS (SELECT FROM named n WHERE n.customer = body->>'customer_id' AND n.at < created_at)
			AND NOT EXISTS (SELECT FROM customers c WHERE c.id = uid(body, customer_id))
		ORDER BY 1, created_at, device_id, seq, event_id)` + nothingMoved

	// As with products; what a sale made up is a base too, until there is a better.
	projectCustomerDetails = `WITH concerned AS MATERIALIZED (
			SELECT DISTINCT coalesce(uid(c, customer_id), uid(body, customer_id)) AS customer
			FROM EVENTS, LATERAL (SELECT CASE jsonb_typeof(body->'customer') WHEN 'object' THEN body->'customer' ELSE '{}' END AS c) buyer
			WHERE type IN ('CustomerCreated', 'CustomerUpdated', 'SaleCreated')),
		said AS (SELECT uid(body, customer_id) AS customer, e.* FROM LOG
			WHERE type IN ('CustomerCreated', 'CustomerUpdated') AND uid(body, customer_id) IN (SELECT customer FROM concerned)),
		base AS (SELECT DISTINCT ON (1) customer, said.created_at,
				CUSTOMER_BASE AS said
			FROM said JOIN customers k ON k.id = customer
			WHERE type = 'CustomerCreated' AND (NOT {D28} OR coalesce(k.note, '') NOT LIKE 'Auto-creado por proyeccion de venta%') ORDER BY 1, said.created_at, device_id, seq, event_id),
		change AS (SELECT s.*, CASE jsonb_typeof(body->'patch') WHEN 'object' THEN body->'patch' ELSE '{}' END AS patch
			FROM said s JOIN customers k ON k.id = customer
			WHERE type = 'CustomerUpdated' AND (NOT {D28} OR s.created_at >= k.updated_at)),
		newest AS (SELECT DISTINCT ON (customer, key) customer, key, value FROM change, jsonb_each(patch)
			ORDER BY customer, key, created_at DESC, device_id DESC, seq DESC, event_id DESC),
		merged AS (SELECT customer, (coalesce(b.said, '{}') || coalesce(c.patch, '{}'))
				- CASE WHEN {D29} THEN '{document_id,email,credit_limit}'::text[] ELSE '{}' END AS m,
				greatest(b.created_at, (SELECT max(created_at) FROM change WHERE change.customer = c.customer)) AS changed
			FROM base b FULL JOIN (SELECT customer, jsonb_object_agg(key, value) AS patch FROM newest GROUP BY 1) c USING (customer)),
		rows AS (UPDATE customers SET MERGED_CUSTOMER, updated_at = changed FROM merged WHERE id = customer AND store_id = $1)` + nothingMoved
)

// What becomes of a merged payload's members that are there; the others leave
// their columns alone.
var (
	productColumnsSQL = assigned(
		"name", "text", "category", "txt", "sku", "txt", "barcode", "txt", "description", "txt", "image_url", "txt",
		"public_name", "txt", "public_description", "txt", "public_image_url", "txt", "public_category", "txt", "product_type", "text",
		"price_bs", "num", "price_usd", "num", "cost_bs", "num", "cost_usd", "num", "low_stock_threshold", "num", "profit_margin", "num",
		"is_recipe", "truth", "is_visible_public", "truth", "is_active", "unless false")
	customerColumnsSQL = assigned(
		"name", "text", "phone", "txt", "note", "txt", "document_id", "txt", "email", "txt", "credit_limit", "num or null")
)

// assigned is a list of assignments from m, of columns and how each is converted.
func assigned(columns ...string) string {
	var list []string
	for i := 0; i < len(columns); i += 2 {
		c := columns[i]
		value := map[string]string{
			"text": "m->>'" + c + "'", "txt": "txt(m, " + c + ")", "num": "num(m, " + c + ")", "truth": "txt(m, " + c + ") IS NOT NULL",
			"unless false": "m->'" + c + "' IS DISTINCT FROM 'false'", "num or null": "CASE WHEN m->>'" + c + "' <> '' THEN num(m, " + c + ") END",
		}[columns[i+1]]
		list = append(list, c+" = CASE WHEN m ? '"+c+"' THEN "+value+" ELSE "+c+" END")
	}
	return strings.Join(list, ", ")
}
