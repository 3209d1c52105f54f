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

// Update changes a row if the table's guard still holds: a sale that is not
// voided, a customer that is a placeholder, a session that says something else.
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

// Changes is what one event writes, in one transaction. Exactly one of Insert
// and Update claims the event; all else is written only if the claim succeeded.
type Changes struct {
	Insert     *Row
	Update     *Update
	Dependents []Row         // parents first
	Stock      []StockKey    // totals to set from the ledger
	Unvoided   uuid.NullUUID // a sale that must not be voided when this is written
	Status     uuid.NullUUID // a debt that must exist, and whose status follows its payments
	DebtOf     uuid.NullUUID // the sale whose debt and payments a void removes
}

// Claims is the row by which the event is claimed. Two events that claim the
// same row cannot be written in one statement.
func (c Changes) Claims() Ref {
	if c.Update != nil {
		return Ref{c.Update.Table, c.Update.ID}
	}
	return c.Insert.ref()
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

func write(c Changes) Outcome {
	return Outcome{Class: Actionable, Reason: "rows are missing", Changes: c}
}
