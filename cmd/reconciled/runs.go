package main

import (
	"encoding/json"
	"fmt"
	"net/url"
	"strconv"
	"text/tabwriter"
	"time"

	"github.com/veloxpos/reconciled/daemon"
	"github.com/veloxpos/reconciled/internal/httpapi"
)

// runsCommand is `reconciled runs`: what the daemon did.
type runsCommand struct {
	storeFlags
	List runsListCommand `cmd:"" default:"withargs" help:"List the newest runs (default)."`
	Show runsShowCommand `cmd:"" help:"Show a run and its report."`
}

// runsListCommand is `reconciled runs list`.
type runsListCommand struct {
	Task string `help:"Only runs of this task: heal, heal-full, reconcile, scrub, sift or snapshot." enum:"heal,heal-full,reconcile,scrub,sift,snapshot," default:""`
}

// How many runs are named, on a terminal and in JSON.
const (
	runsShown  = 20
	runsListed = 200
)

// Run lists through the running daemon, or by itself where there is none: then what is
// under way elsewhere is missing.
func (k runsListCommand) Run(d *deps, of *runsCommand) error {
	store, err := of.id(d)
	if err != nil {
		return err
	}
	limit := runsShown
	if of.Output == "json" {
		limit = runsListed
	}
	query := url.Values{"store_id": {store.String()}, "limit": {strconv.Itoa(limit)}}
	if k.Task != "" {
		query.Set("task", k.Task)
	}
	list, err := ask(d, "/sync/federation/runs", query, func(b *daemon.Books) (list httpapi.RunList, err error) {
		list.Store = store
		list.Runs, err = b.PastRuns(d.ctx, store, k.Task, limit)
		return list, err
	})
	if err != nil {
		return err
	}
	return of.show(d.stdout, list, func(w *tabwriter.Writer) {
		if len(list.Runs) == 0 {
			fmt.Fprintf(w, "store %s: no run is known\n", store)
			return
		}
		fmt.Fprintln(w, "RUN\tTASK\tTRIGGER\tSTATE\tVERDICT\tSTARTED\tTOOK\tERROR")
		for _, r := range list.Runs {
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", r.ID, r.Task, r.Trigger, r.State, cell(r.Verdict), instant(r.StartedAt), took(r), cell(r.Error))
		}
	})
}

// took is how long a run was at work, "-" while it is.
func took(r httpapi.Run) string {
	if r.FinishedAt == nil {
		return "-"
	}
	return r.FinishedAt.Sub(r.StartedAt).Round(time.Millisecond).String()
}

// runsShowCommand is `reconciled runs show`.
type runsShowCommand struct {
	ID string `arg:"" name:"run-id" help:"Run."`
}

// Run shows one run, whichever store's it is.
func (k runsShowCommand) Run(d *deps, of *runsCommand) error {
	id, err := parseID("run", k.ID)
	if err != nil {
		return err
	}
	run, err := ask(d, "/sync/federation/runs/"+id.String(), nil, func(b *daemon.Books) (httpapi.Run, error) { return b.PastRun(d.ctx, id) })
	if err != nil {
		return err
	}
	return of.show(d.stdout, run, func(w *tabwriter.Writer) {
		fmt.Fprintf(w, "run\t%s\ntask\t%s\nstore\t%s\ntrigger\t%s\nstate\t%s\nverdict\t%s\nstarted\t%s\ntook\t%s\nerror\t%s\n",
			run.ID, run.Task, run.Store, run.Trigger, run.State, cell(run.Verdict), instant(run.StartedAt), took(run), cell(run.Error))
		for _, part := range []struct {
			name  string
			value any
		}{{"progress", run.Progress}, {"report", run.Report}} {
			if part.value == nil {
				continue
			}
			if text, err := json.MarshalIndent(part.value, "\t", "  "); err == nil { // it came as JSON
				fmt.Fprintf(w, "%s\t%s\n", part.name, text)
			}
		}
	})
}
