package fleet

import (
	"fmt"
	"slices"

	"github.com/google/uuid"

	"github.com/veloxpos/reconciled/internal/velox"
)

// LogFault is one thing wrong with the log itself. It is planted before the
// sides are filled.
type LogFault struct {
	Name  string
	plant func(*Sides) (Expect, error)
}

// Plant spoils the sides, and says what is to come of it. It fails when the log
// holds nothing that the fault could happen to.
func (f LogFault) Plant(d *Sides) (Expect, error) {
	e, err := f.plant(d)
	if err != nil {
		return Expect{}, fmt.Errorf("plant %s: %w", f.Name, err)
	}
	e.Fault = f.Name
	return e, nil
}

func healable(events []velox.Event) []uuid.UUID {
	return ids(slices.DeleteFunc(slices.Clone(events), func(e velox.Event) bool {
		return !e.Type.Known() || e.Lost()
	}))
}

// window finds n events in a row that no other fault has touched: from the middle
// of the log on, else from its beginning.
func (d *Sides) window(n int) ([]velox.Event, error) {
	for _, from := range []int{max(0, len(d.log)-n) / 2, 0} {
		whole := 0
		for i := from; i < len(d.log); i++ {
			if whole++; d.touched[d.log[i].ID] {
				whole = 0
			}
			if whole == n {
				return d.log[i+1-n : i+1], nil
			}
		}
	}
	return nil, fmt.Errorf("the log of %d events has no %d in a row that are untouched", len(d.log), n)
}

// Outage keeps n events in a row, from around the middle of the log, from a side.
func Outage(side Side, n int) LogFault {
	return LogFault{fmt.Sprintf("an outage: %d events in a row never reached %s", n, side), func(d *Sides) (Expect, error) {
		lost, err := d.window(n)
		if err != nil {
			return Expect{}, err
		}
		d.drop(side, ids(lost))
		return Expect{Side: side, Fetched: ids(lost), Healed: healable(lost)}, nil
	}}
}

// Scattered keeps n events from all over the log from a side.
func Scattered(side Side, n int) LogFault {
	return LogFault{fmt.Sprintf("%d events here and there never reached %s", n, side), func(d *Sides) (Expect, error) {
		lost := d.some(n, func(velox.Event) bool { return true })
		if len(lost) < n {
			return Expect{}, fmt.Errorf("the log has only %d that are untouched", len(lost))
		}
		d.drop(side, ids(lost))
		return Expect{Side: side, Fetched: ids(lost), Healed: healable(lost)}, nil
	}}
}

// one picks an untouched event of a type.
func (d *Sides) one(fits func(velox.Event) bool) (velox.Event, error) {
	found := d.some(1, fits)
	if len(found) == 0 {
		return velox.Event{}, fmt.Errorf("the log of %d events has none that fits", len(d.log))
	}
	return found[0], nil
}

// Altered changes the content of one event on a side, under the same id; its
// hash stays, and betrays which copy is the true one.
func Altered(side Side) LogFault {
	return LogFault{"one event says something else at " + string(side), func(d *Sides) (Expect, error) {
		plain, _ := d.shop.plainProduct() // the one that other faults sell must keep its stock
		e, err := d.one(func(e velox.Event) bool {
			return e.Type == velox.StockAdjusted && e.Device != velox.ServerDevice && member(e.Delta, "product_id") != plain.id.String()
		})
		if err != nil {
			return Expect{}, err
		}
		said := object{
			"movement_id": member(e.Delta, "movement_id"), "product_id": member(e.Delta, "product_id"),
			"qty_delta": number("9999"), "reason": "conteo", "warehouse_id": member(e.Delta, "warehouse_id"),
		}
		e.Payload, e.Delta = said.text(), said.text()
		d.change(side, e.ID, e)
		return Expect{Side: side, Conflicts: []uuid.UUID{e.ID}, Health: []string{e.ID.String()}}, nil
	}}
}

// Twice is one sale that each side knows by another event id: a till sent it
// again under a new one, and each side has refused the other's by its request_id.
func Twice() LogFault {
	return LogFault{"one sale under two event ids", func(d *Sides) (Expect, error) {
		e, err := d.one(func(e velox.Event) bool { return e.Type == velox.SaleCreated && e.RequestID.Valid })
		if err != nil {
			return Expect{}, err
		}
		again := e
		again.ID = d.shop.id()
		d.change(Central, e.ID, again)
		return Expect{Side: Store, Agreed: []uuid.UUID{e.ID, again.ID}}, nil
	}}
}

// LostContent overwrites, on a side, an event that has no delta with another's
// payload: only the other side still knows what it said.
func LostContent(side Side) LogFault {
	return LogFault{"an event's content is lost at " + string(side), func(d *Sides) (Expect, error) {
		fits := func(e velox.Event) bool {
			return e.Type == velox.StockDeltaApplied && e.Hash != "" && !e.Lost()
		}
		pair := d.some(2, fits)
		if len(pair) < 2 {
			return Expect{}, fmt.Errorf("the log has %d receipts by delta, and two are needed", len(pair))
		}
		d.change(side, pair[0].ID, Overwritten(pair[0], pair[1]))
		return Expect{Side: side, Restored: ids(pair[:1]), Healed: ids(pair[:1])}, nil
	}}
}

// Malformed is a sale whose id is no UUID, on both sides.
func Malformed() LogFault {
	return LogFault{`a sale whose id is "not-a-uuid"`, func(d *Sides) (Expect, error) {
		e := d.shop.oddSale(func(payload object) { payload["sale_id"] = "not-a-uuid" }, 1000)
		d.add(e)
		return Expect{Side: Store, Poison: []uuid.UUID{e.ID}, Health: []string{e.ID.String()}}, nil
	}}
}

// UnknownProduct is a sale of a product that was made online elsewhere: no event
// tells of it, and neither side has its row.
func UnknownProduct() LogFault {
	return LogFault{"a sale of a product that nobody knows", func(d *Sides) (Expect, error) {
		unknown := d.shop.id().String()
		e := d.shop.oddSale(func(payload object) {
			payload["items"].([]any)[0].(object)["product_id"] = unknown
		}, 1000)
		d.add(e)
		return Expect{Side: Store, Waiting: []uuid.UUID{e.ID}, Health: []string{unknown}}, nil
	}}
}

// Oversold sells 500 more of a product than there are.
func Oversold() LogFault {
	return LogFault{"a product sold beyond its stock", func(d *Sides) (Expect, error) {
		p, at := d.shop.plainProduct()
		e := d.shop.oddSaleOf(p, at, d.shop.stock[at]+500_000, nil)
		d.add(e)
		return Expect{Side: Store, Health: []string{p.id.String()}}, nil
	}}
}

// FiscalDuplicate is two sales with one fiscal number in one series.
func FiscalDuplicate() LogFault {
	return LogFault{"two sales with one fiscal number", func(d *Sides) (Expect, error) {
		const fiscal = "777000777"
		mark := func(payload object) {
			payload["invoice_series_id"] = d.shop.ref.Series[0].String()
			payload["invoice_number"], payload["fiscal_number"] = fiscal, fiscal
		}
		d.add(d.shop.oddSale(mark, 1000), d.shop.oddSale(mark, 1000))
		return Expect{Side: Store, Health: []string{fiscal}}, nil
	}}
}
