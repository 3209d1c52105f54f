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
	Waits   Ref     // Waiting, Blocked: the missing row. Semantic: the row that will never be.
	Changes Changes // Actionable: what to write
}

// Intent is what an event asks for, before anything is known of the database.
type Intent struct {
	event *velox.Event
	shape shape
}

// shape is one event type's content, decoded.
type shape interface {
	refs() []Ref
	plan(e *velox.Event, f Facts) Outcome
}

// Refs are the facts that Plan needs.
func (i Intent) Refs() []Ref { return i.shape.refs() }

// Plan classifies the event and says what to write. An event whose content does
// not match its own hash is never projected.
func (i Intent) Plan(f Facts) Outcome {
	out := i.shape.plan(i.event, f)
	if out.Class == Actionable && i.event.Verify() == velox.Corrupt {
		return Outcome{Class: Poison, Reason: "content matches neither full_payload_hash nor any reason to differ from it"}
	}
	return out
}

// Read decodes what the event said. An error means that the event is poison: it
// names the member and its value.
func Read(e velox.Event) (Intent, error) {
	read, supported := readers[e.Type]
	switch {
	case !supported:
		return Intent{&e, unsupported{}}, nil
	case e.Lost():
		return Intent{&e, lost{}}, nil
	}
	p, err := open(e.Said())
	if err != nil {
		return Intent{}, fmt.Errorf("read %s: %w", e.Type, err)
	}
	s := read(&e, p)
	if err := p.failed(); err != nil {
		return Intent{}, fmt.Errorf("read %s: %w", e.Type, err)
	}
	return Intent{&e, s}, nil
}

var readers = map[velox.Type]func(*velox.Event, payload) shape{
	velox.ProductCreated:      readProduct,
	velox.CustomerCreated:     readCustomer,
	velox.CashSessionOpened:   readOpening,
	velox.CashSessionClosed:   readClosing,
	velox.StockReceived:       readReceipt,
	velox.StockAdjusted:       readAdjustment,
	velox.StockDeltaApplied:   readDelta,
	velox.SaleCreated:         readSale,
	velox.SaleVoided:          readVoid,
	velox.DebtCreated:         readDebt,
	velox.DebtPaymentRecorded: readPayment,
	velox.DebtPaymentAdded:    readPayment,
}

// Supported reports whether events of type t are projected natively at all.
func Supported(t velox.Type) bool {
	_, supported := readers[t]
	return supported
}

// Ranks is the number of ranks: events of a lower rank are projected first,
// because rows of a higher one point at theirs.
const Ranks = 5

// Rank is the type's place in that order.
func Rank(t velox.Type) int {
	switch t {
	case velox.SaleCreated, velox.StockReceived, velox.StockAdjusted, velox.StockDeltaApplied:
		return 1
	case velox.DebtCreated:
		return 2
	case velox.DebtPaymentRecorded, velox.DebtPaymentAdded:
		return 3
	case velox.SaleVoided, velox.CashSessionClosed:
		return 4
	default:
		return 0
	}
}

// unsupported is an event of a type that is not projected natively.
type unsupported struct{}

func (unsupported) refs() []Ref { return nil }
func (unsupported) plan(e *velox.Event, _ Facts) Outcome {
	if e.Type.Known() {
		return Outcome{Class: Unsupported, Reason: fmt.Sprintf("%s is not projected natively", e.Type)}
	}
	return Outcome{Class: Unsupported, Reason: fmt.Sprintf("unknown type %s", quote(string(e.Type)))}
}

// lost is an event whose copy no longer holds what was said.
type lost struct{}

func (lost) refs() []Ref { return nil }
func (lost) plan(e *velox.Event, _ Facts) Outcome {
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
