package reconcile

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/veloxpos/reconciled/internal/velox"
	"github.com/veloxpos/reconciled/lock"
	"github.com/veloxpos/reconciled/merkle"
)

// Weight is how much something is, and the first events of it.
type Weight struct {
	Events int64   `json:"events"`
	Bytes  int64   `json:"bytes"` // of what they say, before compression
	First  []Named `json:"first,omitempty"`
}

// Named is an event as a person wants to know it.
type Named struct {
	Event uuid.UUID    `json:"event_id"`
	At    velox.Millis `json:"created_at"`
	Type  velox.Type   `json:"type"`
	// Deleted is when its deletion was seen on the other side, if it was.
	Deleted *time.Time `json:"deleted_at,omitempty"`
}

// NamedAtMost is how many events a Weight names.
const NamedAtMost = 20

// Plus adds another weight; what is named stays bounded.
func (w Weight) Plus(o Weight) Weight {
	w.Events += o.Events
	w.Bytes += o.Bytes
	w.First = append(slices.Clone(w.First), o.First...)
	w.First = w.First[:min(len(w.First), NamedAtMost)]
	return w
}

// Scales weigh what is wanted of a log, without moving it.
type Scales interface {
	Weigh(ctx context.Context, store velox.StoreID, want merkle.Want) (Weight, error)
}

// DiffStore and DiffPeer are the two sides of a dry run.
type (
	DiffStore interface {
		Store
		Scales
		// Deleted says when the deletion of events was seen here.
		Deleted(ctx context.Context, store velox.StoreID, events []uuid.UUID) (map[uuid.UUID]time.Time, error)
	}
	DiffPeer interface {
		Peer
		Scales
	}
)

// DiffReport is what a dry run found.
type DiffReport struct {
	// Same: the two sides hold the same events, but for known differences.
	Same       bool           `json:"same"`
	Here       Root           `json:"here"`
	There      Root           `json:"there"`
	Push       Weight         `json:"push"` // what central lacks
	Pull       Weight         `json:"pull"` // what is lacking here
	Both       []uuid.UUID    `json:"two_contents,omitempty"`
	Exceptions map[Status]int `json:"exceptions,omitempty"`
	Messages   int            `json:"messages"`
	Elapsed    time.Duration  `json:"elapsed_ns"`
}

// Verdict is in sync, or differs; it is never unknown, an error is.
func (r DiffReport) Verdict() Verdict {
	if !r.Same {
		return Differs
	}
	for kind := range r.Exceptions {
		if !kind.Explained() {
			return Differs
		}
	}
	return InSync
}

// Diff compares as a round does and moves nothing. It takes no lock and writes
// nothing down, but brings the tree up to date.
func Diff(ctx context.Context, store DiffStore, peer DiffPeer, id velox.StoreID, progress func(Progress)) (DiffReport, error) {
	r := &round{store: store, peer: peer, grant: lock.Grant{Store: id}, opts: Options{Progress: progress}}
	began := time.Now()
	report := DiffReport{Exceptions: map[Status]int{}}
	c, reply, _, err := r.compare(ctx, looks{everywhere: true, only: true})
	if err != nil {
		return report, fmt.Errorf("open comparison: %w", err)
	}
	if report.Same, err = c.walk.Hear(ctx, reply); err != nil {
		return report, err
	}
	report.Here, report.There = RootOf(c.pin.Tree), Root{reply.Count, reply.Root}
	if report.Same {
		report.There = RootOf(c.view.Tree)
	}
	for _, e := range c.exceptions {
		report.Exceptions[e.Kind]++
	}
	for !report.Same {
		if err := r.weigh(ctx, store, peer, c.walk, &report); err != nil {
			return report, err
		}
		more, err := r.ask(ctx, c)
		if err != nil {
			return report, err
		}
		if !more {
			break
		}
	}
	report.Both = inBoth(report.Push.First, report.Pull.First)
	if err := explain(ctx, store, id, report.Pull.First); err != nil {
		return report, err
	}
	report.Messages, report.Elapsed = r.report.Messages, time.Since(began)
	return report, nil
}

// weigh asks each side about what the walk has found so far.
func (r *round) weigh(ctx context.Context, store, peer Scales, walk *merkle.Walk, report *DiffReport) error {
	diff := walk.Take()
	if len(diff.Push) > 0 {
		w, err := store.Weigh(ctx, r.grant.Store, merkle.Want{Spans: diff.Push})
		if err != nil {
			return fmt.Errorf("weigh what central lacks: %w", err)
		}
		report.Push = report.Push.Plus(w)
	}
	certain, guessed := diff.Pull.Split()
	for want := range certain.Messages() {
		w, err := peer.Weigh(ctx, r.grant.Store, want)
		if err != nil {
			return fmt.Errorf("weigh what is lacking here: %w", err)
		}
		report.Pull = report.Pull.Plus(w)
	}
	for want := range guessed.Messages() {
		w, err := peer.Weigh(ctx, r.grant.Store, want)
		switch {
		case err != nil:
			return fmt.Errorf("weigh what is lacking here: %w", err)
		case w.Events < int64(want.Named()):
			walk.Unmet(want.Picks) // some were no single events: all of them are asked about
		default:
			report.Pull = report.Pull.Plus(w)
		}
	}
	return nil
}

func inBoth(a, b []Named) (both []uuid.UUID) {
	for _, n := range a {
		if slices.ContainsFunc(b, func(o Named) bool { return o.Event == n.Event }) {
			both = append(both, n.Event)
		}
	}
	return both
}

// explain tells of events that are lacking here which were seen to be deleted.
func explain(ctx context.Context, store DiffStore, id velox.StoreID, lacking []Named) error {
	if len(lacking) == 0 {
		return nil
	}
	events := make([]uuid.UUID, len(lacking))
	for i, n := range lacking {
		events[i] = n.Event
	}
	deleted, err := store.Deleted(ctx, id, events)
	if err != nil {
		return err
	}
	for i, n := range lacking {
		if at, ok := deleted[n.Event]; ok {
			lacking[i].Deleted = &at
		}
	}
	slices.SortFunc(lacking, func(a, b Named) int { return cmp.Compare(a.At, b.At) })
	return nil
}
