package reconcile

import (
	"context"
	"fmt"
	"maps"
	"time"

	"github.com/google/uuid"

	"github.com/veloxpos/reconciled/lock"
	"github.com/veloxpos/reconciled/merkle"
)

// deltas is how often a round walks before it says "unknown: moving". Both sides
// trade on meanwhile; each walk is over what came since the one before.
const deltas = 3

// spansAtOnce bounds one pull request.
const spansAtOnce = 256

// Progress is where a round is, for a person who waits for it. Total is zero
// while it is not known.
type Progress struct {
	Stage       string // check, walk, pull, push
	Done, Total uint64
}

// Options of a round.
type Options struct {
	// Stop is asked at each page boundary; true ends the round there, with
	// lock.ErrGaveWay. May be nil.
	Stop func() bool
	// Earlier is the report of the part of this round that gave way before; its
	// counts go on. May be nil.
	Earlier *Report
	// Progress is called as the round goes on. May be nil.
	Progress func(Progress)
}

// Report is what a round did and found.
type Report struct {
	Verdict Verdict `json:"verdict"`
	// Reason says why the verdict is unknown, in words.
	Reason string `json:"reason,omitempty"`

	Here  Root `json:"here"` // of the whole trees
	There Root `json:"there"`
	// Agreed is the root with the exceptions left out, which an equal check found
	// the same on both sides; zero when there was none.
	Agreed Root `json:"agreed"`

	Messages   int            `json:"messages"` // of checks and walks
	Pulled     map[Status]int `json:"pulled,omitempty"`
	Pushed     map[Status]int `json:"pushed,omitempty"`
	Exceptions map[Status]int `json:"exceptions,omitempty"`
	// Noted are the first outcomes that need a person, at most 20.
	Noted   []Outcome     `json:"noted,omitempty"`
	Elapsed time.Duration `json:"elapsed_ns"`
}

const notedAtMost = 20

// Run makes one round of the grant's store against peer. The report is complete
// even when err is not nil; its verdict is then unknown.
func Run(ctx context.Context, store Store, peer Peer, grant lock.Grant, opts Options) (Report, error) {
	r := &round{
		store: store, peer: peer, grant: grant, opts: opts,
		report: Report{Pulled: map[Status]int{}, Pushed: map[Status]int{}, Exceptions: map[Status]int{}},
	}
	if e := opts.Earlier; e != nil {
		maps.Copy(r.report.Pulled, e.Pulled)
		maps.Copy(r.report.Pushed, e.Pushed)
		r.report.Messages, r.report.Noted, r.report.Elapsed = e.Messages, e.Noted, e.Elapsed
	}
	began := time.Now()
	err := r.run(ctx)
	r.report.Elapsed += time.Since(began)
	if err != nil {
		r.report.Verdict, r.report.Reason = Unknown, err.Error()
	}
	return r.report, err
}

type round struct {
	store  Store
	peer   Peer
	grant  lock.Grant
	opts   Options
	report Report
	known  map[uuid.UUID]bool // exceptions: not sent in an exchange
	pulled uint64             // events fetched since the last check
}

func (r *round) run(ctx context.Context) error {
	offered := false
	for walks := 0; ; walks++ {
		from, equal, err := r.check(ctx)
		if err != nil {
			return fmt.Errorf("check roots: %w", err)
		}
		if !offered {
			offered = true
			before := r.moved()
			if err := r.reoffer(ctx, from); err != nil {
				return fmt.Errorf("offer exceptions again: %w", err)
			}
			if r.moved() > before { // some are none any more
				if from, equal, err = r.check(ctx); err != nil {
					return fmt.Errorf("check roots: %w", err)
				}
			}
		}
		if equal {
			r.conclude()
			return nil
		}
		if walks == deltas {
			r.report.Reason = "moving: both sides changed faster than the round could follow; the next one goes on from here"
			if len(r.known) == MaxExceptions {
				r.report.Reason = fmt.Sprintf("more than %d known differences: no list explains that many", MaxExceptions)
			}
			return nil
		}
		diff, err := r.walk(ctx)
		if err != nil {
			return fmt.Errorf("walk trees: %w", err)
		}
		if err := r.exchange(ctx, from, diff); err != nil {
			return err
		}
	}
}

// conclude gives the verdict that an equal check allows.
func (r *round) conclude() {
	r.report.Verdict = InSync
	if r.moved() > 0 {
		r.report.Verdict = Repaired
	}
	for kind := range r.report.Exceptions {
		if !kind.Explained() {
			r.report.Verdict = Differs
		}
	}
}

// moved counts the events that one side has since the round and had not before.
func (r *round) moved() (n int) {
	for _, tally := range []map[Status]int{r.report.Pulled, r.report.Pushed} {
		n += tally[Stored] + tally[Restored]
	}
	return n
}

// check compares roots with the agreed exceptions left out, takes those that are
// none any more off the list first, and writes down what an equal check proved.
func (r *round) check(ctx context.Context) (from uuid.UUID, equal bool, err error) {
	for {
		r.progress("check", 0, 0)
		request, here, err := r.request(ctx)
		if err != nil {
			return from, false, err
		}
		reply, err := r.peer.Check(ctx, r.grant.Store, request)
		if err != nil {
			return from, false, err
		}
		r.report.Messages++
		r.report.Here, r.report.There = RootOf(here.Tree), reply.Whole
		settled, err := r.settle(ctx, request.Exceptions, reply.Settled)
		if err != nil {
			return from, false, err
		}
		if settled {
			continue // ask again with a shorter list
		}
		// The peer's word alone is not enough: its root must be the one we sent.
		if !reply.Equal || reply.Root != request.Root {
			r.pulled = 0
			return reply.Installation, false, nil
		}
		r.report.Agreed = request.Root
		clear(r.report.Exceptions)
		for _, e := range request.Exceptions {
			r.report.Exceptions[e.Kind]++
		}
		return reply.Installation, true, r.store.Agree(ctx, r.grant, Agreement{
			Peer: reply.Installation, Root: request.Root, Here: r.report.Here, There: r.report.There, Pin: here.Version, Exceptions: request.Exceptions,
		})
	}
}

func (r *round) request(ctx context.Context) (CheckRequest, Pin, error) {
	pin, err := r.store.Pin(ctx, r.grant.Store)
	if err != nil {
		return CheckRequest{}, pin, err
	}
	exceptions, err := r.store.Exceptions(ctx, r.grant.Store)
	if err != nil {
		return CheckRequest{}, pin, err
	}
	events := make([]uuid.UUID, len(exceptions))
	for i, e := range exceptions {
		events[i] = e.Event
	}
	here, keys, err := held(ctx, r.store, r.grant.Store, events)
	if err != nil {
		return CheckRequest{}, pin, err
	}
	for i := range exceptions {
		exceptions[i].Digest = here[exceptions[i].Event]
	}
	tree, err := pin.Without(ctx, keys)
	return CheckRequest{Root: RootOf(tree), Exceptions: exceptions}, pin, err
}

// settle takes exceptions off the list that the peer holds the same way. Only
// what was asked about counts, so that a peer cannot keep a round going.
func (r *round) settle(ctx context.Context, asked []Exception, settled []uuid.UUID) (bool, error) {
	same := make(map[uuid.UUID]bool, len(settled))
	for _, id := range settled {
		same[id] = true
	}
	var gone []uuid.UUID
	for _, e := range asked {
		if same[e.Event] {
			gone = append(gone, e.Event)
		}
	}
	if len(gone) == 0 {
		return false, nil
	}
	return true, r.store.Settle(ctx, r.grant, gone)
}

func (r *round) walk(ctx context.Context) (merkle.Diff, error) {
	pin, err := r.store.Pin(ctx, r.grant.Store)
	if err != nil {
		return merkle.Diff{}, err
	}
	w := merkle.NewWalk(pin.View)
	for {
		questions, err := w.Ask(ctx)
		if err != nil || len(questions) == 0 {
			return w.Diff(), err
		}
		if diff := w.Diff(); r.stopped() && !diff.Empty() {
			return diff, nil // what is known is exchanged first, so that each turn gets on
		}
		r.progress("walk", uint64(r.report.Messages), 0)
		answers, err := r.peer.Compare(ctx, r.grant.Store, questions)
		if err != nil {
			return merkle.Diff{}, err
		}
		r.report.Messages++
		if err := w.Learn(ctx, answers); err != nil {
			return merkle.Diff{}, err
		}
	}
}

func (r *round) stopped() bool { return r.opts.Stop != nil && r.opts.Stop() }

func (r *round) progress(stage string, done, total uint64) {
	if r.opts.Progress != nil {
		r.opts.Progress(Progress{Stage: stage, Done: done, Total: total})
	}
}
