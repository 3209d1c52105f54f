package demo

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/veloxpos/reconciled/healer"
	"github.com/veloxpos/reconciled/internal/fleet"
	"github.com/veloxpos/reconciled/internal/httpapi"
	"github.com/veloxpos/reconciled/internal/stage"
	"github.com/veloxpos/reconciled/merkle/reconcile"
)

type round = reconcile.Report

// compare starts both daemons and makes the first round, after a dry run.
func (d *demo) compare(ctx context.Context) error {
	d.out.scene("Central's daemon starts; a dry run says what a round would move (reconciled diff)")
	if err := d.start(ctx, d.stage.Central); err != nil {
		return err
	}
	if err := d.show(ctx, "diff"); err != nil {
		return err
	}
	d.out.scene("The store's daemon starts; they exchange what is missing (the runbook's POST /sync/federation/auto-reconcile)")
	if err := d.start(ctx, d.stage.Store); err != nil {
		return err
	}
	return d.round(ctx)
}

// foresee says what healing would do, before any daemon has started.
func (d *demo) foresee(ctx context.Context) error {
	d.out.scene("What would be healed at the store? (reconciled heal --dry-run --full)")
	return d.show(ctx, "heal", "--dry-run", "--full")
}

// account shows what is left for people: gaps, stock, updates that were lost.
func (d *demo) account(ctx context.Context) error {
	d.out.scene("What healing leaves to people (reconciled gaps, stock, event lost)")
	for _, command := range [][]string{{"gaps"}, {"gaps", "outstanding"}, {"stock"}, {"event", "lost"}} {
		d.out.line("  reconciled %s", strings.Join(command, " "))
		if err := d.show(ctx, command...); err != nil {
			return err
		}
	}
	return nil
}

func (d *demo) start(ctx context.Context, node *stage.Node) error {
	if err := node.Start(ctx); err != nil {
		return err
	}
	d.out.line("  %-8s answers operators at %s", node.Name, node.API)
	return nil
}

// shown is how many lines of a command are shown.
const shown = 8

// show runs a command for the store and shows the beginning of what it prints. It
// must find something: the logs differ, if only in what is known, and so do rows.
func (d *demo) show(ctx context.Context, command ...string) error {
	printed, code, err := d.stage.Store.Command(ctx, append(command, "--store", shopID.String())...)
	if err != nil {
		return fmt.Errorf("run %s: %w", command, err)
	}
	lines := strings.Split(strings.TrimSpace(printed), "\n")
	for _, line := range lines[:min(len(lines), shown)] {
		d.out.line("  | %s", line)
	}
	if code != 1 {
		return fmt.Errorf("%s: exit code %d, want 1: something is to be found", command, code)
	}
	return nil
}

// verify digests everything anew.
func (d *demo) verify(ctx context.Context) error {
	d.out.scene("Every event of both sides is read and digested anew (reconciled verify)")
	return d.show(ctx, "verify")
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
		name, _ := progress["stage"].(string)
		done, _ := progress["done"].(float64)
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
