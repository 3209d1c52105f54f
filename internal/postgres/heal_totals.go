package postgres

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/google/uuid"

	"github.com/veloxpos/reconciled/healer/projection"
)

// setStock sets the totals that the heals' movements change to what the ledger
// says: never less than nothing, movements without a warehouse counted in the
// store's default one (events.md 3.3). The rows are made if need be and locked,
// and only then, by a later statement, are the movements summed: a backend that
// has moved stock by a delta and not committed is waited for, and one that comes
// after adds its delta to this total.
func (a *application) setStock(ctx context.Context) error {
	type key struct {
		Warehouse uuid.UUID     `json:"warehouse"`
		Product   uuid.UUID     `json:"product"`
		Variant   uuid.NullUUID `json:"variant"`
	}
	var fallback uuid.NullUUID
	touched := map[projection.StockKey]bool{}
	for _, heal := range a.going {
		for _, k := range heal.Changes.Stock {
			touched[k] = true
		}
	}
	if len(touched) == 0 {
		return nil
	}
	err := a.tx.QueryRow(ctx, `SELECT (SELECT id FROM public.warehouses WHERE store_id = $1 AND is_active
		ORDER BY is_default DESC, name, id LIMIT 1)`, a.grant.Store).Scan(&fallback)
	if err != nil {
		return fmt.Errorf("read default warehouse: %w", err)
	}
	keys := map[key]bool{}
	for k := range touched {
		if !k.Warehouse.Valid {
			k.Warehouse = fallback
		}
		if k.Warehouse.Valid {
			keys[key{k.Warehouse.UUID, k.Product, k.Variant}] = true
		}
	}
	list := make([]key, 0, len(keys))
	for k := range keys {
		list = append(list, k)
	}
	text, err := json.Marshal(list)
	if err != nil {
		return fmt.Errorf("print stock keys: %w", err)
	}
	const asked = `jsonb_to_recordset($1::jsonb) AS k (warehouse uuid, product uuid, variant uuid)`
	const same = `w.warehouse_id = k.warehouse AND w.product_id = k.product AND w.variant_id IS NOT DISTINCT FROM k.variant`
	_, err = a.tx.Exec(ctx, `INSERT INTO public.warehouse_stock (warehouse_id, product_id, variant_id)
		SELECT warehouse, product, variant FROM `+asked+`
		WHERE NOT EXISTS (SELECT FROM public.warehouse_stock w WHERE `+same+`) ORDER BY 1, 2, 3
		ON CONFLICT DO NOTHING`, string(text))
	if err != nil {
		return fmt.Errorf("make stock rows: %w", err)
	}
	ids, err := a.ids(ctx, "lock stock rows", `SELECT w.id FROM public.warehouse_stock w JOIN `+asked+` ON `+same+`
		ORDER BY w.warehouse_id, w.product_id, w.variant_id FOR UPDATE OF w`, string(text))
	if err != nil {
		return err
	}
	_, err = a.tx.Exec(ctx, `
		UPDATE public.warehouse_stock w SET updated_at = now(), stock = greatest(0, coalesce((
			SELECT sum(m.qty_delta) FROM public.inventory_movements m
			WHERE m.store_id = $1 AND m.product_id = w.product_id AND m.variant_id IS NOT DISTINCT FROM w.variant_id
			  AND (m.warehouse_id = w.warehouse_id OR m.warehouse_id IS NULL AND w.warehouse_id = $3)
			  AND m.movement_type IN ('received', 'adjust', 'sold', 'sale', 'transfer_in', 'transfer_out')
			  AND m.from_escrow IS NOT TRUE), 0))
		WHERE w.id = ANY($2)`, a.grant.Store, ids, fallback)
	if err != nil {
		return fmt.Errorf("set stock: %w", err)
	}
	return nil
}

// setDebtStatus makes the status of paid debts follow their payments, to a
// cent: measured in USD if the debt is in USD, else in BS; a debt of nothing is
// paid by any payment (events.md 3.9). holdParents has locked the debts.
func (a *application) setDebtStatus(ctx context.Context) error {
	var debts []uuid.UUID
	for _, heal := range a.going {
		if debt := heal.Changes.Status; debt.Valid {
			debts = append(debts, debt.UUID)
		}
	}
	if len(debts) == 0 {
		return nil
	}
	_, err := a.tx.Exec(ctx, `
		UPDATE public.debts d SET status = CASE
			WHEN CASE WHEN d.amount_usd > 0.01 THEN p.usd >= d.amount_usd - 0.01
			          WHEN d.amount_bs > 0.01 THEN p.bs >= d.amount_bs - 0.01
			          ELSE true END THEN 'paid'
			WHEN p.usd > 0.01 OR p.bs > 0.01 THEN 'partial'
			ELSE 'open' END
		FROM (SELECT debt_id, sum(amount_usd) AS usd, sum(amount_bs) AS bs FROM public.debt_payments
			WHERE debt_id = ANY($1) GROUP BY debt_id) p
		WHERE d.id = p.debt_id`, debts)
	if err != nil {
		return fmt.Errorf("set debt status: %w", err)
	}
	return nil
}
