package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/veloxpos/reconciled/healer"
	"github.com/veloxpos/reconciled/internal/postgres"
	"github.com/veloxpos/reconciled/lock"
)

const (
	sifts      = 3  // full passes, each beside a floor and a scan
	idleWarmUp = 20 // passes with nothing to do, before they count
	idleGroups = 11 // medians are taken of
	idlePasses = 20 // passes in a group: the servers' CPU is known to 10 ms only

	thoroughFor = 2 * time.Minute // of comparing value by value, which takes longer
)

// measureHeal is what keeping the read models true costs, in a copy of the store in
// which they are whole.
func measureHeal(ctx context.Context, d *dataset, f *figures) error {
	if err := d.project(ctx); err != nil {
		return err
	}
	s, err := d.site(ctx, healedDatabase, healer.Options{})
	if err != nil {
		return err
	}
	defer s.close()
	if err := s.settle(ctx); err != nil {
		return err
	}
	for _, measure := range []func(context.Context, *dataset, *figures) error{
		s.measureIdle, s.measureFull, s.measureRate, s.measureThorough,
	} {
		if err := measure(ctx, d, f); err != nil {
			return err
		}
	}
	return measureHealMemory(ctx, d, f)
}

// site is a database as a daemon holds it, without Redis.
type site struct {
	admin   *pgx.Conn
	db      *postgres.DB
	log     *postgres.Log
	healing *postgres.Healing
	healer  *healer.Healer
	locker  *lock.Locker
}

func (d *dataset) site(ctx context.Context, database string, opts healer.Options) (*site, error) {
	admin, err := pgx.Connect(ctx, d.server.URL("postgres", database))
	if err != nil {
		return nil, err
	}
	db, err := postgres.Open(ctx, d.server.URL("reconciled_runtime", database), postgres.Options{})
	if err != nil {
		return nil, errors.Join(err, admin.Close(ctx))
	}
	s := &site{admin: admin, db: db, log: postgres.NewLog(db), healing: postgres.NewHealing(db)}
	s.healer = healer.New(s.healing, opts)
	s.locker = lock.New(nil, postgres.NewFence(db), lock.Options{})
	return s, nil
}

func (s *site) close() {
	s.db.Close()
	_ = s.admin.Close(context.Background()) // the server ends it at the latest
}

// settle does what is a matter of the first run: the tree and the stock's baseline are
// made, and the slots that are on the list for having no leaf before are taken off it.
func (s *site) settle(ctx context.Context) error {
	if err := s.locked(ctx, s.healing.DrainStock); err != nil {
		return err
	}
	_, err := s.admin.Exec(ctx, `DELETE FROM reconciled.worklist`)
	return err
}

// locked runs work under the store's lock, with the tree brought up to date, as the
// daemon's tasks do.
func (s *site) locked(ctx context.Context, work func(context.Context, lock.Grant) error) error {
	return s.locker.Do(ctx, lock.Request{Store: shop, Run: uuid.New(), Owner: "bench"}, func(ctx context.Context, grant lock.Grant) error {
		if err := pin(ctx, s.log); err != nil {
			return err
		}
		return work(ctx, grant)
	})
}

// wholeRun is a run that must find everything projected, and the number of events that
// it looked at until stop.
func (s *site) wholeRun(ctx context.Context, grant lock.Grant, stop func() bool) (checked int, err error) {
	report, err := s.healer.Run(ctx, grant, stop)
	want := healer.Counts{Checked: report.Checked}
	switch {
	case err != nil && !errors.Is(err, lock.ErrGaveWay):
		return 0, err
	case report.Counts != want:
		return 0, fmt.Errorf("the read models are not whole: %+v", report.Counts)
	}
	return report.Checked, nil
}

// idle is a run that must have nothing to look at.
func (s *site) idle(ctx context.Context, grant lock.Grant) error {
	checked, err := s.wholeRun(ctx, grant, nil)
	if err == nil && checked > 0 {
		err = fmt.Errorf("looked at %d events, want none", checked)
	}
	return err
}

// floor is how long a client takes to read every column of the log.
func (s *site) floor(ctx context.Context) (time.Duration, error) {
	wall, _, err := timed(func() error {
		_, err := s.admin.PgConn().CopyTo(ctx, io.Discard, `COPY public.events TO STDOUT (FORMAT binary)`)
		return err
	})
	return wall, err
}

// scan is how long the server alone takes to read them.
func (s *site) scan(ctx context.Context) (time.Duration, error) {
	wall, _, err := timed(func() error {
		_, err := s.admin.Exec(ctx, `SELECT count(*), sum(octet_length(payload::text)) FROM public.events`)
		return err
	})
	return wall, err
}

// measureFull is the daemon's own full pass: it sifts the whole log, and heals what
// falls through, which is nothing.
func (s *site) measureFull(ctx context.Context, _ *dataset, f *figures) error {
	var passes, floors, ratios, scanRatios []float64
	for range sifts {
		floor, err := s.floor(ctx)
		if err != nil {
			return err
		}
		scan, err := s.scan(ctx)
		if err != nil {
			return err
		}
		wall, _, err := timed(func() error {
			return s.locked(ctx, func(ctx context.Context, grant lock.Grant) error {
				suspects, err := s.healer.Sift(ctx, grant, nil)
				if err != nil {
					return err
				}
				if suspects > 0 {
					return fmt.Errorf("%d slots of whole read models are suspect, want none", suspects)
				}
				return s.idle(ctx, grant)
			})
		})
		if err != nil {
			return err
		}
		passes, floors = append(passes, wall.Seconds()), append(floors, floor.Seconds())
		ratios, scanRatios = append(ratios, wall.Seconds()/floor.Seconds()), append(scanRatios, wall.Seconds()/scan.Seconds())
	}
	f.add("heal.full.s", median(passes), "s")
	f.add("heal.floor.s", median(floors), "s")
	f.add("heal.full.floor_ratio", median(ratios), "x")
	f.add("heal.full.scan_ratio", median(scanRatios), "x")
	return nil
}

// measureIdle is the CPU of each minute's pass, of this process and of the server,
// when nothing has changed.
func (s *site) measureIdle(ctx context.Context, _ *dataset, f *figures) error {
	passes := func(n int) error {
		for range n {
			if err := s.locked(ctx, s.idle); err != nil {
				return err
			}
		}
		return nil
	}
	if err := passes(idleWarmUp); err != nil {
		return err
	}
	var used, own []float64
	for range idleGroups {
		before, err := serverCPU(s.admin.PgConn().PID())
		if err != nil {
			return err
		}
		_, process, err := timed(func() error { return passes(idlePasses) })
		if err != nil {
			return err
		}
		after, err := serverCPU(s.admin.PgConn().PID())
		if err != nil {
			return err
		}
		millis := func(cpu time.Duration) float64 { return cpu.Seconds() * 1000 / idlePasses }
		used, own = append(used, millis(process+after-before)), append(own, millis(process))
	}
	f.add("heal.idle.cpu_ms", median(used), "ms")
	f.add("heal.idle.daemon_cpu_ms", median(own), "ms")
	return nil
}

// measureThorough compares events with their rows, value by value, as `reconciled heal
// --full` does, for as many as the time allows. It is also what shows that the copy is
// whole, and that what was healed is right.
func (s *site) measureThorough(ctx context.Context, _ *dataset, f *figures) error {
	floor, err := s.floor(ctx)
	if err != nil {
		return err
	}
	var events int
	if err := s.admin.QueryRow(ctx, `SELECT count(*) FROM public.events`).Scan(&events); err != nil {
		return err
	}
	var checked int
	wall, cpu, err := timed(func() error {
		return s.locked(ctx, func(ctx context.Context, grant lock.Grant) error {
			if _, err := s.healer.HealFull(ctx, grant); err != nil {
				return err
			}
			until := time.Now().Add(thoroughFor)
			checked, err = s.wholeRun(ctx, grant, func() bool { return time.Now().After(until) })
			return err
		})
	})
	if err != nil {
		return err
	}
	micros := func(d time.Duration, n int) float64 { return d.Seconds() * 1e6 / float64(n) }
	f.add("heal.thorough.events", float64(checked), "events")
	f.add("heal.thorough.us_per_event", micros(wall, checked), "us")
	f.add("heal.thorough.daemon_cpu_us_per_event", micros(cpu, checked), "us")
	f.add("heal.thorough.floor_ratio", micros(wall, checked)/micros(floor, events), "x")
	return nil
}
