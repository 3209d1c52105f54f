package fleet

import (
	"time"

	"github.com/google/uuid"

	"github.com/veloxpos/reconciled/internal/velox"
)

const tradingHours = 12 * time.Hour

// openDay opens a cash session at every till; the first one's is opened online.
func (s *Shop) openDay() {
	s.open = true
	s.closes = s.now.Add(tradingHours)
	s.rate += s.between(-20, 60)
	s.newQuotaDay()
	for i, t := range s.tills {
		t.session, t.cashBS, t.cashUSD = s.id(), 0, 0
		payload := object{
			"session_id": t.session.String(), "opened_at": s.stamp(t),
			"opening_amount_bs": s.amount(s.between(0, 50000), 2), "opening_amount_usd": plain(s.between(0, 50)*100, 2),
		}
		if s.chance(4) {
			payload["note"] = "Turno mañana"
		}
		if i == 0 && s.chance(2) {
			payload["opened_at"] = iso(s.now)
			s.serve(velox.CashSessionOpened, payload)
			continue
		}
		if s.chance(4) {
			payload["opened_at"] = iso(s.reads(t)) // an offline session
		}
		s.ring(t, velox.CashSessionOpened, payload)
	}
}

// closeDay closes every till's session and lets the night pass.
func (s *Shop) closeDay() {
	for _, t := range s.tills {
		payload := object{
			"session_id": t.session.String(), "closed_at": s.stamp(t),
			"expected": object{"cash_bs": plain(t.cashBS, 2), "cash_usd": plain(t.cashUSD, 2)},
			"counted":  object{"cash_bs": plain(t.cashBS-s.between(0, 300), 2), "cash_usd": plain(t.cashUSD, 2)},
		}
		if s.chance(3) {
			payload["note"] = "Faltante menor"
		}
		s.ring(t, velox.CashSessionClosed, payload)
		if s.chance(6) { // closed again, corrected: the newer one counts
			payload["note"] = "Corregido"
			payload["counted"] = payload["expected"]
			payload["closed_at"] = s.stamp(t)
			s.ring(t, velox.CashSessionClosed, payload)
		}
		t.session = uuid.Nil
	}
	s.open = false
	s.now = s.closes.Add(24*time.Hour - tradingHours)
}

// openDebt is one that may be paid.
type openDebt struct {
	id      uuid.UUID
	leftUSD int64
	rate    int64
}

// oldDebt records a debt that no sale stands behind.
func (s *Shop) oldDebt() {
	if len(s.customers) == 0 {
		s.createCustomer()
		return
	}
	t := s.anyTill()
	usd := s.between(5, 80) * 100
	d := openDebt{id: s.id(), leftUSD: usd, rate: s.rate}
	s.debts = append(s.debts, d)
	payload := object{
		"debt_id": d.id.String(), "customer_id": pick(s, s.customers).id.String(), "sale_id": nil,
		"amount_bs": s.amount(s.bs(usd), 2), "amount_usd": s.amount(usd, 2),
	}
	if s.chance(2) {
		payload["created_at"] = s.stamp(t)
		payload["note"] = "Cuaderno"
	}
	if s.chance(3) {
		payload["created_at"] = iso(s.now)
		s.serve(velox.DebtCreated, payload)
		return
	}
	s.ring(t, velox.DebtCreated, payload)
}

// pay pays some of a debt, or all that is left.
func (s *Shop) pay() {
	if len(s.debts) == 0 {
		s.sell()
		return
	}
	i := s.rng.IntN(len(s.debts))
	usd := s.debts[i].leftUSD
	if s.chance(2) {
		usd = max(1, usd/3)
	}
	t := s.anyTill()
	paid := member(s.payDebt(t, s.debts[i], usd).Payload, "payment_id")
	if s.chance(3) {
		s.book(t, paid, "income", (usd*s.debts[i].rate+50)/100, usd, pick(s, []string{"", t.session.String()}))
	}
	s.debts[i].leftUSD -= usd
	if s.debts[i].leftUSD <= 0 {
		s.debts[i] = s.debts[len(s.debts)-1]
		s.debts = s.debts[:len(s.debts)-1]
	}
}

func (s *Shop) payDebt(t *till, d openDebt, usd int64) *velox.Event {
	typ := velox.DebtPaymentRecorded
	if s.chance(5) {
		typ = velox.DebtPaymentAdded
	}
	payload := object{
		"payment_id": s.id().String(), "debt_id": d.id.String(),
		"method":    pick(s, []string{"CASH_BS", "CASH_USD", "PAGO_MOVIL", "TRANSFER"}),
		"amount_bs": s.amount((usd*d.rate+50)/100, 2), "amount_usd": s.amount(usd, 2), "paid_at": s.stamp(t),
	}
	if s.chance(4) {
		payload["note"] = "Abono"
		payload["reference"] = "0134"
	}
	return s.ring(t, typ, payload)
}

// book writes down cash that goes through a till, as tills do: what a payment
// brought while offline names no session.
func (s *Shop) book(t *till, entry, typ string, bs, usd int64, session string) {
	s.ring(t, velox.CashLedgerEntryCreated, s.cashEntry(entry, typ, bs, usd, session, s.stamp(t)))
}

func (s *Shop) cashEntry(entry, typ string, bs, usd int64, session string, at any) object {
	payload := object{
		"entry_id": entry, "request_id": s.id().String(), "entry_type": typ, "amount_bs": s.amount(bs, 2), "amount_usd": s.amount(usd, 2),
		"currency": "BS", "cash_session_id": session, "sold_at": at,
	}
	if usd != 0 {
		payload["currency"] = pick(s, []any{"USD", "MIXED"})
	}
	if s.chance(4) {
		payload["metadata"] = object{"origen": "caja"}
	}
	return payload
}

// moveCash puts cash into a till or takes some out: online, or at the till.
func (s *Shop) moveCash() {
	t := s.anyTill()
	typ := pick(s, []string{"expense", "income", "adjustment", "transfer", "initial_balance"})
	bs, usd := s.between(100, 90000), int64(0)
	if s.chance(3) {
		usd = s.between(1, 20) * 100
	}
	if (typ == "adjustment" || typ == "transfer") && s.chance(2) {
		bs, usd = -bs, -usd
	}
	if s.chance(2) {
		s.book(t, s.id().String(), typ, bs, usd, t.session.String())
		return
	}
	s.serve(velox.CashLedgerEntryCreated, s.cashEntry(s.id().String(), typ, bs, usd, t.session.String(), iso(s.now)))
}
