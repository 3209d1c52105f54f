package reconcile

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/veloxpos/reconciled/internal/velox"
	"github.com/veloxpos/reconciled/lock"
	"github.com/veloxpos/reconciled/merkle"
)

// exchange fetches what this side lacks, then sends what the other side lacks, as
// far as the walk knows. An event that cannot be stored is set aside as an
// exception; the rest go on.
func (r *round) exchange(ctx context.Context, c *comparison) error {
	diff := c.walk.Take()
	for want := range diff.Pull.Messages() {
		unmet, err := r.pull(ctx, c.from, want)
		if err != nil {
			return err
		}
		c.walk.Unmet(unmet)
	}
	for want := range (merkle.Want{Spans: diff.Push}).Messages() {
		if err := r.push(ctx, r.pageOf(want)); err != nil {
			return err
		}
	}
	return nil
}

// pageOf reads pages of what is wanted from this side's log.
func (r *round) pageOf(want merkle.Want) readPage {
	return func(ctx context.Context, store velox.StoreID, after *merkle.Key) (Page, error) {
		return r.store.Page(ctx, store, want, after)
	}
}

// pull fetches what is wanted. A pick that nothing came for was no single event
// after all.
func (r *round) pull(ctx context.Context, from uuid.UUID, want merkle.Want) (unmet []merkle.Pick, err error) {
	met := make([]bool, len(want.Picks))
	read := func(ctx context.Context, store velox.StoreID, after *merkle.Key) (Page, error) {
		return r.peer.Pull(ctx, store, want, after)
	}
	err = r.pages(ctx, "pull", read, r.report.Pulled, func(page Page) ([]Outcome, error) {
		if err := r.credible(page, want); err != nil {
			return nil, err
		}
		for _, k := range page.keys() {
			if i := want.PickOf(k); i >= 0 {
				met[i] = true
			}
		}
		if len(page.Events) == 0 {
			return page.Gone, nil
		}
		outcomes, err := r.store.Ingest(ctx, r.grant, from, page.Events)
		return append(outcomes, page.Gone...), err
	})
	if err != nil {
		return nil, fmt.Errorf("pull events: %w", err)
	}
	for i, p := range want.Picks {
		if !met[i] {
			unmet = append(unmet, p)
		}
	}
	return unmet, nil
}

// keys of all that a page tells of.
func (p Page) keys() (keys []merkle.Key) {
	for i := range p.Events {
		keys = append(keys, Key(&p.Events[i]))
	}
	for _, o := range p.Gone {
		keys = append(keys, o.key())
	}
	return keys
}

func (o Outcome) key() merkle.Key { return merkle.Key{At: int64(o.At), ID: o.Event} }

// push sends pages of this side's log.
func (r *round) push(ctx context.Context, read readPage) error {
	err := r.pages(ctx, "push", read, r.report.Pushed, func(page Page) ([]Outcome, error) {
		events := slices.DeleteFunc(page.Events, func(e velox.Event) bool { return r.known[e.ID] })
		if len(events) == 0 {
			return page.Gone, nil
		}
		outcomes, err := r.peer.Push(ctx, r.grant.Store, events)
		if err != nil {
			return nil, err
		}
		outcomes, err = answersTo(events, outcomes)
		return append(outcomes, page.Gone...), err
	})
	if err != nil {
		return fmt.Errorf("push events: %w", err)
	}
	return nil
}

// Exceptions are offered again, so many at once, when the other side has changed, and
// when they were last met so long ago.
const (
	reofferAfter = time.Hour
	reoffered    = 100
)

// reoffer sends and fetches exceptions again, those first that were looked at
// longest ago, and goes on while that brings anything. What made one may be gone:
// the other side may have lost the event that took its request_id, or have learnt
// to store what it refused. A conflict that waits for a person is left alone; one that
// is decided is not, as the other side may say something else by now. Quiet hours and a
// round that has given way, which did this before, leave all alone.
func (r *round) reoffer(ctx context.Context, c *comparison) (brought bool, err error) {
	if r.opts.Quiet > 0 || r.opts.Earlier != nil {
		return false, nil
	}
	exceptions := slices.Clone(c.exceptions)
	recently := time.Now().Add(-reofferAfter)
	exceptions = slices.DeleteFunc(exceptions, func(e Exception) bool { return e.Undecided || !c.changed && e.Met.After(recently) })
	known := r.known
	defer func() { r.known = known }()
	r.known = nil
	for some := range slices.Chunk(exceptions, reoffered) {
		keys := make([]merkle.Key, len(some))
		for i, e := range some {
			keys[i] = merkle.Key{At: int64(e.At), ID: e.Event}
		}
		slices.SortFunc(keys, merkle.Key.Compare)
		spans := make([]merkle.Span, len(keys))
		for i, k := range keys {
			spans[i] = merkle.Span{From: k, To: k}
		}
		before := r.moved()
		if _, err := r.pull(ctx, c.from, merkle.Want{Spans: spans}); err != nil {
			return brought, err
		}
		if err := r.push(ctx, r.pageOf(merkle.Want{Spans: spans})); err != nil {
			return brought, err
		}
		if r.moved() == before {
			return brought, nil
		}
		brought = true
	}
	return brought, nil
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
func (r *round) credible(page Page, want merkle.Want) error {
	for i := range page.Events {
		e := &page.Events[i]
		tooLarge := len(e.Payload) == 0 && want.Covers(Key(e)) // came without its content
		if !want.Holds(Item(e)) && !tooLarge {
			return fmt.Errorf("%w: event %s was not asked for", merkle.ErrHostile, e.ID)
		}
	}
	for _, o := range page.Gone {
		if o.Status != Purged || !want.Covers(o.key()) {
			return fmt.Errorf("%w: event %s was not asked for", merkle.ErrHostile, o.Event)
		}
	}
	if r.pulled += uint64(len(page.Events)); r.pulled > r.report.There.Count+unannounced {
		return fmt.Errorf("%w: %d events sent, its root counts %d", merkle.ErrHostile, r.pulled, r.report.There.Count)
	}
	return nil
}

type readPage func(ctx context.Context, store velox.StoreID, after *merkle.Key) (Page, error)

// ErrQuiet: there is more to move than may be while the line is to be left alone.
var ErrQuiet = errors.New("quiet hours: more waits to be moved, `reconciled reconcile` moves it at once")

// pages moves events from read to write, a page at a time. Nothing is remembered of
// a page that was cut: the next round finds what is missing.
func (r *round) pages(ctx context.Context, stage string, read readPage, tally map[Status]int, write func(Page) ([]Outcome, error)) error {
	var after *merkle.Key
	for empty := 0; ; {
		page, err := read(ctx, r.grant.Store, after)
		if err != nil {
			return err
		}
		if after != nil && page.Next != nil && page.Next.Compare(*after) <= 0 {
			return fmt.Errorf("%w: page does not go on", merkle.ErrHostile)
		}
		n := len(page.Events)
		if n == 0 {
			if empty++; empty > emptyAtMost {
				return fmt.Errorf("%w: %d pages without an event", merkle.ErrHostile, empty)
			}
		}
		if r.opts.Quiet > 0 && sum(r.report.Pulled)+sum(r.report.Pushed)+uint64(n) > uint64(r.opts.Quiet) {
			return ErrQuiet
		}
		outcomes, err := write(page)
		if err != nil {
			return err
		}
		if err := r.note(ctx, outcomes, tally); err != nil {
			return err
		}
		r.progress(stage, sum(tally), 0)
		// After a page, not before: however often it is asked to stop, each turn moves one.
		if r.stopped() && n > 0 {
			return lock.ErrGaveWay
		}
		if page.Next == nil {
			return nil
		}
		after = page.Next
	}
}

// emptyAtMost bounds the pages of one transfer that hold nothing but purges.
const emptyAtMost = 1 << 12

func (r *round) note(ctx context.Context, outcomes []Outcome, tally map[Status]int) error {
	var excepted []Outcome
	for _, o := range outcomes {
		tally[o.Status]++
		if !o.Status.Excepted() {
			continue
		}
		excepted = append(excepted, o)
		r.remark(o)
	}
	if len(excepted) == 0 {
		return nil
	}
	return r.store.Except(ctx, r.grant, excepted)
}

func (r *round) remark(o Outcome) {
	if len(r.report.Noted) < notedAtMost && !slices.ContainsFunc(r.report.Noted, func(n Outcome) bool { return n.Event == o.Event }) {
		r.report.Noted = append(r.report.Noted, o)
	}
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
