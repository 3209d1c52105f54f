// Package merkle compares two sets of events by digests, without I/O of its own:
// what an event's digest is, a persistent tree over time slots, the messages of
// a comparison, and the two sides of it.
//
// An event's key is its time and its id, 48 hex digits (nibbles). A Range is all
// keys that begin with some nibbles; the tree has a node for every range of up
// to 11 nibbles, and a range of exactly 11 is a slot of 2^20 ms, the smallest
// range whose digest is kept. Below a slot, digests are computed from its items.
//
// What the package promises: a comparison ends, whatever the peer sends; memory
// is bounded by the limits of a message; and when both sides stand still, what
// comparisons under a few salts yield is exactly the symmetric difference and the
// conflicts.
package merkle

import (
	"bytes"
	"encoding/binary"
	"fmt"
)

const (
	keyBytes    = 24
	keyNibbles  = 2 * keyBytes
	slotNibbles = 11
	// SlotBits is the width of a slot: 2^20 ms, about 17.5 minutes.
	SlotBits = 20
)

// Key orders events: by time in milliseconds since 1970, then by id.
type Key struct {
	At int64
	ID [16]byte
}

// Slot is the slot that k lies in: its time divided by 2^SlotBits, rounded down.
func (k Key) Slot() int64 { return k.At >> SlotBits }

// Compare is -1, 0 or 1 as k lies before, on or after other.
func (k Key) Compare(other Key) int {
	a, b := k.bytes(), other.bytes()
	return bytes.Compare(a[:], b[:])
}

// bytes puts keys in an order that bytes.Compare sees: time with its sign bit
// turned, big-endian, then the id.
func (k Key) bytes() (b [keyBytes]byte) {
	binary.BigEndian.PutUint64(b[:8], uint64(k.At)^1<<63)
	copy(b[8:], k.ID[:])
	return b
}

func keyOf(b [keyBytes]byte) (k Key) {
	k.At = int64(binary.BigEndian.Uint64(b[:8]) ^ 1<<63)
	copy(k.ID[:], b[8:])
	return k
}

// next is the key after k, and false after the last one.
func (k Key) next() (Key, bool) {
	b := k.bytes()
	for i := keyBytes - 1; i >= 0; i-- {
		b[i]++
		if b[i] != 0 {
			return keyOf(b), true
		}
	}
	return k, false
}

// prev is the key before k, and false before the first one.
func (k Key) prev() (Key, bool) {
	b := k.bytes()
	for i := keyBytes - 1; i >= 0; i-- {
		b[i]--
		if b[i] != 0xff {
			return keyOf(b), true
		}
	}
	return k, false
}

// Span is every key from From to To, both included.
type Span struct{ From, To Key }

// Holds reports whether k lies in the span.
func (s Span) Holds(k Key) bool { return s.From.Compare(k) <= 0 && k.Compare(s.To) <= 0 }

// Range is every key that begins with the first Nibbles nibbles of Prefix; the
// rest of Prefix is zero. The zero Range is everything.
type Range struct {
	Prefix  [keyBytes]byte
	Nibbles uint8
}

// SlotRange is the range of one slot.
func SlotRange(slot int64) Range {
	k := Key{At: slot << SlotBits}
	return Range{Prefix: k.bytes(), Nibbles: slotNibbles}
}

// KeyRange is the range of one key.
func KeyRange(k Key) Range { return Range{Prefix: k.bytes(), Nibbles: keyNibbles} }

// slot is the slot that a range of at least slotNibbles lies in.
func (r Range) slot() int64 { return keyOf(r.Prefix).Slot() }

// Span is the range as a span.
func (r Range) Span() Span {
	last := r.Prefix
	if r.Nibbles%2 == 1 {
		last[r.Nibbles/2] |= 0x0f
	}
	for i := (int(r.Nibbles) + 1) / 2; i < keyBytes; i++ {
		last[i] = 0xff
	}
	return Span{From: keyOf(r.Prefix), To: keyOf(last)}
}

// child is the part of r whose next nibble is n.
func (r Range) child(n byte) Range {
	if r.Nibbles%2 == 0 {
		r.Prefix[r.Nibbles/2] |= n << 4
	} else {
		r.Prefix[r.Nibbles/2] |= n
	}
	r.Nibbles++
	return r
}

// nibble is the i-th nibble of the prefix.
func (r Range) nibble(i uint8) byte {
	b := r.Prefix[i/2]
	if i%2 == 0 {
		return b >> 4
	}
	return b & 0x0f
}

// String is the prefix in hex.
func (r Range) String() string { return fmt.Sprintf("%x", r.Prefix)[:r.Nibbles] + "*" }
