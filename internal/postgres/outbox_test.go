package postgres_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/veloxpos/reconciled/internal/health"
	"github.com/veloxpos/reconciled/internal/postgres"
	"github.com/veloxpos/reconciled/internal/postgres/postgrestest"
	"github.com/veloxpos/reconciled/internal/testkit"
	"github.com/veloxpos/reconciled/lock"
)

// outbox is a store's, with entries that are named by a number.
type outbox struct {
	*testing.T
	site  *postgrestest.Site
	grant lock.Grant
	*postgres.Outbox
}

func newOutbox(t *testing.T) *outbox {
	t.Helper()
	site := postgrestest.New(t)
	site.AddStore(t, shop)
	return &outbox{T: t, site: site, grant: site.Grant(t, shop), Outbox: postgres.NewOutbox(site.DB)}
}

func entry(n int) uuid.UUID { return uuid.MustParse(fmt.Sprintf("0e000000-0000-4000-8000-%012d", n)) }

func (o *outbox) exec(sql string, args ...any) {
	o.Helper()
	if _, err := o.site.Owner.Exec(o.Context(), sql, args...); err != nil {
		o.Fatal(err)
	}
}

// add makes entry n, of an event that is not in the log, n minutes after the first.
func (o *outbox) add(n int, target, status string, retries int) {
	o.Helper()
	o.exec(`INSERT INTO outbox_entries (id, event_id, event_type, store_id, target, status, retry_count, error, created_at)
		VALUES ($1, $2, 'SaleCreated', $3, $4, $5, $6, 'it failed', '2026-09-01'::timestamptz + $7 * interval '1 minute')`,
		entry(n), uuid.NewString(), shop, target, status, retries, n)
}

func (o *outbox) list(filter postgres.OutboxFilter) (ids []uuid.UUID, page []postgres.OutboxEntry, counts []postgres.OutboxCount, more bool) {
	o.Helper()
	page, counts, more, err := o.List(o.Context(), shop, filter)
	if err != nil {
		o.Fatal(err)
	}
	for _, e := range page {
		ids = append(ids, e.ID)
	}
	return ids, page, counts, more
}

// state is an entry's row.
func (o *outbox) state(n int) (state string) {
	o.Helper()
	err := o.site.Owner.QueryRow(o.Context(), `SELECT concat_ws(' ', status, retry_count, error, processed_at) FROM outbox_entries WHERE id = $1`, entry(n)).Scan(&state)
	if err != nil {
		o.Fatal(err)
	}
	return state
}

func TestTheOutboxListsWhatIsNotDoneWithTheOldestFirst(t *testing.T) {
	o := newOutbox(t)
	const projection, relay = "projection", "federation-relay"
	o.add(1, relay, "pending", 0)
	o.add(2, projection, "failed", 10)
	o.add(3, relay, "processed", 0)
	o.add(4, projection, "pending", 10)
	o.add(5, relay, "pending", 3)
	o.add(6, relay, "failed", 1)
	o.exec(`UPDATE outbox_entries SET error = repeat('x', 10000), created_at = NULL, retry_count = NULL WHERE id = $1`, entry(1))
	event := uuid.New()
	o.exec(`INSERT INTO events (event_id, store_id, device_id, seq, type, version, created_at, payload) VALUES ($1, $2, $2, 1, 'SaleCreated', 1, now(), '{}')`, event, shop)
	o.exec(`UPDATE outbox_entries SET event_id = $2 WHERE id = $1`, entry(2), strings.ToUpper(event.String()))
	o.exec(`UPDATE outbox_entries SET event_id = 'none' WHERE id = $1`, entry(5))

	ids, page, counts, more := o.list(postgres.OutboxFilter{Pending: true, Dead: true, Limit: 10})
	if !slices.Equal(ids, []uuid.UUID{entry(1), entry(2), entry(4), entry(5), entry(6)}) || more {
		t.Errorf("%v, more: %v", ids, more)
	}
	if !slices.Equal(counts, []postgres.OutboxCount{{Target: relay, Pending: 2, Dead: 1}, {Target: projection, Dead: 2, Zombies: 1}}) {
		t.Errorf("%+v", counts)
	}
	if len(page[0].Error) != 500 || page[0].Dead || page[0].EventKnown || !page[1].Dead || page[1].Zombie || !page[1].EventKnown || !page[2].Zombie {
		t.Errorf("%+v", page)
	}
	if ids, _, _, _ := o.list(postgres.OutboxFilter{Dead: true, Limit: 10}); !slices.Equal(ids, []uuid.UUID{entry(2), entry(4), entry(6)}) {
		t.Errorf("dead: %v", ids)
	}
	var s health.Snapshot
	if err := postgres.NewHealth(postgres.NewLog(o.site.DB)).Measure(t.Context(), shop, &s); err != nil || s.More.OutboxDead != 3 || s.More.OutboxPending != 2 {
		t.Errorf("health counts %d dead, %d pending, %v", s.More.OutboxDead, s.More.OutboxPending, err)
	}
}

func TestTheOutboxIsReadPageByPage(t *testing.T) {
	o := newOutbox(t)
	for n := range 7 {
		o.add(n, "projection", "pending", 0)
	}
	o.exec(`UPDATE outbox_entries SET created_at = '2026-09-01'`) // the id decides
	filter := postgres.OutboxFilter{Pending: true, Limit: 3}
	var got []uuid.UUID
	for range 3 {
		ids, _, _, more := o.list(filter)
		got = append(got, ids...)
		if more != (len(got) < 7) {
			t.Errorf("more after %d: %v", len(got), more)
		}
		filter.After = uuid.NullUUID{UUID: ids[len(ids)-1], Valid: true}
		o.exec(`UPDATE outbox_entries SET status = 'processed' WHERE id = $1`, filter.After.UUID) // meanwhile
	}
	if len(got) != 7 || !slices.IsSortedFunc(got, func(a, b uuid.UUID) int { return strings.Compare(a.String(), b.String()) }) {
		t.Errorf("%v", got)
	}
	filter.After.UUID = uuid.New()
	if _, _, _, err := o.List(t.Context(), shop, filter); !errors.Is(err, postgres.ErrNoEntry) {
		t.Errorf("%v, want ErrNoEntry", err)
	}
}

func TestRetriedOutboxEntriesAreNewAgain(t *testing.T) {
	o := newOutbox(t)
	o.add(1, "projection", "failed", 10)
	o.add(2, "federation-relay", "pending", 10)
	o.add(3, "projection", "failed", 10)
	if err := o.Retry(t.Context(), o.grant, []uuid.UUID{entry(2), entry(1)}, "ana", "the product came"); err != nil {
		t.Fatal(err)
	}
	for n, want := range map[int]string{1: "pending 0", 2: "pending 0", 3: "failed 10 it failed"} {
		if got := o.state(n); got != want {
			t.Errorf("entry %d is %q, want %q", n, got, want)
		}
	}
	var audited string
	err := o.site.DB.Pool.QueryRow(t.Context(), `SELECT concat_ws(' ', actor, action, outcome, detail ->> 'why', detail ->> 'count', (detail #> '{entries,0}') - 'id') FROM reconciled.audit`).Scan(&audited)
	if want := `ana outbox retry pending the product came 2 {"error": "it failed", "status": "failed", "retry_count": 10}`; err != nil || audited != want {
		t.Errorf("%s, %v; want %s", audited, err, want)
	}
}

func TestOutboxEntriesAreRetriedAllOrNone(t *testing.T) {
	o := newOutbox(t)
	o.add(1, "projection", "failed", 10)
	o.add(2, "projection", "processed", 0)
	other := uuid.New()
	o.exec(`INSERT INTO stores (id, name) VALUES ($1, 'Otra')`, other)
	o.exec(`INSERT INTO outbox_entries (id, event_id, event_type, store_id, target, status) VALUES ($1, 'x', 'SaleCreated', $2, 'projection', 'failed')`, entry(3), other)
	for name, missing := range map[string]uuid.UUID{"one that is nowhere": uuid.New(), "one that is done with": entry(2), "one of another store": entry(3)} {
		err := o.Retry(t.Context(), o.grant, []uuid.UUID{entry(1), missing}, "ana", "why")
		if !errors.Is(err, postgres.ErrNoEntry) || !strings.Contains(err.Error(), missing.String()) {
			t.Errorf("%s: %v, want ErrNoEntry that names it", name, err)
		}
	}
	stale := o.grant
	stale.Epoch--
	if err := o.Retry(t.Context(), stale, []uuid.UUID{entry(1)}, "ana", "why"); !errors.Is(err, lock.ErrFenced) {
		t.Errorf("%v, want ErrFenced", err)
	}
	if got := o.state(1); got != "failed 10 it failed" {
		t.Errorf("it is %q", got)
	}
	var audits int
	if err := o.site.DB.Pool.QueryRow(t.Context(), `SELECT count(*) FROM reconciled.audit`).Scan(&audits); err != nil || audits != 0 {
		t.Errorf("%d rows in the audit, %v", audits, err)
	}
}

func TestAnEntryThatThePOSIsAtWorkOnIsWaitedFor(t *testing.T) {
	o := newOutbox(t)
	o.add(1, "projection", "pending", 9)
	tx, err := o.site.Owner.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(t.Context(), `UPDATE outbox_entries SET status = 'processed', processed_at = now() WHERE id = $1`, entry(1)); err != nil {
		t.Fatal(err)
	}
	retried := make(chan error)
	go func() { retried <- o.Retry(t.Context(), o.grant, []uuid.UUID{entry(1)}, "ana", "why") }()
	testkit.Eventually(t, 20*time.Second, "the retry waits for the POS", func() (waits bool) {
		err := o.site.Owner.QueryRow(t.Context(), `SELECT EXISTS (SELECT FROM pg_locks l JOIN pg_stat_activity a USING (pid) WHERE NOT l.granted AND a.datname = current_database())`).Scan(&waits)
		return err == nil && waits
	})
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := <-retried; !errors.Is(err, postgres.ErrNoEntry) {
		t.Errorf("%v, want ErrNoEntry: the POS was done with it", err)
	}
}
