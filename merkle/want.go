package merkle

import (
	"iter"
	"slices"
	"sort"
)

// Want names events to fetch: all of some spans, and some of some areas.
//
// Both lists ascend and do not overlap.
type Want struct {
	Salt  Salt
	Spans []Span
	Picks []Pick
}

// Empty reports whether nothing is wanted.
func (w Want) Empty() bool { return len(w.Spans) == 0 && len(w.Picks) == 0 }

// Pick is the events of an area that have one of these short hashes: as a sketch
// yields them, or as this round's lists do.
type Pick struct {
	Area
	Listed bool
	Hashes []uint32
}

// Holds reports whether an item is wanted.
func (w Want) Holds(item Item) bool {
	if i := w.PickOf(item.Key); i >= 0 && w.picks(w.Picks[i], item) {
		return true
	}
	return w.inSpans(item.Key)
}

// Covers reports whether a key lies where something is wanted.
func (w Want) Covers(k Key) bool { return w.PickOf(k) >= 0 || w.inSpans(k) }

// PickOf is the pick in whose area a key lies, -1 when there is none.
func (w Want) PickOf(k Key) int {
	behind := sort.Search(len(w.Picks), func(i int) bool { return w.Picks[i].Span().From.Compare(k) > 0 })
	if behind == 0 || !w.Picks[behind-1].Span().Holds(k) {
		return -1
	}
	return behind - 1
}

func (w Want) inSpans(k Key) bool {
	behind := sort.Search(len(w.Spans), func(i int) bool { return w.Spans[i].From.Compare(k) > 0 })
	return behind > 0 && w.Spans[behind-1].Holds(k)
}

func (w Want) picks(p Pick, item Item) bool {
	hash := uint32(item.element())
	if p.Listed {
		hash = w.Salt.short(item.Digest)
	}
	return slices.Contains(p.Hashes, hash)
}

// Split tells what is certain to be there from what a sketch makes likely.
func (w Want) Split() (certain, guessed Want) {
	certain, guessed = Want{Salt: w.Salt, Spans: w.Spans}, Want{Salt: w.Salt}
	for _, p := range w.Picks {
		if p.Listed {
			certain.Picks = append(certain.Picks, p)
		} else {
			guessed.Picks = append(guessed.Picks, p)
		}
	}
	return certain, guessed
}

// Named is how many events are wanted one by one.
func (w Want) Named() (n int) {
	for _, p := range w.Picks {
		n += len(p.Hashes)
	}
	return n
}

// Messages cuts what is wanted into pieces that fit a message, in no order that
// matters.
func (w Want) Messages() iter.Seq[Want] {
	return func(yield func(Want) bool) {
		for spans := range slices.Chunk(w.Spans, MaxWantSpans) {
			if !yield(Want{Salt: w.Salt, Spans: spans}) {
				return
			}
		}
		first, hashes := 0, 0
		for i, p := range w.Picks {
			if hashes+len(p.Hashes) > maxHashes || i-first == maxWantPicks {
				if !yield(Want{Salt: w.Salt, Picks: w.Picks[first:i]}) {
					return
				}
				first, hashes = i, 0
			}
			hashes += len(p.Hashes)
		}
		if first < len(w.Picks) {
			yield(Want{Salt: w.Salt, Picks: w.Picks[first:]})
		}
	}
}
