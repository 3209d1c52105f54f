package postgres

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/veloxpos/reconciled/internal/health"
	"github.com/veloxpos/reconciled/internal/velox"
)

// measureFiscal counts what is wrong with a store's fiscal numbers, and names it. At
// central that is also what the store has in common with others.
func measureFiscal(ctx context.Context, tx pgx.Tx, store velox.StoreID, into *health.Snapshot) error {
	scope := FiscalScope{Stores: []velox.StoreID{store}, Across: into.Central}
	duplicates, total, err := findNumbers(ctx, tx, sharedNumbers, scope, affectedAtMost)
	if err != nil {
		return err
	}
	into.More.FiscalDuplicateCount = int64(total)
	for _, d := range duplicates {
		into.Details = append(into.Details, health.Affected{Kind: "fiscal_duplicate", ID: d.Code + "/" + d.Number, Text: d.text(store)})
	}
	if err := measureRanges(ctx, tx, store, scope, into); err != nil {
		return err
	}
	outside, total, err := findNumbers(ctx, tx, outsideNumbers, scope, affectedAtMost)
	if err != nil {
		return err
	}
	into.More.FiscalOutOfRangeCount = int64(total)
	for _, n := range outside {
		into.Details = append(into.Details, health.Affected{Kind: "fiscal_out_of_range", ID: n.Code + "/" + n.Number, Text: n.text(store)})
	}
	return nil
}

// text names series and sales: those that are voided aside, and another store's with
// that store.
func (n FiscalNumber) text(store velox.StoreID) string {
	var sales []string
	for _, s := range n.Sales {
		switch {
		case s.Voided:
		case s.Store != store:
			sales = append(sales, fmt.Sprintf("%s@%s", s, s.Store))
		default:
			sales = append(sales, s.String())
		}
	}
	return "series " + n.Code + ", sales " + strings.Join(sales, " ")
}

func measureRanges(ctx context.Context, tx pgx.Tx, store velox.StoreID, scope FiscalScope, into *health.Snapshot) error {
	ranges, err := readRanges(ctx, tx, scope, false)
	if err != nil {
		return err
	}
	for _, r := range ranges {
		if !r.Regressed {
			continue
		}
		if into.More.FiscalRegressionCount++; into.More.FiscalRegressionCount <= affectedAtMost {
			into.Details = append(into.Details, health.Affected{
				Kind: "fiscal_regression", ID: fmt.Sprintf("%s/%s/%d", r.Code, r.Device, r.Start), Text: r.text(),
			})
		}
	}
	overlaps, err := readOverlaps(ctx, tx, scope)
	if err != nil {
		return err
	}
	into.More.FiscalRangeOverlapCount = int64(len(overlaps))
	for _, o := range overlaps[:min(len(overlaps), affectedAtMost)] {
		a, b := o.Ranges[0], o.Ranges[1]
		into.Details = append(into.Details, health.Affected{
			Kind: "fiscal_overlap", ID: fmt.Sprintf("%s/%d-%d/%s/%s", o.Code, o.From, o.To, a.key(store), b.key(store)),
			Text: fmt.Sprintf("series %s, numbers %d to %d are in %s and in %s", o.Code, o.From, o.To, a.text(store), b.text(store)),
		})
	}
	return nil
}

// text says how far the range is used, and how far it was seen to be.
func (r FiscalRange) text() string {
	where := "by central's memory"
	if r.SeenIn != nil {
		where = "in sale " + r.SeenIn.String()
	}
	return fmt.Sprintf("series %s, %s: used up to %d, but %d was seen %s", r.Code, r.RangeOwner.text(r.Store), r.UsedTo, r.Seen, where)
}

// key names the device, and its store where that is another.
func (r RangeOwner) key(store velox.StoreID) string {
	if r.Store == store {
		return r.Device
	}
	return r.Device + "@" + r.Store.String()
}

func (r RangeOwner) text(store velox.StoreID) string {
	text := fmt.Sprintf("%d-%d of device %s", r.Start, r.End, r.Device)
	if r.Store != store {
		text += " of store " + r.Store.String()
	}
	return text
}
