package projection

import (
	"github.com/google/uuid"
)

// readProduct reads ProductCreated (events.md 3.4).
func readProduct(e Event, p payload) shape {
	recipe := p.truthy("is_recipe")
	kind := "sale_item"
	if recipe {
		kind = "prepared"
	}
	return patch{Ref{Products, p.id("product_id")}, true, map[string]any{
		"store_id": e.Store, "name": p.needText("name"),
		"price_bs": p.number("price_bs", money), "price_usd": p.number("price_usd", money),
		"cost_bs": p.number("cost_bs", money), "cost_usd": p.number("cost_usd", money),
		"low_stock_threshold": p.number("low_stock_threshold", integer),
		"profit_margin":       p.number("profit_margin", money),
		"is_active":           string(p.members["is_active"]) != "false",
		"is_recipe":           recipe,
		"product_type":        p.textOr("product_type", kind),
		"is_visible_public":   p.truthy("is_visible_public"),
		"category":            p.text("category"), "sku": p.text("sku"), "barcode": p.text("barcode"),
		"description": p.text("description"), "image_url": p.text("image_url"),
		"public_name": p.text("public_name"), "public_description": p.text("public_description"),
		"public_image_url": p.text("public_image_url"), "public_category": p.text("public_category"),
	}}
}

// readProductPatch reads ProductUpdated: only what is present is written.
func readProductPatch(_ Event, p payload) shape {
	id, change := p.id("product_id"), p.member("patch")
	set := map[string]any{}
	for name := range change.members {
		switch name {
		case "name", "product_type":
			set[name] = change.needText(name)
		case "category", "sku", "barcode", "description", "image_url",
			"public_name", "public_description", "public_image_url", "public_category":
			set[name] = change.text(name)
		case "low_stock_threshold":
			set[name] = change.number(name, integer)
		case "profit_margin":
			set[name] = change.number(name, money)
		case "is_recipe", "is_visible_public":
			set[name] = change.truthy(name)
		}
	}
	return patch{Ref{Products, id}, false, set}
}

// readDeactivation reads ProductDeactivated.
func readDeactivation(_ Event, p payload) shape {
	return patch{Ref{Products, p.id("product_id")}, false, map[string]any{"is_active": false}}
}

// readPrice reads PriceChanged. A currency that it does not name keeps its price.
func readPrice(_ Event, p payload) shape {
	set := map[string]any{}
	for _, name := range []string{"price_bs", "price_usd"} {
		if !p.absent(name) {
			set[name] = p.number(name, money)
		}
	}
	return patch{Ref{Products, p.id("product_id")}, false, set}
}

// readCustomer reads CustomerCreated (events.md 3.9). Unlike the backend it writes
// document_id, email and credit_limit, and fills a placeholder.
func readCustomer(e Event, p payload) shape {
	p.created(e)
	return patch{Ref{Customers, p.id("customer_id")}, true, map[string]any{
		"store_id": e.Store, "name": p.needText("name"),
		"phone": p.text("phone"), "note": p.text("note"),
		"document_id": p.text("document_id"), "email": p.text("email"),
		"credit_limit": p.optionalNumber("credit_limit", money),
	}}
}

// readCustomerPatch reads CustomerUpdated: only what is present is written.
func readCustomerPatch(e Event, p payload) shape {
	p.created(e)
	id, change := p.id("customer_id"), p.member("patch")
	set := map[string]any{}
	for name := range change.members {
		switch name {
		case "name":
			set[name] = change.needText(name)
		case "phone", "note", "document_id", "email":
			set[name] = change.text(name)
		case "credit_limit":
			set[name] = change.optionalNumber(name, money)
		}
	}
	return patch{Ref{Customers, id}, false, set}
}

// recipe is RecipeIngredientsUpdated: the newest one of a product is its recipe.
// Ingredients that are not there yet are left out until they are.
type recipe struct {
	product uuid.UUID
	lines   []Ingredient
}

func readRecipe(_ Event, p payload) shape {
	r := recipe{product: p.id("product_id")}
	for _, line := range p.list("ingredients") {
		i := Ingredient{Product: line.id("ingredient_product_id"), Qty: line.number("qty", quantity), Unit: line.textOr("unit", "")}
		if i.Product != r.product && positive(i.Qty) {
			r.lines = append(r.lines, i)
		}
	}
	return r
}

func (r recipe) asks(Event) Asks {
	refs := []Ref{{Products, r.product}, {RecipeOf, r.product}}
	for _, line := range r.lines {
		refs = append(refs, Ref{Products, line.Product})
	}
	return Asks{Refs: refs}
}

func (r recipe) plan(e Event, f Facts) Outcome {
	product := Ref{Products, r.product}
	if out := f.parent(e, product); out != nil {
		return *out
	}
	for _, other := range f.Claimants[Ref{RecipeOf, r.product}] {
		if intent, err := Read(other); err == nil && compareMade(e, other) < 0 {
			if o, ok := intent.shape.(recipe); ok && o.product == r.product {
				return superseded
			}
		}
	}
	then := Outcome{Class: Done}
	book := Cookbook{Product: r.product}
	rows := f.Recipes[r.product]
	left := map[Ingredient]int{}
	for _, row := range rows.Lines {
		left[row]++
	}
	differs := false
	for i, line := range r.lines {
		if out := f.parent(e, Ref{Products, line.Product}); out != nil {
			then = *out
			continue
		}
		differs = differs || left[line] == 0
		left[line]--
		book.Rows = append(book.Rows, Row{Recipes, map[string]any{
			"id": derive(e.ID, "ingredient", i), "recipe_product_id": r.product, "ingredient_product_id": line.Product,
			"qty": line.Qty, "unit": nullText(line.Unit),
		}})
	}
	for _, n := range left {
		differs = differs || n > 0
	}
	switch {
	case !differs:
		return then
	case rows.edited(e):
		return Outcome{Class: Semantic, Routine: true, Reason: "recipe of " + product.String() + " was edited online since"}
	}
	out := mend("recipe of "+product.String()+" differs", Changes{Update: &Update{Products, r.product, nil}, Recipe: &book})
	if then.Class != Done {
		out.Then = &then
	}
	return out
}

// edited says whether somebody has changed lines online, or deleted some, since an event's
// recipe was projected. A line that is gone has no time of its own, and may be lost: it
// must have been seen to be deleted, and be known to have been there.
func (r Recipe) edited(by Event) bool {
	_, projected := r.Written[by.ID]
	return len(r.Lines) > 0 && r.since(r.UpdatedAt) || projected && r.since(r.DeletedAt)
}

func nullText(text string) any {
	if text == "" {
		return nil
	}
	return text
}
