package main

import (
	"fmt"
	"io"
	"slices"

	"github.com/dustin/go-humanize"
	"github.com/google/uuid"

	"github.com/veloxpos/reconciled/internal/config"
	"github.com/veloxpos/reconciled/merkle/reconcile"
)

// diffCommand is `reconciled diff`: what a round would do, without doing it. Exit 0
// when both sides hold the same events, 1 when they differ, 2 when that is not
// known.
type diffCommand struct {
	storeFlags
}

// Run compares beside the daemon; it needs no lock.
func (k diffCommand) Run(d *deps) error {
	s, store, err := k.open(d, config.Store)
	if err != nil {
		return err
	}
	defer s.Close()
	update, done := newProgress(d.stderr, "comparing")
	report, err := reconcile.Diff(d.ctx, s.log, s.client, store, func(p reconcile.Progress) { update(p.Done, p.Total) })
	done()
	if err != nil {
		return err
	}
	if k.Output == "json" {
		err = printJSON(d.stdout, struct {
			Store   uuid.UUID         `json:"store_id"`
			Verdict reconcile.Verdict `json:"verdict"`
			reconcile.DiffReport
		}{store, report.Verdict(), report})
	} else {
		printDiff(d.stdout, store, report)
	}
	if err == nil && report.Verdict() == reconcile.Differs {
		err = exitError(exitDiffers)
	}
	return err
}

func printDiff(w io.Writer, store uuid.UUID, r reconcile.DiffReport) {
	fmt.Fprintf(w, "store %s: %s\n  here   %s\n  there  %s\n", store, words(r.Verdict()), r.Here, r.There)
	if !r.Same {
		fmt.Fprintf(w, "  to send    %s\n  to fetch   %s\n", weight(r.Push), weight(r.Pull))
	}
	if len(r.Exceptions) > 0 {
		fmt.Fprintf(w, "  known differences: %s\n", tally(r.Exceptions))
	}
	both := map[uuid.UUID]bool{}
	for _, id := range r.Both {
		both[id] = true
	}
	show := func(where string, list []reconcile.Named) {
		for _, n := range list {
			why := where
			switch {
			case both[n.Event]:
				why = "two contents"
			case n.Deleted != nil:
				why += ", deleted here on " + n.Deleted.UTC().Format("2006-01-02 15:04:05Z")
			}
			fmt.Fprintf(w, "  %s  %s  %s  %s\n", n.Event, n.At.Time().Format("2006-01-02 15:04:05Z"), n.Type, why)
		}
	}
	show("only here", r.Push.First)
	show("only there", slices.DeleteFunc(slices.Clone(r.Pull.First), func(n reconcile.Named) bool { return both[n.Event] }))
	if rest := r.Push.Events + r.Pull.Events - int64(len(r.Push.First)+len(r.Pull.First)); rest > 0 {
		fmt.Fprintf(w, "  and %d more\n", rest)
	}
	if !r.Same {
		fmt.Fprintf(w, "run `reconciled reconcile --store %s` to exchange them\n", store)
	}
}

func weight(w reconcile.Weight) string {
	return fmt.Sprintf("%d events, %s before compression", w.Events, humanize.IBytes(uint64(w.Bytes)))
}
