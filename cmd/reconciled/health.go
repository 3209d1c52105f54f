package main

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"text/tabwriter"

	"github.com/google/uuid"

	"github.com/veloxpos/reconciled/daemon"
	"github.com/veloxpos/reconciled/internal/config"
	"github.com/veloxpos/reconciled/internal/health"
	"github.com/veloxpos/reconciled/internal/httpapi"
)

// healthCommand is `reconciled health`: exit 0 healthy, 1 not, 2 not known.
type healthCommand struct {
	storeFlags
	Fresh   bool `xor:"which" help:"Measure now, instead of showing what was measured last."`
	History int  `xor:"which" help:"Show the snapshots of the last hours instead, 168 at most." placeholder:"HOURS"`
}

// Run asks the daemon and shows its report.
func (k healthCommand) Run(d *deps) error {
	if k.History != 0 {
		return k.history(d)
	}
	c, err := d.load(config.Client)
	if err != nil {
		return err
	}
	store, err := k.storeID(c)
	if err != nil {
		return err
	}
	query := url.Values{"store_id": {store.String()}}
	if k.Fresh {
		query.Set("fresh", "true")
	}
	var report health.Report
	if err := newAPIClient(c).call(d.ctx, http.MethodGet, "/sync/federation/health?"+query.Encode(), nil, &report); err != nil {
		return err
	}
	err = k.show(d.stdout, report, func(w *tabwriter.Writer) { printHealth(w, report) })
	if err == nil && report.OverallHealth != health.Healthy {
		err = exitError(exitDiffers)
	}
	return err
}

func printHealth(w *tabwriter.Writer, r health.Report) {
	m := r.Metrics
	fmt.Fprintf(w, "store\t%s\nhealth\t%s\nmode\t%s\nmeasured\t%s\n", r.StoreID, r.OverallHealth, r.Mode, r.Timestamp.Format("2006-01-02 15:04:05Z"))
	fmt.Fprintf(w, "last reconcile\t%s\nlast heal\t%s\nlast scrub\t%s\n", lastText(r.LastReconcile), lastText(r.LastHeal), lastText(r.LastScrub))
	fmt.Fprintf(w, "events not proven at central\t%d\n", m.EventLagCount)
	fmt.Fprintf(w, "projection gaps\t%d, and %d waiting, %d blocked, %d malformed, %d rightly without rows\n",
		m.ProjectionGapCount, m.WaitingGapCount, m.BlockedGapCount, m.PoisonCount, m.SemanticGapCount)
	fmt.Fprintf(w, "stock\t%d diverge, %d below zero\n", m.StockDivergenceCount, m.NegativeStockCount)
	fmt.Fprintf(w, "outbox\t%d pending, %d dead\n", m.OutboxPending, m.OutboxDead)
	fmt.Fprintf(w, "central\treachable %v, ready %v, %d ms, breaker %s\n", m.RemoteReachable, m.SyncReady, m.RemoteLatencyMs, m.CircuitBreakerState)
	fmt.Fprintf(w, "lock, clock, disk\t%s, %d ms, %d %%\n", m.LockBackend, m.ClockSkewMs, m.DiskUsedPercent)
	for _, reason := range r.Reasons {
		fmt.Fprintf(w, "%s\t%s\n\t%s\n", reason.Code, reason.ES, reason.EN)
	}
	for _, a := range r.Details {
		fmt.Fprintf(w, "  %s\t%s  %s\n", a.Kind, a.ID, a.Text)
	}
}

func lastText(l health.Last) string {
	if l.SecondsSince < 0 {
		return l.Verdict + ", never succeeded"
	}
	return fmt.Sprintf("%s, last success %d s ago", l.Verdict, l.SecondsSince)
}

// How many snapshots are named, on a terminal and in JSON.
const (
	snapshotsShown  = 50
	snapshotsListed = 5000
)

// history shows what the POS and the daemon measured, through the running daemon, or by
// itself where there is none.
func (k healthCommand) history(d *deps) error {
	if k.History < 1 || k.History > 168 {
		return errors.New("--history is not between 1 and 168 hours")
	}
	store, err := k.id(d)
	if err != nil {
		return err
	}
	query := url.Values{"store_id": {store.String()}, "hours": {strconv.Itoa(k.History)}}
	list, err := ask(d, "/sync/federation/health/history", query, func(b *daemon.Books) ([]httpapi.PastHealth, error) {
		return b.HealthHistory(d.ctx, store, k.History, snapshotsListed)
	})
	if err != nil {
		return err
	}
	return k.show(d.stdout, list, func(w *tabwriter.Writer) { printHistory(w, store, k.History, list) })
}

func printHistory(w *tabwriter.Writer, store uuid.UUID, hours int, list []httpapi.PastHealth) {
	if len(list) == 0 {
		fmt.Fprintf(w, "store %s: no snapshot in the last %d h\n", store, hours)
		return
	}
	fmt.Fprintln(w, "AT\tHEALTH\tLAG\tGAPS\tDIVERGENCE\tNEGATIVE\tQUEUE\tFAILED\tCENTRAL")
	for _, p := range list[:min(len(list), snapshotsShown)] {
		remote := "away"
		if p.Metrics.RemoteReachable {
			remote = "there"
		}
		if ms := p.Metrics.RemoteLatencyMs; ms != nil {
			remote += fmt.Sprintf(", %d ms", *ms)
		}
		m := p.Metrics
		fmt.Fprintf(w, "%s\t%s\t%d\t%d\t%d\t%d\t%d\t%d\t%s\n", instant(p.Timestamp), cell(p.OverallHealth), m.EventLagCount, m.ProjectionGapCount,
			m.StockDivergenceCount, m.NegativeStockCount, m.QueueDepth, m.FailedJobs, remote)
	}
	if more := len(list) - snapshotsShown; more > 0 {
		fmt.Fprintf(w, "… and %d more (--output json)\n", more)
	}
}
