package fleet

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/google/uuid"

	"github.com/veloxpos/reconciled/internal/velox"
)

// Row is a row's shared columns as text: decimals with their column's scale,
// instants in milliseconds, JSON with sorted keys. A column that is NULL is not
// in it.
type Row map[string]string

// Table holds rows by what identifies them on every node, which is not always
// their id; see Fold.
type Table map[string]Row

// ReadModel is what a store's read-model tables hold, as far as two nodes share
// it, and, of a fold, the events that left nothing in it.
//
//	products, customers, sales, sessions    id
//	recipes                                 recipe/content; n counts equal ones
//	items                                   sale/content; n counts equal ones
//	movements                               id, or sale/product/variant/sold|escrow|void with the sum
//	stock                                   warehouse/product/variant; a total of 0 is left out
//	escrow                                  product/device/variant
//	debts                                   sale:<sale id>, or id when there is no sale
//	payments                                id; debt is the key of the debt
//	ledger                                  id of the cash entry
type ReadModel struct {
	Products, Recipes, Customers      Table
	Sales, Items                      Table
	Movements, Stock, Escrow          Table
	Debts, Payments, Sessions, Ledger Table

	Waiting     []uuid.UUID // what they depend on never came
	Blocked     []uuid.UUID // reference data they name is not there
	Poison      []uuid.UUID // malformed
	Unsupported []uuid.UUID // types that nobody knows
	Lost        []uuid.UUID // the copy no longer holds what was said
	Settled     []uuid.UUID // rightly without rows of their own: absorbed, or voided
}

func newReadModel() ReadModel {
	return ReadModel{
		Products: Table{}, Recipes: Table{}, Customers: Table{}, Sales: Table{}, Items: Table{}, Movements: Table{},
		Stock: Table{}, Escrow: Table{}, Debts: Table{}, Payments: Table{}, Sessions: Table{}, Ledger: Table{},
	}
}

// tables lists the tables under the names that Diff prints.
func (m ReadModel) tables() map[string]Table {
	return map[string]Table{
		"products": m.Products, "recipe_ingredients": m.Recipes, "customers": m.Customers,
		"sales": m.Sales, "sale_items": m.Items, "inventory_movements": m.Movements,
		"warehouse_stock": m.Stock, "stock_escrow": m.Escrow, "debts": m.Debts,
		"debt_payments": m.Payments, "cash_sessions": m.Sessions, "cash_ledger_entries": m.Ledger,
	}
}

// folding is a fold under way.
type folding struct {
	ReadModel
	ref    Reference
	events map[velox.Type][]said
	voids  map[string]*said       // by sale
	booked map[[3]string]decimal  // warehouse, product, variant
	held   map[[3]string]*holding // product, device, variant
	marked map[string]bool        // movement ids of quotas
}

// said is an event with its content decoded.
type said struct {
	*velox.Event
	fields
}

// Fold is the read model that a log stands for, whatever the order of events.
// Each event counts for what it said; one that has lost that is skipped. An
// entity that several events create is the first one's, by (created_at, device,
// seq, id); what changes it is applied in that order, so of each field the newest
// stands. Quotas are granted, passed on and sold from in that order too. A void
// stands even if it came before its sale, and takes the sale's debt and payments
// with it for good.
func Fold(events []velox.Event, ref Reference) ReadModel {
	f := &folding{
		ReadModel: newReadModel(), ref: ref, events: map[velox.Type][]said{}, voids: map[string]*said{},
		booked: map[[3]string]decimal{}, held: map[[3]string]*holding{}, marked: map[string]bool{},
	}
	seen := map[uuid.UUID]bool{}
	for i := range events {
		e := &events[i]
		switch {
		case seen[e.ID]:
		case !e.Type.Known():
			f.Unsupported = append(f.Unsupported, e.ID)
		case e.Lost():
			f.Lost = append(f.Lost, e.ID)
		default:
			f.decode(e)
		}
		seen[e.ID] = true
	}
	for _, list := range f.events {
		slices.SortFunc(list, func(a, b said) int { return inOrder(a.Event, b.Event) })
	}
	f.products()
	f.recipes()
	f.customers()
	f.sessions()
	f.ledger()
	f.stockAndSales()
	f.customerPatches()
	f.debtsAndPayments()
	f.totals()
	for _, list := range [][]uuid.UUID{f.Waiting, f.Blocked, f.Poison, f.Unsupported, f.Lost, f.Settled} {
		slices.SortFunc(list, func(a, b uuid.UUID) int { return slices.Compare(a[:], b[:]) })
	}
	return f.ReadModel
}

func inOrder(a, b *velox.Event) int {
	return cmp.Or(cmp.Compare(a.CreatedAt, b.CreatedAt), slices.Compare(a.Device[:], b.Device[:]),
		cmp.Compare(a.Seq, b.Seq), slices.Compare(a.ID[:], b.ID[:]))
}

// of merges the events of several types, in order.
func (f *folding) of(types ...velox.Type) []said {
	var merged []said
	for _, typ := range types {
		merged = append(merged, f.events[typ]...)
	}
	slices.SortFunc(merged, func(a, b said) int { return inOrder(a.Event, b.Event) })
	return merged
}

func (f *folding) waits(e said)   { f.Waiting = append(f.Waiting, e.ID) }
func (f *folding) settled(e said) { f.Settled = append(f.Settled, e.ID) }

// actor is who did it; "" for nobody.
func (e said) actor() string {
	if !e.Actor.Valid || e.Actor.UUID == velox.NoActor {
		return ""
	}
	return e.Actor.UUID.String()
}

func (e said) created() string { return fmt.Sprint(int64(e.CreatedAt)) }

// set gives a column a value, or leaves it NULL.
func (r Row) set(column, value string) {
	if value != "" {
		r[column] = value
	}
}

// Diff says in which rows and columns got differs from want: nothing when they
// are the same. Of a customer that a sale made up, the event that its note names is
// left out, since any of its sales may have made it; so is its time, until an
// event changes it.
func Diff(want, got ReadModel) []string {
	var lines []string
	wanted, there := want.tables(), got.tables()
	for _, name := range slices.Sorted(maps.Keys(wanted)) {
		lines = append(lines, diffTable(name, wanted[name], there[name])...)
	}
	return lines
}

func diffTable(name string, want, got Table) []string {
	var lines []string
	keys := map[string]bool{}
	for _, table := range []Table{want, got} {
		for key := range table {
			keys[key] = true
		}
	}
	for _, key := range slices.Sorted(maps.Keys(keys)) {
		w, wanted := want[key]
		g, there := got[key]
		switch {
		case !there:
			lines = append(lines, fmt.Sprintf("%s %s: missing", name, key))
		case !wanted:
			lines = append(lines, fmt.Sprintf("%s %s: too many", name, key))
		default:
			lines = append(lines, diffRow(name+" "+key, shared(name, w, w), shared(name, g, w))...)
		}
	}
	return lines
}

func diffRow(what string, want, got Row) []string {
	var lines []string
	columns := map[string]bool{}
	for _, row := range []Row{want, got} {
		for column := range row {
			columns[column] = true
		}
	}
	for _, column := range slices.Sorted(maps.Keys(columns)) {
		if want[column] != got[column] {
			lines = append(lines, fmt.Sprintf("%s.%s: %s, want %s", what, column, shown(got, column), shown(want, column)))
		}
	}
	return lines
}

func shown(row Row, column string) string {
	if value, ok := row[column]; ok {
		return value
	}
	return "NULL"
}

// placeholder begins the note of a customer that a sale made up.
const placeholder = "Auto-creado por proyeccion de venta"

// shared is row without what may rightly differ, going by the wanted one.
func shared(table string, row, want Row) Row {
	if table != "customers" || !strings.HasPrefix(want["note"], placeholder) {
		return row
	}
	row = maps.Clone(row)
	if want["updated_at"] == "" {
		delete(row, "updated_at")
	}
	if strings.HasPrefix(row["note"], placeholder) {
		row["note"] = placeholder
	}
	return row
}
