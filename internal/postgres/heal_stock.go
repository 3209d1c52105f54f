package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/veloxpos/reconciled/healer"
	"github.com/veloxpos/reconciled/healer/projection"
	"github.com/veloxpos/reconciled/internal/velox"
)

// setStock sets the totals that the heals' movements change to what the ledger
// says: never less than nothing, movements without a warehouse counted in the
// store's default one (events.md 3.3). The rows are locked, and made if need be,
// and only then, by a later statement, is the ledger added up: a backend that
// has moved stock by a delta and not committed is waited for, and one that comes
// after adds its delta to this total.
func (a *application) setStock(ctx context.Context) error {
	keys := map[projection.StockKey]bool{}
	for _, heal := range a.going {
		for _, k := range heal.Changes.Stock {
			keys[k] = true
		}
	}
	if len(keys) == 0 {
		return nil
	}
	var fallback uuid.NullUUID
	err := a.tx.QueryRow(ctx, `SELECT (SELECT id FROM public.warehouses WHERE store_id = $1 AND is_active
		ORDER BY is_default DESC, name, id LIMIT 1)`, a.grant.Store).Scan(&fallback)
	if err != nil {
		return fmt.Errorf("read default warehouse: %w", err)
	}
	var (
		warehouses, products []uuid.UUID
		variants             []uuid.NullUUID
	)
	for k := range keys {
		if !k.Warehouse.Valid {
			k.Warehouse = fallback
		}
		if k.Warehouse.Valid {
			warehouses, products, variants = append(warehouses, k.Warehouse.UUID), append(products, k.Product), append(variants, k.Variant)
		}
	}
	const asked = `(SELECT DISTINCT * FROM unnest($1::uuid[], $2::uuid[], $3::uuid[])) AS k (warehouse, product, variant)`
	const same = `w.warehouse_id = k.warehouse AND w.product_id = k.product AND w.variant_id IS NOT DISTINCT FROM k.variant`
	lock := func() ([]uuid.UUID, error) {
		return a.ids(ctx, "lock stock rows", `SELECT w.id FROM public.warehouse_stock w JOIN `+asked+` ON `+same+`
			ORDER BY w.warehouse_id, w.product_id, w.variant_id FOR UPDATE OF w`, warehouses, products, variants)
	}
	rows, err := lock()
	if err != nil {
		return err
	}
	if len(rows) < len(products) {
		_, err = a.tx.Exec(ctx, `INSERT INTO public.warehouse_stock (warehouse_id, product_id, variant_id)
			SELECT warehouse, product, variant FROM `+asked+`
			WHERE NOT EXISTS (SELECT FROM public.warehouse_stock w WHERE `+same+`) ORDER BY 1, 2, 3
			ON CONFLICT DO NOTHING`, warehouses, products, variants)
		if err != nil {
			return fmt.Errorf("make stock rows: %w", err)
		}
		if rows, err = lock(); err != nil {
			return err
		}
	}
	followed, err := stockFollowed(ctx, a.tx, a.grant.Store)
	if err != nil {
		return err
	}
	set := setFromMovements
	if followed {
		set = setFromSums
		if err := a.sumAnew(ctx); err != nil {
			return err
		}
	}
	if _, err := a.tx.Exec(ctx, set, pgx.QueryExecModeCacheDescribe, a.grant.Store, rows, fallback); err != nil {
		return fmt.Errorf("set stock: %w", err)
	}
	return stockInHand(ctx, a.tx, a.grant.Store, products, a.outbox, a.grace)
}

// stockInHand fails with healer.ErrBusy while the backend is half-way through a stock
// event of one of the products: it writes the movement and the total in transactions of
// their own (D32), and would add to a total that has the movement in it already. It is
// asked after the total was set, so that it sees every movement that was counted. A quota
// changes the total first, and leaves nothing to see before. What is older than the grace
// died half-way, or nobody is at work. Entries that are held by this transaction are not
// the backend's.
func stockInHand(ctx context.Context, tx pgx.Tx, store velox.StoreID, products, held []uuid.UUID, grace time.Duration) error {
	var busy bool
	err := tx.QueryRow(ctx, `SELECT EXISTS (
		SELECT FROM public.outbox_entries o JOIN public.events e ON e.event_id = reconciled.try_uuid(o.event_id)
		LEFT JOIN reconciled.said s ON s.event_id = e.event_id
		WHERE o.store_id = $1 AND o.target = 'projection' AND o.status = 'pending' AND o.created_at > now() - $4::interval
		  AND o.id <> ALL(coalesce($3::uuid[], '{}')) AND CASE
			WHEN o.event_type IN ('StockReceived', 'StockAdjusted', 'StockDeltaApplied') THEN EXISTS (SELECT FROM public.inventory_movements m
				WHERE m.id = reconciled.try_uuid(`+saidInSQL+` ->> 'movement_id') AND m.product_id = ANY($2))
			WHEN o.event_type IN ('StockQuotaGranted', 'StockQuotaReclaimed') THEN reconciled.try_uuid(`+saidInSQL+` ->> 'product_id') = ANY($2)
			END)`, store, products, held, grace).Scan(&busy)
	if err != nil {
		return fmt.Errorf("look for stock events under way: %w", err)
	}
	if busy {
		return fmt.Errorf("the backend is projecting a stock event of the same product: %w", healer.ErrBusy)
	}
	return nil
}

// sumAnew adds the movements up anew of products that a heal moves whose event may have
// been projected before. What is missing or changed of it then may have gone past the
// triggers, with a restore or a lost disk: the sums still hold it, and would hold it
// twice. Not so of an event that came since the sums were begun and that nobody has
// projected; those of the online API stay pending whatever was written.
func (a *application) sumAnew(ctx context.Context) error {
	products := map[uuid.UUID][]uuid.UUID{}
	var events []uuid.UUID
	for _, heal := range a.going {
		for _, k := range heal.Changes.Stock {
			products[heal.Event.ID] = append(products[heal.Event.ID], k.Product)
		}
		if len(heal.Changes.Stock) > 0 {
			events = append(events, heal.Event.ID)
		}
	}
	before, err := a.ids(ctx, "look which events were projected before", `
		SELECT event_id FROM public.events WHERE event_id = ANY($2) AND NOT (
			projection_status IN ('pending', 'failed') AND device_id <> '00000000-0000-0000-0000-000000000001'
			AND received_at > (SELECT built_at FROM reconciled.stock_baseline WHERE store_id = $1))
		UNION SELECT event_id FROM reconciled.heal_log WHERE store_id = $1 AND event_id = ANY($2) AND strategy = 'native'`, a.grant.Store, events)
	if err != nil || len(before) == 0 {
		return err
	}
	var suspect []uuid.UUID
	for _, event := range before {
		suspect = append(suspect, products[event]...)
	}
	// The baseline's row is the lock of the sums.
	if _, err := a.tx.Exec(ctx, `SELECT FROM reconciled.stock_baseline WHERE store_id = $1 FOR UPDATE`, a.grant.Store); err != nil {
		return fmt.Errorf("lock baseline: %w", err)
	}
	_, err = a.tx.Exec(ctx, `
		WITH counted AS (
			DELETE FROM reconciled.stock_change WHERE store_id = $1 AND product_id = ANY($2)),
		summed AS (
			SELECT product_id, coalesce(variant_id, `+nobody+`) AS variant_id, coalesce(warehouse_id, `+nobody+`) AS warehouse_id,
				sum(reconciled.ledger_effect(movement_type, from_escrow, qty_delta)) AS moved
			FROM public.inventory_movements WHERE store_id = $1 AND product_id = ANY($2) GROUP BY 1, 2, 3),
		gone AS (
			UPDATE reconciled.stock s SET moved = 0, stale = true WHERE s.store_id = $1 AND s.product_id = ANY($2)
				AND NOT EXISTS (SELECT FROM summed n WHERE n.product_id = s.product_id AND n.variant_id = s.variant_id AND n.warehouse_id = s.warehouse_id))
		INSERT INTO reconciled.stock AS s (store_id, product_id, variant_id, warehouse_id, moved)
		SELECT $1::uuid, product_id, variant_id, warehouse_id, moved FROM summed
		ON CONFLICT (store_id, product_id, variant_id, warehouse_id) DO UPDATE SET moved = excluded.moved, stale = true`,
		pgx.QueryExecModeCacheDescribe, a.grant.Store, suspect)
	if err != nil {
		return fmt.Errorf("sum movements of products anew: %w", err)
	}
	return nil
}

// stockFollowed says whether reconciled.stock and the log of changes, in one snapshot,
// are what the movements add up to. Asked by a transaction that has written movements
// it stays so until its end: the triggers cannot be changed, nor the table truncated,
// beside its lock.
func stockFollowed(ctx context.Context, tx pgx.Tx, store velox.StoreID) (bool, error) {
	look, wrong, err := lookAtTriggers(ctx, tx, stockTriggers)
	if err != nil || wrong != "" {
		return false, err
	}
	var followed bool
	err = tx.QueryRow(ctx, `SELECT fingerprint = $2 AND NOT EXISTS (SELECT FROM reconciled.stock_change WHERE store_id = $1 AND product_id IS NULL)
		FROM reconciled.stock_baseline WHERE store_id = $1`, store, look).Scan(&followed)
	if err != nil && !errors.Is(err, pgx.ErrNoRows) {
		return false, fmt.Errorf("read baseline: %w", err)
	}
	return followed, nil
}

// Two ways to the total of rows ($2), for a store ($1) with a default warehouse ($3).
const (
	// setFromSums takes what was added up before and adds what is still in the log: the
	// cost does not grow with history.
	setFromSums = `
		WITH pending AS MATERIALIZED (
			SELECT product_id, variant_id, coalesce(warehouse_id, $3) AS warehouse_id, sum(delta) AS delta
			FROM reconciled.stock_change WHERE store_id = $1 GROUP BY 1, 2, 3)
		UPDATE public.warehouse_stock w SET updated_at = now(), stock = greatest(0, coalesce(p.delta, 0) + coalesce((
			SELECT sum(s.moved) FROM reconciled.stock s
			WHERE s.store_id = $1 AND s.product_id = w.product_id AND s.variant_id = coalesce(w.variant_id, ` + nobody + `)
			  AND (s.warehouse_id = w.warehouse_id OR s.warehouse_id = ` + nobody + ` AND w.warehouse_id = $3)), 0))
		FROM public.warehouse_stock mine LEFT JOIN pending p ON p.warehouse_id = mine.warehouse_id
			AND p.product_id = mine.product_id AND p.variant_id IS NOT DISTINCT FROM mine.variant_id
		WHERE mine.id = ANY($2) AND w.id = mine.id`
	setFromMovements = `
		UPDATE public.warehouse_stock w SET updated_at = now(), stock = greatest(0, coalesce((
			SELECT sum(reconciled.ledger_effect(m.movement_type, m.from_escrow, m.qty_delta)) FROM public.inventory_movements m
			WHERE m.store_id = $1 AND m.product_id = w.product_id AND m.variant_id IS NOT DISTINCT FROM w.variant_id
			  AND (m.warehouse_id = w.warehouse_id OR m.warehouse_id IS NULL AND w.warehouse_id = $3)), 0))
		WHERE w.id = ANY($2)`
)
