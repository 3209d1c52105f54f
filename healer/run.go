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

// run is one Run under way.
type run struct {
	store Store
	opts  Options
	grant lock.Grant

	report   Report
	progress int                            // gaps closed and events healed
	standing map[uuid.UUID]projection.Class // how events that may be planned again were counted
	again    map[int64]time.Duration        // slots that must be looked at again

	// Of the page at hand, until they are recorded.
	open   []Gap
	closed []uuid.UUID
}

func newRun(h *Healer, grant lock.Grant) *run {
	r := &run{
		store: h.store, opts: h.opts, grant: grant,
		standing: map[uuid.UUID]projection.Class{}, again: map[int64]time.Duration{},
	}
	r.report.ByType = map[velox.Type]Counts{}
	return r
}

// candidate is an event that was read.
type candidate struct {
	*Logged
	intent projection.Intent
}

// page heals a page of events, lower ranks first, and records their gaps.
func (r *run) page(ctx context.Context, page []Logged) error {
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

// raceTries bounds how often events are planned anew because the rows changed
// between plan and write. Two rounds settle a race: the other one has won.
const raceTries = 4

// project plans a batch of one rank and writes what is actionable.
func (r *run) project(ctx context.Context, batch []candidate) error {
	for range raceTries {
		if len(batch) == 0 {
			return nil
		}
		var refs []projection.Ref
		for _, c := range batch {
			refs = append(refs, c.intent.Refs()...)
		}
		facts, err := r.store.Facts(ctx, r.grant.Store, refs)
		if err != nil {
			return fmt.Errorf("read facts: %w", err)
		}
		var heals []healing
		var raced []candidate
		claimed := map[projection.Ref]bool{}
		for _, c := range batch {
			out := c.intent.Plan(facts)
			switch {
			case out.Class != projection.Actionable:
				r.verdict(c.Logged, out)
			case c.Backing:
				r.count(c.Logged, failed)
			case claimed[out.Changes.Claims()]:
				raced = append(raced, c)
			default:
				claimed[out.Changes.Claims()] = true
				heals = append(heals, healing{c, out})
			}
		}
		lost, err := r.apply(ctx, heals)
		if err != nil {
			return err
		}
		batch = append(raced, lost...)
	}
	for _, c := range batch {
		r.leave(c.Logged, r.opts.Grace)
	}
	return nil
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
		batch[i] = Heal{Event: &h.Event, Changes: h.out.Changes}
	}
	fates, err := r.store.Apply(ctx, r.grant, batch)
	switch {
	case err == nil:
		return r.written(heals, fates), nil
	case !errors.Is(err, ErrRejected) && !errors.Is(err, ErrUnfit) && !errors.Is(err, ErrMissing):
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

func (r *run) written(heals []healing, fates []Fate) (raced []candidate) {
	for i, h := range heals {
		switch fates[i] {
		case Written:
			r.count(h.Logged, healed)
			r.closed = append(r.closed, h.ID)
			r.progress++
		case Raced:
			raced = append(raced, h.candidate)
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
	case out.Class == projection.Done:
		if l.Gap {
			r.closed = append(r.closed, l.ID)
			r.progress++
		}
	case out.Class == projection.Unsupported && !projection.Supported(l.Type):
		// Whether its rows are missing is not known: counted, no gap.
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

// count counts an event once: if it was planned before in this run, as what it
// is now.
func (r *run) count(l *Logged, class projection.Class) {
	if before, counted := r.standing[l.ID]; counted {
		r.report.add(l.Type, before, -1)
		delete(r.standing, l.ID)
	}
	r.report.add(l.Type, class, 1)
	switch class {
	case projection.Waiting, projection.Blocked, failed, projection.Backend:
		r.standing[l.ID] = class
	}
}

// record writes down the page's gaps.
func (r *run) record(ctx context.Context) error {
	if len(r.open)+len(r.closed) == 0 {
		return nil
	}
	if err := r.store.Record(ctx, r.grant, r.open, r.closed, r.opts); err != nil {
		return fmt.Errorf("record gaps: %w", err)
	}
	r.open, r.closed = r.open[:0], r.closed[:0]
	return nil
}
