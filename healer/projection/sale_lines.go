package projection

import (
	"fmt"
	"slices"

	"github.com/google/uuid"
)

type saleLine struct {
	row  Row // of sale_items
	item Item
}

func readLine(e Event, p payload, sale uuid.UUID, i int) saleLine {
	id := p.optionalID("item_id")
	if !id.Valid {
		id = some(derive(e.ID, "item", i))
	}
	item := Item{ID: id.UUID, Product: p.id("product_id"), Variant: p.optionalID("variant_id")}
	weighed := p.flag("is_weight_product")
	weight := p.optionalNumber("weight_value", quantity)
	if text, ok := weight.(string); ok && weighed {
		item.Qty = text
		if !positive(text) {
			p.fail("weight_value", "is not above 0")
		}
	} else {
		item.Qty = p.above("qty", quantity)
	}
	item.PriceBs, item.PriceUSD = p.number("unit_price_bs", price), p.number("unit_price_usd", price)
	item.DiscountBs, item.DiscountUSD = p.number("discount_bs", money), p.number("discount_usd", money)
	return saleLine{item: item, row: Row{Items, map[string]any{
		"id": item.ID, "sale_id": sale, "product_id": item.Product, "variant_id": item.Variant,
		"lot_id": p.optionalID("lot_id"), "qty": item.Qty,
		"unit_price_bs": item.PriceBs, "unit_price_usd": item.PriceUSD,
		"discount_bs": item.DiscountBs, "discount_usd": item.DiscountUSD,
		"is_weight_product": weighed, "weight_unit": p.text("weight_unit"), "weight_value": weight,
		"price_per_weight_bs":  p.optionalNumber("price_per_weight_bs", price),
		"price_per_weight_usd": p.optionalNumber("price_per_weight_usd", price),
	}}}
}

// withoutGone is the sale without variants that are gone: the POS takes them out of its
// rows.
func (s sale) withoutGone(f Facts) sale {
	lines := slices.Clone(s.lines)
	for i, l := range lines {
		if _, exists := f.Rows[Ref{Variants, l.item.Variant.UUID}]; l.item.Variant.Valid && !exists {
			lines[i].item.Variant = uuid.NullUUID{}
			lines[i].row = Row{Items, l.row.beyond()}
			lines[i].row.Values["variant_id"] = nil
		}
	}
	s.lines = lines
	return s
}

// mendLines adds the lines that are missing and changes those that differ. A line
// that no event explains is left: what an online sale knows more is its own, so that of a
// product of which it has a row nothing is missing or other.
func (s sale) mendLines(e Event, f Facts, c *Changes) string {
	rows, lines := slices.Clone(f.Bodies[s.id].Items), s.lines
	if serverMade(e) && len(rows) > 0 {
		lines = slices.DeleteFunc(slices.Clone(lines), func(l saleLine) bool {
			return slices.ContainsFunc(rows, func(row Item) bool { return row.Product == l.item.Product })
		})
		rows = nil
	}
	take := func(fits func(Item) bool) (Item, bool) {
		i := slices.IndexFunc(rows, fits)
		if i < 0 {
			return Item{}, false
		}
		row := rows[i]
		rows = slices.Delete(rows, i, i+1)
		return row, true
	}
	var open []saleLine
	for _, l := range lines { // equal ones first, so that they are not taken for others
		if _, found := take(func(row Item) bool { return l.equals(row) }); !found {
			open = append(open, l)
		}
	}
	missing, differing := 0, 0
	for _, l := range open {
		row, found := take(func(row Item) bool { return row.ID == l.item.ID })
		if !found {
			row, found = take(func(row Item) bool { return row.Product == l.item.Product && row.Variant == l.item.Variant })
		}
		if !found {
			c.Dependents = append(c.Dependents, l.row)
			missing++
			continue
		}
		c.Also = append(c.Also, Update{Items, row.ID, map[string]any{
			"product_id": l.item.Product, "variant_id": l.item.Variant, "qty": l.item.Qty,
			"unit_price_bs": l.item.PriceBs, "unit_price_usd": l.item.PriceUSD,
			"discount_bs": l.item.DiscountBs, "discount_usd": l.item.DiscountUSD,
		}})
		differing++
	}
	if missing+differing == 0 {
		return ""
	}
	return fmt.Sprintf("of %d lines %d are missing and %d differ", len(s.lines), missing, differing)
}

// equals compares what is shared of a line between nodes.
func (l saleLine) equals(row Item) bool {
	row.ID = l.item.ID
	return row == l.item
}
