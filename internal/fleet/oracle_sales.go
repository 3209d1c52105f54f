package fleet

import (
	"encoding/json"
	"fmt"
	"strconv"

	"github.com/veloxpos/reconciled/internal/velox"
)

// gatherVoids keeps the first void of each sale.
func (f *folding) gatherVoids() {
	for i, e := range f.events[velox.SaleVoided] {
		if _, there := f.voids[e.id("sale_id")]; !there {
			f.voids[e.id("sale_id")] = &f.events[velox.SaleVoided][i]
		} else {
			f.settled(e)
		}
	}
}

// lonelyVoids wait for their sale.
func (f *folding) lonelyVoids() {
	for sale, v := range f.voids {
		if _, there := f.Sales[sale]; !there {
			f.waits(*v)
		}
	}
}

func (f *folding) saleCreated(e said) {
	id := e.id("sale_id")
	if _, there := f.Sales[id]; there {
		f.settled(e)
	} else if f.saleReady(e) {
		f.sale(e, id)
	}
}

// saleReady lists the sale as waiting or blocked when something it names is not
// there.
func (f *folding) saleReady(e said) bool {
	for _, item := range e.list("items") {
		if _, there := f.Products[item.id("product_id")]; !there {
			f.waits(e)
			return false
		}
		if !f.knowsVariant(item.id("variant_id")) {
			f.Blocked = append(f.Blocked, e.ID)
			return false
		}
	}
	if session := e.id("cash_session_id"); session != "" {
		if _, there := f.Sessions[session]; !there {
			f.waits(e)
			return false
		}
	}
	if seller := e.seller(); seller != "" {
		for _, p := range f.ref.Profiles {
			if p.String() == seller {
				return true
			}
		}
		f.Blocked = append(f.Blocked, e.ID)
		return false
	}
	return true
}

// seller is the first that the event names.
func (e said) seller() string {
	metadata := e.object("metadata")
	for _, candidate := range []string{
		e.actor(), e.text("sold_by_user_id"), e.text("user_id"),
		metadata.text("user_id"), metadata.text("actor_user_id"), metadata.text("sold_by_user_id"),
	} {
		if candidate != "" {
			return candidate
		}
	}
	return ""
}

func (e said) buyer() string {
	if id := e.object("customer").id("customer_id"); id != "" {
		return id
	}
	return e.id("customer_id")
}

func (f *folding) sale(e said, id string) {
	soldAt := e.instant("sold_at", e.created())
	totals := e.object("totals")
	row := Row{
		"sold_at": soldAt, "exchange_rate": e.number("exchange_rate").at(6), "currency": "BS",
		"payment": paymentOf(e),
	}
	for _, c := range []string{"subtotal_bs", "subtotal_usd", "total_bs", "total_usd"} {
		row["totals."+c] = totals.number(c).RatString()
	}
	for _, c := range []string{"bs", "usd"} {
		discount, given := totals.maybe("discount_" + c)
		if !given {
			discount = totals.number("discount_total_" + c)
		}
		row["totals.discount_"+c] = discount.RatString()
	}
	row.set("currency", e.text("currency"))
	row.set("cash_session_id", e.id("cash_session_id"))
	row.set("customer_id", e.buyer())
	row.set("sold_by_user_id", e.seller())
	row.set("note", e.text("note"))
	row.set("fiscal_number", e.text("fiscal_number"))
	f.Sales[id] = row
	f.placeholder(e)

	warehouse := f.place(e.text("warehouse_id"))
	void, voided := f.voids[id]
	for _, item := range e.list("items") {
		qty := f.item(id, item)
		take := f.consume(e, item, qty)
		rest := new(decimal)
		rest.Sub(&qty.rounded(3).Rat, &take.Rat)
		if take.Sign() > 0 {
			f.saleMovement(id, item, "escrow", new(decimal).minus(take))
		}
		if rest.Sign() > 0 {
			f.saleMovement(id, item, "sold", new(decimal).minus(rest))
			f.book(warehouse, item.id("product_id"), item.id("variant_id"), new(decimal).minus(rest))
		}
		if voided {
			f.saleMovement(id, item, "void", qty)
			f.book(warehouse, item.id("product_id"), item.id("variant_id"), qty)
		}
	}
	if voided {
		row["voided_at"] = void.instant("voided_at", void.created())
		row.set("voided_by_user_id", void.id("voided_by_user_id"))
		row.set("void_reason", void.text("reason"))
		return
	}
	if e.object("payment").text("method") == "FIAO" && e.buyer() != "" {
		f.Debts["sale:"+id] = Row{
			"customer_id": e.buyer(), "status": "open",
			"amount_bs": totals.number("total_bs").at(2), "amount_usd": totals.number("total_usd").at(2),
		}
	}
}

func (d *decimal) minus(x *decimal) *decimal {
	d.Neg(&x.Rat)
	return d
}

func paymentOf(e said) string {
	payment := e.object("payment")
	if payment == nil {
		payment = fields{}
	}
	if payment.text("method") == "" {
		payment["method"] = []byte(`"UNKNOWN"`)
	}
	text, _ := json.Marshal(payment) // raw members of a parsed object
	return canonical(text)
}

// item counts a sale's line, and returns its quantity.
func (f *folding) item(sale string, item fields) *decimal {
	qty := item.quantity()
	row := Row{
		"product_id": item.id("product_id"), "qty": qty.at(3), "is_weight_product": bit(item.yes("is_weight_product")),
		"unit_price_bs": item.number("unit_price_bs").at(4), "unit_price_usd": item.number("unit_price_usd").at(4),
		"discount_bs": item.number("discount_bs").at(2), "discount_usd": item.number("discount_usd").at(2),
	}
	row.set("variant_id", item.id("variant_id"))
	row.set("weight_unit", item.text("weight_unit"))
	for column, scale := range map[string]int{"weight_value": 3, "price_per_weight_bs": 4, "price_per_weight_usd": 4} {
		if n, ok := item.maybe(column); ok {
			row[column] = n.at(scale)
		}
	}
	f.Items.count(sale, row)
	return qty
}

// count keeps a row of which there may be several alike.
func (t Table) count(owner string, row Row) {
	key := fmt.Sprint(owner, "/", map[string]string(row))
	n, _ := strconv.Atoi(t[key]["n"])
	t[key] = Row{"n": strconv.Itoa(n + 1)}
}

func (f *folding) saleMovement(sale string, item fields, kind string, qty *decimal) {
	f.Movements.sum(sale+"/"+item.id("product_id")+"/"+item.id("variant_id")+"/"+kind, qty.at(3))
}

// sum adds to a row's qty_delta.
func (t Table) sum(key, qty string) {
	var total, part decimal
	if row, there := t[key]; there {
		total.SetString(row["qty_delta"])
	}
	part.SetString(qty)
	total.Add(&total.Rat, &part.Rat)
	t[key] = Row{"qty_delta": total.at(3)}
}
