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
	"fmt"
	"math"
	"time"

	"github.com/veloxpos/reconciled/lock"
)

// Options of a Healer; zero values mean the defaults.
type Options struct {
	Batch      int           // events planned and written together; 500
	Slots      int           // slots taken from the worklist together; 64
	Grace      time.Duration // how long a fresh event is the POS backend's own; 1 min
	Backoff    time.Duration // after the first failure, doubled with each; 1 min
	MaxBackoff time.Duration // 1 h
}

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
	set(&o.Grace, time.Minute)
	set(&o.Backoff, time.Minute)
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
	if err := r.drain(ctx, stop); err != nil {
		return r.report, fmt.Errorf("heal slots of store %s: %w", grant.Store, err)
	}
	if err := r.wake(ctx, stop); err != nil {
		return r.report, fmt.Errorf("heal gaps of store %s: %w", grant.Store, err)
	}
	return r.report, nil
}

// HealFull puts every slot of the store's tree on the worklist, so that the
// next Run finds what went missing without an event changing. It returns how
// many slots that are.
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
		if err := r.store.Scan(ctx, r.grant.Store, slots, r.opts, r.page); err != nil {
			return err
		}
		for i := range slots {
			slots[i].Again = r.again[slots[i].Slot]
		}
		if err := r.store.Settle(ctx, r.grant, slots); err != nil {
			return err
		}
		clear(r.again)
		after = slots[len(slots)-1].Slot
		if stop != nil && stop() {
			return lock.ErrGaveWay
		}
	}
}

// wake plans gaps again until that brings nothing more: what was healed may be
// what another waits for.
func (r *run) wake(ctx context.Context, stop func() bool) error {
	for {
		if stop != nil && stop() {
			return lock.ErrGaveWay
		}
		before := r.progress
		if err := r.store.Awake(ctx, r.grant.Store, r.opts, r.page); err != nil {
			return err
		}
		if r.progress == before {
			return nil
		}
	}
}
