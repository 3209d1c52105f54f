package projection

import (
	"strings"

	"github.com/veloxpos/reconciled/internal/velox"
)

// product is ProductCreated (events.md 3.4).
type product struct{ row Row }

func readProduct(e *velox.Event, p payload) shape {
	recipe := p.truthy("is_recipe")
	kind := "sale_item"
	if recipe {
		kind = "prepared"
	}
	return product{Row{Products, map[string]any{
		"id": p.id("product_id"), "store_id": e.Store, "name": p.needText("name"),
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
	}}}
}

func (p product) refs() []Ref { return []Ref{p.row.ref()} }

func (p product) plan(e *velox.Event, f Facts) Outcome {
	if out := f.settled(e, p.row.ref()); out != nil {
		return *out
	}
	return write(Changes{Insert: &p.row})
}

// customer is CustomerCreated (events.md 3.9). Unlike the backend it writes
// document_id, email and credit_limit, and fills a placeholder.
type customer struct{ row Row }

func readCustomer(e *velox.Event, p payload) shape {
	return customer{Row{Customers, map[string]any{
		"id": p.id("customer_id"), "store_id": e.Store, "name": p.needText("name"),
		"phone": p.text("phone"), "note": p.text("note"),
		"document_id": p.text("document_id"), "email": p.text("email"),
		"credit_limit": p.optionalNumber("credit_limit", money),
		"updated_at":   p.created(e),
	}}}
}

func (c customer) refs() []Ref { return []Ref{c.row.ref()} }

func (c customer) plan(e *velox.Event, f Facts) Outcome {
	id := c.row.ref().ID
	out := f.settled(e, c.row.ref())
	switch {
	case out == nil:
		return write(Changes{Insert: &c.row})
	case out.Class == Done && f.Placeholders[id] && !isPlaceholder(c.row):
		return write(Changes{Update: &Update{Customers, id, c.row.beyond("id", "store_id")}})
	default:
		return *out
	}
}

func isPlaceholder(customer Row) bool {
	note, _ := customer.Values["note"].(string)
	return strings.HasPrefix(note, PlaceholderNote)
}
