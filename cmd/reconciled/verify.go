package main

import (
	"fmt"
	"io"

	"github.com/google/uuid"

	"github.com/veloxpos/reconciled/internal/config"
	"github.com/veloxpos/reconciled/internal/velox"
	"github.com/veloxpos/reconciled/merkle"
	"github.com/veloxpos/reconciled/merkle/reconcile"
)

// verifyCommand is `reconciled verify`: both logs are digested anew, event by event,
// and compared. Exit 0 when all is the same and sound, 1 when it is not, 2 when that
// is not known.
type verifyCommand struct {
	storeFlags
}

// Run compares beside the daemon; it needs no lock.
func (k verifyCommand) Run(d *deps) error {
	s, store, err := k.open(d, config.Store)
	if err != nil {
		return err
	}
	defer s.Close()
	exceptions, err := s.log.Exceptions(d.ctx, store)
	if err != nil {
		return err
	}
	pin, err := s.log.Pin(d.ctx, store)
	if err != nil {
		return err
	}
	update, done := newProgress(d.stderr, "verifying")
	report, err := reconcile.Verify(d.ctx, store, s.log, s.client, exceptions, func(events uint64) {
		update(events, pin.Tree.Root().Count)
	})
	done()
	if err != nil {
		return err
	}
	if k.Output == "json" {
		err = printJSON(d.stdout, struct {
			Store uuid.UUID `json:"store_id"`
			Good  bool      `json:"good"`
			reconcile.VerifyReport
		}{store, report.Good(), report})
	} else {
		printVerify(d.stdout, store, report)
	}
	if err == nil && !report.Good() {
		err = exitError(exitDiffers)
	}
	return err
}

func printVerify(w io.Writer, store uuid.UUID, r reconcile.VerifyReport) {
	verdict := "the same"
	if !r.Good() {
		verdict = "NOT the same, or not sound"
	}
	fmt.Fprintf(w, "store %s: %s\n  here   %d events\n  there  %d events\n  %d slots of time compared\n",
		store, verdict, r.Here.Events, r.There.Events, r.Slots)
	showSome(w, "slots differ", r.Differ, difference)
	showSome(w, "slots differ in known exceptions alone", r.Known, difference)
	for _, side := range []struct {
		name string
		reconcile.VerifySide
	}{{"here", r.Here}, {"there", r.There}} {
		showSome(w, side.name+": slots were changed behind the triggers", side.Stale, beginning)
		showSome(w, side.name+": events do not match their own hash", side.Corrupt, uuid.UUID.String)
	}
	showSome(w, "slots with the same events differ in vector clocks or causal dependencies (no difference)", r.Drift, beginning)
	if r.Differ.Count > 0 {
		fmt.Fprintf(w, "what came since the last round differs too: `reconciled reconcile --store %s` exchanges it, then verify again\n", store)
	}
}

func showSome[T any](w io.Writer, what string, some reconcile.Some[T], show func(T) string) {
	if some.Count == 0 {
		return
	}
	fmt.Fprintf(w, "  %d %s\n", some.Count, what)
	for _, v := range some.First {
		fmt.Fprintf(w, "    %s\n", show(v))
	}
	if rest := some.Count - uint64(len(some.First)); rest > 0 {
		fmt.Fprintf(w, "    and %d more\n", rest)
	}
}

func difference(d reconcile.SlotDifference) string {
	return fmt.Sprintf("%s  %d here, %d there", beginning(d.Slot), d.Here, d.There)
}

// beginning names a slot by when it begins.
func beginning(slot int64) string {
	at := velox.Millis(merkle.SlotRange(slot).Span().From.At)
	return fmt.Sprintf("slot %d from %s", slot, at.Time().Format("2006-01-02 15:04:05Z"))
}
