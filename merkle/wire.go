package merkle

import (
	"encoding/binary"
	"fmt"
	"math"
)

// writer encodes a message.
type writer struct{ b []byte }

func begin(kind byte) *writer { return &writer{b: []byte{versions, kind}} }

// flag is a field that may be missing, and its bit.
type flag struct {
	set bool
	bit byte
}

func (w *writer) flags(list ...flag) {
	var b byte
	for _, f := range list {
		if f.set {
			b |= f.bit
		}
	}
	w.byte(b)
}

func (w *writer) byte(b byte)     { w.b = append(w.b, b) }
func (w *writer) bytes(b []byte)  { w.b = append(w.b, b...) }
func (w *writer) number(n uint64) { w.b = binary.AppendUvarint(w.b, n) }
func (w *writer) signed(n int64)  { w.b = binary.AppendVarint(w.b, n) }
func (w *writer) salt(s Salt)     { w.b = binary.BigEndian.AppendUint32(w.b, uint32(s)) }

// cut writes the last bytes of a number.
func (w *writer) cut(n uint32, size int) {
	for size--; size >= 0; size-- {
		w.byte(byte(n >> (8 * size)))
	}
}

// rangeAfter writes how many nibbles a range shares with the one before it, how
// many more it has, and those. Ranges of one message lie close together.
func (w *writer) rangeAfter(last, r Range) {
	shared := uint8(0)
	for shared < min(last.Nibbles, r.Nibbles) && last.nibble(shared) == r.nibble(shared) {
		shared++
	}
	more := r.Nibbles - shared
	if shared < 15 && more <= 15 {
		w.byte(shared<<4 | more)
	} else {
		w.bytes([]byte{0xf0, shared, more})
	}
	for i := shared; i < r.Nibbles; i += 2 {
		b := r.nibble(i) << 4
		if i+1 < r.Nibbles {
			b |= r.nibble(i + 1)
		}
		w.byte(b)
	}
}

// parts are written each after the range before it, the first after the one that
// was asked about.
func (w *writer) parts(asked Range, parts []Part) {
	w.number(uint64(len(parts)))
	last := asked
	for _, p := range parts {
		w.rangeAfter(last, p.Range)
		last = p.Range
		w.number(p.Count)
		w.cut(p.Short, shortBytes)
	}
}

// areaAfter writes an area behind the one before it: the slots between them, how
// many it has, and whether it is a part of one.
func (w *writer) areaAfter(last, a Area) {
	w.signed(a.First - last.Last)
	if a.whole() {
		w.number(uint64(a.Last-a.First) << 1)
		return
	}
	w.number(1)
	w.rangeAfter(SlotRange(a.First), a.Part)
}

// runs are written each behind the slot where the one before it ends.
func (w *writer) runs(from int64, runs []Run) {
	w.number(uint64(len(runs)))
	for _, run := range runs {
		w.number(uint64(run.First - from))
		w.number(uint64(run.Last - run.First))
		w.number(run.Count)
		w.cut(run.Short, shortBytes)
		from = run.Last
	}
}

func (w *writer) cells(cells []Cell) {
	w.number(uint64(len(cells)))
	for _, c := range cells {
		w.cut(uint32(c.sum), 4)
		w.cut(uint32(c.moved), 4)
		w.byte(c.count)
	}
}

const (
	spanSlots byte = iota
	spanKey
	spanKeys
)

// span writes whole slots, one key, or both ends.
func (w *writer) span(s Span) {
	from, to := s.From.bytes(), s.To.bytes()
	switch {
	case s == Area{First: s.From.Slot(), Last: s.To.Slot()}.Span():
		w.byte(spanSlots)
		w.signed(s.From.Slot())
		w.number(uint64(s.To.Slot() - s.From.Slot()))
	case s.From == s.To:
		w.byte(spanKey)
		w.bytes(from[:])
	default:
		w.byte(spanKeys)
		w.bytes(from[:])
		w.bytes(to[:])
	}
}

// reader decodes; the first failure sticks and everything after it reads zero.
type reader struct {
	rest []byte
	err  error
}

func open(message []byte, kind byte) (*reader, error) {
	r := &reader{rest: message}
	if len(message) > MaxMessage {
		return nil, fmt.Errorf("%w: %d bytes, at most %d are allowed", ErrMessage, len(message), MaxMessage)
	}
	version, got := r.byte(), r.byte()
	switch {
	case r.err != nil:
		return nil, r.err
	case version != versions:
		return nil, fmt.Errorf("%w %d.%d, this side speaks %d.%d", ErrVersion, version>>4, version&15, MessageVersion, DigestVersion)
	case got != kind:
		return nil, fmt.Errorf("%w: kind %d, want %d", ErrMessage, got, kind)
	}
	return r, nil
}

func (r *reader) fail(what string) {
	if r.err == nil {
		r.err = fmt.Errorf("%w: %s, %d bytes before its end", ErrMessage, what, len(r.rest))
	}
	r.rest = nil
}

func (r *reader) take(n int) []byte {
	if len(r.rest) < n {
		r.fail("cut short")
		return make([]byte, n)
	}
	b := r.rest[:n]
	r.rest = r.rest[n:]
	return b
}

func (r *reader) byte() byte    { return r.take(1)[0] }
func (r *reader) into(b []byte) { copy(b, r.take(len(b))) }
func (r *reader) salt() Salt    { return Salt(r.fixed(4)) }

// fixed reads a big-endian number of so many bytes.
func (r *reader) fixed(size int) (n uint64) {
	for _, b := range r.take(size) {
		n = n<<8 | uint64(b)
	}
	return n
}

// flags reads a byte of flags; those that are not known are an error.
func (r *reader) flags(known byte) byte {
	b := r.byte()
	if b&^known != 0 {
		r.fail("unknown flags")
	}
	return b & known
}

func (r *reader) number() uint64 {
	v, n := binary.Uvarint(r.rest)
	if n <= 0 {
		r.fail("bad number")
		return 0
	}
	r.rest = r.rest[n:]
	return v
}

func (r *reader) signed() int64 {
	v, n := binary.Varint(r.rest)
	if n <= 0 {
		r.fail("bad number")
		return 0
	}
	r.rest = r.rest[n:]
	return v
}

// slot reads a slot's number, which has SlotBits less than a time.
func (r *reader) slot() int64 {
	return r.sum(0, r.signed())
}

// sum is a slot so many behind another, or before it.
func (r *reader) sum(slot, n int64) int64 {
	// Neither overflows: a slot has SlotBits less than an int64.
	if n < firstSlot-lastSlot || n > lastSlot-firstSlot || slot+n < firstSlot || slot+n > lastSlot {
		r.fail("slot beyond the ends of time")
		return 0
	}
	return slot + n
}

// later is a slot so many behind another.
func (r *reader) later(slot int64, n uint64) int64 {
	return r.sum(slot, int64(min(n, math.MaxInt64)))
}

func (r *reader) bounded(limit int) int {
	n := r.number()
	if n > uint64(limit) {
		r.fail("number too large")
		return 0
	}
	return int(n)
}

// length reads how many parts follow; more than the limit, or than there are
// bytes for, is refused before anything is allocated for them.
func (r *reader) length(limit, bytesEach int) int {
	n := r.bounded(limit)
	if n > len(r.rest)/bytesEach {
		r.fail("more parts than bytes")
		return 0
	}
	return n
}

func (r *reader) rangeAfter(last Range) (s Range) {
	b := r.byte()
	shared, more := b>>4, b&15
	if b == 0xf0 {
		shared, more = r.byte(), r.byte()
	}
	if shared > last.Nibbles || int(shared)+int(more) > keyNibbles {
		r.fail("range longer than a key")
		return Range{}
	}
	for i := range shared {
		s = s.child(last.nibble(i))
	}
	for i := uint8(0); i < more; i += 2 {
		b := r.byte()
		s = s.child(b >> 4)
		if i+1 < more {
			s = s.child(b & 15)
		} else if b&15 != 0 {
			r.fail("prefix longer than its range")
		}
	}
	return s
}

func (r *reader) parts(asked Range, limit int) []Part {
	parts := make([]Part, r.length(limit, 2+shortBytes))
	last := asked
	for i := range parts {
		parts[i] = Part{Range: r.rangeAfter(last), Count: r.number(), Short: uint32(r.fixed(shortBytes))}
		last = parts[i].Range
	}
	return parts
}

// areaAfter reads an area; one that follows another must lie behind it.
func (r *reader) areaAfter(last Area, follows bool) (a Area) {
	a.First = r.sum(last.Last, r.signed())
	n := r.number()
	a.Last = a.First
	if n&1 == 1 {
		a.Part = r.rangeAfter(SlotRange(a.First))
		if a.Part.Nibbles <= slotNibbles || a.Part.slot() != a.First {
			r.fail("part of another slot")
			return Area{}
		}
	} else {
		a.Last = r.later(a.First, n>>1)
	}
	if follows && last.Span().To.Compare(a.Span().From) >= 0 {
		r.fail("areas that do not ascend")
	}
	return a
}

func (r *reader) runs(from int64, limit int) []Run {
	runs := make([]Run, r.length(limit, 3+shortBytes))
	for i := range runs {
		run := Run{First: r.later(from, r.number())}
		run.Last = r.later(run.First, r.number())
		run.Count, run.Short = r.number(), uint32(r.fixed(shortBytes))
		runs[i], from = run, run.Last
	}
	return runs
}

func (r *reader) cells() []Cell {
	cells := make([]Cell, r.length(maxCells, cellBytes))
	for i := range cells {
		cells[i] = Cell{r.element(), r.element(), r.byte()}
	}
	return cells
}

func (r *reader) element() element {
	n := r.fixed(4)
	if n >= prime {
		r.fail("number beyond the field")
	}
	return element(n)
}

func (r *reader) key() Key { return keyOf([keyBytes]byte(r.take(keyBytes))) }

func (r *reader) span() (s Span) {
	switch r.byte() {
	case spanSlots:
		from := r.slot()
		return Area{First: from, Last: r.later(from, r.number())}.Span()
	case spanKey:
		k := r.key()
		return Span{k, k}
	case spanKeys:
		return Span{r.key(), r.key()}
	}
	r.fail("unknown span")
	return Span{}
}

func (r *reader) close() error {
	if r.err == nil && len(r.rest) > 0 {
		r.fail("bytes after its end")
	}
	return r.err
}
