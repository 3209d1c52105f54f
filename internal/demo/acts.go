package demo

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/veloxpos/reconciled/healer"
	"github.com/veloxpos/reconciled/internal/fleet"
	"github.com/veloxpos/reconciled/internal/httpapi"
	"github.com/veloxpos/reconciled/internal/stage"
	"github.com/veloxpos/reconciled/merkle/reconcile"
)

type round = reconcile.Report

// compare starts both daemons and makes the first round.
func (d *demo) compare(ctx context.Context) error {
	d.out.scene("Central's daemon and the store's start")
	for _, node := range []*stage.Node{d.stage.Central, d.stage.Store} {
		if err := node.Start(ctx); err != nil {
			return err
		}
		d.out.line("  %-8s answers operators at %s", node.Name, node.API)
	}
	d.out.scene("They compare their logs and exchange what is missing (the runbook's POST /sync/federation/auto-reconcile)")
	return d.round(ctx)
}

// compareAgain shows that there is nothing left to exchange, and what stays known.
func (d *demo) compareAgain(ctx context.Context) error {
	d.out.scene("They compare once more")
	return d.round(ctx)
}

func (d *demo) round(ctx context.Context) error {
	missing := map[string]int{}
	for _, f := range d.faults {
		missing[map[fleet.Side]string{fleet.Store: "pull", fleet.Central: "push"}[f.expect.Side]] += len(f.expect.Fetched)
	}
	var report round
	err := d.await(ctx, d.stage.Store, "auto-reconcile", false, &report, func(run httpapi.Run) {
		progress, _ := run.Progress.(map[string]any)
		name, _ := progress["Stage"].(string)
		done, _ := progress["Done"].(float64)
		d.out.progress(map[string]string{"pull": "fetch from central", "push": "send to central"}[name], int(done), missing[name])
	})
	if err != nil {
		return err
	}
	d.last = report
	d.out.line("  verdict %q after %d messages: fetched %d, sent %d; %d known differences",
		report.Verdict, report.Messages, report.Pulled[reconcile.Stored], report.Pushed[reconcile.Stored], sum(report.Exceptions))
	return nil
}

func sum(counts map[reconcile.Status]int) (n int) {
	for _, count := range counts {
		n += count
	}
	return n
}

// heal heals both read models.
func (d *demo) heal(ctx context.Context) error {
	d.out.scene("Each heals its read models from its log")
	for _, node := range d.nodes() {
		var report healer.Report
		if err := d.await(ctx, node, "heal", true, &report, nil); err != nil {
			return err
		}
		d.out.line("  %-8s looked at %d events: healed %d more, %d wait for what is missing, %d are malformed",
			node.Name, report.Checked, report.Healed, report.Waiting, report.Poison)
	}
	return nil
}

// await runs a task to its end, once the daemon's own duties let it, and reads its
// report.
func (d *demo) await(ctx context.Context, node *stage.Node, task string, full bool, into any, follow func(httpapi.Run)) error {
	for {
		run, err := node.Await(ctx, task, full, follow)
		if status := new(stage.StatusError); errors.As(err, &status) && status.Status == http.StatusConflict && ctx.Err() == nil {
			select { // busy with a duty of its own
			case <-time.After(500 * time.Millisecond):
			case <-ctx.Done():
			}
			continue
		}
		d.out.progressDone()
		switch {
		case err != nil:
			return err
		case run.State != "succeeded":
			return fmt.Errorf("%s at %s %s: %s", task, node.Name, run.State, run.Error)
		}
		return stage.ReadReport(run, into)
	}
}
