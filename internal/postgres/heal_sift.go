package postgres

import (
	"context"
	"fmt"
	"math"

	"github.com/jackc/pgx/v5"

	"github.com/veloxpos/reconciled/lock"
)

// siftEvents is how many events a statement sifts: well below the time that a fenced
// statement has.
const siftEvents = 50_000

// Sift goes through the log beside the read models, and puts every slot on the
// healer's list in which an event may not be projected whole. It forgets gaps whose
// events are gone. A pass that stop ended goes on where it was.
func (h *Healing) Sift(ctx context.Context, grant lock.Grant, stop func() bool) (slots int64, err error) {
	for more := true; more; {
		if stop != nil && stop() {
			return slots, lock.ErrGaveWay
		}
		err := h.db.fenced(ctx, grant, func(ctx context.Context, tx pgx.Tx) error {
			var found int64
			found, more, err = siftSome(ctx, tx, grant)
			slots += found
			return err
		})
		if err != nil {
			return slots, err
		}
	}
	return slots, nil
}

// siftSome sifts the next stretch of slots; more says whether there is another.
func siftSome(ctx context.Context, tx pgx.Tx, grant lock.Grant) (found int64, more bool, err error) {
	var after int64
	err = tx.QueryRow(ctx, `INSERT INTO reconciled.sift AS s (store_id) VALUES ($1)
		ON CONFLICT (store_id) DO UPDATE SET began_at = CASE WHEN s.slot IS NULL THEN now() ELSE s.began_at END
		RETURNING coalesce(slot, $2)`, grant.Store, int64(math.MinInt64)).Scan(&after)
	if err != nil {
		return 0, false, fmt.Errorf("begin to sift: %w", err)
	}
	if after == math.MinInt64 {
		if err := forgetGaps(ctx, tx, grant); err != nil {
			return 0, false, err
		}
	}
	var last *int64
	err = tx.QueryRow(ctx, `SELECT max(slot) FROM (
			SELECT slot, sum(count) OVER (ORDER BY slot) - count AS before FROM (
				SELECT slot, count FROM reconciled.leaf WHERE store_id = $1 AND slot > $2 ORDER BY slot LIMIT 20000) l) s
		WHERE before < $3`, grant.Store, after, siftEvents).Scan(&last)
	if err != nil {
		return 0, false, fmt.Errorf("choose slots to sift: %w", err)
	}
	if last != nil {
		from := negativeInfinity
		if after != math.MinInt64 {
			from = notBefore((after + 1) << 20)
		}
		tag, err := tx.Exec(ctx, suspects, grant.Store, from, notAfter((*last+1)<<20-1))
		if err != nil {
			return 0, false, fmt.Errorf("sift events: %w", err)
		}
		found = tag.RowsAffected()
	}
	_, err = tx.Exec(ctx, `UPDATE reconciled.sift SET slot = $2, finished_at = CASE WHEN $2::bigint IS NULL THEN now() ELSE finished_at END
		WHERE store_id = $1`, grant.Store, last)
	if err != nil {
		return 0, false, fmt.Errorf("keep progress of sifting: %w", err)
	}
	return found, last != nil, nil
}

func forgetGaps(ctx context.Context, tx pgx.Tx, grant lock.Grant) error {
	_, err := tx.Exec(ctx, `DELETE FROM reconciled.gap g WHERE g.store_id = $1
		AND NOT EXISTS (SELECT FROM public.events e WHERE e.event_id = g.event_id)`, grant.Store)
	if err != nil {
		return fmt.Errorf("forget gaps of deleted events: %w", err)
	}
	return nil
}

// suspects puts slots on the list that hold an event which is not surely projected
// whole. It judges roughly, and to one side only: what it passes over has its row, of
// the store; a sale also its lines, by number and quantity, its total, movements that
// take what the lines sold, and the debt that it makes; a void its mark, no debt, and
// reversals of all lines; a movement, payment, debt or ledger entry its amount; a
// payment its method, and the status that it gives its debt. What is spelled unusually,
// or without a number, or sold in a quantity that fits no column and no sum, is looked at
// by the healer itself. So is every other value, as the scrub comes by.
var suspects = `
	WITH e AS NOT MATERIALIZED (
		SELECT e.event_id, e.type, e.created_at, coalesce(s.said, nullif(e.delta_payload, '{}'), e.payload) AS said
		FROM public.events e LEFT JOIN reconciled.said s ON s.event_id = e.event_id
		WHERE e.store_id = $1 AND e.created_at >= $2 AND e.created_at <= $3),
	suspect AS (
		SELECT e.event_id, e.created_at FROM e WHERE e.type = 'SaleCreated' AND NOT coalesce((
			SELECT s.store_id = $1 AND lines.n = said.n AND lines.qty = said.qty
				AND s.totals -> 'total_bs' = e.said #> '{totals,total_bs}' AND s.totals -> 'total_usd' = e.said #> '{totals,total_usd}'
				AND moved.qty = -lines.qty
				AND (coalesce(e.said #>> '{payment,method}' <> 'FIAO', true) OR s.voided_at IS NOT NULL
					OR coalesce(e.said #>> '{customer,customer_id}', e.said ->> 'customer_id', '') = ''
					OR EXISTS (SELECT FROM public.debts d WHERE d.store_id = $1 AND d.sale_id = s.id))
			FROM public.sales s
			CROSS JOIN LATERAL (SELECT count(*) AS n, sum(i.qty) AS qty FROM public.sale_items i WHERE i.sale_id = s.id) lines
			CROSS JOIN LATERAL (SELECT count(*) AS n, sum(round(line.qty, 3)) FILTER (WHERE abs(line.qty) < 1e15) AS qty
				FROM jsonb_array_elements(CASE jsonb_typeof(e.said -> 'items') WHEN 'array' THEN e.said -> 'items' ELSE '[]' END) AS i
				CROSS JOIN LATERAL (SELECT CASE WHEN i ->> 'is_weight_product' IN ('true', '1') AND i ? 'weight_value'
					THEN ` + plainly(`i -> 'weight_value'`) + ` ELSE ` + plainly(`i -> 'qty'`) + ` END AS qty) line) said
			CROSS JOIN LATERAL (SELECT sum(m.qty_delta) AS qty FROM public.inventory_movements m WHERE m.store_id = $1
				AND m.happened_at >= greatest(s.sold_at, timestamptz '4000-01-01 BC') - interval '5 s' AND m.happened_at <= least(s.sold_at, timestamptz '290000-01-01') + interval '5 s'
				AND m.qty_delta < 0 AND m.ref ->> 'sale_id' = s.id::text) moved
			WHERE s.id = reconciled.try_uuid(e.said ->> 'sale_id')), false)
		UNION ALL
		SELECT e.event_id, e.created_at FROM e WHERE e.type = 'SaleVoided' AND NOT coalesce((
			SELECT s.store_id = $1 AND s.voided_at IS NOT NULL AND back.qty = lines.qty
				AND NOT EXISTS (SELECT FROM public.debts d WHERE d.store_id = $1 AND d.sale_id = s.id)
			FROM public.sales s
			CROSS JOIN LATERAL (SELECT sum(i.qty) AS qty FROM public.sale_items i WHERE i.sale_id = s.id) lines
			CROSS JOIN LATERAL (SELECT sum(m.qty_delta) AS qty FROM public.inventory_movements m WHERE m.store_id = $1
				AND m.happened_at >= greatest(s.voided_at, timestamptz '4000-01-01 BC') - interval '5 s' AND m.happened_at <= least(s.voided_at, timestamptz '290000-01-01') + interval '5 s'
				AND m.qty_delta > 0 AND m.ref ->> 'sale_id' = s.id::text) back
			WHERE s.id = reconciled.try_uuid(e.said ->> 'sale_id')), false)
		UNION ALL
		SELECT e.event_id, e.created_at FROM e WHERE e.type IN ('StockReceived', 'StockAdjusted', 'StockDeltaApplied') AND NOT coalesce((
			SELECT m.store_id = $1 AND m.product_id::text = e.said ->> 'product_id'
				AND m.qty_delta = round(` + plainly(`q`) + `, 3)
				AND coalesce(m.variant_id::text, '') = coalesce(e.said ->> 'variant_id', '')
			FROM public.inventory_movements m
			CROSS JOIN LATERAL (SELECT CASE e.type WHEN 'StockReceived' THEN e.said -> 'qty' ELSE e.said -> 'qty_delta' END AS q) said
			WHERE m.id = reconciled.try_uuid(e.said ->> 'movement_id')), false)
		UNION ALL
		SELECT e.event_id, e.created_at FROM e WHERE e.type IN ('ProductCreated', 'ProductUpdated', 'ProductDeactivated', 'PriceChanged', 'RecipeIngredientsUpdated')
			AND NOT EXISTS (SELECT FROM public.products p WHERE p.id = reconciled.try_uuid(e.said ->> 'product_id') AND p.store_id = $1)
		UNION ALL
		SELECT e.event_id, e.created_at FROM e WHERE e.type IN ('CustomerCreated', 'CustomerUpdated')
			AND NOT EXISTS (SELECT FROM public.customers c WHERE c.id = reconciled.try_uuid(e.said ->> 'customer_id') AND c.store_id = $1
				AND (e.type <> 'CustomerCreated' OR NOT coalesce(starts_with(c.note, 'Auto-creado por proyeccion de venta'), false)))
		UNION ALL
		SELECT e.event_id, e.created_at FROM e WHERE e.type IN ('CashSessionOpened', 'CashSessionClosed')
			AND NOT EXISTS (SELECT FROM public.cash_sessions c WHERE c.id = reconciled.try_uuid(e.said ->> 'session_id') AND c.store_id = $1
				AND (e.type = 'CashSessionOpened' OR c.closed_at IS NOT NULL))
		UNION ALL
		SELECT e.event_id, e.created_at FROM e WHERE e.type = 'CashLedgerEntryCreated'
			AND NOT EXISTS (SELECT FROM public.cash_ledger_entries c WHERE c.id = reconciled.try_uuid(e.said ->> 'entry_id') AND c.store_id = $1
				AND c.amount_bs = round(` + plainly(`e.said -> 'amount_bs'`) + `, 2)
				AND c.amount_usd = round(` + plainly(`e.said -> 'amount_usd'`) + `, 2))
		UNION ALL
		SELECT e.event_id, e.created_at FROM e WHERE e.type = 'DebtCreated'
			AND NOT EXISTS (SELECT FROM public.debts d LEFT JOIN public.sales s ON s.id = d.sale_id
				WHERE d.id = reconciled.try_uuid(e.said ->> 'debt_id') AND d.store_id = $1 AND s.voided_at IS NULL
				  AND d.amount_bs = round(` + plainly(`e.said -> 'amount_bs'`) + `, 2)
				  AND d.amount_usd = round(` + plainly(`e.said -> 'amount_usd'`) + `, 2))
		UNION ALL
		SELECT e.event_id, e.created_at FROM e WHERE e.type IN ('DebtPaymentRecorded', 'DebtPaymentAdded')
			AND NOT EXISTS (SELECT FROM public.debt_payments m JOIN public.debts d ON d.id = m.debt_id
				CROSS JOIN LATERAL (SELECT sum(amount_usd) AS usd, sum(amount_bs) AS bs FROM public.debt_payments WHERE debt_id = d.id) p
				WHERE m.id = reconciled.try_uuid(e.said ->> 'payment_id') AND m.store_id = $1 AND m.method = e.said ->> 'method' AND d.status = ` + debtStatus + `
				  AND m.amount_bs = round(` + plainly(`e.said -> 'amount_bs'`) + `, 2)
				  AND m.amount_usd = round(` + plainly(`e.said -> 'amount_usd'`) + `, 2))
		UNION ALL -- the ids of their markers are not to be had here
		SELECT e.event_id, e.created_at FROM e WHERE e.type IN ('StockQuotaGranted', 'StockQuotaTransferred', 'StockQuotaReclaimed')),
	found AS (
		SELECT reconciled.slot(suspect.created_at) AS slot, suspect.event_id FROM suspect
		WHERE NOT EXISTS (SELECT FROM reconciled.gap g WHERE g.store_id = $1 AND g.event_id = suspect.event_id))
	` + enlistFound

// plainly is a number in JSON, or a text that is spelled as one without more ado; else
// NULL.
func plainly(value string) string {
	return `(CASE jsonb_typeof(` + value + `) WHEN 'number' THEN (` + value + `)::numeric
		WHEN 'string' THEN CASE WHEN ` + value + ` #>> '{}' ~ '^-?[0-9]{1,12}([.][0-9]{1,12})?$' THEN (` + value + ` #>> '{}')::numeric END END)`
}
