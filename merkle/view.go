package merkle

import (
	"context"
	"errors"
	"fmt"
	"slices"
)

// Scanner reads the items of a span in key order from wherever events live, and
// passes on yield's error.
type Scanner interface {
	Scan(ctx context.Context, span Span, yield func(Item) error) error
}

// View is one side of a comparison: a pinned tree, and a way to see the items
// below its slots. The items may be newer than the tree; a comparison that
// notices ends with a difference too many, never with one too few. A View is for
// one goroutine.
type View struct {
	Tree    Tree
	scanner Scanner
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
	return View{Tree: tree, scanner: scanner, last: &slotItems{}}
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

// children summarises the non-empty children of any range shorter than a key.
func (v View) children(ctx context.Context, r Range) ([]Summary, error) {
	if r.Nibbles < slotNibbles {
		return v.Tree.children(r), nil
	}
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

// items lists those of a range, each as the summary of its key.
func (v View) items(ctx context.Context, r Range) ([]Summary, error) {
	var list []Summary
	err := v.scan(ctx, r.Span(), func(item Item) error {
		if len(list) == maxEntries {
			return fmt.Errorf("range %s holds more items than its tree says", r)
		}
		list = append(list, Summary{Range: KeyRange(item.Key), Count: 1, Digest: item.Digest})
		return nil
	})
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
		return v.read(ctx, span, yield)
	}
	if v.last.slot != slot || v.last.items == nil {
		items := []Item{}
		err := v.read(ctx, SlotRange(slot).Span(), func(item Item) error {
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

func (v View) read(ctx context.Context, span Span, yield func(Item) error) error {
	if err := ignoreEnough(v.scanner.Scan(ctx, span, yield)); err != nil {
		return fmt.Errorf("scan items: %w", err)
	}
	return nil
}

// Without is the view's tree as it would be without some events: the root that
// two sides compare when they have agreed on exceptions.
func (v View) Without(ctx context.Context, keys []Key) (Tree, error) {
	bySlot := map[int64][]Key{}
	for _, k := range keys {
		bySlot[k.Slot()] = append(bySlot[k.Slot()], k)
	}
	var (
		changes []Change
		builder LeafBuilder
	)
	for slot, out := range bySlot {
		err := v.scan(ctx, SlotRange(slot).Span(), func(item Item) error {
			if !slices.Contains(out, item.Key) {
				builder.Add(item)
			}
			return nil
		})
		if err != nil {
			return Tree{}, err
		}
		changes = append(changes, Change{Slot: slot, Leaf: builder.Leaf(slot)})
	}
	return v.Tree.Apply(changes), nil
}
