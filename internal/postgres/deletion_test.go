package postgres_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/veloxpos/reconciled/internal/health"
	"github.com/veloxpos/reconciled/internal/postgres"
	"github.com/veloxpos/reconciled/internal/postgres/postgrestest"
	"github.com/veloxpos/reconciled/internal/velox"
	"github.com/veloxpos/reconciled/merkle"
	"github.com/veloxpos/reconciled/merkle/reconcile"
)

// evidence lists the open evidence of the shop, "kind event", in the order found.
func evidence(tb testing.TB, s *postgrestest.Site) []string {
	tb.Helper()
	rows, err := s.DB.Pool.Query(tb.Context(), `SELECT kind || coalesce(' ' || event_id, '') FROM reconciled.evidence
		WHERE store_id = $1 AND cleared_at IS NULL ORDER BY id`, shop)
	if err != nil {
		tb.Fatal(err)
	}
	list, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		tb.Fatal(err)
	}
	return list
}

func wantEvidence(tb testing.TB, s *postgrestest.Site, want ...string) {
	tb.Helper()
	if got := evidence(tb, s); !slices.Equal(got, want) {
		tb.Errorf("evidence %v, want %v", got, want)
	}
}

// number reads one number as the daemon.
func number(tb testing.TB, s *postgrestest.Site, sql string, args ...any) (n int) {
	tb.Helper()
	if err := s.DB.Pool.QueryRow(tb.Context(), sql, args...).Scan(&n); err != nil {
		tb.Fatalf("%s: %v", sql, err)
	}
	return n
}

// page reads events of the shop as the other side would send them.
func page(tb testing.TB, log *postgres.Log) []velox.Event {
	tb.Helper()
	all := merkle.Range{}.Span()
	p, err := log.Page(tb.Context(), shop, merkle.Want{Spans: []merkle.Span{all}}, nil)
	if err != nil {
		tb.Fatal(err)
	}
	return p.Events
}

// accept lets the other side send events, and counts the answers.
func accept(tb testing.TB, log *postgres.Log, events []velox.Event) map[reconcile.Status]int {
	tb.Helper()
	outcomes, err := log.Accept(tb.Context(), shop, uuid.New(), events)
	if err != nil {
		tb.Fatal(err)
	}
	counts := map[reconcile.Status]int{}
	for _, o := range outcomes {
		counts[o.Status]++
		if o.Status == reconcile.Held && !strings.Contains(o.Reason, "reconciled event restore") {
			tb.Errorf("held for %q, which names no command", o.Reason)
		}
	}
	return counts
}

func wantCount(tb testing.TB, got map[reconcile.Status]int, status reconcile.Status, n int) {
	tb.Helper()
	if len(got) != 1 || got[status] != n {
		tb.Errorf("answers %v, want %d %s", got, n, status)
	}
}

// insertMany writes n events of today that are no StockAdjusted.
func insertMany(tb testing.TB, s *postgrestest.Site, n int) {
	tb.Helper()
	exec(tb, s.Owner, `INSERT INTO events (event_id, store_id, device_id, seq, type, version, created_at, payload)
		SELECT gen_random_uuid(), $1, gen_random_uuid(), i, 'StockReceived', 1, now() + i * interval '1 minute', jsonb_build_object('qty', i)
		FROM generate_series(1, $2::int) i`, shop, n)
}

func TestADeclaredPurgeStaysInTheTree(t *testing.T) {
	s, log := site(t)
	slots := []string{"2026-11-20 10:00", "2026-11-20 10:00", "2026-11-20 10:00:01", "2026-11-21 10:00", "infinity", "-infinity"}
	var ids []uuid.UUID
	for i, at := range slots {
		ids = append(ids, insertEvent(t, s.Owner, at, fmt.Sprintf(`{"i": %d}`, i)))
	}
	before := pin(t, log)
	sent := page(t, log)
	exec(t, s.Owner, `DELETE FROM events WHERE created_at <= '2026-11-20 10:00' OR created_at = '2026-11-21 10:00'`)
	after := pin(t, log)
	if after.Tree.Root() != before.Tree.Root() {
		t.Errorf("a purge changed the tree from %+v to %+v", before.Tree.Root(), after.Tree.Root())
	}
	wantTrueRoot(t, s, after)
	wantTrueRoot(t, s, pin(t, postgres.NewLog(s.DB)))
	wantEvidence(t, s)
	items, err := log.Items(t.Context(), shop, ids)
	if err != nil || len(items) != len(ids) {
		t.Errorf("%d items (%v), want all %d", len(items), err, len(ids))
	}
	var scanned []merkle.Item
	err = postgres.EachItem(t.Context(), s.DB.Pool, shop, merkle.Range{}.Span(), func(item merkle.Item) error {
		scanned = append(scanned, item)
		return nil
	})
	if err != nil || len(scanned) != len(ids) || !slices.IsSortedFunc(scanned, func(a, b merkle.Item) int { return a.Key.Compare(b.Key) }) {
		t.Errorf("scanned %d items (%v), want all %d in the order of their keys", len(scanned), err, len(ids))
	}
	var wanted []int64
	for _, item := range scanned {
		wanted = append(wanted, item.Key.Slot())
	}
	declared, err := postgres.DeclaredItems(t.Context(), s.DB.Pool, shop, slices.Compact(wanted))
	n := 0
	for slot, list := range declared {
		for _, item := range list {
			if n++; item.Key.Slot() != slot || !slices.Contains(scanned, item) {
				t.Errorf("slot %d: %+v", slot, item)
			}
		}
	}
	if err != nil || n != 4 {
		t.Errorf("%d items of declared purges (%v), want 4", n, err)
	}

	wantCount(t, accept(t, log, sent), reconcile.Present, len(sent))
	for i := range sent {
		sent[i].Seq++
	}
	if got := accept(t, log, sent); got[reconcile.Purged] != 4 || got[reconcile.Conflict] != 2 {
		t.Errorf("answers %v to other contents, want 4 purged", got)
	}
	if n := number(t, s, `SELECT count(*) FROM events`); n != 2 {
		t.Errorf("%d events in the log, want the 2 that were not purged", n)
	}
}

func TestAPurgedEventThatIsThereAgainCountsOnce(t *testing.T) {
	s, log := site(t)
	for name, at := range map[string]string{"where it was": "2026-11-20 10:00", "elsewhere": "2026-11-21 10:00"} {
		t.Run(name, func(t *testing.T) {
			exec(t, s.Owner, `DELETE FROM events`)
			pin(t, log)
			id := insertEvent(t, s.Owner, "2026-11-20 10:00", `{}`)
			count := pin(t, log).Tree.Root().Count
			exec(t, s.Owner, `DELETE FROM events WHERE event_id = $1`, id)
			pin(t, log)
			exec(t, s.Owner, `INSERT INTO events (event_id, store_id, device_id, seq, type, version, created_at, payload)
				VALUES ($1, $2, $2, 1, 'StockAdjusted', 1, $3::text::timestamptz, '{"again": true}')`, id, shop, at)
			pin(t, log)
			p := pin(t, log) // the slot it was purged from may come a drain later
			wantTrueRoot(t, s, p)
			if n := p.Tree.Root().Count; n != count {
				t.Errorf("the tree counts %d events, want %d", n, count)
			}
			if n := number(t, s, `SELECT count(*) FROM reconciled.deletion WHERE event_id = $1 AND restored_at IS NOT NULL`, id); n != 1 {
				t.Error("the deletion is not moot")
			}
			exec(t, s.Owner, `DELETE FROM events WHERE event_id = $1`, id)
			p = pin(t, log)
			wantTrueRoot(t, s, p)
			if n := p.Tree.Root().Count; n != count {
				t.Errorf("after a second purge the tree counts %d events, want %d", n, count)
			}
		})
	}
}

func TestAPurgedEventThatReturnsAtOnceCountsOnce(t *testing.T) {
	s, log := site(t)
	id := insertEvent(t, s.Owner, "2026-11-20 10:00", `{}`)
	pin(t, log)
	again := `INSERT INTO events (event_id, store_id, device_id, seq, type, version, created_at, payload)
		VALUES ('` + id.String() + `', '` + shop.String() + `', gen_random_uuid(), 1, 'StockAdjusted', 1, '2026-11-20 11:00', '{}')`
	wantOne := func() {
		t.Helper()
		items, err := log.Items(t.Context(), shop, []uuid.UUID{id})
		if err != nil || len(items) != 1 {
			t.Errorf("%d items (%v), want one", len(items), err)
		}
		n := 0
		err = postgres.EachItem(t.Context(), s.DB.Pool, shop, merkle.Range{}.Span(), func(merkle.Item) error { n++; return nil })
		if err != nil || n != 1 {
			t.Errorf("scanned %d items (%v), want one", n, err)
		}
	}
	exec(t, s.Owner, `DELETE FROM events`)
	exec(t, s.Owner, again)
	p := pin(t, log) // takes the deletion and the return together
	wantTrueRoot(t, s, p)
	if n := number(t, s, `SELECT count(*) FROM reconciled.deletion WHERE restored_at IS NOT NULL`); n != 1 {
		t.Error("the deletion is not moot")
	}
	wantOne()
	exec(t, s.Owner, `DELETE FROM events`)
	wantTrueRoot(t, s, pin(t, log))
	wantOne()
	exec(t, s.Owner, again)
	wantOne() // before a drain knows
}

func TestOnlyOldStockAdjustmentsAreDeclared(t *testing.T) {
	s, log := site(t)
	for at, typ := range map[string]string{"now() - interval '25 hours'": "SaleCreated", "now() - interval '23 hours'": "StockAdjusted"} {
		exec(t, s.Owner, `INSERT INTO events (event_id, store_id, device_id, seq, type, version, created_at, payload)
			VALUES (gen_random_uuid(), $1, $1, 1, $2, 1, `+at+`, '{}')`, shop, typ)
	}
	pin(t, log)
	exec(t, s.Owner, `DELETE FROM events`)
	p := pin(t, log)
	wantTrueRoot(t, s, p)
	if n := p.Tree.Root().Count; n != 0 {
		t.Errorf("the tree counts %d events that nobody purged", n)
	}
	if got := evidence(t, s); len(got) != 2 || !strings.HasPrefix(got[0], "deleted ") {
		t.Errorf("evidence %v, want two deletions", got)
	}
}

func TestAFewDeletionsComeBackByThemselves(t *testing.T) {
	s, log := site(t)
	insertMany(t, s, 30)
	before := pin(t, log).Tree.Root()
	sent := page(t, log)
	exec(t, s.Owner, `DELETE FROM events WHERE seq <= 20`)
	pin(t, log)
	if got := accept(t, log, sent); got[reconcile.Stored] != 20 || got[reconcile.Present] != 10 {
		t.Errorf("answers %v, want 20 stored", got)
	}
	if after := pin(t, log).Tree.Root(); after != before {
		t.Errorf("root %+v, want %+v", after, before)
	}
	if n := number(t, s, `SELECT count(*) FROM reconciled.deletion WHERE restored_at IS NOT NULL`); n != 20 {
		t.Errorf("%d deletions are restored, want 20", n)
	}
	if n := len(evidence(t, s)); n != 20 {
		t.Errorf("%d pieces of evidence, want 20", n)
	}

	exec(t, s.Owner, `DELETE FROM events WHERE seq = 30`) // the 21st of this day
	pin(t, log)
	if got := accept(t, log, sent); got[reconcile.Held] != 1 || got[reconcile.Present] != 29 {
		t.Errorf("answers %v, want the 21st held", got)
	}
}

func TestABulkOfDeletionsIsHeldUntilAPersonReleasesIt(t *testing.T) {
	s, log := site(t)
	grant := s.Grant(t, shop)
	insertMany(t, s, 700) // in more slots than one drain takes
	pin(t, log)
	sent := page(t, log)
	exec(t, s.Owner, `DELETE FROM events WHERE seq <= 500`)
	pin(t, log)
	wantCount(t, accept(t, log, sent), reconcile.Held, len(sent))
	execSuper(t, s, `UPDATE reconciled.deletion SET deleted_at = deleted_at - interval '3 days'`)
	pin(t, log)
	wantCount(t, accept(t, log, sent), reconcile.Held, len(sent)) // time alone releases nothing

	held, total, err := log.Held(t.Context(), shop, 50)
	if err != nil || total != 500 || len(held) != 50 || time.Since(held[0].Deleted) < 24*time.Hour {
		t.Fatalf("%d of %d held (%v)", len(held), total, err)
	}
	for _, o := range sent {
		execSuper(t, s, `INSERT INTO reconciled.exception (store_id, event_id, created_ms, kind) VALUES ('`+shop.String()+`', '`+o.ID.String()+`', 0, 'held')`)
	}
	if _, err := log.Release(t.Context(), grant, []uuid.UUID{sent[0].ID, uuid.New()}, "ana"); !errors.Is(err, postgres.ErrNotHeld) {
		t.Errorf("%v, want ErrNotHeld", err)
	}
	released, err := log.Release(t.Context(), grant, []uuid.UUID{sent[0].ID}, "ana")
	if err != nil || len(released) != 1 {
		t.Fatalf("released %v, %v; want the one", released, err)
	}
	if got := accept(t, log, sent); got[reconcile.Stored] != 1 || got[reconcile.Held] != len(sent)-1 {
		t.Errorf("answers %v, want the released one stored", got)
	}
	if released, err = log.Release(t.Context(), grant, nil, "ana"); err != nil || len(released) != 499 {
		t.Fatalf("released %d, %v; want the other 499", len(released), err)
	}
	for sql, want := range map[string]int{
		`SELECT count(*) FROM reconciled.exception`:                                              0,
		`SELECT count(*) FROM reconciled.audit WHERE actor = 'ana' AND action = 'event restore'`: 2,
		`SELECT (detail ->> 'count')::int FROM reconciled.audit ORDER BY id DESC LIMIT 1`:        499,
	} {
		if n := number(t, s, sql); n != want {
			t.Errorf("%s: %d, want %d", sql, n, want)
		}
	}
	if got := accept(t, log, sent); got[reconcile.Stored] != len(sent)-1 {
		t.Errorf("answers %v, want the others stored", got)
	}
	wantTrueRoot(t, s, pin(t, log))
	if _, total, err := log.Held(t.Context(), shop, 1); err != nil || total != 0 {
		t.Errorf("%d still held (%v)", total, err)
	}
}

func TestAChangeOfContentIsEvidenceOnce(t *testing.T) {
	s, log := site(t)
	id := insertEvent(t, s.Owner, "2026-11-23 10:00", `{"a": 1}`)
	other := insertEvent(t, s.Owner, "2026-11-23 10:00", `{"a": 2}`)
	exec(t, s.Owner, `UPDATE events SET delta_payload = '{"said": 1}' WHERE event_id = $1`, other)
	pin(t, log)
	execSuper(t, s, `UPDATE reconciled.evidence SET cleared_at = now()`)
	before, err := log.Items(t.Context(), shop, []uuid.UUID{id})
	if err != nil {
		t.Fatal(err)
	}

	exec(t, s.Owner, `UPDATE events SET payload = '{"metadata": {}}', conflict_status = 'auto_resolved' WHERE event_id = $1`, other)
	wantTrueRoot(t, s, pin(t, log))
	wantEvidence(t, s) // delta_payload still says the same

	// To a time whose deletion would be no purge.
	exec(t, s.Owner, `UPDATE events SET payload = '{"a": 3}', created_at = now() WHERE event_id = $1`, id)
	exec(t, s.Owner, `UPDATE events SET payload = payload WHERE event_id = $1`, id)
	wantTrueRoot(t, s, pin(t, log))
	wantTrueRoot(t, s, pin(t, log))
	wantEvidence(t, s, "changed "+id.String())
	after, err := log.Items(t.Context(), shop, []uuid.UUID{id})
	if err != nil {
		t.Fatal(err)
	}
	if n := number(t, s, `SELECT count(*) FROM reconciled.evidence WHERE cleared_at IS NULL AND expected = $1 AND found = $2 AND slot = $3`,
		before[0].Digest[:], after[0].Digest[:], before[0].Key.Slot()); n != 1 {
		t.Error("the evidence does not hold the digests before and after")
	}

	fresh := uuid.New()
	exec(t, s.Owner, `UPDATE events SET event_id = $2 WHERE event_id = $1`, id, fresh)
	wantTrueRoot(t, s, pin(t, log))
	wantEvidence(t, s, "changed "+id.String(), "deleted "+id.String())
	s.AddStore(t, otherShop)
	exec(t, s.Owner, `UPDATE events SET store_id = $2 WHERE event_id = $1`, fresh, otherShop)
	wantTrueRoot(t, s, pin(t, log))
	wantEvidence(t, s, "changed "+id.String(), "deleted "+id.String(), "changed "+fresh.String())
	p, err := log.Pin(t.Context(), otherShop)
	if err != nil || p.Tree.Root().Count != 1 {
		t.Errorf("the other store counts %d events (%v), want the one that moved", p.Tree.Root().Count, err)
	}
}

func TestWhatTheDaemonGivesBackIsNoEvidence(t *testing.T) {
	s, log := site(t)
	whole := velox.Event{
		ID: uuid.New(), Store: shop, Device: shop, Seq: 1, Type: velox.StockDeltaApplied, Version: 1, CreatedAt: 1, Payload: []byte(`{"qty_delta": 1}`),
	}
	hash, err := velox.PayloadHash(whole.Payload)
	if err != nil {
		t.Fatal(err)
	}
	exec(t, s.Owner, `INSERT INTO events (event_id, store_id, device_id, seq, type, version, created_at, payload, conflict_status, full_payload_hash)
		VALUES ($1, $2, $2, 1, 'StockDeltaApplied', 1, 'epoch'::timestamptz + interval '1 ms', '{"lost": 1}', 'auto_resolved', $3)`, whole.ID, shop, hash)
	pin(t, log)
	wantCount(t, accept(t, log, []velox.Event{whole}), reconcile.Restored, 1)
	pin(t, log)
	wantEvidence(t, s)
	exec(t, s.Owner, `UPDATE events SET payload = '{"lost": 2}'`) // what was said is said
	pin(t, log)
	wantEvidence(t, s)
	exec(t, s.Owner, `DELETE FROM events`)
	pin(t, log)
	var digest []byte
	if err := s.DB.Pool.QueryRow(t.Context(), `SELECT expected FROM reconciled.evidence`).Scan(&digest); err != nil {
		t.Fatal(err)
	}
	if want := reconcile.Item(&whole); merkle.Digest(digest) != want.Digest {
		t.Errorf("deleted %x, want what was said, %x", digest, want.Digest)
	}
}

func TestAPurgeTakesNoProofBack(t *testing.T) {
	s, log := site(t)
	insertEvent(t, s.Owner, "2026-11-20 10:00", `{}`)
	insertEvent(t, s.Owner, "2026-11-20 10:00", `{}`)
	pin(t, log)
	execSuper(t, s, `UPDATE reconciled.leaf SET agreed_count = count`)
	exec(t, s.Owner, `DELETE FROM events WHERE event_id = (SELECT min(event_id::text)::uuid FROM events)`)
	if n, err := log.Unproven(t.Context(), shop); err != nil || n != 0 {
		t.Errorf("%d events unproven after a purge (%v), want none", n, err)
	}
	exec(t, s.Owner, `UPDATE events SET seq = 2`)
	if n, err := log.Unproven(t.Context(), shop); err != nil || n != 1 {
		t.Errorf("%d events unproven (%v), want the one that changed", n, err)
	}
}

func TestHealthTellsOfWhatHappenedToTheLog(t *testing.T) {
	s, log := site(t)
	insertMany(t, s, 30)
	measured := func() (snapshot health.Snapshot) {
		t.Helper()
		if err := postgres.NewHealth(log).Measure(t.Context(), shop, &snapshot); err != nil {
			t.Fatal(err)
		}
		return snapshot
	}
	if m := measured().More; m.EventTamperedCount != 0 || m.EventDeletedCount != 0 || m.DeletionsHeldCount != 0 {
		t.Errorf("%+v of an untouched log", m)
	}
	exec(t, s.Owner, `DELETE FROM events WHERE seq <= 21`)
	exec(t, s.Owner, `UPDATE events SET payload = '{}' WHERE seq = 30`)
	got := measured()
	if m := got.More; m.EventTamperedCount != 22 || m.EventDeletedCount != 21 || m.DeletionsHeldCount != 21 {
		t.Errorf("%+v, want 21 deleted and held, and 1 changed", m)
	}
	kinds := map[string]int{}
	for _, a := range got.Details {
		kinds[a.Kind]++
	}
	if kinds["tampered"] != 20 || kinds["held"] != 20 {
		t.Errorf("named are %v, want 20 of each", kinds)
	}
	exec(t, s.Owner, `ALTER TABLE events DISABLE TRIGGER reconciled_insert`)
	if got := measured(); got.More.EventTamperedCount != 22 || got.More.CaptureBrokenCount != 1 || got.Metrics.EventLagCount != 9 {
		t.Errorf("%+v and %d events unproven while capture is broken, want that named once, and all 9", got.More, got.Metrics.EventLagCount)
	}
}

func TestABacklogIsDrainedToTheEnd(t *testing.T) {
	s, log := site(t)
	insertMany(t, s, 100_000)
	insertMany(t, s, 10)
	exec(t, s.Owner, `UPDATE events SET seq = seq + 1 WHERE seq % 1000 = 0`)
	exec(t, s.Owner, `DELETE FROM events WHERE seq % 2 = 0`)
	if n := number(t, s, `SELECT count(*) FROM reconciled.dirty`); n < 100_000 {
		t.Fatalf("only %d dirty rows", n)
	}
	wantTrueRoot(t, s, pin(t, log))
	if n := number(t, s, `SELECT count(*) FROM reconciled.dirty`); n != 0 {
		t.Errorf("%d dirty rows are left", n)
	}
	if n := number(t, s, `SELECT count(*) FROM reconciled.deletion WHERE held_at IS NULL`); n != 0 {
		t.Errorf("%d of a bulk of deletions are not held", n)
	}
}

// execSuper runs SQL as a superuser, who may change our tables.
func execSuper(tb testing.TB, s *postgrestest.Site, sql string) {
	tb.Helper()
	if err := s.Server.Exec(tb.Context(), s.Name, sql); err != nil {
		tb.Fatalf("%s: %v", sql, err)
	}
}
