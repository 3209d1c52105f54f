package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// healedDatabase is a copy of the store's in which every event has its rows.
const healedDatabase = "healed"

// project makes that copy, if an earlier run has not kept it. It takes its name last:
// what is found is whole.
func (d *dataset) project(ctx context.Context) (err error) {
	found, err := d.find(ctx, healedDatabase)
	if err != nil || found {
		return err
	}
	const unfinished = "unfinished"
	if err := d.server.Exec(ctx, "postgres", `DROP DATABASE IF EXISTS `+unfinished); err != nil {
		return err
	}
	if err := d.server.CreateDatabase(ctx, unfinished, storeDatabase); err != nil {
		return err
	}
	conn, err := pgx.Connect(ctx, d.server.URL("postgres", unfinished))
	if err != nil {
		return fmt.Errorf("connect to project: %w", err)
	}
	err = project(ctx, conn)
	if err := errors.Join(err, conn.Close(context.WithoutCancel(ctx))); err != nil {
		return err
	}
	return d.server.Exec(ctx, "postgres", `ALTER DATABASE `+unfinished+` RENAME TO `+healedDatabase)
}

// readModels are filled from the log, parents first, as the healer would write them.
// Rows that no event of the log brings are what its payloads name: products, sessions,
// and the shop's one warehouse, where sales that name none are counted.
var readModels = []string{
	`INSERT INTO public.warehouses (id, store_id, name, code, is_default) VALUES (md5('warehouse')::uuid, $1, 'Bench', 'B', true)`,
	`INSERT INTO public.products (id, store_id, name, price_usd)
		SELECT md5('product' || i)::uuid, $1, 'Product ' || i, 1.25 FROM generate_series(0, 2999) AS i`,
	`INSERT INTO public.cash_sessions (id, store_id, opened_by, opened_at)
		SELECT (payload ->> 'cash_session_id')::uuid, $1, md5('actor')::uuid, min(created_at) FROM public.events
		WHERE store_id = $1 AND type = 'SaleCreated' GROUP BY 1`,
	`INSERT INTO public.sales (id, store_id, cash_session_id, sold_at, exchange_rate, currency, totals, payment, sold_by_user_id)
		SELECT (payload ->> 'sale_id')::uuid, $1, (payload ->> 'cash_session_id')::uuid, ` + soldAt + `, (payload ->> 'exchange_rate')::numeric,
			payload ->> 'currency', payload -> 'totals', payload -> 'payment', actor_user_id
		FROM public.events WHERE store_id = $1 AND type = 'SaleCreated'`,
	`INSERT INTO public.sale_items (id, sale_id, product_id, qty, unit_price_bs, unit_price_usd, discount_bs, discount_usd)
		SELECT (i ->> 'item_id')::uuid, (payload ->> 'sale_id')::uuid, (i ->> 'product_id')::uuid, (i ->> 'qty')::numeric,
			(i ->> 'unit_price_bs')::numeric, (i ->> 'unit_price_usd')::numeric, (i ->> 'discount_bs')::numeric, (i ->> 'discount_usd')::numeric
		FROM public.events CROSS JOIN jsonb_array_elements(payload -> 'items') AS i
		WHERE store_id = $1 AND type = 'SaleCreated'`,
	`INSERT INTO public.inventory_movements (id, store_id, product_id, movement_type, qty_delta, note, ref, happened_at, warehouse_id)
		SELECT md5('sold' || (i ->> 'item_id'))::uuid, $1, (i ->> 'product_id')::uuid, 'sold', -(i ->> 'qty')::numeric, 'Venta ' || (payload ->> 'sale_id'),
			jsonb_build_object('sale_id', payload -> 'sale_id', 'warehouse_id', md5('warehouse')::uuid), ` + soldAt + `, md5('warehouse')::uuid
		FROM public.events CROSS JOIN jsonb_array_elements(payload -> 'items') AS i
		WHERE store_id = $1 AND type = 'SaleCreated'`,
	`INSERT INTO public.inventory_movements (id, store_id, product_id, movement_type, qty_delta, unit_cost_bs, unit_cost_usd, happened_at, warehouse_id)
		SELECT (payload ->> 'movement_id')::uuid, $1, (payload ->> 'product_id')::uuid, 'received', (payload ->> 'qty')::numeric,
			(payload ->> 'unit_cost_bs')::numeric, (payload ->> 'unit_cost_usd')::numeric, created_at, (payload ->> 'warehouse_id')::uuid
		FROM public.events WHERE store_id = $1 AND type = 'StockReceived'`,
	`INSERT INTO public.warehouse_stock (warehouse_id, product_id, stock)
		SELECT warehouse_id, product_id, greatest(0, sum(qty_delta)) FROM public.inventory_movements WHERE store_id = $1 GROUP BY 1, 2`,
}

const soldAt = `timestamptz 'epoch' + (payload ->> 'sold_at')::bigint * interval '1 ms'`

// project fills the read models past all triggers, and builds the indexes of the
// large ones afterwards.
func project(ctx context.Context, conn *pgx.Conn) error {
	rows, err := conn.Query(ctx, `SELECT i.indexrelid::regclass::text, pg_get_indexdef(i.indexrelid) FROM pg_index i
		WHERE i.indrelid = ANY('{sales,sale_items,inventory_movements}'::regclass[]) AND NOT i.indisprimary`)
	if err != nil {
		return fmt.Errorf("list indexes: %w", err)
	}
	indexes, err := pgx.CollectRows(rows, pgx.RowToStructByPos[struct{ Name, Definition string }])
	if err != nil {
		return fmt.Errorf("list indexes: %w", err)
	}
	exec := func(sql string, args ...any) {
		if err == nil {
			_, err = conn.Exec(ctx, sql, args...)
		}
	}
	exec(`SET session_replication_role = replica`)
	exec(`SET maintenance_work_mem = '1GB'`)
	for _, index := range indexes {
		exec(`DROP INDEX ` + index.Name)
	}
	exec(`INSERT INTO public.profiles (id, full_name) VALUES (md5('actor')::uuid, 'Bench')`)
	for _, fill := range readModels {
		exec(fill, shop)
	}
	for _, index := range indexes {
		exec(index.Definition)
	}
	exec(`RESET session_replication_role`)
	exec(`VACUUM ANALYZE`)
	exec(`CHECKPOINT`)
	if err != nil {
		return fmt.Errorf("fill read models: %w", err)
	}
	return nil
}
