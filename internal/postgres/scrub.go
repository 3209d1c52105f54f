package postgres

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/veloxpos/reconciled/internal/velox"
	"github.com/veloxpos/reconciled/lock"
	"github.com/veloxpos/reconciled/merkle"
)

// ScrubOptions of a turn.
type ScrubOptions struct {
	Rate   int         // events a second at most; 2000 when zero
	Events int64       // about how many events end the turn; 100,000 when zero
	Stop   func() bool // asked between slots; nil: never
}

// ScrubReport is what a turn looked at and found.
type ScrubReport struct {
	Slots    int64      `json:"slots"`
	Events   int64      `json:"events"`
	Pending  int64      `json:"pending"` // slots passed over: a change of theirs is not in the tree yet
	Found    int64      `json:"found"`   // pieces of evidence, those that were known before aside
	LastFull *time.Time `json:"lastFull"`
}

// Plus adds a later part of the same turn.
func (r ScrubReport) Plus(later ScrubReport) ScrubReport {
	later.Slots += r.Slots
	later.Events += r.Events
	later.Pending += r.Pending
	later.Found += r.Found
	return later
}

// ScrubState is where the pass under way is.
type ScrubState struct {
	Began                time.Time
	Slots, Events, Found int64
	Progress             float64    // of the events, 0 to 1
	LastFull             *time.Time // end of the last complete pass; nil before the first
}

// ScrubState reads a store's; the zero state before the first turn.
func (l *Log) ScrubState(ctx context.Context, store velox.StoreID) (s ScrubState, err error) {
	err = l.db.Pool.QueryRow(ctx, `
		SELECT began_at, slots, events, found, last_full_at, CASE WHEN slot IS NULL THEN (last_full_at IS NOT NULL)::int
			ELSE least(events / greatest((SELECT count FROM reconciled.root r WHERE r.store_id = s.store_id), 1)::float8, 1) END
		FROM reconciled.scrub s WHERE store_id = $1`, store).Scan(&s.Began, &s.Slots, &s.Events, &s.Found, &s.LastFull, &s.Progress)
	if err != nil && !errors.Is(err, pgx.ErrNoRows) {
		return s, fmt.Errorf("read state of scrub: %w", err)
	}
	return s, nil
}

// SlotItems are those of a slot's events and declared purges as they are now, in
// key order.
func (l *Log) SlotItems(ctx context.Context, store velox.StoreID, slot int64) (items []merkle.Item, err error) {
	err = pgx.BeginTxFunc(ctx, l.db.Pool, snapshot, func(tx pgx.Tx) error {
		one := []int64{slot}
		return readItems(ctx, tx, store, one, adjacent(one), func(item merkle.Item) { items = append(items, item) })
	})
	if err != nil {
		return nil, fmt.Errorf("read items of slot %d: %w", slot, err)
	}
	return items, nil
}

// snapshot: everything that is read is of one moment.
var snapshot = pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}

// Scrub goes on with the slow pass over everything: each slot is digested anew and
// each event checked against its own hash. A slot that is not what its leaf says,
// while nothing in the dirty log explains it, was changed past the triggers: that
// is kept as evidence, and the slot marked, so that the tree tells the truth again.
// A turn ends with its share of events, at the end of the pass, or with
// lock.ErrGaveWay where it was asked to stop; the next one goes on from there.
func (l *Log) Scrub(ctx context.Context, grant lock.Grant, opts ScrubOptions) (ScrubReport, error) {
	if opts.Rate == 0 {
		opts.Rate = 2000
	}
	if opts.Events == 0 {
		opts.Events = 100_000
	}
	if opts.Stop == nil {
		opts.Stop = func() bool { return false }
	}
	if _, err := l.Pin(ctx, grant.Store); err != nil { // leaves to compare with
		return ScrubReport{}, err
	}
	s := scrub{log: l, grant: grant, opts: opts, due: time.Now()}
	err := s.begin(ctx)
	if err == nil {
		err = s.turn(ctx)
	}
	return s.report, err
}

// scrub is a turn. Window is what it has looked at since it last wrote.
type scrub struct {
	log    *Log
	grant  lock.Grant
	opts   ScrubOptions
	report ScrubReport
	after  int64     // the last slot done
	due    time.Time // when the pace allows the next slot
	window struct {
		slots, events int64
		differing     []finding // slots
		corrupt       []finding // events
		corrupted     int64     // how many there were: not all are held
	}
	differed, corrupted int64 // of the turn, as far as it has been written
}

// finding is a slot or an event that is not what it was.
type finding struct {
	slot            int64
	event           *uuid.UUID
	expected, found []byte
}

// What is written at once, and what of it is held in memory.
const (
	windowSlots    = 256
	windowEvents   = 20_000
	findingsAtMost = 1000
)

// begin reads where the last turn ended, or starts a new pass.
func (s *scrub) begin(ctx context.Context) error {
	var slot *int64
	err := s.log.db.fenced(ctx, s.grant, func(ctx context.Context, tx pgx.Tx) error {
		return tx.QueryRow(ctx, `INSERT INTO reconciled.scrub AS s (store_id) VALUES ($1)
			ON CONFLICT (store_id) DO UPDATE SET
				began_at = CASE WHEN s.slot IS NULL THEN now() ELSE s.began_at END,
				slots = CASE WHEN s.slot IS NULL THEN 0 ELSE s.slots END,
				events = CASE WHEN s.slot IS NULL THEN 0 ELSE s.events END,
				found = CASE WHEN s.slot IS NULL THEN 0 ELSE s.found END
			RETURNING slot, last_full_at`, s.grant.Store).Scan(&slot, &s.report.LastFull)
	})
	if err != nil {
		return fmt.Errorf("begin scrub: %w", err)
	}
	s.after = merkle.Key{At: math.MinInt64}.Slot() - 1
	if slot != nil {
		s.after = *slot
	}
	return nil
}

func (s *scrub) turn(ctx context.Context) error {
	for {
		more, err := s.next(ctx)
		if err != nil {
			return errors.Join(err, s.write(context.WithoutCancel(ctx), false))
		}
		w := &s.window
		ends := !more || s.report.Events >= s.opts.Events
		if ends || w.slots >= windowSlots || w.events >= windowEvents || len(w.corrupt) == findingsAtMost {
			if err := s.write(ctx, !more); err != nil || ends {
				return err
			}
		}
		if err := s.wait(ctx); err != nil {
			return errors.Join(err, s.write(context.WithoutCancel(ctx), false))
		}
	}
}

// wait keeps the pace, and looks now and then whether the turn is to stop.
func (s *scrub) wait(ctx context.Context) error {
	const look = 100 * time.Millisecond
	for {
		if s.opts.Stop() {
			return lock.ErrGaveWay
		}
		left := time.Until(s.due)
		if left <= 0 {
			return ctx.Err()
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(min(left, look)):
		}
	}
}

// next looks at the next slot that has a leaf or an event, in one snapshot; false
// when there is none.
func (s *scrub) next(ctx context.Context) (more bool, err error) {
	start := time.Now()
	var events int64
	err = pgx.BeginTxFunc(ctx, s.log.db.Pool, snapshot, func(tx pgx.Tx) error {
		slot, ok, err := slotAfter(ctx, tx, s.grant.Store, s.after)
		if more = ok; err != nil || !ok {
			return err
		}
		events, err = s.look(ctx, tx, slot)
		s.after = slot
		return err
	})
	if err != nil {
		return false, fmt.Errorf("scrub: %w", err)
	}
	if more {
		s.report.Slots++
		s.report.Events += events
		s.window.slots++
		s.window.events += events
		s.due = start.Add(time.Duration(events) * time.Second / time.Duration(s.opts.Rate))
	}
	return more, nil
}

// look digests a slot and checks its events.
func (s *scrub) look(ctx context.Context, tx pgx.Tx, slot int64) (events int64, err error) {
	want, settled, err := storedLeaf(ctx, tx, s.grant.Store, slot)
	if err != nil {
		return 0, err
	}
	var builder merkle.LeafBuilder
	events, err = readSlot(ctx, tx, s.grant.Store, slot, builder.Add, func(e *velox.Event) {
		if e.Verify() == velox.Corrupt {
			s.corrupt(slot, e)
		}
	})
	if err != nil {
		return events, err
	}
	switch got := builder.Leaf(slot).Digest; {
	case !settled:
		s.report.Pending++
	case got != want:
		s.window.differing = append(s.window.differing, finding{slot: slot, expected: want[:], found: got[:]})
	}
	return events, nil
}

// corrupt notes an event whose content is not what its own hash was taken of.
func (s *scrub) corrupt(slot int64, e *velox.Event) {
	s.window.corrupted++
	if len(s.window.corrupt) == findingsAtMost {
		return
	}
	content := e.Delta
	if content == nil {
		content = e.Payload
	}
	f := finding{slot: slot, event: &e.ID, expected: hashBytes(e.Hash)}
	if got, err := velox.PayloadHash(content); err == nil {
		f.found = hashBytes(got)
	}
	s.window.corrupt = append(s.window.corrupt, f)
}

// hashBytes are those that a hash in hex stands for, or else its text.
func hashBytes(text string) []byte {
	if b, err := hex.DecodeString(text); err == nil {
		return b
	}
	return []byte(text)
}

// write keeps what the window found, and how far the pass has come. Where more than
// a twentieth is not what it was, somebody restored or migrated the table: that is
// one piece of evidence, not one each.
func (s *scrub) write(ctx context.Context, complete bool) error {
	w := &s.window
	differed, corrupted := s.differed+int64(len(w.differing)), s.corrupted+w.corrupted
	var found int64
	err := s.log.db.fenced(ctx, s.grant, func(ctx context.Context, tx pgx.Tx) error {
		slots, err := keepFindings(ctx, tx, s.grant.Store, "slot", w.differing, differed, s.report.Slots, "slots")
		if err != nil {
			return err
		}
		events, err := keepFindings(ctx, tx, s.grant.Store, "self_check", w.corrupt, corrupted, s.report.Events, "events")
		if err != nil {
			return err
		}
		found = slots + events
		marked := make([]int64, len(w.differing))
		for i, f := range w.differing {
			marked[i] = f.slot
		}
		if _, err := tx.Exec(ctx, `INSERT INTO reconciled.dirty (store_id, slot, op) SELECT $1, unnest($2::bigint[]), 'm'`, s.grant.Store, marked); err != nil {
			return fmt.Errorf("mark slots: %w", err)
		}
		// The healer compares every value of these slots' events with its row.
		_, err = tx.Exec(ctx, `INSERT INTO reconciled.worklist AS w (consumer, store_id, slot)
			SELECT $1, l.store_id, l.slot FROM reconciled.leaf l JOIN reconciled.scrub s USING (store_id)
			WHERE l.store_id = $2 AND l.slot <= $3 AND (s.slot IS NULL OR l.slot > s.slot)
			ON CONFLICT (consumer, store_id, slot) DO UPDATE SET stamp = w.stamp + 1`, healerConsumer, s.grant.Store, s.after)
		if err != nil {
			return fmt.Errorf("hand slots to the healer: %w", err)
		}
		err = tx.QueryRow(ctx, `UPDATE reconciled.scrub SET slot = CASE WHEN $6 THEN NULL ELSE $2::bigint END, slots = slots + $3, events = events + $4,
				found = found + $5, last_full_at = CASE WHEN $6 THEN now() ELSE last_full_at END
			WHERE store_id = $1 RETURNING last_full_at`, s.grant.Store, s.after, w.slots, w.events, found, complete).Scan(&s.report.LastFull)
		if err != nil {
			return fmt.Errorf("keep progress of scrub: %w", err)
		}
		if !complete {
			return nil
		}
		// Movements and fiscal numbers that came past every trigger are seen next time.
		if err := forgetStock(ctx, tx, s.grant.Store); err != nil {
			return err
		}
		return forgetFiscal(ctx, tx, s.grant.Store)
	})
	if err != nil {
		return err
	}
	s.report.Found += found
	s.differed, s.corrupted = differed, corrupted
	w.slots, w.events, w.corrupted, w.differing, w.corrupt = 0, 0, 0, w.differing[:0], w.corrupt[:0]
	return nil
}

// bulkOf is how many must have been looked at before a share of them means a bulk
// change.
const bulkOf = 200

// keepFindings writes evidence that is not known yet and counts it.
func keepFindings(ctx context.Context, tx pgx.Tx, store velox.StoreID, kind string, list []finding, n, of int64, what string) (kept int64, err error) {
	detail := ""
	if len(list) > 0 && of >= bulkOf && n*20 > of {
		list = []finding{{}}
		detail = fmt.Sprintf("bulk change: %d of %d %s", n, of, what)
	}
	for _, f := range list {
		slot := &f.slot
		if detail != "" {
			slot = nil
		}
		tag, err := tx.Exec(ctx, `INSERT INTO reconciled.evidence (store_id, kind, slot, event_id, expected, found, detail)
			VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT DO NOTHING`, store, kind, slot, f.event, f.expected, f.found, detail)
		if err != nil {
			return kept, fmt.Errorf("keep evidence: %w", err)
		}
		kept += tag.RowsAffected()
	}
	return kept, nil
}
