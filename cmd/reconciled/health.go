package main

import (
	"fmt"
	"net/http"
	"net/url"
	"text/tabwriter"

	"github.com/veloxpos/reconciled/internal/config"
	"github.com/veloxpos/reconciled/internal/health"
)

// healthCommand is `reconciled health`: exit 0 healthy, 1 not, 2 not known.
type healthCommand struct {
	storeFlags
}

// Run asks the daemon and shows its report.
func (k healthCommand) Run(d *deps) error {
	c, err := d.load(config.Client)
	if err != nil {
		return err
	}
	store, err := k.storeID(c)
	if err != nil {
		return err
	}
	var report health.Report
	path := "/sync/federation/health?" + url.Values{"store_id": {store.String()}}.Encode()
	if err := newAPIClient(c).call(d.ctx, http.MethodGet, path, nil, &report); err != nil {
		return err
	}
	if k.Output == "json" {
		err = printJSON(d.stdout, report)
	} else {
		err = printHealth(d, report)
	}
	if err == nil && report.OverallHealth != health.Healthy {
		err = exitError(exitDiffers)
	}
	return err
}

func printHealth(d *deps, r health.Report) error {
	w := tabwriter.NewWriter(d.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "store\t%s\nhealth\t%s\nmeasured\t%s\n", r.StoreID, r.OverallHealth, r.Timestamp.Format("2006-01-02 15:04:05Z"))
	fmt.Fprintf(w, "last reconcile\t%s\nlast heal\t%s\n", lastText(r.LastReconcile), lastText(r.LastHeal))
	fmt.Fprintf(w, "events not proven at central\t%d\nprojection gaps\t%d\n", r.Metrics.EventLagCount, r.Metrics.ProjectionGapCount)
	fmt.Fprintf(w, "central reachable\t%v (breaker %s)\n", r.Metrics.RemoteReachable, r.Metrics.CircuitBreakerState)
	for _, reason := range r.Reasons {
		fmt.Fprintf(w, "%s\t%s\n\t%s\n", reason.Code, reason.ES, reason.EN)
	}
	for _, a := range r.Details {
		fmt.Fprintf(w, "  %s\t%s  %s\n", a.Kind, a.ID, a.Text)
	}
	if err := w.Flush(); err != nil {
		return fmt.Errorf("print: %w", err)
	}
	return nil
}

func lastText(l health.Last) string {
	if l.SecondsSince < 0 {
		return l.Verdict + ", never succeeded"
	}
	return fmt.Sprintf("%s, last success %d s ago", l.Verdict, l.SecondsSince)
}
