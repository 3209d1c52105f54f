package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"text/tabwriter"
	"time"

	"github.com/google/uuid"
	"go.uber.org/zap"

	"github.com/veloxpos/reconciled/internal/alert"
	"github.com/veloxpos/reconciled/internal/config"
	"github.com/veloxpos/reconciled/internal/health"
	"github.com/veloxpos/reconciled/internal/postgres"
)

// alertsCommand is `reconciled alerts`.
type alertsCommand struct {
	List alertsListCommand `cmd:"" default:"withargs" help:"List what is wrong with a store, and who has taken it on: exit 1 when something is."`
	Ack  alertsAckCommand  `cmd:"" help:"Take an alert on: nobody else is called for it any more."`
	Test alertsTestCommand `cmd:"" help:"Send a test message over every channel that is configured."`
}

// alertsListCommand is `reconciled alerts list`.
type alertsListCommand struct {
	storeFlags
	All   bool `help:"Also what is over."`
	Limit int  `help:"At most so many." default:"50"`
}

// Run shows alerts as the daemon last kept them.
func (k alertsListCommand) Run(d *deps) error {
	s, store, err := k.open(d, config.Local)
	if err != nil {
		return err
	}
	defer s.Close()
	book := postgres.NewAlerts(s.db)
	looked, err := book.Looked(d.ctx, store)
	if err != nil {
		return err
	}
	list, err := book.List(d.ctx, store, k.All, k.Limit)
	if err != nil {
		return err
	}
	stale := time.Since(looked).Abs() > staleLook
	switch {
	case k.Output == "json":
		err = printJSON(d.stdout, append([]alert.Alert{}, list...))
	case len(list) > 0 || !stale:
		err = printAlerts(d, store, list)
	}
	if err == nil && stale { // what is not looked at is not fine
		when := "never"
		if !looked.IsZero() {
			when = "last at " + looked.Format(time.RFC3339)
		}
		return fmt.Errorf("store %s is not being looked at (%s): is the daemon running? `reconciled doctor` looks now", store, when)
	}
	for _, a := range list {
		if err == nil && a.Stands() {
			err = exitError(exitDiffers)
		}
	}
	return err
}

// staleLook is how old the daemon's last look may be, or how far ahead: this clock is
// not the database's. Further ahead, the clock was set back, and its age is not known.
const staleLook = 10 * time.Minute

func printAlerts(d *deps, store uuid.UUID, list []alert.Alert) error {
	if len(list) == 0 {
		fmt.Fprintf(d.stdout, "store %s: no alerts; reconciled health --store %[1]s shows what nobody is called for\n", store)
		return nil
	}
	w := tabwriter.NewWriter(d.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "CODE\tKEY\tSTATE\tSINCE\tVALUE\tALERT\tNEXT")
	for _, a := range list {
		state := string(a.State)
		switch {
		case a.State == alert.Acknowledged:
			state += " by " + a.Acknowledgement.By
		case a.InhibitedBy != "":
			state += ", quiet for " + string(a.InhibitedBy)
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%d\t%s\t%s\n", a.Code, cmp.Or(a.Key, "-"), state, a.Since.Format(time.RFC3339), a.Value, a.ID, alert.KindOf(a.Code).Command(a.Store))
	}
	if err := w.Flush(); err != nil {
		return fmt.Errorf("print: %w", err)
	}
	return nil
}

// alertsAckCommand is `reconciled alerts ack`.
type alertsAckCommand struct {
	storeFlags
	ID  string `arg:"" help:"The alert's id."`
	By  string `help:"Who takes it on; the user that runs this when not given."`
	Why string `help:"What is being done." required:""`
}

// Run acknowledges the alert.
func (k alertsAckCommand) Run(d *deps) error {
	id, err := uuid.Parse(k.ID)
	if err != nil {
		return fmt.Errorf("alert id %.64q is not a UUID", k.ID)
	}
	by, err := whoDecides(k.By)
	if err != nil {
		return err
	}
	s, store, err := k.open(d, config.Local)
	if err != nil {
		return err
	}
	defer s.Close()
	taken, err := postgres.NewAlerts(s.db).Acknowledge(d.ctx, store, id, by, k.Why)
	if err != nil {
		return err
	}
	if k.Output == "json" {
		return printJSON(d.stdout, taken)
	}
	fmt.Fprintf(d.stdout, "%s %s is taken on by %s; it stays until it is over\n", taken.Code, taken.Key, taken.Acknowledgement.By)
	return nil
}

// alertsTestCommand is `reconciled alerts test`.
type alertsTestCommand struct {
	storeFlags
}

// testTimeout bounds a test message.
const testTimeout = time.Minute

// testSent is what became of a test message over one channel.
type testSent struct {
	Channel string `json:"channel"`
	Sent    bool   `json:"sent"`
	Error   string `json:"error,omitempty"`
}

// Run sends a message that says it is a test, and says over which channels it went.
func (k alertsTestCommand) Run(d *deps) error {
	c, err := d.load(config.Local)
	if err != nil {
		return err
	}
	store, err := k.storeID(c)
	if err != nil {
		return err
	}
	list, err := outlets(c.Alerts, zap.NewNop())
	if err != nil {
		return err
	}
	now := time.Now().UTC()
	message := alert.Render(alert.Notice{News: alert.Fired, At: now, Alert: alert.Alert{
		ID: uuid.New(), Store: store, Code: alert.FederationCritical, Key: "test", State: alert.Firing, Value: 1, Total: 1, Since: now, Fired: now,
		Affected: []health.Affected{{Kind: "test", ID: "reconciled alerts test", Text: "esto es una prueba, no pasa nada / this is a test, nothing is wrong"}},
	}})
	message.Subject = "[TEST / PRUEBA] " + message.Subject
	message.Items[0].Code, message.Items[0].Severity = "RECONCILED_TEST", alert.Medium // nobody is to be called out
	var sent []testSent
	failed := false
	for _, outlet := range list {
		if outlet.Name == "log" {
			continue // the daemon's
		}
		ctx, cancel := context.WithTimeout(d.ctx, testTimeout)
		err := outlet.Sender.Send(ctx, message)
		cancel()
		became := testSent{Channel: outlet.Name, Sent: err == nil}
		if err != nil {
			became.Error, failed = err.Error(), true
		}
		sent = append(sent, became)
	}
	if len(sent) == 0 {
		return fmt.Errorf("%w:\n  alerts: no channel is configured beside the log and the shop's screens", config.ErrInvalid)
	}
	if k.Output == "json" {
		err = printJSON(d.stdout, sent)
	} else {
		for _, s := range sent {
			if s.Sent {
				fmt.Fprintf(d.stdout, "%s: sent\n", s.Channel)
			} else {
				fmt.Fprintf(d.stdout, "%s: NOT sent: %s\n", s.Channel, s.Error)
			}
		}
	}
	if failed {
		err = errors.Join(err, exitError(exitTrouble))
	}
	return err
}
