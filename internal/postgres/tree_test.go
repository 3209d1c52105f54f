package postgres_test

import (
	"bytes"
	"context"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/veloxpos/reconciled/internal/postgres"
	"github.com/veloxpos/reconciled/internal/postgres/postgrestest"
	"github.com/veloxpos/reconciled/internal/testkit"
	"github.com/veloxpos/reconciled/merkle"
	"github.com/veloxpos/reconciled/merkle/reconcile"
)

type execer interface {
	Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
}

// insertEvent writes an event at a time, as the POS would.
func insertEvent(tb testing.TB, q execer, at string, payload string) uuid.UUID {
	tb.Helper()
	id := uuid.New()
	_, err := q.Exec(tb.Context(), `INSERT INTO events (event_id, store_id, device_id, seq, type, version, created_at, payload)
		VALUES ($1, $2, $3, 1, 'StockAdjusted', 1, $4::timestamptz, $5::text::jsonb)`, id, shop, uuid.New(), at, payload)
	if err != nil {
		tb.Fatal(err)
	}
	return id
}

func site(tb testing.TB) (*postgrestest.Site, *postgres.Log) {
	tb.Helper()
	s := postgrestest.New(tb)
	s.AddStore(tb, shop)
	return s, postgres.NewLog(s.DB)
}

func pin(tb testing.TB, log *postgres.Log) reconcile.Pin {
	tb.Helper()
	p, err := log.Pin(tb.Context(), shop)
	if err != nil {
		tb.Fatal(err)
	}
	return p
}

// rebuilt is the root of a tree made from all events and declared purges at once,
// without the dirty log and its leaves.
func rebuilt(tb testing.TB, s *postgrestest.Site) merkle.Summary {
	tb.Helper()
	return rebuiltOf(tb, s, shop)
}

func rebuiltOf(tb testing.TB, s *postgrestest.Site, store uuid.UUID) merkle.Summary {
	tb.Helper()
	rows, err := s.DB.Pool.Query(tb.Context(), `SELECT event_id, reconciled.ms(created_at), store_id, device_id, seq, type, version,
		coalesce(nullif(delta_payload, '{}'), payload)::text, NULL::bytea FROM events WHERE store_id = $1
		UNION ALL SELECT event_id, created_ms, store_id, store_id, 0, type, 0, NULL, item FROM reconciled.deletion d
		WHERE store_id = $1 AND declared AND restored_at IS NULL
		  AND NOT EXISTS (SELECT FROM events e WHERE e.event_id = d.event_id AND e.store_id = $1)
		ORDER BY 2, 1`, store)
	if err != nil {
		tb.Fatal(err)
	}
	items, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (merkle.Item, error) {
		var key merkle.Key
		var c merkle.Content
		var said *string
		var purged []byte
		err := row.Scan(&key.ID, &key.At, &c.Store, &c.Device, &c.Seq, &c.Type, &c.Version, &said, &purged)
		if err != nil || said == nil {
			return merkle.Item{Key: key, Digest: merkle.Digest(purged)}, err
		}
		c.Said = []byte(*said)
		return merkle.NewItem(key, c), nil
	})
	if err != nil {
		tb.Fatal(err)
	}
	var changes []merkle.Change
	var builder merkle.LeafBuilder
	for i, item := range items {
		builder.Add(item)
		if slot := item.Key.Slot(); i+1 == len(items) || items[i+1].Key.Slot() != slot {
			changes = append(changes, merkle.Change{Slot: slot, Leaf: builder.Leaf(slot)})
		}
	}
	return merkle.Tree{}.Apply(changes).Root()
}

func wantTrueRoot(tb testing.TB, s *postgrestest.Site, p reconcile.Pin) {
	tb.Helper()
	if want := rebuilt(tb, s); p.Tree.Root() != want {
		tb.Errorf("the tree says %+v, its events say %+v", p.Tree.Root(), want)
	}
}

func exec(tb testing.TB, q execer, sql string, args ...any) {
	tb.Helper()
	if _, err := q.Exec(tb.Context(), sql, args...); err != nil {
		tb.Fatalf("%s: %v", sql, err)
	}
}

func TestATreeIsWhatItsEventsSay(t *testing.T) {
	s, log := site(t)
	for _, at := range []string{"2026-11-23 10:00", "2026-11-23 10:00", "1970-01-01", "1969-12-31 23:59:59.9999", "infinity", "-infinity", "4713-01-01 BC", "294276-12-31 23:59:59.999999"} {
		insertEvent(t, s.Owner, at, `{"a": 1.0}`)
	}
	first := pin(t, log)
	wantTrueRoot(t, s, first)
	if first.Tree.Root().Count != 8 {
		t.Errorf("the tree counts %d events, want 8", first.Tree.Root().Count)
	}
	insertEvent(t, s.Owner, "2026-11-23 10:00", `{}`)
	wantTrueRoot(t, s, pin(t, log))
	wantTrueRoot(t, s, pin(t, postgres.NewLog(s.DB))) // from the leaves alone, as after a restart
}

func TestALateCommitIsNotLost(t *testing.T) {
	s, log := site(t)
	late, err := s.Owner.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	insertEvent(t, late, "2026-11-23 10:00", `{"late": true}`)
	insertEvent(t, s.Owner, "2026-11-23 10:01", `{}`) // a later one of the same slot commits first
	if n := pin(t, log).Tree.Root().Count; n != 1 {
		t.Fatalf("the tree counts %d events, want the committed one", n)
	}
	if err := late.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	wantTrueRoot(t, s, pin(t, log))
}

func TestTwoWritersOfASlotDoNotWaitForEachOther(t *testing.T) {
	s, _ := site(t)
	one, err := s.Owner.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer one.Rollback(context.WithoutCancel(t.Context()))
	insertEvent(t, one, "2026-11-23 10:00", `{}`)
	two, err := s.Owner.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer two.Rollback(context.WithoutCancel(t.Context()))
	exec(t, two, `SET LOCAL lock_timeout = '2s'`)
	insertEvent(t, two, "2026-11-23 10:00", `{}`) // would fail here if it had to wait
}

// waitsOn reports whether a statement that names the table waits for a lock.
func waitsOn(tb testing.TB, s *postgrestest.Site, table string) bool {
	tb.Helper()
	var waiting bool
	err := s.DB.Pool.QueryRow(tb.Context(), `SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database()
		AND wait_event_type = 'Lock' AND query LIKE '%' || $1 || '%' AND pid <> pg_backend_pid())`, table).Scan(&waiting)
	if err != nil {
		tb.Fatal(err)
	}
	return waiting
}

// midDrain starts a Pin that stops between taking a slot's dirty rows and reading
// its events (another transaction holds the slot's row of the round's worklist), lets do
// happen there, and returns what the Pin then says.
func midDrain(t *testing.T, s *postgrestest.Site, log *postgres.Log, do func()) reconcile.Pin {
	t.Helper()
	holder, err := pgx.Connect(t.Context(), s.Server.URL("postgres", s.Name))
	if err != nil {
		t.Fatal(err)
	}
	defer holder.Close(context.WithoutCancel(t.Context()))
	exec(t, holder, `BEGIN`)
	exec(t, holder, `UPDATE reconciled.worklist SET stamp = stamp WHERE consumer = 'anchor'`)
	pins := make(chan reconcile.Pin, 1)
	go func() {
		defer close(pins)
		if p, err := log.Pin(context.WithoutCancel(t.Context()), shop); err != nil {
			t.Error(err)
		} else {
			pins <- p
		}
	}()
	testkit.Eventually(t, 20*time.Second, "the drain waits for the worklist", func() bool {
		return waitsOn(t, s, "reconciled.worklist")
	})
	do()
	exec(t, holder, `COMMIT`)
	return <-pins
}

func TestAChangeBetweenTakingAndReadingIsNotLost(t *testing.T) {
	s, log := site(t)
	insertEvent(t, s.Owner, "2026-11-23 10:00", `{}`)
	pin(t, log)
	insertEvent(t, s.Owner, "2026-11-23 10:00", `{"dirty": 1}`)
	midDrain(t, s, log, func() { insertEvent(t, s.Owner, "2026-11-23 10:00", `{"between": 1}`) })
	wantTrueRoot(t, s, pin(t, log))
}

func TestASecondDaemonsDrainWaitsAndSeesTheFirst(t *testing.T) {
	s, log := site(t)
	insertEvent(t, s.Owner, "2026-11-23 10:00", `{}`)
	pin(t, log)
	insertEvent(t, s.Owner, "2026-11-23 10:00", `{"dirty": 1}`)
	second := make(chan reconcile.Pin, 1)
	midDrain(t, s, log, func() {
		insertEvent(t, s.Owner, "2026-11-23 10:00", `{"between": 1}`)
		go func() {
			defer close(second)
			if p, err := postgres.NewLog(s.DB).Pin(context.WithoutCancel(t.Context()), shop); err != nil {
				t.Error(err)
			} else {
				second <- p
			}
		}()
		testkit.Eventually(t, 20*time.Second, "the second drain waits for the root", func() bool {
			return waitsOn(t, s, "reconciled.root")
		})
	})
	wantTrueRoot(t, s, <-second)
}

func TestADrainThatDiesLeavesItsSlotsDirty(t *testing.T) {
	s, log := site(t)
	insertEvent(t, s.Owner, "2026-11-23 10:00", `{}`)
	pin(t, log)
	insertEvent(t, s.Owner, "2026-11-23 10:00", `{"dirty": 1}`)
	victim := postgres.NewLog(s.DB)
	ctx, cancel := context.WithCancel(t.Context())
	holder, err := pgx.Connect(t.Context(), s.Server.URL("postgres", s.Name))
	if err != nil {
		t.Fatal(err)
	}
	defer holder.Close(context.WithoutCancel(t.Context()))
	exec(t, holder, `BEGIN`)
	exec(t, holder, `LOCK TABLE reconciled.leaf IN ACCESS EXCLUSIVE MODE`)
	died := make(chan error, 1)
	go func() { _, err := victim.Pin(ctx, shop); died <- err }()
	testkit.Eventually(t, 20*time.Second, "the drain waits for the leaves", func() bool {
		return waitsOn(t, s, "reconciled.leaf")
	})
	cancel()
	if err := <-died; err == nil {
		t.Fatal("the drain was to die")
	}
	exec(t, holder, `COMMIT`)
	wantTrueRoot(t, s, pin(t, log))
}

func TestOnlyChangesOfContentAreCaptured(t *testing.T) {
	s, log := site(t)
	id := insertEvent(t, s.Owner, "2026-11-23 10:00", `{"a": 1.0}`)
	version := pin(t, log).Version
	exec(t, s.Owner, `UPDATE events SET projection_status = 'processed', received_at = now(), request_id = gen_random_uuid() WHERE event_id = $1`, id)
	if got := pin(t, log).Version; got != version {
		t.Error("a status update moved the tree")
	}
	for _, change := range []string{
		`payload = '{"a": 1}'`, // equal to jsonb's =, not to its text
		`delta_payload = '{"b": null}'`,
		`created_at = created_at + interval '1 hour'`,
		`seq = seq + 1`,
		`event_id = gen_random_uuid()`,
	} {
		exec(t, s.Owner, `UPDATE events SET `+change+` WHERE store_id = $1`, shop)
		p := pin(t, log)
		if p.Version == version {
			t.Errorf("%s did not move the tree", change)
		}
		wantTrueRoot(t, s, p)
		version = p.Version
	}
}

func TestADeletionLeavesItsEvidence(t *testing.T) {
	s, log := site(t)
	id := insertEvent(t, s.Owner, "2026-11-23 10:00", `{"a": 1}`)
	items, err := log.Items(t.Context(), shop, []uuid.UUID{id})
	if err != nil || len(items) != 1 {
		t.Fatalf("%v, %v", items, err)
	}
	exec(t, s.Owner, `DELETE FROM events WHERE event_id = $1`, id)
	wantTrueRoot(t, s, pin(t, log))
	var digest []byte
	if err := s.Owner.QueryRow(t.Context(), `SELECT reconciled.item(gen_random_uuid(), now(), gen_random_uuid(), gen_random_uuid(), 1, '', 1, '{}')`).Scan(&digest); err == nil {
		t.Error("the POS role may call the daemon's functions")
	}
	err = s.DB.Pool.QueryRow(t.Context(), `SELECT item FROM reconciled.deletion WHERE event_id = $1`, id).Scan(&digest)
	if err != nil || !bytes.Equal(digest, items[0].Digest[:]) {
		t.Errorf("the deleted event's digest in SQL is %x (%v), in Go %x", digest, err, items[0].Digest)
	}
}

func TestARestoredDatabaseDoesNotMeetAnOldTree(t *testing.T) {
	s, log := site(t)
	insertEvent(t, s.Owner, "2026-11-23 10:00", `{"kept": 1}`)
	pin(t, log)
	super, err := pgx.Connect(t.Context(), s.Server.URL("postgres", s.Name))
	if err != nil {
		t.Fatal(err)
	}
	defer super.Close(context.WithoutCancel(t.Context()))
	for _, table := range []string{"public.events", "reconciled.leaf", "reconciled.root"} {
		exec(t, super, `CREATE TABLE backup_`+table[len(table)-4:]+` AS TABLE `+table)
	}
	insertEvent(t, s.Owner, "2026-11-24 10:00", `{"lost in the failover": 1}`)
	pin(t, log) // this daemon's memory now holds a tree that the backup never had
	exec(t, super, `SET session_replication_role = replica; TRUNCATE public.events, reconciled.leaf, reconciled.root;
		INSERT INTO public.events TABLE backup_ents; INSERT INTO reconciled.leaf TABLE backup_leaf; INSERT INTO reconciled.root TABLE backup_root;
		SET session_replication_role = DEFAULT`)
	insertEvent(t, s.Owner, "2026-11-25 10:00", `{"new": 1}`)
	wantTrueRoot(t, s, pin(t, postgres.NewLog(s.DB))) // another daemon counts the version up again
	wantTrueRoot(t, s, pin(t, log))
}

func TestATruncationIsSeen(t *testing.T) {
	s, log := site(t)
	insertEvent(t, s.Owner, "2026-11-23 10:00", `{}`)
	pin(t, log)
	exec(t, s.Owner, `TRUNCATE events`)
	if n := pin(t, log).Tree.Root().Count; n != 0 {
		t.Errorf("the tree still counts %d events", n)
	}
	wantEvidence(t, s, "truncated")
	insertEvent(t, s.Owner, "2026-11-23 10:00", `{}`)
	execSuper(t, s, `UPDATE reconciled.evidence SET cleared_at = now(); DELETE FROM reconciled.leaf`)
	exec(t, s.Owner, `TRUNCATE events`) // before the tree knew of anything
	pin(t, log)
	wantEvidence(t, s, "truncated")
}

func TestMillisecondsRoundDownAtTheEndsOfTime(t *testing.T) {
	s, _ := site(t)
	for at, instant := range map[string]time.Time{
		"294250-05-05 10:02:03.123999+00": time.Date(294250, 5, 5, 10, 2, 3, 123_999_000, time.UTC),
		"294276-12-31 23:59:59.999999+00": time.Date(294276, 12, 31, 23, 59, 59, 999_999_000, time.UTC),
		"4713-01-01 00:00:00.0005+00 BC":  time.Date(-4712, 1, 1, 0, 0, 0, 500_000, time.UTC),
		"1969-12-31 23:59:59.9999+00":     time.Date(1969, 12, 31, 23, 59, 59, 999_900_000, time.UTC),
	} {
		var got int64
		want := instant.UnixMilli()
		if err := s.DB.Pool.QueryRow(t.Context(), `SELECT reconciled.ms($1::text::timestamptz)`, at).Scan(&got); err != nil || got != want {
			t.Errorf("ms(%s) = %d (%v), want %d", at, got, err, want)
		}
	}
}

func TestAFrozenDrainDoesNotBlockTheStoreForEver(t *testing.T) {
	s := postgrestest.NewOn(t, testkit.Shared(t), postgres.Options{LeaseTTL: 2 * time.Second})
	s.AddStore(t, shop)
	log := postgres.NewLog(s.DB)
	pin(t, log)
	frozen := make(chan struct{})
	died := make(chan error, 1)
	locked := make(chan struct{})
	go func() {
		died <- postgres.Transact(s.DB, context.WithoutCancel(t.Context()), func(ctx context.Context, tx pgx.Tx) error {
			_, err := tx.Exec(ctx, `SELECT 1 FROM reconciled.root FOR UPDATE`)
			close(locked)
			<-frozen
			return err
		})
	}()
	<-locked
	insertEvent(t, s.Owner, "2026-11-23 10:00", `{}`)
	wantTrueRoot(t, s, pin(t, log)) // waits until the frozen one has lost its transaction
	close(frozen)
	if err := <-died; err == nil {
		t.Error("the frozen transaction committed")
	}
}
