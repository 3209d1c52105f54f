package merkle

import "math"

// censusBits is how many counters a tree keeps for estimates.
const censusBits = 256

// census estimates in how many slots two trees differ, without comparing them: for
// each of the first bits of a leaf's digest, the leaves that have it set less those
// that have not. A slot that differs moves each counter by up to two either way,
// so the squares of the counters' differences add up to about two a slot: the
// second frequency moment of Alon, Matias and Szegedy ("The Space Complexity of
// Approximating the Frequency Moments", 1996), with the digest's own bits as signs.
type census [censusBits]int32

func (c *census) count(d Digest, by int32) {
	for i := range c {
		if d[i/8]>>(7-i%8)&1 == 1 {
			c[i] += by
		} else {
			c[i] -= by
		}
	}
}

// narrow are the first counters, a byte each, for an opening.
func (c *census) narrow() (n Narrow) {
	for i := range n {
		n[i] = uint8(c[i])
	}
	return n
}

// wide are all counters, two bytes each, for a peer whose narrow ones ran over.
func (c *census) wide() *Wide {
	w := new(Wide)
	for i := range w {
		w[i] = uint16(c[i])
	}
	return w
}

// Narrow is a census of a byte a counter: good for up to some hundred slots.
type Narrow [24]uint8

// Wide is a census of two bytes a counter.
type Wide [censusBits]uint16

// narrowAtMost is the largest estimate that a narrow census can be trusted with:
// beyond it, counters differ by more than a byte tells.
const narrowAtMost = 600

// apart estimates the number of slots that differ.
func (c *census) apart(other Narrow) float64 {
	var sum float64
	for i, theirs := range other {
		d := float64(int8(uint8(c[i]) - theirs))
		sum += d * d
	}
	return sum / 2 / float64(len(other))
}

// apartWide estimates the number of slots that differ.
func (c *census) apartWide(other *Wide) float64 {
	var sum float64
	for i, theirs := range other {
		d := float64(int16(uint16(c[i]) - theirs))
		sum += d * d
	}
	return sum / 2 / float64(len(other))
}

// cellsFor is the size of a sketch that will likely be read out for an estimate of
// so many slots. Reading out n slots takes 1.36 n cells and something for bad luck
// with few (BenchmarkSketch); the estimate itself is off by sqrt(2/counters), and
// one that is too low costs another message.
func cellsFor(slots float64, counters int) int {
	n := slots * (1 + 1.4*math.Sqrt(2/float64(counters)))
	return int(math.Ceil(1.36*n+1.5*math.Sqrt(n))) + 2
}
