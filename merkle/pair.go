package merkle

import "slices"

// Where a sketch shows that a slot differs by two events, one on each side or both
// on one, the sums of both sides' squares tell which: two equations, two unknowns.
// Four bytes stand for a list.

// half is 1/2 in the field.
const half element = (prime + 1) / 2

// root is a square root of a, when it has one: a^((prime+1)/4), since prime is 3
// modulo 4.
func (a element) root() (element, bool) {
	r := a.power((prime + 1) / 4)
	return r, r.times(r) == a
}

// pair finds the two events that a slot differs by: the short hashes of those that
// only this side has, and of those that only the other has. squares is the difference
// of both sides' sums of squares, mine all the short hashes here. It is false when no
// two events explain the difference; what it finds may still be wrong where more than
// two do, and shows when nothing comes for a pick.
func (d slotDiff) pair(squares element, mine []element) (here, there []element, ok bool) {
	held := func(e element) bool { return slices.Contains(mine, e) }
	switch d.count {
	case 0: // a - b and a² - b²
		if d.sum == 0 {
			return nil, nil, false
		}
		a := d.sum.plus(squares.over(d.sum)).times(half)
		b := a.minus(d.sum)
		return []element{a}, []element{b}, held(a) && !held(b) && b != 0
	case 2: // a + b and a² + b²
		for i, a := range mine {
			b := d.sum.minus(a)
			if slices.Contains(mine[i+1:], b) && a.times(a).plus(b.times(b)) == squares {
				return []element{a, b}, nil, true
			}
		}
	case -2: // the same, with nobody here to try: x² - (a+b) x + ab = 0
		sum, product := d.sum.negative(), d.sum.times(d.sum).plus(squares).times(half)
		r, real := sum.times(sum).minus(product.times(4)).root()
		a, b := sum.plus(r).times(half), sum.minus(r).times(half)
		return nil, []element{a, b}, real && a != 0 && b != 0
	}
	return nil, nil, false
}
