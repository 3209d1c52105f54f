package projection

import (
	"fmt"

	"github.com/google/uuid"
)

// debt is DebtCreated (events.md 3.9). A sale has one debt: the event of a sale
// whose own projection made it is absorbed.
type debt struct {
	row      Row
	id       uuid.UUID
	sale     uuid.NullUUID
	customer uuid.UUID
}

func readDebt(e Event, p payload) shape {
	d := debt{id: p.id("debt_id"), sale: p.optionalID("sale_id"), customer: p.id("customer_id")}
	d.row = Row{Debts, map[string]any{
		"id": d.id, "store_id": e.Store, "sale_id": d.sale, "customer_id": d.customer,
		"created_at": p.time("created_at", e), "status": "open", "note": p.text("note"),
		"amount_bs": p.number("amount_bs", money), "amount_usd": p.number("amount_usd", money),
	}}
	return d
}

func (d debt) asks(Event) Asks {
	refs := []Ref{d.row.ref(), {Removed, d.id}, {Customers, d.customer}}
	if d.sale.Valid {
		refs = append(refs, Ref{Sales, d.sale.UUID}, Ref{DebtsOf, d.sale.UUID}, Ref{Voiding, d.sale.UUID})
	}
	return Asks{Refs: refs, Row: d.row.only("customer_id", "amount_bs", "amount_usd")}
}

func (d debt) plan(e Event, f Facts) Outcome {
	mine, refusal := f.owned(e, d.row.ref())
	switch {
	case refusal != nil:
		return *refusal
	case mine:
		return d.standing(e, f)
	case f.Removed[d.id]:
		return d.never("a void removed it")
	}
	if d.sale.Valid {
		if other, has := f.DebtOf[d.sale.UUID]; has {
			return d.never(fmt.Sprintf("sale %s has debt %s already", d.sale.UUID, other.ID))
		}
		if out := f.parent(e, Ref{Sales, d.sale.UUID}); out != nil {
			return *out
		}
		if f.Voided[d.sale.UUID] {
			return d.never(fmt.Sprintf("sale %s is voided", d.sale.UUID))
		}
	}
	if out := f.parent(e, Ref{Customers, d.customer}); out != nil {
		return *out
	}
	return write(Changes{Insert: &d.row, Unvoided: d.sale})
}

// standing mends a debt whose row is there. The backend makes one for a sale that is
// voided, too; that is taken out again.
func (d debt) standing(e Event, f Facts) Outcome {
	if void, voided := f.VoidOf[d.sale.UUID]; d.sale.Valid && f.Voided[d.sale.UUID] && voided {
		return mend(fmt.Sprintf("sale %s is voided", d.sale.UUID),
			Changes{Update: &Update{Sales, d.sale.UUID, nil}, DebtOf: d.sale, Void: some(void)})
	}
	var edited []string
	if own := f.DebtOf[d.sale.UUID]; d.sale.Valid && own.ID == d.id && own.Buyer == some(own.Customer) {
		edited = []string{"customer_id"} // with its sale: what that has to be is for the sale's event to say
	}
	out := f.standing(e, d.row, edited...)
	if out.Class == Actionable {
		if missing := f.parent(e, Ref{Customers, d.customer}); missing != nil {
			return *missing
		}
		out.Changes.Status = some(d.id)
	}
	return out
}

// never says that the debt's own row will never be. It names the row, for which
// payments may wait.
func (d debt) never(why string) Outcome {
	return Outcome{Class: Semantic, Waits: Ref{Debts, d.id}, Reason: why}
}

// debtPayment is DebtPaymentRecorded, and DebtPaymentAdded.
type debtPayment struct {
	row  Row // without its debt
	debt uuid.UUID
	at   *Near
}

func readPayment(e Event, p payload) shape {
	return debtPayment{debt: p.id("debt_id"), at: p.near("paid_at", e), row: Row{DebtPayments, map[string]any{
		"id": p.id("payment_id"), "store_id": e.Store, "paid_at": p.time("paid_at", e), "method": p.needText("method"),
		"note": p.text("note"), "amount_bs": p.number("amount_bs", money), "amount_usd": p.number("amount_usd", money),
	}}}
}

func (d debtPayment) asks(Event) Asks {
	said := []string{"method", "note", "amount_bs", "amount_usd"}
	if !d.at.Loose {
		said = append(said, "paid_at")
	}
	return Asks{
		Refs: []Ref{d.row.ref(), {Removed, d.row.ref().ID}, {Debts, d.debt}, {Removed, d.debt}, {Declared, d.debt}},
		Row:  d.row.only(said...),
	}
}

func (d debtPayment) plan(e Event, f Facts) Outcome {
	mine, refusal := f.owned(e, d.row.ref())
	switch {
	case refusal != nil:
		return *refusal
	case mine:
		return d.standing(e, f)
	}
	if f.Removed[d.row.ref().ID] || f.Removed[d.debt] {
		return Outcome{Class: Semantic, Reason: "a void removed its debt"}
	}
	id, out := d.owed(e, f)
	if out != nil {
		return *out
	}
	row := Row{DebtPayments, d.row.beyond()}
	row.Values["debt_id"] = id
	return write(Changes{Insert: &row, Status: some(id)})
}

// standing mends a payment whose row is there, and the status of its debt.
func (d debtPayment) standing(e Event, f Facts) Outcome {
	out := f.standing(e, d.row)
	debt, stale := f.Stale[d.row.ref().ID]
	switch {
	case out.Class == Actionable:
		out.Changes.Status = some(f.paid(e))
	case out.Class == Done && stale && !e.Online:
		return mend(fmt.Sprintf("the status of debt %s does not follow its payments", debt),
			Changes{Update: &Update{DebtPayments, d.row.ref().ID, nil}, Status: some(debt)})
	}
	return out
}

// paid is the debt that a payment's row names.
func (f Facts) paid(e Event) uuid.UUID {
	id, _ := identifier(unquote(f.Differs[e.ID].Before["debt_id"]))
	return id
}

// owed finds the debt that is paid. A credit sale's debt has another id on each
// node; the DebtCreated that knows the payment's id leads to the sale, and the
// sale to the debt that it has here.
func (d debtPayment) owed(e Event, f Facts) (uuid.UUID, *Outcome) {
	own := f.parent(e, Ref{Debts, d.debt})
	if own == nil || own.Class != Waiting {
		return d.debt, own
	}
	sale := f.Declared[d.debt]
	if !sale.Valid {
		return uuid.Nil, own
	}
	if other, has := f.DebtOf[sale.UUID]; has {
		return other.ID, nil
	}
	if out := f.parent(e, Ref{Sales, sale.UUID}); out != nil {
		return uuid.Nil, out
	}
	if f.Voided[sale.UUID] {
		return uuid.Nil, &Outcome{Class: Semantic, Reason: fmt.Sprintf("sale %s is voided", sale.UUID)}
	}
	return uuid.Nil, own
}
