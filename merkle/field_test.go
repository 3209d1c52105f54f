package merkle

import (
	"slices"
	"testing"

	"pgregory.net/rapid"
)

func anElement() *rapid.Generator[element] {
	return rapid.Map(rapid.Uint32Range(1, prime-1), func(n uint32) element { return element(n) })
}

func TestTheFieldIsOne(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b, c := anElement().Draw(t, "a"), anElement().Draw(t, "b"), anElement().Draw(t, "c")
		for name, ok := range map[string]bool{
			"minus undoes plus":     a.plus(b).minus(b) == a,
			"over undoes times":     a.times(b).over(b) == a,
			"times spreads":         a.times(b.plus(c)) == a.times(b).plus(a.times(c)),
			"nothing plus negative": a.plus(a.negative()) == 0,
			"half":                  a.times(half).plus(a.times(half)) == a,
		} {
			if !ok {
				t.Errorf("%s: not for %d, %d, %d", name, a, b, c)
			}
		}
		if r, ok := a.times(a).root(); !ok || r != a && r != a.negative() {
			t.Errorf("the root of %d squared is %d (%v)", a, r, ok)
		}
	})
}

func TestTwoEventsAreFoundByTheirSumAndTheirSquares(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		all := rapid.SliceOfNDistinct(anElement(), 5, 60, rapid.ID[element]).Draw(t, "slot")
		mine, theirs := slices.Clone(all[1:]), slices.Clone(all[:len(all)-1]) // one each
		want := [2][]element{{all[len(all)-1]}, {all[0]}}
		switch rapid.IntRange(0, 2).Draw(t, "where") {
		case 1:
			mine, theirs, want = all, all[2:], [2][]element{{all[0], all[1]}, nil}
		case 2:
			mine, theirs, want = all[2:], all, [2][]element{nil, {all[0], all[1]}}
		}
		total := func(list []element) (sum, squares element) {
			for _, e := range list {
				sum, squares = sum.plus(e), squares.plus(e.times(e))
			}
			return sum, squares
		}
		s1, q1 := total(mine)
		s2, q2 := total(theirs)
		here, there, ok := slotDiff{sum: s1.minus(s2), count: int8(len(mine) - len(theirs))}.pair(q1.minus(q2), mine)
		slices.Sort(here)
		slices.Sort(there)
		slices.Sort(want[0])
		slices.Sort(want[1])
		if !ok || !slices.Equal(here, want[0]) || !slices.Equal(there, want[1]) {
			t.Fatalf("found %v here and %v there (%v), want %v", here, there, ok, want)
		}
	})
}
