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
	Backend
	Gaps
	Accounts
}

// Worklist holds the slots of the event log that changed.
type Worklist interface {
	// Notice puts on the slots of events whose rows were deleted or changed.
	Notice(ctx context.Context, grant lock.Grant) error
	// Due lists slots that are due, ascending, beginning behind after.
	Due(ctx context.Context, store velox.StoreID, after int64, limit int) ([]Slot, error)
	// All lists slots of the store's tree in the same way.
	All(ctx context.Context, store velox.StoreID, after int64, limit int) ([]Slot, error)
	// Settle takes slots off, or puts those with an Again off until then. A slot
	// whose stamp has moved stays as it is.
	Settle(ctx context.Context, grant lock.Grant, slots []Slot) error
	// Sift puts on the slots in which an event may not be projected whole, and returns
	// their number. It forgets gaps whose events are gone, asks stop now and then, ends
	// with lock.ErrGaveWay when it is true, and goes on from there the next time.
	Sift(ctx context.Context, grant lock.Grant, stop func() bool) (int64, error)
	// Refill puts all slots of the store's tree on and returns their number. It
	// forgets gaps whose events are gone.
	Refill(ctx context.Context, grant lock.Grant) (int64, error)
}

// Slot is an entry of the worklist.
type Slot struct {
	Slot   int64
	Stamp  int64         // as it was seen
	Events []uuid.UUID   // that are to be looked at; nil: all
	Again  time.Duration // look again after this long; 0: done
}

// Log reads events in pages of Options.Batch at most.
type Log interface {
	// Scan visits every event in the slots that is to be looked at, oldest first.
	Scan(ctx context.Context, grant lock.Grant, slots []Slot, opts Options, visit Visit) error
	// Awake visits the events of gaps that can be planned anew: the row that they
	// wait for is there, or will never be, or their next attempt is due.
	Awake(ctx context.Context, grant lock.Grant, opts Options, visit Visit) error
	// Named reads those of the events that are in the grant's store.
	Named(ctx context.Context, grant lock.Grant, events []uuid.UUID, opts Options) ([]Logged, error)
}

// Visit handles a page of events.
type Visit func(ctx context.Context, page []Logged) error

// Logged is an event and where it stands.
type Logged struct {
	projection.Event
	Slot     int64
	Grace    time.Duration    // how much longer the event is the backend's own; 0: not its own
	Entry    string           // status of its outbox entry for projection; "" when there is none
	Gap      bool             // is in reconciled.gap
	Backing  projection.Class // what it was when its write failed, if its next attempt is still to come
	Requeued bool             // was given back to the backend before
	Counted  projection.Class // as what it was counted in this run before; "" when not
}

// ReadModel reads and writes the rows that events stand for.
type ReadModel interface {
	// Facts answers what intents ask, for one store.
	Facts(ctx context.Context, store velox.StoreID, asks []projection.Asks) (projection.Facts, error)
	// Apply writes the heals in one fenced transaction and returns each one's fate.
	// A row that points at nothing makes it fail with a *MissingError.
	Apply(ctx context.Context, grant lock.Grant, heals []Heal, opts Options) ([]Fate, error)
}

// Heal is an event and what to write for it. No two heals of one Apply share a key
// (projection.Changes.Keys).
type Heal struct {
	Event   *velox.Event
	Intent  projection.Intent // to plan again under the lock of a row that is there
	Changes projection.Changes
}

// Fate is what became of a heal.
type Fate struct {
	Kind    FateKind
	Outcome projection.Outcome // Overtaken: what the event is now
}

// FateKind tells fates apart.
type FateKind int

const (
	// Written: rows, status and log line are in the database.
	Written FateKind = iota
	// Raced: the row to claim, or a row that had to be there, changed since the
	// plan was made; nothing was written.
	Raced
	// Overtaken: planned again under the lock of its row, there was nothing to write.
	Overtaken
	// Left: the backend is at work on the event; nothing was written.
	Left
)

// Backend is the POS backend's own queue of projections.
type Backend interface {
	// Consumed says whether a backend has projected anything lately.
	Consumed(ctx context.Context, store velox.StoreID) (bool, error)
	// Requeue sets the events' own outbox entries back for the backend, writes that
	// down as their gaps, and returns those of which an entry was there.
	Requeue(ctx context.Context, grant lock.Grant, gaps []Gap, opts Options) ([]uuid.UUID, error)
}

// Gaps remembers events that are not projected.
type Gaps interface {
	// Record writes open gaps, and the quarantine entry of those that are poison,
	// and forgets closed ones, whose failed outbox entries are moot.
	Record(ctx context.Context, grant lock.Grant, open []Gap, closed []uuid.UUID, opts Options) error
}

// Accounts are kept beside the read models.
type Accounts interface {
	// DrainStock holds what changed of the stock's cache against the ledger.
	DrainStock(ctx context.Context, grant lock.Grant) error
	// NoteLost remembers which of these events, whose payload is not what was said, are
	// lost updates.
	NoteLost(ctx context.Context, grant lock.Grant, events []velox.Event) error
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
	// ErrBusy: a row is held by somebody else for longer than is waited.
	ErrBusy = errors.New("row is held by another transaction")
	// ErrTaken: another row has a value that must be unique.
	ErrTaken = errors.New("value is another row's")
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
