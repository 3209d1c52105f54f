// Package reconcile runs a round between a store's event log and central's:
// compare, exchange what is missing, compare again.
//
// A comparison opens with this side's root, the agreed exceptions left out. It
// comes first, because it is one small message, and last, because nothing else
// proves anything: outcomes of pages are hopes, a root is a proof. A round
// therefore ends as in sync or repaired only behind equal roots, and as unknown
// whatever else went wrong.
package reconcile

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/veloxpos/reconciled/internal/velox"
	"github.com/veloxpos/reconciled/lock"
	"github.com/veloxpos/reconciled/merkle"
)

// Verdict is what a round may say. The zero Verdict is unknown, so that nothing
// forgotten reads as agreement.
type Verdict int

const (
	// Unknown: not everything was compared to the end.
	Unknown Verdict = iota
	// InSync: both sides held the same events before the round did anything.
	InSync
	// Repaired: both sides hold the same events now.
	Repaired
	// Differs: the same but for conflicts and refusals, which are listed.
	Differs
)

var verdictNames = [...]string{"unknown", "in_sync", "repaired", "differs"}

func (v Verdict) String() string { return verdictNames[v] }

// MarshalText is the verdict's name.
func (v Verdict) MarshalText() ([]byte, error) { return []byte(v.String()), nil }

// UnmarshalText reads a verdict's name.
func (v *Verdict) UnmarshalText(text []byte) error {
	for i, name := range verdictNames {
		if name == string(text) {
			*v = Verdict(i)
			return nil
		}
	}
	return fmt.Errorf("verdict %q is not known", text)
}

// Status is what became of an event that was sent.
type Status string

const (
	Stored   Status = "stored"   // it was new
	Present  Status = "present"  // it was there, the same
	Restored Status = "restored" // the copy there had lost its content and has it back
	Outdated Status = "outdated" // the copy sent has lost its content, the one there has not
	Conflict Status = "conflict" // the id is there with another content; both are kept
	Refused  Status = "refused"  // it cannot be stored, see the reason
	// Duplicate: another event there has its request_id: the same business act
	// under a second id.
	Duplicate Status = "request_duplicate"
	// Purged: it was there and was removed on purpose.
	Purged Status = "purged"
	// Held: it was deleted there with many others, and waits for a person to say
	// that it is to come back.
	Held Status = "held"
)

// Excepted reports whether an event with this outcome stays different on the two
// sides, and so must be agreed on as an exception.
func (s Status) Excepted() bool {
	return s == Conflict || s == Refused || s == Duplicate || s == Purged || s == Held
}

// Explained reports whether an exception is as it should be: it does not make
// the verdict "differs".
func (s Status) Explained() bool { return s == Duplicate || s == Purged }

// Outcome is the answer to one event of a page.
type Outcome struct {
	Event  uuid.UUID    `json:"event_id"`
	At     velox.Millis `json:"created_at"`
	Status Status       `json:"status"`
	Reason string       `json:"reason,omitempty"`
}

// Exception is an event that both sides know to be different.
type Exception struct {
	Event uuid.UUID    `json:"event_id"`
	At    velox.Millis `json:"created_at"`
	Kind  Status       `json:"kind"`

	Reason string `json:"reason,omitempty"`
	// Met is when an exchange last met it.
	Met time.Time `json:"met"`
	// Undecided is a conflict that waits for a person.
	Undecided bool `json:"undecided,omitempty"`
}

// Root is a root as people see it: how many events, and the beginning of their
// digest.
type Root struct {
	Count  uint64
	Digest merkle.Short
}

// RootOf is the root of a tree.
func RootOf(tree merkle.Tree) Root {
	s := tree.Root()
	return Root{Count: s.Count, Digest: merkle.ShortOf(s.Digest)}
}

// String is the digest's beginning in hex, and the count.
func (r Root) String() string { return fmt.Sprintf("%x… (%d events)", r.Digest, r.Count) }

type rootJSON struct {
	Count  uint64 `json:"count"`
	Digest string `json:"digest"`
}

// MarshalJSON writes {"count": n, "digest": hex}.
func (r Root) MarshalJSON() ([]byte, error) {
	return json.Marshal(rootJSON{r.Count, fmt.Sprintf("%x", r.Digest)})
}

// UnmarshalJSON reads what MarshalJSON writes.
func (r *Root) UnmarshalJSON(b []byte) error {
	var wire rootJSON
	if err := json.Unmarshal(b, &wire); err != nil {
		return err
	}
	digest, err := hex.DecodeString(wire.Digest)
	if err != nil || len(digest) != len(r.Digest) {
		return fmt.Errorf("root digest %.80q is not %d bytes in hex", wire.Digest, len(r.Digest))
	}
	r.Count, r.Digest = wire.Count, merkle.Short(digest)
	return nil
}

// Pin is one side's log as it was at a moment.
type Pin struct {
	merkle.View
	Version int64 // grows with every change of the tree
}

// ErrUnknownStore: the database has no such store, so no event can be its.
var ErrUnknownStore = errors.New("store is not in the database")

// Page is a part of what is wanted, in key order. While there is more, the next page
// goes on behind Next.
type Page struct {
	Events []velox.Event
	// Gone are events that are wanted and were purged here on purpose: their items
	// are in the tree, their contents are not to be had.
	Gone []Outcome
	Next *merkle.Key
}

// Agreement is what an equal comparison proved.
type Agreement struct {
	Peer       uuid.UUID      // the other side's installation
	Token      merkle.Token   // names it, on both sides
	Root       merkle.Summary // with the exceptions left out: the same on both sides
	Pin        int64          // version of the pinned tree here
	Exceptions []Exception
}

// Anchor is the last agreement, as it is written down.
type Anchor struct {
	Token merkle.Token
	Count uint64 // of events that are the same on both sides
	At    time.Time
}

// Log is one side's event log. Pin, Items and Page read; the rest writes.
type Log interface {
	// Pin brings the tree up to date with every committed event and pins it.
	Pin(ctx context.Context, store velox.StoreID) (Pin, error)
	// Items are those of the events that this side holds, in any order.
	Items(ctx context.Context, store velox.StoreID, events []uuid.UUID) ([]merkle.Item, error)
	// Page reads at most 500 events or 1 MiB of what is wanted, in key order, behind
	// after where that is not nil.
	Page(ctx context.Context, store velox.StoreID, want merkle.Want, after *merkle.Key) (Page, error)
}

// Store is the log that a round repairs, under its grant.
type Store interface {
	Log
	// Fresh is a Page of the events that came since the last agreement, as far as
	// this side's clock and its changed slots tell.
	Fresh(ctx context.Context, store velox.StoreID, after *merkle.Key) (Page, error)
	// Ingest stores events that came from an installation and answers each. It
	// keeps what conflicts beside what it has, and never overwrites.
	Ingest(ctx context.Context, grant lock.Grant, from uuid.UUID, events []velox.Event) ([]Outcome, error)
	// Exceptions lists at most MaxExceptions, those first that were looked at longest
	// ago.
	Exceptions(ctx context.Context, store velox.StoreID) ([]Exception, error)
	// Except lists events as exceptions; Settle takes them off the list, and closes
	// the conflicts that there were about them.
	Except(ctx context.Context, grant lock.Grant, outcomes []Outcome) error
	Settle(ctx context.Context, grant lock.Grant, events []uuid.UUID) error
	// Anchor is the last agreement, zero when there is none; Agree writes one down.
	Anchor(ctx context.Context, store velox.StoreID) (Anchor, error)
	Agree(ctx context.Context, grant lock.Grant, agreement Agreement) error
	// Suspects are at most limit slots whose events were changed past the triggers and
	// have not been named yet; Name holds one against what the other side has there.
	Suspects(ctx context.Context, store velox.StoreID, limit int) ([]int64, error)
	Name(ctx context.Context, grant lock.Grant, slot int64, there []merkle.Item) error
	// WentBack keeps the evidence that this database is older than the other side
	// remembers it, or that one.
	WentBack(ctx context.Context, grant lock.Grant, back Regress) error
}

// Regress is what the two sides remember of their last agreement when they do not
// remember the same one.
type Regress struct {
	// Who is older: "here" when this database lacks what the other side remembers of
	// it, a restored backup, a disk image or a clone; "there" when it is the other.
	Who   string    `json:"who"`
	Here  time.Time `json:"here"` // the last agreement that this side remembers
	There time.Time `json:"there"`
	// Remembered is what the other side has seen here then.
	Remembered Root `json:"remembered"`
}

// Peer is the other side, as far as a round needs it.
type Peer interface {
	// Open answers an opening, and says which installation answers.
	Open(ctx context.Context, store velox.StoreID, opening merkle.Opening) (merkle.Reply, uuid.UUID, error)
	Ask(ctx context.Context, store velox.StoreID, questions merkle.Questions) (merkle.Answers, error)
	Pull(ctx context.Context, store velox.StoreID, want merkle.Want, after *merkle.Key) (Page, error)
	// Slot lists the items that the other side has in a slot, whole.
	Slot(ctx context.Context, store velox.StoreID, slot int64) ([]merkle.Item, error)
	Push(ctx context.Context, store velox.StoreID, events []velox.Event) ([]Outcome, error)
}
