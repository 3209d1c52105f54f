package postgres

import (
	"context"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// FiscalRange is a range of numbers that was granted to a device.
type FiscalRange struct {
	RangeOwner
	Series  uuid.UUID `json:"series_id"`
	Code    string    `json:"series"` // its code; where it is not known here, its id
	Status  string    `json:"status"`
	Granted string    `json:"granted_at"`
	Expires string    `json:"expires_at"`
	UsedTo  int64     `json:"used_up_to"`   // as the POS has it
	Seen    int64     `json:"highest_seen"` // of the numbers in it, wherever; 0: none
	SeenIn  *SaleRef  `json:"seen_in"`      // null: nowhere, or in the witness's memory alone
	Left    int64     `json:"left"`         // numbers above both
	// Regressed: it is active, and the POS will give out numbers that were seen.
	Regressed bool `json:"regressed"`
}

// RangeOwner is a range, and who may take numbers from it.
type RangeOwner struct {
	Store  uuid.UUID `json:"store_id"`
	Device string    `json:"device_id"`
	Start  int64     `json:"range_start"`
	End    int64     `json:"range_end"`
}

// FiscalOverlap are the numbers that two active ranges of one series have in common,
// which are different devices'.
type FiscalOverlap struct {
	Code   string        `json:"series"`
	From   int64         `json:"from"`
	To     int64         `json:"to"`
	Ranges [2]RangeOwner `json:"ranges"`
}

// rangesSeen are ranges with the highest number that was seen in each: in a sale, which
// may be voided since its number is used even so; in an event; and in what central, the
// witness, remembers of the store. A range whose series is not known here, for ids
// differ between installations, is looked for in all series of the store, by its device.
var rangesSeen = `
	SELECT r.store_id, r.device_id, r.range_start, r.range_end, r.series_id, coalesce(i.series_code, r.series_id::text),
		coalesce(r.status, ''), coalesce(` + iso("r.granted_at") + `, ''), ` + iso("r.expires_at") + `, coalesce(r.used_up_to, 0),
		coalesce(greatest(seen.value, witness.value), 0), CASE WHEN seen.value >= coalesce(witness.value, 0) THEN seen.sale END
	FROM public.fiscal_sequence_ranges r
	LEFT JOIN public.invoice_series i ON i.id = r.series_id
	LEFT JOIN LATERAL (
		SELECT top.value, top.sale
		FROM (SELECT r.series_id AS id UNION SELECT o.id FROM public.invoice_series o WHERE i.id IS NULL AND o.store_id = r.store_id) AS own
		CROSS JOIN LATERAL (
			SELECT n.value, ` + saleRef + ` AS sale FROM reconciled.fiscal_number n` + claims + `
			WHERE n.series_id = own.id AND n.value BETWEEN r.range_start AND r.range_end AND (@across OR n.store_id = r.store_id)
			  AND (own.id = r.series_id OR ` + isOfDevice + `) AND ` + isSaid + `
			ORDER BY n.value DESC LIMIT 1) AS top
		ORDER BY top.value DESC LIMIT 1) AS seen ON true
	LEFT JOIN LATERAL (
		SELECT max(h.value) AS value FROM reconciled.highest h
		WHERE h.store_id = r.store_id AND h.kind = 'fiscal' AND h.value BETWEEN r.range_start AND r.range_end
		  AND (lower(h.of) = r.series_id::text OR h.of = '' AND r.series_id = ` + defaultSeries("r.store_id") + `)) AS witness ON true
	WHERE r.store_id = ANY(@stores) AND (@past OR r.status = 'active')
	ORDER BY r.store_id, 6, r.range_start, r.device_id`

// Ranges lists active ranges, with past also others, by series and number.
func (f *Fiscal) Ranges(ctx context.Context, scope FiscalScope, past bool) (list []FiscalRange, err error) {
	err = f.read(ctx, func(tx pgx.Tx) (err error) {
		list, err = readRanges(ctx, tx, scope, past)
		return err
	})
	return list, err
}

func readRanges(ctx context.Context, q querier, scope FiscalScope, past bool) ([]FiscalRange, error) {
	args := scope.args()
	args["past"] = past
	rows, err := q.Query(ctx, rangesSeen, args)
	if err != nil {
		return nil, fmt.Errorf("read fiscal ranges: %w", err)
	}
	list, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (r FiscalRange, err error) {
		err = row.Scan(&r.Store, &r.Device, &r.Start, &r.End, &r.Series, &r.Code, &r.Status, &r.Granted, &r.Expires, &r.UsedTo, &r.Seen, &r.SeenIn)
		r.Left = max(0, r.End-max(r.UsedTo, r.Seen, r.Start-1))
		r.Regressed = r.Status == activeRange && r.UsedTo < r.Seen
		return r, err
	})
	if err != nil {
		return nil, fmt.Errorf("read fiscal ranges: %w", err)
	}
	return list, nil
}

// activeRange is the status of a range that numbers are taken from.
const activeRange = "active"

// overlaps are pairs of active ranges. Those of other stores are looked for where they
// use the same series; a pair of two stores belongs to both.
const overlaps = `
	SELECT coalesce(i.series_code, a.series_id::text), greatest(a.range_start, b.range_start), least(a.range_end, b.range_end),
		a.store_id, a.device_id, a.range_start, a.range_end, b.store_id, b.device_id, b.range_start, b.range_end
	FROM public.fiscal_sequence_ranges a
	LEFT JOIN public.invoice_series i ON i.id = a.series_id
	CROSS JOIN LATERAL (SELECT a.store_id AS id
		UNION SELECT unnest(stores) FROM reconciled.fiscal_series WHERE @across AND series_id = a.series_id AND cardinality(stores) > 1) AS store
	JOIN public.fiscal_sequence_ranges b ON b.store_id = store.id AND b.series_id = a.series_id AND b.status = 'active'
		AND a.range_start <= b.range_end AND b.range_start <= a.range_end
		AND (a.store_id, lower(a.device_id)) <> (b.store_id, lower(b.device_id))
		AND (a.id < b.id OR b.store_id <> ALL(@stores))
	WHERE a.status = 'active' AND a.store_id = ANY(@stores)
	ORDER BY 1, 2, 3, a.id, b.id`

// Overlaps lists active ranges of one series that hold the same numbers for different
// devices, by series and number.
func (f *Fiscal) Overlaps(ctx context.Context, scope FiscalScope) (list []FiscalOverlap, err error) {
	err = f.read(ctx, func(tx pgx.Tx) (err error) {
		list, err = readOverlaps(ctx, tx, scope)
		return err
	})
	return list, err
}

func readOverlaps(ctx context.Context, q querier, scope FiscalScope) ([]FiscalOverlap, error) {
	rows, err := q.Query(ctx, overlaps, scope.args())
	if err != nil {
		return nil, fmt.Errorf("find overlapping fiscal ranges: %w", err)
	}
	list, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (o FiscalOverlap, err error) {
		a, b := &o.Ranges[0], &o.Ranges[1]
		return o, row.Scan(&o.Code, &o.From, &o.To, &a.Store, &a.Device, &a.Start, &a.End, &b.Store, &b.Device, &b.Start, &b.End)
	})
	if err != nil {
		return nil, fmt.Errorf("find overlapping fiscal ranges: %w", err)
	}
	return list, nil
}
