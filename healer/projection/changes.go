package projection

import (
	"maps"

	"github.com/google/uuid"
)

// Row is a row to insert; values encode as JSON, decimals and times as text.
type Row struct {
	Table  Table
	Values map[string]any
}

// Update changes a row that is there.
type Update struct {
	Table Table
	ID    uuid.UUID
	Set   map[string]any
}

// StockKey names a total of warehouse_stock. A nil Warehouse stands for the
// store's default one, where the ledger counts movements without a warehouse.
type StockKey struct {
	Warehouse uuid.NullUUID
	Product   uuid.UUID
	Variant   uuid.NullUUID
}

// Grant sets a device's share of a product.
type Grant struct {
	Share
	Row     uuid.UUID // to change, or to make
	Was     string    // what it was planned on; "" when there is no row
	Qty     string    // decimal text
	Expires any       // nil: as it is
}

// Cookbook is what a product's recipe is to be: rows of recipe_ingredients.
type Cookbook struct {
	Product uuid.UUID
	Rows    []Row
}

// Changes is what one event writes, in one transaction. Exactly one of Insert
// and Update claims the event; all else is written only if the claim succeeded. An
// Update is planned anew under the lock of its row, so it can do without columns.
type Changes struct {
	Insert     *Row
	Update     *Update
	Bare       bool       // nothing of the event is there yet
	Dependents []Row      // parents first
	Also       []Update   // dependents that differ
	Stock      []StockKey // totals to set from the ledger
	Escrow     []Grant
	Shares     []Share // of escrow that it takes from, there or not: who brings one must not go unseen
	Recipe     *Cookbook
	Counters   uuid.NullUUID // the session whose counters follow its entries
	Unvoided   uuid.NullUUID // a sale that must not be voided when this is written
	Status     uuid.NullUUID // a debt that must exist, and whose status follows its payments
	DebtOf     uuid.NullUUID // the sale whose debt and payments a void removes
	Void       uuid.NullUUID // that void, where it is not the event itself
	Exceptions []string      // what the event leaves for an accountant
}

// Claims is the row by which the event is claimed. Two events that claim the
// same row cannot be written in one statement.
func (c Changes) Claims() Ref {
	if c.Update != nil {
		return Ref{c.Update.Table, c.Update.ID}
	}
	return c.Insert.ref()
}

// Keys are all that two events cannot change in one statement: the claim, and shares
// of escrow.
func (c Changes) Keys() []Ref {
	keys := []Ref{c.Claims()}
	add := func(s Share) {
		keys = append(keys, Ref{Quotas, uuid.NewSHA1(namespace, append(s.Device[:], s.Product[:]...))})
	}
	for _, g := range c.Escrow {
		add(g.Share)
	}
	for _, s := range c.Shares {
		add(s)
	}
	return keys
}

// ref is the row's own name.
func (r Row) ref() Ref { return Ref{r.Table, r.Values["id"].(uuid.UUID)} }

// beyond is the row's values but for some columns.
func (r Row) beyond(columns ...string) map[string]any {
	rest := maps.Clone(r.Values)
	for _, column := range columns {
		delete(rest, column)
	}
	return rest
}

// only is the row's id and some of its columns.
func (r Row) only(columns ...string) *Row {
	part := Row{r.Table, map[string]any{"id": r.Values["id"]}}
	for _, column := range columns {
		part.Values[column] = r.Values[column]
	}
	return &part
}

func write(c Changes) Outcome {
	c.Bare = true
	return Outcome{Class: Actionable, Reason: "rows are missing", Changes: c}
}

// mend says what to write for rows that are there in part.
func mend(reason string, c Changes) Outcome {
	return Outcome{Class: Actionable, Reason: reason, Changes: c}
}
