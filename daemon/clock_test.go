package daemon

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"
	"github.com/robfig/cron/v3"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/veloxpos/reconciled/internal/health"
	"github.com/veloxpos/reconciled/internal/postgres"
	"github.com/veloxpos/reconciled/lock"
)

// free is a lock that nobody holds.
type free struct{}

func (free) Do(ctx context.Context, req lock.Request, work func(context.Context, lock.Grant) error) error {
	return work(ctx, lock.Grant{Store: req.Store, Run: req.Run})
}

func (unwritten) Save(context.Context, postgres.Run) error { return nil }
func (unwritten) Tidy(context.Context, uuid.UUID) error    { return nil }

// wallClock shows a time that can be set back. In a bubble the scheduler's own clock
// cannot, so as a schedule it makes next times that lie as far ahead of that as those lie
// ahead of a clock that was set back: whatever it made before stays there.
type wallClock struct{ ahead atomic.Int64 }

func (c *wallClock) show(t time.Time) time.Time { return onWall(t).Add(time.Duration(c.ahead.Load())) }
func (c *wallClock) Next(t time.Time) time.Time { return c.show(t).Add(time.Minute) }
func (c *wallClock) setBack(by time.Duration)   { c.ahead.Add(-int64(by)) }

func TestWhatIsScheduledGoesOnAfterTheClockWasSetBack(t *testing.T) {
	const ahead = 3 * time.Hour
	for name, c := range map[string]struct {
		back time.Duration
		goes bool
	}{
		"not at all": {0, false}, "as slewing does": {time.Second, false}, "by hours": {ahead, true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var clock wallClock
				clock.ahead.Store(int64(ahead))
				var ran atomic.Int64
				duty := &Task{Name: "duty", Schedule: &clock, Work: func(context.Context, lock.Grant, Handle) (Result, error) {
					ran.Add(1)
					return Result{}, nil
				}}
				core, logged := observer.New(zap.WarnLevel)
				d := New(free{}, unwritten{}, nil, []*Task{duty}, zap.New(core), Options{
					Stores: func(context.Context) ([]uuid.UUID, error) { return []uuid.UUID{shop}, nil },
				})
				d.wall = clock.show
				ctx, cancel := context.WithCancel(t.Context())
				served := make(chan error)
				go func() { served <- d.Serve(ctx) }()
				time.Sleep(30 * time.Second)
				if ran.Load() != 1 {
					t.Fatalf("ran %d times, want once: at the start", ran.Load())
				}
				clock.setBack(c.back)
				time.Sleep(5 * time.Minute)
				if n := ran.Load(); (n > 1) != c.goes {
					t.Errorf("ran %d times within 5 minutes", n)
				}
				var told []zap.Field
				for _, entry := range logged.All() {
					told = append(told, entry.Context...)
				}
				if c.goes && (len(told) != 1 || !told[0].Equals(zap.Duration("by", c.back))) || !c.goes && len(told) != 0 {
					t.Errorf("logged %+v", logged.All())
				}
				cancel()
				if err := <-served; err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// A job that is made anew while it runs is still the same job.
func TestAJobThatRunsIsNotBegunTwiceWhenItsTimeIsReckonedAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := New(free{}, unwritten{}, nil, nil, zap.NewNop(), Options{})
		var begun atomic.Int64
		schedule := cron.New()
		schedule.Schedule(cron.Every(time.Second), d.job(func() {
			begun.Add(1)
			time.Sleep(time.Minute)
		}))
		schedule.Start()
		time.Sleep(10 * time.Second)
		reckon(schedule)
		time.Sleep(10 * time.Second)
		if n := begun.Load(); n != 1 {
			t.Errorf("begun %d times, want once", n)
		}
		<-schedule.Stop().Done()
	})
}

func TestTheHeartbeatIsKeptByTheMonotonicClock(t *testing.T) {
	var d Daemon
	d.live()
	if beat := *d.beat.Load(); beat == onWall(beat) {
		t.Errorf("%v has no monotonic reading", beat)
	}
}

func TestAReportFromTheFutureIsNotHealth(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &Daemon{monitor: NewMonitor(&gone{}, unwritten{}, MonitorOptions{Mode: health.Normal}), workers: map[uuid.UUID]*worker{shop: {}}}
		ahead := health.Report{Timestamp: time.Now().UTC().Add(3 * time.Hour)}
		d.monitor.latest[shop] = ahead
		if report, err := d.Health(t.Context(), shop, false); err != nil || report.Timestamp == ahead.Timestamp {
			t.Errorf("%v, %v: want one measured now", report.Timestamp, err)
		}
	})
}
