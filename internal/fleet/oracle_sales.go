package fleet

import (
	"encoding/json"
	"fmt"
	"strconv"

	"github.com/veloxpos/reconciled/internal/velox"
)

// tolerance is how near a debt must come to being paid.
const tolerance = "0.01"

func (f *folding) salesAndVoids() {
	for i, e := range f.events[velox.SaleVoided] {
		if _, there := f.voids[e.id("sale_id")]; !there {
			f.voids[e.id("sale_id")] = &f.events[velox.SaleVoided][i]
		} else {
			f.settled(e)
		}
	}
	for _, e := range f.events[velox.SaleCreated] {
		id := e.id("sale_id")
		if _, there := f.Sales[id]; there {
			f.settled(e)
			continue
		}
		if !f.saleReady(e) {
			continue
		}
		f.sale(e, id)
	}
	for sale, v := range f.voids {
		if _, there := f.Sales[sale]; !there {
			f.waits(*v)
		}
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

	warehouse := f.ref.W(e.text("warehouse_id")).String()
	void, voided := f.voids[id]
	for _, item := range e.list("items") {
		qty := f.item(id, item)
		f.saleMovement(id, item, "sold", new(decimal).minus(qty))
		f.book(warehouse, item.id("product_id"), item.id("variant_id"), new(decimal).minus(qty))
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
	qty := item.number("qty")
	if weight, ok := item.maybe("weight_value"); ok && item.yes("is_weight_product") {
		qty = weight
	}
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

// placeholder makes up a customer that only a sale speaks of.
func (f *folding) placeholder(e said) {
	id := e.buyer()
	if id == "" || f.Customers[id] != nil {
		return
	}
	row := Row{"name": "Cliente offline " + id[:8], "note": placeholder + " (" + e.ID.String() + ")"}
	of := e.object("customer")
	for _, name := range []string{e.text("customerName"), e.text("customer_name"), of.text("name")} {
		row.set("name", name)
	}
	for _, c := range []string{"phone", "document_id", "email"} {
		row.set(c, e.text("customer_"+c))
		row.set(c, of.text(c))
	}
	f.Customers[id] = row
}

func (f *folding) debtsAndPayments() {
	key := map[string]string{} // of a debt, by debt_id; "" when its sale was voided
	for _, e := range f.events[velox.DebtCreated] {
		sale, debt := e.id("sale_id"), e.id("debt_id")
		at := debt
		if sale != "" {
			at = "sale:" + sale
		}
		_, customer := f.Customers[e.id("customer_id")]
		_, sold := f.Sales[sale]
		switch {
		case sale != "" && f.voids[sale] != nil:
			key[debt] = ""
			f.settled(e)
		case !customer || sale != "" && !sold:
			f.waits(e)
		case f.Debts[at] != nil:
			key[debt] = at
			f.settled(e)
		default:
			key[debt] = at
			row := Row{
				"customer_id": e.id("customer_id"), "status": "open",
				"amount_bs": e.number("amount_bs").at(2), "amount_usd": e.number("amount_usd").at(2),
			}
			if sale == "" {
				row["created_at"] = e.instant("created_at", e.created())
				row.set("note", e.text("note"))
			}
			f.Debts[at] = row
		}
	}
	paid := map[string]*[2]decimal{}
	for _, e := range f.of(velox.DebtPaymentRecorded, velox.DebtPaymentAdded) {
		f.payment(e, key, paid)
	}
	for at, sums := range paid {
		f.Debts[at]["status"] = status(f.Debts[at], sums)
	}
}

func (f *folding) payment(e said, key map[string]string, paid map[string]*[2]decimal) {
	at, known := key[e.id("debt_id")]
	switch {
	case !known:
		f.waits(e)
		return
	case at == "" || f.Payments[e.id("payment_id")] != nil:
		f.settled(e)
		return
	case e.text("method") == "":
		f.Poison = append(f.Poison, e.ID)
		return
	}
	row := Row{
		"debt": at, "paid_at": e.instant("paid_at", e.created()), "method": e.text("method"),
		"amount_bs": e.number("amount_bs").at(2), "amount_usd": e.number("amount_usd").at(2),
	}
	row.set("note", e.text("note"))
	f.Payments[e.id("payment_id")] = row
	if paid[at] == nil {
		paid[at] = new([2]decimal)
	}
	for i, column := range []string{"amount_bs", "amount_usd"} {
		var part decimal
		part.SetString(row[column])
		paid[at][i].Add(&paid[at][i].Rat, &part.Rat)
	}
}

// status goes by USD where the debt has any, else by Bs, else any payment is all.
func status(debt Row, paid *[2]decimal) string {
	var cent decimal
	cent.SetString(tolerance)
	part := paid[0].Cmp(&cent.Rat) > 0 || paid[1].Cmp(&cent.Rat) > 0
	if full, due := reaches(debt["amount_usd"], &paid[1], &cent); due {
		return graded(full, part)
	}
	if full, due := reaches(debt["amount_bs"], &paid[0], &cent); due {
		return graded(full, part)
	}
	return graded(true, part)
}

// reaches tells whether anything is due, and whether the sum comes near it.
func reaches(amount string, sum, cent *decimal) (full, due bool) {
	var owed decimal
	owed.SetString(amount)
	if owed.Cmp(&cent.Rat) <= 0 {
		return false, false
	}
	owed.Sub(&owed.Rat, &cent.Rat)
	return sum.Cmp(&owed.Rat) >= 0, true
}

func graded(full, part bool) string {
	switch {
	case full:
		return "paid"
	case part:
		return "partial"
	default:
		return "open"
	}
}
