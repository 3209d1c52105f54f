package fleet

import (
	"maps"
	"math/big"
	"strings"
)

// DiffUnsplit is Diff but for how a sale is split between a device's share and the
// warehouse, and what is then left on each: that follows from what the device held when
// the sale was projected, and events come in any order. What the two parts add up to
// must be the same, and so must the stock of products of which no device has a share.
func DiffUnsplit(want, got ReadModel) []string {
	shared := map[string]bool{}
	for _, m := range []ReadModel{want, got} {
		for key := range m.Escrow {
			product, _, _ := strings.Cut(key, "/")
			shared[product] = true
		}
	}
	return Diff(want.unsplit(shared), got.unsplit(shared))
}

func (m ReadModel) unsplit(shared map[string]bool) ReadModel {
	movements, stock := Table{}, Table{}
	for key, row := range m.Movements {
		if base, escrow := strings.CutSuffix(key, "/escrow"); escrow {
			key = base + "/sold"
		}
		if other, has := movements[key]; has {
			row = maps.Clone(row)
			row["qty_delta"] = added(row["qty_delta"], other["qty_delta"])
		}
		movements[key] = row
	}
	for key, row := range m.Stock {
		if parts := strings.Split(key, "/"); !shared[parts[1]] {
			stock[key] = row
		}
	}
	m.Movements, m.Stock, m.Escrow = movements, stock, Table{}
	return m
}

// added sums quantities in decimal text.
func added(a, b string) string {
	sum, other := new(big.Rat), new(big.Rat)
	if _, ok := sum.SetString(a); !ok {
		return a
	}
	if _, ok := other.SetString(b); !ok {
		return a
	}
	return sum.Add(sum, other).FloatString(3)
}
