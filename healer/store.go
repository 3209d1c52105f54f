package healer

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/veloxpos/reconciled/healer/projection"
	"github.com/veloxpos/reconciled/internal/velox"
	"github.com/veloxpos/reconciled/lock"
)

// Store is the database as the healer sees it.
type Store interface {
	Worklist
	Log
	ReadModel
	Gaps
}

// Worklist holds the slots of the event log that changed.
type Worklist interface {
	// Due lists slots that are due, ascending, beginning behind after.
	Due(ctx context.Context, store velox.StoreID, after int64, limit int) ([]Slot, error)
	// Settle takes slots off, or puts those with an Again off until then. A slot
	// whose stamp has moved stays as it is.
	Settle(ctx context.Context, grant lock.Grant, slots []Slot) error
	// Refill puts all slots of the store's tree on and returns their number. It
	// forgets gaps whose events are gone.
	Refill(ctx context.Context, grant lock.Grant) (int64, error)
}

// Slot is an entry of the worklist.
type Slot struct {
	Slot  int64
	Stamp int64         // as it was seen
	Again time.Duration // look again after this long; 0: done
}

// Log reads events in pages of Options.Batch at most.
type Log interface {
	// Scan visits every event in the slots, oldest first.
	Scan(ctx context.Context, store velox.StoreID, slots []Slot, opts Options, visit Visit) error
	// Awake visits the events of gaps that can be planned anew: the row that they
	// wait for is there, or will never be, or their next attempt is due.
	Awake(ctx context.Context, store velox.StoreID, opts Options, visit Visit) error
}

// Visit handles a page of events.
type Visit func(ctx context.Context, page []Logged) error

// Logged is an event and where it stands.
type Logged struct {
	velox.Event
	Slot    int64
	Grace   time.Duration // how much longer the event is the backend's own; 0: not its own
	Gap     bool          // is in reconciled.gap
	Backing bool          // failed before, and its next attempt is still to come
}

// ReadModel reads and writes the rows that events stand for.
type ReadModel interface {
	// Facts answers refs for one store.
	Facts(ctx context.Context, store velox.StoreID, refs []projection.Ref) (projection.Facts, error)
	// Apply writes the heals in one fenced transaction and returns each one's fate.
	// A row that points at nothing makes it fail with a *MissingError.
	Apply(ctx context.Context, grant lock.Grant, heals []Heal) ([]Fate, error)
}

// Heal is an event and what to write for it. No two heals of one Apply claim the
// same row.
type Heal struct {
	Event   *velox.Event
	Changes projection.Changes
}

// Fate is what became of a heal.
type Fate int

const (
	// Written: rows, status and log line are in the database.
	Written Fate = iota
	// Raced: the row to claim, or a row that had to be there, changed since the
	// plan was made; nothing was written.
	Raced
	// Left: the backend is at work on the event; nothing was written.
	Left
)

// Gaps remembers events that are not projected.
type Gaps interface {
	// Record writes open gaps, and the quarantine entry of those that are poison,
	// and forgets closed ones.
	Record(ctx context.Context, grant lock.Grant, open []Gap, closed []uuid.UUID, opts Options) error
}

// Gap is an event that is not projected, and why.
type Gap struct {
	Event     uuid.UUID
	Type      velox.Type
	CreatedAt velox.Millis
	Class     projection.Class
	Reason    string
	Waits     projection.Ref // zero when nothing can be named
	LastError string         // "" when it did not fail
}

// What a database says of the rows themselves. Any other error is the database's
// own trouble, and ends the run.
var (
	// ErrMissing: a row points at one that does not exist. The error is a
	// *MissingError.
	ErrMissing = errors.New("referenced row does not exist")
	// ErrUnfit: a value does not fit its column, now or ever.
	ErrUnfit = errors.New("value does not fit its column")
	// ErrRejected: a constraint or a trigger of the POS refuses a row.
	ErrRejected = errors.New("row is refused")
)

// MissingError names the row that a write pointed at in vain.
type MissingError struct {
	Row        projection.Ref // zero when the database does not say
	Constraint string
}

func (e *MissingError) Error() string {
	if e.Row == (projection.Ref{}) {
		return fmt.Sprintf("%s breaks: %v", e.Constraint, ErrMissing)
	}
	return fmt.Sprintf("%s does not exist (%s)", e.Row, e.Constraint)
}

// Is makes errors.Is(err, ErrMissing) true.
func (e *MissingError) Is(target error) bool { return target == ErrMissing }
