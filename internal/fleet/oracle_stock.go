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
}

func bit(b bool) string {
	if b {
		return "true"
	}
	return "false"
}

// customers folds those that events created; sales add placeholders later.
func (f *folding) customers() {
	for _, e := range f.events[velox.CustomerCreated] {
		id := e.id("customer_id")
		if _, there := f.Customers[id]; there {
			f.settled(e)
			continue
		}
		row := Row{"updated_at": e.created()}
		for _, c := range []string{"name", "phone", "note", "document_id", "email"} {
			row.set(c, e.text(c))
		}
		if limit, ok := e.maybe("credit_limit"); ok {
			row["credit_limit"] = limit.at(2)
		}
		f.Customers[id] = row
	}
}

// sessions opens, then applies the newest close.
func (f *folding) sessions() {
	for _, e := range f.events[velox.CashSessionOpened] {
		id := e.id("session_id")
		if _, there := f.Sessions[id]; there {
			f.settled(e)
			continue
		}
		row := Row{
			"opened_at":          e.instant("opened_at", e.created()),
			"opening_amount_bs":  e.number("opening_amount_bs").at(2),
			"opening_amount_usd": e.number("opening_amount_usd").at(2),
		}
		row.set("opened_by", e.actor())
		row.set("note", e.text("note"))
		f.Sessions[id] = row
	}
	closed := map[string]bool{}
	for _, e := range slices.Backward(f.events[velox.CashSessionClosed]) {
		row, there := f.Sessions[e.id("session_id")]
		switch {
		case !there:
			f.waits(e)
		case closed[e.id("session_id")]:
			f.settled(e)
		default:
			closed[e.id("session_id")] = true
			row["closed_at"] = e.instant("closed_at", e.created())
			row.set("closed_by", e.actor())
			row.set("expected", canonical(e.fields["expected"]))
			row.set("counted", canonical(e.fields["counted"]))
			row.set("note", e.text("note"))
		}
	}
}

// stockEvents folds the movements that have ids of their own.
func (f *folding) stockEvents() {
	for _, e := range f.of(velox.StockReceived, velox.StockAdjusted, velox.StockDeltaApplied) {
		movement, qty := "adjust", "qty_delta"
		if e.Type == velox.StockReceived {
			movement, qty = "received", "qty"
		}
		f.stockEvent(e, movement, e.number(qty))
	}
}

func (f *folding) stockEvent(e said, movement string, qty *decimal) {
	id := e.id("movement_id")
	if _, there := f.Movements[id]; there {
		f.settled(e)
		return
	}
	if _, there := f.Products[e.id("product_id")]; !there {
		f.waits(e)
		return
	}
	if !f.knowsVariant(e.id("variant_id")) {
		f.Blocked = append(f.Blocked, e.ID)
		return
	}
	row := Row{
		"product_id": e.id("product_id"), "movement_type": movement, "qty_delta": qty.at(3), "happened_at": e.created(),
		"warehouse_id": f.ref.W(e.text("warehouse_id")).String(), "unit_cost_bs": "0.00", "unit_cost_usd": "0.00",
		"from_escrow": "false",
	}
	row.set("variant_id", e.id("variant_id"))
	if e.Type != velox.StockAdjusted {
		row["unit_cost_bs"] = e.number("unit_cost_bs").at(2)
		row["unit_cost_usd"] = e.number("unit_cost_usd").at(2)
	}
	if e.Type == velox.StockDeltaApplied {
		row["note"] = "Stock Delta Applied"
		row.set("note", e.text("reason"))
		row["from_escrow"] = bit(e.truthy("from_escrow"))
	} else {
		row.set("note", e.text("note"))
	}
	f.Movements[id] = row
	if row["from_escrow"] == "false" {
		f.book(row["warehouse_id"], row["product_id"], row["variant_id"], qty)
	}
}

func (f *folding) knowsVariant(id string) bool {
	if id == "" {
		return true
	}
	for _, p := range f.ref.Products {
		for _, v := range p.Variants {
			if v.String() == id {
				return true
			}
		}
	}
	return false
}

// book adds to the ledger, with the scale that the ledger's column keeps.
func (f *folding) book(warehouse, product, variant string, qty *decimal) {
	key := [3]string{warehouse, product, variant}
	sum := f.ledger[key]
	sum.Add(&sum.Rat, &qty.rounded(3).Rat)
	f.ledger[key] = sum
}

// totals sets the stock from the ledger: never below zero.
func (f *folding) totals() {
	for key, sum := range f.ledger {
		if sum.Sign() > 0 {
			f.Stock[key[0]+"/"+key[1]+"/"+key[2]] = Row{"stock": sum.at(3)}
		}
	}
}
