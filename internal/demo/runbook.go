package demo

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/veloxpos/reconciled/internal/alert"
	"github.com/veloxpos/reconciled/internal/httpapi"
	"github.com/veloxpos/reconciled/internal/stage"
	"github.com/veloxpos/reconciled/internal/testkit"
)

// Runbook walks the operators' runbook, section by section, at a shop in which each of
// its incidents is planted: what was planted, the alert, the command that it says to
// type next, what that prints, and the incident's end. It fails with ErrUnmet when one
// was not told, or not told to be over.
//
// Nobody waits for an alert's time to fire here: the record of an alert is dated back,
// and the daemon goes on from there.
func Runbook(ctx context.Context, opts Options) (err error) {
	binary, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find this program: %w", err)
	}
	w := &walk{out: newTeller(opts.Out)}
	log, err := os.CreateTemp("", "reconciled-runbook-*.log")
	if err != nil {
		return fmt.Errorf("make log file: %w", err)
	}
	defer func() { err = errors.Join(err, log.Close()) }()
	w.out.scene("A store and central, a mail relay and an Alertmanager, all private to this walk")
	if w.mails, err = testkit.StartMailbox(); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.mails.Close()) }()
	if w.manager, err = testkit.StartAlertmanager(ctx); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.manager.Close()) }()
	w.stage, err = stage.New(ctx, stage.Options{
		Binary: binary, Store: shopID, Log: log,
		Schedule: map[string]string{"heal": "@every 2s", "reconcile": "@every 5s", "snapshot": "@every 30s", "watch": "@every 1s"},
		Alerts: map[string]any{
			"mail": map[string]any{
				"relay": w.mails.Addr(), "from": "reconciled@tienda.example", "plaintext": true, "to": []string{"operador@tienda.example"},
				"escalate": []string{"sre@veloxpos.com", "dev-backend@veloxpos.com"},
			},
			"alertmanager": map[string]any{"url": w.manager.URL()},
		},
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.stage.Close()) }()
	for _, node := range []*stage.Node{w.stage.Central, w.stage.Store} {
		if err := w.furnish(ctx, node); err != nil {
			return err
		}
		if err := node.Start(ctx); err != nil {
			return err
		}
	}
	if err := w.healthy(ctx); err != nil {
		return err
	}
	for _, i := range w.incidents() {
		if err := w.meet(ctx, i); err != nil {
			return err
		}
	}
	if err := w.told(ctx); err != nil {
		return err
	}
	w.out.line("\nThe daemons' own words are in %s", filepath.Clean(log.Name()))
	return w.table()
}

// walk is a runbook under way.
type walk struct {
	out     *teller
	stage   *stage.Stage
	mails   *testkit.Mailbox
	manager *testkit.Alertmanager
	managed string // what the Alertmanager held while a fiscal duplicate stood
	met     []outcome
}

// incident is one of the runbook's.
type incident struct {
	section string
	code    alert.Code
	planted string
	plant   func(context.Context) error
	mended  string
	mend    func(context.Context) error
	also    [][]string // further commands of its section
}

// outcome is what became of one.
type outcome struct {
	incident
	fired, over bool
	exit        int
}

// patience is how long the daemons have for each step, with an alert's time turned
// forward.
const patience = time.Minute

// meet plants an incident and follows it to its end.
func (w *walk) meet(ctx context.Context, i incident) error {
	w.out.scene("Runbook %s, %s", i.section, i.code)
	w.out.line("  planted   %s", i.planted)
	if err := i.plant(ctx); err != nil {
		return fmt.Errorf("plant %s: %w", i.code, err)
	}
	o := outcome{incident: i}
	a, fired, err := w.await(ctx, i.code, func(a alert.Alert) bool { return a.Stands() })
	if err != nil {
		return err
	}
	if o.fired = fired; fired {
		message := alert.Render(alert.Notice{News: alert.Fired, At: a.Fired, Alert: a}, alert.ES)
		w.out.line("  alert     %s", message.Subject)
		for _, line := range strings.Split(strings.TrimSpace(message.Text), "\n") {
			w.out.line("            | %s", line)
		}
		if i.code == alert.FiscalDuplicate {
			if err := w.watchManager(ctx, i.code); err != nil {
				return err
			}
		}
		for _, command := range append([][]string{strings.Fields(alert.KindOf(i.code).Command(shopID))[1:]}, i.also...) {
			exit, err := w.run(ctx, command)
			if err != nil {
				return err
			}
			o.exit = max(o.exit, exit)
		}
	} else {
		w.out.line("  alert     NONE within %s", patience)
	}
	w.out.line("  mended    %s", i.mended)
	if err := i.mend(ctx); err != nil {
		return fmt.Errorf("mend %s: %w", i.code, err)
	}
	if _, o.over, err = w.await(ctx, i.code, func(a alert.Alert) bool { return a.State == alert.Resolved }); err != nil {
		return err
	}
	w.out.line("  resolved  %v", o.over)
	w.met = append(w.met, o)
	return nil
}

// task runs one of the daemon's tasks to its end; while it is at that task by itself it
// is waited for, as the runbook says.
func (w *walk) task(ctx context.Context, name string) (httpapi.Run, error) {
	for deadline := time.Now().Add(patience); ; {
		run, err := w.stage.Store.Await(ctx, name, false, nil)
		held := new(stage.StatusError)
		if !errors.As(err, &held) || held.Status != http.StatusConflict || time.Now().After(deadline) {
			return run, err
		}
		select {
		case <-ctx.Done():
			return run, context.Cause(ctx)
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// run shows what a command prints, from its beginning.
func (w *walk) run(ctx context.Context, command []string) (exit int, err error) {
	w.out.line("  next      reconciled %s", strings.Join(command, " "))
	printed, exit, err := w.stage.Store.Command(ctx, command...)
	if err != nil {
		return exit, fmt.Errorf("run %s: %w", command, err)
	}
	lines := strings.Split(strings.TrimSpace(printed), "\n")
	for n, line := range lines {
		if n == printedAtMost {
			w.out.line("            | … %d more lines", len(lines)-n)
			break
		}
		w.out.line("            | %.150s", line)
	}
	w.out.line("            exit %d", exit)
	return exit, nil
}

const printedAtMost = 10

// await looks at the store's alerts of a code until one is as wanted, and turns their
// time forward meanwhile.
func (w *walk) await(ctx context.Context, code alert.Code, wanted func(alert.Alert) bool) (found alert.Alert, ok bool, err error) {
	deadline := time.Now().Add(patience)
	for time.Now().Before(deadline) {
		alerts, err := w.alerts(ctx)
		if err != nil {
			return found, false, err
		}
		for _, a := range alerts {
			if a.Code == code && wanted(a) {
				return a, true, nil
			}
		}
		if err := w.forward(ctx); err != nil {
			return found, false, err
		}
		select {
		case <-ctx.Done():
			return found, false, context.Cause(ctx)
		case <-time.After(200 * time.Millisecond):
		}
	}
	return found, false, nil
}

// alerts are all that the daemon has kept, as the program lists them.
func (w *walk) alerts(ctx context.Context) (list []alert.Alert, err error) {
	printed, _, err := w.stage.Store.Command(ctx, "alerts", "--all", "--store", shopID.String(), "--output", "json")
	if err != nil {
		return nil, fmt.Errorf("list alerts: %w", err)
	}
	if err := json.Unmarshal([]byte(printed), &list); err != nil {
		return nil, fmt.Errorf("list alerts: %w: %s", err, printed)
	}
	return list, nil
}

// forward dates what is not over yet back by a quarter of an hour.
func (w *walk) forward(ctx context.Context) error {
	super, err := pgx.Connect(ctx, w.stage.Store.Server.URL("postgres", stage.Database))
	if err != nil {
		return fmt.Errorf("turn time forward: %w", err)
	}
	defer super.Close(context.WithoutCancel(ctx))
	_, err = super.Exec(ctx, `
		WITH alerts AS (
			UPDATE reconciled.alert SET since = since - interval '15 min', alert = alert || (
				SELECT jsonb_object_agg(key, CASE key WHEN 'causes'
					THEN (SELECT jsonb_object_agg(cause.key, to_jsonb((cause.value #>> '{}')::timestamptz - interval '15 min')) FROM jsonb_each(kept.value) AS cause)
					ELSE to_jsonb((kept.value #>> '{}')::timestamptz - interval '15 min') END)
				FROM jsonb_each(alert) AS kept WHERE key IN ('since', 'awaySince', 'anewAt', 'causes') AND kept.value <> 'null')
			WHERE state <> 'resolved')
		UPDATE reconciled.gap SET first_seen = first_seen - interval '15 min', class_since = class_since - interval '15 min' WHERE class = 'actionable'`)
	if err != nil {
		return fmt.Errorf("turn time forward: %w", err)
	}
	return nil
}

// watchManager keeps what the Alertmanager holds as soon as it knows of a code.
func (w *walk) watchManager(ctx context.Context, code alert.Code) error {
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); {
		shown, err := w.manager.Show(ctx)
		if err != nil {
			return err
		}
		if strings.Contains(shown, string(code)) {
			w.managed = shown
			return nil
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(200 * time.Millisecond):
		}
	}
	return nil // the walk's end says that it is missing
}

// told shows one mail as it was received, and what the Alertmanager holds.
func (w *walk) told(ctx context.Context) error {
	w.out.scene("What people were told")
	mails := w.mails.Mails()
	w.out.line("  %d mails came; one of them, as received:", len(mails))
	for _, m := range mails {
		if !strings.Contains(m.Text, "FISCAL_DUPLICATE") {
			continue
		}
		for n, line := range strings.Split(m.Text, "\n") {
			if n == 40 {
				break
			}
			w.out.line("  | %.150s", strings.TrimRight(line, "\r"))
		}
		break
	}
	w.out.line("  what the Alertmanager held meanwhile, as amtool shows it:")
	for _, line := range strings.Split(strings.TrimSpace(w.managed), "\n") {
		w.out.line("  | %.220s", line)
	}
	var screens int
	if err := w.stage.Store.Owner.QueryRow(ctx, `SELECT count(*) FROM notifications WHERE category = 'federation_health'`).Scan(&screens); err != nil {
		return fmt.Errorf("count notifications: %w", err)
	}
	w.out.line("  the shop's screens show %d notifications", screens)
	if len(mails) == 0 || screens == 0 || w.managed == "" {
		return fmt.Errorf("%w: %d mails, %d notifications, at the Alertmanager %q", ErrUnmet, len(mails), screens, w.managed)
	}
	return nil
}

func (w *walk) table() error {
	w.out.scene("The runbook, walked")
	met := true
	w.out.line("  %-8s %-26s %-9s %-12s %-8s", "section", "incident", "alerted", "command", "resolved")
	for _, o := range w.met {
		ok := o.fired && o.over && o.exit <= 1
		met = met && ok
		w.out.line("  %-8s %-26s %-9v exit %-7d %-8v %s", o.section, o.code, o.fired, o.exit, o.over, map[bool]string{true: "✓", false: "✗"}[ok])
	}
	if !met {
		return ErrUnmet
	}
	return nil
}
