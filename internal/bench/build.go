package main

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"

	"github.com/jackc/pgx/v5"

	"github.com/veloxpos/reconciled/internal/postgres"
)

const (
	builds  = 3  // each beside a floor
	redos   = 5  // of a thousand leaves
	reloads = 15 // of the tree, as after a restart
)

// floorSQL reads what a build reads, in the order of a build, to nowhere.
const floorSQL = `COPY (SELECT event_id, created_at, device_id, seq, type, version, coalesce(nullif(delta_payload, '{}'), payload)
	FROM public.events WHERE store_id = '%s' ORDER BY created_at) TO STDOUT (FORMAT binary)`

// measureBuild is the tree's life: built over a log that was there before, some
// leaves recomputed, loaded after a restart.
func measureBuild(ctx context.Context, d *dataset, f *figures) error {
	conn, err := pgx.Connect(ctx, d.server.URL("postgres", storeDatabase))
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	db, err := postgres.Open(ctx, d.server.URL("reconciled_runtime", storeDatabase), postgres.Options{})
	if err != nil {
		return err
	}
	defer db.Close()

	var cpu, ratio []float64
	for range builds {
		floor, _, err := timed(func() error {
			_, err := conn.PgConn().CopyTo(ctx, io.Discard, fmt.Sprintf(floorSQL, shop))
			return err
		})
		if err != nil {
			return err
		}
		if err := forget(ctx, conn); err != nil {
			return err
		}
		wall, used, err := timed(func() error { return pin(ctx, postgres.NewLog(db)) })
		if err != nil {
			return err
		}
		cpu, ratio = append(cpu, used.Seconds()*1e6/float64(d.n)), append(ratio, wall.Seconds()/floor.Seconds())
	}
	f.add("merkle.build.cpu_us_per_row", median(cpu), "us")
	f.add("merkle.build.floor_ratio", median(ratio), "x")

	log := postgres.NewLog(db)
	if err := pin(ctx, log); err != nil {
		return err
	}
	var leaves int
	if err := conn.QueryRow(ctx, `SELECT count(*) FROM reconciled.leaf`).Scan(&leaves); err != nil {
		return err
	}
	f.add("merkle.leaves", float64(leaves), "leaves")
	if err := measureDirty(ctx, conn, log, f); err != nil {
		return err
	}
	return measureRestart(ctx, conn, db, f)
}

// forget takes the store's tree away, as if reconciled had just been installed.
func forget(ctx context.Context, conn *pgx.Conn) error {
	_, err := conn.Exec(ctx, `TRUNCATE reconciled.leaf, reconciled.root, reconciled.dirty, reconciled.worklist`)
	return err
}

func pin(ctx context.Context, log *postgres.Log) error {
	_, err := log.Pin(ctx, shop)
	return err
}

// measureDirty recomputes a thousand random leaves.
func measureDirty(ctx context.Context, conn *pgx.Conn, log *postgres.Log, f *figures) error {
	var took []float64
	for range redos {
		_, err := conn.Exec(ctx, `INSERT INTO reconciled.dirty (store_id, slot, op)
			SELECT store_id, slot, 'm' FROM reconciled.leaf ORDER BY sha256(int8send(slot + $1)) LIMIT 1000`, rand.Int64N(1e9))
		if err != nil {
			return err
		}
		wall, _, err := timed(func() error { return pin(ctx, log) })
		if err != nil {
			return err
		}
		took = append(took, wall.Seconds()*1000)
	}
	f.add("merkle.dirty1000.ms", median(took), "ms")
	return nil
}

// measureRestart loads the tree into a process that has none.
func measureRestart(ctx context.Context, conn *pgx.Conn, db *postgres.DB, f *figures) error {
	if _, err := conn.Exec(ctx, `VACUUM ANALYZE reconciled.leaf`); err != nil {
		return err
	}
	var took []float64
	for range reloads {
		wall, _, err := timed(func() error { return pin(ctx, postgres.NewLog(db)) })
		if err != nil {
			return err
		}
		took = append(took, wall.Seconds()*1000)
	}
	f.add("merkle.restart.ms", median(took), "ms")
	return nil
}
