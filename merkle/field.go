package merkle

import "encoding/binary"

// element is a number of the field of integers modulo prime, in which sketches
// are summed: what one side adds and the other subtracts vanishes.
type element uint32

// prime is the largest below 2^32.
const prime = 1<<32 - 5

func (a element) plus(b element) element {
	s := uint64(a) + uint64(b)
	if s >= prime {
		s -= prime
	}
	return element(s)
}

func (a element) minus(b element) element { return a.plus(b.negative()) }

func (a element) negative() element {
	if a == 0 {
		return 0
	}
	return prime - a
}

func (a element) times(b element) element { return element(uint64(a) * uint64(b) % prime) }

// over is a divided by b, which is not zero: a times b^(prime-2) (Fermat).
func (a element) over(b element) element { return a.times(b.power(prime - 2)) }

// power is a^e, by squaring.
func (a element) power(e uint64) element {
	result := element(1)
	for ; e > 0; e >>= 1 {
		if e&1 == 1 {
			result = result.times(a)
		}
		a = a.times(a)
	}
	return result
}

// element is the item's short hash: the first bytes of its digest, never zero.
func (i Item) element() element {
	return element(uint64(binary.BigEndian.Uint32(i.Digest[:4]))%(prime-1)) + 1
}
