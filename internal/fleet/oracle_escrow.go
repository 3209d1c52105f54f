package fleet

import (
	"cmp"
	"strconv"

	"github.com/google/uuid"

	"github.com/veloxpos/reconciled/internal/velox"
)

// holding is what a till may sell from its quota.
type holding struct {
	qty     decimal
	expires string // ms; "" for never
}

// quotaSpace is the namespace of the ids that the movements of quotas have.
var quotaSpace = uuid.MustParse("e4566d5d-c689-4676-a664-47f6d22df2b7")

// quota folds a grant, a transfer or a reclaim, once: a movement marks it as done.
func (f *folding) quota(e said) {
	verb, fold := "grant-", f.grant
	switch e.Type {
	case velox.StockQuotaTransferred:
		verb, fold = "transfer-", f.transfer
	case velox.StockQuotaReclaimed:
		verb, fold = "reclaim-", f.reclaim
	}
	id := uuid.NewSHA1(quotaSpace, []byte(verb+cmp.Or(e.text("request_id"), e.text("quota_id")))).String()
	switch {
	case f.marked[id]:
		f.settled(e)
	case !f.stockable(e):
	case !fold(e, id):
		f.waits(e) // it takes more than there is
	default:
		f.marked[id] = true
	}
}

func (f *folding) grant(e said, id string) bool {
	qty := e.number("qty_granted").rounded(3)
	h := f.give(e.holder("device_id"), qty)
	h.expires = cmp.Or(e.instant("expires_at", ""), h.expires)
	f.moveQuota(e, id, "transfer_out", new(decimal).minus(qty), "Escrow Grant to device "+e.text("device_id"))
	return true
}

func (f *folding) transfer(e said, id string) bool {
	qty := e.number("qty").rounded(3)
	if !f.withdraw(e.holder("from_device_id"), qty) {
		return false
	}
	f.give(e.holder("to_device_id"), qty)
	f.Movements[id] = movementRow(e, "transfer_out", new(decimal))
	return true
}

func (f *folding) reclaim(e said, id string) bool {
	qty := e.number("qty_reclaimed").rounded(3)
	if !f.withdraw(e.holder("device_id"), qty) {
		return false
	}
	note := cmp.Or(e.text("reason"), "Escrow Reclaimed from "+e.text("device_id"))
	f.moveQuota(e, id, "transfer_in", qty, note)
	return true
}

// moveQuota books a quota's stock out of the default warehouse, or back into it;
// a store that has none leaves no trace of it.
func (f *folding) moveQuota(e said, id, movement string, qty *decimal, note string) {
	warehouse := f.place("")
	if warehouse == "" {
		return
	}
	row := movementRow(e, movement, qty)
	row["warehouse_id"], row["note"] = warehouse, note
	f.Movements[id] = row
	f.book(warehouse, row["product_id"], row["variant_id"], qty)
}

// holder is the key of what the device named holds of the event's product.
func (e said) holder(device string) [3]string {
	return [3]string{e.id("product_id"), e.id(device), e.id("variant_id")}
}

func (f *folding) give(to [3]string, qty *decimal) *holding {
	if f.held[to] == nil {
		f.held[to] = &holding{}
	}
	f.held[to].qty.Add(&f.held[to].qty.Rat, &qty.Rat)
	return f.held[to]
}

// withdraw takes from a holding, unless there is less.
func (f *folding) withdraw(from [3]string, qty *decimal) bool {
	h := f.held[from]
	if h == nil || h.qty.Cmp(&qty.Rat) < 0 {
		return false
	}
	h.qty.Sub(&h.qty.Rat, &qty.Rat)
	return true
}

// drawn changes what the maker's device holds, if it holds any; never below zero.
func (f *folding) drawn(e said, delta *decimal) {
	h := f.held[[3]string{e.id("product_id"), e.Device.String(), e.id("variant_id")}]
	if h == nil {
		return
	}
	h.qty.Add(&h.qty.Rat, &delta.rounded(3).Rat)
	if h.qty.Sign() < 0 {
		h.qty.SetInt64(0)
	}
}

// consume is what a sale's line takes from the quota of the till that made it.
func (f *folding) consume(e said, item fields, qty *decimal) *decimal {
	h := f.held[[3]string{item.id("product_id"), e.Device.String(), item.id("variant_id")}]
	if h == nil || h.expires != "" && millis(h.expires) <= millis(e.instant("sold_at", e.created())) {
		return new(decimal)
	}
	take := qty.rounded(3)
	if h.qty.Cmp(&take.Rat) < 0 {
		take = h.qty.rounded(3)
	}
	h.qty.Sub(&h.qty.Rat, &take.Rat)
	return take
}

// millis reads an instant that this package spelled.
func millis(instant string) int64 {
	n, _ := strconv.ParseInt(instant, 10, 64)
	return n
}
