package fleet

import "github.com/veloxpos/reconciled/internal/velox"

// tolerance is how near a debt must come to being paid.
const tolerance = "0.01"

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
