package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/veloxpos/reconciled/healer"
	"github.com/veloxpos/reconciled/lock"
)

const (
	orphans      = 10_000 // healed in one run
	orphansAlone = 1_000  // healed one by one, as many as the time allows
	aloneFor     = time.Minute
)

// measureRate is how fast sales of three lines are healed that arrived without their
// rows: all in one run, and others one transaction each; and how fast the same rows
// are written by bare statements, which is the floor.
func (s *site) measureRate(ctx context.Context, d *dataset, f *figures) error {
	floor, err := s.writeFloor(ctx, d, orphans)
	if err != nil {
		return err
	}
	rate, err := s.heal(ctx, d, orphans, s.healer, nil)
	if err != nil {
		return err
	}
	f.add("heal.rate", rate, "sales/s")
	f.add("heal.rate.floor", floor, "sales/s")
	f.add("heal.rate.floor_ratio", rate/floor, "x")
	alone := healer.New(s.healing, healer.Options{Batch: 1, Slots: 1})
	until := time.Now().Add(aloneFor)
	slow, err := s.heal(ctx, d, orphansAlone, alone, func() bool { return time.Now().After(until) })
	if err != nil {
		return err
	}
	f.add("heal.one_by_one.rate", slow, "sales/s")
	f.add("heal.vs_one_by_one", rate/slow, "x")
	return nil
}

// heal makes n orphans and is how many of them a run heals a second. What the run
// leaves when it stops is healed after it.
func (s *site) heal(ctx context.Context, d *dataset, n int, h *healer.Healer, stop func() bool) (rate float64, err error) {
	if err := s.orphan(ctx, d, n); err != nil {
		return 0, err
	}
	err = s.locked(ctx, func(ctx context.Context, grant lock.Grant) error {
		var report healer.Report
		wall, _, err := timed(func() (err error) {
			report, err = h.Run(ctx, grant, stop)
			if errors.Is(err, lock.ErrGaveWay) {
				err = nil
			}
			return err
		})
		if err != nil {
			return err
		}
		rate = float64(report.Healed) / wall.Seconds()
		rest, err := s.healer.Run(ctx, grant, nil)
		got := report.Plus(rest).Counts
		if want := (healer.Counts{Checked: got.Checked, Healed: n}); err == nil && got != want {
			err = fmt.Errorf("healed %+v, want %d sales", got, n)
		}
		return err
	})
	return rate, err
}

// bareWrites are the rows of 500 orphans, written as the healer writes them: with every
// index, foreign key and trigger of theirs, a transaction for all. Nothing is looked up,
// decided, checked or logged.
var bareWrites = []string{
	`INSERT INTO public.sales (id, store_id, cash_session_id, sold_at, exchange_rate, currency, totals, payment, sold_by_user_id)
		SELECT (payload ->> 'sale_id')::uuid, store_id, (payload ->> 'cash_session_id')::uuid, ` + soldAt + `, 40, 'BS',
			payload -> 'totals', payload -> 'payment', actor_user_id FROM orphans WHERE batch = $1`,
	`INSERT INTO public.sale_items (id, sale_id, product_id, qty, unit_price_bs, unit_price_usd)
		SELECT (i ->> 'item_id')::uuid, (payload ->> 'sale_id')::uuid, (i ->> 'product_id')::uuid, (i ->> 'qty')::numeric, 50, 1.25
		FROM orphans CROSS JOIN jsonb_array_elements(payload -> 'items') AS i WHERE batch = $1`,
	`INSERT INTO public.inventory_movements (id, store_id, product_id, movement_type, qty_delta, note, ref, happened_at, warehouse_id)
		SELECT md5('sold' || (i ->> 'item_id'))::uuid, store_id, (i ->> 'product_id')::uuid, 'sold', -(i ->> 'qty')::numeric,
			'Venta ' || (payload ->> 'sale_id'), jsonb_build_object('sale_id', payload -> 'sale_id', 'warehouse_id', md5('warehouse')::uuid),
			` + soldAt + `, md5('warehouse')::uuid
		FROM orphans CROSS JOIN jsonb_array_elements(payload -> 'items') AS i WHERE batch = $1`,
	`UPDATE public.warehouse_stock w SET stock = greatest(0, w.stock - n.qty), updated_at = now()
		FROM (SELECT (i ->> 'product_id')::uuid AS product_id, sum((i ->> 'qty')::numeric) AS qty
			FROM orphans CROSS JOIN jsonb_array_elements(payload -> 'items') AS i WHERE batch = $1 GROUP BY 1) n
		WHERE w.product_id = n.product_id AND w.warehouse_id = md5('warehouse')::uuid`,
	`UPDATE public.events SET projection_status = 'processed' WHERE event_id IN (SELECT event_id FROM orphans WHERE batch = $1)`,
}

// writeFloor makes n orphans and is how many of them bare statements write a second.
func (s *site) writeFloor(ctx context.Context, d *dataset, n int) (rate float64, err error) {
	if err := s.orphan(ctx, d, n); err != nil {
		return 0, err
	}
	const size = 500 // as many as the healer writes together
	_, err = s.admin.Exec(ctx, `CREATE TEMPORARY TABLE orphans ON COMMIT PRESERVE ROWS AS
		SELECT e.*, (row_number() OVER (ORDER BY e.created_at) - 1) / `+fmt.Sprint(size)+` AS batch FROM public.events e
		WHERE e.store_id = '`+shop.String()+`' AND e.type = 'SaleCreated' AND NOT EXISTS (SELECT FROM public.sales s WHERE s.id = (e.payload ->> 'sale_id')::uuid)`)
	if err == nil {
		_, err = s.admin.Exec(ctx, `ANALYZE orphans`)
	}
	if err != nil {
		return 0, fmt.Errorf("list orphans: %w", err)
	}
	wall, _, err := timed(func() error {
		for batch := range (n + size - 1) / size {
			err := pgx.BeginFunc(ctx, s.admin, func(tx pgx.Tx) error {
				for _, sql := range bareWrites {
					if _, err := tx.Exec(ctx, sql, batch); err != nil {
						return err
					}
				}
				return nil
			})
			if err != nil {
				return fmt.Errorf("write rows: %w", err)
			}
		}
		return nil
	})
	if err != nil {
		return 0, err
	}
	if _, err := s.admin.Exec(ctx, `DROP TABLE orphans`); err != nil {
		return 0, fmt.Errorf("drop list of orphans: %w", err)
	}
	err = s.locked(ctx, func(ctx context.Context, grant lock.Grant) error {
		checked, err := s.wholeRun(ctx, grant, nil)
		if err == nil && checked < n {
			err = fmt.Errorf("of %d sales written by bare statements %d are looked at", n, checked)
		}
		return err
	})
	return float64(n) / wall.Seconds(), err
}

// orphan inserts sales as if another device had just brought them: without an outbox
// entry, pending, past nothing, so that the dirty log has them. They were sold in nights
// of any season, at the shop's pace: then their slots hold nothing else, and there are as
// many movements about a sale's time as there are in the day.
func (s *site) orphan(ctx context.Context, d *dataset, n int) error {
	_, err := s.admin.Exec(ctx, `
		INSERT INTO public.events (event_id, store_id, device_id, seq, type, version, created_at, actor_user_id, actor_role, payload,
			received_at, vector_clock, delta_payload, request_id)
		SELECT gen_random_uuid(), $1, md5('device')::uuid, i, 'SaleCreated', 1, at, md5('actor')::uuid, 'cashier', said,
			now(), jsonb_build_object(md5('device')::uuid, i), said, request
		FROM generate_series(1, $2::bigint) AS i
		CROSS JOIN LATERAL (SELECT $3::timestamptz - i / 900 * interval '1 day' + (i % 900) * interval '45 s' AS at, md5($4 || i)::uuid AS request) a
		CROSS JOIN LATERAL (SELECT jsonb_build_object('sale_id', md5('sale' || request)::uuid, 'sold_at', (extract(epoch FROM at) * 1000)::bigint,
			'currency', 'BS', 'request_id', request, 'exchange_rate', 40, 'cash_session_id', md5('session0')::uuid,
			'payment', '{"method": "CASH_BS"}'::jsonb, 'totals', '{"total_bs": 150, "total_usd": 3.75, "discount_bs": 0,
				"subtotal_bs": 150, "discount_usd": 0, "subtotal_usd": 3.75}'::jsonb,
			'items', (SELECT jsonb_agg(jsonb_build_object('qty', line, 'item_id', md5('item' || line || request)::uuid,
					'product_id', md5('product' || (3 * i + line) % 3000)::uuid, 'discount_bs', 0, 'discount_usd', 0,
					'unit_price_bs', 50, 'unit_price_usd', 1.25)) FROM generate_series(1, 3) AS line)) AS said) c`,
		shop, n, d.end.AddDate(0, 0, -1-rand.IntN(d.days-n/900-2)), uuid.NewString())
	if err != nil {
		return fmt.Errorf("insert orphans: %w", err)
	}
	return nil
}
