package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/veloxpos/reconciled/merkle/reconcile"
)

// measureWalk is what finding differences costs: bytes of HTTP bodies in both
// directions but for the events themselves, and round trips until the first of them
// is on its way: half the number of messages before the one that carries it.
func measureWalk(ctx context.Context, d *dataset, f *figures) error {
	t, err := d.twins(ctx, nil)
	if err != nil {
		return err
	}
	defer t.close()
	for _, difference := range differences {
		repeats := 9
		if difference.name == "random10k" || difference.name == "cluster10k" || difference.name == "outage10k" {
			repeats = 3
		}
		var bytes, heads, trips []float64
		for range repeats {
			c, err := t.apart(ctx, d, difference)
			if err != nil {
				return fmt.Errorf("%s: %w", difference.name, err)
			}
			bytes, heads, trips = append(bytes, float64(c.bytes)), append(heads, float64(c.heads)), append(trips, float64(c.legs)/2)
		}
		name := "merkle." + difference.name
		f.add(name+".bytes", median(bytes), "B")
		f.add(name+".head_bytes", median(heads), "B")
		f.add(name+".rtt", median(trips), "trips")
	}
	if err := measureIdentical(ctx, d, t, f); err != nil {
		return err
	}
	return measureAnchor(ctx, d, t, f)
}

// apart makes a difference, finds it, and takes it back.
func (t *twins) apart(ctx context.Context, d *dataset, difference difference) (c comparison, err error) {
	mend, err := d.apply(ctx, difference)
	if err != nil {
		return c, err
	}
	defer func() { err = errors.Join(err, mend(ctx)) }()
	return t.compare(ctx)
}

// measureIdentical is the CPU of a comparison that finds nothing: a half of this
// process's, which is both sides, and a half of the Postgres servers'.
func measureIdentical(ctx context.Context, d *dataset, t *twins, f *figures) error {
	const repeats = 300
	if _, err := t.compare(ctx); err != nil { // what was mended is in the tree now
		return err
	}
	c, err := d.compare(ctx, func(ctx context.Context, _, _ *pgx.Conn, _ *cost) error {
		for range repeats {
			if c, err := t.compare(ctx); err != nil || c.messages != 2 {
				return errors.Join(err, fmt.Errorf("%d messages, want 2", c.messages))
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	micros := func(cpu time.Duration) float64 { return cpu.Seconds() * 1e6 / repeats / 2 }
	f.add("merkle.identical.cpu_us", micros(c.process), "us")
	f.add("merkle.identical.server_cpu_us", micros(c.servers), "us")
	return nil
}

// measureAnchor is a round in which only the store has new events since both sides
// agreed.
func measureAnchor(ctx context.Context, d *dataset, t *twins, f *figures) (err error) {
	if _, _, err := t.round(ctx); err != nil {
		return err
	}
	if _, err := d.apply(ctx, named("identical")); err != nil { // so that there is something to mend
		return err
	}
	defer func() { err = errors.Join(err, d.mend(ctx, storeDatabase), d.mend(ctx, centralDatabase)) }()
	conn, err := pgx.Connect(ctx, d.server.URL("velox", storeDatabase))
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	var trips, bytes []float64
	for i := range 5 {
		hour := fmt.Sprintf(`timestamptz '%s' - i * interval '1 second'`, d.end.Format(time.RFC3339))
		if _, err := conn.Exec(ctx, d.insert(100*i, 100*(i+1), "added", hour)); err != nil {
			return err
		}
		if _, err := conn.Exec(ctx, `UPDATE events SET received_at = now() WHERE event_id IN (`+addedIDs+`)`, 100*(i+1)); err != nil {
			return err
		}
		report, calls, err := t.round(ctx)
		if err != nil || report.Pushed[reconcile.Stored] != 100 {
			return errors.Join(err, fmt.Errorf("pushed %v, want 100 new events", report.Pushed))
		}
		legs, size := 0, int64(0)
		for _, c := range calls {
			if c.name == "push" {
				break
			}
			legs, size = legs+2, size+c.up+c.down
		}
		trips, bytes = append(trips, float64(legs)/2), append(bytes, float64(size))
	}
	f.add("merkle.anchor.rtt", median(trips), "trips")
	f.add("merkle.anchor.bytes", median(bytes), "B")
	return nil
}
