package fleet

import (
	"github.com/veloxpos/reconciled/internal/velox"
)

// customers folds those that events created; sales add placeholders later.
func (f *folding) customers() {
	for _, e := range f.events[velox.CustomerCreated] {
		id := e.id("customer_id")
		if _, there := f.Customers[id]; there {
			f.settled(e)
			continue
		}
		row := Row{"updated_at": e.created()}
		for _, c := range []string{"name", "phone", "note", "document_id", "email"} {
			row.set(c, e.text(c))
		}
		if limit, ok := e.maybe("credit_limit"); ok {
			row["credit_limit"] = limit.at(2)
		}
		f.Customers[id] = row
	}
}

// customerPatches comes after the sales, since a customer that one made up is a
// base too. The newest event that speaks of a customer gives the row its time.
func (f *folding) customerPatches() {
	for _, e := range f.events[velox.CustomerUpdated] {
		row, there := f.Customers[e.id("customer_id")]
		switch {
		case !there:
			f.waits(e)
		case !row.patch(e.object("patch"), customerColumns):
			f.settled(e)
		default:
			row["updated_at"] = later(row["updated_at"], e.created())
		}
	}
}

var customerColumns = columns{
	"name": fields.text, "phone": fields.text, "note": fields.text, "document_id": fields.text, "email": fields.text,
	"credit_limit": func(f fields, name string) string {
		if limit, ok := f.maybe(name); ok {
			return limit.at(2)
		}
		return ""
	},
}

// later is the later of two instants, of which the first may be missing.
func later(a, b string) string {
	if a == "" || millis(b) > millis(a) {
		return b
	}
	return a
}

// placeholder makes up a customer that only a sale speaks of.
func (f *folding) placeholder(e said) {
	id := e.buyer()
	if id == "" || f.Customers[id] != nil {
		return
	}
	row := Row{"name": "Cliente offline " + id[:8], "note": placeholder + " (" + e.ID.String() + ")"}
	of := e.object("customer")
	for _, name := range []string{e.text("customerName"), e.text("customer_name"), of.text("name")} {
		row.set("name", name)
	}
	for _, c := range []string{"phone", "document_id", "email"} {
		row.set(c, e.text("customer_"+c))
		row.set(c, of.text(c))
	}
	f.Customers[id] = row
}
