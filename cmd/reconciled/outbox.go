package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"text/tabwriter"

	"github.com/google/uuid"

	"github.com/veloxpos/reconciled/daemon"
	"github.com/veloxpos/reconciled/internal/config"
	"github.com/veloxpos/reconciled/internal/httpapi"
	"github.com/veloxpos/reconciled/internal/postgres"
	"github.com/veloxpos/reconciled/lock"
)

// outboxCommand is `reconciled outbox`: what is left in the POS's outbox, and what
// people do about it.
type outboxCommand struct {
	storeFlags
	List  outboxListCommand  `cmd:"" default:"withargs" help:"List entries that are not done with (default)."`
	Retry outboxRetryCommand `cmd:"" help:"Let the POS try entries again as if they were new."`
}

// outboxListCommand is `reconciled outbox list`: exit 1 when there are dead entries among
// those that were asked for.
type outboxListCommand struct {
	Dead    bool `xor:"which" help:"Only dead entries: failed, or tried ten times."`
	Pending bool `xor:"which" help:"Only pending entries, which the POS still tries."`
}

// How many entries are named, on a terminal and in JSON.
const (
	entriesShown  = 50
	entriesListed = 500
)

// Run lists through the running daemon, or by itself where there is none.
func (k outboxListCommand) Run(d *deps, of *outboxCommand) error {
	store, err := of.id(d)
	if err != nil {
		return err
	}
	query := httpapi.OutboxQuery{Store: store, Limit: entriesShown}
	if of.Output == "json" {
		query.Limit = entriesListed
	}
	values := url.Values{"store_id": {store.String()}, "limit": {strconv.Itoa(query.Limit)}}
	switch {
	case k.Dead:
		query.Status = "dead"
	case k.Pending:
		query.Status = "pending"
	}
	if query.Status != "" {
		values.Set("status", query.Status)
	}
	page, err := ask(d, "/sync/federation/outbox", values, func(b *daemon.Books) (httpapi.OutboxPage, error) { return b.Outbox(d.ctx, query) })
	if err != nil {
		return err
	}
	dead := int64(0)
	for _, count := range page.Counts {
		dead += count.Dead
	}
	err = of.show(d.stdout, page, func(w *tabwriter.Writer) { printOutbox(w, page, dead) })
	if err == nil && dead > 0 && !k.Pending {
		err = exitError(exitDiffers)
	}
	return err
}

func printOutbox(w *tabwriter.Writer, page httpapi.OutboxPage, dead int64) {
	if len(page.Counts) == 0 {
		fmt.Fprintf(w, "store %s: nothing is left in the outbox\n", page.Store)
		return
	}
	if len(page.Entries) > 0 {
		fmt.Fprintln(w, "ENTRY\tTARGET\tTYPE\tEVENT\tSTATUS\tTRIES\tCREATED\tWHY")
	}
	for _, e := range page.Entries {
		status := cell(e.Status)
		switch {
		case e.Zombie:
			status = "dead (zombie)"
		case e.Dead:
			status = "dead"
		}
		event := cell(e.Event)
		if !e.EventKnown {
			event += " (not in the log)"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%d\t%s\t%s\n", e.ID, cell(e.Target), cell(e.Type), event, status, e.Retries, instant(e.Created), cell(e.Error))
	}
	if page.Next != nil {
		fmt.Fprintln(w, "… and more")
	}
	for _, c := range page.Counts {
		zombies := ""
		if c.Zombies > 0 {
			zombies = fmt.Sprintf(", of which %d still say pending and are tried no more (zombies)", c.Zombies)
		}
		fmt.Fprintf(w, "store %s: %s has %d pending and %d dead%s\n", page.Store, cell(c.Target), c.Pending, c.Dead, zombies)
	}
	if dead > 0 {
		fmt.Fprintln(w, "  when the cause is gone, `reconciled outbox retry ENTRY --why TEXT` lets the POS try again; one whose event is not in the log fails again")
	}
}

// outboxRetryCommand is `reconciled outbox retry`.
type outboxRetryCommand struct {
	Entries []string `arg:"" name:"entry-id" help:"Entries to try again: all of them, or none."`
	Why     string   `help:"Why they can succeed now, for the record; needed."`
	By      string   `help:"Who decides, for the record; the user that runs this when not given."`
}

// Run goes through the running daemon, or takes the lock itself where there is none.
func (k outboxRetryCommand) Run(d *deps, of *outboxCommand) error {
	ids, err := parseIDs("entry", k.Entries)
	switch {
	case err != nil:
		return err
	case k.Why == "":
		return errors.New("--why is needed: the reason goes into the audit")
	}
	c, err := d.load(config.Client)
	if err != nil {
		return err
	}
	retry := httpapi.OutboxRetry{IDs: ids, Why: k.Why}
	if retry.Store, err = of.storeID(c); err != nil {
		return err
	}
	if retry.By, err = whoDecides(k.By); err != nil {
		return err
	}
	api := newAPIClient(c)
	api.by = retry.By
	err = api.call(d.ctx, http.MethodPost, "/sync/federation/outbox/retry", struct {
		Store uuid.UUID   `json:"store_id"`
		IDs   []uuid.UUID `json:"ids"`
		Why   string      `json:"why"`
	}{retry.Store, ids, k.Why}, &retry)
	if errors.Is(err, errNoDaemon) {
		err = k.direct(d, retry)
	}
	if err != nil {
		return err
	}
	return of.show(d.stdout, retry, func(w *tabwriter.Writer) {
		fmt.Fprintf(w, "store %s: %d outbox entries set back to pending by %s\n", retry.Store, len(retry.IDs), retry.By)
	})
}

func (outboxRetryCommand) direct(d *deps, retry httpapi.OutboxRetry) error {
	c, err := d.load(config.Local)
	if err != nil {
		return err
	}
	s, err := openSite(d.ctx, c)
	if err != nil {
		return err
	}
	defer s.Close()
	if err := s.mayWrite(); err != nil {
		return err
	}
	return s.locked(d.ctx, retry.Store, "outbox retry", func(ctx context.Context, grant lock.Grant) error {
		return postgres.NewOutbox(s.db).Retry(ctx, grant, retry.IDs, retry.By, retry.Why)
	})
}
