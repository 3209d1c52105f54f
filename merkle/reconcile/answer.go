package reconcile

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/veloxpos/reconciled/internal/velox"
	"github.com/veloxpos/reconciled/merkle"
)

// MaxExceptions bounds the agreed list. A store with more has a trouble that no
// list explains.
const MaxExceptions = 10_000

// ErrBadList: the list of exceptions that came with an opening is not the one
// that the opening names.
var ErrBadList = errors.New("list of exceptions is not the one that is named")

// ErrUnlisted: a question names a list of exceptions that nobody has sent.
var ErrUnlisted = errors.New("list of exceptions is not known")

// Standing is what the answering side knows before it looks at any event: its
// stored root, and what it remembers of the installation that asks.
type Standing struct {
	// Root of the whole tree here, current when Clean.
	Root  merkle.Summary
	Clean bool
	Memory
}

// Memory is what the answering side remembers of an installation. The zero Memory
// is of one that it has not met.
type Memory struct {
	// Offered is the last agreement that was answered, Confirmed the last one that
	// the installation has shown it knows of. Between them a reply may have been lost.
	Offered, Confirmed merkle.Token
	// Agreed is the root of the offered agreement, the exceptions left out; Whole
	// the whole tree's here at that time.
	Agreed merkle.Summary
	Whole  merkle.Digest
	At     time.Time
	List   merkle.Token // of exceptions
}

// Archive is the answering side's log and memory.
type Archive interface {
	Log
	Standing(ctx context.Context, store velox.StoreID, installation uuid.UUID) (Standing, error)
	// Remember writes the memory of an installation down, but for its list, unless it
	// is another by now than it was read. The highest numbers of its events are kept
	// with it.
	Remember(ctx context.Context, store velox.StoreID, installation uuid.UUID, was, memory Memory) error
	// Listed is the list of exceptions that was kept last; Enlist keeps one.
	Listed(ctx context.Context, store velox.StoreID, installation uuid.UUID) ([]merkle.Exception, error)
	Enlist(ctx context.Context, store velox.StoreID, installation uuid.UUID, list []merkle.Exception) error
	// CloseConflicts notes that both sides hold events the same way of which they had
	// two contents.
	CloseConflicts(ctx context.Context, store velox.StoreID, events []uuid.UUID) error
	// SlotItems are those of a slot, in key order.
	SlotItems(ctx context.Context, store velox.StoreID, slot int64) ([]merkle.Item, error)
}

// AnswerOpening is the other side's half of a comparison's first message. While
// nothing has changed it costs the one read of Standing.
func AnswerOpening(ctx context.Context, log Archive, from uuid.UUID, store velox.StoreID, o merkle.Opening) (merkle.Reply, error) {
	standing, err := log.Standing(ctx, store, from)
	if err != nil {
		return merkle.Reply{}, err
	}
	a := &answerer{log: log, store: store, from: from, opening: o, standing: standing}
	reply, err := a.answer(ctx)
	switch {
	case errors.Is(err, ErrUnlisted):
		return merkle.Reply{Status: merkle.Unlisted, Count: standing.Root.Count, Root: merkle.ShortOf(standing.Root.Digest)}, nil
	case err != nil:
		return merkle.Reply{}, err
	case o.Dry:
		return reply, nil
	}
	reply.Regress = a.regress()
	reply.Changed = a.whole.Digest != standing.Whole
	return reply, a.remember(ctx, reply.Status == merkle.Same)
}

type answerer struct {
	log      Archive
	store    velox.StoreID
	from     uuid.UUID
	opening  merkle.Opening
	standing Standing
	whole    merkle.Summary // of the pinned tree, once there is one
	listed   int            // exceptions that the opening leaves out
}

// enlist makes the list that the opening names known; it fails with ErrUnlisted when
// nobody has sent it.
func (a *answerer) enlist(ctx context.Context) error {
	switch o := a.opening; {
	case o.Listed != nil && merkle.ListToken(o.Listed) != o.Exceptions:
		return ErrBadList
	case o.Exceptions == merkle.Token{}, o.Exceptions == a.standing.List:
		return nil
	case o.Listed == nil:
		return ErrUnlisted
	default:
		a.standing.List = o.Exceptions
		return a.log.Enlist(ctx, a.store, a.from, o.Listed)
	}
}

func (a *answerer) answer(ctx context.Context) (merkle.Reply, error) {
	if err := a.enlist(ctx); err != nil {
		return merkle.Reply{}, err
	}
	o, st := a.opening, a.standing
	root := merkle.Summary{Count: o.Count, Digest: o.Root}
	if st.Clean {
		a.whole = st.Root
		untouched := st.Root.Digest == st.Whole && o.Anchor == st.Offered && o.Anchor != merkle.Token{} && root == st.Agreed
		if o.Exceptions == (merkle.Token{}) && root == st.Root ||
			untouched && merkle.AgreementToken(root, o.Exceptions) == st.Offered {
			return merkle.Reply{Status: merkle.Same, Proof: o.Salt.Prove(root)}, nil
		}
	}
	view, settled, err := viewFor(ctx, a.log, a.from, a.store, o.Exceptions)
	if err != nil {
		return merkle.Reply{}, err
	}
	if len(settled) > 0 && !o.Dry {
		events := make([]uuid.UUID, len(settled))
		for i, id := range settled {
			events[i] = id
		}
		if err := a.log.CloseConflicts(ctx, a.store, events); err != nil {
			return merkle.Reply{}, err
		}
	}
	a.whole, a.listed = view.whole, view.listed
	reply := merkle.Respond(view.Tree, o)
	reply.Settled = settled
	if reply.Status == merkle.Different && !o.Look && o.Anchor != (merkle.Token{}) && o.Anchor == st.Offered && a.whole.Digest == st.Whole {
		return merkle.Reply{Status: merkle.Anchored, Settled: settled, Count: reply.Count, Root: reply.Root}, nil
	}
	return reply, nil
}

// regress is what is remembered, when the installation does not show that it
// remembers the same: the last agreement, or the one before it when the reply may
// have been lost. Then it still holds all that was in it.
func (a *answerer) regress() *merkle.Regress {
	st, shown := a.standing, a.opening.Anchor
	lost := shown == st.Confirmed && a.opening.Count+uint64(a.listed) >= st.Agreed.Count
	if st.Offered == (merkle.Token{}) || shown == st.Offered || lost {
		return nil
	}
	return &merkle.Regress{Count: st.Agreed.Count, Root: merkle.ShortOf(st.Agreed.Digest), At: st.At.UnixMilli()}
}

// remember writes down what has changed of what is known about the installation.
func (a *answerer) remember(ctx context.Context, same bool) error {
	memory := a.standing.Memory
	switch {
	case same:
		memory.Agreed = merkle.Summary{Count: a.opening.Count, Digest: a.opening.Root}
		memory.Whole = a.whole.Digest
		memory.Confirmed = a.opening.Anchor // and if that is an old one: from here on this is who is known
		memory.Offered = merkle.AgreementToken(memory.Agreed, a.opening.Exceptions)
		if memory.Offered != a.standing.Offered {
			memory.At = time.Now()
		}
	case a.opening.Anchor == memory.Offered:
		memory.Confirmed = memory.Offered
	}
	if memory == a.standing.Memory {
		return nil
	}
	return a.log.Remember(ctx, a.store, a.from, a.standing.Memory, memory)
}

// AnswerQuestions is the other side's half of a walk.
func AnswerQuestions(ctx context.Context, log Archive, from uuid.UUID, store velox.StoreID, q merkle.Questions) (merkle.Answers, error) {
	view, _, err := viewFor(ctx, log, from, store, q.Exceptions)
	if err != nil {
		return merkle.Answers{}, err
	}
	return view.Answer(ctx, q)
}

// lookout is a pinned tree with the listed exceptions left out.
type lookout struct {
	merkle.View
	whole  merkle.Summary
	listed int
}

// viewFor pins the tree and leaves the installation's exceptions out of it. Those
// that both sides hold the same way, or not at all, are settled. It fails with
// ErrUnlisted when the list that is kept is not the one that is named.
func viewFor(ctx context.Context, log Archive, from uuid.UUID, store velox.StoreID, exceptions merkle.Token) (v lookout, settled [][16]byte, err error) {
	pin, err := log.Pin(ctx, store)
	if err != nil {
		return v, nil, err
	}
	v = lookout{View: pin.View, whole: pin.Tree.Root()}
	if exceptions == (merkle.Token{}) {
		return v, nil, nil
	}
	list, err := log.Listed(ctx, store, from)
	switch {
	case err != nil:
		return v, nil, err
	case merkle.ListToken(list) != exceptions:
		return v, nil, ErrUnlisted
	}
	v.listed = len(list)
	events := make([]uuid.UUID, len(list))
	for i, e := range list {
		events[i] = e.ID
	}
	here, keys, err := held(ctx, log, store, events)
	if err != nil {
		return v, nil, err
	}
	for _, e := range list {
		if here[e.ID] == e.Digest { // or zero on both sides: it is nowhere
			settled = append(settled, e.ID)
		}
	}
	v.View, err = pin.Without(ctx, keys)
	return v, settled, err
}

// held finds which of the events this side has: the beginnings of their digests,
// and their keys.
func held(ctx context.Context, log Log, store velox.StoreID, events []uuid.UUID) (map[uuid.UUID][16]byte, []merkle.Key, error) {
	if len(events) == 0 {
		return nil, nil, nil
	}
	items, err := log.Items(ctx, store, events)
	if err != nil {
		return nil, nil, err
	}
	digests := make(map[uuid.UUID][16]byte, len(items))
	keys := make([]merkle.Key, len(items))
	for i, item := range items {
		digests[item.Key.ID] = [16]byte(item.Digest[:16])
		keys[i] = item.Key
	}
	return digests, keys, nil
}

// listOf is the list of exceptions on the wire.
func listOf(exceptions []Exception, here map[uuid.UUID][16]byte) []merkle.Exception {
	list := make([]merkle.Exception, len(exceptions))
	for i, e := range exceptions {
		list[i] = merkle.Exception{ID: e.Event, Digest: here[e.Event]}
	}
	return list
}

// backed says who is older when the two sides do not remember the same agreement.
func backed(anchor Anchor, here uint64, r merkle.Regress) Regress {
	back := Regress{Who: Here, Here: anchor.At, There: time.UnixMilli(r.At).UTC(), Remembered: Root{r.Count, r.Root}}
	if here >= r.Count && anchor.At.After(back.There) {
		back.Who = There
	}
	return back
}

// Who has gone back in time.
const (
	Here  = "here"
	There = "there"
)

// Error tells a person what it means.
func (r Regress) Error() string {
	if r.Who == There {
		return fmt.Sprintf("central has gone back in time: its last agreement with this store is of %s, this side's of %s; central was restored or failed over, the round brings back what it lost",
			r.There.Format(time.RFC3339), r.Here.Format(time.RFC3339))
	}
	remembers := "none"
	if !r.Here.IsZero() {
		remembers = "one of " + r.Here.Format(time.RFC3339)
	}
	return fmt.Sprintf("this database has gone back in time or is a copy of another: central agreed with this installation on %s at %s, this database remembers %s; find out whether it was restored, or whether a second server runs as this store",
		r.Remembered, r.There.Format(time.RFC3339), remembers)
}
