package merkle

import (
	"encoding/binary"
	"errors"
)

// MessageVersion is in the first byte of every message, DigestVersion beside it. A
// peer that speaks others is told so before anything is compared.
const MessageVersion = 2

const versions = MessageVersion<<4 | DigestVersion

// MaxMessage bounds a message in bytes, in both directions.
const MaxMessage = 8 << 20

var (
	// ErrMessage: the bytes are not a message of this version.
	ErrMessage = errors.New("malformed message")
	// ErrVersion: the peer speaks another version.
	ErrVersion = errors.New("message version")
)

// A message is the byte of versions, its kind, and its fields one after another.
// Numbers are uvarints, times and slots zigzag varints, digests whole or cut as
// their types say, and fields that may be missing have a bit each in a byte of
// flags. Bytes after the end are an error.
const (
	kindOpening byte = iota + 1
	kindReply
	kindQuestions
	kindAnswers
	kindWant
)

const (
	openingPlain byte = 1 << iota
	openingLook
	openingDry
	openingExceptions
	openingAnchor
	openingListed
)

// EncodeOpening is the message that opens a comparison.
func EncodeOpening(o Opening) []byte {
	w := begin(kindOpening)
	w.flags(
		flag{o.Plain, openingPlain}, flag{o.Look, openingLook}, flag{o.Dry, openingDry}, flag{o.Exceptions != Token{}, openingExceptions},
		flag{o.Anchor != Token{}, openingAnchor}, flag{o.Listed != nil, openingListed})
	w.salt(o.Salt)
	w.number(o.Count)
	w.bytes(o.Root[:])
	if o.Exceptions != (Token{}) {
		w.bytes(o.Exceptions[:])
	}
	if o.Anchor != (Token{}) {
		w.bytes(o.Anchor[:])
	}
	if o.Listed != nil {
		w.number(uint64(len(o.Listed)))
		for _, e := range o.Listed {
			w.bytes(e.ID[:])
			w.bytes(e.Digest[:])
		}
	}
	w.signed(o.Now)
	for _, hint := range o.Hints {
		w.b = binary.BigEndian.AppendUint16(w.b, hint)
	}
	w.bytes(o.Census[:])
	return w.b
}

// DecodeOpening reads a message that opens a comparison; its list of exceptions
// is at most maxListed long.
func DecodeOpening(message []byte, maxListed int) (o Opening, err error) {
	r, err := open(message, kindOpening)
	if err != nil {
		return o, err
	}
	flags := r.flags(openingPlain | openingLook | openingDry | openingExceptions | openingAnchor | openingListed)
	o.Plain, o.Look, o.Dry = flags&openingPlain != 0, flags&openingLook != 0, flags&openingDry != 0
	o.Salt = r.salt()
	o.Count = r.number()
	r.into(o.Root[:])
	if flags&openingExceptions != 0 {
		r.into(o.Exceptions[:])
	}
	if flags&openingAnchor != 0 {
		r.into(o.Anchor[:])
	}
	if flags&openingListed != 0 {
		o.Listed = make([]Exception, r.length(maxListed, 32))
		for i := range o.Listed {
			r.into(o.Listed[i].ID[:])
			r.into(o.Listed[i].Digest[:])
		}
	}
	o.Now = r.slot()
	for i := range o.Hints {
		o.Hints[i] = uint16(r.fixed(2))
	}
	r.into(o.Census[:])
	return o, r.close()
}

const (
	replySettled byte = 1 << iota
	replyRegress
	replyFrom
	replyCells
	replyWide
	replyRuns
	replyChanged
)

// EncodeReply is the message that answers an opening.
func EncodeReply(p Reply) []byte {
	w := begin(kindReply)
	w.byte(byte(p.Status))
	w.flags(
		flag{p.Settled != nil, replySettled}, flag{p.Regress != nil, replyRegress}, flag{p.From != firstSlot, replyFrom},
		flag{p.Changed, replyChanged}, flag{p.Cells != nil, replyCells}, flag{p.Wide != nil, replyWide}, flag{p.Runs != nil, replyRuns})
	if p.Settled != nil {
		w.number(uint64(len(p.Settled)))
		for _, id := range p.Settled {
			w.bytes(id[:])
		}
	}
	if p.Regress != nil {
		w.number(p.Regress.Count)
		w.bytes(p.Regress.Root[:])
		w.signed(p.Regress.At)
	}
	if p.Status == Same {
		w.bytes(p.Proof[:])
		return w.b
	}
	w.number(p.Count)
	w.bytes(p.Root[:])
	if p.From != firstSlot {
		w.signed(p.From)
	}
	switch {
	case p.Cells != nil:
		w.cells(p.Cells)
	case p.Wide != nil:
		for _, c := range p.Wide {
			w.b = binary.BigEndian.AppendUint16(w.b, c)
		}
	case p.Runs != nil:
		w.runs(p.From, p.Runs)
	}
	return w.b
}

// DecodeReply reads a message that answers an opening with a list of at most
// maxListed exceptions.
func DecodeReply(message []byte, maxListed int) (p Reply, err error) {
	r, err := open(message, kindReply)
	if err != nil {
		return p, err
	}
	p.Status = Status(r.byte())
	if p.Status < Same || p.Status > Different {
		r.fail("unknown status")
	}
	flags := r.flags(replySettled | replyRegress | replyFrom | replyCells | replyWide | replyRuns | replyChanged)
	p.Changed = flags&replyChanged != 0
	if flags&replySettled != 0 {
		p.Settled = make([][16]byte, r.length(maxListed, 16))
		for i := range p.Settled {
			r.into(p.Settled[i][:])
		}
	}
	if flags&replyRegress != 0 {
		p.Regress = &Regress{Count: r.number()}
		r.into(p.Regress.Root[:])
		p.Regress.At = r.signed()
	}
	p.From = firstSlot
	if p.Status == Same {
		r.into(p.Proof[:])
		return p, r.close()
	}
	p.Count = r.number()
	r.into(p.Root[:])
	if flags&replyFrom != 0 {
		p.From = r.slot()
	}
	switch body := flags & (replyCells | replyWide | replyRuns); {
	case p.Status != Different && body == 0:
	case p.Status == Different && body == replyCells:
		p.Cells = r.cells()
	case p.Status == Different && body == replyWide:
		p.Wide = new(Wide)
		for i := range p.Wide {
			p.Wide[i] = uint16(r.fixed(2))
		}
	case p.Status == Different && body == replyRuns:
		p.Runs = r.runs(p.From, maxParts)
	default:
		r.fail("not one body")
	}
	return p, r.close()
}

const (
	questionsExceptions byte = 1 << iota
	questionsSketch
	questionsPairs
)

// EncodeQuestions is the message that asks.
func EncodeQuestions(q Questions) []byte {
	w := begin(kindQuestions)
	w.flags(flag{q.Exceptions != Token{}, questionsExceptions}, flag{q.Sketch != nil, questionsSketch}, flag{q.Pairs != nil, questionsPairs})
	w.salt(q.Salt)
	if q.Exceptions != (Token{}) {
		w.bytes(q.Exceptions[:])
	}
	if s := q.Sketch; s != nil {
		w.signed(s.From)
		w.signed(s.Now)
		w.number(uint64(s.Cells))
	}
	if q.Pairs != nil {
		w.number(uint64(len(q.Pairs)))
		last := int64(0)
		for _, slot := range q.Pairs {
			w.signed(slot - last)
			last = slot
		}
	}
	w.number(uint64(len(q.Areas)))
	var last Area
	for _, a := range q.Areas {
		w.areaAfter(last, a)
		last = a
	}
	return w.b
}

// DecodeQuestions reads a message that asks.
func DecodeQuestions(message []byte) (q Questions, err error) {
	r, err := open(message, kindQuestions)
	if err != nil {
		return q, err
	}
	flags := r.flags(questionsExceptions | questionsSketch | questionsPairs)
	q.Salt = r.salt()
	if flags&questionsExceptions != 0 {
		r.into(q.Exceptions[:])
	}
	if flags&questionsSketch != 0 {
		q.Sketch = &SketchQuestion{From: r.slot(), Now: r.slot(), Cells: r.bounded(maxCells)}
	}
	if flags&questionsPairs != 0 {
		q.Pairs = make([]int64, r.length(maxQuestions, 1))
		for i := range q.Pairs {
			q.Pairs[i] = r.signed()
			if i > 0 {
				if q.Pairs[i] <= 0 {
					r.fail("slots that do not ascend")
				}
				q.Pairs[i] = r.sum(q.Pairs[i-1], q.Pairs[i])
			} else {
				q.Pairs[i] = r.sum(0, q.Pairs[i])
			}
		}
	}
	q.Areas = make([]Area, r.length(maxQuestions, 2))
	var last Area
	for i := range q.Areas {
		q.Areas[i] = r.areaAfter(last, i > 0)
		last = q.Areas[i]
	}
	return q, r.close()
}

const (
	answersCells byte = 1 << iota
	answersSquares
)

const (
	answerRuns byte = iota
	answerParts
	answerList
	answerLater
)

// EncodeAnswers is the message that answers questions.
func EncodeAnswers(asked []Area, a Answers) []byte {
	w := begin(kindAnswers)
	w.flags(flag{a.Cells != nil, answersCells}, flag{a.Squares != nil, answersSquares})
	if a.Cells != nil {
		w.cells(a.Cells)
	}
	if a.Squares != nil {
		w.number(uint64(len(a.Squares)))
		for _, s := range a.Squares {
			w.cut(uint32(s), 4)
		}
	}
	w.number(uint64(len(a.Areas)))
	for i, answer := range a.Areas {
		switch {
		case answer.Later:
			w.byte(answerLater)
		case answer.List != nil:
			w.byte(answerList)
			w.number(uint64(len(answer.List)))
			for _, hash := range answer.List {
				w.cut(hash, shortBytes)
			}
		case answer.Parts != nil:
			w.byte(answerParts)
			w.parts(asked[i].within(), answer.Parts)
		default:
			w.byte(answerRuns)
			w.runs(asked[i].First, answer.Runs)
		}
	}
	return w.b
}

// DecodeAnswers reads the answers to the questions asked.
func DecodeAnswers(asked []Area, message []byte) (a Answers, err error) {
	r, err := open(message, kindAnswers)
	if err != nil {
		return a, err
	}
	flags := r.flags(answersCells | answersSquares)
	if flags&answersCells != 0 {
		a.Cells = r.cells()
	}
	if flags&answersSquares != 0 {
		a.Squares = make([]Square, r.length(maxQuestions, 4))
		for i := range a.Squares {
			a.Squares[i] = Square(r.element())
		}
	}
	if n := r.length(maxQuestions, 1); n != len(asked) {
		r.fail("another number of answers than of questions")
		return a, r.err
	}
	a.Areas = make([]Answer, len(asked))
	parts, listed := maxParts+runsAtOnce*keyNibbles, maxListed+2*listAtMost
	for i := range a.Areas {
		switch r.byte() {
		case answerLater:
			a.Areas[i].Later = true
		case answerList:
			list := make([]uint32, r.length(min(listed, 2*listAtMost), shortBytes))
			for j := range list {
				list[j] = uint32(r.fixed(shortBytes))
			}
			a.Areas[i].List = list
			listed -= len(list)
		case answerParts:
			a.Areas[i].Parts = r.parts(asked[i].within(), parts)
			parts -= len(a.Areas[i].Parts)
		case answerRuns:
			a.Areas[i].Runs = r.runs(asked[i].First, parts)
			parts -= len(a.Areas[i].Runs)
		default:
			r.fail("unknown answer")
		}
		if r.err != nil {
			return Answers{}, r.err
		}
	}
	return a, r.close()
}

// Limits of a Want.
const (
	MaxWantSpans = 256
	maxWantPicks = 1 << 12
	maxHashes    = 1 << 14 // of all picks together
)

const (
	wantSalted byte = 1 << iota
	wantAfter
)

// EncodeWant is the message that fetches: the events that are wanted, spans or
// picks, behind a key where that is not nil.
func EncodeWant(want Want, after *Key) []byte {
	w := begin(kindWant)
	salted := false
	for _, p := range want.Picks {
		salted = salted || p.Listed
	}
	w.flags(flag{salted, wantSalted}, flag{after != nil, wantAfter})
	if salted {
		w.salt(want.Salt)
	}
	if after != nil {
		b := after.bytes()
		w.bytes(b[:])
	}
	w.number(uint64(len(want.Spans)))
	for _, s := range want.Spans {
		w.span(s)
	}
	w.number(uint64(len(want.Picks)))
	var last Area
	for _, p := range want.Picks {
		w.areaAfter(last, p.Area)
		last = p.Area
		size := pickBytes(p.Listed)
		w.number(uint64(len(p.Hashes))<<1 | uint64(4-size))
		for _, hash := range p.Hashes {
			w.cut(hash, size)
		}
	}
	return w.b
}

// pickBytes is the size of a pick's hashes: a sketch's have four bytes.
func pickBytes(listed bool) int {
	if listed {
		return shortBytes
	}
	return 4
}

// DecodeWant reads a message that fetches.
func DecodeWant(message []byte) (want Want, after *Key, err error) {
	r, err := open(message, kindWant)
	if err != nil {
		return want, nil, err
	}
	flags := r.flags(wantSalted | wantAfter)
	if flags&wantSalted != 0 {
		want.Salt = r.salt()
	}
	if flags&wantAfter != 0 {
		k := r.key()
		after = &k
	}
	want.Spans = make([]Span, r.length(MaxWantSpans, 1))
	for i := range want.Spans {
		s := r.span()
		if s.From.Compare(s.To) > 0 || i > 0 && want.Spans[i-1].To.Compare(s.From) >= 0 {
			r.fail("spans that do not ascend")
		}
		want.Spans[i] = s
	}
	want.Picks = make([]Pick, r.length(maxWantPicks, 3))
	var last Area
	left := maxHashes
	for i := range want.Picks {
		p := Pick{Area: r.areaAfter(last, i > 0)}
		last = p.Area
		n := r.number()
		p.Listed = n&1 == 1
		size := pickBytes(p.Listed)
		if n >>= 1; n > uint64(min(left, 2*listAtMost, len(r.rest)/size)) {
			r.fail("too many hashes")
			break
		}
		for range n {
			p.Hashes = append(p.Hashes, uint32(r.fixed(size)))
		}
		left -= int(n)
		want.Picks[i] = p
	}
	if len(want.Spans) > 0 && len(want.Picks) > 0 {
		r.fail("spans and picks together")
	}
	return want, after, r.close()
}
