package healer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/veloxpos/reconciled/healer/projection"
	"github.com/veloxpos/reconciled/internal/velox"
	"github.com/veloxpos/reconciled/lock"
)

// run is one Run under way, or one Look.
type run struct {
	store Store
	opts  Options
	grant lock.Grant
	look  func(Gap) // of a Look: told what is found, and nothing is written

	report   Report
	progress int                     // gaps closed and events healed
	addedUp  int                     // progress when stock was last added up
	again    map[int64]time.Duration // slots that must be looked at again
	backend  *bool                   // whether one is at work; nil: not asked yet

	// Of the page at hand, until they are recorded.
	open   []Gap
	closed []uuid.UUID
}

func newRun(h *Healer, grant lock.Grant) *run {
	r := &run{store: h.store, opts: h.opts, grant: grant, again: map[int64]time.Duration{}, addedUp: -stockEvery}
	r.report.ByType = map[velox.Type]Counts{}
	return r
}

// candidate is an event that was read.
type candidate struct {
	*Logged
	intent projection.Intent
}

// page heals a page of events, lower ranks first, and records their gaps. Lost updates
// are noted before: by their payloads alone others could not find them.
func (r *run) page(ctx context.Context, page []Logged) error {
	if err := r.noteLost(ctx, page); err != nil {
		return err
	}
	var ranks [projection.Ranks][]candidate
	for i := range page {
		l := &page[i]
		if l.Grace > 0 {
			r.leave(l, l.Grace)
			continue
		}
		intent, err := projection.Read(l.Event)
		if err != nil {
			r.verdict(l, projection.Outcome{Class: projection.Poison, Reason: err.Error()})
			continue
		}
		rank := projection.Rank(l.Type)
		ranks[rank] = append(ranks[rank], candidate{l, intent})
	}
	for _, batch := range ranks {
		if err := r.project(ctx, batch); err != nil {
			return err
		}
	}
	return r.record(ctx)
}

// noteLost remembers events whose payload another event's has replaced.
func (r *run) noteLost(ctx context.Context, page []Logged) error {
	var replaced []velox.Event
	for _, l := range page {
		if !bytes.Equal(l.Said(), l.Payload) {
			replaced = append(replaced, l.Event.Event)
		}
	}
	if len(replaced) == 0 || r.look != nil {
		return nil
	}
	if err := r.store.NoteLost(ctx, r.grant, replaced); err != nil {
		return fmt.Errorf("note lost updates: %w", err)
	}
	return nil
}

// raceTries bounds how often events are planned anew because the rows changed
// between plan and write. Two rounds settle a race: the other one has won.
const raceTries = 4

// project plans a batch of one rank and writes what is actionable. Events that would
// change the same row take turns, in order.
func (r *run) project(ctx context.Context, batch []candidate) error {
	for tries := 0; len(batch) > 0 && tries < raceTries; {
		asks := make([]projection.Asks, len(batch))
		for i, c := range batch {
			asks[i] = c.intent.Asks()
		}
		facts, err := r.store.Facts(ctx, r.grant.Store, asks)
		if err != nil {
			return fmt.Errorf("read facts: %w", err)
		}
		causes, err := r.causes(ctx, batch)
		if err != nil {
			return err
		}
		var heals, givenBack []healing
		var later []candidate
		claimed := map[projection.Ref]bool{}
		for _, c := range batch {
			out := c.intent.Plan(facts)
			if cause, waits := causes[c.ID]; waits && out.Class == projection.Actionable {
				out = cause
			}
			switch {
			case out.Class != projection.Actionable:
				r.verdict(c.Logged, out)
				continue
			case r.look != nil || r.opts.Observe:
				r.verdict(c.Logged, out)
				continue
			case c.Backing != "":
				r.count(c.Logged, tried(c.Backing))
				continue
			}
			h := healing{c, out}
			back, err := r.givesBack(ctx, h)
			switch {
			case err != nil:
				return err
			case back:
				givenBack = append(givenBack, h)
			case clashes(claimed, out.Changes.Keys()):
				later = append(later, c)
			default:
				heals = append(heals, h)
			}
		}
		if err := r.requeue(ctx, givenBack); err != nil {
			return err
		}
		before := r.progress
		lost, err := r.apply(ctx, heals)
		if err != nil {
			return err
		}
		if len(lost) > 0 || r.progress == before {
			tries++
		}
		batch = append(later, lost...)
	}
	for _, c := range batch {
		r.count(c.Logged, failed)
		r.gap(c.Logged, projection.Outcome{Class: projection.Actionable, Reason: "its rows changed each time that it was planned"},
			fmt.Sprintf("raced %d times", raceTries))
	}
	return nil
}

// tried is how an event counts whose write failed.
func tried(class projection.Class) projection.Class {
	if class == projection.Actionable {
		return failed
	}
	return class
}

// clashes claims keys, and says whether one of them was claimed before.
func clashes(claimed map[projection.Ref]bool, keys []projection.Ref) bool {
	clash := slices.ContainsFunc(keys, func(key projection.Ref) bool { return claimed[key] })
	for _, key := range keys {
		claimed[key] = true
	}
	return clash
}

// healing is an event with its plan.
type healing struct {
	candidate
	out projection.Outcome
}

// apply writes heals together; when the rows of some are refused, in halves, until
// what fails is one event. It returns those that must be planned anew.
func (r *run) apply(ctx context.Context, heals []healing) ([]candidate, error) {
	if len(heals) == 0 {
		return nil, nil
	}
	batch := make([]Heal, len(heals))
	for i, h := range heals {
		batch[i] = Heal{Event: &h.Event.Event, Intent: h.intent, Changes: h.out.Changes}
	}
	fates, err := r.store.Apply(ctx, r.grant, batch, r.opts)
	switch {
	case err == nil:
		return r.written(heals, fates), nil
	case errors.Is(err, ErrBusy) && len(heals) == 1:
		r.leave(heals[0].Logged, r.opts.Grace)
		return nil, nil
	case !refused(err):
		// Not the rows' fault: to split would only ask a sick database more often.
		return nil, fmt.Errorf("write rows: %w", err)
	case len(heals) == 1:
		r.failure(heals[0], err)
		return nil, nil
	}
	lost, err := r.apply(ctx, heals[:len(heals)/2])
	if err != nil {
		return nil, err
	}
	more, err := r.apply(ctx, heals[len(heals)/2:])
	return append(lost, more...), err
}

// refused tells errors of some rows from those of the database.
func refused(err error) bool {
	for _, of := range []error{ErrRejected, ErrUnfit, ErrMissing, ErrTaken, ErrBusy} {
		if errors.Is(err, of) {
			return true
		}
	}
	return false
}

func (r *run) written(heals []healing, fates []Fate) (raced []candidate) {
	for i, h := range heals {
		switch fates[i].Kind {
		case Written:
			r.progress++
			if h.out.Then != nil {
				r.verdict(h.Logged, *h.out.Then)
				continue
			}
			r.count(h.Logged, healed)
			r.closed = append(r.closed, h.ID)
		case Raced:
			raced = append(raced, h.candidate)
		case Overtaken:
			r.verdict(h.Logged, fates[i].Outcome)
		case Left:
			r.leave(h.Logged, r.opts.Grace)
		}
	}
	return raced
}

// failure is the verdict on an event whose rows the database would not take.
func (r *run) failure(h healing, err error) {
	out, class := h.out, failed
	if missing, ok := errors.AsType[*MissingError](err); ok {
		out.Class, out.Waits, out.Reason, class = projection.Blocked, missing.Row, missing.Error(), projection.Blocked
	}
	if errors.Is(err, ErrTaken) {
		out.Class, out.Reason, class = projection.Blocked, err.Error(), projection.Blocked
	}
	if errors.Is(err, ErrUnfit) {
		out.Class, out.Reason, class = projection.Poison, err.Error(), projection.Poison
	}
	r.count(h.Logged, class)
	r.gap(h.Logged, out, err.Error())
}

// verdict counts an event that is not written, and notes its gap.
func (r *run) verdict(l *Logged, out projection.Outcome) {
	r.count(l, out.Class)
	switch {
	case out.Class == projection.Done, out.Class == projection.Semantic && out.Routine:
		// An entry on which the backend gave up is moot, too.
		if l.Gap || l.Entry == "failed" {
			r.closed = append(r.closed, l.ID)
		}
		if l.Gap {
			r.progress++
		}
	case out.Class == projection.Unsupported:
		// No rows of it are known: counted, no gap.
	default:
		r.gap(l, out, "")
	}
}

func (r *run) gap(l *Logged, out projection.Outcome, lastError string) {
	r.open = append(r.open, Gap{
		Event: l.ID, Type: l.Type, CreatedAt: l.CreatedAt,
		Class: out.Class, Reason: out.Reason, Waits: out.Waits, LastError: lastError,
	})
}

// leave leaves an event to the backend and its slot on the worklist.
func (r *run) leave(l *Logged, wait time.Duration) {
	r.count(l, projection.Backend)
	r.again[l.Slot] = max(r.again[l.Slot], wait)
}

// count counts an event once: if it was counted before in this run, as what it is
// now.
func (r *run) count(l *Logged, class projection.Class) {
	if l.Counted != "" {
		r.report.add(l.Type, l.Counted, -1)
	}
	l.Counted = class
	r.report.add(l.Type, class, 1)
}

// record writes down the page's gaps, or tells them.
func (r *run) record(ctx context.Context) error {
	defer func() { r.open, r.closed = r.open[:0], r.closed[:0] }()
	switch {
	case r.look != nil:
		for _, g := range r.open {
			r.look(g)
		}
		return nil
	case len(r.open)+len(r.closed) == 0:
		return nil
	}
	if err := r.store.Record(ctx, r.grant, r.open, r.closed, r.opts); err != nil {
		return fmt.Errorf("record gaps: %w", err)
	}
	return nil
}
