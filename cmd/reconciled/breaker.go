package main

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"text/tabwriter"
	"time"

	"github.com/google/uuid"

	"github.com/veloxpos/reconciled/internal/config"
	"github.com/veloxpos/reconciled/internal/httpapi"
)

// breakerCommand is `reconciled breaker`: the circuit breaker towards central, which
// only the running daemon has.
type breakerCommand struct {
	storeFlags
	Show  breakerShowCommand  `cmd:"" default:"withargs" help:"Show how it stands (default)."`
	Reset breakerResetCommand `cmd:"" help:"Close it, as a restart would."`
}

// errNoBreaker says what to do where there is none.
var errNoBreaker = errors.New("the breaker is the running daemon's, and a daemon that starts has a closed one")

// ask makes a request about the store's breaker.
func (k breakerCommand) ask(d *deps, by, method, path string, body func(uuid.UUID) any) (breaker httpapi.Breaker, err error) {
	c, err := d.load(config.Client)
	if err != nil {
		return breaker, err
	}
	store, err := k.storeID(c)
	if err != nil {
		return breaker, err
	}
	api := newAPIClient(c)
	if by != "" {
		api.by = by
	}
	var payload any
	if body != nil {
		payload = body(store)
	} else {
		path += "?" + url.Values{"store_id": {store.String()}}.Encode()
	}
	if err = api.call(d.ctx, method, path, payload, &breaker); errors.Is(err, errNoDaemon) {
		err = fmt.Errorf("%w: %w", errNoBreaker, err)
	}
	return breaker, err
}

func (k breakerCommand) print(d *deps, b httpapi.Breaker) error {
	return k.show(d.stdout, b, func(w *tabwriter.Writer) {
		fmt.Fprintf(w, "store\t%s\nbreaker\t%s\nsince\t%s\nfailures\t%d of the last five tries\n", b.Store, b.State, instant(b.Since), b.Failures)
		if b.NextProbe != nil {
			fmt.Fprintf(w, "next probe\t%s, in %s\n", instant(*b.NextProbe), time.Until(*b.NextProbe).Round(time.Second))
		}
		if b.State == "OPEN" {
			fmt.Fprintln(w, "\tcentral is left alone until then; `reconciled breaker reset` closes it now")
		}
	})
}

// breakerShowCommand is `reconciled breaker show`: exit 0 when it is closed, else 1.
type breakerShowCommand struct{}

// Run asks the daemon.
func (breakerShowCommand) Run(d *deps, of *breakerCommand) error {
	breaker, err := of.ask(d, "", http.MethodGet, "/sync/federation/breaker", nil)
	if err == nil {
		err = of.print(d, breaker)
	}
	if err == nil && breaker.State != "CLOSED" {
		err = exitError(exitDiffers)
	}
	return err
}

// breakerResetCommand is `reconciled breaker reset`.
type breakerResetCommand struct {
	By string `help:"Who decides, for the record; the user that runs this when not given."`
}

// Run tells the daemon.
func (k breakerResetCommand) Run(d *deps, of *breakerCommand) error {
	breaker, err := of.ask(d, k.By, http.MethodPost, "/sync/federation/circuit-breaker/reset", func(store uuid.UUID) any {
		return map[string]any{"store_id": store}
	})
	if err != nil {
		return err
	}
	return of.print(d, breaker)
}
