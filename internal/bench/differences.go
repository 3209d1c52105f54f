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
	make func(d *dataset) (store, central change)
}

// change is what is done to one side: events that go, by their numbers in the log,
// or events that come, within the last hour, by theirs.
type change struct {
	gone       []int64
	from, upto int
}

// differences that a comparison is measured on. But for the outage, half of them
// are missing on either side.
var differences = []difference{
	{"identical", func(*dataset) (store, central change) { return }},
	{"random1", randomOld(1)},
	{"random100", randomOld(100)},
	{"random10k", randomOld(10_000)},
	{"cluster10k", func(*dataset) (store, central change) {
		return change{from: 0, upto: 5000}, change{from: 5000, upto: 10_000}
	}},
	{"outage10k", lastOnes(10_000)},
}

// randomOld takes n events away, from anywhere in the log but its last month.
func randomOld(n int) func(*dataset) (store, central change) {
	return func(d *dataset) (store, central change) {
		old := int64(d.n) * int64(d.days-30) / int64(d.days)
		chosen := map[int64]bool{}
		for len(chosen) < n {
			chosen[rand.Int64N(old)] = true
		}
		for i := range chosen {
			if len(store.gone) < n/2 {
				store.gone = append(store.gone, i)
			} else {
				central.gone = append(central.gone, i)
			}
		}
		if n == 1 && rand.IntN(2) == 0 {
			store, central = central, store
		}
		return store, central
	}
}

// lastOnes takes the last n events from central: an outage without a gap.
func lastOnes(n int) func(*dataset) (store, central change) {
	return func(d *dataset) (store, central change) {
		for i := range n {
			central.gone = append(central.gone, int64(d.n-n+i))
		}
		return store, central
	}
}

// hourful is how many events can come within the last hour.
const hourful = 10_000

const (
	addedIDs = `SELECT md5('eventadded' || i)::uuid FROM generate_series(0, $1::int - 1) i`
	mark     = `INSERT INTO reconciled.dirty (store_id, slot, op) SELECT DISTINCT store_id, reconciled.slot(created_at), 'm'::"char" FROM changed`
)

// apply makes a difference on both sides. mend takes it back, whatever has been
// exchanged meanwhile, and makes both sides forget that they ever agreed.
func (d *dataset) apply(ctx context.Context, apart difference) (mend func(context.Context) error, err error) {
	store, central := apart.make(d)
	mend = func(ctx context.Context) error {
		return errors.Join(d.mend(ctx, storeDatabase), d.mend(ctx, centralDatabase))
	}
	return mend, errors.Join(d.change(ctx, storeDatabase, store), d.change(ctx, centralDatabase, central))
}

func (d *dataset) mend(ctx context.Context, database string) error {
	return d.past(ctx, database, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `WITH changed AS (DELETE FROM public.events WHERE event_id IN (`+addedIDs+`) RETURNING store_id, created_at) `+mark, hourful)
		if err != nil {
			return err
		}
		_, err = tx.Exec(ctx, `
			WITH changed AS (INSERT INTO public.events TABLE bench_gone ON CONFLICT DO NOTHING RETURNING store_id, created_at) `+mark+`;
			DROP TABLE bench_gone;
			DELETE FROM reconciled.peer; DELETE FROM reconciled.witness; DELETE FROM reconciled.exception;
			DELETE FROM reconciled.worklist; TRUNCATE outbox_entries`)
		return err
	})
}

func (d *dataset) change(ctx context.Context, database string, c change) error {
	err := d.past(ctx, database, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `CREATE TABLE bench_gone AS SELECT * FROM public.events e
			WHERE e.event_id IN (SELECT md5('event' || i)::uuid FROM unnest($1::bigint[]) i)`, c.gone); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, `WITH changed AS (DELETE FROM public.events e USING bench_gone g WHERE g.event_id = e.event_id
			RETURNING e.store_id, e.created_at) `+mark); err != nil {
			return err
		}
		hour := fmt.Sprintf(`timestamptz '%s' - i * interval '1 hour' / %d`, d.end.Format(time.RFC3339), hourful)
		if _, err := tx.Exec(ctx, d.insert(c.from, c.upto, "added", hour)); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, `WITH changed AS (SELECT store_id, created_at FROM public.events WHERE event_id IN (`+addedIDs+`)) `+mark, hourful)
		return err
	})
	if err != nil {
		return fmt.Errorf("change %s: %w", database, err)
	}
	return nil
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
