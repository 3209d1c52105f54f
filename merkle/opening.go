package merkle

import (
	"crypto/sha256"
	"encoding/binary"
	"math"
)

// Token names something that both sides remember: a state that they agreed on, or
// a list of exceptions. Zero is none.
type Token [8]byte

// hintCount is how many prefixes an opening hashes: the widest reaches 2^13 slots
// back, 99 days.
const hintCount = 14

// Opening is the first message of a comparison, and the last: "all that I hold
// adds up to this root". What else it carries lets the other side see at once
// where to look when its own root is another.
type Opening struct {
	Salt  Salt
	Count uint64
	Root  Digest
	// Exceptions names the list that both sides have left out; Anchor the last
	// agreement.
	Exceptions, Anchor Token
	// Listed is the list itself, sent when the other side does not know it.
	Listed []Exception
	// Plain: no sketch is wanted, one was of no use before. Look: nor is Anchored an
	// answer. Dry: nothing is to be remembered of this comparison.
	Plain, Look, Dry bool
	// Now is the slot that it is at the asking side. Hints are hashes of everything
	// before Now − 2^i + 1, cut to two bytes.
	Now    int64
	Hints  [hintCount]uint16
	Census Narrow
}

// Exception is an event left out of a comparison: its id, and the beginning of
// its digest at the asking side, zero where that has none.
type Exception struct {
	ID     [16]byte
	Digest [16]byte
}

// hintSlot is the first slot that the i-th hint leaves out.
func hintSlot(now int64, i int) int64 { return max(now-1<<i+1, firstSlot) }

// opening is what the tree says of itself at the slot now.
func (t Tree) opening(salt Salt, now int64) Opening {
	root := t.Root()
	o := Opening{Salt: salt, Count: root.Count, Root: root.Digest, Now: now, Census: t.census.narrow()}
	for i := range o.Hints {
		o.Hints[i] = uint16(t.before(salt, hintSlot(now, i)))
	}
	return o
}

// Status is what a reply says.
type Status byte

const (
	// Same: both roots are the same.
	Same Status = iota + 1
	// Anchored: the roots differ, and the other side's is still the one of the
	// agreement that the opening names.
	Anchored
	// Unlisted: the other side does not know the list of exceptions that the opening
	// names.
	Unlisted
	// Different: the roots differ, and this is where.
	Different
)

// Proof is a hash of a root, salted, so that a reply that was remembered or made
// up does not pass.
type Proof [16]byte

// Prove hashes a root: SHA-256(0x04 ‖ salt ‖ count ‖ digest), cut.
func (s Salt) Prove(root Summary) (p Proof) {
	b := binary.BigEndian.AppendUint32([]byte{tagProof}, uint32(s))
	b = binary.BigEndian.AppendUint64(b, root.Count)
	sum := sha256.Sum256(append(b, root.Digest[:]...))
	copy(p[:], sum[:])
	return p
}

// Reply answers an opening.
type Reply struct {
	Status Status
	Proof  Proof // of Same: the root there
	// Settled are listed exceptions that are none any more: both sides hold the same.
	Settled [][16]byte
	// Changed: the other side's events are not those of the agreement that the opening
	// names, the exceptions among them.
	Changed bool
	// Regress is set when the other side remembers more of this installation than
	// it shows.
	Regress *Regress

	Count uint64 // of the events there, the exceptions left out
	Root  Short  // theirs
	// From is the first slot that may differ.
	From int64
	// One of these is set when the status is Different: a sketch, the census to ask
	// for a larger one by, or what the other side holds.
	Cells []Cell
	Wide  *Wide
	Runs  []Run
}

// Short is the beginning of a root's digest, for people and for bookkeeping.
type Short [6]byte

// ShortOf is the beginning of a digest.
func ShortOf(d Digest) Short { return Short(d[:6]) }

// Regress says what the other side remembers of an installation that has gone
// back in time: a restored backup, a disk image, a clone.
type Regress struct {
	Count uint64 // events at the last agreement
	Root  Short
	At    int64 // of that agreement, ms since 1970
}

// Respond compares an opening with this side's tree: Same, or Different and where.
func Respond(tree Tree, o Opening) Reply {
	root := tree.Root()
	if root.Count == o.Count && root.Digest == o.Root {
		return Reply{Status: Same, Proof: o.Salt.Prove(root)}
	}
	r := Reply{Status: Different, Count: root.Count, Root: ShortOf(root.Digest), From: firstSlot}
	for i, theirs := range o.Hints {
		if slot := hintSlot(o.Now, i); uint16(tree.before(o.Salt, slot)) == theirs {
			r.From = slot
			break
		}
	}
	apart := tree.census.apart(o.Census)
	switch {
	case o.Plain, root.Count == 0, o.Count == 0, tree.dense(r.From, apart, root.Count, o.Count):
		r.Runs = tree.runs(o.Salt, r.From, lastSlot, runsAtOnce)
	case apart > narrowAtMost:
		r.Wide = tree.census.wide()
	default:
		r.Cells = tree.sketch(o.Salt, sketchSpan{r.From, o.Now}, cellsFor(apart, len(o.Census)))
	}
	return r
}

// dense reports whether the sides differ in whole stretches rather than in
// scattered events: a walk is cheaper then than a sketch. It is so when they
// differ in half of the slots, or in several events a slot.
func (t Tree) dense(from int64, apart float64, mine, theirs uint64) bool {
	_, slots := t.events(from, lastSlot)
	few := apart <= narrowAtMost
	return float64(slots) < 2*apart && (few || from != firstSlot) || few && math.Abs(float64(mine)-float64(theirs)) > 4*apart+4
}
