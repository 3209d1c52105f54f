package merkle

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
)

// Scanner reads the items of spans, which ascend and do not overlap, in key order
// from wherever events live, and passes on yield's error.
type Scanner interface {
	Scan(ctx context.Context, spans []Span, yield func(Item) error) error
}

// View is one side of a comparison: a pinned tree, and a way to see the items
// below its slots. The items may be newer than the tree; a comparison that
// notices ends with a difference too many, never with one too few. A View is for
// one goroutine.
type View struct {
	Tree    Tree
	scanner Scanner
	without map[[16]byte]bool // left out
	last    *slotItems
}

// slotItems are the items of the slot that was looked at last: a walk asks for
// many small spans of one slot after another.
type slotItems struct {
	slot  int64
	items []Item
}

// heldAtMost bounds the slots whose items a View keeps: those that a dead clock
// filled beyond it are read span by span.
const heldAtMost = 1 << 13

// NewView pins a tree over the log that scanner reads.
func NewView(tree Tree, scanner Scanner) View {
	return View{Tree: tree, scanner: scanner, last: new(slotItems)}
}

// summary of any range.
func (v View) summary(ctx context.Context, r Range) (Summary, error) {
	if r.Nibbles <= slotNibbles {
		return v.Tree.summary(r), nil
	}
	p := newPart(r)
	err := v.scan(ctx, r.Span(), func(item Item) error {
		p.add(item)
		return nil
	})
	return p.summary(), err
}

// children summarises the non-empty children of a slot, or of a part of one that is
// shorter than a key.
func (v View) children(ctx context.Context, r Range) ([]Summary, error) {
	var (
		list []Summary
		open *part
	)
	closeOpen := func() {
		if open != nil {
			list = append(list, open.summary())
		}
	}
	err := v.scan(ctx, r.Span(), func(item Item) error {
		under := r.child(KeyRange(item.Key).nibble(r.Nibbles))
		if open == nil || open.of != under {
			closeOpen()
			open = newPart(under)
		}
		open.add(item)
		return nil
	})
	closeOpen()
	return list, err
}

// errEnough stops a scan early.
var errEnough = errors.New("enough")

func ignoreEnough(err error) error {
	if errors.Is(err, errEnough) {
		return nil
	}
	return err
}

// any reports whether the view holds an event in the span.
func (v View) any(ctx context.Context, span Span) (bool, error) {
	held := false
	var failed error
	v.Tree.slots(span, func(slot int64) bool {
		if s := SlotRange(slot).Span(); span.Holds(s.From) && span.Holds(s.To) {
			held = true
			return false
		}
		failed = v.scan(ctx, clipSpan(span, SlotRange(slot).Span()), func(Item) error {
			held = true
			return errEnough
		})
		return failed == nil && !held
	})
	return held, failed
}

func clipSpan(a, b Span) Span {
	if a.From.Compare(b.From) < 0 {
		a.From = b.From
	}
	if a.To.Compare(b.To) > 0 {
		a.To = b.To
	}
	return a
}

// scan reads a span, from memory where it lies in the slot that was read last.
func (v View) scan(ctx context.Context, span Span, yield func(Item) error) error {
	slot := span.From.Slot()
	if slot != span.To.Slot() || v.Tree.Leaf(slot).Count > heldAtMost {
		return v.read(ctx, []Span{span}, yield)
	}
	if v.last.slot != slot || v.last.items == nil {
		items := []Item{}
		err := v.read(ctx, []Span{SlotRange(slot).Span()}, func(item Item) error {
			items = append(items, item)
			return nil
		})
		if err != nil {
			return err
		}
		*v.last = slotItems{slot, items}
	}
	first, _ := slices.BinarySearchFunc(v.last.items, span.From, func(item Item, from Key) int { return item.Key.Compare(from) })
	for _, item := range v.last.items[first:] {
		if item.Key.Compare(span.To) > 0 {
			break
		}
		if err := yield(item); err != nil {
			return ignoreEnough(err)
		}
	}
	return nil
}

// scanAll reads all spans, which ascend and do not overlap.
func (v View) scanAll(ctx context.Context, spans []Span, yield func(Item)) error {
	if len(spans) == 0 {
		return nil
	}
	return v.read(ctx, spans, func(item Item) error { yield(item); return nil })
}

// read is the scanner's Scan, but for what is left out.
func (v View) read(ctx context.Context, spans []Span, yield func(Item) error) error {
	err := v.scanner.Scan(ctx, spans, func(item Item) error {
		if v.without[item.Key.ID] {
			return nil
		}
		return yield(item)
	})
	if err := ignoreEnough(err); err != nil {
		return fmt.Errorf("scan items: %w", err)
	}
	return nil
}

// Without is the view as it would be without some events: what two sides compare
// when they have agreed on exceptions.
func (v View) Without(ctx context.Context, keys []Key) (View, error) {
	if len(keys) == 0 {
		return v, nil
	}
	out := View{Tree: v.Tree, scanner: v.scanner, without: make(map[[16]byte]bool, len(keys)), last: new(slotItems)}
	slots := make(map[int64]bool, len(keys))
	for _, k := range keys {
		out.without[k.ID] = true
		slots[k.Slot()] = true
	}
	var spans []Span
	for _, slot := range slices.Sorted(maps.Keys(slots)) {
		spans = append(spans, SlotRange(slot).Span())
	}
	var (
		builder LeafBuilder
		leaves  = make(map[int64]Leaf, len(slots))
		open    *int64
	)
	err := out.scanAll(ctx, spans, func(item Item) {
		slot := item.Key.Slot()
		if open != nil && *open != slot {
			leaves[*open] = builder.Leaf(*open)
		}
		open = &slot
		builder.Add(item)
	})
	if err != nil {
		return View{}, err
	}
	if open != nil {
		leaves[*open] = builder.Leaf(*open)
	}
	changes := make([]Change, 0, len(slots))
	for slot := range slots {
		changes = append(changes, Change{Slot: slot, Leaf: leaves[slot]})
	}
	out.Tree = v.Tree.Apply(changes)
	return out, nil
}
