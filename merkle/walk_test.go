package merkle

import (
	"context"
	"errors"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// memory is a log in a slice, in key order.
type memory []Item

func (m memory) Scan(_ context.Context, spans []Span, yield func(Item) error) error {
	for _, span := range spans {
		first, _ := slices.BinarySearchFunc(m, span.From, func(item Item, from Key) int { return item.Key.Compare(from) })
		for _, item := range m[first:] {
			if !span.Holds(item.Key) {
				break
			}
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

// fataler is a *testing.T or a *rapid.T.
type fataler interface {
	Helper()
	Fatal(args ...any)
	Fatalf(format string, args ...any)
}

// line carries messages between two sides and counts them.
type line struct {
	t        fataler
	messages int // there and back
	bytes    int
	payload  int // messages before the first that something is known to be exchanged after
}

// carry sends bytes and decodes them on the other side.
func carry[T any](l *line, b []byte, decode func([]byte) (T, error)) T {
	l.t.Helper()
	l.messages++
	l.bytes += len(b)
	got, err := decode(b)
	if err != nil {
		l.t.Fatal(err)
	}
	return got
}

const now = 1_640_000 // a slot of 2024

// found is what a comparison yields: the items to send, the items that come.
type found struct{ push, pull []Item }

// compare drives both sides over encoded messages to the end. It reports whether
// the roots were the same.
func compare(t fataler, mine, theirs memory, salt Salt, plain bool) (f found, same bool, l line) {
	t.Helper()
	ctx := context.Background()
	l.t = t
	here, there := mine.view(), theirs.view()
	w := NewWalk(here, salt, now)
	o := w.Opening()
	o.Plain = plain
	o = carry(&l, EncodeOpening(o), func(b []byte) (Opening, error) { return DecodeOpening(b, 0) })
	reply := carry(&l, EncodeReply(Respond(there.Tree, o)), func(b []byte) (Reply, error) { return DecodeReply(b, 0) })
	same, err := w.Hear(ctx, reply)
	if err != nil {
		t.Fatal(err)
	}
	take := func() {
		d := w.Take()
		if l.payload == 0 && !d.Empty() {
			l.payload = l.messages
		}
		f.push = append(f.push, mine.in(d.Push)...)
		if !d.Pull.Empty() {
			for want := range d.Pull.Messages() {
				l.messages--
				want = carry(&l, EncodeWant(want, nil), func(b []byte) (Want, error) { want, _, err := DecodeWant(b); return want, err })
				came := theirs.wanted(want)
				f.pull = append(f.pull, came...)
				w.Unmet(slices.DeleteFunc(want.Picks, func(p Pick) bool {
					return slices.ContainsFunc(came, func(i Item) bool { return p.Span().Holds(i.Key) })
				}))
			}
		}
	}
	for take(); ; take() {
		asked := w.Ask()
		if asked == nil {
			return f, same, l
		}
		questions := carry(&l, EncodeQuestions(*asked), DecodeQuestions)
		replied, err := there.Answer(ctx, questions)
		if err != nil {
			t.Fatal(err)
		}
		answers := carry(&l, EncodeAnswers(questions.Areas, replied), func(b []byte) (Answers, error) { return DecodeAnswers(asked.Areas, b) })
		if err := w.Learn(ctx, answers); err != nil {
			t.Fatal(err)
		}
		if l.messages > 200 {
			t.Fatal("the walk does not end")
		}
	}
}

// in lists the items of m that lie in the spans.
func (m memory) in(spans []Span) (list []Item) {
	_ = m.Scan(context.Background(), spans, func(item Item) error { // its only error is yield's
		list = append(list, item)
		return nil
	})
	return list
}

// wanted lists the items of m that are wanted.
func (m memory) wanted(want Want) (list []Item) {
	list = m.in(want.Spans)
	for _, p := range want.Picks {
		for _, item := range m.in([]Span{p.Span()}) {
			if want.picks(p, item) {
				list = append(list, item)
			}
		}
	}
	return list
}

func without(a, b memory) (only memory) {
	held := make(map[Item]bool, len(b))
	for _, item := range b {
		held[item] = true
	}
	for _, item := range a {
		if !held[item] {
			only = append(only, item)
		}
	}
	return only
}

// logs draws two logs that share most events: some are missing on one side, some
// differ in content, some sit in one crowded millisecond, some at the ends of time.
func logs(t *rapid.T) (mine, theirs memory) {
	crowd := rapid.SampledFrom([]int{0, 3, 300, 600}).Draw(t, "events in one millisecond")
	width := rapid.SampledFrom([]int64{1 << 20, 1 << 25, 1 << 34}).Draw(t, "span")
	faults := rapid.SampledFrom([]int{2, 30, 300}).Draw(t, "one fault in")
	for i := range rapid.IntRange(0, 300).Draw(t, "events") + crowd {
		at := int64(now-1) << SlotBits
		switch {
		case i < crowd:
		case rapid.IntRange(0, 40).Draw(t, "odd clock") == 0:
			at = rapid.SampledFrom([]int64{-1 << 63, 1<<63 - 1, 0, -1, -62_000_000_000_000, 9_224_318_015_999_999}).Draw(t, "at")
		default:
			at -= rapid.Int64Range(0, width).Draw(t, "before now")
		}
		event := NewItem(Key{At: at, ID: [16]byte{byte(i), byte(i >> 8), 15: 1}}, Content{Said: []byte("x")})
		switch rapid.IntRange(0, faults).Draw(t, "fault") {
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
	mine.view() // sorts
	theirs.view()
	return mine, theirs
}

// Two items may have the same short hash under one salt: one in 2^24 pairs. So what
// is found under three salts is held against the truth.
func TestAWalkFindsExactlyTheDifferenceAndTheConflicts(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		mine, theirs := logs(t)
		push, pull := map[Item]bool{}, map[Item]bool{}
		truly := mine.view().Tree.Root() == theirs.view().Tree.Root()
		for range 3 {
			f, same, _ := compare(t, mine, theirs, Salt(rapid.Uint32().Draw(t, "salt")), true)
			if same != truly {
				t.Fatalf("called the same: %v, are the same: %v", same, truly)
			}
			for _, item := range f.push {
				push[item] = true
			}
			for _, item := range f.pull {
				pull[item] = true
			}
		}
		for name, side := range map[string]struct {
			got  map[Item]bool
			want memory
		}{"push": {push, without(mine, theirs)}, "pull": {pull, without(theirs, mine)}} {
			for _, item := range side.want {
				if !side.got[item] {
					t.Fatalf("%s: the event at %d was not found", name, item.Key.At)
				}
				delete(side.got, item)
			}
			if len(side.got) > 1 {
				t.Fatalf("%s: %d events are on both sides", name, len(side.got))
			}
		}
	})
}

// exchange gives each side what it lacks; of two contents each keeps its own.
func exchange(mine, theirs memory, f found) (memory, memory) {
	add := func(to memory, items []Item) memory {
		to = slices.Clone(to)
		for _, item := range items {
			if !slices.ContainsFunc(to, func(i Item) bool { return i.Key.ID == item.Key.ID }) {
				to = append(to, item)
			}
		}
		return to
	}
	return add(mine, f.pull), add(theirs, f.push)
}

func TestSidesAgreeButForConflictsWithSketchesToo(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		mine, theirs := logs(t)
		for delta := range 2 { // the second, if need be, without a sketch
			f, _, _ := compare(t, mine, theirs, Salt(rapid.Uint32().Draw(t, "salt")), delta > 0)
			mine, theirs = exchange(mine, theirs, f)
		}
		conflicts := func(only, other memory) {
			for _, item := range only {
				if !slices.ContainsFunc(other, func(i Item) bool { return i.Key.ID == item.Key.ID }) {
					t.Fatalf("an event at %d is on one side only", item.Key.At)
				}
			}
		}
		conflicts(without(mine, theirs), theirs)
		conflicts(without(theirs, mine), mine)
	})
}

func TestManyHereAgainstAFewThereAreFewSpans(t *testing.T) {
	var mine memory
	for i := range int64(5000) {
		mine = append(mine, item(int64(now-400)<<SlotBits+i*80_000, byte(i), "a"))
		mine[i].Key.ID[1] = byte(i >> 8)
	}
	mine.view()
	theirs := slices.Clone(mine[:40:40])
	for i := range theirs {
		theirs[i] = mine[i*120]
	}
	w := NewWalk(mine.view(), 1, now)
	w.pending = []Area{{First: firstSlot, Last: lastSlot}}
	for asked := w.Ask(); asked != nil; asked = w.Ask() {
		answers, err := theirs.view().Answer(t.Context(), *asked)
		if err != nil {
			t.Fatal(err)
		}
		if err := w.Learn(t.Context(), answers); err != nil {
			t.Fatal(err)
		}
	}
	if d := w.Take(); len(d.Push) > 45 || len(mine.in(d.Push)) != 4960 {
		t.Errorf("%d spans with %d events, want 4960 events in about as many spans as there are events there", len(d.Push), len(mine.in(d.Push)))
	}
}

func TestWithoutLeavesExceptionsOut(t *testing.T) {
	kept := memory{item(0, 1, "a"), item(5, 2, "b"), item(1<<21, 3, "c")}
	extra := []Item{item(7, 9, "z"), item(1<<22, 8, "alone in its slot")}
	view, err := append(slices.Clone(kept), extra...).view().Without(t.Context(), []Key{extra[0].Key, extra[1].Key})
	if err != nil {
		t.Fatal(err)
	}
	if view.Tree.Root() != kept.view().Tree.Root() {
		t.Error("the root still knows an exception")
	}
	answers, err := view.Answer(t.Context(), Questions{Areas: []Area{{}}})
	if err != nil || len(answers.Areas[0].List) != 2 {
		t.Errorf("the slot lists %d items (%v), want the 2 that are no exceptions", len(answers.Areas[0].List), err)
	}
}

func TestAReplyThatOnlyClaimsToBeTheSameIsRefused(t *testing.T) {
	w := NewWalk(memory{item(0, 1, "a")}.view(), 1, now)
	for name, reply := range map[string]Reply{
		"no proof":                  {Status: Same},
		"the proof of another root": {Status: Same, Proof: Salt(1).Prove(memory{item(0, 2, "a")}.view().Tree.Root())},
		"a proof of another round":  {Status: Same, Proof: Salt(2).Prove(w.mine.Tree.Root())},
	} {
		if same, err := w.Hear(t.Context(), reply); same || !errors.Is(err, ErrHostile) {
			t.Errorf("%s: same %v, %v; want ErrHostile", name, same, err)
		}
	}
}

func TestAHostileAnswerEndsTheWalk(t *testing.T) {
	slots, slot, part := Area{First: -5, Last: 5}, slotArea(0), partArea(SlotRange(0).child(3))
	for _, c := range []struct {
		name    string
		asked   Area
		answers []Answer
	}{
		{"no answer at all", slots, nil},
		{"nothing but later", slots, []Answer{{Later: true}}},
		{"the area itself again", slots, []Answer{{Runs: []Run{{First: -5, Last: 5, Count: 1}}}}},
		{"an empty run", slots, []Answer{{Runs: []Run{{First: 1, Last: 2}}}}},
		{"overlapping runs", slots, []Answer{{Runs: []Run{{First: 1, Last: 3, Count: 1}, {First: 3, Last: 3, Count: 1}}}}},
		{"runs out of order", slots, []Answer{{Runs: []Run{{First: 3, Last: 4, Count: 1}, {First: 1, Last: 2, Count: 1}}}}},
		{"a run outside", slots, []Answer{{Runs: []Run{{First: 5, Last: 6, Count: 1}}}}},
		{"parts of several slots", slots, []Answer{{Parts: []Part{{Range: part.Part, Count: 1}}}}},
		{"runs of slots in a part", part, []Answer{{Runs: []Run{{Count: 1}}}}},
		{"the part itself again", part, []Answer{{Parts: []Part{{Range: part.Part, Count: 1}}}}},
		{"an empty part", slot, []Answer{{Parts: []Part{{Range: part.Part}}}}},
		{"a part of another slot", slot, []Answer{{Parts: []Part{{Range: SlotRange(9).child(1), Count: 1}}}}},
		{"overlapping parts", slot, []Answer{{Parts: []Part{{Range: part.Part, Count: 1}, {Range: part.Part.child(3), Count: 1}}}}},
	} {
		w := NewWalk(memory{item(0, 1, "a"), item(1<<22, 2, "b")}.view(), 1, now)
		w.pending = []Area{c.asked}
		w.Ask()
		if err := w.Learn(t.Context(), Answers{Areas: c.answers}); !errors.Is(err, ErrHostile) {
			t.Errorf("%s: %v, want ErrHostile", c.name, err)
		}
	}
	w := NewWalk(memory{item(0, 1, "a")}.view(), 1, now)
	if _, err := w.Hear(t.Context(), Reply{Status: Different, From: 5, Runs: []Run{{Count: 1}}}); !errors.Is(err, ErrHostile) {
		t.Errorf("a run before what was asked: %v, want ErrHostile", err)
	}
}

func TestAFailingScanIsNotCalledAnAnswer(t *testing.T) {
	broken := errors.New("disk")
	view := memory{item(0, 1, "a"), item(5, 2, "b")}.view()
	view.scanner = failing{broken}
	if _, err := view.Answer(t.Context(), Questions{Areas: []Area{{}}}); !errors.Is(err, broken) {
		t.Errorf("answer: %v, want the scan's error", err)
	}
	if _, err := view.Without(t.Context(), []Key{{At: 5}}); !errors.Is(err, broken) {
		t.Errorf("without: %v, want the scan's error", err)
	}
}

type failing struct{ error }

func (f failing) Scan(context.Context, []Span, func(Item) error) error { return f.error }
