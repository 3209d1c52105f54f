package merkle

import (
	"crypto/sha256"
	"encoding/binary"
	"slices"
)

// Tree is an immutable radix tree over slots, sixteen ways a level. Changing it
// makes a new one that shares what did not change, so a comparison can go on
// over a pinned tree while the log moves. The zero Tree is empty.
type Tree struct{ root *node }

// node is a range of up to slotNibbles: an inner one has kids, a leaf has none.
type node struct {
	count  uint64
	digest Digest
	kids   []kid // ascending by nibble, none empty
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
	return Tree{root: apply(t.root, 0, sorted)}
}

// apply rebuilds the node at a level (in nibbles) from changes that all lie in
// it; nil when nothing is left.
func apply(old *node, level uint8, changes []Change) *node {
	if level == slotNibbles {
		leaf := changes[len(changes)-1].Leaf
		if leaf.Count == 0 {
			return nil
		}
		return &node{count: uint64(leaf.Count), digest: leaf.Digest}
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
		if changed := apply(under, level+1, changes[:n]); changed != nil {
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
	s := t.summary(SlotRange(slot))
	return Leaf{Count: uint32(s.Count), Digest: s.Digest}
}

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

// children summarises the non-empty children of a range above a slot.
func (t Tree) children(r Range) []Summary {
	n := t.find(r)
	if n == nil {
		return nil
	}
	list := make([]Summary, len(n.kids))
	for i, k := range n.kids {
		list[i] = Summary{Range: r.child(k.nibble), Count: k.count, Digest: k.digest}
	}
	return list
}

// slots calls yield for each non-empty slot that touches the span, in order,
// until yield says no.
func (t Tree) slots(span Span, yield func(slot int64) bool) {
	var visit func(n *node, r Range) bool
	visit = func(n *node, r Range) bool {
		s := r.Span()
		if s.To.Compare(span.From) < 0 || s.From.Compare(span.To) > 0 {
			return true
		}
		if r.Nibbles == slotNibbles {
			return yield(r.slot())
		}
		for _, k := range n.kids {
			if !visit(k.node, r.child(k.nibble)) {
				return false
			}
		}
		return true
	}
	if t.root != nil {
		visit(t.root, Range{})
	}
}
