package merkle

import (
	"crypto/sha256"
	"encoding/binary"
	"slices"
)

// Tree is an immutable radix tree over slots, sixteen ways a level. Changing it
// makes a new one that shares what did not change, so a comparison can go on
// over a pinned tree while the log moves. The zero Tree is empty.
type Tree struct {
	root   *node
	census census
}

// node is a range of up to slotNibbles: an inner one has kids, a leaf has none.
type node struct {
	count  uint64
	digest Digest
	sum    uint32 // of a leaf
	kids   []kid  // ascending by nibble, none empty
}

type kid struct {
	nibble byte
	*node
}

// Change gives a slot its new leaf; one without events takes the slot out.
type Change struct {
	Slot int64
	Leaf Leaf
}

// Apply is the tree with the changes made. Each node on their way is hashed
// once, however many changes lie below it. Of two changes to a slot the later
// one counts.
func (t Tree) Apply(changes []Change) Tree {
	if len(changes) == 0 {
		return t
	}
	sorted := slices.Clone(changes)
	slices.SortStableFunc(sorted, func(a, b Change) int {
		return SlotRange(a.Slot).Span().From.Compare(SlotRange(b.Slot).Span().From)
	})
	next := Tree{census: t.census}
	next.root = next.apply(t.root, 0, sorted)
	return next
}

// apply rebuilds the node at a level (in nibbles) from changes that all lie in
// it; nil when nothing is left. It keeps the census.
func (t *Tree) apply(old *node, level uint8, changes []Change) *node {
	if level == slotNibbles {
		leaf := changes[len(changes)-1].Leaf
		if old != nil {
			t.census.count(old.digest, -1)
		}
		if leaf.Count == 0 {
			return nil
		}
		t.census.count(leaf.Digest, 1)
		return &node{count: uint64(leaf.Count), digest: leaf.Digest, sum: leaf.Sum}
	}
	var before []kid
	if old != nil {
		before = old.kids
	}
	after := make([]kid, 0, len(before)+1)
	for len(changes) > 0 {
		nibble := SlotRange(changes[0].Slot).nibble(level)
		n := 1
		for n < len(changes) && SlotRange(changes[n].Slot).nibble(level) == nibble {
			n++
		}
		for len(before) > 0 && before[0].nibble < nibble {
			after = append(after, before[0])
			before = before[1:]
		}
		var under *node
		if len(before) > 0 && before[0].nibble == nibble {
			under = before[0].node
			before = before[1:]
		}
		if changed := t.apply(under, level+1, changes[:n]); changed != nil {
			after = append(after, kid{nibble, changed})
		}
		changes = changes[n:]
	}
	after = append(after, before...)
	if len(after) == 0 {
		return nil
	}
	return newNode(level, after)
}

// newNode digests an inner node: SHA-256(0x02 ‖ level ‖ for each kid its nibble,
// count and digest).
func newNode(level uint8, kids []kid) *node {
	n := &node{kids: kids}
	b := make([]byte, 0, 2+len(kids)*(1+8+sha256.Size))
	b = append(b, tagNode, level)
	for _, k := range kids {
		n.count += k.count
		b = append(b, k.nibble)
		b = binary.BigEndian.AppendUint64(b, k.count)
		b = append(b, k.digest[:]...)
	}
	n.digest = sha256.Sum256(b)
	return n
}

// Root is the summary of everything.
func (t Tree) Root() Summary { return t.summary(Range{}) }

// Leaf is the slot's leaf, zero when the slot is empty.
func (t Tree) Leaf(slot int64) Leaf {
	n := t.find(SlotRange(slot))
	if n == nil {
		return Leaf{}
	}
	return n.leaf()
}

func (n *node) leaf() Leaf { return Leaf{Count: uint32(n.count), Digest: n.digest, Sum: n.sum} }

// summary of a range of up to slotNibbles.
func (t Tree) summary(r Range) Summary {
	s := Summary{Range: r}
	if n := t.find(r); n != nil {
		s.Count, s.Digest = n.count, n.digest
	}
	return s
}

func (t Tree) find(r Range) *node {
	n := t.root
	for level := uint8(0); n != nil && level < r.Nibbles; level++ {
		n = n.kid(r.nibble(level))
	}
	return n
}

func (n *node) kid(nibble byte) *node {
	i, found := slices.BinarySearchFunc(n.kids, nibble, func(k kid, want byte) int { return int(k.nibble) - int(want) })
	if !found {
		return nil
	}
	return n.kids[i].node
}

// slots calls yield for each non-empty slot that touches the span, in order,
// until yield says no.
func (t Tree) slots(span Span, yield func(slot int64) bool) {
	to := span.To.Slot()
	t.leaves(span.From.Slot(), func(slot int64, _ Leaf) bool { return slot <= to && yield(slot) })
}

// leaves calls yield for each non-empty slot from first on, in order, until yield
// says no.
func (t Tree) leaves(first int64, yield func(int64, Leaf) bool) {
	var visit func(n *node, r Range, bounded bool) bool
	from := SlotRange(first)
	visit = func(n *node, r Range, bounded bool) bool {
		if r.Nibbles == slotNibbles {
			return yield(r.slot(), n.leaf())
		}
		for _, k := range n.kids {
			edge := from.nibble(r.Nibbles)
			if bounded && k.nibble < edge {
				continue
			}
			if !visit(k.node, r.child(k.nibble), bounded && k.nibble == edge) {
				return false
			}
		}
		return true
	}
	if t.root != nil {
		visit(t.root, Range{}, true)
	}
}

// bounds are the lowest and the highest slot that hold events; of an empty tree,
// none.
func (t Tree) bounds() (lowest, highest int64) {
	end := func(last bool) int64 {
		r := Range{}
		for n := t.root; n != nil && r.Nibbles < slotNibbles; {
			k := n.kids[0]
			if last {
				k = n.kids[len(n.kids)-1]
			}
			n, r = k.node, r.child(k.nibble)
		}
		return r.slot()
	}
	if t.root == nil {
		return 0, -1
	}
	return end(false), end(true)
}

// before hashes everything in slots before one.
func (t Tree) before(salt Salt, slot int64) uint64 {
	state := salt.start()
	path := SlotRange(slot)
	for n, level := t.root, uint8(0); n != nil && level < slotNibbles; level++ {
		edge := path.nibble(level)
		for _, k := range n.kids {
			if k.nibble < edge {
				// With its place, since nothing else tells where the digest stands.
				state = absorb(state+uint64(level)<<8+uint64(k.nibble)+1, k.digest)
			}
		}
		n = n.kid(edge)
	}
	return mix(state)
}
