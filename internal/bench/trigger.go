package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"
)

const (
	triggerPairs   = 15
	triggerClients = 4
	triggerWindow  = time.Second
)

// measureTrigger is what capture costs the shop: events that four tills insert a
// second, each with the backend's later update of its status, with the triggers as
// a part of the rate without them. Windows of either kind take turns, so that the
// machine's other work weighs on both.
func measureTrigger(ctx context.Context, d *dataset, f *figures) (err error) {
	conn, err := pgx.Connect(ctx, d.server.URL("postgres", storeDatabase))
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	defer func() {
		if cleared := clearTills(context.WithoutCancel(ctx), conn); err == nil {
			err = cleared
		}
	}()
	tills := make([]*pgx.Conn, triggerClients)
	for i := range tills {
		if tills[i], err = pgx.Connect(ctx, d.server.URL("velox", storeDatabase)); err != nil {
			return err
		}
		defer tills[i].Close(context.WithoutCancel(ctx))
	}
	for _, sync := range []string{"on", "off"} {
		for _, till := range tills {
			if _, err := till.Exec(ctx, `SET synchronous_commit = `+sync); err != nil {
				return err
			}
		}
		if _, err := trade(ctx, conn, tills, "ENABLE"); err != nil { // warm up
			return err
		}
		var ratios, rates []float64
		for pair := range triggerPairs {
			order := []string{"ENABLE", "DISABLE"}
			if pair%2 == 1 {
				order[0], order[1] = order[1], order[0]
			}
			rate := map[string]float64{}
			for _, state := range order {
				if rate[state], err = trade(ctx, conn, tills, state); err != nil {
					return err
				}
			}
			ratios, rates = append(ratios, rate["ENABLE"]/rate["DISABLE"]), append(rates, rate["ENABLE"])
		}
		f.add("merkle.trigger.rate_ratio_sync_"+sync, median(ratios), "x")
		f.add("merkle.trigger.rate_sync_"+sync, median(rates), "events/s")
	}
	return nil
}

// trade is a window's rate, with the triggers enabled or disabled. What earlier
// windows left is cleared first, for either kind alike.
func trade(ctx context.Context, conn *pgx.Conn, tills []*pgx.Conn, state string) (float64, error) {
	for _, step := range []string{
		`TRUNCATE reconciled.dirty`,
		`SELECT gin_clean_pending_list(indexrelid) FROM pg_index JOIN pg_class c ON c.oid = indexrelid JOIN pg_am a ON a.oid = c.relam
			WHERE indrelid = 'public.events'::regclass AND amname = 'gin'`,
		`ALTER TABLE public.events ` + state + ` TRIGGER reconciled_insert, ` + state + ` TRIGGER reconciled_update`,
	} {
		if _, err := conn.Exec(ctx, step); err != nil {
			return 0, err
		}
	}
	var sold atomic.Int64
	all, ctx := errgroup.WithContext(ctx)
	start := time.Now()
	for _, till := range tills {
		all.Go(func() error {
			for time.Since(start) < triggerWindow {
				if err := sell(ctx, till); err != nil {
					return err
				}
				sold.Add(1)
			}
			return nil
		})
	}
	err := all.Wait()
	return float64(sold.Load()) / time.Since(start).Seconds(), err
}

// sell is one event, as the backend writes it: the insert, and after projection the
// update of its status, each in a transaction of its own.
func sell(ctx context.Context, till *pgx.Conn) error {
	var id [16]byte
	err := till.QueryRow(ctx, `
		INSERT INTO public.events (event_id, store_id, device_id, seq, type, version, created_at, actor_role, payload, vector_clock, delta_payload, request_id, full_payload_hash)
		SELECT gen_random_uuid(), store_id, device_id, seq, type, version, date_trunc('milliseconds', clock_timestamp()), 'bench', payload, vector_clock, delta_payload,
			gen_random_uuid(), full_payload_hash FROM public.events WHERE event_id = md5('event' || $1::int)::uuid
		RETURNING event_id`, rand.IntN(10_000)).Scan(&id)
	if err != nil {
		return fmt.Errorf("insert event: %w", err)
	}
	if _, err := till.Exec(ctx, `UPDATE public.events SET projection_status = 'processed' WHERE event_id = $1`, id); err != nil {
		return fmt.Errorf("update status: %w", err)
	}
	return nil
}

// clearTills leaves the log as it was.
func clearTills(ctx context.Context, conn *pgx.Conn) error {
	for _, step := range []string{
		`ALTER TABLE public.events ENABLE TRIGGER reconciled_insert, ENABLE TRIGGER reconciled_update`,
		`SET session_replication_role = replica`,
		`DELETE FROM public.events WHERE store_id = '` + shop.String() + `' AND created_at > now() - interval '1 day' AND actor_role = 'bench'`,
		`RESET session_replication_role`,
		`TRUNCATE reconciled.dirty`,
		`VACUUM ANALYZE public.events`,
	} {
		if _, err := conn.Exec(ctx, step); err != nil {
			return fmt.Errorf("clear the tills' events: %w", err)
		}
	}
	return nil
}
