// Package projection says which rows an event stands for.
//
// It is pure: Read decodes what an event said into an Intent, the Intent names
// the facts it needs, and Plan turns those facts into an Outcome: a class, a
// reason, and the changes to write. Nothing here reads a clock or a database, so
// the same event and the same facts always give the same plan. Ids that no event
// carries are derived from the event, never drawn.
package projection

import (
	"encoding/binary"
	"fmt"

	"github.com/google/uuid"

	"github.com/veloxpos/reconciled/internal/velox"
)

// Class says what an event's rows need.
type Class string

// The classes of an event.
const (
	Done        Class = "done"        // its rows are there
	Actionable  Class = "actionable"  // rows missing, everything needed is here
	Waiting     Class = "waiting"     // a parent that an event brings is missing
	Semantic    Class = "semantic"    // rightly without rows
	Blocked     Class = "blocked"     // reference data that no event brings is missing
	Poison      Class = "poison"      // malformed, or claims what is another's
	Unsupported Class = "unsupported" // not projected natively
	Backend     Class = "backend"     // still the POS backend's own work
)

// Outcome is what Plan found.
type Outcome struct {
	Class   Class
	Reason  string
	Routine bool     // Semantic, and too common to be kept in the book of gaps
	Waits   Ref      // Waiting, Blocked: the missing row. Semantic: the row that will never be.
	Changes Changes  // Actionable: what to write
	Then    *Outcome // Actionable: what is left to wait for when it is written
}

// Event is an event and how it came to this node.
type Event struct {
	velox.Event
	// Online: this node's own online API made it, and wrote the rows itself, from
	// more than the event says.
	Online bool
	// Projected: the POS backend says that it has projected it.
	Projected bool
}

// Intent is what an event asks for, before anything is known of the database.
type Intent struct {
	event Event
	shape shape
}

// shape is one event type's content, decoded.
type shape interface {
	asks(e Event) Asks
	plan(e Event, f Facts) Outcome
}

// Asks are the facts that Plan needs.
func (i Intent) Asks() Asks {
	asks := i.shape.asks(i.event)
	asks.Event = i.event
	return asks
}

// brings is the row that the event stands for, if any.
func (i Intent) brings() Ref {
	if row := i.Asks().Row; row != nil {
		return row.ref()
	}
	return Ref{}
}

// vouched says whether the event says what its maker did, as far as can be known: its
// own hash vouches for the content, or something explains why it does not.
func (e Event) vouched() bool { return e.Verify() != velox.Corrupt }

// Plan classifies the event and says what to write. An event whose content nothing
// vouches for is never projected, nor is what it says written in another one's name.
func (i Intent) Plan(f Facts) Outcome {
	out := i.shape.plan(i.event, f)
	if out.Class == Actionable && !i.event.vouched() {
		return Outcome{Class: Poison, Reason: "content matches neither full_payload_hash nor any reason to differ from it"}
	}
	return out
}

// Read decodes what the event said. An error means that the event is poison: it
// names the member and its value.
func Read(e Event) (Intent, error) {
	read, supported := readers[e.Type]
	switch {
	case !supported:
		return Intent{e, unsupported{}}, nil
	case e.Lost():
		return Intent{e, lost{}}, nil
	}
	p, err := open(e.Said())
	if err != nil {
		return Intent{}, fmt.Errorf("read %s: %w", e.Type, err)
	}
	s := read(e, p)
	if err := p.failed(); err != nil {
		return Intent{}, fmt.Errorf("read %s: %w", e.Type, err)
	}
	return Intent{e, s}, nil
}

var readers = map[velox.Type]func(Event, payload) shape{
	velox.ProductCreated:           readProduct,
	velox.ProductUpdated:           readProductPatch,
	velox.ProductDeactivated:       readDeactivation,
	velox.PriceChanged:             readPrice,
	velox.RecipeIngredientsUpdated: readRecipe,
	velox.CustomerCreated:          readCustomer,
	velox.CustomerUpdated:          readCustomerPatch,
	velox.CashSessionOpened:        readOpening,
	velox.CashSessionClosed:        readClosing,
	velox.CashLedgerEntryCreated:   readEntry,
	velox.StockReceived:            readReceipt,
	velox.StockAdjusted:            readAdjustment,
	velox.StockDeltaApplied:        readDelta,
	velox.StockQuotaGranted:        readGrant,
	velox.StockQuotaTransferred:    readTransfer,
	velox.StockQuotaReclaimed:      readReclaim,
	velox.SaleCreated:              readSale,
	velox.SaleVoided:               readVoid,
	velox.DebtCreated:              readDebt,
	velox.DebtPaymentRecorded:      readPayment,
	velox.DebtPaymentAdded:         readPayment,
}

// Ranks is the number of ranks: events of a lower rank are projected first,
// because rows of a higher one point at theirs.
const Ranks = 6

// Rank is the type's place in that order.
func Rank(t velox.Type) int {
	switch t {
	case velox.ProductUpdated, velox.ProductDeactivated, velox.PriceChanged, velox.RecipeIngredientsUpdated,
		velox.CustomerUpdated, velox.CashLedgerEntryCreated:
		return 1
	case velox.SaleCreated, velox.StockReceived, velox.StockAdjusted, velox.StockDeltaApplied,
		velox.StockQuotaGranted, velox.StockQuotaTransferred, velox.StockQuotaReclaimed:
		return 2
	case velox.DebtCreated:
		return 3
	case velox.DebtPaymentRecorded, velox.DebtPaymentAdded:
		return 4
	case velox.SaleVoided, velox.CashSessionClosed:
		return 5
	default:
		return 0
	}
}

// unsupported is an event of a type that is none of the POS's.
type unsupported struct{}

func (unsupported) asks(Event) Asks { return Asks{} }
func (unsupported) plan(e Event, _ Facts) Outcome {
	return Outcome{Class: Unsupported, Reason: fmt.Sprintf("unknown type %s", quote(string(e.Type)))}
}

// lost is an event whose copy no longer holds what was said.
type lost struct{}

func (lost) asks(Event) Asks { return Asks{} }
func (lost) plan(e Event, _ Facts) Outcome {
	return Outcome{
		Class: Waiting, Waits: Ref{Said, e.ID},
		Reason: "payload was overwritten by another event's; the other side must give back what was said",
	}
}

// namespace is that of ids derived from events (UUID version 5).
var namespace = uuid.MustParse("0f2bd0d0-6a0e-4d0c-9a5e-3f0b8c5a7e11")

// derive is the id of a row that the event implies but does not name: its kind
// and its line within the event tell such rows apart.
func derive(event uuid.UUID, kind string, line int) uuid.UUID {
	name := append(event[:], kind...)
	return uuid.NewSHA1(namespace, binary.BigEndian.AppendUint32(name, uint32(line)))
}
