package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/google/uuid"

	"github.com/veloxpos/reconciled/internal/config"
	"github.com/veloxpos/reconciled/internal/httpapi"
	"github.com/veloxpos/reconciled/lock"
	"github.com/veloxpos/reconciled/merkle/reconcile"
)

// reconcileCommand is `reconciled reconcile`: exit 0 when both sides hold the
// same events, 1 when they differ in known ones, 2 when that is not known.
type reconcileCommand struct {
	storeFlags
}

// Run makes a round through the running daemon, or by itself where there is none.
func (k reconcileCommand) Run(d *deps) error {
	c, err := d.load(config.Store)
	if err != nil {
		return err
	}
	store, err := k.storeID(c)
	if err != nil {
		return err
	}
	var report reconcile.Report
	run, err := newAPIClient(c).await(d.ctx, "/sync/federation/auto-reconcile", map[string]any{"store_id": store}, func(httpapi.Run) {})
	switch {
	case errors.Is(err, errNoDaemon):
		report, err = k.direct(d, c, store)
	case err == nil:
		report, err = reportOf[reconcile.Report](run)
	}
	if err != nil {
		return err
	}
	if k.Output == "json" {
		err = printJSON(d.stdout, report)
	} else {
		printRound(d.stdout, store, report)
	}
	switch {
	case err != nil:
		return err
	case report.Verdict == reconcile.Differs:
		return exitError(exitDiffers)
	case report.Verdict == reconcile.Unknown:
		return exitError(exitTrouble)
	}
	return nil
}

func (k reconcileCommand) direct(d *deps, c *config.Config, store uuid.UUID) (report reconcile.Report, err error) {
	s, err := openSite(d.ctx, c)
	if err != nil {
		return report, err
	}
	defer s.Close()
	if err := s.mayWrite(); err != nil {
		return report, err
	}
	if err := s.openClient(d.ctx); err != nil {
		return report, err
	}
	err = s.locker.Do(d.ctx, lock.Request{Store: store, Run: uuid.New(), Owner: owner() + " (reconcile)"}, func(ctx context.Context, grant lock.Grant) (err error) {
		report, err = reconcile.Run(ctx, s.log, s.client, grant, reconcile.Options{})
		return err
	})
	return report, err
}

func printRound(w io.Writer, store uuid.UUID, r reconcile.Report) {
	fmt.Fprintf(w, "store %s: %s\n", store, words(r.Verdict))
	if r.Reason != "" {
		fmt.Fprintf(w, "  %s\n", r.Reason)
	}
	fmt.Fprintf(w, "  here   %s\n  there  %s\n  pulled %s, pushed %s, %d messages\n", r.Here, r.There, tally(r.Pulled), tally(r.Pushed), r.Messages)
	if len(r.Exceptions) > 0 {
		fmt.Fprintf(w, "  known differences: %s\n", tally(r.Exceptions))
	}
	if r.WentBack != nil {
		fmt.Fprintf(w, "  %s\n", r.WentBack.Error())
	}
	for _, o := range r.Noted {
		fmt.Fprintf(w, "  %s %s: %s\n", o.Status, o.Event, o.Reason)
	}
}

// words is a verdict for people.
func words(v reconcile.Verdict) string { return strings.ReplaceAll(v.String(), "_", " ") }

func tally(counts map[reconcile.Status]int) string {
	if len(counts) == 0 {
		return "nothing"
	}
	var parts []string
	for _, status := range slices.Sorted(maps.Keys(counts)) {
		parts = append(parts, fmt.Sprintf("%d %s", counts[status], status))
	}
	return strings.Join(parts, ", ")
}
