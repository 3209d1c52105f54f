package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/google/uuid"

	"github.com/veloxpos/reconciled/healer"
	"github.com/veloxpos/reconciled/internal/config"
	"github.com/veloxpos/reconciled/internal/httpapi"
	"github.com/veloxpos/reconciled/lock"
)

// healCommand is `reconciled heal`: exit 0 when nothing failed, 1 when an event
// could not be healed.
type healCommand struct {
	storeFlags
	Full bool `help:"Look at every event, not only at those that changed."`
}

// Run heals through the running daemon, or by itself where there is none.
func (k healCommand) Run(d *deps) error {
	c, err := d.load(config.Local)
	if err != nil {
		return err
	}
	store, err := k.storeID(c)
	if err != nil {
		return err
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
		fmt.Fprintf(d.stdout, "store %s: %d events looked at, %d healed, %d waiting, %d blocked, %d in quarantine, %d unsupported, %d left to the POS, %d failed\n",
			store, report.Checked, report.Healed, report.Waiting, report.Blocked, report.Poison, report.Unsupported, report.Backend, report.Failed)
	}
	if err == nil && report.Failed > 0 {
		err = exitError(exitDiffers)
	}
	return err
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
