package postgres

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/veloxpos/reconciled/internal/velox"
	"github.com/veloxpos/reconciled/merkle"
)

// Fiscal watches the fiscal numbers of every store in a database: which of them more
// than one sale has, and whether the ranges they are taken from can be right. It makes,
// changes and voids none. Safe for concurrent use.
type Fiscal struct{ log *Log }

// NewFiscal watches the numbers in a log's database.
func NewFiscal(log *Log) *Fiscal { return &Fiscal{log: log} }

// Follow takes in the numbers that came up since it was last called, in the log and in
// the sales, so that what is found next is of now. It needs no lock: all it writes is
// derived, under a lock of its own (docs/decisions/0005).
func (f *Fiscal) Follow(ctx context.Context, store velox.StoreID) error {
	// While the log is not captured that is evidence; the sales are followed even so.
	if _, err := f.log.Pin(ctx, store); err != nil && !errors.Is(err, ErrCapture) {
		return err
	}
	return followFiscal(ctx, f.log.db, store)
}

// fiscalConsumer is the watch's name on the lists that a drain hands slots to.
const fiscalConsumer = "fiscal"

// How much one transaction takes in.
const (
	fiscalSlots = 256
	fiscalSales = 20_000
)

func followFiscal(ctx context.Context, db *DB, store velox.StoreID) error {
	for more, looked := true, false; more; {
		var waiting, unknown bool
		err := db.transact(ctx, func(ctx context.Context, tx pgx.Tx) error {
			unknown = false
			before, err := lockFiscal(ctx, tx, store)
			if err != nil {
				return err
			}
			if waiting, err = takeFiscal(ctx, tx, store); err != nil || waiting || looked {
				return err
			}
			unknown, err = lookAtSales(ctx, tx, store, before) // now that events have told of most
			return err
		})
		if err != nil {
			return fmt.Errorf("follow fiscal numbers: %w", err)
		}
		more, looked = waiting || unknown, looked || !waiting
	}
	return nil
}

// lockFiscal locks the store's lines, and returns how the trigger was when its sales were
// last looked at. To a store without a baseline its whole log is new.
func lockFiscal(ctx context.Context, tx pgx.Tx, store velox.StoreID) (fingerprint string, err error) {
	err = tx.QueryRow(ctx, `SELECT fingerprint FROM reconciled.fiscal_baseline WHERE store_id = $1 FOR UPDATE`, store).Scan(&fingerprint)
	if !errors.Is(err, pgx.ErrNoRows) {
		if err != nil {
			return "", fmt.Errorf("lock baseline: %w", err)
		}
		return fingerprint, nil
	}
	tag, err := tx.Exec(ctx, `INSERT INTO reconciled.fiscal_baseline (store_id, fingerprint) VALUES ($1, '') ON CONFLICT DO NOTHING`, store)
	if err == nil && tag.RowsAffected() == 0 {
		return "", errRunAgain // another was faster
	}
	if err == nil {
		_, err = tx.Exec(ctx, `INSERT INTO reconciled.worklist (consumer, store_id, slot)
			SELECT $1, store_id, slot FROM reconciled.leaf WHERE store_id = $2 ON CONFLICT DO NOTHING`, fiscalConsumer, store)
	}
	if err != nil {
		return "", fmt.Errorf("make baseline: %w", err)
	}
	return "", nil
}

// fiscalTriggers log which sales have come to say a number.
var fiscalTriggers = []watch{{"sales", "reconciled_fiscal", "fiscal_changed"}}

// lookAtSales logs the sales whose numbers are not known, where any may have gone past
// the log: once after the trigger was made anew, and each time while it is not as it
// must be.
func lookAtSales(ctx context.Context, tx pgx.Tx, store velox.StoreID, before string) (unknown bool, err error) {
	now, wrong, err := lookAtTriggers(ctx, tx, fiscalTriggers)
	if err != nil || wrong == "" && now == before {
		return false, err
	}
	if wrong != "" {
		now = broken + wrong
		err = blameTriggers(ctx, tx, store, now, "the trigger on sales is missing, disabled or another: "+wrong+
			"; as reconciled_migrator, SELECT reconciled.watch_fiscal_numbers() makes it anew")
		if err != nil {
			return false, err
		}
	}
	tag, err := tx.Exec(ctx, logUnknown, store)
	if err != nil {
		return false, fmt.Errorf("look for unknown sales: %w", err)
	}
	_, err = tx.Exec(ctx, `UPDATE reconciled.fiscal_baseline SET fingerprint = $2 WHERE store_id = $1`, store, now)
	if err != nil {
		return false, fmt.Errorf("keep fingerprint of triggers: %w", err)
	}
	return tag.RowsAffected() > 0, nil
}

// logUnknown logs the sales whose row says a number that is not among the lines.
const logUnknown = `
	INSERT INTO reconciled.fiscal_change (store_id, sale_id)
	SELECT s.store_id, s.id FROM public.sales s
	WHERE s.store_id = $1 AND s.fiscal_number IS NOT NULL AND NOT EXISTS (
		SELECT FROM reconciled.fiscal_number n WHERE n.store_id = $1 AND n.sale_id = s.id
			AND n.number = reconciled.fiscal_normal(s.fiscal_number) AND n.series_id = coalesce(s.invoice_series_id, n.series_id))`

// forgetFiscal makes the next look hold all sales against the lines.
func forgetFiscal(ctx context.Context, tx pgx.Tx, store velox.StoreID) error {
	_, err := tx.Exec(ctx, `UPDATE reconciled.fiscal_baseline SET fingerprint = '' WHERE store_id = $1`, store)
	if err != nil {
		return fmt.Errorf("forget followed sales: %w", err)
	}
	return nil
}

// takeFiscal takes in some of the changed slots and sales, and marks the numbers that
// two sales have. Both are taken off their lists first and read by a later statement:
// whoever changes one after that puts it on the list again. Events go before rows, which
// add nothing to what their event said.
func takeFiscal(ctx context.Context, tx pgx.Tx, store velox.StoreID) (more bool, err error) {
	slots, err := taken[int64](ctx, tx, `
		DELETE FROM reconciled.worklist WHERE consumer = $2 AND store_id = $1 AND slot = ANY(ARRAY(
			SELECT slot FROM reconciled.worklist WHERE consumer = $2 AND store_id = $1 ORDER BY slot LIMIT $3 FOR UPDATE)) RETURNING slot`,
		store, fiscalConsumer, fiscalSlots)
	if err != nil {
		return false, fmt.Errorf("take changed slots: %w", err)
	}
	sales, err := taken[uuid.UUID](ctx, tx, `
		DELETE FROM reconciled.fiscal_change WHERE ctid = ANY(ARRAY(SELECT ctid FROM reconciled.fiscal_change WHERE store_id = $1 LIMIT $2))
		RETURNING sale_id`, store, fiscalSales)
	if err != nil {
		return false, fmt.Errorf("take changed sales: %w", err)
	}
	var added fiscalKeys
	if len(slots) > 0 {
		slices.Sort(slots)
		var first, last []pgtype.Timestamptz
		for _, run := range adjacent(slots) {
			span := merkle.Area{First: run.first, Last: run.last}.Span()
			first, last = append(first, notBefore(span.From.At)), append(last, notAfter(span.To.At))
		}
		if err := added.read(ctx, tx, addSaid, store, first, last); err != nil {
			return false, fmt.Errorf("add numbers of events: %w", err)
		}
	}
	if len(sales) > 0 {
		if err := added.read(ctx, tx, addRows, store, sales); err != nil {
			return false, fmt.Errorf("add numbers of sales: %w", err)
		}
	}
	if err := added.compare(ctx, tx, store); err != nil {
		return false, err
	}
	return len(slots) == fiscalSlots || len(sales) == fiscalSales, nil
}

func taken[T any](ctx context.Context, tx pgx.Tx, sql string, args ...any) ([]T, error) {
	rows, err := tx.Query(ctx, sql, args...)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[T])
}

// defaultSeries is the one that the POS gives a store's sale which says none.
func defaultSeries(store string) string {
	return `(SELECT d.id FROM public.invoice_series d WHERE d.store_id = ` + store + ` AND d.is_active ORDER BY d.created_at, d.id LIMIT 1)`
}

// addSaid adds what the SaleCreated events of some stretches of time say. A sale's
// series is its row's, else the event's. One that is not known here, for ids differ
// between installations, is that of the device's range which holds the number, where
// that is one. A series that had to be assumed stays what it was assumed to be first.
var addSaid = `
	INSERT INTO reconciled.fiscal_number AS n (store_id, sale_id, number, value, series_id, event_id, outside)
	SELECT DISTINCT ON (c.sale_id, c.number) $1::uuid, c.sale_id, c.number, c.value, of.series_id, e.event_id,
		` + isOutside("$1", "of.series_id", "c.value", "granted.since") + `
	FROM unnest($2::timestamptz[], $3::timestamptz[]) AS stretch (since, until)
	CROSS JOIN LATERAL (SELECT * FROM public.events e
		WHERE e.store_id = $1 AND e.type = 'SaleCreated' AND e.created_at >= stretch.since AND e.created_at <= stretch.until OFFSET 0) e
	LEFT JOIN reconciled.said r ON r.event_id = e.event_id
	CROSS JOIN LATERAL (SELECT coalesce(r.said, nullif(e.delta_payload, '{}'), e.payload) AS said OFFSET 0) x
	CROSS JOIN LATERAL (SELECT reconciled.fiscal_said(x.said) AS number OFFSET 0) said
	CROSS JOIN LATERAL (SELECT said.number, reconciled.fiscal_value(said.number) AS value,
		coalesce(reconciled.any_uuid(nullif(x.said ->> 'sale_id', '')), e.event_id) AS sale_id,
		reconciled.any_uuid(nullif(x.said ->> 'invoice_series_id', '')) AS series_id OFFSET 0) c
	LEFT JOIN public.sales s ON s.id = c.sale_id AND s.store_id = $1
	LEFT JOIN public.invoice_series k ON k.id = c.series_id
	LEFT JOIN ` + knownLine("c.sale_id") + ` ON true
	LEFT JOIN LATERAL (SELECT min(r.series_id::text)::uuid AS id FROM public.fiscal_sequence_ranges r
		WHERE k.id IS NULL AND c.series_id IS NOT NULL AND r.store_id = $1 AND ` + isOfDevice + ` AND c.value BETWEEN r.range_start AND r.range_end
		HAVING count(DISTINCT r.series_id) = 1) g ON true
	CROSS JOIN LATERAL (SELECT coalesce(s.invoice_series_id, k.id, g.id, l.series_id, c.series_id, ` + defaultSeries("$1") + `, $1) AS series_id) of
	LEFT JOIN ` + firstGrants + ` ON granted.series_id = of.series_id
	WHERE c.number IS NOT NULL
	ORDER BY c.sale_id, c.number, e.created_at, e.event_id
	ON CONFLICT (store_id, sale_id, number) DO UPDATE SET series_id = excluded.series_id,
		event_id = coalesce(n.event_id, excluded.event_id), outside = n.outside OR excluded.outside
	WHERE n.series_id <> excluded.series_id OR n.event_id IS NULL
	RETURNING series_id, value, number`

// addRows adds what the rows of some sales say.
var addRows = `
	INSERT INTO reconciled.fiscal_number AS n (store_id, sale_id, number, value, series_id, outside)
	SELECT $1::uuid, s.id, c.number, reconciled.fiscal_value(c.number), of.series_id, ` + isOutside("$1", "of.series_id", "l.value", "granted.since") + `
	FROM public.sales s
	CROSS JOIN LATERAL (SELECT reconciled.fiscal_normal(s.fiscal_number) AS number OFFSET 0) c
	LEFT JOIN ` + knownLine("s.id") + ` ON true
	LEFT JOIN LATERAL (SELECT e.event_id, e.device_id, e.created_at FROM public.events e WHERE e.event_id = l.event_id OFFSET 0) e ON true
	CROSS JOIN LATERAL (SELECT coalesce(s.invoice_series_id, l.series_id, ` + defaultSeries("$1") + `, $1) AS series_id) of
	LEFT JOIN ` + firstGrants + ` ON granted.series_id = of.series_id
	WHERE s.store_id = $1 AND s.id = ANY($2) AND c.number IS NOT NULL
	ON CONFLICT (store_id, sale_id, number) DO UPDATE SET series_id = excluded.series_id, outside = n.outside OR excluded.outside
	WHERE n.series_id <> excluded.series_id
	RETURNING series_id, value, number`

// knownLine is the line that is known of a sale and number c. The OFFSET 0 keeps the plan
// to the index, whatever the statistics of a table say that was empty a moment ago.
func knownLine(sale string) string {
	return `LATERAL (SELECT l.* FROM reconciled.fiscal_number l WHERE l.store_id = $1 AND l.sale_id = ` + sale + ` AND l.number = c.number OFFSET 0) l`
}

// isOfDevice: a range r was granted to the device of event e. So it is found by index.
const isOfDevice = `r.device_id IN (e.device_id::text, upper(e.device_id::text))`

// firstGrants say since when each series of the store is dealt out in ranges.
const firstGrants = `(SELECT series_id, min(coalesce(granted_at, '-infinity')) AS since
	FROM public.fiscal_sequence_ranges WHERE store_id = $1 GROUP BY series_id) AS granted`

// isOutside: the number of event e was taken from a series that is dealt out in ranges
// since some time, but from none that its device was ever granted. Sales of before that
// time are not judged, nor is the online API, which needs no range; and a range counts
// for any series when its own is not known here.
func isOutside(store, series, value, since string) string {
	in := func(of string) string {
		return `EXISTS (SELECT FROM public.fiscal_sequence_ranges r WHERE r.store_id = ` + store + ` AND ` + isOfDevice + `
			AND ` + value + ` BETWEEN r.range_start AND r.range_end AND ` + of + `)`
	}
	return `CASE WHEN e.device_id <> '00000000-0000-0000-0000-000000000001' AND ` + value + ` > 0 AND ` + since + ` <= e.created_at
		THEN NOT ` + in(`r.series_id = `+series) + `
			AND NOT ` + in(`NOT EXISTS (SELECT FROM public.invoice_series i WHERE i.id = r.series_id)`) + ` ELSE false END`
}

// fiscalKeys are series and numbers that were added.
type fiscalKeys struct {
	series  []uuid.UUID
	values  []int64
	numbers []string
}

func (k *fiscalKeys) read(ctx context.Context, tx pgx.Tx, sql string, args ...any) error {
	// Planned anew each time: by a plan made for a few rows a bulk of them is quadratic.
	rows, err := tx.Query(ctx, sql, append([]any{pgx.QueryExecModeCacheDescribe}, args...)...)
	if err != nil {
		return err
	}
	var series uuid.UUID
	var value int64
	var number string
	_, err = pgx.ForEachRow(rows, []any{&series, &value, &number}, func() error {
		k.series, k.values, k.numbers = append(k.series, series), append(k.values, value), append(k.numbers, number)
		return nil
	})
	return err
}

// compare marks the lines whose number another sale has, in any store. It first takes
// the rows of their series, which it holds until it commits: of two stores that add one
// number at the same time the second sees what the first has added.
func (k *fiscalKeys) compare(ctx context.Context, tx pgx.Tx, store velox.StoreID) error {
	_, err := tx.Exec(ctx, `
		INSERT INTO reconciled.fiscal_series AS f (series_id, stores)
		SELECT id, ARRAY[$1::uuid] FROM (
			SELECT unnest($2::uuid[])
			UNION SELECT r.series_id FROM public.fiscal_sequence_ranges r WHERE r.store_id = $1 AND r.status = 'active'
				AND NOT EXISTS (SELECT FROM reconciled.fiscal_series f WHERE f.series_id = r.series_id AND $1 = ANY(f.stores))) AS used (id)
		ORDER BY id
		ON CONFLICT (series_id) DO UPDATE SET stores = f.stores || excluded.stores WHERE NOT f.stores @> excluded.stores`, store, k.series)
	if err != nil {
		return fmt.Errorf("note series: %w", err)
	}
	if len(k.numbers) == 0 {
		return nil
	}
	_, err = tx.Exec(ctx, `
		UPDATE reconciled.fiscal_number n SET shared = true
		FROM unnest($1::uuid[], $2::bigint[], $3::text[]) AS added (series_id, value, number)
		WHERE n.series_id = added.series_id AND n.value = added.value AND n.number = added.number AND NOT n.shared
		  AND EXISTS (SELECT FROM reconciled.fiscal_number o
			WHERE o.series_id = n.series_id AND o.value = n.value AND o.number = n.number AND o.sale_id <> n.sale_id)`,
		pgx.QueryExecModeCacheDescribe, k.series, k.values, k.numbers)
	if err != nil {
		return fmt.Errorf("mark shared numbers: %w", err)
	}
	return nil
}
