package merkle

import (
	"bytes"
	"errors"
	"reflect"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// samples are one message of each kind, with every field that it may have.
func samples() map[string][]byte {
	slot := slotArea(now)
	part := partArea(SlotRange(now).child(3).child(9))
	key := Key{At: 5, ID: [16]byte{7}}
	return map[string][]byte{
		"opening": EncodeOpening(Opening{
			Salt: 7, Count: 1 << 40, Root: Digest{1, 31: 2}, Exceptions: Token{3}, Anchor: Token{4}, Plain: true, Look: true, Dry: true,
			Listed: []Exception{{ID: [16]byte{1}}, {ID: [16]byte{2}, Digest: [16]byte{9}}}, Now: now, Hints: [hintCount]uint16{1, 2}, Census: Narrow{5},
		}),
		"same":   EncodeReply(Reply{Status: Same, Proof: Proof{1}, Changed: true, Settled: [][16]byte{{5}}, Regress: &Regress{Count: 1, At: -1}, From: firstSlot}),
		"sketch": EncodeReply(Reply{Status: Different, Count: 9, From: now - 5, Cells: []Cell{{1, 2, 3}, {prime - 1, 0, 255}}}),
		"census": EncodeReply(Reply{Status: Different, From: firstSlot, Wide: &Wide{1, 2}}),
		"runs":   EncodeReply(Reply{Status: Different, From: now, Runs: []Run{{now, now + 5, 1 << 20, 7}, {lastSlot, lastSlot, 1, 1<<24 - 1}}}),
		"questions": EncodeQuestions(Questions{
			Salt: 1, Exceptions: Token{1}, Sketch: &SketchQuestion{firstSlot, now, 100}, Pairs: []int64{-3, now}, Areas: []Area{{First: firstSlot, Last: -1}, slot, {First: now + 1, Last: lastSlot}},
		}),
		"answers": EncodeAnswers([]Area{{First: 0, Last: 9}, part, slot, slot}, Answers{Cells: []Cell{{}}, Squares: []Square{0, prime - 1}, Areas: []Answer{
			{Runs: []Run{{1, 2, 3, 4}}}, {Parts: []Part{{part.Part.child(1), 1, 2}, {KeyRange(key), 1, 2}}}, {List: []uint32{1, 2, 1<<24 - 1}}, {Later: true},
		}}),
		"want spans": EncodeWant(Want{Spans: []Span{
			{Key{At: -1 << 63}, Key{At: -5}}, {key, key}, Area{First: now, Last: now + 2}.Span(),
		}}, &key),
		"want picks": EncodeWant(Want{Salt: 9, Picks: []Pick{{slot, false, []uint32{1 << 31}}, {partArea(SlotRange(now + 1).child(2)), true, []uint32{1, 2}}}}, nil),
	}
}

var askedInSamples = []Area{{First: 0, Last: 9}, partArea(SlotRange(now).child(3).child(9)), slotArea(now), slotArea(now)}

// decodeAny decodes whatever kind of message it is, and encodes it again.
func decodeAny(message []byte) ([]byte, error) {
	kind := byte(0)
	if len(message) > 1 {
		kind = message[1]
	}
	switch kind {
	case kindOpening:
		o, err := DecodeOpening(message, 100)
		return EncodeOpening(o), err
	case kindReply:
		r, err := DecodeReply(message, 100)
		return EncodeReply(r), err
	case kindAnswers:
		a, err := DecodeAnswers(askedInSamples, message)
		if err != nil {
			return nil, err
		}
		return EncodeAnswers(askedInSamples, a), nil
	case kindWant:
		w, after, err := DecodeWant(message)
		return EncodeWant(w, after), err
	default:
		q, err := DecodeQuestions(message)
		return EncodeQuestions(q), err
	}
}

func TestAMessageArrivesAsItWasSent(t *testing.T) {
	for name, message := range samples() {
		again, err := decodeAny(message)
		if err != nil || !bytes.Equal(again, message) {
			t.Errorf("%s: %x became %x (%v)", name, message, again, err)
		}
	}
}

func TestI13AMalformedMessageIsRefusedWhole(t *testing.T) {
	for name, good := range samples() {
		for n := range good {
			if _, err := decodeAny(good[:n]); !errors.Is(err, ErrMessage) {
				t.Errorf("%s cut after %d bytes: %v, want ErrMessage", name, n, err)
			}
		}
		if _, err := decodeAny(append(slices.Clone(good), 0)); !errors.Is(err, ErrMessage) {
			t.Errorf("%s with a byte after its end: %v, want ErrMessage", name, err)
		}
		other := slices.Clone(good)
		other[0]++
		if _, err := decodeAny(other); !errors.Is(err, ErrVersion) {
			t.Errorf("%s in another version: %v, want ErrVersion", name, err)
		}
	}
	for name, message := range map[string][]byte{
		"four billion areas promised":   {versions, kindQuestions, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0x0f},
		"more cells than bytes":         {versions, kindReply, byte(Different), replyCells, 1, 0, 0, 0, 0, 0, 0, 0x80, 0x80, 4},
		"a number beyond the field":     EncodeReply(Reply{Status: Different, From: firstSlot, Cells: []Cell{{sum: prime}}}),
		"a slot beyond the ends":        EncodeReply(Reply{Status: Different, From: lastSlot + 1}),
		"unknown flags":                 {versions, kindWant, 0x80, 0, 0},
		"an unknown status":             {versions, kindReply, 9, 0, 0},
		"areas that do not ascend":      EncodeQuestions(Questions{Areas: []Area{slotArea(5), slotArea(5)}}),
		"spans that do not ascend":      EncodeWant(Want{Spans: []Span{{Key{At: 9}, Key{At: 8}}}}, nil),
		"spans and picks together":      EncodeWant(Want{Spans: []Span{{}}, Picks: []Pick{{slotArea(1), false, []uint32{1}}}}, nil),
		"a list of exceptions too long": EncodeOpening(Opening{Listed: make([]Exception, 101)}),
		"HTML":                          []byte("<html><body>502 Bad Gateway</body></html>"),
	} {
		if _, err := decodeAny(message); !errors.Is(err, ErrMessage) && !errors.Is(err, ErrVersion) {
			t.Errorf("%s: %v, want an error", name, err)
		}
	}
}

// FuzzDecode feeds bytes to every decoder: none may fail otherwise than with an
// error, and what one accepts must mean the same when it is sent on.
func FuzzDecode(f *testing.F) {
	for _, message := range samples() {
		f.Add(message)
	}
	f.Fuzz(func(t *testing.T, message []byte) {
		again, err := decodeAny(message)
		if err != nil {
			return
		}
		if len(again) > 3*len(message)+64 {
			t.Fatalf("%d bytes became %d", len(message), len(again))
		}
		twice, err := decodeAny(again)
		if err != nil || !bytes.Equal(again, twice) {
			t.Fatalf("%x became %x, then %x (%v)", message, again, twice, err)
		}
	})
}

// FuzzHostilePeer answers every message of a walk with bytes of its choice: the walk
// must end, in an error or not, and never call two roots the same that are not.
func FuzzHostilePeer(f *testing.F) {
	for _, message := range samples() {
		f.Add(message, message)
	}
	mine := memory{item(0, 1, "a"), item(1<<22, 2, "b"), item(int64(now)<<SlotBits, 3, "c")}
	f.Fuzz(func(t *testing.T, first, rest []byte) {
		w := NewWalk(mine.view(), 1, now)
		reply, err := DecodeReply(first, 10)
		if err != nil {
			return
		}
		same, err := w.Hear(t.Context(), reply)
		if same && reply.Proof != Salt(1).Prove(w.mine.Tree.Root()) {
			t.Fatal("called the same without its proof")
		}
		for messages := 0; err == nil && !same; messages++ {
			asked := w.Ask()
			if asked == nil {
				break
			}
			if messages > keyNibbles+10 {
				t.Fatal("the walk does not end")
			}
			var answers Answers
			if answers, err = DecodeAnswers(asked.Areas, rest); err == nil {
				err = w.Learn(t.Context(), answers)
			}
		}
		w.Take()
	})
}

func TestWhatIsWantedFitsIntoMessages(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var want Want
		for slot := range int64(rapid.IntRange(0, 6000).Draw(t, "picks")) {
			want.Picks = append(want.Picks, Pick{slotArea(slot), false, make([]uint32, rapid.SampledFrom([]int{1, 1, 1, 500}).Draw(t, "hashes"))})
		}
		for slot := range int64(rapid.IntRange(0, 600).Draw(t, "spans")) {
			want.Spans = append(want.Spans, slotArea(2*slot).Span())
		}
		var got Want
		for some := range want.Messages() {
			decoded, _, err := DecodeWant(EncodeWant(some, nil))
			if err != nil {
				t.Fatal(err)
			}
			got.Spans, got.Picks = append(got.Spans, decoded.Spans...), append(got.Picks, decoded.Picks...)
		}
		if !slices.Equal(got.Spans, want.Spans) || len(got.Picks) != len(want.Picks) || len(got.Picks) > 0 && !reflect.DeepEqual(got.Picks, want.Picks) {
			t.Fatal("what is wanted changed on its way")
		}
	})
}
