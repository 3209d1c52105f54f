package fleet

import (
	"fmt"
	"slices"

	"github.com/veloxpos/reconciled/internal/velox"
)

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
			"ledger_p_bs":        "0.00", "ledger_n_bs": "0.00", "ledger_p_usd": "0.00", "ledger_n_usd": "0.00",
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

// ledger folds what goes in and out of the tills, and counts it in the sessions
// that are there.
func (f *folding) ledger() {
	requests := map[string]bool{}
	for _, e := range f.events[velox.CashLedgerEntryCreated] {
		id, request := e.id("entry_id"), e.id("request_id")
		if f.Ledger[id] != nil || requests[request] {
			f.settled(e)
			continue
		}
		if request != "" {
			requests[request] = true
		}
		row := Row{
			"amount_bs": e.number("amount_bs").at(2), "amount_usd": e.number("amount_usd").at(2), "currency": "BS",
			"sold_at": e.instant("sold_at", e.created()), "device_id": e.Device.String(), "seq": fmt.Sprint(e.Seq), "event_id": e.ID.String(),
		}
		row.set("entry_type", e.text("entry_type"))
		row.set("currency", e.text("currency"))
		row.set("cash_session_id", e.id("cash_session_id"))
		row.set("request_id", request)
		f.Ledger[id] = row
		if session, there := f.Sessions[row["cash_session_id"]]; there {
			session.countCash(row)
		}
	}
}

// countCash adds an entry to its session's counters: p of what came in, n of what
// went out.
func (r Row) countCash(entry Row) {
	for _, currency := range []string{"bs", "usd"} {
		var amount, sum decimal
		amount.SetString(entry["amount_"+currency])
		side := "p"
		switch entry["entry_type"] {
		case "sale", "income", "initial_balance":
		case "expense":
			side = "n"
		default:
			if amount.Sign() < 0 {
				side = "n"
			}
		}
		counter := "ledger_" + side + "_" + currency
		sum.SetString(r[counter])
		sum.Add(&sum.Rat, amount.Abs(&amount.Rat))
		r[counter] = sum.at(2)
	}
}
