package merkle

import (
	"crypto/sha256"
	"encoding/binary"
	"hash"
)

// DigestVersion names the way digests are taken. Two sides compare only when
// they take them the same way; a leaf of another version is computed anew.
const DigestVersion = 1

// Domain tags keep an item, a leaf, a node and a part of a slot from ever having
// the same digest (RFC 6962 does so for leaf and node).
const (
	tagItem byte = iota
	tagLeaf
	tagNode
	tagPart
	tagProof
	tagAgreement
	tagList
)

// Digest is a SHA-256.
type Digest [sha256.Size]byte

// Item is an event as a comparison sees it.
type Item struct {
	Key    Key
	Digest Digest
}

// Content is what an event says, as far as both sides must agree on it. Said is
// the payload as jsonb's own text; nil stands for NULL.
type Content struct {
	Store, Device [16]byte
	Seq           int64
	Type          string
	Version       int32
	Said          []byte
}

// NewItem digests an event: SHA-256(0x00 ‖ id ‖ time ‖ content), where content
// is the SHA-256 of the fields one after another, each behind its tag and
// length, so that no text can move from one field into the next.
func NewItem(key Key, c Content) Item {
	var room [1024]byte // on the stack: most events allocate nothing
	f := appendField(room[:0], c.Store[:])
	f = appendField(f, c.Device[:])
	f = binary.BigEndian.AppendUint64(append(f, 1, 0, 0, 0, 8), uint64(c.Seq))
	f = appendField(f, c.Type)
	f = binary.BigEndian.AppendUint32(append(f, 1, 0, 0, 0, 4), uint32(c.Version))
	if c.Said == nil {
		f = append(f, 0)
	} else {
		f = appendField(f, c.Said)
	}
	content := sha256.Sum256(f)
	var b [1 + 16 + 8 + sha256.Size]byte
	b[0] = tagItem
	copy(b[1:], key.ID[:])
	binary.BigEndian.PutUint64(b[17:], uint64(key.At))
	copy(b[25:], content[:])
	return Item{Key: key, Digest: sha256.Sum256(b[:])}
}

// appendField appends 0x01, the length in four bytes, the bytes. NULL is 0x00.
func appendField[T string | []byte](to []byte, field T) []byte {
	to = binary.BigEndian.AppendUint32(append(to, 1), uint32(len(field)))
	return append(to, field...)
}

// Leaf is a slot: how many events it holds, their digest, and the sum of their
// short hashes in the sketch's field.
type Leaf struct {
	Count  uint32
	Digest Digest
	Sum    uint32
}

// LeafBuilder digests a slot's items, added in key order:
// SHA-256(0x01 ‖ slot ‖ count ‖ items). An ordered hash, not a sum: whoever
// chooses items could forge a sum. The sum that stands beside it finds differences
// fast and proves nothing.
type LeafBuilder struct {
	digests []byte
	sum     element
}

// Add appends the next item.
func (b *LeafBuilder) Add(item Item) {
	b.digests = append(b.digests, item.Digest[:]...)
	b.sum = b.sum.plus(item.element())
}

// Leaf digests what was added, and starts over. An empty slot is the zero Leaf.
func (b *LeafBuilder) Leaf(slot int64) Leaf {
	count := len(b.digests) / sha256.Size
	if count == 0 {
		return Leaf{}
	}
	var head [1 + 8 + 8]byte
	head[0] = tagLeaf
	binary.BigEndian.PutUint64(head[1:], uint64(slot))
	binary.BigEndian.PutUint64(head[9:], uint64(count))
	h := sha256.New()
	h.Write(head[:])
	h.Write(b.digests)
	leaf := Leaf{Count: uint32(count), Sum: uint32(b.sum)}
	h.Sum(leaf.Digest[:0])
	b.digests, b.sum = b.digests[:0], 0
	return leaf
}

// part digests a range below a slot: SHA-256(0x03 ‖ nibbles ‖ prefix ‖ items ‖
// count), with the count last so that items need not be held.
type part struct {
	of    Range
	hash  hash.Hash
	count uint64
	only  Digest
}

func newPart(of Range) *part {
	p := &part{of: of, hash: sha256.New()}
	p.hash.Write([]byte{tagPart, of.Nibbles})
	p.hash.Write(of.Prefix[:])
	return p
}

func (p *part) add(item Item) {
	p.hash.Write(item.Digest[:])
	p.count++
	p.only = item.Digest
}

// summary of the part; that of a single key is the item's own digest.
func (p *part) summary() Summary {
	s := Summary{Range: p.of, Count: p.count}
	switch {
	case p.count == 0:
	case p.of.Nibbles == keyNibbles:
		s.Digest = p.only
	default:
		p.hash.Write(binary.BigEndian.AppendUint64(nil, p.count))
		p.hash.Sum(s.Digest[:0])
	}
	return s
}

// Summary is what one side says of a range: how many events it holds there and
// their digest, zero when there are none.
type Summary struct {
	Range  Range
	Count  uint64
	Digest Digest
}
