package fleet_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"testing"

	"github.com/google/uuid"

	"github.com/veloxpos/reconciled/internal/fleet"
	"github.com/veloxpos/reconciled/internal/velox"
)

// Ids for events written by hand.
const (
	productA  = "aaaaaaaa-0000-4000-8000-000000000001"
	customerA = "aaaaaaaa-0000-4000-8000-000000000002"
	sessionA  = "aaaaaaaa-0000-4000-8000-000000000003"
	saleA     = "aaaaaaaa-0000-4000-8000-000000000004"
	debtA     = "aaaaaaaa-0000-4000-8000-000000000005"
	paymentA  = "aaaaaaaa-0000-4000-8000-000000000006"
)

var bare = fleet.Reference{Store: store, Warehouses: []uuid.UUID{uuid.MustParse("33333333-3333-4333-8333-333333333333")}}

// event is the n-th thing that happened, by the clock.
func event(n int, typ velox.Type, payload string) velox.Event {
	return velox.Event{
		ID: uuid.MustParse(fmt.Sprintf("eeeeeeee-0000-4000-8000-%012d", n)), Store: store, Seq: int64(n), Type: typ,
		CreatedAt: velox.Millis(n), Payload: json.RawMessage(payload), ConflictStatus: velox.Resolved,
	}
}

var (
	flour      = event(1, velox.ProductCreated, `{"name": "Harina", "product_id": "`+productA+`"}`)
	maria      = event(2, velox.CustomerCreated, `{"name": "Maria", "phone": "0414", "customer_id": "`+customerA+`"}`)
	opened     = event(3, velox.CashSessionOpened, `{"session_id": "`+sessionA+`", "note": "abre"}`)
	creditSale = event(4, velox.SaleCreated, `{"sale_id": "`+saleA+`", "customer": {"name": "M.", "customer_id": "`+customerA+`"},
		"payment": {"method": "FIAO"}, "totals": {"total_bs": "400", "total_usd": 10, "discount_usd": 0.5},
		"items": [{"qty": 2, "product_id": "`+productA+`"}, {"qty": 2, "product_id": "`+productA+`"}]}`)
	ownDebt = event(5, velox.DebtCreated, `{"debt_id": "`+debtA+`", "sale_id": "`+saleA+`", "customer_id": "`+customerA+`", "amount_usd": 10}`)
	payment = event(6, velox.DebtPaymentAdded, `{"debt_id": "`+debtA+`", "method": "CASH_USD", "amount_usd": 9.99, "payment_id": "`+paymentA+`"}`)
	void    = event(7, velox.SaleVoided, `{"sale_id": "`+saleA+`", "reason": "error"}`)
)

func TestFoldRules(t *testing.T) {
	older := event(8, velox.CashSessionClosed, `{"session_id": "`+sessionA+`", "counted": {"cash_bs": 1}, "note": "vieja"}`)
	newer := event(9, velox.CashSessionClosed, `{"session_id": "`+sessionA+`", "counted": {"cash_bs": 2.0}}`)
	lost := event(10, velox.StockDeltaApplied, `{"movement_id": "`+debtA+`", "product_id": "`+productA+`", "qty_delta": 5}`)
	lost.ConflictStatus, lost.Hash = velox.AutoResolved, "0000"
	malformed := event(11, velox.SaleCreated, `{"sale_id": "not-a-uuid", "items": [{"product_id": "`+productA+`"}]}`)
	price := event(12, "PriceForgotten", `{"product_id": "`+productA+`"}`)

	sold := saleA + "/" + productA + "//sold"
	for _, c := range []struct {
		name   string
		events []velox.Event
		table  func(fleet.ReadModel) fleet.Table
		key    string
		want   map[string]string // columns; nil when there must be no row
	}{
		{"the newest close wins", []velox.Event{newer, older, opened}, sessions, sessionA, map[string]string{"counted": `{"cash_bs":2}`, "closed_at": "9", "note": "abre"}},
		{"a credit sale makes a debt", []velox.Event{flour, maria, creditSale}, debts, "sale:" + saleA, map[string]string{"amount_usd": "10.00", "amount_bs": "400.00", "status": "open"}},
		{"its own DebtCreated is absorbed", []velox.Event{flour, maria, creditSale, ownDebt}, debts, debtA, nil},
		{"and finds the payment its debt", []velox.Event{payment, ownDebt, creditSale, maria, flour}, payments, paymentA, map[string]string{"debt": "sale:" + saleA}},
		{"a cent short is paid", []velox.Event{payment, ownDebt, creditSale, maria, flour}, debts, "sale:" + saleA, map[string]string{"status": "paid"}},
		{"a void takes the debt", []velox.Event{void, flour, maria, creditSale, ownDebt, payment}, debts, "sale:" + saleA, nil},
		{"and its payments", []velox.Event{void, flour, maria, creditSale, ownDebt, payment}, payments, paymentA, nil},
		{"a void may come first", []velox.Event{void, flour, maria, creditSale}, sales, saleA, map[string]string{"voided_at": "7", "void_reason": "error"}},
		{"discounts are those that makers send", []velox.Event{flour, creditSale}, sales, saleA, map[string]string{"totals.discount_usd": "1/2", "totals.discount_bs": "0"}},
		{"equal items add up", []velox.Event{flour, creditSale}, movements, sold, map[string]string{"qty_delta": "-4.000"}},
		{"a sale makes up its customer", []velox.Event{flour, creditSale}, customers, customerA, map[string]string{"name": "M."}},
		{"until the customer is created", []velox.Event{flour, creditSale, maria}, customers, customerA, map[string]string{"name": "Maria", "phone": "0414"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			row, there := c.table(fleet.Fold(c.events, bare))[c.key]
			if there != (c.want != nil) {
				t.Fatalf("row is there: %v (%v)", there, row)
			}
			for column, want := range c.want {
				if row[column] != want {
					t.Errorf("%s is %q, want %q", column, row[column], want)
				}
			}
		})
	}

	m := fleet.Fold([]velox.Event{lost, malformed, price, payment, void, newer, ownDebt}, bare)
	for _, c := range []struct {
		name string
		got  []uuid.UUID
		want []velox.Event
	}{
		{"lost", m.Lost, []velox.Event{lost}},
		{"poison", m.Poison, []velox.Event{malformed}},
		{"unsupported", m.Unsupported, []velox.Event{price}},
		{"waiting", m.Waiting, []velox.Event{void, newer}},
		{"settled by the void", m.Settled, []velox.Event{ownDebt, payment}},
	} {
		var want []uuid.UUID
		for _, e := range c.want {
			want = append(want, e.ID)
		}
		if !slices.Equal(c.got, want) {
			t.Errorf("%s: %v, want %v", c.name, c.got, want)
		}
	}
}

func sessions(m fleet.ReadModel) fleet.Table  { return m.Sessions }
func debts(m fleet.ReadModel) fleet.Table     { return m.Debts }
func payments(m fleet.ReadModel) fleet.Table  { return m.Payments }
func sales(m fleet.ReadModel) fleet.Table     { return m.Sales }
func movements(m fleet.ReadModel) fleet.Table { return m.Movements }
func customers(m fleet.ReadModel) fleet.Table { return m.Customers }
