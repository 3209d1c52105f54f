package postgres

import (
	"context"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// FiscalScope is whose numbers are looked at. Whether stores may be told of each other
// is the caller's to know: only central's own people may.
type FiscalScope struct {
	Stores []uuid.UUID
	Across bool // with what other stores did in the same series
}

func (s FiscalScope) args() pgx.NamedArgs {
	return pgx.NamedArgs{"stores": s.Stores, "across": s.Across}
}

// read reads at one moment.
func (f *Fiscal) read(ctx context.Context, do func(tx pgx.Tx) error) error {
	return pgx.BeginTxFunc(ctx, f.log.db.Pool, snapshot, do)
}

// FiscalNumber is a fiscal number of one series, and the sales that have it.
type FiscalNumber struct {
	Series uuid.UUID    `json:"series_id"` // the store's own id where there is none
	Code   string       `json:"series"`    // its code; where it is not known here, its id
	Number string       `json:"number"`    // as numbers are spelled to be compared
	Sales  []FiscalSale `json:"sales"`
}

// SaleRef names a sale.
type SaleRef struct {
	Store uuid.UUID     `json:"store_id"`
	Sale  uuid.NullUUID `json:"sale_id"`  // null: its event's is malformed
	Event uuid.NullUUID `json:"event_id"` // its SaleCreated, where that says the number
}

// String is the sale's id, in a word.
func (r SaleRef) String() string {
	if r.Sale.Valid {
		return r.Sale.UUID.String()
	}
	return "event:" + r.Event.UUID.String()
}

// FiscalSale is a sale that has a fiscal number, by its row or by an event.
type FiscalSale struct {
	SaleRef
	Voided bool `json:"voided"` // by its row or by a SaleVoided
}

// claims join a line n of reconciled.fiscal_number to the row and the event that it was
// seen in. Lines that are looked at are few: OFFSET 0 keeps the plan to the indexes.
const claims = `
	LEFT JOIN LATERAL (SELECT s.* FROM public.sales s WHERE s.id = n.sale_id AND s.store_id = n.store_id OFFSET 0) s ON true
	LEFT JOIN LATERAL (SELECT e.*, coalesce(r.said, nullif(e.delta_payload, '{}'), e.payload) AS said
		FROM public.events e LEFT JOIN reconciled.said r ON r.event_id = e.event_id
		WHERE e.event_id = n.event_id AND e.store_id = n.store_id AND e.type = 'SaleCreated' OFFSET 0) e ON true
	LEFT JOIN public.invoice_series k ON k.id = reconciled.try_uuid(e.said ->> 'invoice_series_id')`

const (
	// isSaid: the row or the event says the number now, and no other series that is
	// known here.
	isSaid = `(n.number IN (reconciled.fiscal_normal(s.fiscal_number), reconciled.fiscal_said(e.said))
		AND n.series_id = coalesce(s.invoice_series_id, k.id, n.series_id))`
	// isVoided: the row says so, or a SaleVoided in the log; nothing else voids a sale.
	isVoided = `(s.voided_at IS NOT NULL OR EXISTS (SELECT FROM public.events v WHERE v.store_id = n.store_id AND v.type = 'SaleVoided'
		AND (v.payload @> jsonb_build_object('sale_id', n.sale_id)
			OR v.payload @> jsonb_build_object('sale_id', coalesce(nullif(e.said ->> 'sale_id', ''), n.sale_id::text)))))`
	// saleRef is the sale as a SaleRef.
	saleRef = `jsonb_build_object('store_id', n.store_id, 'event_id', n.event_id,
		'sale_id', CASE WHEN s.id IS NOT NULL OR reconciled.try_uuid(e.said ->> 'sale_id') IS NOT NULL THEN n.sale_id END)`
)

// claimedTwice are numbers that more than one sale has; of which, its HAVING says.
const claimedTwice = `
	SELECT claim.series_id, claim.number, jsonb_agg(claim.sale || jsonb_build_object('voided', claim.voided) ORDER BY claim.store_id, claim.sale_id) AS sales
	FROM (
		SELECT n.*, ` + isVoided + ` AS voided, ` + saleRef + ` AS sale
		FROM (SELECT DISTINCT series_id, value, number FROM reconciled.fiscal_number
			WHERE shared AND store_id = ANY(@stores)) AS key
		JOIN reconciled.fiscal_number n USING (series_id, value, number)` + claims + `
		WHERE (@across OR n.store_id = ANY(@stores)) AND ` + isSaid + ` OFFSET 0) AS claim
	GROUP BY 1, 2
	HAVING `

const (
	// sharedNumbers are numbers that more than one sale has, voided ones aside.
	sharedNumbers = claimedTwice + `count(DISTINCT claim.sale_id) FILTER (WHERE NOT claim.voided) > 1
		AND bool_or(claim.store_id = ANY(@stores) AND NOT claim.voided)`
	// resolvedNumbers are those of which voids left one sale, or none.
	resolvedNumbers = claimedTwice + `count(DISTINCT claim.sale_id) > 1
		AND count(DISTINCT claim.sale_id) FILTER (WHERE NOT claim.voided) <= 1 AND bool_or(claim.store_id = ANY(@stores))`
)

// outsideNumbers are numbers of sales, voided ones aside, that come from no range which
// their device ever had.
var outsideNumbers = `
	SELECT n.series_id, n.number, jsonb_agg(` + saleRef + ` ORDER BY n.store_id, n.sale_id) AS sales
	FROM reconciled.fiscal_number n` + claims + `
	WHERE n.outside AND n.store_id = ANY(@stores)
	  AND ` + isSaid + ` AND reconciled.fiscal_said(e.said) = n.number
	  AND ` + isOutside("n.store_id", "n.series_id", "n.value", `(SELECT min(coalesce(r.granted_at, '-infinity'))
		FROM public.fiscal_sequence_ranges r WHERE r.store_id = n.store_id AND r.series_id = n.series_id)`) + ` AND NOT ` + isVoided + `
	GROUP BY 1, 2`

// Duplicates lists numbers that more than one sale has which is not voided, at most
// limit, and counts all. Sales that are voided are listed beside.
func (f *Fiscal) Duplicates(ctx context.Context, scope FiscalScope, limit int) (list []FiscalNumber, total int, err error) {
	err = f.read(ctx, func(tx pgx.Tx) (err error) {
		list, total, err = findNumbers(ctx, tx, sharedNumbers, scope, limit)
		return err
	})
	return list, total, err
}

// Outside lists numbers that come from no range which their device ever had, at most
// limit, and counts all.
func (f *Fiscal) Outside(ctx context.Context, scope FiscalScope, limit int) (list []FiscalNumber, total int, err error) {
	err = f.read(ctx, func(tx pgx.Tx) (err error) {
		list, total, err = findNumbers(ctx, tx, outsideNumbers, scope, limit)
		return err
	})
	return list, total, err
}

func findNumbers(ctx context.Context, q querier, numbers string, scope FiscalScope, limit int) (list []FiscalNumber, total int, err error) {
	args := scope.args()
	args["limit"] = limit
	rows, err := q.Query(ctx, `
		SELECT found.series_id, coalesce(i.series_code, found.series_id::text), found.number, found.sales, count(*) OVER ()
		FROM (`+numbers+`) AS found LEFT JOIN public.invoice_series i ON i.id = found.series_id
		ORDER BY found.number, found.series_id LIMIT @limit`, args)
	if err != nil {
		return nil, 0, fmt.Errorf("find fiscal numbers: %w", err)
	}
	list, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (n FiscalNumber, err error) {
		return n, row.Scan(&n.Series, &n.Code, &n.Number, &n.Sales, &total)
	})
	if err != nil {
		return nil, 0, fmt.Errorf("find fiscal numbers: %w", err)
	}
	return list, total, nil
}
