package merkle

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// memory is a log in a slice, in key order.
type memory []Item

func (m memory) Scan(_ context.Context, span Span, yield func(Item) error) error {
	for _, item := range m {
		if span.Holds(item.Key) {
			if err := yield(item); err != nil {
				return err
			}
		}
	}
	return nil
}

func (m memory) view() View {
	slices.SortFunc(m, func(a, b Item) int { return a.Key.Compare(b.Key) })
	var (
		changes []Change
		builder LeafBuilder
	)
	for i, item := range m {
		builder.Add(item)
		if slot := item.Key.Slot(); i+1 == len(m) || m[i+1].Key.Slot() != slot {
			changes = append(changes, Change{slot, builder.Leaf(slot)})
		}
	}
	return NewView(Tree{}.Apply(changes), m)
}

func item(at int64, id byte, said string) Item {
	return NewItem(Key{At: at, ID: [16]byte{id, 15: id}}, Content{Said: []byte(said)})
}

// walk drives both sides over encoded messages and returns what it found and
// how many messages that took.
func walk(t interface{ Fatal(...any) }, mine, theirs View) (Diff, int) {
	ctx := context.Background()
	w := NewWalk(mine)
	for messages := 0; ; messages++ {
		asked, err := w.Ask(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if len(asked) == 0 {
			return w.Diff(), messages
		}
		questions, err := DecodeQuestions(EncodeQuestions(asked))
		if err != nil {
			t.Fatal(err)
		}
		replied, err := Reply(ctx, theirs, questions)
		if err != nil {
			t.Fatal(err)
		}
		answers, err := DecodeAnswers(EncodeAnswers(replied))
		if err != nil {
			t.Fatal(err)
		}
		if err := w.Learn(ctx, answers); err != nil {
			t.Fatal(err)
		}
	}
}

// in lists the keys of m that lie in the spans.
func (m memory) in(spans []Span) []Item {
	var found []Item
	for _, item := range m {
		if slices.ContainsFunc(spans, func(s Span) bool { return s.Holds(item.Key) }) {
			found = append(found, item)
		}
	}
	return found
}

func without(a, b memory) (only memory) {
	for _, item := range a {
		if !slices.Contains(b, item) {
			only = append(only, item)
		}
	}
	return only
}

// logs draws two logs that share most events: some are missing on one side, some
// differ in content, some sit in one crowded millisecond, some at the ends of time.
func logs(t *rapid.T) (mine, theirs memory) {
	crowd := rapid.IntRange(0, 300).Draw(t, "events in one millisecond")
	for i := range rapid.IntRange(0, 200).Draw(t, "events") + crowd {
		at := int64(1_700_000_000_000)
		switch {
		case i < crowd:
		case rapid.IntRange(0, 20).Draw(t, "odd clock") == 0:
			at = rapid.SampledFrom([]int64{-1 << 63, 1<<63 - 1, 0, -1, -62_000_000_000_000}).Draw(t, "at")
		default:
			at += rapid.Int64Range(0, 1<<33).Draw(t, "at")
		}
		event := NewItem(Key{At: at, ID: [16]byte{byte(i), byte(i >> 8), 15: 1}}, Content{Said: []byte("x")})
		switch rapid.IntRange(0, 30).Draw(t, "fault") {
		case 0:
			mine = append(mine, event)
		case 1:
			theirs = append(theirs, event)
		case 2:
			mine = append(mine, event)
			theirs = append(theirs, NewItem(event.Key, Content{Said: []byte("y")}))
		default:
			mine, theirs = append(mine, event), append(theirs, event)
		}
	}
	return mine, theirs
}

func TestAWalkFindsExactlyTheDifference(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		mine, theirs := logs(t)
		diff, messages := walk(t, mine.view(), theirs.view())
		if messages > keyNibbles {
			t.Fatalf("the walk took %d messages", messages)
		}
		wantPush, wantPull := without(mine, theirs), without(theirs, mine)
		for _, side := range []struct {
			name      string
			got, want []Item
		}{{"push", mine.in(diff.Push), wantPush}, {"pull", theirs.in(diff.Pull), wantPull}} {
			if !slices.Equal(side.got, side.want) {
				t.Fatalf("%s: %d events, want %d", side.name, len(side.got), len(side.want))
			}
		}
		if same := mine.view().Tree.Root().same(theirs.view().Tree.Root()); same != diff.Empty() {
			t.Fatalf("roots equal: %v, walk found nothing: %v", same, diff.Empty())
		}
	})
}

func TestATreeDependsOnItsLeavesAlone(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		slots := map[int64]Leaf{}
		var grown Tree
		for range rapid.IntRange(0, 50).Draw(t, "changes") {
			slot := rapid.Int64Range(-40, 40).Draw(t, "slot")
			leaf := Leaf{Count: uint32(rapid.IntRange(0, 3).Draw(t, "count"))}
			leaf.Digest[0] = byte(leaf.Count)
			slots[slot] = leaf
			grown = grown.Apply([]Change{{slot, leaf}})
		}
		var changes []Change
		for slot, leaf := range slots {
			changes = append(changes, Change{slot, leaf})
			if got := grown.Leaf(slot); got.Count != leaf.Count {
				t.Fatalf("slot %d holds %d, want %d", slot, got.Count, leaf.Count)
			}
		}
		if built := (Tree{}).Apply(changes); built.Root() != grown.Root() {
			t.Fatal("the tree remembers how it was made")
		}
	})
}

func TestAPinnedTreeDoesNotMove(t *testing.T) {
	pinned := Tree{}.Apply([]Change{{1, Leaf{Count: 1}}, {2, Leaf{Count: 2}}})
	root := pinned.Root()
	pinned.Apply([]Change{{1, Leaf{Count: 9}}, {2, Leaf{}}})
	if pinned.Root() != root {
		t.Error("a change to the tree changed the one it was made of")
	}
}

func TestWithoutLeavesExceptionsOut(t *testing.T) {
	kept := memory{item(0, 1, "a"), item(5, 2, "b"), item(1<<21, 3, "c")}
	extra := item(7, 9, "z")
	tree, err := append(slices.Clone(kept), extra).view().Without(t.Context(), []Key{extra.Key})
	if err != nil {
		t.Fatal(err)
	}
	if tree.Root() != kept.view().Tree.Root() {
		t.Error("the root still knows the exception")
	}
}

func TestContentCannotMoveBetweenFields(t *testing.T) {
	key := Key{At: 1}
	seen := map[Digest]string{}
	for name, c := range map[string]Content{
		"NULL said":             {Type: "a"},
		"empty said":            {Type: "a", Said: []byte{}},
		"text moved to said":    {Type: "", Said: []byte("a")},
		"separator in type":     {Type: "a\x01", Said: []byte{}},
		"1.0":                   {Said: []byte("1.0")},
		"1":                     {Said: []byte("1")},
		"é composed":            {Said: []byte("\u00e9")},
		"é decomposed":          {Said: []byte("e\u0301")},
		"version in seq":        {Seq: 1},
		"seq in version":        {Version: 1},
		"device in store":       {Store: [16]byte{1}},
		"store in device":       {Device: [16]byte{1}},
		"length-like bytes":     {Type: "\x01\x00\x00\x00\x01a"},
		"length-like bytes (2)": {Said: []byte("\x01\x00\x00\x00\x01a")},
	} {
		digest := NewItem(key, c).Digest
		if other, taken := seen[digest]; taken {
			t.Errorf("%s and %s have the same digest", name, other)
		}
		seen[digest] = name
	}
}

func TestItemDigestIsWrittenDown(t *testing.T) {
	// Taken by another program from the definition. Any change to it is a new DigestVersion.
	got := NewItem(Key{At: 1_795_439_776_587, ID: [16]byte{0x41, 15: 0x3f}}, Content{
		Store: [16]byte{0x11}, Device: [16]byte{0xaa}, Seq: 1, Type: "ProductCreated", Version: 1, Said: []byte(`{"a": 1}`),
	}).Digest
	if want := "6f5bc23c177eb94d2699e062b1b8461b639db13d5d22e094f87438ac862e9ece"; hex.EncodeToString(got[:]) != want {
		t.Errorf("item digest %x, want %s", got, want)
	}
}

func TestAHostileAnswerEndsTheWalk(t *testing.T) {
	mine := memory{item(0, 1, "a"), item(1<<22, 2, "b")}.view()
	slot := SlotRange(0)
	for name, parts := range map[string][]Summary{
		"the range itself again": {{Range: Range{}, Count: 1}},
		"an empty part":          {{Range: slot}},
		"overlapping parts":      {{Range: slot, Count: 1}, {Range: slot.child(3), Count: 1}},
		"parts out of order":     {{Range: SlotRange(4), Count: 1}, {Range: slot, Count: 1}},
	} {
		w := NewWalk(mine)
		if _, err := w.Ask(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := w.Learn(t.Context(), []Answer{{Parts: parts}}); !errors.Is(err, ErrHostile) {
			t.Errorf("%s: %v, want ErrHostile", name, err)
		}
	}
	w := NewWalk(mine)
	if _, err := w.Ask(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := w.Learn(t.Context(), nil); !errors.Is(err, ErrHostile) {
		t.Errorf("no answer at all: %v, want ErrHostile", err)
	}
}

func TestI13AMalformedMessageIsRefusedWhole(t *testing.T) {
	good := EncodeAnswers([]Answer{{Same: true}, {Parts: []Summary{{Range: SlotRange(5), Count: 7}, {Range: SlotRange(6).child(1), Count: 1}}}})
	if _, err := DecodeAnswers(good); err != nil {
		t.Fatal(err)
	}
	for n := range good {
		if _, err := DecodeAnswers(good[:n]); !errors.Is(err, ErrMessage) {
			t.Errorf("cut after %d bytes: %v, want ErrMessage", n, err)
		}
	}
	for name, message := range map[string][]byte{
		"bytes after the end":         append(bytes.Clone(good), 0),
		"questions instead":           EncodeQuestions(nil),
		"four billion parts promised": {MessageVersion, DigestVersion, kindAnswers, 0xff, 0xff, 0xff, 0xff, 0x0f},
		"a range longer than a key":   {MessageVersion, DigestVersion, kindAnswers, 1, answerParts, 1, 49},
		"HTML":                        []byte("<html><body>502 Bad Gateway</body></html>"),
	} {
		if _, err := DecodeAnswers(message); !errors.Is(err, ErrMessage) && !errors.Is(err, ErrVersion) {
			t.Errorf("%s: %v, want an error", name, err)
		}
	}
	future := bytes.Clone(good)
	future[0] = 2
	if _, err := DecodeAnswers(future); !errors.Is(err, ErrVersion) {
		t.Errorf("another version: %v, want ErrVersion", err)
	}
}

func FuzzDecodeAnswers(f *testing.F) {
	f.Add(EncodeAnswers([]Answer{{Same: true}, {Parts: []Summary{{Range: SlotRange(5), Count: 7}}}}))
	f.Fuzz(func(t *testing.T, message []byte) {
		answers, err := DecodeAnswers(message)
		if err != nil {
			return
		}
		again, err := DecodeAnswers(EncodeAnswers(answers))
		if err != nil || len(again) != len(answers) {
			t.Fatalf("does not survive being encoded again: %v", err)
		}
	})
}
