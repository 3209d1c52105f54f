package postgres_test

import (
	"testing"

	"github.com/veloxpos/reconciled/healer"
)

// The debt of a credit sale has a random id here, and no event that names it. The
// backend's void deletes it, and what payments of it are about is gone with it.
func TestD03PaymentsOfADebtThatTheBackendsVoidDeletedAreSettled(t *testing.T) {
	h := newHealing(t, healer.Options{})
	h.pushed(right, product("flour", 0), opened(1), customerCreated(2), sold("credit", 3, onCredit(maria), flour))
	debt := h.text(`SELECT id FROM debts`)
	of := func(e said) said {
		e.body["debt_id"] = debt
		return e
	}
	before, late := of(paid("before", 4, "", 1)), of(paid("late", 10, "", 1))
	h.pushed(right, before)
	h.mends(0)
	h.pushed(right, voided("credit", 9))
	h.expect("0 0", `SELECT (SELECT count(*) FROM debts) || ' ' || count(*) FROM debt_payments`)
	h.log(late, of(owes("thin", 11, nil)))
	h.mends(0)
	h.expect("0 0", `SELECT (SELECT count(*) FROM debts) || ' ' || count(*) FROM debt_payments`)
	h.expect("3 semantic", `SELECT count(*) || ' ' || string_agg(DISTINCT class, ' ') FROM reconciled.gap`)
	h.wantGap("semantic", before)
	h.wantGap("semantic", late)
}

// A credit debt that was lost is made again, under another id.
func TestAPaymentFollowsItsDebtToTheOneThatWasMadeAnew(t *testing.T) {
	h := newHealing(t, healer.Options{})
	h.pushed(right, product("flour", 0), opened(1), customerCreated(2), sold("credit", 3, onCredit(maria), flour))
	payment := paid("some", 4, "", 1)
	payment.body["debt_id"] = h.text(`SELECT id FROM debts`)
	h.pushed(right, payment)
	h.exec(`DELETE FROM debts`)
	h.expect("0", `SELECT count(*) FROM debt_payments`)
	h.mends(2)
	h.expect("partial", `SELECT d.status FROM debts d JOIN debt_payments p ON p.debt_id = d.id WHERE d.sale_id = $1`, id("sale credit"))
}

// However many rows went with it, which sale a debt was of is kept.
func TestTheSaleOfADeletedDebtIsKeptThroughABulk(t *testing.T) {
	h := newHealing(t, healer.Options{})
	h.pushed(right, product("flour", 0), opened(1), customerCreated(2), sold("credit", 3, onCredit(maria), flour))
	payment := paid("late", 10, "", 1)
	payment.body["debt_id"] = h.text(`SELECT id FROM debts`)
	h.exec(`INSERT INTO reconciled.touched (store_id, table_name, row_id) SELECT $1, 'customers', gen_random_uuid() FROM generate_series(1, 20001)`, shop)
	h.pushed(right, voided("credit", 9))
	h.heal()
	h.log(payment)
	h.heal()
	h.wantGap("semantic", payment)
}
