package projection

import (
	"encoding/json"
	"fmt"

	"github.com/google/uuid"

	"github.com/veloxpos/reconciled/internal/velox"
)

// Table is a POS table, or a question about one that a Ref asks.
type Table string

// Tables whose rows are asked for by id.
const (
	Products     Table = "products"
	Variants     Table = "product_variants"
	Profiles     Table = "profiles"
	SeriesTable  Table = "invoice_series"
	Sessions     Table = "cash_sessions"
	Customers    Table = "customers"
	Sales        Table = "sales"
	Items        Table = "sale_items"
	Movements    Table = "inventory_movements"
	Debts        Table = "debts"
	DebtPayments Table = "debt_payments"
	Said         Table = "said" // only waited for, never asked
)

// Questions that are not a row by its id. The Ref's id is of what is named last.
const (
	Leftovers Table = "movements left of a missing sale"
	Bodies    Table = "items and movements of a sale that is not voided"
	DebtsOf   Table = "debt of a sale"
	Closings  Table = "closings in the log of a session"
	Declared  Table = "declaration in the log of a debt without a row"
	Removed   Table = "removal by a void of a debt or payment"
	Escrowed  Table = "escrow of a product"
)

// Ref names a row, or asks a question about an id.
type Ref struct {
	Table Table
	ID    uuid.UUID
}

func (r Ref) String() string { return fmt.Sprintf("%s %s", r.Table, r.ID) }

// Facts is what the database holds of what a batch of intents asked for. A key
// that is absent is a row that is not there.
type Facts struct {
	// Rows that exist, and whose they are: the store's, an item's sale's, or
	// uuid.Nil where the table belongs to nobody.
	Rows map[Ref]uuid.UUID

	Placeholders map[uuid.UUID]bool          // customers that a sale stood in for
	Voided       map[uuid.UUID]bool          // sales
	Hollow       map[uuid.UUID]bool          // sales without items
	Bodies       map[uuid.UUID]Body          // by sale
	DebtOf       map[uuid.UUID]uuid.UUID     // debt by sale
	Declared     map[uuid.UUID]uuid.NullUUID // by debt id: the sale that a DebtCreated in the log names
	Removed      map[uuid.UUID]bool          // debts and payments that a void removed
	Sessions     map[uuid.UUID]Session       // by id
	Closings     map[uuid.UUID][]velox.Event // by session
	Escrow       map[Escrow]bool             // devices that hold some of a product
	Series       map[uuid.UUID]Series        // by id
	Warehouses   []Warehouse                 // all of the store's, the default first, then by the database's order of names
}

// Body is what a sale consists of, beside its own row.
type Body struct {
	Items     []Item
	Movements []Movement // oldest first
}

// Item is a line of a sale as its row has it; Qty is decimal text.
type Item struct {
	ID, Product uuid.UUID
	Variant     uuid.NullUUID
	Qty         string
}

// Movement is a movement that names a sale.
type Movement struct {
	Product   uuid.UUID
	Variant   uuid.NullUUID
	Warehouse uuid.NullUUID
	Reversal  bool
}

// Session is the closing that a cash session's row holds.
type Session struct {
	ClosedAt          velox.Millis // meaningless unless Closed
	Closed            bool
	Expected, Counted json.RawMessage // nil when NULL
	Note              string          // "" when NULL
}

// Escrow is a device's share of a product.
type Escrow struct{ Device, Product uuid.UUID }

// Series is what an invoice's full number is made of.
type Series struct{ Code, Prefix string }

// Warehouse is one of the store's.
type Warehouse struct {
	ID              uuid.UUID
	Name            string
	Default, Active bool
}

// warehouse chooses where stock moves: the candidate if it is one of the
// store's, else the active default, else the first active by name, else none.
func (f Facts) warehouse(candidate uuid.NullUUID) uuid.NullUUID {
	var best *Warehouse
	for i, w := range f.Warehouses {
		if candidate.Valid && w.ID == candidate.UUID {
			return candidate
		}
		if w.Active && best == nil {
			best = &f.Warehouses[i]
		}
	}
	if best == nil {
		return uuid.NullUUID{}
	}
	return some(best.ID)
}

// settled answers for an event that stands for one row: done if the store has
// that row, refused if another store has it, nil if nobody has.
func (f Facts) settled(e *velox.Event, row Ref) *Outcome {
	owner, exists := f.Rows[row]
	switch {
	case !exists:
		return nil
	case owner == e.Store:
		return &Outcome{Class: Done}
	default:
		return refused(row)
	}
}

// parent answers for a row of the store that must be there: nil if it is,
// waiting if it is missing, refused if it is another store's.
func (f Facts) parent(e *velox.Event, row Ref) *Outcome {
	owner, exists := f.Rows[row]
	switch {
	case !exists:
		return &Outcome{Class: Waiting, Waits: row, Reason: fmt.Sprintf("%s is not there yet", row)}
	case owner == e.Store:
		return nil
	default:
		return refused(row)
	}
}

// reference answers for reference data that no event brings.
func (f Facts) reference(e *velox.Event, row Ref) *Outcome {
	owner, exists := f.Rows[row]
	switch {
	case !exists:
		return &Outcome{Class: Blocked, Waits: row, Reason: fmt.Sprintf("%s does not exist here", row)}
	case owner == e.Store || owner == uuid.Nil:
		return nil
	default:
		return refused(row)
	}
}

// refused is the answer to an id under which another store has a row: it is
// never taken over.
func refused(row Ref) *Outcome {
	return &Outcome{Class: Poison, Reason: fmt.Sprintf("%s belongs to another store", row)}
}

// first is the first answer that there is, if any.
func first(answers ...*Outcome) *Outcome {
	for _, a := range answers {
		if a != nil {
			return a
		}
	}
	return nil
}

func some(id uuid.UUID) uuid.NullUUID { return uuid.NullUUID{UUID: id, Valid: true} }
