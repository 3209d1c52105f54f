package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/google/uuid"

	"github.com/veloxpos/reconciled/internal/config"
	"github.com/veloxpos/reconciled/internal/postgres"
	"github.com/veloxpos/reconciled/lock"
)

// stockCommand is `reconciled stock`. It holds the cached stock against the movement
// ledger: exit 0 when they agree and nothing is oversold, else 1, also after a repair
// that left something oversold.
type stockCommand struct {
	storeFlags
	Rebuild bool   `help:"Sum all movements anew first, instead of adding what moved since the last time."`
	Repair  bool   `help:"Set the cached stock to what the movements add up to."`
	DryRun  bool   `help:"With --repair: show what would be set, and set nothing."`
	Why     string `help:"Why it is repaired, for the record; needed to repair."`
	By      string `help:"Who decides, for the record; the user that runs this when not given."`
}

// stockShown bounds the list of findings.
const stockShown = 200

// stockList is what it shows.
type stockList struct {
	Store    uuid.UUID               `json:"store_id"`
	Total    int                     `json:"total"`
	Findings []postgres.StockFinding `json:"findings"` // the largest differences, at most 200
	DryRun   bool                    `json:"dry_run,omitempty"`
	By       string                  `json:"repaired_by,omitempty"`
	Repaired []postgres.StockRepair  `json:"repaired,omitempty"`
}

// Run works on the database itself, beside the daemon: at a store or at central.
func (k stockCommand) Run(d *deps) error {
	switch {
	case k.DryRun && !k.Repair:
		return errors.New("--dry-run goes with --repair")
	case k.Repair && !k.DryRun && k.Why == "":
		return errors.New("--why is needed: the reason of a repair goes into the audit; --dry-run shows what it would do")
	}
	s, store, err := k.open(d, config.Local)
	if err != nil {
		return err
	}
	defer s.Close()
	if k.Repair && !k.DryRun {
		if err := s.mayWrite(); err != nil {
			return err
		}
	}
	stock := postgres.NewHealing(s.db)
	result := stockList{Store: store, DryRun: k.DryRun}
	err = s.locked(d.ctx, store, "stock", func(ctx context.Context, grant lock.Grant) error {
		return k.work(ctx, stock, grant, s.config.Heal.Grace, &result)
	})
	if err != nil {
		return err
	}
	if k.Output == "json" {
		err = printJSON(d.stdout, result)
	} else {
		err = printStock(d.stdout, result)
	}
	if err == nil && result.Total > 0 {
		err = exitError(exitDiffers)
	}
	return err
}

func (k stockCommand) work(ctx context.Context, stock *postgres.Healing, grant lock.Grant, grace time.Duration, result *stockList) (err error) {
	if k.Rebuild {
		if err := stock.RebuildStock(ctx, grant.Store); err != nil {
			return err
		}
	}
	if err := stock.DrainStock(ctx, grant); err != nil {
		return err
	}
	if k.Repair && !k.DryRun {
		if result.By, err = whoDecides(k.By); err != nil {
			return err
		}
		if result.Repaired, err = stock.RepairStock(ctx, grant, grace, result.By, k.Why); err != nil {
			return err
		}
		if err := stock.DrainStock(ctx, grant); err != nil {
			return err
		}
	}
	result.Findings, result.Total, err = stock.Stock(ctx, grant.Store, stockShown)
	return err
}

func printStock(out io.Writer, r stockList) error {
	if r.By != "" {
		for _, set := range r.Repaired {
			fmt.Fprintf(out, "product %s, warehouse %s: cache set from %s to %s (ledger %s)\n", set.Product, set.Warehouse, set.Before, set.After, set.Ledger)
		}
		fmt.Fprintf(out, "store %s: %d cached totals set by %s\n", r.Store, len(r.Repaired), r.By)
	}
	if r.Total == 0 {
		fmt.Fprintf(out, "store %s: cached stock is what the movements add up to, nothing is oversold\n", r.Store)
		return nil
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "PRODUCT\tWAREHOUSE\tVARIANT\tLEDGER\tCACHE\tDIFFERENCE\tSINCE")
	diverged, oversold := 0, 0
	var would []string
	for _, f := range r.Findings {
		if f.Diverged {
			diverged++
			would = append(would, fmt.Sprintf("product %s, warehouse %s: cache would be set from %s to %s", f.Product, f.Warehouse.UUID, f.Cache, f.Target))
		}
		if f.Oversold {
			oversold++
		}
		variant := "-"
		if f.Variant.Valid {
			variant = f.Variant.UUID.String()
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", cmp.Or(f.Name, f.Product.String()), cmp.Or(f.WarehouseName, "-"), variant,
			f.Ledger, f.Cache, f.Difference, f.Since.UTC().Format(time.RFC3339))
	}
	if err := w.Flush(); err != nil {
		return fmt.Errorf("print: %w", err)
	}
	if r.DryRun {
		for _, line := range would {
			fmt.Fprintln(out, line)
		}
	}
	if more := r.Total - len(r.Findings); more > 0 {
		fmt.Fprintf(out, "… and %d more\n", more)
	}
	fmt.Fprintf(out, "store %s: %d keys found; of those shown, %d diverge and %d are oversold\n", r.Store, r.Total, diverged, oversold)
	switch {
	case diverged > 0 && r.By != "":
		fmt.Fprintln(out, "  what still diverges changed meanwhile, or the POS backend is in the middle of it: look again in a minute")
	case diverged > 0 && r.DryRun:
		fmt.Fprintf(out, "  `reconciled stock --repair --why TEXT` sets what diverges\n")
	case diverged > 0:
		fmt.Fprintln(out, "  `reconciled stock --repair --dry-run` shows what a repair would set")
	}
	if oversold > 0 {
		fmt.Fprintln(out, "  only a count and a StockAdjusted at the POS mend what is oversold; no movement is made here")
	}
	return nil
}
