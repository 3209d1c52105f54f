package reconcile

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"time"

	"github.com/google/uuid"

	"github.com/veloxpos/reconciled/lock"
	"github.com/veloxpos/reconciled/merkle"
)

// deltas is how often a round walks before it says "unknown: moving". Both sides
// trade on meanwhile; each walk is over what came since the one before.
const deltas = 3

// Progress is where a round is, for a person who waits for it. Total is zero
// while it is not known.
type Progress struct {
	Stage string `json:"stage"` // compare, pull, push
	Done  uint64 `json:"done"`
	Total uint64 `json:"total,omitempty"`
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
	// Quiet bounds the events that a round moves while the line is to be left alone;
	// zero is no bound. Beyond it the verdict is unknown, and the rest waits.
	Quiet int
}

// Report is what a round did and found.
type Report struct {
	Verdict Verdict `json:"verdict"`
	// Reason says why the verdict is unknown, in words.
	Reason string `json:"reason,omitempty"`

	Here  Root `json:"here"`  // of the whole tree
	There Root `json:"there"` // as the other side last said, the exceptions left out
	// Agreed is the root with the exceptions left out, which an equal comparison found
	// the same on both sides; zero when there was none.
	Agreed Root `json:"agreed"`

	Messages   int            `json:"messages"` // of comparisons, each answered once
	Pulled     map[Status]int `json:"pulled,omitempty"`
	Pushed     map[Status]int `json:"pushed,omitempty"`
	Exceptions map[Status]int `json:"exceptions,omitempty"`
	// Noted are the first events that need a person, at most 20.
	Noted []Outcome `json:"noted,omitempty"`
	// WentBack is set when one side has gone back in time since they last agreed.
	WentBack *Regress      `json:"went_back,omitempty"`
	Elapsed  time.Duration `json:"elapsed_ns"`
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
	look   bool               // the anchor is not to be answered with
	known  map[uuid.UUID]bool // exceptions: not sent in an exchange
	pulled uint64             // events fetched since the last opening
}

func (r *round) run(ctx context.Context) error {
	if err := r.name(ctx); err != nil {
		return fmt.Errorf("name what was tampered with: %w", err)
	}
	offered, walked := false, false
	for delta := 0; ; delta++ {
		c, err := r.open(ctx, walked)
		if err != nil {
			return fmt.Errorf("open comparison: %w", err)
		}
		if !offered {
			offered = true
			brought, err := r.reoffer(ctx, c)
			if err != nil {
				return fmt.Errorf("offer exceptions again: %w", err)
			}
			if brought { // some are none any more
				if c, err = r.open(ctx, false); err != nil {
					return fmt.Errorf("open comparison: %w", err)
				}
			}
		}
		if c.same {
			return r.agree(ctx, c)
		}
		if delta == deltas {
			r.report.Reason = "moving: both sides changed faster than the round could follow; the next one goes on from here"
			if len(c.exceptions) == MaxExceptions {
				r.report.Reason = fmt.Sprintf("more than %d known differences: no list explains that many", MaxExceptions)
			}
			return nil
		}
		walked = c.status != merkle.Anchored
		if err := r.converse(ctx, c); err != nil {
			return err
		}
	}
}

// suspectsAtOnce bounds the slots that a round names the events of.
const suspectsAtOnce = 16

// name holds slots that were changed past the triggers against the other side,
// before an exchange mends them: evidence must say which events it is about.
func (r *round) name(ctx context.Context) error {
	slots, err := r.store.Suspects(ctx, r.grant.Store, suspectsAtOnce)
	if err != nil {
		return err
	}
	for _, slot := range slots {
		there, err := r.peer.Slot(ctx, r.grant.Store, slot)
		if err != nil {
			return err
		}
		if err := r.store.Name(ctx, r.grant, slot, there); err != nil {
			return err
		}
	}
	return nil
}

// comparison is one, from its opening on.
type comparison struct {
	from       uuid.UUID // the installation that answers
	pin        Pin
	view       merkle.View // the pin with the exceptions left out
	walk       *merkle.Walk
	exceptions []Exception
	list       merkle.Token // of them
	status     merkle.Status
	changed    bool // the other side, since the last agreement
	same       bool
}

// open pins the tree and compares roots, the exceptions left out. Those that are
// none any more are taken off the list, and it is opened again.
func (r *round) open(ctx context.Context, plain bool) (*comparison, error) {
	for changed := false; ; {
		c, reply, anchor, err := r.compare(ctx, looks{everywhere: r.look, plainly: plain})
		if err != nil {
			return nil, err
		}
		if reply.Regress != nil && r.report.WentBack == nil {
			back := backed(anchor, c.view.Tree.Root().Count, *reply.Regress)
			r.report.WentBack = &back
			if err := r.store.WentBack(ctx, r.grant, back); err != nil {
				return nil, err
			}
		}
		changed = changed || reply.Changed // it is told once
		settled, err := r.settle(ctx, c.exceptions, reply.Settled)
		if err != nil {
			return nil, err
		}
		if settled {
			continue // with a shorter list
		}
		if c.same, err = c.walk.Hear(ctx, reply); err != nil {
			return nil, err
		}
		c.status, c.changed = reply.Status, changed
		r.report.Here, r.report.There = RootOf(c.pin.Tree), Root{reply.Count, reply.Root}
		if c.same {
			r.report.There = RootOf(c.view.Tree)
		}
		r.pulled = 0
		return c, nil
	}
}

// looks is how a comparison is to look.
type looks struct {
	everywhere bool // not only at what came since the agreement
	plainly    bool // without a sketch
	only       bool // a dry run: nothing is to be remembered of it
}

// compare pins the tree, opens a comparison, and sends the list of exceptions when
// the other side does not know it.
func (r *round) compare(ctx context.Context, how looks) (c *comparison, reply merkle.Reply, anchor Anchor, err error) {
	r.progress("compare", uint64(r.report.Messages), 0)
	c, here, err := r.begin(ctx)
	if err != nil {
		return nil, reply, anchor, err
	}
	if !how.only {
		if anchor, err = r.store.Anchor(ctx, r.grant.Store); err != nil {
			return nil, reply, anchor, err
		}
	}
	list := listOf(c.exceptions, here)
	c.list = merkle.ListToken(list)
	opening := c.walk.Opening()
	opening.Plain, opening.Dry, opening.Exceptions, opening.Anchor = how.plainly, how.only, c.list, anchor.Token
	// Only what came since the agreement can be known without a look.
	opening.Look = how.everywhere || opening.Count <= anchor.Count
	reply, err = r.send(ctx, c, opening)
	if err == nil && reply.Status == merkle.Unlisted {
		opening.Listed = list
		reply, err = r.send(ctx, c, opening)
		if err == nil && reply.Status == merkle.Unlisted {
			err = fmt.Errorf("%w: the list of exceptions is called unknown after it was sent", merkle.ErrHostile)
		}
	}
	return c, reply, anchor, err
}

// begin is one side of a comparison, and the digests of the exceptions that are
// held here.
func (r *round) begin(ctx context.Context) (*comparison, map[uuid.UUID][16]byte, error) {
	pin, err := r.store.Pin(ctx, r.grant.Store)
	if err != nil {
		return nil, nil, err
	}
	c := &comparison{pin: pin}
	if c.exceptions, err = r.store.Exceptions(ctx, r.grant.Store); err != nil {
		return nil, nil, err
	}
	events := make([]uuid.UUID, len(c.exceptions))
	r.known = make(map[uuid.UUID]bool, len(c.exceptions))
	for i, e := range c.exceptions {
		events[i] = e.Event
		r.known[e.Event] = true
	}
	here, keys, err := held(ctx, r.store, r.grant.Store, events)
	if err != nil {
		return nil, nil, err
	}
	if c.view, err = pin.Without(ctx, keys); err != nil {
		return nil, nil, err
	}
	c.walk = merkle.NewWalk(c.view, merkle.Salt(rand.Uint32()), merkle.Key{At: time.Now().UnixMilli()}.Slot())
	return c, here, nil
}

func (r *round) send(ctx context.Context, c *comparison, o merkle.Opening) (reply merkle.Reply, err error) {
	reply, c.from, err = r.peer.Open(ctx, r.grant.Store, o)
	r.report.Messages++
	return reply, err
}

// settle takes exceptions off the list that the peer holds the same way. Only
// what was asked about counts, so that a peer cannot keep a round going.
func (r *round) settle(ctx context.Context, asked []Exception, settled [][16]byte) (bool, error) {
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

// converse finds what differs and exchanges it: what is known goes first, while the
// rest is still being asked about.
func (r *round) converse(ctx context.Context, c *comparison) error {
	if c.status == merkle.Anchored {
		r.look = true // if this does not bring agreement, everything is looked at
		return r.push(ctx, r.store.Fresh)
	}
	for {
		if err := r.exchange(ctx, c); err != nil {
			return err
		}
		more, err := r.ask(ctx, c)
		if err != nil || !more {
			return err
		}
	}
}

// ask asks the next questions about what differs; false when there are none.
func (r *round) ask(ctx context.Context, c *comparison) (more bool, err error) {
	questions := c.walk.Ask()
	if questions == nil {
		return false, nil
	}
	questions.Exceptions = c.list
	r.progress("compare", uint64(r.report.Messages), 0)
	answers, err := r.peer.Ask(ctx, r.grant.Store, *questions)
	if err != nil {
		return false, fmt.Errorf("ask about differences: %w", err)
	}
	r.report.Messages++
	if err := c.walk.Learn(ctx, answers); err != nil {
		return false, fmt.Errorf("learn differences: %w", err)
	}
	return true, nil
}

// agree writes down what an equal comparison proved, and gives the verdict that it
// allows.
func (r *round) agree(ctx context.Context, c *comparison) error {
	root := c.view.Tree.Root()
	r.report.Agreed = RootOf(c.view.Tree)
	clear(r.report.Exceptions)
	for _, e := range c.exceptions {
		r.report.Exceptions[e.Kind]++
		if !e.Kind.Explained() {
			r.remark(Outcome{Event: e.Event, At: e.At, Status: e.Kind, Reason: e.Reason})
		}
	}
	err := r.store.Agree(ctx, r.grant, Agreement{
		Peer: c.from, Token: merkle.AgreementToken(root, c.list), Root: root, Pin: c.pin.Version, Exceptions: c.exceptions,
	})
	if err != nil {
		return fmt.Errorf("write agreement: %w", err)
	}
	r.conclude()
	return nil
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

func (r *round) stopped() bool { return r.opts.Stop != nil && r.opts.Stop() }

func (r *round) progress(stage string, done, total uint64) {
	if r.opts.Progress != nil {
		r.opts.Progress(Progress{Stage: stage, Done: done, Total: total})
	}
}
