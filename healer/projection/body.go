package projection

import (
	"fmt"

	"github.com/google/uuid"
)

// lineKey is what movements of a sale are told apart by: the backend draws their
// ids, so they are matched by what they say.
type lineKey struct {
	product uuid.UUID
	variant uuid.NullUUID
}

// pair holds a sale's lines against its movements of one direction. It returns the
// lines that have none; where as many movements are left over it changes their
// quantities instead. What cannot be told apart is left to a person.
func pair(lines []Item, movements []Movement, reversal bool, sale uuid.UUID, c *Changes) (missing []int, out *Outcome) {
	open, left := map[lineKey][]int{}, map[lineKey][]Movement{}
	for i, line := range lines {
		key := lineKey{line.Product, line.Variant}
		open[key] = append(open[key], i)
	}
	for _, m := range movements {
		if key := (lineKey{m.Product, m.Variant}); m.Reversal == reversal {
			left[key] = append(left[key], m)
		}
	}
	sign := map[bool]string{false: "-", true: ""}[reversal]
	for i, line := range lines {
		key := lineKey{line.Product, line.Variant}
		if open[key] == nil || open[key][0] != i {
			continue // looked at with the key's first line
		}
		due, there := open[key], left[key]
		if total(lines, due, there, reversal).Sign() == 0 {
			continue
		}
		if escrowed(there) {
			return nil, muddled(sale, line, there)
		}
		due, there = unmatched(lines, due, there, sign)
		for len(due) > 0 && len(there) > 0 {
			m := there[0]
			c.Also = append(c.Also, Update{Movements, m.ID, map[string]any{"qty_delta": sign + lines[due[0]].Qty}})
			c.Stock = append(c.Stock, StockKey{m.Warehouse, m.Product, m.Variant})
			due, there = due[1:], there[1:]
		}
		if len(there) > 0 {
			return nil, muddled(sale, line, there)
		}
		missing = append(missing, due...)
	}
	return missing, nil
}

// total is what lines and movements add up to: nothing when they agree.
func total(lines []Item, due []int, there []Movement, reversal bool) interface{ Sign() int } {
	texts := make([]string, 0, len(due)+len(there))
	for _, i := range due {
		if reversal {
			texts = append(texts, "-"+lines[i].Qty)
		} else {
			texts = append(texts, lines[i].Qty)
		}
	}
	for _, m := range there {
		texts = append(texts, m.Qty)
	}
	return sum(texts...)
}

func escrowed(movements []Movement) bool {
	for _, m := range movements {
		if m.Escrow {
			return true
		}
	}
	return false
}

// unmatched takes away the lines and movements of equal quantity.
func unmatched(lines []Item, due []int, there []Movement, sign string) ([]int, []Movement) {
	var without []int
	rest := there
	for _, i := range due {
		found := -1
		for j, m := range rest {
			if m.Qty == sign+lines[i].Qty {
				found = j
				break
			}
		}
		if found < 0 {
			without = append(without, i)
			continue
		}
		rest = append(append([]Movement{}, rest[:found]...), rest[found+1:]...)
	}
	return without, rest
}

func muddled(sale uuid.UUID, line Item, there []Movement) *Outcome {
	return &Outcome{Class: Blocked, Reason: fmt.Sprintf(
		"movements of product %s in sale %s do not add up to its lines: %s of %s is left over; count the product and enter a StockAdjusted",
		line.Product, sale, there[0].ID, there[0].Qty)}
}
