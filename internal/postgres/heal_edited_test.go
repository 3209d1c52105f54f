package postgres_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/veloxpos/reconciled/healer"
	"github.com/veloxpos/reconciled/internal/velox"
)

// A product is edited online; then a till changes a price, and the backend projects
// that. The edit has no event, and must outlive the next one.
func TestAnOnlineEditOutlivesTheNextEventOfTheProduct(t *testing.T) {
	h := newHealing(t, healer.Options{})
	h.log(product("flour", 0))
	h.heal()
	h.exec(`UPDATE products SET created_at = now() - interval '3 days', updated_at = now() - interval '2 days'`)
	h.exec(`UPDATE reconciled.heal_log SET healed_at = now() - interval '2 days'`)
	h.heal()
	h.exec(`UPDATE products SET name = 'editada', category = 'Abarrotes', price_bs = 55, updated_at = now() - interval '1 day'`)
	h.log(event("price", velox.PriceChanged, 30, map[string]any{"product_id": flour, "price_usd": 3}))
	h.exec(`INSERT INTO outbox_entries (event_id, event_type, store_id, target, status, processed_at)
		SELECT event_id::text, type, store_id, 'projection', 'processed', now() FROM events WHERE type = 'PriceChanged'`)
	h.exec(`UPDATE products SET price_usd = 3, updated_at = now()`)
	for range 2 {
		h.heal()
	}
	h.expect("editada Abarrotes 55.00 3.00", `SELECT concat_ws(' ', name, category, price_bs, price_usd) FROM products`)
}

// Two cash entries under one request id are one act: the second is a gap, and does not
// keep its slot on the list for ever.
func TestASecondEntryOfOneRequestIsBlockedAndNamed(t *testing.T) {
	h := newHealing(t, healer.Options{})
	entry := func(name string) said {
		return event(name, velox.CashLedgerEntryCreated, 1, map[string]any{
			"entry_id": id(name), "request_id": id("request"), "entry_type": "sale", "amount_bs": 10, "amount_usd": 0,
		})
	}
	h.log(entry("first"), entry("second"))
	if report := h.heal(); report.Healed != 1 || report.Blocked != 1 || report.Backend != 0 {
		t.Errorf("report %+v", report.Counts)
	}
	h.expect("0 1", `SELECT (SELECT count(*) FROM reconciled.worklist) || ' ' || (SELECT count(*) FROM reconciled.gap WHERE class = 'blocked')`)
}

// An online sale whose thin event comes back from the other side keeps its own lines.
func TestAnOnlineSaleThatComesBackIsNotGivenASecondLine(t *testing.T) {
	h := newHealing(t, healer.Options{})
	h.log(product("flour", 0), opened(1))
	h.heal()
	sale := sold("one", 2, nil, flour)
	sale.device = velox.ServerDevice
	h.log(sale)
	h.heal()
	h.exec(`INSERT INTO product_variants (id, product_id, variant_type, variant_value) VALUES ($1, $2, 'talla', 'M')`, id("variant"), flour)
	h.exec(`UPDATE sale_items SET variant_id = $1`, id("variant"))
	h.exec(`UPDATE inventory_movements SET variant_id = $1`, id("variant"))
	h.exec(`INSERT INTO outbox_entries (event_id, event_type, store_id, target, status)
		SELECT event_id::text, type, store_id, 'projection', 'processed' FROM events WHERE type = 'SaleCreated'`)
	h.reread()
	h.heal()
	h.expect("1 1", `SELECT (SELECT count(*) FROM sale_items) || ' ' || (SELECT count(*) FROM inventory_movements)`)
}

// But a product that an online sale lost is brought back, at its origin and elsewhere.
func TestALineThatAnOnlineSaleLostIsBroughtBack(t *testing.T) {
	for name, arrives := range map[string]string{
		"at its origin": `SELECT 1`,
		"elsewhere": `INSERT INTO outbox_entries (event_id, event_type, store_id, target, status)
			SELECT event_id::text, type, store_id, 'projection', 'processed' FROM events WHERE type = 'SaleCreated'`,
	} {
		t.Run(name, func(t *testing.T) {
			h := newHealing(t, healer.Options{})
			h.log(product("flour", 0), product("rice", 0), opened(1))
			h.heal()
			sale := sold("one", 2, nil, flour, rice)
			sale.device = velox.ServerDevice
			h.log(sale)
			h.heal()
			h.exec(arrives)
			h.exec(`DELETE FROM sale_items WHERE product_id = $1`, rice)
			h.mends(1)
			h.expect("1 1", `SELECT count(*) FILTER (WHERE product_id = $1) || ' ' || count(*) FILTER (WHERE product_id = $2) FROM sale_items`, flour, rice)
		})
	}
}

func recipeOf(name string, minute int, lines ...any) said {
	return event("recipe "+name, velox.RecipeIngredientsUpdated, minute, map[string]any{"product_id": flour, "ingredients": lines})
}

func ingredient(name string, qty any) map[string]any {
	return map[string]any{"ingredient_product_id": id(name), "qty": qty}
}

const ingredients = `SELECT string_agg(qty::text, ' ' ORDER BY qty) FROM recipe_ingredients`

// ago moves what is written down of projections back in time, and the rows with it.
func (h *healing) ago(interval string) {
	h.Helper()
	h.exec(`UPDATE outbox_entries SET processed_at = processed_at - $1::text::interval`, interval)
	h.exec(`UPDATE reconciled.heal_log SET healed_at = healed_at - $1::text::interval`, interval)
	h.exec(`UPDATE recipe_ingredients SET created_at = created_at - $1::text::interval, updated_at = updated_at - $1::text::interval`, interval)
	h.exec(`UPDATE sales SET created_at = created_at - $1::text::interval, updated_at = updated_at - $1::text::interval`, interval)
}

func TestD22ARecipeThatWasEditedOnlineIsNotBroughtBack(t *testing.T) {
	for name, edit := range map[string]struct{ sql, left string }{
		"emptied":         {`DELETE FROM recipe_ingredients`, ""},
		"short of a line": {`DELETE FROM recipe_ingredients WHERE qty = 2`, "1.000"},
		"changed":         {`UPDATE recipe_ingredients SET qty = 5, updated_at = now() WHERE qty = 2`, "1.000 5.000"},
		"put in anew": {`DELETE FROM recipe_ingredients; INSERT INTO recipe_ingredients (recipe_product_id, ingredient_product_id, qty)
			SELECT p.id, i.id, 7 FROM products p, products i WHERE p.name = 'flour' AND i.name = 'rice'`, "7.000"},
	} {
		for _, by := range []string{"backend", "healer"} {
			t.Run(name+" after the "+by, func(t *testing.T) {
				h := newHealing(t, healer.Options{})
				events := []said{product("flour", 0), product("rice", 0), product("salt", 0), recipeOf("first", 1, ingredient("rice", 1), ingredient("salt", 2))}
				if by == "backend" {
					h.pushed(right, events...)
					h.mends(0)
				} else {
					h.log(events...)
					h.mends(4)
				}
				h.ago("1 hour")
				h.exec(edit.sql)
				h.mends(0)
				h.expect(edit.left, ingredients)
				// The next recipe that a till makes is projected.
				h.log(recipeOf("second", 2, ingredient("rice", 3)))
				if edit.left == "" {
					h.mends(1)
					h.expect("3.000", ingredients)
				}
			})
		}
	}
}

// What no statement has deleted is lost, and what a projection has deleted is no edit.
func TestARecipeThatWasLostIsBroughtBack(t *testing.T) {
	h := newHealing(t, healer.Options{})
	second := recipeOf("second", 2, ingredient("rice", 3), ingredient("sugar", 4))
	h.pushed(right, product("flour", 0), product("rice", 0), recipeOf("first", 1, ingredient("rice", 1)))
	h.mends(0)
	h.ago("1 hour")
	h.exec(`SET session_replication_role = replica; DELETE FROM recipe_ingredients; RESET session_replication_role`)
	h.reread()
	h.mends(1)
	h.expect("1.000", ingredients)
	h.ago("1 hour")
	h.exec(`TRUNCATE recipe_ingredients`)
	h.reread()
	h.mends(1)
	h.expect("1.000", ingredients)
	h.ago("1 hour")
	// The healer takes the first out for the second, of which an ingredient is missing.
	h.log(second)
	if report := h.mends(0); report.Waiting != 1 {
		t.Errorf("report %+v", report.Counts)
	}
	h.expect("3.000", ingredients)
	h.ago("1 hour")
	h.log(product("sugar", 0))
	h.mends(2)
	h.expect("3.000 4.000", ingredients)
	// The backend takes it out for an older one, and does not see that it is older.
	h.ago("1 hour")
	h.log(recipeOf("older", 1))
	h.exec(`DELETE FROM recipe_ingredients`)
	h.exec(`INSERT INTO outbox_entries (event_id, event_type, store_id, target, status, processed_at) VALUES ($1, 'RecipeIngredientsUpdated', $2, 'projection', 'processed', now())`,
		id("event recipe older").String(), shop)
	h.mends(1)
	h.expect("3.000 4.000", ingredients)
}

const circumstances = `SELECT concat_ws(' ', note, customer_id, cash_session_id, sold_by_user_id) FROM sales`

// What a person notes of a sale, or sets right about whom and which session it was of, is
// no event's; what was paid for what is.
func TestASaleThatWasEditedOnlineKeepsItsCircumstances(t *testing.T) {
	edited := strings.Join([]string{"por cobrar", maria.String(), id("evening").String(), id("pedro").String()}, " ")
	for _, by := range []string{"backend", "healer"} {
		t.Run("after the "+by, func(t *testing.T) {
			h := newHealing(t, healer.Options{})
			h.exec(`INSERT INTO profiles (id, full_name) VALUES ($1, 'Pedro')`, id("pedro"))
			evening := opened(0)
			evening.event, evening.body = id("evening opened"), map[string]any{"session_id": id("evening")}
			events := []said{product("flour", 0), opened(1), evening, customerCreated(1), sold("one", 2, nil, flour)}
			if by == "backend" {
				h.pushed(right, events...)
				h.mends(0)
			} else {
				h.log(events...)
				h.mends(5)
			}
			was := h.text(`SELECT totals || payment FROM sales`)
			h.ago("1 hour")
			h.exec(`UPDATE sales SET note = 'por cobrar', customer_id = $1, cash_session_id = $2, sold_by_user_id = $3, updated_at = now()`,
				maria, id("evening"), id("pedro"))
			h.mends(0)
			h.expect(edited, circumstances)
			// Money is mended, whoever changed it, and so is a line; the edit outlives both.
			h.exec(`UPDATE sales SET totals = totals || '{"total_usd": 0.07}', payment = payment || '{"method": "ZELLE"}', exchange_rate = 1, currency = 'USD',
				sold_at = sold_at - interval '1 day', updated_at = now()`)
			h.mends(1)
			h.expect(edited, circumstances)
			h.expect(was, `SELECT totals || payment FROM sales`)
			h.expect("40.000000 BS 2026-11-23 08:02:00+00", `SELECT concat_ws(' ', exchange_rate, currency, sold_at) FROM sales`)
			h.exec(`DELETE FROM sale_items`)
			h.mends(1)
			h.expect(edited, circumstances)
			h.ago("1 hour")
			h.log(voided("one", 9))
			h.mends(1)
			h.expect(edited, circumstances)
		})
	}
}

// Who changes a row past the POS leaves no time in it.
func TestASaleThatWasChangedPastThePOSIsMended(t *testing.T) {
	h := newHealing(t, healer.Options{})
	h.pushed(right, product("flour", 0), opened(1), customerCreated(1), sold("one", 2, map[string]any{"note": "fiado"}, flour))
	h.mends(0)
	was := h.text(circumstances)
	h.ago("1 hour")
	h.exec(`UPDATE sales SET note = 'x', customer_id = $1, sold_by_user_id = NULL`, maria)
	h.mends(1)
	h.expect(was, circumstances)
	// So it is after an edit that was seen, and left.
	h.exec(`UPDATE sales SET note = 'por cobrar', updated_at = now() + interval '1 hour'`)
	h.exec(`UPDATE sales SET totals = '{}'`)
	h.mends(1)
	h.expect("por cobrar", `SELECT note FROM sales`)
	h.exec(`UPDATE sales SET note = 'x'`)
	h.mends(1)
	h.expect(was, circumstances)
}

// A credit sale that is given to another customer takes its debt with it.
func TestACreditSaleThatWasGivenToAnotherCustomerKeepsItsDebtThere(t *testing.T) {
	pedro := id("pedro")
	const owing = `SELECT d.customer_id || ' ' || s.customer_id FROM debts d JOIN sales s ON s.id = d.sale_id`
	for _, named := range []bool{false, true} {
		t.Run(fmt.Sprint("whose debt an event names ", named), func(t *testing.T) {
			h := newHealing(t, healer.Options{})
			h.pushed(right, product("flour", 0), opened(1), customerCreated(1), sold("credit", 2, onCredit(maria), flour))
			h.exec(`INSERT INTO customers (id, store_id, name) VALUES ($1, $2, 'Pedro')`, pedro, shop)
			if named {
				debt := owes("own", 3, id("sale credit"))
				debt.body["debt_id"] = h.text(`SELECT id FROM debts`)
				h.pushed(right, debt)
			}
			h.mends(0)
			h.ago("1 hour")
			h.exec(`UPDATE debts SET customer_id = $1`, pedro)
			h.mends(1) // the sale says whose it is
			h.expect(maria.String()+" "+maria.String(), owing)
			h.exec(`UPDATE sales SET customer_id = $1`, pedro)
			h.exec(`UPDATE debts SET customer_id = $1`, pedro)
			h.heal() // past the POS
			h.mends(0)
			h.expect(maria.String()+" "+maria.String(), owing)
			h.ago("1 hour")
			h.exec(`UPDATE sales SET customer_id = $1, updated_at = now()`, pedro)
			h.exec(`UPDATE debts SET customer_id = $1`, pedro)
			h.mends(0)
			h.expect(pedro.String()+" "+pedro.String(), owing)
			h.exec(`UPDATE debts SET amount_usd = 1`)
			h.mends(1)
			h.expect(pedro.String()+" "+pedro.String(), owing)
			h.expect("2.00", `SELECT amount_usd FROM debts`)
		})
	}
}

// The backend gave an event up and projected it later, or was given it again; a person
// edited the row after that. What the healer writes down when it finds all in order is no
// projection, before which the edit would seem to have been made.
func TestAnEditOutlivesWhatIsWrittenDownOfItsEvent(t *testing.T) {
	for name, left := range map[string]string{
		"its entry failed": `UPDATE outbox_entries SET status = 'failed', processed_at = NULL WHERE target = 'projection'`,
		"it was given back": `INSERT INTO reconciled.gap (store_id, event_id, type, created_ms, class, reason, requeued_at, next_attempt)
			SELECT store_id, event_id, type, reconciled.ms(created_at), 'actionable', 'given back', now() - interval '1 hour', now() - interval '1 minute' FROM events`,
	} {
		t.Run(name, func(t *testing.T) {
			h := newHealing(t, healer.Options{})
			h.pushed(right, product("flour", 0), opened(1), customerCreated(1), sold("one", 2, nil, flour))
			h.mends(0)
			h.ago("1 hour")
			h.exec(`UPDATE products SET created_at = created_at - interval '1 hour', updated_at = updated_at - interval '1 hour'`)
			h.exec(left)
			h.exec(`UPDATE sales SET note = 'por cobrar', updated_at = now() - interval '5 minutes'`)
			h.exec(`UPDATE products SET name = 'editada', updated_at = now() - interval '5 minutes'`)
			for range 3 {
				h.reread()
				h.mends(0)
			}
			h.expect("por cobrar editada", `SELECT (SELECT note FROM sales) || ' ' || (SELECT name FROM products)`)
			h.expect("0", `SELECT count(*) FROM outbox_entries WHERE status = 'failed'`)
		})
	}
}

// A till without a line changed a customer in the morning, a person changed the row at
// noon, and the till's change arrived after that. The backend rightly ignores it.
func TestAnOlderOfflineChangeDoesNotOverwriteACustomerEditedSince(t *testing.T) {
	h := newHealing(t, healer.Options{})
	h.pushed(right, customerCreated(0))
	h.mends(0)
	const noon, later = "2026-11-23 12:00:00+00", "2026-11-23 16:00:00+00"
	h.exec(`UPDATE customers SET created_at = '2026-11-23 08:00:00+00', phone = '0424', updated_at = $1`, noon)
	late := func(name string, minute int, patch map[string]any) {
		h.log(event(name, velox.CustomerUpdated, minute, map[string]any{"customer_id": maria, "patch": patch}))
		h.exec(`INSERT INTO outbox_entries (event_id, event_type, store_id, target, status, processed_at) VALUES ($1, 'CustomerUpdated', $2, 'projection', 'processed', $3)`,
			id("event "+name).String(), shop, later)
	}
	late("morning", 60, map[string]any{"phone": "0416", "name": "Ana"})
	for range 2 {
		h.reread()
		h.mends(0)
	}
	const row = `SELECT concat_ws(' ', name, phone, credit_limit, updated_at) FROM customers`
	h.expect("María 0424 99.50 "+noon, row)
	// What the backend never writes is written nevertheless, and what is newer is.
	h.exec(`UPDATE customers SET credit_limit = NULL`)
	h.mends(1)
	h.expect("María 0424 99.50 "+noon, row)
	late("afternoon", 420, map[string]any{"name": "Eva"})
	h.mends(1)
	h.expect("Eva 0424 99.50 2026-11-23 15:00:00+00", row)
}

// A price that a person set back to what it was before stays, whatever else of the
// product is projected after that.
func TestAPriceThatWasSetBackOnlineStays(t *testing.T) {
	h := newHealing(t, healer.Options{})
	h.pushed(right, product("flour", 0), event("price", velox.PriceChanged, 30, map[string]any{"product_id": flour, "price_bs": "48.00", "price_usd": "1.20"}))
	h.mends(0)
	h.exec(`UPDATE products SET created_at = now() - interval '3 days', updated_at = now() - interval '1 day', price_bs = 40, price_usd = 1`)
	h.exec(`UPDATE outbox_entries SET processed_at = now() - interval '2 days' - CASE event_type WHEN 'ProductCreated' THEN interval '1 day' ELSE '0' END`)
	h.log(event("category", velox.ProductUpdated, 7000, map[string]any{"product_id": flour, "patch": map[string]any{"category": "Abarrotes"}}))
	h.exec(`INSERT INTO outbox_entries (event_id, event_type, store_id, target, status, processed_at) VALUES ($1, 'ProductUpdated', $2, 'projection', 'processed', now())`,
		id("event category").String(), shop)
	h.exec(`UPDATE products SET category = 'Abarrotes', updated_at = now()`)
	for range 2 {
		h.reread()
		h.mends(0)
	}
	h.expect("40.00 1.00 Abarrotes", `SELECT concat_ws(' ', price_bs, price_usd, category) FROM products`)
}

// Of a product that gets a new price every day not all prices are read: the newest stands,
// and one that comes late does not.
func TestADailyPriceIsTheNewestWhateverComesLate(t *testing.T) {
	h := newHealing(t, healer.Options{})
	priced := func(minute int) said {
		return event(fmt.Sprint("price ", minute), velox.PriceChanged, minute, map[string]any{"product_id": flour, "price_bs": minute, "price_usd": "1.5"})
	}
	events := []said{product("flour", 0)}
	for day := 1; day <= 120; day++ {
		events = append(events, priced(day*10))
	}
	h.pushed(right, events...)
	h.mends(0)
	h.expect("1200.00 1.50", `SELECT concat_ws(' ', price_bs, price_usd) FROM products`)
	// The backend projects it over the newest: it looks at no time.
	h.ago("1 hour")
	h.exec(`UPDATE products SET created_at = now() - interval '2 hours', updated_at = now() - interval '1 hour'`)
	h.log(priced(15))
	h.exec(`INSERT INTO outbox_entries (event_id, event_type, store_id, target, status, processed_at) VALUES ($1, 'PriceChanged', $2, 'projection', 'processed', now())`,
		id("event price 15").String(), shop)
	h.exec(`UPDATE products SET price_bs = 15, updated_at = now()`)
	h.mends(1)
	h.expect("1200.00 1.50", `SELECT concat_ws(' ', price_bs, price_usd) FROM products`)
	// Many came late, in one transaction: the backend leaves the newest of them.
	h.ago("1 hour")
	h.exec(`UPDATE products SET updated_at = now() - interval '1 hour'`)
	var late []said
	for minute := 401; minute < 530; minute++ {
		if minute%10 != 0 {
			late = append(late, priced(minute))
		}
	}
	h.log(late...)
	h.exec(`UPDATE events SET received_at = now() WHERE seq > 402 AND seq < 531`)
	h.exec(`INSERT INTO outbox_entries (event_id, event_type, store_id, target, status, processed_at)
		SELECT event_id::text, type, store_id, 'projection', 'processed', now() FROM events e
		WHERE NOT EXISTS (SELECT FROM outbox_entries o WHERE o.event_id = e.event_id::text)`)
	h.exec(`UPDATE products SET price_bs = 529, updated_at = now()`)
	h.mends(1)
	h.expect("1200.00 1.50", `SELECT concat_ws(' ', price_bs, price_usd) FROM products`)
}
