// Package reconcile runs a round between a store's event log and central's:
// check, and only if that fails walk, exchange and check again.
//
// The check compares the roots of both trees with the agreed exceptions left
// out. It comes first, because it is one small message, and last, because
// nothing else proves anything: outcomes of pages are hopes, a root is a proof.
// A round therefore ends as in sync or repaired only behind an equal check, and
// as unknown whatever else went wrong.
package reconcile

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

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
	// Digest of this side's copy; nil where this side has none.
	Digest []byte `json:"digest,omitempty"`
}

// Root is a tree's root on the wire and in reports.
type Root struct {
	Count  uint64        `json:"count"`
	Digest merkle.Digest `json:"-"`
}

// RootOf is the root of a tree.
func RootOf(tree merkle.Tree) Root {
	s := tree.Root()
	return Root{Count: s.Count, Digest: s.Digest}
}

// String is the digest's first bytes in hex, and the count.
func (r Root) String() string { return fmt.Sprintf("%x… (%d events)", r.Digest[:6], r.Count) }

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
	var digest []byte
	if n, err := fmt.Sscanf(wire.Digest, "%x", &digest); n != 1 || err != nil || len(digest) != len(r.Digest) {
		return fmt.Errorf("root digest %.80q is not %d bytes in hex", wire.Digest, len(r.Digest))
	}
	r.Count, r.Digest = wire.Count, merkle.Digest(digest)
	return nil
}

// Pin is one side's log as it was at a moment.
type Pin struct {
	merkle.View
	Version int64 // grows with every change of the tree
}

// ErrUnknownStore: the database has no such store, so no event can be its.
var ErrUnknownStore = errors.New("store is not in the database")

// Page is a part of what a list of spans holds, in key order. While More is
// true the next page goes on behind its last event.
type Page struct {
	Events []velox.Event
	More   bool
}

// Agreement is what an equal check proved.
type Agreement struct {
	Peer       uuid.UUID // the other side's installation
	Root       Root      // with the exceptions left out: the same on both sides
	Here       Root      // of the whole tree here
	There      Root      // of the whole tree there
	Pin        int64     // version of the pinned tree here
	Exceptions []Exception
}

// Log is one side's event log. Pin, Items and Page read; the rest writes.
type Log interface {
	// Pin brings the tree up to date with every committed event and pins it.
	Pin(ctx context.Context, store velox.StoreID) (Pin, error)
	// Items are those of the events that this side holds, in any order.
	Items(ctx context.Context, store velox.StoreID, events []uuid.UUID) ([]merkle.Item, error)
	// Page reads at most 500 events or 1 MiB from the spans, in key order, behind
	// after where that is not nil.
	Page(ctx context.Context, store velox.StoreID, spans []merkle.Span, after *merkle.Key) (Page, error)
}

// Store is the log that a round repairs, under its grant.
type Store interface {
	Log
	// Ingest stores events that came from an installation and answers each. It
	// keeps what conflicts beside what it has, and never overwrites.
	Ingest(ctx context.Context, grant lock.Grant, from uuid.UUID, events []velox.Event) ([]Outcome, error)
	// Exceptions lists at most MaxExceptions, those first that were looked at longest
	// ago.
	Exceptions(ctx context.Context, store velox.StoreID) ([]Exception, error)
	// Except lists events as exceptions; Settle takes them off the list.
	Except(ctx context.Context, grant lock.Grant, outcomes []Outcome) error
	Settle(ctx context.Context, grant lock.Grant, events []uuid.UUID) error
	Agree(ctx context.Context, grant lock.Grant, agreement Agreement) error
}

// CheckRequest is the smallest message: "my root without these is this".
type CheckRequest struct {
	Root       Root        `json:"root"`
	Exceptions []Exception `json:"exceptions,omitempty"`
}

// CheckReply says whether the other side's root without them is the same.
type CheckReply struct {
	Installation uuid.UUID `json:"installation"`
	Equal        bool      `json:"equal"`
	Root         Root      `json:"root"`  // the exceptions left out
	Whole        Root      `json:"whole"` // of the whole tree there
	// Settled are exceptions that are none any more: both sides hold the same.
	Settled []uuid.UUID `json:"settled,omitempty"`
}

// Peer is the other side, as far as a round needs it.
type Peer interface {
	Check(ctx context.Context, store velox.StoreID, request CheckRequest) (CheckReply, error)
	Compare(ctx context.Context, store velox.StoreID, questions []merkle.Question) ([]merkle.Answer, error)
	Pull(ctx context.Context, store velox.StoreID, spans []merkle.Span, after *merkle.Key) (Page, error)
	Push(ctx context.Context, store velox.StoreID, events []velox.Event) ([]Outcome, error)
}
