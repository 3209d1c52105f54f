package merkle

import (
	"cmp"
	"math"
	"slices"
)

// A sketch is a short sum of all slots of a span. Two sides' sketches subtracted
// leave the slots that differ, and those can be read out when there are not too
// many, whatever the number that are the same.
//
// Each slot is added to cell 0 and to ever fewer of the cells behind it, as in a
// rateless invertible Bloom lookup table (Yang, Gilad, Alizadeh, "Practical
// Rateless Set Reconciliation", SIGCOMM 2024). What is summed is not a slot's
// digest but the sum of its items' short hashes, once plain and once times the
// slot's number: a cell where one slot is left gives that slot by a division, and
// the difference between both sides' sums there. If that is a single event, it
// is the event's own short hash: found without another message.

// Cell is a part of a sketch: nine bytes on the wire.
type Cell struct {
	sum   element // of the slots' sums
	moved element // of the slots' sums times their numbers
	count uint8   // of events, modulo 256
}

// cellBytes is a cell's size on the wire.
const cellBytes = 9

// maxCells bounds a sketch: above it a walk is cheaper.
const maxCells = 1 << 17

func (c *Cell) add(number element, sum element, count uint8) {
	c.sum = c.sum.plus(sum)
	c.moved = c.moved.plus(sum.times(number))
	c.count += count
}

func (c *Cell) subtract(o Cell) {
	c.sum, c.moved, c.count = c.sum.minus(o.sum), c.moved.minus(o.moved), c.count-o.count
}

// cells walks through the cells that a slot is in: cell 0, then steps that grow
// so that cell i has the slot with a chance of 1/(1+i/2).
type cells struct {
	state uint64
	at    uint64
}

func (s Salt) cells(slot int64) cells { return cells{state: mix(s.start() ^ uint64(slot)*golden)} }

func (c *cells) next() {
	c.state += golden
	r := float64(mix(c.state)>>11+1) / (1 << 53) // in (0, 1]
	// The conversions keep the compiler from fusing operations, which would round
	// differently from one machine to the next.
	step := math.Ceil(float64((float64(c.at) + 1.5) * float64(1/math.Sqrt(r)-1)))
	c.at += uint64(max(1, min(step, maxCells)))
}

// sketchSpan is the slots that a sketch is taken of: those from a slot on, and
// not so far from now that their number would not fit the field. What lies
// outside, at the ends of time, is left to the walk.
type sketchSpan struct{ from, now int64 }

// sketchReach is how many slots a sketch goes back from now and beyond it: some
// 35,000 years.
const sketchReach = 1 << 30

func (s sketchSpan) first() int64 { return max(s.from, s.now-sketchReach) }

// number counts slots from the first, beginning with 1.
func (s sketchSpan) number(slot int64) (element, bool) {
	if slot < s.first() || slot > s.now+sketchReach {
		return 0, false
	}
	return element(slot-s.first()) + 1, true
}

func (s sketchSpan) slot(number element) int64 { return s.first() + int64(number) - 1 }

// sketch sums the tree's slots in the span into n cells.
func (t Tree) sketch(salt Salt, span sketchSpan, n int) []Cell {
	sums := make([]Cell, n)
	t.leaves(span.first(), func(slot int64, leaf Leaf) bool {
		number, ok := span.number(slot)
		if !ok {
			return false // slots ascend: the rest lie behind the span too
		}
		for c := salt.cells(slot); c.at < uint64(n); c.next() {
			sums[c.at].add(number, element(leaf.Sum), uint8(leaf.Count))
		}
		return true
	})
	return sums
}

// slotDiff is a slot that a sketch has shown to differ: this side's sum and count
// less the other's.
type slotDiff struct {
	slot  int64
	sum   element
	count int8
}

// readOut finds the slots that differ between the tree and another side's sketch,
// in order; false when there are too many of them for its cells.
func (t Tree) readOut(salt Salt, span sketchSpan, theirs []Cell) ([]slotDiff, bool) {
	left := t.sketch(salt, span, len(theirs))
	for i := range left {
		left[i].subtract(theirs[i])
	}
	// The other side may hold slots that are newer than all that is here.
	lowest, highest := t.bounds()
	highest = max(highest, span.now+sketchAhead)
	var found []slotDiff
	look := make([]int, len(left))
	for i := range look {
		look[i] = len(left) - 1 - i // the last ones hold the fewest slots
	}
	for len(look) > 0 && len(found) <= len(theirs) {
		i := look[0]
		look = look[1:]
		cell := left[i]
		if cell.sum == 0 {
			continue
		}
		slot := span.slot(cell.moved.over(cell.sum))
		if slot < lowest || slot > highest || !salt.holds(slot, i) {
			continue
		}
		number, _ := span.number(slot)
		for c := salt.cells(slot); c.at < uint64(len(left)); c.next() {
			left[c.at].subtract(Cell{cell.sum, cell.sum.times(number), cell.count})
			look = append(look, int(c.at))
		}
		found = append(found, slotDiff{slot, cell.sum, int8(cell.count)})
	}
	if slices.ContainsFunc(left, func(c Cell) bool { return c != Cell{} }) {
		return nil, false
	}
	return merged(found), true
}

// merged sorts by slot, and takes back what was read out wrongly and then read
// out the other way round.
func merged(found []slotDiff) (list []slotDiff) {
	slices.SortFunc(found, func(a, b slotDiff) int { return cmp.Compare(a.slot, b.slot) })
	for _, d := range found {
		if n := len(list); n > 0 && list[n-1].slot == d.slot {
			list[n-1].sum = list[n-1].sum.plus(d.sum)
			list[n-1].count += d.count
		} else {
			list = append(list, d)
		}
	}
	return slices.DeleteFunc(list, func(d slotDiff) bool { return d.sum == 0 && d.count == 0 })
}

// sketchAhead is how many slots beyond now a slot may lie that is held only there:
// a day.
const sketchAhead = 1 << 7

// holds reports whether a cell is one of the slot's.
func (s Salt) holds(slot int64, cell int) bool {
	c := s.cells(slot)
	for c.at < uint64(cell) {
		c.next()
	}
	return c.at == uint64(cell)
}
