package reconcile

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/veloxpos/reconciled/internal/velox"
	"github.com/veloxpos/reconciled/merkle"
)

// BeforeFirst lies before the first slot there can be, lastSlot is the last.
const (
	BeforeFirst int64 = math.MinInt64>>merkle.SlotBits - 1
	lastSlot    int64 = math.MaxInt64 >> merkle.SlotBits
)

// SectionSlots is how many slots a Section may name, and a Rehash tells of.
const SectionSlots = 512

// Section is a part of a log that is to be digested anew.
type Section struct {
	After   int64       `json:"after"`             // slots behind it
	Slots   []int64     `json:"slots,omitempty"`   // these of them alone, ascending; all that hold anything when empty
	Without []uuid.UUID `json:"without,omitempty"` // events to be left out of the digests
}

// DecodeSection reads a Section and checks it. After is BeforeFirst when it is
// missing or null.
func DecodeSection(text []byte) (Section, error) {
	section := Section{After: BeforeFirst}
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&section); err != nil {
		return section, fmt.Errorf("section: %w", err)
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return section, errors.New("section: text after the value")
	}
	last := BeforeFirst
	for i, slot := range section.Slots {
		if slot <= last || slot > lastSlot {
			return section, fmt.Errorf("section: slots[%d] is %d: not behind the one before, or no slot", i, slot)
		}
		last = slot
	}
	switch {
	case section.After < BeforeFirst || section.After > lastSlot:
		return section, fmt.Errorf("section: after is %d: no slot", section.After)
	case len(section.Slots) > SectionSlots:
		return section, fmt.Errorf("section: %d slots, at most %d", len(section.Slots), SectionSlots)
	case len(section.Without) > MaxExceptions:
		return section, fmt.Errorf("section: without names %d events, at most %d", len(section.Without), MaxExceptions)
	}
	return section, nil
}

// Mark is the beginning of a digest, hex in JSON.
type Mark [8]byte

// MarshalText is the mark in hex.
func (m Mark) MarshalText() ([]byte, error) { return hex.AppendEncode(nil, m[:]), nil }

// UnmarshalText reads a mark in hex.
func (m *Mark) UnmarshalText(text []byte) error {
	b, err := hex.DecodeString(string(text))
	if err != nil || len(b) != len(m) {
		return fmt.Errorf("digest %.40q is not %d bytes in hex", text, len(m))
	}
	*m = Mark(b)
	return nil
}

// SlotCheck is what a slot's events add up to now.
type SlotCheck struct {
	Slot   int64  `json:"slot"`
	Count  uint32 `json:"count"`            // of all its items
	Purged uint32 `json:"purged,omitempty"` // of these, declared purges: items without an event
	Digest Mark   `json:"digest"`           // of the items that were not to be left out
	// Stale: the stored leaf says otherwise, and no change that waits explains it.
	Stale bool `json:"stale,omitempty"`
	// Drift: SHA-256 over each event's id, vector clock and causal dependencies, which
	// no item covers; zero when there is no event.
	Drift Mark `json:"drift"`
	// Corrupt are events whose content is not what their own hash was taken of.
	Corrupt Some[uuid.UUID] `json:"corrupt,omitzero"`
}

// Rehash is what the slots of a section are, in order: those up to After. The next
// section begins behind it, unless Done.
type Rehash struct {
	Slots []SlotCheck `json:"slots"`
	After int64       `json:"after"`
	Done  bool        `json:"done"`
}

// Rehasher digests a log anew. It need not finish a section at once.
type Rehasher interface {
	Rehash(ctx context.Context, store velox.StoreID, section Section) (Rehash, error)
}

// Some is a list that is bounded, and how many there were.
type Some[T any] struct {
	Count uint64 `json:"count"`
	First []T    `json:"first,omitempty"`
}

// SomeAtMost is how many a Some holds.
const SomeAtMost = 50

// Add notes one.
func (s *Some[T]) Add(v T) { s.Join(Some[T]{1, []T{v}}) }

// Join notes what another list has noted.
func (s *Some[T]) Join(o Some[T]) {
	s.Count += o.Count
	s.First = append(s.First, o.First[:min(len(o.First), SomeAtMost-len(s.First))]...)
}

// VerifySide is what is wrong with one side by itself.
type VerifySide struct {
	Events  uint64          `json:"events"`
	Stale   Some[int64]     `json:"stale"`   // slots
	Corrupt Some[uuid.UUID] `json:"corrupt"` // events
}

// SlotDifference is a slot that does not hold the same on both sides.
type SlotDifference struct {
	Slot  int64        `json:"slot"`
	From  velox.Millis `json:"from"` // of 2^20 ms
	Here  uint32       `json:"here"` // items
	There uint32       `json:"there"`
}

// VerifyReport is what a full comparison found.
type VerifyReport struct {
	Slots uint64     `json:"slots"`
	Here  VerifySide `json:"here"`
	There VerifySide `json:"there"`
	// Differ are slots with other events, or others in them; Known those in which
	// only agreed exceptions differ.
	Differ Some[SlotDifference] `json:"differ"`
	Known  Some[SlotDifference] `json:"known"`
	// Drift are slots with the same events, and other bookkeeping around them: told,
	// and no difference.
	Drift   Some[int64]   `json:"drift"`
	Elapsed time.Duration `json:"elapsed_ns"`
}

// Good reports whether nothing differs but what is known, and nothing is stale or
// corrupt.
func (r VerifyReport) Good() bool {
	return r.Differ.Count+r.Here.Stale.Count+r.There.Stale.Count+r.Here.Corrupt.Count+r.There.Corrupt.Count == 0
}

// Verify digests both logs anew and compares them slot by slot: it trusts no tree, on
// neither side. Slots that differ are looked at once more, without the exceptions in
// them: what was moving then may be the same by now. progress is told how many events
// have been read here; it may be nil.
func Verify(ctx context.Context, store velox.StoreID, here, there Rehasher, exceptions []Exception, progress func(events uint64)) (VerifyReport, error) {
	v := &verification{store: store, excepted: map[int64]bool{}}
	for _, e := range exceptions {
		v.exceptions = append(v.exceptions, e.Event)
		v.excepted[merkle.Key{At: int64(e.At)}.Slot()] = true
	}
	began := time.Now()
	err := v.compare(ctx,
		&rehashing{of: here, name: "here", store: store, section: Section{After: BeforeFirst}},
		&rehashing{of: there, name: "there", store: store, section: Section{After: BeforeFirst}}, progress)
	v.report.Elapsed = time.Since(began)
	return v.report, err
}

type verification struct {
	store      velox.StoreID
	exceptions []uuid.UUID
	excepted   map[int64]bool // slots that hold any
	report     VerifyReport
	again      []int64 // slots that differed, and wait for a second look
}

func (v *verification) compare(ctx context.Context, here, there *rehashing, progress func(uint64)) error {
	err := merge(ctx, here, there, func(a, b SlotCheck) error {
		v.report.Slots++
		v.report.Here.note(a)
		v.report.There.note(b)
		if progress != nil {
			progress(v.report.Here.Events)
		}
		switch {
		case a.Digest != b.Digest:
			v.again = append(v.again, a.Slot)
		case a.Drift != b.Drift && a.Purged == b.Purged: // else one side has events that the other purged
			v.report.Drift.Add(a.Slot)
		}
		if len(v.again) < SectionSlots {
			return nil
		}
		return v.lookAgain(ctx, here.of, there.of)
	})
	if err == nil && len(v.again) > 0 {
		err = v.lookAgain(ctx, here.of, there.of)
	}
	return err
}

func (s *VerifySide) note(c SlotCheck) {
	s.Events += uint64(c.Count - c.Purged)
	if c.Stale {
		s.Stale.Add(c.Slot)
	}
	s.Corrupt.Join(c.Corrupt)
}

// lookAgain digests the slots that differed once more, the exceptions left out.
func (v *verification) lookAgain(ctx context.Context, here, there Rehasher) error {
	section := Section{After: BeforeFirst, Slots: v.again, Without: v.exceptions}
	v.again = nil
	return merge(ctx,
		&rehashing{of: here, name: "here", store: v.store, section: section},
		&rehashing{of: there, name: "there", store: v.store, section: section},
		func(a, b SlotCheck) error {
			difference := SlotDifference{Slot: a.Slot, From: velox.Millis(merkle.SlotRange(a.Slot).Span().From.At), Here: a.Count, There: b.Count}
			switch {
			case a.Digest != b.Digest:
				v.report.Differ.Add(difference)
			case v.excepted[a.Slot]:
				v.report.Known.Add(difference)
			}
			return nil
		})
}

// merge goes through two rehashings by slot. A slot that one side does not tell of
// holds nothing there.
func merge(ctx context.Context, here, there *rehashing, each func(a, b SlotCheck) error) error {
	for {
		a, moreHere, err := here.next(ctx)
		if err != nil {
			return err
		}
		b, moreThere, err := there.next(ctx)
		if err != nil {
			return err
		}
		switch {
		case !moreHere && !moreThere:
			return nil
		case !moreThere, moreHere && a.Slot < b.Slot:
			b = SlotCheck{Slot: a.Slot}
			here.take()
		case !moreHere, b.Slot < a.Slot:
			a = SlotCheck{Slot: b.Slot}
			there.take()
		default:
			here.take()
			there.take()
		}
		if err := each(a, b); err != nil {
			return err
		}
	}
}

// rehashing is one side's slots, a section after another.
type rehashing struct {
	of      Rehasher
	name    string
	store   velox.StoreID
	section Section // what is still to be asked for
	held    []SlotCheck
	done    bool
}

// next is the next slot, which stays the next until it is taken; false behind the
// last.
func (r *rehashing) next(ctx context.Context) (check SlotCheck, more bool, err error) {
	for len(r.held) == 0 && !r.done {
		answer, err := r.of.Rehash(ctx, r.store, r.section)
		if err == nil {
			err = r.section.admits(answer)
		}
		if err != nil {
			return check, false, fmt.Errorf("rehash %s: %w", r.name, err)
		}
		r.held, r.section.After, r.done = answer.Slots, answer.After, answer.Done
	}
	if len(r.held) == 0 {
		return check, false, nil
	}
	return r.held[0], true, nil
}

func (r *rehashing) take() { r.held = r.held[1:] }

// admits refuses an answer that does not go on, or that nobody asked for: a peer must
// not be able to keep this side busy for ever.
func (s Section) admits(answer Rehash) error {
	after := s.After
	for _, c := range answer.Slots {
		if c.Slot <= after || c.Slot > answer.After || c.Purged > c.Count {
			return fmt.Errorf("%w: slot %d is out of order or makes no sense", merkle.ErrHostile, c.Slot)
		}
		if _, asked := slices.BinarySearch(s.Slots, c.Slot); len(s.Slots) > 0 && !asked {
			return fmt.Errorf("%w: slot %d was not asked for", merkle.ErrHostile, c.Slot)
		}
		after = c.Slot
	}
	if !answer.Done && answer.After <= s.After {
		return fmt.Errorf("%w: it does not go on behind slot %d", merkle.ErrHostile, s.After)
	}
	return nil
}
