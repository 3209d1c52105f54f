package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/google/uuid"

	"github.com/veloxpos/reconciled/healer"
	"github.com/veloxpos/reconciled/healer/projection"
	"github.com/veloxpos/reconciled/internal/config"
	"github.com/veloxpos/reconciled/internal/httpapi"
	"github.com/veloxpos/reconciled/internal/velox"
	"github.com/veloxpos/reconciled/lock"
)

// healCommand is `reconciled heal`: exit 0 when nothing failed, 1 when an event
// could not be healed; with --dry-run 1 when something is to be healed.
type healCommand struct {
	storeFlags
	Full   bool `help:"Look at every event, not only at those that changed."`
	DryRun bool `help:"Say what would be healed, and write nothing."`
}

// Run heals through the running daemon, or by itself where there is none. A dry run
// needs neither daemon nor lock.
func (k healCommand) Run(d *deps) error {
	c, err := d.load(config.Local)
	if err != nil {
		return err
	}
	store, err := k.storeID(c)
	if err != nil {
		return err
	}
	if k.DryRun {
		return k.look(d, c, store)
	}
	body := map[string]any{"store_id": store}
	if k.Full {
		body["full"] = true
	}
	var report healer.Report
	run, err := newAPIClient(c).await(d.ctx, "/sync/federation/heal", body, func(httpapi.Run) {})
	switch {
	case errors.Is(err, errNoDaemon):
		report, err = k.direct(d, c, store)
	case err == nil:
		report, err = reportOf[healer.Report](run)
	}
	if err != nil {
		return err
	}
	if k.Output == "json" {
		err = printJSON(d.stdout, report)
	} else {
		err = printHeal(d.stdout, store, report)
	}
	if err == nil && report.Failed > 0 {
		err = exitError(exitDiffers)
	}
	return err
}

// foundShown bounds what a dry run names.
const foundShown = 1000

// found is an event that a dry run names.
type found struct {
	Event     uuid.UUID        `json:"event_id"`
	Type      velox.Type       `json:"type"`
	CreatedAt time.Time        `json:"created_at"`
	Class     projection.Class `json:"class"`
	Reason    string           `json:"reason"`
}

// looked is what a dry run prints.
type looked struct {
	healer.Report
	DryRun bool    `json:"dry_run"`
	Found  []found `json:"found"` // the first, at most 1000
}

// look plans and writes nothing but the daemon's own tree.
func (k healCommand) look(d *deps, c *config.Config, store uuid.UUID) error {
	s, err := openSite(d.ctx, c)
	if err != nil {
		return err
	}
	defer s.Close()
	if _, err := s.log.Pin(d.ctx, store); err != nil {
		return err
	}
	result := looked{DryRun: true, Found: []found{}}
	result.Report, err = s.healer.Look(d.ctx, store, k.Full, func(g healer.Gap) {
		if len(result.Found) < foundShown {
			result.Found = append(result.Found, found{g.Event, g.Type, g.CreatedAt.Time(), g.Class, g.Reason})
		}
	})
	if err != nil {
		return err
	}
	if k.Output == "json" {
		err = printJSON(d.stdout, result)
	} else {
		if err := printHeal(d.stdout, store, result.Report); err != nil {
			return err
		}
		for _, f := range result.Found {
			fmt.Fprintf(d.stdout, "%s %s %s: %s\n", f.Event, f.Type, f.Class, f.Reason)
		}
		fmt.Fprintln(d.stdout, "dry run: nothing was written")
	}
	if err == nil && result.Actionable > 0 {
		err = exitError(exitDiffers)
	}
	return err
}

// printHeal prints a report: all of it, then what is not simply there, by type.
func printHeal(to io.Writer, store uuid.UUID, r healer.Report) error {
	fmt.Fprintf(to, "store %s: %d events looked at, %d healed, %d to be healed, %d given back to the POS, %d waiting, %d blocked, %d in quarantine, %d semantic, %d unsupported, %d left to the POS, %d failed\n",
		store, r.Checked, r.Healed, r.Actionable, r.Requeued, r.Waiting, r.Blocked, r.Poison, r.Semantic, r.Unsupported, r.Backend, r.Failed)
	table := tabwriter.NewWriter(to, 0, 0, 2, ' ', 0)
	head := "TYPE\tCHECKED\tHEALED\tTO HEAL\tGIVEN BACK\tWAITING\tBLOCKED\tPOISON\tSEMANTIC\tLEFT\tFAILED\n"
	for _, t := range slices.Sorted(maps.Keys(r.ByType)) {
		c := r.ByType[t]
		if c.Healed+c.Actionable+c.Requeued+c.Waiting+c.Blocked+c.Poison+c.Semantic+c.Backend+c.Failed == 0 {
			continue
		}
		fmt.Fprint(table, head)
		head = ""
		fmt.Fprintf(table, "%s\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\n",
			t, c.Checked, c.Healed, c.Actionable, c.Requeued, c.Waiting, c.Blocked, c.Poison, c.Semantic, c.Backend, c.Failed)
	}
	return table.Flush()
}

// reportOf reads what a finished run left, and turns its failure into an error.
func reportOf[T any](run httpapi.Run) (report T, err error) {
	if run.Report != nil {
		text, err := json.Marshal(run.Report)
		if err == nil {
			err = json.Unmarshal(text, &report)
		}
		if err != nil {
			return report, fmt.Errorf("read report of run %s: %w", run.ID, err)
		}
	}
	if run.State != "succeeded" {
		return report, fmt.Errorf("run %s %s: %s", run.ID, run.State, run.Error)
	}
	return report, nil
}

// direct heals under the lock in this process.
func (k healCommand) direct(d *deps, c *config.Config, store uuid.UUID) (report healer.Report, err error) {
	s, err := openSite(d.ctx, c)
	if err != nil {
		return report, err
	}
	defer s.Close()
	err = s.locker.Do(d.ctx, lock.Request{Store: store, Run: uuid.New(), Owner: owner() + " (heal)"}, func(ctx context.Context, grant lock.Grant) error {
		if _, err := s.log.Pin(ctx, store); err != nil {
			return err
		}
		if k.Full {
			if _, err := s.healer.HealFull(ctx, grant); err != nil {
				return err
			}
		}
		report, err = s.healer.Run(ctx, grant, nil)
		return err
	})
	return report, err
}
