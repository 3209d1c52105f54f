package merkle

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"
)

// traded is n events of a shop that is open from 8 to 20, over two years up to
// the slot now.
func traded(n int) memory {
	rng := rand.New(rand.NewPCG(1, 2))
	end := int64(now)<<SlotBits + 1<<19
	items := make(memory, 0, n+1)
	const day = 24 * time.Hour
	for range n {
		back := time.Duration(rng.Int64N(730))*day + time.Duration(rng.Int64N(int64(12*time.Hour)))
		items = append(items, drawn(rng, end-back.Milliseconds()))
	}
	items.view()
	return items
}

func drawn(rng *rand.Rand, at int64) Item {
	i := Item{Key: Key{At: at}}
	for b := range 2 {
		binary.BigEndian.PutUint64(i.Key.ID[8*b:], rng.Uint64())
	}
	for b := range 4 {
		binary.BigEndian.PutUint64(i.Digest[8*b:], rng.Uint64())
	}
	return i
}

// taken gives each side the events without some: every other of the chosen is
// missing there, the rest here; or all of them there.
func taken(all memory, chosen map[int]bool, oneSided bool) (mine, theirs memory) {
	turn := false
	for i, item := range all {
		turn = turn != chosen[i]
		if !chosen[i] || turn || oneSided {
			mine = append(mine, item)
		}
		if !chosen[i] || !turn && !oneSided {
			theirs = append(theirs, item)
		}
	}
	return mine, theirs
}

func choose(rng *rand.Rand, from, to, n int) map[int]bool {
	chosen := map[int]bool{}
	for len(chosen) < n {
		chosen[from+rng.IntN(to-from)] = true
	}
	return chosen
}

// BenchmarkCompare is the cost of comparisons in bytes and messages, without
// servers: for choosing parameters.
func BenchmarkCompare(b *testing.B) {
	for _, n := range []int{1e6} {
		all := traded(n)
		rng := rand.New(rand.NewPCG(3, 4))
		last := len(all)
		cases := []struct {
			name     string
			from, d  int
			oneSided bool
		}{
			{"identical", 0, 0, false},
			{"random1", 0, 1, false},
			{"random100", 0, 100, false},
			{"random1000", 0, 1000, false},
			{"random10k", 0, 10_000, false},
			{"random100-onesided", 0, 100, true},
			{"random10k-onesided", 0, 10_000, true},
			{"recent100", last - 200, 100, false},
			{"outage10k", last - 10_000, 10_000, true},
			{"outage100", last - 100, 100, true},
		}
		for _, c := range cases {
			b.Run(fmt.Sprintf("%s@%d", c.name, n), func(b *testing.B) {
				var bytes, messages, payload, wrong int
				for range b.N {
					mine, theirs := taken(all, choose(rng, c.from, last, c.d), c.oneSided)
					f, _, l := compare(b, mine, theirs, Salt(rng.Uint32()), false)
					bytes, messages, payload = bytes+l.bytes, messages+l.messages, payload+l.payload
					if len(f.push)+len(f.pull) != c.d {
						wrong++
					}
				}
				b.ReportMetric(float64(bytes)/float64(b.N), "bytes/round")
				b.ReportMetric(float64(messages)/float64(b.N), "messages/round")
				b.ReportMetric(float64(payload)/float64(b.N), "before-payload/round")
				b.ReportMetric(float64(wrong)/float64(b.N), "wrong/round")
			})
		}
	}
}
