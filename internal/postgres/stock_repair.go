package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/veloxpos/reconciled/healer"
	"github.com/veloxpos/reconciled/internal/velox"
	"github.com/veloxpos/reconciled/lock"
)

// StockRepair is a row of warehouse_stock that was set to what the movements add up
// to, or to 0 where that is below 0. Quantities are decimals.
type StockRepair struct {
	Warehouse uuid.UUID     `json:"warehouse_id"`
	Product   uuid.UUID     `json:"product_id"`
	Variant   uuid.NullUUID `json:"variant_id"`
	Ledger    string        `json:"ledger"`
	Before    string        `json:"before"`
	After     string        `json:"after"`
}

// RepairStock sets the cache of every key that had diverged at the last drain, with an
// audit row for each that it changes. It makes no movement: stock that was oversold
// stays so until it is counted and adjusted. Each key has a transaction of its own: a
// sale locks its rows in an order of its own, and must not deadlock with a repair. Left
// alone is what the backend is in the middle of changing, see stockInHand.
func (h *Healing) RepairStock(ctx context.Context, grant lock.Grant, grace time.Duration, by, why string) ([]StockRepair, error) {
	diverged, err := h.diverged(ctx, grant.Store)
	if err != nil {
		return nil, err
	}
	var repaired []StockRepair
	for _, key := range diverged {
		var changed bool
		err := h.db.fenced(ctx, grant, func(ctx context.Context, tx pgx.Tx) (err error) {
			if changed, err = key.setCache(ctx, tx, grant.Store); err != nil || !changed {
				return err
			}
			if err := stockInHand(ctx, tx, grant.Store, []uuid.UUID{key.Product}, nil, grace); err != nil {
				return err
			}
			_, err = tx.Exec(ctx, `INSERT INTO reconciled.audit (actor, action, store_id, target, outcome, detail)
				VALUES ($1, 'stock repair', $2, 'warehouse_stock', 'set', $3::jsonb || jsonb_build_object('why', $4::text, 'run', $5::uuid))`,
				by, grant.Store, key, why, grant.Run)
			if err != nil {
				return fmt.Errorf("write audit: %w", err)
			}
			return nil
		})
		if errors.Is(err, healer.ErrBusy) {
			continue
		}
		if err != nil {
			return repaired, fmt.Errorf("repair stock of product %s: %w", key.Product, err)
		}
		if changed {
			repaired = append(repaired, *key)
		}
	}
	return repaired, nil
}

// diverged lists the keys to repair.
func (h *Healing) diverged(ctx context.Context, store velox.StoreID) ([]*StockRepair, error) {
	rows, err := h.db.Pool.Query(ctx, `SELECT warehouse_id, product_id, nullif(variant_id, `+nobody+`) FROM reconciled.stock
		WHERE store_id = $1 AND diverged_since IS NOT NULL ORDER BY 1, 2, 3`, store)
	if err != nil {
		return nil, fmt.Errorf("read diverged stock: %w", err)
	}
	keys, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (*StockRepair, error) {
		var r StockRepair
		return &r, row.Scan(&r.Warehouse, &r.Product, &r.Variant)
	})
	if err != nil {
		return nil, fmt.Errorf("read diverged stock: %w", err)
	}
	return keys, nil
}

// setCache makes the key's row if need be and locks it, and only then, by a later
// statement, sums the movements: a sale that has moved stock and not committed is
// waited for, and one that comes after changes this total. It reports whether the row
// was another; a product, variant or warehouse that is gone has none.
func (r *StockRepair) setCache(ctx context.Context, tx pgx.Tx, store velox.StoreID) (changed bool, err error) {
	_, err = tx.Exec(ctx, `
		INSERT INTO public.warehouse_stock (warehouse_id, product_id, variant_id, stock, reserved)
		SELECT w.id, p.id, $4::uuid, 0, 0 FROM public.warehouses w, public.products p
		WHERE w.id = $2 AND w.store_id = $1 AND p.id = $3 AND ($4::uuid IS NULL OR EXISTS (SELECT FROM public.product_variants v WHERE v.id = $4))
		  AND NOT EXISTS (SELECT FROM public.warehouse_stock s WHERE s.warehouse_id = $2 AND s.product_id = $3 AND s.variant_id IS NOT DISTINCT FROM $4)
		ON CONFLICT DO NOTHING`, store, r.Warehouse, r.Product, r.Variant)
	if err != nil {
		return false, fmt.Errorf("make stock row: %w", err)
	}
	var row uuid.UUID
	err = tx.QueryRow(ctx, `SELECT id FROM public.warehouse_stock
		WHERE warehouse_id = $1 AND product_id = $2 AND variant_id IS NOT DISTINCT FROM $3 FOR UPDATE`,
		r.Warehouse, r.Product, r.Variant).Scan(&row)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("lock stock row: %w", err)
	}
	b, err := readWarehouses(ctx, tx, store)
	if err != nil {
		return false, err
	}
	err = tx.QueryRow(ctx, `
		UPDATE public.warehouse_stock w SET stock = greatest(0, s.ledger), updated_at = now()
		FROM (SELECT c.id, c.stock AS before, coalesce((
				SELECT sum(reconciled.ledger_effect(m.movement_type, m.from_escrow, m.qty_delta)) FROM public.inventory_movements m
				WHERE m.store_id = $1 AND m.product_id = c.product_id AND m.variant_id IS NOT DISTINCT FROM c.variant_id
				  AND (m.warehouse_id = c.warehouse_id OR m.warehouse_id IS NULL AND c.warehouse_id = $3)), 0) AS ledger
			FROM public.warehouse_stock c WHERE c.id = $2) s
		WHERE w.id = s.id AND s.before <> greatest(0, s.ledger)
		RETURNING trim_scale(s.ledger)::text, trim_scale(s.before)::text, trim_scale(w.stock)::text`,
		store, row, b.fallback).Scan(&r.Ledger, &r.Before, &r.After)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("set stock: %w", err)
	}
	return true, nil
}
