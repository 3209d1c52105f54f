package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"math"
	"text/tabwriter"
	"time"

	"github.com/google/uuid"

	"github.com/veloxpos/reconciled/internal/config"
	"github.com/veloxpos/reconciled/internal/postgres"
)

// fiscalCommand is `reconciled fiscal`: what is wrong with fiscal numbers. Nothing of it
// changes one.
type fiscalCommand struct {
	Duplicates fiscalDuplicatesCommand `cmd:"" help:"List numbers that more than one sale has, and export what legal and accounting need."`
	Ranges     fiscalRangesCommand     `cmd:"" help:"List the ranges that numbers are taken from, and what is wrong with them."`
}

// fiscalFlags name whose numbers a command is about.
type fiscalFlags struct {
	storeFlags
	All bool `help:"At central: every store, and what stores have in common, instead of one."`
}

// fiscalSite is a site whose fiscal numbers are looked at.
type fiscalSite struct {
	*site
	watch *postgres.Fiscal
	scope postgres.FiscalScope
	store uuid.NullUUID // none: all stores
}

// whose names the stores.
func (s fiscalSite) whose() string {
	if !s.store.Valid {
		return "all stores"
	}
	return "store " + s.store.UUID.String()
}

// open opens the site and takes in what came up since the daemon last looked.
func (f fiscalFlags) open(d *deps) (*fiscalSite, error) {
	s, err := f.openSite(d)
	if err != nil {
		return nil, err
	}
	for _, store := range s.scope.Stores {
		if err := s.watch.Follow(d.ctx, store); err != nil {
			s.Close()
			return nil, err
		}
	}
	return s, nil
}

// openSite opens it for one store; or, where the configuration is central's, for all
// stores: a store is told of no other.
func (f fiscalFlags) openSite(d *deps) (*fiscalSite, error) {
	if !f.All {
		s, store, err := f.storeFlags.open(d, config.Local)
		if err != nil {
			return nil, err
		}
		return &fiscalSite{s, postgres.NewFiscal(s.log), postgres.FiscalScope{Stores: []uuid.UUID{store}}, uuid.NullUUID{UUID: store, Valid: true}}, nil
	}
	if f.Store != "" {
		return nil, errors.New("--all and --store exclude each other")
	}
	c, err := d.load(config.CentralServer)
	if err != nil {
		return nil, fmt.Errorf("--all is central's: %w", err)
	}
	s, err := openSite(d.ctx, c)
	if err != nil {
		return nil, err
	}
	stores, err := s.db.Stores(d.ctx)
	if err != nil {
		s.Close()
		return nil, err
	}
	return &fiscalSite{s, postgres.NewFiscal(s.log), postgres.FiscalScope{Stores: stores, Across: true}, uuid.NullUUID{}}, nil
}

// fiscalDuplicatesCommand is `reconciled fiscal duplicates`: exit 0 when there are none,
// else 1; of those that are resolved, 0.
type fiscalDuplicatesCommand struct {
	fiscalFlags
	Resolved bool   `help:"Those that were: of which all sales but one are voided, with the voids."`
	Export   string `help:"Write all there is about them to this file; or, into a directory, to one file of each format." type:"path" placeholder:"FILE-or-DIR"`
	Format   string `help:"Of what is exported: json has everything, csv a line for each sale." enum:"json,csv," default:""`
}

// fiscalShown bounds what is listed; what is exported is all.
const fiscalShown = 50

// duplicateList is what it shows.
type duplicateList struct {
	Store      uuid.NullUUID             `json:"store_id"` // null: all stores
	Resolved   bool                      `json:"resolved,omitempty"`
	Total      int                       `json:"total"`
	Duplicates []postgres.FiscalEvidence `json:"duplicates"` // at most 50, by number
	Exported   []exported                `json:"exported,omitempty"`
}

// Run lists, and exports.
func (k fiscalDuplicatesCommand) Run(d *deps) error {
	now := time.Now().UTC()
	targets, err := k.targets(now)
	if err != nil {
		return err
	}
	s, err := k.open(d)
	if err != nil {
		return err
	}
	defer s.Close()
	limit := fiscalShown
	if len(targets) > 0 {
		limit = math.MaxInt32
	}
	found, total, err := s.watch.Evidence(d.ctx, s.scope, k.Resolved, limit)
	if err != nil {
		return err
	}
	list := duplicateList{Store: s.store, Resolved: k.Resolved, Total: total, Duplicates: found[:min(len(found), fiscalShown)]}
	if total > 0 && len(targets) > 0 {
		installation, err := s.db.Installation(d.ctx)
		if err != nil {
			return err
		}
		pack := evidencePack{
			Resolved: k.Resolved, Made: now, Version: versionText(), Installation: installation, Stores: s.whose(), duplicates: found,
		}
		for _, t := range targets {
			written, err := pack.write(t)
			if err != nil {
				return err
			}
			list.Exported = append(list.Exported, written)
		}
	}
	if k.Output == "json" {
		err = printJSON(d.stdout, list)
	} else {
		err = printDuplicates(d.stdout, list, s.whose())
	}
	if err == nil && total > 0 && !k.Resolved {
		err = exitError(exitDiffers)
	}
	return err
}

func printDuplicates(out io.Writer, list duplicateList, whose string) error {
	switch {
	case list.Total == 0 && list.Resolved:
		fmt.Fprintf(out, "%s: no fiscal number was used twice and resolved by a void\n", whose)
		return nil
	case list.Total == 0:
		fmt.Fprintf(out, "%s: no fiscal number is used twice; `reconciled fiscal duplicates --resolved` lists those that were\n", whose)
		return nil
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "NUMBER\tSERIES\tSALE\tSTORE\tSOLD AT\tTOTAL BS\tTOTAL USD\tINVOICE\tDEVICE\tVOIDED")
	for _, d := range list.Duplicates {
		for _, sale := range d.Sales {
			m := membersOf(d, sale)
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", d.Number, d.Code, sale, m.first("store", "store_id"),
				cmp.Or(m.first("row.sold_at", "said.sold_at"), "-"), cmp.Or(m.first("row.totals.total_bs", "said.totals.total_bs"), "-"),
				cmp.Or(m.first("row.totals.total_usd", "said.totals.total_usd"), "-"), cmp.Or(m.first("row.invoice_number", "said.invoice_number"), "-"),
				cmp.Or(m.first("devices"), "-"), m.first("voided"))
		}
	}
	if more := list.Total - len(list.Duplicates); more > 0 {
		fmt.Fprintf(w, "… and %d more numbers\n", more)
	}
	if err := w.Flush(); err != nil {
		return fmt.Errorf("print: %w", err)
	}
	if list.Resolved {
		fmt.Fprintf(out, "%s: %d fiscal numbers were used twice, and voids left each at most one sale\n", whose, list.Total)
	} else {
		fmt.Fprintf(out, "%s: %d fiscal numbers are used twice; call legal and accounting: of each all sales but one must be voided by hand, at the POS (runbook 2)\n", whose, list.Total)
	}
	for _, e := range list.Exported {
		fmt.Fprintf(out, "  written: %s\n    SHA-256 of all that follows its first line: %s\n", e.Path, e.SHA256)
	}
	if len(list.Exported) == 0 {
		fmt.Fprintln(out, "  `reconciled fiscal duplicates --export DIR` writes down what they need")
	}
	return nil
}

// fiscalRangesCommand is `reconciled fiscal ranges`: exit 0 when nothing is wrong with
// them, else 1.
type fiscalRangesCommand struct {
	fiscalFlags
	Past bool `help:"Also ranges that are no longer active."`
}

// rangeList is what it shows.
type rangeList struct {
	Store        uuid.NullUUID            `json:"store_id"` // null: all stores
	Ranges       []postgres.FiscalRange   `json:"ranges"`
	Regressed    int                      `json:"regressed"`
	Overlaps     []postgres.FiscalOverlap `json:"overlaps"`
	OutsideTotal int                      `json:"outside_total"`
	Outside      []postgres.FiscalNumber  `json:"outside"` // numbers of no range of their device, at most 50
}

// Run lists them.
func (k fiscalRangesCommand) Run(d *deps) error {
	s, err := k.open(d)
	if err != nil {
		return err
	}
	defer s.Close()
	list := rangeList{Store: s.store}
	if list.Ranges, err = s.watch.Ranges(d.ctx, s.scope, k.Past); err != nil {
		return err
	}
	for _, r := range list.Ranges {
		if r.Regressed {
			list.Regressed++
		}
	}
	if list.Overlaps, err = s.watch.Overlaps(d.ctx, s.scope); err != nil {
		return err
	}
	if list.Outside, list.OutsideTotal, err = s.watch.Outside(d.ctx, s.scope, fiscalShown); err != nil {
		return err
	}
	if k.Output == "json" {
		err = printJSON(d.stdout, list)
	} else {
		err = printRanges(d.stdout, list, s.whose())
	}
	if err == nil && list.Regressed+len(list.Overlaps)+list.OutsideTotal > 0 {
		err = exitError(exitDiffers)
	}
	return err
}

func printRanges(out io.Writer, list rangeList, whose string) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	head := "SERIES\tDEVICE\tSTORE\tRANGE\tUSED UP TO\tHIGHEST SEEN\tLEFT\tSTATUS\tEXPIRES\n"
	for _, r := range list.Ranges {
		fmt.Fprintf(w, "%s%s\t%s\t%s\t%d-%d\t%d\t%d\t%d\t%s\t%s\n", head, r.Code, r.Device, r.Store, r.Start, r.End, r.UsedTo, r.Seen, r.Left, r.Status, r.Expires)
		head = ""
	}
	if err := w.Flush(); err != nil {
		return fmt.Errorf("print: %w", err)
	}
	for _, r := range list.Ranges {
		if r.Regressed {
			where := "by central's memory"
			if r.SeenIn != nil {
				where = "in sale " + r.SeenIn.String()
			}
			fmt.Fprintf(out, "WENT BACK: series %s, device %s: it was used up to %d, but %d was seen, %s: the next numbers are used already\n", r.Code, r.Device, r.UsedTo, r.Seen, where)
		}
	}
	for _, o := range list.Overlaps {
		a, b := o.Ranges[0], o.Ranges[1]
		fmt.Fprintf(out, "OVERLAP: series %s, numbers %d to %d: %d-%d of device %s, store %s, and %d-%d of device %s, store %s\n",
			o.Code, o.From, o.To, a.Start, a.End, a.Device, a.Store, b.Start, b.End, b.Device, b.Store)
	}
	for _, n := range list.Outside {
		for _, sale := range n.Sales {
			fmt.Fprintf(out, "OUTSIDE: series %s, number %s of sale %s, store %s, comes from no range of its device\n", n.Code, n.Number, sale, sale.Store)
		}
	}
	if more := list.OutsideTotal - len(list.Outside); more > 0 {
		fmt.Fprintf(out, "… and %d more outside\n", more)
	}
	fmt.Fprintf(out, "%s: %d ranges, %d went back, %d pairs overlap, %d numbers outside\n", whose, len(list.Ranges), list.Regressed, len(list.Overlaps), list.OutsideTotal)
	if list.Regressed+len(list.Overlaps) > 0 {
		fmt.Fprintln(out, "  stop selling on those devices until the POS has given them other ranges; no range is changed here")
	}
	return nil
}
