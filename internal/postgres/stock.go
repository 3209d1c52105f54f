package postgres

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/veloxpos/reconciled/internal/velox"
	"github.com/veloxpos/reconciled/lock"
)

// ErrStockUnknown: what the movements add up to is not kept, for a trigger that logs
// them is missing or disabled.
var ErrStockUnknown = errors.New("stock is not followed")

// StockFinding is a key whose cache in warehouse_stock is not what its movements add
// up to, or whose movements add up to less than nothing. Quantities are decimals.
type StockFinding struct {
	Product       uuid.UUID     `json:"product_id"`
	Name          string        `json:"product"` // "" when the product is gone
	Warehouse     uuid.NullUUID `json:"warehouse_id"`
	WarehouseName string        `json:"warehouse"` // "" when there is none
	Variant       uuid.NullUUID `json:"variant_id"`
	Ledger        string        `json:"ledger"`
	Cache         string        `json:"cache"`
	Target        string        `json:"target"`     // of the cache: the ledger, or 0 where that is below 0
	Difference    string        `json:"difference"` // of the cache from its target
	Diverged      bool          `json:"diverged"`
	Oversold      bool          `json:"oversold"`
	Since         time.Time     `json:"since"`
}

// isFound are rows of reconciled.stock that are findings.
const isFound = `(diverged_since IS NOT NULL OR oversold_since IS NOT NULL)`

// Stock lists a store's findings as of the last drain, the largest differences first,
// and counts all of them. It fails with ErrStockUnknown when stock is not followed.
func (h *Healing) Stock(ctx context.Context, store velox.StoreID, limit int) (list []StockFinding, total int, err error) {
	var followed bool
	err = h.db.Pool.QueryRow(ctx, `SELECT EXISTS (SELECT FROM reconciled.stock_baseline WHERE store_id = $1)`, store).Scan(&followed)
	if err != nil {
		return nil, 0, fmt.Errorf("read stock: %w", err)
	}
	if !followed {
		return nil, 0, fmt.Errorf("store %s: %w; `reconciled event evidence` names the triggers", store, ErrStockUnknown)
	}
	rows, err := h.db.Pool.Query(ctx, `
		SELECT s.product_id, coalesce(p.name, ''), nullif(s.warehouse_id, `+nobody+`), coalesce(w.name, ''), nullif(s.variant_id, `+nobody+`),
		       trim_scale(s.ledger)::text, trim_scale(s.cache)::text, trim_scale(greatest(s.ledger, 0))::text,
		       trim_scale(s.cache - greatest(s.ledger, 0))::text,
		       s.diverged_since IS NOT NULL, s.oversold_since IS NOT NULL, least(s.diverged_since, s.oversold_since), count(*) OVER ()
		FROM reconciled.stock s
		LEFT JOIN public.products p ON p.id = s.product_id
		LEFT JOIN public.warehouses w ON w.id = s.warehouse_id
		WHERE s.store_id = $1 AND `+isFound+`
		ORDER BY abs(s.cache - greatest(s.ledger, 0)) DESC, s.ledger, s.product_id, s.variant_id, s.warehouse_id LIMIT $2`, store, limit)
	if err != nil {
		return nil, 0, fmt.Errorf("read stock: %w", err)
	}
	list, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (f StockFinding, err error) {
		return f, row.Scan(&f.Product, &f.Name, &f.Warehouse, &f.WarehouseName, &f.Variant,
			&f.Ledger, &f.Cache, &f.Target, &f.Difference, &f.Diverged, &f.Oversold, &f.Since, &total)
	})
	if err != nil {
		return nil, 0, fmt.Errorf("read stock: %w", err)
	}
	return list, total, nil
}

// nobody stands for no warehouse and no variant in reconciled.stock.
const nobody = `'00000000-0000-0000-0000-000000000000'::uuid`

// How many rows of the movements' log a drain takes at a time, and how many products
// it compares.
const (
	movedAtOnce    = 20_000
	comparedAtOnce = 5_000
)

// errNoBaseline: the movements must be summed from the beginning.
var errNoBaseline = errors.New("no baseline")

// DrainStock brings reconciled.stock up to date with the movements and the cache, and
// sums all movements when there is nothing yet to add to. While a trigger that logs
// them is missing or disabled nothing is kept, and that is evidence.
func (h *Healing) DrainStock(ctx context.Context, grant lock.Grant) error {
	for more := true; more; {
		err := h.db.fenced(ctx, grant, func(ctx context.Context, tx pgx.Tx) (err error) {
			more, err = drainStock(ctx, tx, grant.Store)
			return err
		})
		if errors.Is(err, errNoBaseline) {
			more = true
			err = h.RebuildStock(ctx, grant.Store)
		}
		if err != nil {
			return fmt.Errorf("drain stock: %w", err)
		}
	}
	return nil
}

// stockTriggers log what is done to the movements and to the cache.
var stockTriggers = []watch{
	{"inventory_movements", "reconciled_stock", "stock_moved"},
	{"inventory_movements", "reconciled_stock_truncate", "stock_truncate"},
	{"warehouse_stock", "reconciled_stock", "stock_cached"},
	{"warehouse_stock", "reconciled_stock_gone", "stock_uncached"},
	{"warehouse_stock", "reconciled_stock_truncate", "stock_truncate"},
}

// baseline is what a store's rows stand on. Its row is the lock of all of them.
type baseline struct {
	store      velox.StoreID
	fallback   uuid.NullUUID // warehouse that movements without one count for
	warehouses []uuid.UUID   // the store's, ascending
}

// sameWarehouses says whether movements and cache still count for the same keys.
func (b baseline) sameWarehouses(now baseline) bool {
	return b.fallback == now.fallback && slices.Equal(b.warehouses, now.warehouses)
}

func drainStock(ctx context.Context, tx pgx.Tx, store velox.StoreID) (more bool, err error) {
	look, wrong, err := lookAtTriggers(ctx, tx, stockTriggers)
	if err != nil {
		return false, err
	}
	if wrong != "" {
		if err := blameTriggers(ctx, tx, store, broken+wrong, whyBroken(wrong)); err != nil {
			return false, err
		}
		return false, forgetStock(ctx, tx, store)
	}
	base := baseline{store: store}
	var looked string
	err = tx.QueryRow(ctx, `SELECT fingerprint, fallback, warehouses FROM reconciled.stock_baseline WHERE store_id = $1 FOR UPDATE`, store).
		Scan(&looked, &base.fallback, &base.warehouses)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return false, errNoBaseline
	case err != nil:
		return false, fmt.Errorf("lock baseline: %w", err)
	case looked != look: // something may have gone past the log
		return true, forgetStock(ctx, tx, store)
	}
	now, err := readWarehouses(ctx, tx, store)
	if err != nil {
		return false, err
	}
	taken, whole, err := base.take(ctx, tx, now)
	if err != nil {
		return false, err
	}
	if !whole {
		return true, forgetStock(ctx, tx, store)
	}
	if !base.sameWarehouses(now) {
		if err := now.replace(ctx, tx); err != nil {
			return false, err
		}
	}
	if taken == movedAtOnce {
		return true, nil // there is more to add before it is worth comparing
	}
	compared, err := now.compare(ctx, tx)
	return compared == comparedAtOnce, err
}

// forgetStock makes the next drain begin anew.
func forgetStock(ctx context.Context, tx pgx.Tx, store velox.StoreID) error {
	if _, err := tx.Exec(ctx, `DELETE FROM reconciled.stock_baseline WHERE store_id = $1`, store); err != nil {
		return fmt.Errorf("forget baseline: %w", err)
	}
	return nil
}

func readWarehouses(ctx context.Context, tx pgx.Tx, store velox.StoreID) (baseline, error) {
	b := baseline{store: store}
	err := tx.QueryRow(ctx, `SELECT (SELECT id FROM public.warehouses WHERE store_id = $1 AND is_active ORDER BY is_default DESC, name, id LIMIT 1),
		coalesce(array_agg(id ORDER BY id), '{}') FROM public.warehouses WHERE store_id = $1`, store).Scan(&b.fallback, &b.warehouses)
	if err != nil {
		return b, fmt.Errorf("read warehouses: %w", err)
	}
	return b, nil
}

// take adds up to movedAtOnce rows of the log to what they moved, in one statement: a
// row is taken and counted, or neither. A table that was truncated cannot be added
// up: whole is false.
func (b baseline) take(ctx context.Context, tx pgx.Tx, now baseline) (taken int, whole bool, err error) {
	err = tx.QueryRow(ctx, `
		WITH taken AS (
			DELETE FROM reconciled.stock_change WHERE ctid = ANY(ARRAY(
				SELECT ctid FROM reconciled.stock_change
				WHERE store_id = $1 OR store_id IS NULL AND warehouse_id = ANY($2) LIMIT $3))
			RETURNING product_id, coalesce(variant_id, `+nobody+`) AS variant_id, coalesce(warehouse_id, `+nobody+`) AS warehouse_id, delta),
		moved AS (
			INSERT INTO reconciled.stock AS s (store_id, product_id, variant_id, warehouse_id, moved)
			SELECT $1::uuid, product_id, variant_id, warehouse_id, sum(delta) FROM taken WHERE product_id IS NOT NULL GROUP BY 2, 3, 4
			ON CONFLICT (store_id, product_id, variant_id, warehouse_id) DO UPDATE SET moved = s.moved + excluded.moved, stale = true)
		SELECT count(*), coalesce(bool_and(product_id IS NOT NULL), true) FROM taken`,
		pgx.QueryExecModeCacheDescribe, b.store, slices.Concat(b.warehouses, now.warehouses), movedAtOnce).Scan(&taken, &whole) // planned anew: by a plan made for an empty log it is quadratic
	if err != nil {
		return 0, false, fmt.Errorf("add up moved stock: %w", err)
	}
	return taken, whole, nil
}

// replace notes that the store's warehouses are others now: every key is compared anew.
func (b baseline) replace(ctx context.Context, tx pgx.Tx) error {
	_, err := tx.Exec(ctx, `UPDATE reconciled.stock SET stale = true WHERE store_id = $1 AND NOT stale`, b.store)
	if err == nil {
		_, err = tx.Exec(ctx, `UPDATE reconciled.stock_baseline SET fallback = $2, warehouses = $3 WHERE store_id = $1`, b.store, b.fallback, b.warehouses)
	}
	if err != nil {
		return fmt.Errorf("note other warehouses: %w", err)
	}
	return nil
}

// compare judges the stale keys of up to comparedAtOnce products. It reads cache and
// log in one snapshot, and leaves a product that has moved again for the next drain:
// its cache would be held against a ledger of a moment ago. What counts for no warehouse
// has no cache, and cannot diverge from it.
func (b baseline) compare(ctx context.Context, tx pgx.Tx) (products int, err error) {
	if b.fallback.Valid {
		_, err := tx.Exec(ctx, `
			INSERT INTO reconciled.stock (store_id, product_id, variant_id, warehouse_id, moved)
			SELECT store_id, product_id, variant_id, $2::uuid, 0 FROM reconciled.stock
			WHERE store_id = $1 AND stale AND warehouse_id = `+nobody+` ON CONFLICT DO NOTHING`, b.store, b.fallback)
		if err != nil {
			return 0, fmt.Errorf("make rows of the default warehouse: %w", err)
		}
	}
	err = tx.QueryRow(ctx, `
		WITH asked AS MATERIALIZED (
			SELECT DISTINCT product_id, variant_id FROM reconciled.stock
			WHERE store_id = $1 AND stale AND product_id NOT IN (
				SELECT product_id FROM reconciled.stock_change WHERE store_id = $1 AND product_id IS NOT NULL)
			LIMIT $4),
		found AS (
			SELECT s.product_id, s.variant_id, s.warehouse_id,
				CASE s.warehouse_id
					WHEN $2::uuid THEN s.moved + coalesce((SELECT n.moved FROM reconciled.stock n WHERE n.store_id = $1
						AND n.product_id = s.product_id AND n.variant_id = s.variant_id AND n.warehouse_id = `+nobody+`), 0)
					WHEN `+nobody+` THEN CASE WHEN $2::uuid IS NULL THEN s.moved ELSE 0 END
					ELSE s.moved END AS ledger,
				CASE WHEN s.warehouse_id = ANY($3) THEN coalesce((SELECT sum(c.stock) FROM public.warehouse_stock c
					WHERE c.warehouse_id = s.warehouse_id AND c.product_id = s.product_id
					  AND coalesce(c.variant_id, `+nobody+`) = s.variant_id), 0) ELSE 0 END AS cache
			FROM asked JOIN reconciled.stock s ON s.store_id = $1 AND s.product_id = asked.product_id AND s.variant_id = asked.variant_id),
		judged AS (
			UPDATE reconciled.stock s SET ledger = f.ledger, cache = f.cache, stale = false,
				diverged_since = CASE WHEN f.warehouse_id <> `+nobody+` AND greatest(f.ledger, 0) <> f.cache THEN coalesce(s.diverged_since, now()) END,
				oversold_since = CASE WHEN f.ledger < 0 THEN coalesce(s.oversold_since, now()) END
			FROM found f
			WHERE s.store_id = $1 AND s.product_id = f.product_id AND s.variant_id = f.variant_id AND s.warehouse_id = f.warehouse_id)
		SELECT count(*) FROM asked`, b.store, b.fallback, b.warehouses, comparedAtOnce).Scan(&products)
	if err != nil {
		return 0, fmt.Errorf("compare stock: %w", err)
	}
	return products, nil
}

// RebuildStock sums all movements of a store anew. One statement does that and takes
// away the rows of the log that are in its sums, so that a movement which commits
// meanwhile is in the one or in the other. It may take longer than a lease, and it
// writes nothing of the POS: the baseline's row keeps others away, not the fence.
func (h *Healing) RebuildStock(ctx context.Context, store velox.StoreID) error {
	return h.db.transact(ctx, func(ctx context.Context, tx pgx.Tx) error {
		look, wrong, err := lookAtTriggers(ctx, tx, stockTriggers)
		if err != nil || wrong != "" {
			return err
		}
		b, err := readWarehouses(ctx, tx, store)
		if err != nil {
			return err
		}
		_, err = tx.Exec(ctx, `INSERT INTO reconciled.stock_baseline (store_id, fingerprint, fallback, warehouses) VALUES ($1, $2, $3, $4)
			ON CONFLICT (store_id) DO UPDATE SET fingerprint = excluded.fingerprint, fallback = excluded.fallback,
				warehouses = excluded.warehouses, built_at = now()`, store, look, b.fallback, b.warehouses)
		if err != nil {
			return fmt.Errorf("write baseline: %w", err)
		}
		_, err = tx.Exec(ctx, `
			WITH counted AS (
				DELETE FROM reconciled.stock_change WHERE store_id = $1 OR store_id IS NULL AND warehouse_id = ANY($2)),
			summed AS (
				SELECT product_id, coalesce(variant_id, `+nobody+`) AS variant_id, coalesce(warehouse_id, `+nobody+`) AS warehouse_id, sum(effect) AS moved
				FROM (SELECT product_id, variant_id, warehouse_id, reconciled.ledger_effect(movement_type, from_escrow, qty_delta) AS effect
						FROM public.inventory_movements WHERE store_id = $1
					UNION ALL SELECT product_id, variant_id, warehouse_id, 0 FROM public.warehouse_stock WHERE warehouse_id = ANY($2)) m
				GROUP BY 1, 2, 3),
			gone AS (
				DELETE FROM reconciled.stock s WHERE s.store_id = $1 AND NOT EXISTS (SELECT FROM summed n
					WHERE n.product_id = s.product_id AND n.variant_id = s.variant_id AND n.warehouse_id = s.warehouse_id))
			INSERT INTO reconciled.stock AS s (store_id, product_id, variant_id, warehouse_id, moved)
			SELECT $1::uuid, product_id, variant_id, warehouse_id, moved FROM summed
			ON CONFLICT (store_id, product_id, variant_id, warehouse_id) DO UPDATE SET moved = excluded.moved, stale = true`, store, b.warehouses)
		if err != nil {
			return fmt.Errorf("sum movements: %w", err)
		}
		for compared := comparedAtOnce; compared == comparedAtOnce; {
			if compared, err = b.compare(ctx, tx); err != nil {
				return err
			}
		}
		return nil
	})
}
