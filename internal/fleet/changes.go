package fleet

import (
	"fmt"
	"slices"

	"github.com/veloxpos/reconciled/internal/velox"
)

// rare makes one of the things that a shop does now and then.
func (s *Shop) rare() {
	switch p := s.rng.IntN(33); {
	case p < 4:
		s.changeProduct()
	case p < 10:
		s.changePrice()
	case p < 11:
		s.retireProduct()
	case p < 14:
		s.changeRecipe()
	case p < 18:
		s.changeCustomer(pick(s, s.customers))
	case p < 22:
		s.moveCash()
	case p < 27:
		s.grant()
	case p < 29:
		s.transferQuota()
	case p < 31:
		s.reclaim()
	default:
		s.drawQuota()
	}
}

// changeProduct changes one thing or two; prices have an event of their own.
func (s *Shop) changeProduct() {
	patch := object{}
	for range s.between(1, 2) {
		switch s.rng.IntN(8) {
		case 0:
			patch["category"] = pick(s, []any{"Oferta", "Víveres", "", nil})
		case 1:
			patch["name"] = pick(s, goods) + " " + pick(s, brands)
		case 2:
			patch["low_stock_threshold"] = pick(s, []any{s.between(0, 20), fixed(s.between(0, 20), 0)})
		case 3:
			s.barcodes++
			patch["barcode"] = fmt.Sprintf("760%010d", s.barcodes)
			patch["sku"] = nil
		case 4:
			patch["is_visible_public"] = s.chance(2)
			patch["public_name"] = pick(s, []any{pick(s, goods), nil})
		case 5:
			patch["profit_margin"] = s.amount(s.between(1000, 6000), 2)
		case 6:
			patch["product_type"] = pick(s, []string{"sale_item", "ingredient", "prepared"})
		default:
			patch["description"] = pick(s, []any{"Nueva presentación", ""})
			patch["image_url"] = "https://example.com/" + s.id().String() + ".jpg"
		}
	}
	p := pick(s, s.products)
	s.ring(s.anyTill(), velox.ProductUpdated, object{"product_id": p.id.String(), "patch": patch})
}

// changePrice follows the rate, mostly in both currencies.
func (s *Shop) changePrice() {
	p := pick(s, s.products)
	p.usd = max(10, p.usd+s.between(-30, 60))
	t := s.anyTill()
	payload := object{
		"product_id": p.id.String(), "price_bs": s.amount(s.bs(p.usd), 2), "price_usd": s.amount(p.usd, 2),
		"reason": pick(s, []any{"tasa", nil}), "effective_at": s.stamp(t),
	}
	switch s.rng.IntN(8) {
	case 0:
		delete(payload, "price_usd")
	case 1:
		payload["price_bs"] = nil
	}
	s.ring(t, velox.PriceChanged, payload)
}

// retireProduct takes a product off the shelves, while enough are left.
func (s *Shop) retireProduct() {
	p := pick(s, s.products)
	if p.idle || p.retired || len(p.variants) > 0 || s.born() < 2*initialProducts || s.retired*4 > s.born() {
		s.changePrice()
		return
	}
	p.retired = true
	s.retired++
	s.ring(s.tills[0], velox.ProductDeactivated, object{"product_id": p.id.String(), "is_active": false})
}

// changeRecipe lists what a product is made of anew.
func (s *Shop) changeRecipe() {
	made := slices.DeleteFunc(slices.Clone(s.products), func(p *product) bool { return !p.recipe })
	if len(made) == 0 {
		p := s.products[len(s.ref.Products)]
		p.recipe = true
		s.ring(s.tills[0], velox.ProductUpdated, object{"product_id": p.id.String(), "patch": object{"is_recipe": true}})
		made = append(made, p)
	}
	recipe := pick(s, made)
	lines := []any{}
	for range s.between(0, 4) {
		p, _ := s.stocked()
		lines = append(lines, object{ // now and then itself, or nothing of it: such lines are left out
			"ingredient_product_id": p.id.String(), "qty": s.amount(s.between(0, 2500), 3), "unit": pick(s, []any{"kg", "und", nil}),
		})
	}
	s.ring(s.anyTill(), velox.RecipeIngredientsUpdated, object{"product_id": recipe.id.String(), "ingredients": lines})
}

func (s *Shop) changeCustomer(c customer) {
	patch := object{}
	switch s.rng.IntN(5) {
	case 0:
		patch["phone"] = fmt.Sprintf("0212-%07d", s.between(0, 9999999))
	case 1:
		patch["name"] = c.name + " de " + pick(s, lastNames)
	case 2:
		patch["note"] = pick(s, []any{"Paga los viernes", "", nil})
	case 3:
		patch["document_id"] = fmt.Sprintf("V-%08d", s.between(1000000, 30000000))
		patch["email"] = pick(s, []any{"cliente@example.com", nil})
	default:
		patch["credit_limit"] = pick(s, []any{s.amount(s.between(10, 900)*100, 2), nil})
		patch["phone"] = "0424"
	}
	s.ring(s.anyTill(), velox.CustomerUpdated, object{"customer_id": c.id.String(), "patch": patch})
}
