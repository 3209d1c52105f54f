package merkle

import (
	"context"
	"errors"
	"fmt"
	"slices"
)

// Limits of one message. They bound what a peer can make this side hold or do.
const (
	maxQuestions = 1 << 12
	maxParts     = 1 << 14 // and runs, of all answers together
	maxListed    = 1 << 17 // items of all answers together
	runsAtOnce   = 24      // an area is divided into so many
	listAtMost   = 256     // items of one slot: up to that they are listed
	fewAtMost    = 64      // the same for several slots
	partsAtOnce  = 64      // questions about parts of slots: each reads its slot
	// maxSpans bounds what a walk may collect. Beyond it the peer is hostile, or
	// the next round goes on.
	maxSpans = 1 << 20
)

// ErrHostile: the peer's answer breaks the rules of the walk.
var ErrHostile = errors.New("answer breaks the protocol")

// Part is what one side holds of a part of a slot: how many events, and their
// digest's short hash.
type Part struct {
	Range Range
	Count uint64
	Short uint32
}

// Questions are areas known to differ, and the larger sketch that an opening's
// reply may have made possible.
type Questions struct {
	Salt       Salt
	Exceptions Token
	Sketch     *SketchQuestion
	Pairs      []int64 // slots whose sums of squares are wanted
	Areas      []Area
}

// SketchQuestion asks for a sketch of so many cells.
type SketchQuestion struct {
	From, Now int64
	Cells     int
}

// Answers to Questions, in their order.
type Answers struct {
	Cells   []Cell
	Squares []Square // for the first of the pairs; as many as fit
	Areas   []Answer
}

// Square is the sum of the squares of a slot's short hashes.
type Square uint32

// Answer is what the other side holds in an area that was asked about: runs of
// slots, or parts of a slot, in order, none empty, none overlapping, and nothing
// outside them; or a list of all its items' short hashes, in key order; or nothing
// yet.
type Answer struct {
	Later bool // the message was full: ask again
	Runs  []Run
	Parts []Part
	List  []uint32
}

// Diff is what a walk found: what to send, what to fetch.
type Diff struct {
	Push []Span
	Pull Want
}

// Empty reports whether nothing was found.
func (d Diff) Empty() bool { return len(d.Push) == 0 && d.Pull.Empty() }

// Walk is the asking side of a comparison: Opening, Hear its reply, then Ask and
// Learn until there are no more questions. What is found meanwhile is taken with
// Take, so that it can be exchanged while the walk goes on.
type Walk struct {
	mine     View
	salt     Salt
	now      int64
	sketch   *SketchQuestion
	sketches int        // that were too small
	pairs    []slotDiff // slots that seem to differ by two events
	pending  []Area
	asked    Questions
	diff     Diff
	found    int
}

// NewWalk begins a comparison at the slot now. The salt must be new.
func NewWalk(mine View, salt Salt, now int64) *Walk {
	return &Walk{mine: mine, salt: salt, now: now}
}

// Opening is the walk's first message; what else it carries is the caller's.
func (w *Walk) Opening() Opening { return w.mine.Tree.opening(w.salt, w.now) }

// Hear takes the reply to the opening. It reports whether both roots are the same:
// the peer's word is not enough for that, its root must be this side's.
func (w *Walk) Hear(ctx context.Context, r Reply) (same bool, err error) {
	switch {
	case r.Status == Same && r.Proof == w.salt.Prove(w.mine.Tree.Root()):
		return true, nil
	case r.Status == Same:
		return false, fmt.Errorf("%w: the roots are called the same, and are not", ErrHostile)
	case r.Status != Different:
		return false, nil
	case r.Cells != nil:
		return false, w.readOut(ctx, sketchSpan{r.From, w.now}, r.Cells)
	case r.Wide != nil:
		w.size(r.From, r.Wide)
		return false, nil
	}
	return false, w.learnRuns(ctx, Area{First: r.From, Last: lastSlot}, r.Runs)
}

// Unmet takes back picks that nothing came for: where a sketch showed one event,
// there are several. They are asked about.
func (w *Walk) Unmet(picks []Pick) {
	for _, p := range picks {
		if !p.Listed {
			w.pending = append(w.pending, p.Area)
		}
	}
}

// Take gives what has been found since it was last called, in key order.
func (w *Walk) Take() Diff {
	d := Diff{Push: ordered(w.diff.Push), Pull: Want{Salt: w.salt, Spans: ordered(w.diff.Pull.Spans), Picks: w.diff.Pull.Picks}}
	slices.SortFunc(d.Pull.Picks, func(a, b Pick) int { return a.before(b.Area) })
	w.diff = Diff{}
	return d
}

// ordered sorts spans, which never overlap, and joins those that touch.
func ordered(spans []Span) []Span {
	slices.SortFunc(spans, func(a, b Span) int { return a.From.Compare(b.From) })
	var joined []Span
	for _, s := range spans {
		joined = join(joined, s)
	}
	return joined
}

// Ask gives the next message, nil when the walk is over.
func (w *Walk) Ask() *Questions {
	if w.sketch == nil && len(w.pending) == 0 && len(w.pairs) == 0 {
		return nil
	}
	slices.SortFunc(w.pending, Area.before)
	n := min(len(w.pending), maxQuestions)
	w.asked = Questions{Salt: w.salt, Sketch: w.sketch, Areas: w.pending[:n:n]}
	w.pending, w.sketch = w.pending[n:], nil
	for _, d := range w.pairs[:min(len(w.pairs), maxQuestions)] {
		w.asked.Pairs = append(w.asked.Pairs, d.slot)
	}
	return &w.asked
}

// Learn takes the answers to the last Ask.
func (w *Walk) Learn(ctx context.Context, answers Answers) error {
	asked := w.asked
	w.asked = Questions{}
	if len(answers.Areas) != len(asked.Areas) {
		return fmt.Errorf("%w: %d answers to %d questions", ErrHostile, len(answers.Areas), len(asked.Areas))
	}
	if err := w.solve(ctx, len(asked.Pairs), answers.Squares); err != nil {
		return err
	}
	if q := asked.Sketch; q != nil {
		if len(answers.Cells) != q.Cells {
			return fmt.Errorf("%w: a sketch of %d cells, asked for %d", ErrHostile, len(answers.Cells), q.Cells)
		}
		if err := w.readOut(ctx, sketchSpan{q.From, q.Now}, answers.Cells); err != nil {
			return err
		}
	}
	later := 0
	lists := make(map[Area][]uint32)
	for i, a := range answers.Areas {
		area := asked.Areas[i]
		var err error
		switch {
		case a.Later:
			later++
			w.pending = append(w.pending, area)
		case len(a.List) > 0:
			lists[area] = a.List
		case len(a.Parts) > 0:
			err = w.learnParts(ctx, area, a.Parts)
		default:
			err = w.learnRuns(ctx, area, a.Runs)
		}
		if err != nil {
			return err
		}
	}
	if later > 0 && later == len(asked.Areas) {
		return fmt.Errorf("%w: no question was answered", ErrHostile)
	}
	if err := w.match(ctx, asked.Areas, lists); err != nil {
		return err
	}
	if w.found > maxSpans || len(w.pending) > maxSpans {
		return fmt.Errorf("%w: more than %d differences", ErrHostile, maxSpans)
	}
	return nil
}

// learnRuns compares the runs of an area that the other side holds with this
// side's. What lies between them the other side does not have. A run is smaller than
// what was asked, so that the walk gets to an end.
func (w *Walk) learnRuns(ctx context.Context, asked Area, theirs []Run) error {
	if !asked.whole() && len(theirs) > 0 {
		return fmt.Errorf("%w: runs of slots in %s", ErrHostile, asked)
	}
	whole := asked.Span()
	rest := &whole
	for _, t := range theirs {
		if t.Count == 0 || t.First > t.Last || t.First < asked.First || t.Last > asked.Last ||
			t.First == asked.First && t.Last == asked.Last {
			return fmt.Errorf("%w: run of %d events from slot %d to %d in %s", ErrHostile, t.Count, t.First, t.Last, asked)
		}
		area := Area{First: t.First, Last: t.Last}
		var err error
		if rest, err = w.gap(ctx, rest, area.Span()); err != nil {
			return err
		}
		switch mine := w.mine.Tree.run(w.salt, t.First, t.Last); {
		case mine == t:
		case mine.Count == 0:
			w.pull(area.Span())
		default:
			w.pending = append(w.pending, area)
		}
	}
	return w.pushHeld(ctx, rest)
}

// learnParts does the same for parts of a slot.
func (w *Walk) learnParts(ctx context.Context, asked Area, theirs []Part) error {
	if asked.First != asked.Last {
		return fmt.Errorf("%w: parts of a slot in %s", ErrHostile, asked)
	}
	whole := asked.Span()
	rest := &whole
	for _, t := range theirs {
		if t.Count == 0 || t.Range.Nibbles <= asked.within().Nibbles {
			return fmt.Errorf("%w: part %s of %d events in %s", ErrHostile, t.Range, t.Count, asked)
		}
		var err error
		if rest, err = w.gap(ctx, rest, t.Range.Span()); err != nil {
			return err
		}
		if err := w.compare(ctx, t); err != nil {
			return err
		}
	}
	return w.pushHeld(ctx, rest)
}

// gap sends what this side holds between the last part and the next: the other
// side has nothing there. rest is what is left of the area, nil at its end.
func (w *Walk) gap(ctx context.Context, rest *Span, part Span) (*Span, error) {
	if rest == nil || part.From.Compare(rest.From) < 0 || part.To.Compare(rest.To) > 0 {
		return nil, fmt.Errorf("%w: parts overlap or lie outside what was asked", ErrHostile)
	}
	if last, ok := part.From.prev(); ok && rest.From.Compare(last) <= 0 {
		if err := w.pushHeld(ctx, &Span{rest.From, last}); err != nil {
			return nil, err
		}
	}
	if next, ok := part.To.next(); ok && next.Compare(rest.To) <= 0 {
		return &Span{next, rest.To}, nil
	}
	return nil, nil
}

func (w *Walk) compare(ctx context.Context, theirs Part) error {
	mine, err := w.mine.summary(ctx, theirs.Range)
	span := theirs.Range.Span()
	switch {
	case err != nil:
		return err
	case mine.Count == theirs.Count && w.salt.short(mine.Digest) == theirs.Short:
	case mine.Count == 0:
		w.pull(span)
	case theirs.Range.Nibbles == keyNibbles:
		w.push(span)
		w.pull(span)
	default:
		w.pending = append(w.pending, partArea(theirs.Range))
	}
	return nil
}

// match compares lists with this side's items: what only one of them has is sent
// or fetched.
func (w *Walk) match(ctx context.Context, areas []Area, lists map[Area][]uint32) error {
	areas = slices.DeleteFunc(slices.Clone(areas), func(a Area) bool { return lists[a] == nil })
	spans := make([]Span, len(areas))
	for i, a := range areas {
		spans[i] = a.Span()
	}
	at := 0
	var alone *Span // items in a row that the other side lacks
	flush := func() {
		if alone != nil {
			w.push(*alone)
			alone = nil
		}
	}
	finish := func(until int) {
		if at < until {
			flush()
		}
		for ; at < until; at++ {
			if list := lists[areas[at]]; len(list) > 0 {
				w.pick(Pick{Area: areas[at], Listed: true, Hashes: list})
			}
		}
	}
	err := w.mine.scanAll(ctx, spans, func(item Item) {
		here := at
		for !spans[here].Holds(item.Key) {
			here++
		}
		finish(here)
		list := lists[areas[at]]
		if i := slices.Index(list, w.salt.short(item.Digest)); i >= 0 {
			lists[areas[at]] = slices.Delete(list, i, i+1)
			flush()
		} else if alone != nil {
			alone.To = item.Key
		} else {
			alone = &Span{item.Key, item.Key}
		}
	})
	finish(len(areas))
	return err
}

// pushHeld sends a span if there is anything in it.
func (w *Walk) pushHeld(ctx context.Context, span *Span) error {
	if span == nil {
		return nil
	}
	held, err := w.mine.any(ctx, *span)
	if held {
		w.push(*span)
	}
	return err
}

func (w *Walk) push(span Span) { w.found++; w.diff.Push = join(w.diff.Push, span) }
func (w *Walk) pull(span Span) { w.found++; w.diff.Pull.Spans = join(w.diff.Pull.Spans, span) }
func (w *Walk) pick(p Pick)    { w.found++; w.diff.Pull.Picks = append(w.diff.Pull.Picks, p) }

// join appends a span, or lengthens the last one where they touch.
func join(spans []Span, span Span) []Span {
	if n := len(spans); n > 0 {
		if after, ok := spans[n-1].To.next(); ok && after == span.From {
			spans[n-1].To = span.To
			return spans
		}
	}
	return append(spans, span)
}
