package postgres

import (
	"context"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/veloxpos/reconciled/healer"
	"github.com/veloxpos/reconciled/healer/projection"
)

// setDebtStatus makes the status of paid debts follow their payments. holdParents has
// locked the debts.
func (a *application) setDebtStatus(ctx context.Context) error {
	debts := a.named(func(c projection.Changes) uuid.NullUUID { return c.Status })
	if len(debts) == 0 {
		return nil
	}
	_, err := a.tx.Exec(ctx, `UPDATE public.debts d SET status = `+debtStatus+`
		FROM (SELECT debt_id, sum(amount_usd) AS usd, sum(amount_bs) AS bs FROM public.debt_payments
			WHERE debt_id = ANY($1) GROUP BY debt_id) p
		WHERE d.id = p.debt_id`, debts)
	if err != nil {
		return fmt.Errorf("set debt status: %w", err)
	}
	return nil
}

// setCounters makes the counters of cash sessions what their entries add up to.
func (a *application) setCounters(ctx context.Context) error {
	sessions := a.named(func(c projection.Changes) uuid.NullUUID { return c.Counters })
	if len(sessions) == 0 {
		return nil
	}
	if _, err := a.ids(ctx, "lock cash sessions", `SELECT id FROM public.cash_sessions WHERE store_id = $1 AND id = ANY($2)
		ORDER BY id FOR NO KEY UPDATE`, a.grant.Store, sessions); err != nil {
		return err
	}
	_, err := a.tx.Exec(ctx, `UPDATE public.cash_sessions u
		SET ledger_p_bs = s.p_bs, ledger_n_bs = s.n_bs, ledger_p_usd = s.p_usd, ledger_n_usd = s.n_usd
		FROM public.cash_sessions t CROSS JOIN LATERAL (SELECT `+sessionCounters+`) s
		WHERE u.id = t.id AND t.store_id = $1 AND t.id = ANY($2)
		  AND (t.ledger_p_bs, t.ledger_n_bs, t.ledger_p_usd, t.ledger_n_usd) IS DISTINCT FROM (s.p_bs, s.n_bs, s.p_usd, s.n_usd)`,
		a.grant.Store, sessions)
	if err != nil {
		return fmt.Errorf("set session counters: %w", err)
	}
	return nil
}

// named collects ids that the heals name.
func (a *application) named(by func(projection.Changes) uuid.NullUUID) []uuid.UUID {
	var ids []uuid.UUID
	for _, heal := range a.going {
		if id := by(heal.Changes); id.Valid {
			ids = append(ids, id.UUID)
		}
	}
	return ids
}

// holdShares locks the shares of escrow that heals move. One that is not what the
// plan was made on has been raced.
func (a *application) holdShares(ctx context.Context) error {
	devices, products := []uuid.UUID{}, []uuid.UUID{}
	for _, heal := range a.going {
		for _, g := range heal.Changes.Escrow {
			devices, products = append(devices, g.Device), append(products, g.Product)
		}
	}
	if len(devices) == 0 {
		return nil
	}
	held := map[projection.Share]string{}
	var (
		share projection.Share
		qty   string
	)
	rows, err := a.tx.Query(ctx, `SELECT e.device_id, e.product_id, e.variant_id, coalesce(e.qty_granted, 0)::text FROM public.stock_escrow e
		WHERE e.store_id = $1 AND (e.device_id, e.product_id) IN (SELECT * FROM unnest($2::uuid[], $3::uuid[]))
		ORDER BY e.id FOR UPDATE`, a.grant.Store, devices, products)
	if err == nil {
		_, err = pgx.ForEachRow(rows, []any{&share.Device, &share.Product, &share.Variant, &qty}, func() error {
			held[share] = qty
			return nil
		})
	}
	if err != nil {
		return fmt.Errorf("lock escrow: %w", err)
	}
	for i, heal := range a.going {
		for _, g := range heal.Changes.Escrow {
			if held[g.Share] != g.Was {
				a.fates[i].Kind = healer.Raced
			}
		}
	}
	return nil
}

// moveShares sets the shares.
func (a *application) moveShares(ctx context.Context) error {
	for _, heal := range a.going {
		for _, g := range heal.Changes.Escrow {
			sql := `UPDATE public.stock_escrow SET qty_granted = $3::text::numeric,
				expires_at = coalesce($4::text::timestamptz, expires_at), last_updated_at = now() WHERE id = $1 AND store_id = $2`
			args := []any{g.Row, a.grant.Store, g.Qty, g.Expires}
			if g.Was == "" {
				sql = `INSERT INTO public.stock_escrow (id, store_id, qty_granted, expires_at, device_id, product_id, variant_id)
					VALUES ($1, $2, $3::text::numeric, $4::text::timestamptz, $5, $6, $7)`
				args = append(args, g.Device, g.Product, g.Variant)
			}
			if _, err := a.tx.Exec(ctx, sql, args...); err != nil {
				return fmt.Errorf("set escrow of device %s: %w", g.Device, err)
			}
		}
	}
	return nil
}
