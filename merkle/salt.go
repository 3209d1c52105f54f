package merkle

import "encoding/binary"

// Salt is drawn anew for each round. Inside a round, hashes are cut to a few
// bytes; two that collide under one salt do not under the next, so a difference
// can hide for one round at most, and not even that one ends well: a round ends
// with a comparison of whole roots.
type Salt uint32

// mix is the finalizer of splitmix64 (Steele, Lea, Flood, "Fast Splittable
// Pseudorandom Number Generators", 2014, in Stafford's variant 13).
func mix(x uint64) uint64 {
	x ^= x >> 30
	x *= 0xbf58476d1ce4e5b9
	x ^= x >> 27
	x *= 0x94d049bb133111eb
	return x ^ x>>31
}

// golden spreads small numbers over 64 bits: 2^64 divided by the golden ratio.
const golden = 0x9e3779b97f4a7c15

func (s Salt) start() uint64 { return mix(uint64(s)*golden + 1) }

// absorb goes on from a state with half a digest, which is random enough.
func absorb(state uint64, d Digest) uint64 {
	state = mix(state ^ binary.BigEndian.Uint64(d[:8]))
	return mix(state ^ binary.BigEndian.Uint64(d[8:16]))
}

// shortBytes is the size of a short hash in messages.
const shortBytes = 3

// short is a digest's short hash in this round.
func (s Salt) short(d Digest) uint32 { return uint32(absorb(s.start(), d) >> (64 - 8*shortBytes)) }
