package fleet

import (
	"slices"

	"github.com/veloxpos/reconciled/internal/velox"
)

// products folds the catalogue: what reference data holds, then what events made.
func (f *folding) products() {
	for _, p := range f.ref.Products {
		f.Products[p.ID.String()] = Row{
			"name": p.Name, "price_bs": "480.00", "price_usd": "12.00", "cost_bs": "0.00", "cost_usd": "0.00",
			"low_stock_threshold": "5", "profit_margin": "0.00", "is_active": "true", "is_recipe": "false",
			"is_visible_public": "false", "product_type": "sale_item",
		}
	}
	for _, e := range f.events[velox.ProductCreated] {
		id := e.id("product_id")
		if _, there := f.Products[id]; there {
			f.settled(e)
			continue
		}
		row := Row{"product_type": "sale_item"}
		for _, c := range []string{"price_bs", "price_usd", "cost_bs", "cost_usd", "profit_margin"} {
			row[c] = e.number(c).at(2)
		}
		row["low_stock_threshold"] = e.number("low_stock_threshold").at(0)
		for _, c := range []string{
			"name", "category", "sku", "barcode", "description", "image_url",
			"public_name", "public_description", "public_image_url", "public_category",
		} {
			row.set(c, e.text(c))
		}
		row["is_active"] = bit(string(e.fields["is_active"]) != "false")
		row["is_recipe"] = bit(e.truthy("is_recipe"))
		row["is_visible_public"] = bit(e.truthy("is_visible_public"))
		if e.truthy("is_recipe") {
			row["product_type"] = "prepared"
		}
		row.set("product_type", e.text("product_type"))
		f.Products[id] = row
	}
	f.productPatches()
}

func bit(b bool) string {
	if b {
		return "true"
	}
	return "false"
}

// productPatches applies what changes products, in order: the newest of each
// field stands. What was made online is a base like any other.
func (f *folding) productPatches() {
	for _, e := range f.of(velox.ProductUpdated, velox.PriceChanged, velox.ProductDeactivated) {
		row, there := f.Products[e.id("product_id")]
		switch {
		case !there:
			f.waits(e)
		case e.Type == velox.ProductUpdated:
			if !row.patch(e.object("patch"), productColumns) {
				f.settled(e)
			}
		case e.Type == velox.PriceChanged:
			prices := fields{}
			for _, c := range []string{"price_bs", "price_usd"} {
				if e.given(c) {
					prices[c] = e.fields[c]
				}
			}
			if !row.patch(prices, priceColumns) {
				f.settled(e)
			}
		default:
			row["is_active"] = "false"
		}
	}
}

// columns says how each member of a patch becomes a column's text; "" is NULL.
type columns map[string]func(fields, string) string

var productColumns = columns{
	"name": fields.text, "category": fields.text, "sku": fields.text, "barcode": fields.text,
	"description": fields.text, "image_url": fields.text, "product_type": fields.text,
	"public_name": fields.text, "public_description": fields.text, "public_image_url": fields.text, "public_category": fields.text,
	"low_stock_threshold": scaled(0), "profit_margin": scaled(2), "is_recipe": truth, "is_visible_public": truth,
}

var priceColumns = columns{"price_bs": scaled(2), "price_usd": scaled(2)}

func scaled(scale int) func(fields, string) string {
	return func(f fields, name string) string { return f.number(name).at(scale) }
}

func truth(f fields, name string) string { return bit(f.truthy(name)) }

// patch writes the members that are present, and tells whether there are any.
func (r Row) patch(patch fields, known columns) bool {
	changed := false
	for column, text := range known {
		if _, present := patch[column]; !present {
			continue
		}
		changed = true
		delete(r, column)
		r.set(column, text(patch, column))
	}
	return changed
}

// recipes keeps the newest list of each product's ingredients. One that is left
// out because nobody knows it makes the event wait as well.
func (f *folding) recipes() {
	newest := map[string]bool{}
	for _, e := range slices.Backward(f.events[velox.RecipeIngredientsUpdated]) {
		recipe := e.id("product_id")
		if newest[recipe] {
			f.settled(e)
			continue
		}
		newest[recipe] = true
		_, whole := f.Products[recipe]
		if whole {
			whole = f.recipe(recipe, e.list("ingredients"))
		}
		if !whole {
			f.waits(e)
		}
	}
}

// recipe keeps the lines that can be, and tells whether all ingredients are known.
func (f *folding) recipe(recipe string, lines []fields) bool {
	whole := true
	for _, line := range lines {
		ingredient, qty := line.id("ingredient_product_id"), line.number("qty").rounded(3)
		if ingredient == recipe || qty.Sign() <= 0 {
			continue
		}
		if _, there := f.Products[ingredient]; !there {
			whole = false
			continue
		}
		row := Row{"ingredient_product_id": ingredient, "qty": qty.at(3)}
		row.set("unit", line.text("unit"))
		f.Recipes.count(recipe, row)
	}
	return whole
}
