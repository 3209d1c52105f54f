// Package healer finds events whose read-model rows are missing and writes
// those rows, once, parents first.
//
// What it promises. Every event of a slot on its worklist is decoded and
// classified on its own; the rows of an actionable one are written in one fenced
// transaction together with its stock totals, its status and a line in the heal
// log; one that waits for another is remembered as a gap and taken up again when
// what it waits for is there. No event stops another: a batch that fails is
// split until the event that breaks it stands alone, and that one backs off.
// Events that the POS backend is still about to project are left to it.
package healer

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/veloxpos/reconciled/internal/velox"
	"github.com/veloxpos/reconciled/lock"
)

// Options of a Healer; zero values mean the defaults.
type Options struct {
	Batch      int           // events planned and written together; 500
	Slots      int           // slots taken from the worklist together; 64
	Grace      time.Duration // how long a fresh event is the POS backend's own; 1 min
	Backoff    time.Duration // after the first failure, doubled with each; 1 min
	MaxBackoff time.Duration // 1 h
	Strategy   Strategy      // native
	Patience   time.Duration // how long the backend has for what was given back to it; 2 min
	Observe    bool          // plan and book gaps, write nothing of the POS's
}

// Strategy is how the rows of an event that has none come to be.
type Strategy string

// The strategies.
const (
	// Native: the healer writes the rows.
	Native Strategy = "native"
	// Requeue: the event's own outbox entry is set back for the POS backend, which
	// also does accounting, invoices and messages. What has no entry stays a gap.
	Requeue Strategy = "requeue"
	// RequeueThenNative: requeue first; natively what the backend does not manage, what
	// has no entry, what it gets wrong, and all of it where no backend is at work.
	RequeueThenNative Strategy = "requeue-then-native"
)

func (o Options) withDefaults() Options {
	set := func(d *time.Duration, otherwise time.Duration) {
		if *d == 0 {
			*d = otherwise
		}
	}
	if o.Batch == 0 {
		o.Batch = 500
	}
	if o.Slots == 0 {
		o.Slots = 64
	}
	if o.Strategy == "" {
		o.Strategy = Native
	}
	set(&o.Grace, time.Minute)
	set(&o.Backoff, time.Minute)
	set(&o.Patience, 2*time.Minute)
	set(&o.MaxBackoff, time.Hour)
	return o
}

// Healer heals the read models of stores. It keeps nothing between runs.
type Healer struct {
	store Store
	opts  Options
}

// New returns a healer that works through store.
func New(store Store, opts Options) *Healer { return &Healer{store: store, opts: opts.withDefaults()} }

// Run heals what is due in the grant's store: every slot that is on the
// worklist when its turn comes, then every gap that something woke. It stops at
// lock.ErrFenced, at the context's end, and when the database cannot be worked
// with; the report then says what was done until there. Between slots it asks
// stop, where that is not nil, and ends with lock.ErrGaveWay when it is true.
func (h *Healer) Run(ctx context.Context, grant lock.Grant, stop func() bool) (Report, error) {
	r := newRun(h, grant)
	if err := r.store.Notice(ctx, grant); err != nil {
		return r.report, fmt.Errorf("notice changed rows of store %s: %w", grant.Store, err)
	}
	if err := r.drain(ctx, stop); err != nil {
		return r.report, fmt.Errorf("heal slots of store %s: %w", grant.Store, err)
	}
	if err := r.wake(ctx, stop); err != nil {
		return r.report, fmt.Errorf("heal gaps of store %s: %w", grant.Store, err)
	}
	if err := r.store.DrainStock(ctx, grant); err != nil {
		return r.report, fmt.Errorf("hold stock of store %s against its ledger: %w", grant.Store, err)
	}
	return r.report, nil
}

// Look plans what a run would do and does nothing: neither rows nor gaps are
// written, nothing is taken off the worklist, and no lock is needed. With full it
// looks at every event. What only waits for another event that would be healed first
// is seen as waiting. found is told every event that is not projected.
func (h *Healer) Look(ctx context.Context, store velox.StoreID, full bool, found func(Gap)) (Report, error) {
	r := newRun(h, lock.Grant{Store: store})
	r.look = found
	list := r.store.Due
	if full {
		list = r.store.All
	}
	for after := int64(math.MinInt64); ; {
		slots, err := list(ctx, store, after, r.opts.Slots)
		if err == nil && len(slots) > 0 {
			err = r.store.Scan(ctx, r.grant, slots, r.opts, r.page)
		}
		if err != nil {
			return r.report, fmt.Errorf("look at slots of store %s: %w", store, err)
		}
		if len(slots) == 0 {
			break
		}
		after = slots[len(slots)-1].Slot
	}
	if full {
		return r.report, nil
	}
	if err := r.store.Awake(ctx, r.grant, r.opts, r.page); err != nil {
		return r.report, fmt.Errorf("look at gaps of store %s: %w", store, err)
	}
	return r.report, nil
}

// Sift puts the slots on the worklist in which an event may not be projected whole,
// so that the next Run finds what went missing without an event changing and past every
// trigger. It is quick, and rough: it looks for rows, their number and amounts. It
// returns how many slots that are.
func (h *Healer) Sift(ctx context.Context, grant lock.Grant, stop func() bool) (int64, error) {
	slots, err := h.store.Sift(ctx, grant, stop)
	if err != nil {
		return slots, fmt.Errorf("sift the log of store %s: %w", grant.Store, err)
	}
	return slots, nil
}

// HealFull puts every slot of the store's tree on the worklist, so that the next Run
// compares every event with its rows. It returns how many slots that are.
func (h *Healer) HealFull(ctx context.Context, grant lock.Grant) (int64, error) {
	slots, err := h.store.Refill(ctx, grant)
	if err != nil {
		return 0, fmt.Errorf("put all slots of store %s on the worklist: %w", grant.Store, err)
	}
	return slots, nil
}

// drain takes each due slot once. A slot that changes meanwhile keeps its place
// on the worklist, for the next run.
func (r *run) drain(ctx context.Context, stop func() bool) error {
	for after := int64(math.MinInt64); ; {
		slots, err := r.store.Due(ctx, r.grant.Store, after, r.opts.Slots)
		if err != nil || len(slots) == 0 {
			return err
		}
		if err := r.addUpStock(ctx); err != nil {
			return err
		}
		slots, scanned := r.scan(ctx, slots, stop)
		if scanned != nil && !errors.Is(scanned, lock.ErrGaveWay) {
			return scanned
		}
		for i := range slots {
			slots[i].Again = r.again[slots[i].Slot]
		}
		if err := r.store.Settle(ctx, r.grant, slots); err != nil {
			return err
		}
		if scanned != nil {
			return scanned
		}
		clear(r.again)
		after = slots[len(slots)-1].Slot
		if stop != nil && stop() {
			return lock.ErrGaveWay
		}
	}
}

// scan heals the events of slots page by page, and returns those slots that it has done
// with. It gives way between two pages once the first slot is done with: who is always
// asked to still comes to an end, a slot a turn.
func (r *run) scan(ctx context.Context, slots []Slot, stop func() bool) ([]Slot, error) {
	first, reached := slots[0].Slot, slots[0].Slot
	err := r.store.Scan(ctx, r.grant, slots, r.opts, func(ctx context.Context, page []Logged) error {
		if reached = page[0].Slot; reached > first && stop != nil && stop() {
			return lock.ErrGaveWay
		}
		return r.page(ctx, page)
	})
	if errors.Is(err, lock.ErrGaveWay) {
		done := slices.IndexFunc(slots, func(s Slot) bool { return s.Slot >= reached })
		return slots[:done], err
	}
	return slots, err
}

// stockEvery is after how many heals the log of movements is added up: totals are set
// from what was added up and from that log, which each batch reads whole.
const stockEvery = 5000

// addUpStock does that before the first batch and every so often.
func (r *run) addUpStock(ctx context.Context) error {
	if r.progress-r.addedUp < stockEvery {
		return nil
	}
	r.addedUp = r.progress
	return r.store.DrainStock(ctx, r.grant)
}

// wake plans gaps again until that brings nothing more: what was healed may be
// what another waits for.
func (r *run) wake(ctx context.Context, stop func() bool) error {
	for {
		if stop != nil && stop() {
			return lock.ErrGaveWay
		}
		before := r.progress
		if err := r.store.Awake(ctx, r.grant, r.opts, r.page); err != nil {
			return err
		}
		if r.progress == before {
			return nil
		}
		if err := r.addUpStock(ctx); err != nil {
			return err
		}
	}
}
