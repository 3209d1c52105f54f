package merkle

import (
	"context"
	"errors"
	"fmt"
	"slices"
)

// Limits of one message. They bound what a peer can make this side hold.
const (
	maxQuestions = 512
	maxEntries   = 1 << 12 // of one answer
	listAtMost   = 64      // items: below that a range is listed, not split
	coverAtLeast = 16      // entries: an answer goes on splitting up to here
	// maxSpans bounds what a walk may collect. Beyond it the peer is hostile, or
	// the next round goes on.
	maxSpans = 1 << 20
)

// ErrHostile: the peer's answer breaks the rules of the walk.
var ErrHostile = errors.New("answer breaks the protocol")

// Question asks about a range by saying what this side holds there.
type Question = Summary

// Answer is "the same", or else what the other side holds in the range: parts
// of it in order, none empty, none overlapping, and nothing outside them.
type Answer struct {
	Same  bool
	Parts []Summary
}

// Diff is what a walk found: the spans to send, the spans to fetch. A key whose
// content differs is in both.
type Diff struct{ Push, Pull []Span }

// Empty reports whether the two sides are the same.
func (d Diff) Empty() bool { return len(d.Push) == 0 && len(d.Pull) == 0 }

// Walk is the asking side. It goes down from the root, only where the two sides
// differ: Ask, send, Learn the answers, until Ask has no more questions.
type Walk struct {
	mine    View
	pending []Range
	asked   []Question
	diff    Diff
}

// NewWalk begins at the root of everything.
func NewWalk(mine View) *Walk { return &Walk{mine: mine, pending: []Range{{}}} }

// Diff is what has been found so far, in key order; all of it once Ask has no more
// questions.
func (w *Walk) Diff() Diff { return Diff{Push: ordered(w.diff.Push), Pull: ordered(w.diff.Pull)} }

// ordered sorts spans, which never overlap, and joins those that touch.
func ordered(spans []Span) []Span {
	slices.SortFunc(spans, func(a, b Span) int { return a.From.Compare(b.From) })
	var joined []Span
	for _, s := range spans {
		joined = join(joined, s)
	}
	return joined
}

// Ask gives the next message's questions, none when the walk is over.
func (w *Walk) Ask(ctx context.Context) ([]Question, error) {
	n := min(len(w.pending), maxQuestions)
	w.asked = make([]Question, n)
	for i, r := range w.pending[:n] {
		var err error
		if w.asked[i], err = w.mine.summary(ctx, r); err != nil {
			return nil, err
		}
	}
	w.pending = w.pending[n:]
	return w.asked, nil
}

// Learn takes the answers to the questions of the last Ask, in their order.
func (w *Walk) Learn(ctx context.Context, answers []Answer) error {
	if len(answers) != len(w.asked) {
		return fmt.Errorf("%w: %d answers to %d questions", ErrHostile, len(answers), len(w.asked))
	}
	for i, a := range answers {
		if a.Same {
			continue
		}
		if err := w.learn(ctx, w.asked[i].Range, a.Parts); err != nil {
			return err
		}
	}
	w.asked = nil
	if len(w.diff.Push)+len(w.diff.Pull)+len(w.pending) > maxSpans {
		return fmt.Errorf("%w: more than %d spans", ErrHostile, maxSpans)
	}
	return nil
}

// learn compares the parts of r that the other side holds with this side's. What
// lies between them the other side does not have.
func (w *Walk) learn(ctx context.Context, r Range, theirs []Summary) error {
	whole := r.Span()
	from, more := whole.From, true
	for _, t := range theirs {
		span := t.Range.Span()
		// A part is smaller than what was asked, so the walk gets to an end.
		if !r.contains(t.Range) || t.Count == 0 || !more || span.From.Compare(from) < 0 ||
			t.Range.Nibbles == r.Nibbles {
			return fmt.Errorf("%w: part %s of %s", ErrHostile, t.Range, r)
		}
		if last, ok := span.From.prev(); ok && from.Compare(last) <= 0 {
			if err := w.push(ctx, Span{from, last}); err != nil {
				return err
			}
		}
		if err := w.compare(ctx, t); err != nil {
			return err
		}
		from, more = span.To.next()
	}
	if more && from.Compare(whole.To) <= 0 {
		return w.push(ctx, Span{from, whole.To})
	}
	return nil
}

func (w *Walk) compare(ctx context.Context, theirs Summary) error {
	mine, err := w.mine.summary(ctx, theirs.Range)
	span := theirs.Range.Span()
	switch {
	case err != nil:
		return err
	case mine.same(theirs):
	case mine.Count == 0:
		w.diff.Pull = join(w.diff.Pull, span)
	case theirs.Range.Nibbles == keyNibbles:
		w.diff.Push = join(w.diff.Push, span)
		w.diff.Pull = join(w.diff.Pull, span)
	default:
		w.pending = append(w.pending, theirs.Range)
	}
	return nil
}

func (w *Walk) push(ctx context.Context, span Span) error {
	held, err := w.mine.any(ctx, span)
	if held {
		w.diff.Push = join(w.diff.Push, span)
	}
	return err
}

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

// Reply is the answering side. It keeps nothing between messages: each is
// answered from the view as it is then.
func Reply(ctx context.Context, mine View, questions []Question) ([]Answer, error) {
	answers := make([]Answer, len(questions))
	for i, q := range questions {
		own, err := mine.summary(ctx, q.Range)
		if err != nil {
			return nil, err
		}
		if own.same(q) {
			answers[i].Same = true
			continue
		}
		if answers[i].Parts, err = mine.split(ctx, own); err != nil {
			return nil, err
		}
	}
	return answers, nil
}

// split lists a range's items where they are few, else its parts: children of
// children, the fullest first, until there are enough of them. A chain of single
// children costs nothing that way.
func (v View) split(ctx context.Context, whole Summary) ([]Summary, error) {
	if whole.Count == 0 {
		return nil, nil
	}
	if whole.Count <= listAtMost {
		return v.items(ctx, whole.Range)
	}
	parts, err := v.children(ctx, whole.Range)
	for err == nil && len(parts) < coverAtLeast {
		fullest := 0
		for i, p := range parts {
			if p.Count > parts[fullest].Count {
				fullest = i
			}
		}
		if len(parts) == 0 || parts[fullest].Count <= listAtMost {
			break
		}
		var inside []Summary
		if inside, err = v.children(ctx, parts[fullest].Range); err == nil {
			parts = append(parts[:fullest], append(inside, parts[fullest+1:]...)...)
		}
	}
	return parts, err
}
