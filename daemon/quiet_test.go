package daemon

import (
	"fmt"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/robfig/cron/v3"

	"github.com/veloxpos/reconciled/internal/central"
	"github.com/veloxpos/reconciled/internal/postgres"
	"github.com/veloxpos/reconciled/internal/postgres/postgrestest"
	"github.com/veloxpos/reconciled/internal/testkit"
	"github.com/veloxpos/reconciled/internal/velox"
)

// trade inserts n events.
func trade(t *testing.T, site *postgrestest.Site, n int) {
	t.Helper()
	var batch pgx.Batch
	for i := range n {
		said := fmt.Sprintf(`{"qty": %d}`, i)
		hash, err := velox.PayloadHash([]byte(said))
		if err != nil {
			t.Fatal(err)
		}
		batch.Queue(`INSERT INTO events (event_id, store_id, device_id, seq, type, version, created_at, payload, delta_payload, full_payload_hash, conflict_status)
			VALUES ($1, $2, $2, $3, $4, 1, now() - interval '1 hour', $5::text::jsonb, $5::text::jsonb, $6, 'resolved')`,
			uuid.New(), shop, i, velox.StockReceived, said, hash)
	}
	if err := site.Owner.SendBatch(t.Context(), &batch).Close(); err != nil {
		t.Fatal(err)
	}
}

// remoteOf is a client of a central on a database of its own.
func remoteOf(t *testing.T) (*central.Client, *postgrestest.Site) {
	t.Helper()
	site := postgrestest.New(t)
	site.AddStore(t, shop)
	server := httptest.NewServer(central.NewServer(postgres.NewLog(site.DB), central.ServerOptions{
		Installation: uuid.New(), Tokens: map[velox.StoreID][]string{shop: {"token"}},
	}).Handler())
	t.Cleanup(server.Close)
	client, err := central.NewClient(central.ClientOptions{
		URL: server.URL, Tokens: map[velox.StoreID]string{shop: "token"}, Installation: uuid.New(), Transport: server.Client().Transport,
	})
	if err != nil {
		t.Fatal(err)
	}
	return client, site
}

func TestQuietHoursBoundWhatTheScheduleMovesAndNotAPerson(t *testing.T) {
	const events = 1200
	client, there := remoteOf(t)
	site := postgrestest.New(t)
	site.AddStore(t, shop)
	trade(t, site, events)
	sixOClock := time.Date(2026, 11, 24, 6, 0, 0, 0, time.Local)
	always := func(time.Time) (time.Time, bool) { return sixOClock, true }
	r := startOn(t, site, Reconcile(postgres.NewLog(site.DB), client, always, cron.Every(time.Hour)))

	moved := func() (n int) {
		if err := there.DB.Pool.QueryRow(t.Context(), `SELECT count(*) FROM events`).Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	testkit.Eventually(t, 20*time.Second, "the round at start has ended", func() bool {
		last, success, err := r.runs.Last(t.Context(), shop, TaskReconcile)
		if err != nil || last.State == "" {
			return false
		}
		if last.State != "interrupted" || last.Verdict != "unknown" || !success.Finished.IsZero() || !strings.Contains(last.Error, "until 06:00: ") {
			t.Errorf("the run is %s, %s: %s; want it interrupted by quiet hours", last.State, last.Verdict, last.Error)
		}
		return true
	})
	if n := moved(); n == 0 || n > quietEvents {
		t.Errorf("%d events were moved in quiet hours, want up to %d", n, quietEvents)
	}
	id, err := r.Start(t.Context(), TaskReconcile, shop)
	if err != nil {
		t.Fatal(err)
	}
	if run := r.await(t, id); run.State != "succeeded" || run.Verdict != "repaired" || moved() != events {
		t.Errorf("%+v with %d events moved, want all %d when a person asks", run, moved(), events)
	}
}
