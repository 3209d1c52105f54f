package fleet

import (
	"strings"

	"github.com/google/uuid"

	"github.com/veloxpos/reconciled/internal/velox"
)

// stockAndSales folds everything that moves stock in one go, since what a sale
// takes from its till's quota depends on what came before it.
func (f *folding) stockAndSales() {
	f.gatherVoids()
	for _, e := range f.of(
		velox.StockReceived, velox.StockAdjusted, velox.StockDeltaApplied, velox.StockQuotaGranted,
		velox.StockQuotaTransferred, velox.StockQuotaReclaimed, velox.SaleCreated,
	) {
		switch e.Type {
		case velox.SaleCreated:
			f.saleCreated(e)
		case velox.StockReceived:
			f.stockEvent(e, "received", e.number("qty"))
		case velox.StockAdjusted, velox.StockDeltaApplied:
			f.stockEvent(e, "adjust", e.number("qty_delta"))
		default:
			f.quota(e)
		}
	}
	f.lonelyVoids()
}

func (f *folding) stockEvent(e said, movement string, qty *decimal) {
	id := e.id("movement_id")
	if _, there := f.Movements[id]; there {
		f.settled(e)
		return
	}
	if !f.stockable(e) {
		return
	}
	row := movementRow(e, movement, qty)
	row.set("warehouse_id", f.place(e.text("warehouse_id")))
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
	} else {
		f.drawn(e, qty)
	}
}

// stockable lists the event as waiting or blocked when its product or variant is
// not there.
func (f *folding) stockable(e said) bool {
	if _, there := f.Products[e.id("product_id")]; !there {
		f.waits(e)
		return false
	}
	if !f.knowsVariant(e.id("variant_id")) {
		f.Blocked = append(f.Blocked, e.ID)
		return false
	}
	return true
}

func movementRow(e said, movement string, qty *decimal) Row {
	row := Row{
		"product_id": e.id("product_id"), "movement_type": movement, "qty_delta": qty.at(3), "happened_at": e.created(),
		"unit_cost_bs": "0.00", "unit_cost_usd": "0.00", "from_escrow": "false",
	}
	row.set("variant_id", e.id("variant_id"))
	return row
}

// place is the warehouse that stock is booked in; "" when the store has none.
func (f *folding) place(candidate string) string {
	if w := f.ref.W(candidate); w != uuid.Nil {
		return w.String()
	}
	return ""
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

// book adds to the stock ledger, with the scale that its column keeps.
func (f *folding) book(warehouse, product, variant string, qty *decimal) {
	key := [3]string{warehouse, product, variant}
	sum := f.booked[key]
	sum.Add(&sum.Rat, &qty.rounded(3).Rat)
	f.booked[key] = sum
}

// totals sets the stock from its ledger, never below zero, and what quotas hold.
func (f *folding) totals() {
	for key, sum := range f.booked {
		if sum.Sign() > 0 && key[0] != "" {
			f.Stock[strings.Join(key[:], "/")] = Row{"stock": sum.at(3)}
		}
	}
	for key, h := range f.held {
		row := Row{"qty_granted": h.qty.at(3)}
		row.set("expires_at", h.expires)
		f.Escrow[strings.Join(key[:], "/")] = row
	}
}
