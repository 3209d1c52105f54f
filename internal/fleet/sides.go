package fleet

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"

	"github.com/google/uuid"

	"github.com/veloxpos/reconciled/internal/velox"
)

// Side is one of the two nodes that hold a store's log.
type Side string

// The two sides.
const (
	Store   Side = "store"
	Central Side = "central"
)

// Expect is what a fault is to lead to.
type Expect struct {
	Fault string
	Side  Side // whose database shows it

	Fetched   []uuid.UUID // events that a reconciliation brings to Side
	Restored  []uuid.UUID // events whose content the other side gives back
	Conflicts []uuid.UUID // events of which both sides keep a copy, until a person decides
	Agreed    []uuid.UUID // events that are listed as request_id duplicates, and not sent again
	Healed    []uuid.UUID // events whose rows come back
	Waiting   []uuid.UUID // events that go on waiting for what never comes
	Poison    []uuid.UUID // events that go to quarantine
	Health    []string    // what the health reasons name: an id, a number
}

// String is the expectation in one line.
func (e Expect) String() string {
	var parts []string
	for _, p := range []struct {
		what string
		n    int
	}{
		{"fetched", len(e.Fetched)},
		{"content restored", len(e.Restored)},
		{"in conflict", len(e.Conflicts)},
		{"agreed as duplicates", len(e.Agreed)},
		{"healed", len(e.Healed)},
		{"waiting", len(e.Waiting)},
		{"quarantined", len(e.Poison)},
	} {
		if p.n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", p.n, p.what))
		}
	}
	if len(e.Health) > 0 {
		parts = append(parts, "health names "+strings.Join(e.Health, ", "))
	}
	return fmt.Sprintf("%s (at %s): %s", e.Fault, e.Side, strings.Join(parts, "; "))
}

// Sides are a log as the store and central are to be filled with it. Faults that
// keep an event from a side are planted here, before there is a row: an event
// that a node never got leaves no trace on it.
type Sides struct {
	shop    *Shop
	rng     *rand.Rand
	log     []velox.Event
	at      map[Side][]velox.Event
	touched map[uuid.UUID]bool
}

// NewSides gives both sides all of a shop's events: the store as they are,
// central as a relay brings them.
func NewSides(shop *Shop, events []velox.Event) *Sides {
	d := &Sides{
		shop: shop, rng: rand.New(rand.NewPCG(shop.opts.Seed, 0x51de5)), log: events,
		at: map[Side][]velox.Event{}, touched: map[uuid.UUID]bool{},
	}
	d.add(events...)
	return d
}

// At is what a side is to be filled with, in true order.
func (d *Sides) At(side Side) []velox.Event { return d.at[side] }

// add puts events on both sides.
func (d *Sides) add(events ...velox.Event) {
	for _, e := range events {
		d.at[Store] = append(d.at[Store], e)
		d.at[Central] = append(d.at[Central], Relayed(e))
	}
}

// drop takes events from a side.
func (d *Sides) drop(side Side, ids []uuid.UUID) {
	gone := map[uuid.UUID]bool{}
	for _, id := range ids {
		gone[id], d.touched[id] = true, true
	}
	d.at[side] = slices.DeleteFunc(slices.Clone(d.at[side]), func(e velox.Event) bool { return gone[e.ID] })
}

// change replaces one side's copy of an event.
func (d *Sides) change(side Side, id uuid.UUID, to velox.Event) {
	d.touched[id] = true
	i := slices.IndexFunc(d.at[side], func(e velox.Event) bool { return e.ID == id })
	d.at[side][i] = to
}

// some picks up to n events that fit and that no fault has touched, from
// anywhere in the log.
func (d *Sides) some(n int, fits func(velox.Event) bool) []velox.Event {
	var found []velox.Event
	for _, i := range d.rng.Perm(len(d.log)) {
		if e := d.log[i]; len(found) < n && !d.touched[e.ID] && fits(e) {
			found = append(found, e)
			d.touched[e.ID] = true
		}
	}
	return found
}

func ids(events []velox.Event) []uuid.UUID {
	list := make([]uuid.UUID, len(events))
	for i, e := range events {
		list[i] = e.ID
	}
	return list
}
