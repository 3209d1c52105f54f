package merkle

import (
	"fmt"
	"math"
)

// Area is what one question is about: a run of slots, or a part of one slot.
type Area struct {
	First, Last int64
	// Part is longer than a slot's range where the area is a part of a slot; else
	// zero.
	Part Range
}

// The ends of time, in slots.
const (
	firstSlot = math.MinInt64 >> SlotBits
	lastSlot  = math.MaxInt64 >> SlotBits
)

func slotArea(slot int64) Area { return Area{First: slot, Last: slot} }

func partArea(r Range) Area { return Area{First: r.slot(), Last: r.slot(), Part: r} }

// Span is the area as a span of keys.
func (a Area) Span() Span {
	if a.whole() {
		return Span{SlotRange(a.First).Span().From, SlotRange(a.Last).Span().To}
	}
	return a.Part.Span()
}

// whole reports whether the area is of whole slots.
func (a Area) whole() bool { return a.Part.Nibbles == 0 }

// within is the range of an area that is one slot or a part of one.
func (a Area) within() Range {
	if a.whole() {
		return SlotRange(a.First)
	}
	return a.Part
}

func (a Area) before(b Area) int { return a.Span().From.Compare(b.Span().From) }

// String names the area for errors.
func (a Area) String() string {
	if a.whole() {
		return fmt.Sprintf("slots %d to %d", a.First, a.Last)
	}
	return "range " + a.Part.String()
}

// Run is what one side holds of a run of slots, from the first that holds
// anything to the last: how many events, and their leaves' short hash.
type Run struct {
	First, Last int64
	Count       uint64
	Short       uint32
}

// run sums up what the tree holds in some slots.
func (t Tree) run(salt Salt, first, last int64) Run {
	r := Run{First: first, Last: last}
	state := salt.start()
	t.leaves(first, func(slot int64, leaf Leaf) bool {
		if slot > last {
			return false
		}
		r.Count += uint64(leaf.Count)
		state = absorb(mix(state^uint64(slot)), leaf.Digest)
		return true
	})
	r.Short = uint32(state >> (64 - 8*shortBytes))
	return r
}

// runs divides what the tree holds in some slots into at most n runs of about as
// many slots each, in order.
func (t Tree) runs(salt Salt, first, last int64, n int) []Run {
	var held []int64
	t.leaves(first, func(slot int64, _ Leaf) bool {
		if slot <= last {
			held = append(held, slot)
		}
		return slot < last
	})
	n = min(n, len(held))
	runs := make([]Run, n)
	for i := range runs {
		runs[i] = t.run(salt, held[i*len(held)/n], held[(i+1)*len(held)/n-1])
	}
	return runs
}

// events counts those in some slots, and the slots that hold any.
func (t Tree) events(first, last int64) (events uint64, slots int) {
	t.leaves(first, func(slot int64, leaf Leaf) bool {
		if slot > last {
			return false
		}
		events += uint64(leaf.Count)
		slots++
		return true
	})
	return events, slots
}
