package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/veloxpos/reconciled/internal/stage"
	"github.com/veloxpos/reconciled/internal/testkit"
)

// Names of the two databases: the second is a copy of the first.
const (
	storeDatabase   = "store"
	centralDatabase = "central"
)

var shop = uuid.MustParse("11111111-1111-4111-8111-111111111111")

// dataset is a shop's event log: n events since its opening, each trading day from
// 8:00 to 20:00 alike. Two of three are sales; contents stand
// in payload and in delta_payload, as the POS writes them.
type dataset struct {
	server  *testkit.Postgres
	n       int
	days    int
	end     time.Time // of the last trading day
	content int       // bytes, on average
}

// daysFor keeps a shop's pace near the sites' own: a million events take two years,
// ten million eight.
func daysFor(n int) int {
	if n > 3_000_000 {
		return 8 * 365
	}
	return 2 * 365
}

// open fills a server, or takes the one that an earlier run has kept in dir.
func open(ctx context.Context, n int, dir string) (_ *dataset, err error) {
	if dir != "" {
		dir = filepath.Join(dir, strconv.Itoa(n))
	}
	server, err := testkit.StartPostgres(ctx, testkit.PostgresOptions{Dir: dir, Settings: map[string]string{
		"fsync": "on", "synchronous_commit": "on", "full_page_writes": "on",
		"shared_buffers": "4GB", "max_wal_size": "16GB", "checkpoint_timeout": "1h", "autovacuum": "off",
	}})
	if err != nil {
		return nil, err
	}
	d := &dataset{server: server, n: n, days: daysFor(n)}
	defer func() {
		if err != nil {
			err = errors.Join(err, server.Close())
		}
	}()
	filled, err := d.find(ctx, storeDatabase)
	if err != nil {
		return nil, err
	}
	if !filled {
		if err := d.fill(ctx); err != nil {
			return nil, err
		}
	}
	return d, d.look(ctx)
}

// close stops the server in good order, so that a kept one starts again at once.
func (d *dataset) close(ctx context.Context) error {
	return errors.Join(d.server.Stop(ctx), d.server.Close())
}

// find reports whether a database is there.
func (d *dataset) find(ctx context.Context, database string) (found bool, err error) {
	conn, err := pgx.Connect(ctx, d.server.URL("postgres", "postgres"))
	if err != nil {
		return false, fmt.Errorf("look for a filled database: %w", err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	if err := conn.QueryRow(ctx, `SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)`, database).Scan(&found); err != nil {
		return false, fmt.Errorf("look for a filled database: %w", err)
	}
	return found, nil
}

// look reads what the figures say of the data.
func (d *dataset) look(ctx context.Context) error {
	conn, err := pgx.Connect(ctx, d.server.URL("postgres", storeDatabase))
	if err != nil {
		return fmt.Errorf("look at the data: %w", err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	err = conn.QueryRow(ctx, `SELECT (SELECT avg(octet_length(payload::text)) FROM (SELECT payload FROM events LIMIT 10000) p)::int,
		(SELECT max(created_at) FROM events WHERE store_id = $1)`, shop).Scan(&d.content, &d.end)
	if err != nil {
		return fmt.Errorf("look at the data: %w", err)
	}
	return nil
}

// fill makes the store's database as a site has it and writes the log past the
// capture triggers, as it stands on the day reconciled is installed. It takes its
// name last: what is found is whole.
func (d *dataset) fill(ctx context.Context) error {
	const unfinished = "unfinished"
	d.end = time.Now().UTC().Truncate(24 * time.Hour).Add(-4 * time.Hour)
	if err := d.server.Exec(ctx, "postgres", `DROP DATABASE IF EXISTS `+unfinished); err != nil {
		return err
	}
	if err := stage.Prepare(ctx, d.server, unfinished); err != nil {
		return err
	}
	if err := d.load(ctx, unfinished); err != nil {
		return err
	}
	return d.server.Exec(ctx, "postgres", `ALTER DATABASE `+unfinished+` RENAME TO `+storeDatabase)
}

// load inserts in the order of time, and builds the indexes afterwards: a tenth of
// the time that keeping them up to date takes.
func (d *dataset) load(ctx context.Context, database string) error {
	conn, err := pgx.Connect(ctx, d.server.URL("postgres", database))
	if err != nil {
		return fmt.Errorf("connect to fill: %w", err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	if _, err := conn.Exec(ctx, `INSERT INTO stores (id, name) VALUES ($1, 'Bench')`, shop); err != nil {
		return fmt.Errorf("make store: %w", err)
	}
	rows, err := conn.Query(ctx, `SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = 'public' AND tablename = 'events' AND indexname <> 'events_pkey'`)
	if err != nil {
		return fmt.Errorf("list indexes: %w", err)
	}
	indexes, err := pgx.CollectRows(rows, pgx.RowToStructByPos[struct{ Name, Definition string }])
	if err != nil {
		return fmt.Errorf("list indexes: %w", err)
	}
	steps := []string{`SET session_replication_role = replica`, `SET maintenance_work_mem = '1GB'`}
	for _, index := range indexes {
		steps = append(steps, `DROP INDEX public.`+pgx.Identifier{index.Name}.Sanitize())
	}
	const piece = 100_000
	for from := 0; from < d.n; from += piece {
		steps = append(steps, d.insert(from, min(from+piece, d.n), "", d.at()))
	}
	for _, index := range indexes {
		steps = append(steps, index.Definition)
	}
	for _, step := range append(steps, `RESET session_replication_role`, `VACUUM ANALYZE events`, `CHECKPOINT`) {
		if _, err := conn.Exec(ctx, step); err != nil {
			return fmt.Errorf("fill: %w", err)
		}
	}
	return nil
}

// insert is the statement that writes events from to before to of the log, at the
// times that an expression over the number i gives. Ids come of the number and the
// salt alone, so that any part can be named or made again.
func (d *dataset) insert(from, to int, salt, at string) string {
	return fmt.Sprintf(`
		INSERT INTO public.events (event_id, store_id, device_id, seq, type, version, created_at, actor_user_id, actor_role, payload,
			received_at, vector_clock, delta_payload, full_payload_hash, request_id, projection_status)
		SELECT md5('event%[5]s' || i)::uuid, '%[1]s', md5('device' || i %% 4)::uuid, i / 4,
			CASE WHEN sale THEN 'SaleCreated' ELSE 'StockReceived' END, 1, at, md5('actor')::uuid, 'cashier', said,
			at + interval '1 s', jsonb_build_object(md5('device' || i %% 4), i / 4), said, encode(sha256(int8send(i)), 'hex'),
			CASE WHEN sale THEN md5('request%[5]s' || i)::uuid END, 'processed'
		FROM generate_series(%[2]d::bigint, %[3]d - 1) AS i
		CROSS JOIN LATERAL (SELECT i %% 3 <> 0 AS sale, %[4]s AS at) a
		CROSS JOIN LATERAL (SELECT (CASE WHEN sale THEN format('{"items": [{"qty": %%s, "item_id": "%%s", "product_id": "%%s", "discount_bs": 0,
				"discount_usd": 0, "unit_price_bs": %%s, "unit_price_usd": 1.25}], "totals": {"total_bs": %%s, "total_usd": 2, "discount_bs": 0,
				"subtotal_bs": %%s, "discount_usd": 0, "subtotal_usd": 2}, "payment": {"method": "CASH_BS"}, "sale_id": "%%s", "sold_at": %%s,
				"currency": "BS", "request_id": "%%s", "exchange_rate": 40, "cash_session_id": "%%s"}',
				1 + i %% 5, md5('item' || i)::uuid, md5('product' || i %% 3000)::uuid, i %% 900, i %% 4000, i %% 4000, md5('sale' || i)::uuid,
				(extract(epoch FROM at) * 1000)::bigint, md5('request%[5]s' || i)::uuid, md5('session' || i / 700)::uuid)
			ELSE format('{"qty": %%s, "movement_id": "%%s", "product_id": "%%s", "warehouse_id": "%%s", "unit_cost_bs": %%s, "unit_cost_usd": 0.5}',
				i %% 50, md5('movement' || i)::uuid, md5('product' || i %% 3000)::uuid, md5('warehouse')::uuid, i %% 500) END)::jsonb AS said) s`,
		shop, from, to, at, salt)
}

// tradingDay is the time between opening and close, in milliseconds.
const tradingDay = 12 * 3600 * 1000

// at is an event's time in SQL: the log's number i laid over all trading hours.
func (d *dataset) at() string {
	opening := d.end.Add(-12*time.Hour).AddDate(0, 0, 1-d.days)
	return fmt.Sprintf(`timestamptz '%s' + (i * %[2]d * %[3]d / %[4]d / %[3]d) * interval '1 day' + (i * %[2]d * %[3]d / %[4]d %% %[3]d) * interval '1 ms'`,
		opening.Format(time.RFC3339), d.days, tradingDay, d.n)
}
