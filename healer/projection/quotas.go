package projection

import (
	"fmt"
	"math/big"
	"slices"
	"strings"

	"github.com/google/uuid"
)

// Quotas give a device a share of a product (events.md 3.5, 9 to 11). The online
// API that makes them writes nothing, so they are projected on every node. Each has
// a marker movement by which it is known to be projected; where the store has no
// warehouse there is none, and the event itself is the marker.
//
// A share is what all of its events come to in the order in which they were made, so
// any order of arrival comes to the same. It never falls below nothing. The newest of
// its events answers for it: the backend writes share and marker one after the other,
// and shares in the order of arrival.

// quotaNamespace is that of the markers' ids, which every node computes alike.
var quotaNamespace = uuid.MustParse("e4566d5d-c689-4676-a664-47f6d22df2b7")

// quota is one of the three.
type quota struct {
	row     Row // the marker movement, without its warehouse
	product uuid.UUID
	variant uuid.NullUUID
	moves   bool // stock, with the marker; a transfer moves none
	takes   []taking
}

// taking is what a quota does to one device's share.
type taking struct {
	device  uuid.UUID
	qty     string    // signed
	row     uuid.UUID // to make where there is none; none: what takes makes none
	expires any
}

// changes are what the quota does to shares.
func (q quota) changes(e Event) []change {
	all := make([]change, len(q.takes))
	for i, t := range q.takes {
		all[i] = change{by: e, marker: q.row.ref().ID, share: q.share(t), qty: t.qty, row: t.row, expires: t.expires}
	}
	return all
}

func (q quota) share(t taking) Share { return Share{t.device, q.product, q.variant} }

func readGrant(e Event, p payload) shape {
	id := p.id("quota_id")
	request := p.textOr("request_id", p.textOr("quota_id", "")) // as it is spelt
	device := p.id("device_id")
	qty := p.above("qty_granted", quantity)
	q := readQuota(e, p, "grant-"+request, "transfer_out", "-"+qty)
	q.row.Values["note"] = "Escrow Grant to device " + device.String()
	q.row.Values["ref"] = map[string]any{"request_id": p.json("request_id"), "quota_id": id}
	t := taking{device: device, qty: qty, row: id}
	if p.truthy("expires_at") {
		t.expires = p.time("expires_at", e)
	}
	q.moves, q.takes = true, []taking{t}
	return q
}

func readTransfer(e Event, p payload) shape {
	from, to := p.id("from_device_id"), p.id("to_device_id")
	qty := p.above("qty", quantity)
	q := readQuota(e, p, "transfer-"+p.needText("request_id"), "transfer_out", "0.000")
	q.row.Values["ref"] = map[string]any{"request_id": p.json("request_id"), "from": from, "to": to}
	if from != to {
		q.takes = []taking{{device: from, qty: "-" + qty}, {device: to, qty: qty, row: derive(e.ID, "quota", 0)}}
	}
	return q
}

func readReclaim(e Event, p payload) shape {
	device := p.id("device_id")
	qty := p.above("qty_reclaimed", quantity)
	q := readQuota(e, p, "reclaim-"+p.needText("request_id"), "transfer_in", qty)
	q.row.Values["note"] = p.textOr("reason", "Escrow Reclaimed from "+device.String())
	q.row.Values["ref"] = map[string]any{"request_id": p.json("request_id"), "device_id": device}
	q.moves, q.takes = true, []taking{{device: device, qty: "-" + qty}}
	return q
}

func readQuota(e Event, p payload, name, kind, delta string) quota {
	q := quota{product: p.id("product_id"), variant: p.optionalID("variant_id")}
	q.row = ledgerRow(e, uuid.NewSHA1(quotaNamespace, []byte(name)), kind, q.product, q.variant, p.created(e))
	q.row.Values["qty_delta"] = delta
	return q
}

func (q quota) asks(e Event) Asks {
	refs := []Ref{q.row.ref(), {Applied, e.ID}, {Products, q.product}, {Escrowed, q.product}}
	if q.variant.Valid {
		refs = append(refs, Ref{Variants, q.variant.UUID})
	}
	return Asks{Refs: refs, Row: q.row.only("product_id", "qty_delta"), Shares: sharesOf(q.changes(e))}
}

func (q quota) plan(e Event, f Facts) Outcome {
	mine, refusal := f.owned(e, q.row.ref())
	switch {
	case refusal != nil:
		return *refusal
	case mine:
		e.Online = false
		out := movement{row: q.row, product: q.product, variant: q.variant}.standing(e, f)
		if out.Class == Done {
			out = f.mendShares(e, q.row, q.changes(e))
		}
		return out
	}
	if out := first(f.parent(e, Ref{Products, q.product}), f.variant(e, q.variant)); out != nil {
		return *out
	}
	if _, applied := f.Rows[Ref{Applied, e.ID}]; applied {
		return Outcome{Class: Done}
	}
	var c Changes
	for _, t := range q.takes {
		share := q.share(t)
		held, has := f.Escrow[share]
		is := f.share(e, share)
		g := Grant{Share: share, Row: held.ID, Was: held.Qty, Qty: is.qty, Expires: is.expires}
		switch {
		case !has && t.row == uuid.Nil:
			c.Shares = append(c.Shares, share)
			continue
		case !has:
			if out := f.otherVariant(share); out != nil {
				return *out
			}
			g.Row = t.row
		}
		c.Escrow = append(c.Escrow, g)
	}
	row := Row{q.row.Table, q.row.beyond()}
	warehouse := f.warehouse(uuid.NullUUID{})
	switch {
	case q.moves && !warehouse.Valid && e.Projected:
		return Outcome{Class: Done} // by the backend, which leaves no marker then
	case q.moves && !warehouse.Valid:
		c.Insert = &Row{Applied, map[string]any{"id": e.ID, "store_id": e.Store}}
		return write(c)
	case q.moves:
		row.Values["warehouse_id"] = warehouse
		c.Stock = []StockKey{{warehouse, q.product, q.variant}}
	default:
		row.Values["warehouse_id"] = nil
	}
	c.Insert = &row
	return write(c)
}

// otherVariant refuses a share of which the device holds another variant: the POS's
// unique index leaves the variant out.
func (f Facts) otherVariant(share Share) *Outcome {
	for other := range f.Escrow {
		if other.Device == share.Device && other.Product == share.Product {
			return &Outcome{Class: Blocked, Reason: fmt.Sprintf(
				"device %s holds another variant of product %s, and the POS's index allows one", share.Device, share.Product)}
		}
	}
	return nil
}

// change is what an event, or a sale's movement, does to a share.
type change struct {
	by      Event
	marker  uuid.UUID // row by which the event is known: two events that name one are one
	sale    bool      // it has no marker
	share   Share
	qty     string    // signed
	row     uuid.UUID // to make the share by where there is none; none: it makes none
	expires any
}

func sharesOf(changes []change) []Share {
	var shares []Share
	for _, c := range changes {
		shares = append(shares, c.share)
	}
	return shares
}

// changes are those that e and the projected events make to a share, as they were made.
func (f Facts) changes(e Event, share Share) []change {
	var all []change
	for _, by := range append([]Event{e}, f.Quotas[share.Product]...) {
		intent, err := Read(by)
		if err != nil {
			continue
		}
		if s, shares := intent.shape.(interface{ changes(Event) []change }); shares {
			all = append(all, s.changes(by)...)
		}
	}
	slices.SortStableFunc(all, func(a, b change) int { return compareMade(a.by, b.by) })
	known := map[uuid.UUID]bool{}
	return slices.DeleteFunc(all, func(c change) bool {
		again := c.share != share || known[c.marker]
		known[c.marker] = known[c.marker] || c.share == share
		return again
	})
}

// Latest says whether no projected event has changed the share after e.
func (f Facts) Latest(e Event, share Share) bool {
	changes := f.changes(e, share)
	return len(changes) > 0 && changes[len(changes)-1].by.ID == e.ID
}

// balance is what a share comes to.
type balance struct {
	qty     string
	row     uuid.UUID // that it has, where the first event made it
	expires any
}

// share folds the projected events of a share, and e, and what sales took. A sale took
// what was there, whatever the clocks say; whatever else takes, takes no more than that.
// Of a product of whose shares nobody is sure no more is known than what is held: then e
// must not be in that yet.
func (f Facts) share(e Event, share Share) balance {
	total, owed, result := new(big.Rat), new(big.Rat), balance{}
	all := f.changes(e, share)
	if f.unsure(e, share.Product) {
		held := f.Escrow[share]
		total, result.row = sum(held.Qty), held.ID
		all = slices.DeleteFunc(all, func(c change) bool { return c.by.ID != e.ID })
	} else {
		for _, t := range f.Taken[share] {
			all = append(all, change{by: t.Sale, sale: true, qty: t.Qty})
		}
	}
	slices.SortStableFunc(all, func(a, b change) int { return compareMade(a.by, b.by) })
	for _, c := range all {
		if result.row == uuid.Nil {
			result.row = c.row
		}
		there := result.row != uuid.Nil
		switch n := sum(c.qty); {
		case c.sale, there && n.Sign() > 0:
			total.Add(total, n).Add(total, owed)
			owed.SetInt64(0)
			if total.Sign() < 0 {
				total, owed = owed, total
			}
		case there:
			if total.Add(total, n); total.Sign() < 0 {
				total.SetInt64(0)
			}
		}
		if there && c.expires != nil {
			result.expires = c.expires
		}
	}
	result.qty = total.FloatString(quantity.point)
	return result
}

// unsure says of a product's shares that nobody can tell what they come to: the log lacks
// one of their events, or has one beside e that nothing vouches for.
func (f Facts) unsure(e Event, product uuid.UUID) bool {
	return f.Unfolded[product] || slices.ContainsFunc(f.Quotas[product], func(by Event) bool { return by.ID != e.ID && !by.vouched() })
}

// mendShares sets shares for which a projected event answers, and which do not hold what
// their events come to, where that can be told.
func (f Facts) mendShares(e Event, marker Row, changes []change) Outcome {
	c := Changes{Update: &Update{marker.Table, marker.ref().ID, nil}}
	var reasons []string
	for _, share := range sharesOf(changes) {
		if f.unsure(e, share.Product) || !f.Latest(e, share) {
			continue
		}
		held, has := f.Escrow[share]
		is := f.share(e, share)
		g := Grant{Share: share, Row: held.ID, Was: held.Qty, Qty: is.qty}
		switch {
		case sum(held.Qty).Cmp(sum(is.qty)) == 0: // or neither is there
			continue
		case !has:
			if out := f.otherVariant(share); out != nil {
				return *out
			}
			g.Row, g.Expires = is.row, is.expires
		}
		c.Escrow = append(c.Escrow, g)
		reasons = append(reasons, fmt.Sprintf("device %s holds %s of product %s, and its share comes to %s",
			share.Device, zeroed(held.Qty), share.Product, is.qty))
	}
	if len(c.Escrow) == 0 {
		return Outcome{Class: Done}
	}
	return mend(strings.Join(reasons, "; "), c)
}

// sum adds decimal texts; "" is nothing.
func sum(texts ...string) *big.Rat {
	total := new(big.Rat)
	for _, text := range texts {
		if n, ok := new(big.Rat).SetString(text); ok {
			total.Add(total, n)
		}
	}
	return total
}
