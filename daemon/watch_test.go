package daemon

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/robfig/cron/v3"
	"go.uber.org/zap"

	"github.com/veloxpos/reconciled/internal/alert"
	"github.com/veloxpos/reconciled/internal/health"
	"github.com/veloxpos/reconciled/internal/postgres"
	"github.com/veloxpos/reconciled/internal/postgres/postgrestest"
	"github.com/veloxpos/reconciled/internal/testkit"
	"github.com/veloxpos/reconciled/lock"
)

// receiver is told things, and fails as often as it is asked to.
type receiver struct {
	mu    sync.Mutex
	fail  int
	heard []alert.Message
}

func (r *receiver) Send(_ context.Context, m alert.Message) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.fail > 0 {
		r.fail--
		return errors.New("no line")
	}
	r.heard = append(r.heard, m)
	return nil
}

// has says whether it was told news of a code.
func (r *receiver) has(code alert.Code, news alert.News) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.ContainsFunc(r.heard, func(m alert.Message) bool {
		return slices.ContainsFunc(m.Items, func(i alert.Item) bool { return i.Code == code && i.News == news })
	})
}

// watching is a daemon that looks every second.
func watching(t *testing.T, site *postgrestest.Site, outlets []Outlet, screen *alert.Channel) {
	t.Helper()
	runs, book := postgres.NewRuns(site.DB), postgres.NewAlerts(site.DB)
	monitor := NewMonitor(postgres.NewHealth(postgres.NewLog(site.DB)), runs, MonitorOptions{Mode: health.Normal, Thresholds: health.Thresholds{
		DiskUsedPercent: health.Limit{Degraded: health.Never, Critical: health.Never},
		ClockSkewMs:     health.Limit{Degraded: health.Never, Critical: health.Never}, SilentSeconds: health.Limit{Degraded: health.Never, Critical: health.Never},
	}})
	watch := NewWatch(monitor, book, zap.NewNop(), WatchOptions{Outlets: outlets, Screen: screen, Outage: NewOutage("a test", outlets, zap.NewNop())})
	var tasks []*Task
	if screen != nil {
		tasks = append(tasks, Screen(book, *screen, cron.Every(time.Second)))
	}
	d := New(lock.New(nil, postgres.NewFence(site.DB), lock.Options{}), runs, monitor, tasks, zap.NewNop(), Options{
		Stores: site.DB.Stores, Owner: "daemon under test", Ping: site.DB.Pool.Ping, Drain: 5 * time.Second,
		Watch: watch, WatchSchedule: cron.Every(time.Second),
	})
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	var serving sync.WaitGroup
	serving.Go(func() {
		if err := d.Serve(ctx); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() { cancel(); serving.Wait() })
}

const plantDuplicate = `INSERT INTO sales (id, store_id, sold_at, currency, totals, payment, fiscal_number)
	SELECT gen_random_uuid(), $1, now(), 'BS', '{}', '{}', '777' FROM generate_series(1, 2)`

func TestAFiscalDuplicateIsToldWithinALookAndItsEndToo(t *testing.T) {
	site := postgrestest.New(t)
	site.AddStore(t, shop)
	steady, stumbling := &receiver{}, &receiver{fail: 1}
	screen := alert.Channel{Name: "pos"}
	watching(t, site, []Outlet{
		{Channel: alert.Channel{Name: "steady"}, Sender: steady},
		{Channel: alert.Channel{Name: "stumbling"}, Sender: stumbling},
	}, &screen)
	if _, err := site.Owner.Exec(t.Context(), plantDuplicate, shop); err != nil {
		t.Fatal(err)
	}
	told := func(r *receiver, news alert.News) func() bool {
		return func() bool { return r.has(alert.FiscalDuplicate, news) }
	}
	testkit.Eventually(t, 20*time.Second, "the duplicate is told", told(steady, alert.Fired))
	testkit.Eventually(t, 20*time.Second, "the shop's screens show it", func() bool {
		var n int
		err := site.Owner.QueryRow(t.Context(), `SELECT count(*) FROM notifications WHERE metadata ->> 'alertKey' = 'FISCAL_DUPLICATE'`).Scan(&n)
		return err == nil && n == 1
	})
	testkit.Eventually(t, time.Minute, "what failed once is told all the same", told(stumbling, alert.Fired))
}

func TestADatabaseThatIsDownIsToldPastIt(t *testing.T) {
	bare, kept := &receiver{}, &receiver{}
	outlets := []Outlet{{Channel: alert.Channel{Name: "log"}, Sender: bare, Bare: true}, {Channel: alert.Channel{Name: "mail"}, Sender: kept}}
	o := NewOutage("pos-7", outlets, zap.NewNop())
	o.step(shop, errors.New("connection refused"))
	if len(o.alerts) != 1 || o.alerts[0].State != alert.Pending {
		t.Fatalf("%+v, want one that is pending", o.alerts)
	}
	o.step(uuid.New(), nil) // a store that can be looked at says nothing of one that cannot
	if len(o.alerts) != 1 || o.alerts[0].State != alert.Pending {
		t.Fatalf("%+v, want one that is pending still", o.alerts)
	}
	o.alerts[0].Since = o.alerts[0].Since.Add(-time.Hour) // it has been down for longer
	o.step(shop, errors.New("connection refused"))
	for _, outlet := range outlets {
		o.deliver(t.Context(), outlet)
	}
	if !bare.has(alert.DatabaseDown, alert.Fired) || len(kept.heard) != 0 {
		t.Errorf("the log heard %d, mail %d messages", len(bare.heard), len(kept.heard))
	}
	if len(o.waiting) != 0 {
		t.Errorf("%d wait", len(o.waiting))
	}
	o.step(shop, nil)
	o.alerts[0].Away = o.alerts[0].Away.Add(-time.Hour)
	bare.fail = 1
	o.step(shop, nil)
	o.deliver(t.Context(), outlets[0])
	if bare.has(alert.DatabaseDown, alert.Over) || len(o.waiting) != 1 {
		t.Errorf("%d wait after a failure", len(o.waiting))
	}
	o.waiting[0].NextAttempt = time.Time{}
	o.deliver(t.Context(), outlets[0])
	if !bare.has(alert.DatabaseDown, alert.Over) || len(o.waiting) != 0 {
		t.Errorf("its end was not told; %d wait", len(o.waiting))
	}
}
