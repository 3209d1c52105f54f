package daemon

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"

	"github.com/veloxpos/reconciled/internal/health"
	"github.com/veloxpos/reconciled/internal/postgres"
	"github.com/veloxpos/reconciled/internal/velox"
	"github.com/veloxpos/reconciled/lock"
)

// slow measures when it is let, and says how often it was asked.
type slow struct {
	release chan struct{}
	times   int64
}

func (s *slow) Measure(ctx context.Context, _ velox.StoreID, into *health.Snapshot) error {
	s.times++
	into.More.OutboxDead = s.times
	select {
	case <-s.release:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (*slow) Keep(context.Context, lock.Grant, health.Report) error { return nil }

// unwritten is a history without runs.
type unwritten struct{ History }

func (unwritten) Last(context.Context, uuid.UUID, string) (last, success postgres.Run, err error) {
	return last, success, nil
}

func TestThoseWhoWantHealthFreshShareOneMeasurement(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &slow{release: make(chan struct{})}
		m := NewMonitor(s, unwritten{}, MonitorOptions{Mode: health.Normal})
		impatient, leave := context.WithCancel(t.Context())
		gone := make(chan error, 1)
		go func() {
			_, err := m.Fresh(impatient, shop)
			gone <- err
		}()
		synctest.Wait()
		const others = 5
		reports := make(chan health.Report, others)
		for range others {
			go func() {
				report, err := m.Fresh(t.Context(), shop)
				if err != nil {
					t.Error(err)
				}
				reports <- report
			}()
		}
		synctest.Wait()
		leave() // whoever began it goes away: it goes on for the others
		if err := <-gone; !errors.Is(err, context.Canceled) {
			t.Errorf("%v, want Canceled", err)
		}
		close(s.release)
		for range others {
			if report := <-reports; report.Metrics.OutboxDead != 1 {
				t.Errorf("measured %d times", report.Metrics.OutboxDead)
			}
		}
		if report, err := m.Fresh(t.Context(), shop); err != nil || report.Metrics.OutboxDead != 2 {
			t.Errorf("%+v, %v: want one of its own", report.Metrics.More, err)
		}
		if latest, ok := m.Latest(shop); !ok || latest.Metrics.OutboxDead != 2 {
			t.Errorf("latest %+v", latest.Metrics.More)
		}
	})
}

func TestAMeasurementThatNobodyWaitsForAnyMoreEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &slow{release: make(chan struct{})}
		m := NewMonitor(s, unwritten{}, MonitorOptions{Mode: health.Normal})
		if _, err := m.Fresh(t.Context(), shop); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v, want DeadlineExceeded", err)
		}
	})
}

// gone is a database that answers until it does not.
type gone struct {
	slow
	err error
}

func (g *gone) Measure(context.Context, velox.StoreID, *health.Snapshot) error { return g.err }

// What was measured long ago says nothing of now, least of all that all is well.
func TestAnOldReportIsNotHealth(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := &gone{}
		d := &Daemon{monitor: NewMonitor(g, unwritten{}, MonitorOptions{Mode: health.Normal}), workers: map[uuid.UUID]*worker{shop: {}}}
		first, err := d.Health(t.Context(), shop, false)
		if err != nil {
			t.Fatal(err)
		}
		g.err = errors.New("no database")
		time.Sleep(healthAge - time.Second)
		if report, err := d.Health(t.Context(), shop, false); err != nil || report.Timestamp != first.Timestamp {
			t.Errorf("%v, %v: want the last one, of %v", report.Timestamp, err, first.Timestamp)
		}
		time.Sleep(time.Second)
		if _, err := d.Health(t.Context(), shop, false); !errors.Is(err, g.err) {
			t.Errorf("%v, want %v", err, g.err)
		}
	})
}
