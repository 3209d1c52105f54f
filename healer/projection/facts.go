package projection

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

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
	Ledger       Table = "cash_ledger_entries"
	Recipes      Table = "recipe_ingredients"
	Quotas       Table = "stock_escrow"
	Applied      Table = "applied" // events whose effect leaves no row of its own
	Said         Table = "said"    // only waited for, never asked
	Events       Table = "events"  // the same
)

// Questions that are not a row by its id. The Ref's id is of what is named last.
const (
	Bodies   Table = "items and movements of a sale"
	Voiding  Table = "void in the log of a sale"
	DebtsOf  Table = "debt of a sale"
	Closings Table = "closings in the log of a session"
	Declared Table = "declaration in the log of a debt without a row"
	Removed  Table = "removal by a void of a debt or payment"
	Escrowed Table = "escrow of a product"
	Entries  Table = "counters of a session"
	RecipeOf Table = "ingredients of a product"
)

// Ref names a row, or asks a question about an id.
type Ref struct {
	Table Table
	ID    uuid.UUID
}

func (r Ref) String() string { return fmt.Sprintf("%s %s", r.Table, r.ID) }

// Asks is what an intent wants to know before it is planned.
type Asks struct {
	Event Event // that asks
	Refs  []Ref
	// Row is the row that the event stands for, as it should be; nil when there is
	// none. Only columns that events bear are in it.
	Row *Row
	// Shares are those of escrow that the event changes.
	Shares []Share
	// Near is when movements of the sale that it asks about happened; nil when it asks
	// about none.
	Near *Near
}

// Near is a time that an event names.
type Near struct {
	At    velox.Millis
	Loose bool // it names no zone, and the backend reads it in its own
}

// Facts is what the database holds of what a batch of intents asked for. A key
// that is absent is a row that is not there.
type Facts struct {
	// Rows that exist, and whose they are: the store's, an item's sale's, or
	// uuid.Nil where the table belongs to nobody.
	Rows map[Ref]uuid.UUID
	// Differs, by event: columns of the row it asked about that hold something else.
	Differs map[uuid.UUID]Difference
	// Claimants are the events in the log that bring a row which somebody asked about
	// and found to differ.
	Claimants map[Ref][]Event
	// Entities are products and customers that somebody asked about and found missing
	// or different.
	Entities map[Ref]*Entity

	Voided     map[uuid.UUID]bool          // sales
	VoidOf     map[uuid.UUID]uuid.UUID     // voids in the log, by sale; of sales that still have a debt
	Bodies     map[uuid.UUID]Body          // by sale
	DebtOf     map[uuid.UUID]Debt          // by sale
	Declared   map[uuid.UUID]uuid.NullUUID // by debt id: the sale that a DebtCreated in the log names
	Removed    map[uuid.UUID]bool          // debts and payments that a void removed
	Stale      map[uuid.UUID]uuid.UUID     // by payment: its debt, where that has not the status of its payments
	Sessions   map[uuid.UUID]Session       // by id
	Closings   map[uuid.UUID][]Event       // by session
	Counters   map[uuid.UUID]bool          // sessions whose counters are not what their entries add up to
	Escrow     map[Share]Holding           // what devices hold of a product
	Quotas     map[uuid.UUID][]Event       // by product: what the log says of its shares, and has been projected
	Taken      map[Share][]Taking          // by sales out of shares
	Unfolded   map[uuid.UUID]bool          // products of whose shares a marker is there, and not the event
	Series     map[uuid.UUID]Series        // by id
	Recipes    map[uuid.UUID]Recipe        // by product
	Sold       map[uuid.UUID]Sold          // by event, of sales that differ in a circumstance
	Invoiced   map[uuid.UUID]bool          // sales with an issued fiscal invoice
	Warehouses []Warehouse                 // all of the store's, the default first, then by the database's order of names
}

// Difference is what a row holds in the columns that differ, as JSON.
type Difference struct {
	Columns []string
	Before  map[string]json.RawMessage // the whole row
}

// Entity is a product or customer: what its row holds, and what the log says of it.
type Entity struct {
	Columns map[string]json.RawMessage // nil when there is no row
	Writing
	History []Event // that create or change it, in no order

	folded *folding // of History
}

// Body is what a sale consists of, beside its own row.
type Body struct {
	Items     []Item
	Movements []Movement // oldest first
}

// Item is a line of a sale as its row has it; numbers are decimal text.
type Item struct {
	ID, Product             uuid.UUID
	Variant                 uuid.NullUUID
	Qty                     string
	PriceBs, PriceUSD       string
	DiscountBs, DiscountUSD string
}

// Movement is a movement that names a sale; Qty is decimal text.
type Movement struct {
	ID, Product uuid.UUID
	Variant     uuid.NullUUID
	Warehouse   uuid.NullUUID
	Qty         string
	Reversal    bool
	Escrow      bool
}

// Debt is a debt of a sale; amounts are decimal text.
type Debt struct {
	ID, Customer uuid.UUID
	Buyer        uuid.NullUUID // that the sale's row names
	Bs, USD      string
	Named        bool // a DebtCreated in the log names this id
}

// Session is the closing that a cash session's row holds.
type Session struct {
	ClosedAt          velox.Millis // meaningless unless Closed
	Closed            bool
	Expected, Counted json.RawMessage // nil when NULL
	Note              string          // "" when NULL
}

// Share names a device's share of a product.
type Share struct {
	Device, Product uuid.UUID
	Variant         uuid.NullUUID
}

// Holding is how much a share holds; Qty is decimal text.
type Holding struct {
	ID      uuid.UUID
	Qty     string
	Expires *velox.Millis // nil: never
}

// Taking is what a sale took from a share; Qty is decimal text.
type Taking struct {
	Sale Event
	Qty  string
}

// Ingredient is a line of a recipe as its row has it; Qty is decimal text.
type Ingredient struct {
	Product uuid.UUID
	Qty     string
	Unit    string // "" when NULL
}

// Recipe is a product's, as its rows have it.
type Recipe struct {
	Lines     []Ingredient
	Writing                // of the line that was written last
	DeletedAt velox.Millis // when a line was last deleted, as far as that was seen
}

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

// owned answers for the row that an event stands for: nil if nobody has it,
// mine if the store has, refused if another store has.
func (f Facts) owned(e Event, row Ref) (mine bool, refusal *Outcome) {
	owner, exists := f.Rows[row]
	switch {
	case !exists:
		return false, nil
	case owner == e.Store:
		return true, nil
	default:
		return false, refused(row)
	}
}

// standing answers for a row that is there, of an event that brings it: done if it
// says what the event says, but for columns that were edited online, or rightly differs;
// what to mend otherwise.
func (f Facts) standing(e Event, row Row, edited ...string) Outcome {
	d := f.Differs[e.ID]
	columns := slices.DeleteFunc(slices.Clone(d.Columns), func(c string) bool { return slices.Contains(edited, c) })
	switch {
	case e.Online || len(columns) == 0:
		return Outcome{Class: Done}
	case !f.first(e, row.ref()):
		return superseded
	}
	set := map[string]any{}
	for _, column := range columns {
		if column == "fiscal_number" {
			return Outcome{Class: Blocked, Reason: fmt.Sprintf("%s has fiscal number %s, the event says %v; a fiscal number is never changed here",
				row.ref(), d.Before[column], row.Values[column])}
		}
		set[column] = row.Values[column]
	}
	return Outcome{
		Class: Actionable, Reason: fmt.Sprintf("%s differs in %s", row.ref(), strings.Join(columns, ", ")),
		Changes: Changes{Update: &Update{row.Table, row.ref().ID, set}},
	}
}

// superseded is the answer to an event that another one goes before.
var superseded = Outcome{Class: Semantic, Routine: true, Reason: "another event of the log goes before it"}

// first says whether of all events that bring a row this one was made first.
func (f Facts) first(e Event, row Ref) bool {
	for _, other := range f.Claimants[row] {
		if other.ID == e.ID || compareMade(other, e) >= 0 {
			continue
		}
		if intent, err := Read(other); err == nil && intent.brings() == row {
			return false
		}
	}
	return true
}

// compareMade is the order in which events were made, as far as their makers' clocks
// tell: by time, device and number.
func compareMade(a, b Event) int {
	return cmp.Or(
		cmp.Compare(a.CreatedAt, b.CreatedAt), bytes.Compare(a.Device[:], b.Device[:]),
		cmp.Compare(a.Seq, b.Seq), bytes.Compare(a.ID[:], b.ID[:]))
}

// parent answers for a row of the store that must be there: nil if it is,
// waiting if it is missing, refused if it is another store's.
func (f Facts) parent(e Event, row Ref) *Outcome {
	mine, refusal := f.owned(e, row)
	switch {
	case mine:
		return nil
	case refusal != nil:
		return refusal
	default:
		return &Outcome{Class: Waiting, Waits: row, Reason: fmt.Sprintf("%s is not there yet", row)}
	}
}

// reference answers for reference data that no event brings.
func (f Facts) reference(e Event, row Ref) *Outcome {
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
