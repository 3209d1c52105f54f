package main

import (
	"fmt"
	"net/url"
	"strconv"
	"text/tabwriter"

	"github.com/veloxpos/reconciled/daemon"
	"github.com/veloxpos/reconciled/internal/httpapi"
)

// conflictsCommand is `reconciled conflicts`: exit 1 when there are events with two
// contents that nobody has decided.
type conflictsCommand struct {
	storeFlags
}

// How many of each kind are named, on a terminal and in JSON.
const (
	conflictsShown  = 10
	conflictsListed = 100
)

// Run lists through the running daemon, or by itself where there is none.
func (k conflictsCommand) Run(d *deps) error {
	store, err := k.id(d)
	if err != nil {
		return err
	}
	limit := conflictsShown
	if k.Output == "json" {
		limit = conflictsListed
	}
	query := url.Values{"store_id": {store.String()}, "limit": {strconv.Itoa(limit)}}
	list, err := ask(d, "/sync/federation/conflicts", query, func(b *daemon.Books) (httpapi.ConflictList, error) { return b.Conflicts(d.ctx, store, limit) })
	if err != nil {
		return err
	}
	err = k.show(d.stdout, list, func(w *tabwriter.Writer) { printConflicts(w, list) })
	if err == nil && list.UndecidedTotal > 0 {
		err = exitError(exitDiffers)
	}
	return err
}

func printConflicts(w *tabwriter.Writer, list httpapi.ConflictList) {
	fmt.Fprintf(w, "store %s: %d events have two contents, and nobody has decided\n", list.Store, list.UndecidedTotal)
	if len(list.Undecided) > 0 {
		fmt.Fprintln(w, "EVENT\tTYPE\tFOUND\tHERE\tTHERE\tRECOMMENDATION")
	}
	for _, c := range list.Undecided {
		fmt.Fprintf(w, "%s\t%s\t%s\t%.12s\t%.12s\t%s\n", c.Event, cell(c.Type), instant(c.Found), c.Here, c.There, cell(c.Recommendation))
	}
	if more := list.UndecidedTotal - len(list.Undecided); more > 0 {
		fmt.Fprintf(w, "… and %d more\n", more)
	}
	if len(list.Undecided) > 0 {
		fmt.Fprintf(w, "`reconciled event decide %s --store %s` shows both contents\n", list.Undecided[0].Event, list.Store)
	}
	if len(list.Resolved) == 0 {
		fmt.Fprintln(w, "the POS has resolved none by itself")
		return
	}
	fmt.Fprintln(w, "the latest that the POS resolved by itself (conflict_audit_log):")
	fmt.Fprintln(w, "AT\tABOUT\tSTRATEGY\tWINNER\tLOSERS\tBY")
	for _, r := range list.Resolved {
		losers := "-"
		if n := len(r.Losers); n > 0 {
			losers = cell(r.Losers[0])
			if n > 1 {
				losers += fmt.Sprintf(" and %d more", n-1)
			}
		}
		fmt.Fprintf(w, "%s\t%s %s\t%s\t%s\t%s\t%s\n", instant(r.At), cell(r.EntityType), cell(r.EntityID), cell(r.Strategy), cell(r.Winner), losers, cell(r.By))
	}
}
