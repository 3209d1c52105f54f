package main

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/veloxpos/reconciled/internal/alert"
	"github.com/veloxpos/reconciled/internal/config"
	"github.com/veloxpos/reconciled/internal/health"
	"github.com/veloxpos/reconciled/internal/postgres"
)

// doctorCommand is `reconciled doctor`: exit 0 when nothing is wrong, 1 when something
// is, 2 when that could not be found out.
type doctorCommand struct {
	storeFlags
}

// diagnosis is the runbook, walked.
type diagnosis struct {
	Store   uuid.UUID    `json:"storeId"`
	At      time.Time    `json:"at"`
	Overall health.Level `json:"overallHealth"`
	// Daemon says whether the daemon answers; what is below is else measured by this
	// command itself.
	Daemon string    `json:"daemon"`
	Wrong  []ailment `json:"wrong"` // the gravest first
	Walked []step    `json:"walked"`
}

// ailment is one thing that is wrong.
type ailment struct {
	health.Reason
	Section  string            `json:"runbookSection"`
	Doing    alert.Text        `json:"daemonDoes"`
	Next     string            `json:"next"` // the command to type
	Affected []health.Affected `json:"affected,omitempty"`
}

// step is a thing that the runbook says to look at.
type step struct {
	Section string `json:"runbookSection"`
	What    string `json:"what"`
	Found   string `json:"found"`
	Fine    bool   `json:"fine"`
}

// Run walks the runbook for a store.
func (k doctorCommand) Run(d *deps) error {
	c, err := d.load(config.Local)
	if err != nil {
		return err
	}
	s, err := openSite(d.ctx, c) // first: that it is down is said whichever store is meant
	if err != nil {
		return fmt.Errorf("%w\n  runbook 2: without its database nothing can be measured; look at the database first, then run this again", err)
	}
	defer s.Close()
	store, err := k.storeID(c)
	if err != nil {
		return err
	}
	found := diagnosis{Store: store, At: time.Now().UTC(), Daemon: "answers"}
	report, sick := daemonReport(d, c, store)
	switch fault := new(apiError); {
	case errors.As(sick, &fault) && fault.status == http.StatusNotFound:
		return sick
	case errors.Is(sick, errNoDaemon):
		found.Daemon = "does not answer at " + c.API.Listen
	case sick != nil:
		found.Daemon = "does not answer as it should: " + sick.Error()
	}
	if sick != nil {
		if report, err = k.measure(d, s, store); err != nil {
			return err
		}
	}
	found.judge(report, sick)
	if err := found.walk(d, s, report); err != nil {
		return err
	}
	if k.Output == "json" {
		err = printJSON(d.stdout, found)
	} else {
		found.print(d)
	}
	if err == nil && len(found.Wrong) > 0 {
		err = exitError(exitDiffers)
	}
	return err
}

// daemonReport is health as the daemon measures it now.
func daemonReport(d *deps, c *config.Config, store uuid.UUID) (report health.Report, err error) {
	path := "/sync/federation/health?" + url.Values{"store_id": {store.String()}, "fresh": {"true"}}.Encode()
	return report, newAPIClient(c).call(d.ctx, http.MethodGet, path, nil, &report)
}

// measure is health without the daemon: central is asked where this is a store.
func (k doctorCommand) measure(d *deps, s *site, store uuid.UUID) (health.Report, error) {
	if s.config.Central.URL != "" {
		if err := s.openClient(d.ctx); err != nil {
			return health.Report{}, err
		}
	}
	return newMonitor(s, nil).Measure(d.ctx, store)
}

// judge makes an ailment of each reason, of lost updates, which make no store unhealthy,
// and of a daemon that gives no report.
func (f *diagnosis) judge(report health.Report, sick error) {
	f.Overall, f.Wrong = report.OverallHealth, []ailment{}
	for _, reason := range report.Reasons {
		f.Wrong = append(f.Wrong, describe(report, reason))
	}
	if lost := report.Metrics.LostUpdateCount; lost > 0 {
		f.Wrong = append(f.Wrong, describe(report, health.Reason{
			Code: "LOST_UPDATE", Level: health.Degraded, Value: lost,
			ES: fmt.Sprintf("%d eventos con el contenido de otro: se pueden restaurar", lost),
			EN: fmt.Sprintf("%d events hold the content of another: they can be restored", lost),
		}))
	}
	if sick != nil {
		f.Overall = health.Critical
		down := ailment{
			Reason: health.Reason{
				Code: "DAEMON_DOWN", Level: health.Critical, Value: 1,
				ES: "reconciled no está en marcha: nada se cura ni se sincroniza", EN: "reconciled is not running: nothing is healed or synchronised",
			},
			Section: "2", Next: "systemctl status reconciled; journalctl -u reconciled -n 50",
			Doing: alert.Text{ES: "Nada, mientras no arranque.", EN: "Nothing, until it is started."},
		}
		if !errors.Is(sick, errNoDaemon) {
			down.ES, down.EN = "reconciled no responde como debe: no se sabe si cura y sincroniza", "reconciled does not answer as it should: whether it heals and synchronises is not known"
			down.Doing = alert.Text{ES: "No se sabe: no lo dijo.", EN: "Not known: it did not say."}
		}
		f.Wrong = append(f.Wrong, down)
	}
	slices.SortStableFunc(f.Wrong, func(a, b ailment) int {
		return cmp.Or(cmp.Compare(gravity(b.Level), gravity(a.Level)), cmp.Compare(urgency(a.Code), urgency(b.Code)))
	})
}

func gravity(l health.Level) int {
	return slices.Index([]health.Level{health.Healthy, health.Degraded, health.Critical}, l)
}

// urgency puts first what costs most by the hour.
func urgency(code string) int {
	first := []string{"FISCAL_DUPLICATE", "DAEMON_DOWN", "CLONE_OR_ROLLBACK", "EVENT_TAMPERED", "CAPTURE_BROKEN"}
	if i := slices.Index(first, code); i >= 0 {
		return i
	}
	return len(first)
}

// walk goes through what the runbook says to look at, whether it is wrong or not.
func (f *diagnosis) walk(d *deps, s *site, report health.Report) error {
	m := report.Metrics
	look := func(section, what string, fine bool, format string, args ...any) {
		f.Walked = append(f.Walked, step{section, what, fmt.Sprintf(format, args...), fine})
	}
	look("1", "overallHealth", report.OverallHealth == health.Healthy, "%s, mode %s", report.OverallHealth, report.Mode)
	right := func(code string) bool { // by its limits
		_, wrong := report.Has(code)
		return !wrong
	}
	look("2", "projection gaps", m.ProjectionGapCount == 0 && right("GAP_WAITING"), "%d to be healed; %d waiting, %d blocked, %d malformed, %d rightly without rows",
		m.ProjectionGapCount, m.WaitingGapCount, m.BlockedGapCount, m.PoisonCount, m.SemanticGapCount)
	among := func(verdict string, fine ...string) bool { return slices.Contains(fine, verdict) }
	look("2", "last heal", among(report.LastHeal.Verdict, "healed", "nothing_to_do"), "%s", lastText(report.LastHeal))
	look("2", "stock", m.NegativeStockCount+m.StockDivergenceCount == 0, "%d products below zero by the ledger, %d caches away from it", m.NegativeStockCount, m.StockDivergenceCount)
	look("2", "fiscal numbers", m.FiscalDuplicateCount == 0, "%d used twice by sales that are not voided", m.FiscalDuplicateCount)
	look("2", "fiscal ranges", m.FiscalRangeOverlapCount+m.FiscalRegressionCount+m.FiscalOutOfRangeCount == 0,
		"%d overlap, %d would give out used numbers, %d numbers from no range", m.FiscalRangeOverlapCount, m.FiscalRegressionCount, m.FiscalOutOfRangeCount)
	look("2", "central", m.RemoteReachable && m.SyncReady, "reachable %v, ready %v, %d ms, breaker %s", m.RemoteReachable, m.SyncReady, m.RemoteLatencyMs, m.CircuitBreakerState)
	if s.config.Central.URL != "" { // central itself answers, and asks nobody
		look("3", "last reconcile", among(report.LastReconcile.Verdict, "in_sync", "repaired"), "%s; %d events not proven at central", lastText(report.LastReconcile), m.EventLagCount)
	}
	holder, err := postgres.NewFence(s.db).Holder(d.ctx, f.Store)
	if err != nil {
		return err
	}
	lock := "free"
	if holder != nil {
		lock = "held by " + holder.Owner
	}
	look("3", "lock", true, "%s; backend %s", lock, m.LockBackend)
	look("4", "outbox pending", right("OUTBOX_BACKLOG"), "%d", m.OutboxPending)
	look("4", "outbox dead", m.OutboxDead == 0, "%d", m.OutboxDead)
	look("4", "conflicts in the last hour", right("CONFLICT_RATE") && m.ConflictCount+m.LostUpdateCount == 0, "%d resolved by the POS, %d undecided here, %d lost updates", m.ConflictRate, m.ConflictCount, m.LostUpdateCount)
	look("4", "evidence", m.EventTamperedCount+m.CaptureBrokenCount+m.WentBackCount == 0, "%d of tampering, %d of broken capture, %d of a restored or copied database",
		m.EventTamperedCount, m.CaptureBrokenCount, m.WentBackCount)
	look("-", "clock and disk", right("CLOCK_SKEW") && right("DISK_LOW"), "%d ms away, fullest disk %d %%", m.ClockSkewMs, m.DiskUsedPercent)
	return nil
}

func (f *diagnosis) print(d *deps) {
	fmt.Fprintf(d.stdout, "store %s: %s; the daemon %s\n", f.Store, f.Overall, f.Daemon)
	for i, a := range f.Wrong {
		fmt.Fprintf(d.stdout, "\n%d. %s %s (runbook %s)\n   %s\n   %s\n", i+1, strings.ToUpper(string(a.Level)), a.Code, a.Section, a.ES, a.EN)
		for _, affected := range a.Affected {
			fmt.Fprintf(d.stdout, "     %s  %s\n", affected.ID, affected.Text)
		}
		fmt.Fprintf(d.stdout, "   reconciled: %s\n               %s\n   ahora/now:  %s\n", a.Doing.ES, a.Doing.EN, a.Next)
	}
	fmt.Fprintf(d.stdout, "\nthe runbook, section by section\n")
	for _, s := range f.Walked {
		mark := "ok"
		if !s.Fine {
			mark = "!!"
		}
		fmt.Fprintf(d.stdout, "  %s  %s  %-26s  %s\n", mark, s.Section, s.What, s.Found)
	}
	if len(f.Wrong) == 0 {
		fmt.Fprintln(d.stdout, "\nnada que hacer / nothing to do")
	}
}
