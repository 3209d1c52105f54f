package reconcile

import (
	"context"
	"fmt"
	"slices"

	"github.com/google/uuid"

	"github.com/veloxpos/reconciled/internal/velox"
	"github.com/veloxpos/reconciled/lock"
	"github.com/veloxpos/reconciled/merkle"
)

// exchange fetches what this side lacks, then sends what the other side lacks.
// An event that cannot be stored is set aside as an exception; the rest go on.
func (r *round) exchange(ctx context.Context, from uuid.UUID, diff merkle.Diff) error {
	exceptions, err := r.store.Exceptions(ctx, r.grant.Store)
	if err != nil {
		return fmt.Errorf("read exceptions: %w", err)
	}
	r.known = make(map[uuid.UUID]bool, len(exceptions))
	for _, e := range exceptions {
		r.known[e.Event] = true
	}
	return r.move(ctx, from, diff)
}

// reoffered bounds how many exceptions each round offers again.
const reoffered = 100

// reoffer sends and fetches some exceptions again, in turn. What made one may be
// gone: the other side may have lost the event that took its request_id, or have
// learnt to store what it refused. A conflict needs a person and is left alone.
func (r *round) reoffer(ctx context.Context, from uuid.UUID) error {
	exceptions, err := r.store.Exceptions(ctx, r.grant.Store)
	if err != nil {
		return err
	}
	var diff merkle.Diff
	for _, e := range exceptions {
		if e.Kind != Conflict && len(diff.Push) < reoffered {
			key := merkle.Key{At: int64(e.At), ID: e.Event}
			diff.Push = append(diff.Push, merkle.Span{From: key, To: key})
		}
	}
	if diff.Empty() {
		return nil
	}
	slices.SortFunc(diff.Push, func(a, b merkle.Span) int { return a.From.Compare(b.From) })
	diff.Pull = diff.Push
	return r.move(ctx, from, diff)
}

func (r *round) move(ctx context.Context, from uuid.UUID, diff merkle.Diff) error {
	for spans := range slices.Chunk(diff.Pull, spansAtOnce) {
		err := r.pages(ctx, "pull", r.peer.Pull, spans, r.report.Pulled, func(events []velox.Event) ([]Outcome, error) {
			if err := r.credible(events, spans); err != nil {
				return nil, err
			}
			return r.store.Ingest(ctx, r.grant, from, events)
		})
		if err != nil {
			return fmt.Errorf("pull events: %w", err)
		}
	}
	for spans := range slices.Chunk(diff.Push, spansAtOnce) {
		err := r.pages(ctx, "push", r.store.Page, spans, r.report.Pushed, func(events []velox.Event) ([]Outcome, error) {
			events = slices.DeleteFunc(events, func(e velox.Event) bool { return r.known[e.ID] })
			if len(events) == 0 {
				return nil, nil
			}
			outcomes, err := r.peer.Push(ctx, r.grant.Store, events)
			if err != nil {
				return nil, err
			}
			return answersTo(events, outcomes)
		})
		if err != nil {
			return fmt.Errorf("push events: %w", err)
		}
	}
	return nil
}

// answersTo checks that a peer has answered what was sent, and nothing else: it
// must not be able to list an event as an exception that it was not asked about.
func answersTo(events []velox.Event, outcomes []Outcome) ([]Outcome, error) {
	sent := make(map[uuid.UUID]bool, len(events))
	for i := range events {
		sent[events[i].ID] = true
	}
	for _, o := range outcomes {
		if !sent[o.Event] {
			return nil, fmt.Errorf("%w: an outcome for event %s, which was not sent", merkle.ErrHostile, o.Event)
		}
		delete(sent, o.Event)
	}
	if len(sent) > 0 {
		return nil, fmt.Errorf("%w: %d of %d events are not answered", merkle.ErrHostile, len(sent), len(events))
	}
	return outcomes, nil
}

// unannounced is how many more events a peer may send than its root counted:
// those that came since.
const unannounced = 1 << 16

// credible refuses what was not asked for, and more than can be there: a peer
// must not be able to fill this side's disk or keep it busy for ever.
func (r *round) credible(events []velox.Event, spans []merkle.Span) error {
	for i := range events {
		key := Key(&events[i])
		if !slices.ContainsFunc(spans, func(s merkle.Span) bool { return s.Holds(key) }) {
			return fmt.Errorf("%w: event %s was not asked for", merkle.ErrHostile, key.ID)
		}
	}
	if r.pulled += uint64(len(events)); r.pulled > r.report.There.Count+unannounced {
		return fmt.Errorf("%w: %d events sent, its root counts %d", merkle.ErrHostile, r.pulled, r.report.There.Count)
	}
	return nil
}

type readPage func(ctx context.Context, store velox.StoreID, spans []merkle.Span, after *merkle.Key) (Page, error)

// pages moves what the spans hold from read to write, a page at a time. Nothing
// is remembered of a page that was cut: the next round finds what is missing.
func (r *round) pages(ctx context.Context, stage string, read readPage, spans []merkle.Span, tally map[Status]int,
	write func([]velox.Event) ([]Outcome, error),
) error {
	var after *merkle.Key
	for {
		page, err := read(ctx, r.grant.Store, spans, after)
		if err != nil {
			return err
		}
		if n := len(page.Events); n > 0 {
			last := Key(&page.Events[n-1])
			if after != nil && last.Compare(*after) <= 0 {
				return fmt.Errorf("page does not go on: it ends at %s again", last.ID)
			}
			after = &last
			outcomes, err := write(page.Events)
			if err != nil {
				return err
			}
			if err := r.note(ctx, outcomes, tally); err != nil {
				return err
			}
			r.progress(stage, sum(tally), 0)
		} else if page.More {
			return fmt.Errorf("page is empty but promises more")
		}
		// After a page, not before: however often it is asked to stop, each turn moves one.
		if r.stopped() && len(page.Events) > 0 {
			return lock.ErrGaveWay
		}
		if !page.More {
			return nil
		}
	}
}

func (r *round) note(ctx context.Context, outcomes []Outcome, tally map[Status]int) error {
	var excepted []Outcome
	for _, o := range outcomes {
		tally[o.Status]++
		if !o.Status.Excepted() {
			continue
		}
		excepted = append(excepted, o)
		if len(r.report.Noted) < notedAtMost && !slices.ContainsFunc(r.report.Noted, func(n Outcome) bool { return n.Event == o.Event }) {
			r.report.Noted = append(r.report.Noted, o)
		}
	}
	if len(excepted) == 0 {
		return nil
	}
	return r.store.Except(ctx, r.grant, excepted)
}

func sum(tally map[Status]int) (n uint64) {
	for _, count := range tally {
		n += uint64(count)
	}
	return n
}

// Key is where an event stands in the tree.
func Key(e *velox.Event) merkle.Key { return merkle.Key{At: int64(e.CreatedAt), ID: e.ID} }

// Item is the event as a comparison sees it.
func Item(e *velox.Event) merkle.Item {
	return merkle.NewItem(Key(e), merkle.Content{
		Store: e.Store, Device: e.Device, Seq: e.Seq, Type: string(e.Type), Version: e.Version, Said: e.Said(),
	})
}
