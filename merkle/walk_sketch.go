package merkle

import (
	"context"
	"fmt"
	"slices"
)

// size asks for a sketch that is large enough, or walks where one would not pay.
func (w *Walk) size(from int64, theirs *Wide) {
	apart := w.mine.Tree.census.apartWide(theirs)
	n := cellsFor(apart, len(theirs))
	if _, slots := w.mine.Tree.events(from, lastSlot); float64(slots) < 2*apart || n > maxCells {
		w.pending = append(w.pending, Area{First: from, Last: lastSlot})
		return
	}
	w.sketch = &SketchQuestion{From: from, Now: w.now, Cells: n}
}

// readOut turns a sketch into what differs. One event too many in a slot is found
// by its hash alone; several are asked about. A sketch that was too small is asked
// for twice as large; one that cannot be read out at all leaves everything to the
// walk.
func (w *Walk) readOut(ctx context.Context, span sketchSpan, theirs []Cell) error {
	diffs, ok := w.mine.Tree.readOut(w.salt, span, theirs)
	switch {
	case !ok && w.sketches < 2 && len(theirs) <= maxCells/2:
		w.sketches++
		w.sketch = &SketchQuestion{From: span.from, Now: span.now, Cells: 2 * len(theirs)}
		return nil
	case !ok, len(diffs) == 0:
		w.pending = append(w.pending, Area{First: span.from, Last: lastSlot})
		return nil
	}
	var single []slotDiff // with one event that the other side lacks
	for _, d := range diffs {
		area, leaf := slotArea(d.slot), w.mine.Tree.Leaf(d.slot)
		switch {
		case leaf.Count == 0:
			w.pull(area.Span())
		case d.sum == element(leaf.Sum) && d.count == int8(leaf.Count):
			w.push(area.Span())
		case d.count == -1:
			w.pick(Pick{Area: area, Hashes: hashesOf([]element{d.sum.negative()})})
		case d.count == 1:
			single = append(single, d)
		case d.count == 0, d.count == 2, d.count == -2:
			w.pairs = append(w.pairs, d)
		default:
			w.pending = append(w.pending, area)
		}
	}
	return w.pushSingles(ctx, single)
}

// pushSingles looks for the events that the other side lacks by their hashes.
func (w *Walk) pushSingles(ctx context.Context, diffs []slotDiff) error {
	spans := make([]Span, len(diffs))
	for i, d := range diffs {
		spans[i] = slotArea(d.slot).Span()
	}
	at, met := 0, make([]bool, len(diffs))
	err := w.mine.scanAll(ctx, spans, func(item Item) {
		for diffs[at].slot < item.Key.Slot() {
			at++
		}
		if item.element() == diffs[at].sum {
			met[at] = true
			w.push(Span{item.Key, item.Key})
		}
	})
	for i, d := range diffs {
		if !met[i] {
			w.pending = append(w.pending, slotArea(d.slot))
		}
	}
	return err
}

// solve finds the two events that each of the first n pairs differs by. What is not
// explained by two is asked about.
func (w *Walk) solve(ctx context.Context, n int, theirs []Square) error {
	if len(theirs) > n {
		return fmt.Errorf("%w: %d squares for %d pairs", ErrHostile, len(theirs), n)
	}
	diffs := w.pairs[:n]
	w.pairs = w.pairs[n:]
	for _, d := range diffs[len(theirs):] {
		w.pending = append(w.pending, slotArea(d.slot))
	}
	diffs = diffs[:len(theirs)]
	mine := make([][]Item, len(diffs))
	spans := make([]Span, len(diffs))
	for i, d := range diffs {
		spans[i] = slotArea(d.slot).Span()
	}
	at := 0
	err := w.mine.scanAll(ctx, spans, func(item Item) {
		for diffs[at].slot < item.Key.Slot() {
			at++
		}
		mine[at] = append(mine[at], item)
	})
	if err != nil {
		return err
	}
	for i, d := range diffs {
		var sum element
		hashes := make([]element, len(mine[i]))
		for j, item := range mine[i] {
			hashes[j] = item.element()
			sum = sum.plus(hashes[j].times(hashes[j]))
		}
		here, there, ok := d.pair(sum.minus(element(theirs[i])), hashes)
		if !ok {
			w.pending = append(w.pending, slotArea(d.slot))
			continue
		}
		for j, item := range mine[i] {
			if slices.Contains(here, hashes[j]) {
				w.push(Span{item.Key, item.Key})
			}
		}
		if len(there) > 0 {
			w.pick(Pick{Area: slotArea(d.slot), Hashes: hashesOf(there)})
		}
	}
	return nil
}

func hashesOf(elements []element) (list []uint32) {
	for _, e := range elements {
		list = append(list, uint32(e))
	}
	return list
}
