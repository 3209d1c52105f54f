package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/jackc/pgx/v5"
)

// difference is a way in which two logs come apart. Events are taken away or added
// past the triggers, and only the slots they lie in are marked: neither side has
// evidence of a deletion, as after an outage or a restore.
type difference struct {
	name string
	make func(d *dataset) change
}

// change is what is done to one side: events that go, by their numbers in the log,
// or events that come, within the last hour.
type change struct {
	gone  []int64
	comes int
}

// differences that a comparison is measured on.
var differences = []difference{
	{"1", randomOld(1)},
	{"100", randomOld(100)},
	{"10000", randomOld(10_000)},
	{"hour100", func(*dataset) change { return change{comes: 100} }},
	{"outage10000", lastOnes(10_000)},
}

// randomOld takes n events away, from anywhere in the log but its last month.
func randomOld(n int) func(*dataset) change {
	return func(d *dataset) change {
		old := int64(d.n) * int64(d.days-30) / int64(d.days)
		c := change{gone: make([]int64, n)}
		for i := range c.gone {
			c.gone[i] = rand.Int64N(old)
		}
		return c
	}
}

// lastOnes takes the last n events away: an outage without a gap.
func lastOnes(n int) func(*dataset) change {
	return func(d *dataset) change {
		c := change{gone: make([]int64, n)}
		for i := range c.gone {
			c.gone[i] = int64(d.n - n + i)
		}
		return c
	}
}

// addedIDs are those of the $1 events that came.
const addedIDs = `SELECT md5('eventadded' || i)::uuid FROM generate_series(0, $1::int - 1) i`

// apply makes a change on one side; undo takes it back.
func (d *dataset) apply(ctx context.Context, database string, c change) (undo func(context.Context) error, err error) {
	undo = func(ctx context.Context) error {
		return d.past(ctx, database, func(tx pgx.Tx) error {
			_, err := tx.Exec(ctx, `
				WITH added AS (DELETE FROM public.events WHERE event_id IN (`+addedIDs+`) RETURNING store_id, created_at),
				back AS (INSERT INTO public.events TABLE bench_gone RETURNING store_id, created_at)
				INSERT INTO reconciled.dirty (store_id, slot, op)
				SELECT DISTINCT store_id, reconciled.slot(created_at), 'm'::"char" FROM (TABLE added UNION ALL TABLE back) changed`, c.comes)
			if err == nil {
				_, err = tx.Exec(ctx, `DROP TABLE bench_gone`)
			}
			return err
		})
	}
	err = d.past(ctx, database, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `CREATE TABLE bench_gone AS SELECT * FROM public.events e
			WHERE e.event_id IN (SELECT md5('event' || i)::uuid FROM unnest($1::bigint[]) i)`, c.gone); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, `DELETE FROM public.events e USING bench_gone g WHERE g.event_id = e.event_id`); err != nil {
			return err
		}
		hour := fmt.Sprintf(`timestamptz '%s' - i * interval '36 s'`, d.end.Format(time.RFC3339))
		if _, err := tx.Exec(ctx, d.insert(0, c.comes, "added", hour)); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, `INSERT INTO reconciled.dirty (store_id, slot, op)
			SELECT DISTINCT store_id, reconciled.slot(created_at), 'm'::"char"
			FROM (SELECT store_id, created_at FROM public.events WHERE event_id IN (`+addedIDs+`)
				UNION ALL SELECT store_id, created_at FROM bench_gone) changed`, c.comes)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("change %s: %w", database, err)
	}
	return undo, nil
}

// past runs work in a transaction that no trigger sees.
func (d *dataset) past(ctx context.Context, database string, work func(pgx.Tx) error) error {
	conn, err := pgx.Connect(ctx, d.server.URL("postgres", database))
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	return pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `SET LOCAL session_replication_role = replica`); err != nil {
			return err
		}
		return work(tx)
	})
}

// pair gives the store a central: a copy of its database, made once, with an
// installation of its own.
func (d *dataset) pair(ctx context.Context) error {
	there, err := d.find(ctx, centralDatabase)
	if err != nil || there {
		return err
	}
	const unfinished = "unfinished"
	if err := d.server.Exec(ctx, "postgres", `DROP DATABASE IF EXISTS `+unfinished); err != nil {
		return err
	}
	return errors.Join(
		d.server.CreateDatabase(ctx, unfinished, storeDatabase),
		d.server.Exec(ctx, unfinished, `UPDATE reconciled.installation SET id = gen_random_uuid()`),
		d.server.Exec(ctx, "postgres", `ALTER DATABASE `+unfinished+` RENAME TO `+centralDatabase))
}
