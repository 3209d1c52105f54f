package postgres_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/veloxpos/reconciled/internal/postgres"
)

func TestADisabledTriggerIsNamed(t *testing.T) {
	s, _ := site(t)
	if err := s.DB.CheckCapture(t.Context()); err != nil {
		t.Fatal(err)
	}
	exec(t, s.Owner, `ALTER TABLE events DISABLE TRIGGER reconciled_delete`)
	if err := s.DB.CheckCapture(t.Context()); !errors.Is(err, postgres.ErrCapture) || !strings.Contains(err.Error(), "reconciled_delete") {
		t.Errorf("%v, want the disabled trigger named", err)
	}
}

func TestABrokenCaptureIsNoticedByTheNextPin(t *testing.T) {
	s, log := site(t)
	s.AddStore(t, otherShop)
	insertEvent(t, s.Owner, "2026-11-23 10:00", `{}`)
	insertEvent(t, s.Owner, "2026-11-24 10:00", `{}`)
	pin(t, log)
	wantEvidence(t, s)
	var update string
	if err := s.DB.Pool.QueryRow(t.Context(), `SELECT pg_get_triggerdef(oid) FROM pg_trigger WHERE tgname = 'reconciled_update'`).Scan(&update); err != nil {
		t.Fatal(err)
	}
	remade := func(part, other string) string {
		return strings.Replace(strings.Replace(update, part, other, 1), "CREATE", "CREATE OR REPLACE", 1)
	}
	for name, c := range map[string]struct{ spoil, mend string }{
		"a trigger is disabled":     {`ALTER TABLE events DISABLE TRIGGER reconciled_delete`, `ALTER TABLE events ENABLE TRIGGER reconciled_delete`},
		"all triggers are disabled": {`ALTER TABLE events DISABLE TRIGGER ALL`, `ALTER TABLE events ENABLE TRIGGER ALL`},
		"a trigger fires for nothing": {
			`DROP TRIGGER reconciled_insert ON events; CREATE TRIGGER reconciled_insert AFTER INSERT ON events
				FOR EACH ROW WHEN (false) EXECUTE FUNCTION reconciled.capture_insert()`,
			`DROP TRIGGER reconciled_insert ON events; CREATE TRIGGER reconciled_insert AFTER INSERT ON events
				FOR EACH ROW EXECUTE FUNCTION reconciled.capture_insert()`,
		},
		"a trigger sees one column": {
			`DROP TRIGGER reconciled_delete ON events; CREATE TRIGGER reconciled_delete AFTER UPDATE OF seq ON events
				FOR EACH STATEMENT EXECUTE FUNCTION reconciled.capture_delete()`,
			`DROP TRIGGER reconciled_delete ON events; CREATE TRIGGER reconciled_delete AFTER DELETE ON events
				REFERENCING OLD TABLE AS old_rows FOR EACH STATEMENT EXECUTE FUNCTION reconciled.capture_delete()`,
		},
		"the update trigger overlooks a column":           {remade("new.payload", "old.payload"), remade("", "")},
		"the update trigger compares values, not bytes":   {remade("*<>", "<>"), remade("", "")},
		"the update trigger sees only some of the rows":   {remade("WHEN (", "WHEN (old.seq > 5 AND "), remade("", "")},
		"the update trigger is not called for a column":   {remade("created_at, payload", "created_at"), remade("", "")},
		"the update trigger comes before other triggers'": {remade("AFTER", "BEFORE"), remade("", "")},
		"a table inherits from it":                        {`CREATE TABLE events_old () INHERITS (events)`, `DROP TABLE events_old`},
		"there is no such table":                          {`ALTER TABLE events RENAME TO events_2`, `ALTER TABLE events_2 RENAME TO events`},
	} {
		t.Run(name, func(t *testing.T) {
			execSuper(t, s, `UPDATE reconciled.evidence SET cleared_at = now() WHERE cleared_at IS NULL`)
			execSuper(t, s, c.spoil)
			for range 2 {
				if _, err := log.Pin(t.Context(), shop); !errors.Is(err, postgres.ErrCapture) {
					t.Fatalf("%v, want ErrCapture", err)
				}
			}
			wantEvidence(t, s, "capture")
			if n := number(t, s, `SELECT count(*) FROM reconciled.capture WHERE broken_since IS NOT NULL`); n != 1 {
				t.Error("it is not kept since when")
			}
			if name == "all triggers are disabled" {
				execSuper(t, s, `DELETE FROM events WHERE created_at < '2026-11-24'`)
			}
			execSuper(t, s, c.mend)
			wantTrueRoot(t, s, pin(t, log)) // of all events, those that went past the triggers too
			wantEvidence(t, s, "capture")
			if err := s.DB.CheckCapture(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestTriggersThatWereAwayForATimeAreNoticed(t *testing.T) {
	s, log := site(t)
	s.AddStore(t, otherShop)
	insertEvent(t, s.Owner, "2026-11-23 10:00", `{}`)
	exec(t, s.Owner, `INSERT INTO events (event_id, store_id, device_id, seq, type, version, created_at, payload)
		VALUES (gen_random_uuid(), $1, $1, 1, 'SaleCreated', 1, now(), '{}')`, otherShop)
	pin(t, log)
	if _, err := log.Pin(t.Context(), otherShop); err != nil {
		t.Fatal(err)
	}
	exec(t, s.Owner, `ALTER TABLE events DISABLE TRIGGER USER`)
	exec(t, s.Owner, `UPDATE events SET seq = 7`)
	exec(t, s.Owner, `ALTER TABLE events ENABLE TRIGGER USER`)
	wantTrueRoot(t, s, pin(t, log))
	wantEvidence(t, s, "capture")
	if n := number(t, s, `SELECT count(*) FROM reconciled.evidence WHERE store_id = $1 AND kind = 'capture'`, otherShop); n != 1 {
		t.Error("no evidence for the other store")
	}
	if n := number(t, s, `SELECT count(*) FROM reconciled.dirty WHERE store_id = $1`, otherShop); n == 0 {
		t.Error("the other store's tree is not computed anew")
	}
}

func TestAnInheritingTableNeedsTheTriggersToo(t *testing.T) {
	s, log := site(t)
	insertEvent(t, s.Owner, "2026-11-23 10:00", `{}`)
	pin(t, log)
	execSuper(t, s, `CREATE TABLE events_old () INHERITS (events); ALTER TABLE events_old OWNER TO velox`)
	if _, err := log.Pin(t.Context(), shop); !errors.Is(err, postgres.ErrCapture) || !strings.Contains(err.Error(), "reconciled_update on events_old") {
		t.Fatalf("%v, want the table named", err)
	}
	execSuper(t, s, `DO $$ DECLARE made text; BEGIN
		FOR made IN SELECT replace(pg_get_triggerdef(oid), 'public.events', 'public.events_old') FROM pg_trigger
			WHERE tgrelid = 'events'::regclass AND tgname LIKE 'reconciled%' LOOP EXECUTE made; END LOOP; END $$`)
	wantTrueRoot(t, s, pin(t, log))
	exec(t, s.Owner, `INSERT INTO events_old SELECT gen_random_uuid(), store_id, device_id, 2, type, version, created_at, actor_user_id, actor_role, payload FROM events`)
	wantTrueRoot(t, s, pin(t, log))
	exec(t, s.Owner, `UPDATE events SET payload = '{"through": "the parent"}' WHERE seq = 2`)
	wantTrueRoot(t, s, pin(t, log))
	exec(t, s.Owner, `UPDATE events_old SET seq = 9`)
	p := pin(t, log)
	wantTrueRoot(t, s, p)
	if n := p.Tree.Root().Count; n != 2 {
		t.Errorf("the tree counts %d events", n)
	}
}

// An update that moves an event to another partition calls no trigger of the row.
func TestAPartitionedLogIsRefused(t *testing.T) {
	s, log := site(t)
	execSuper(t, s, `ALTER TABLE events RENAME TO events_before;
		CREATE TABLE events (LIKE events_before INCLUDING DEFAULTS) PARTITION BY RANGE (created_at)`)
	if _, err := log.Pin(t.Context(), shop); !errors.Is(err, postgres.ErrCapture) || !strings.Contains(err.Error(), "partitioned") {
		t.Errorf("%v, want ErrCapture for its partitions", err)
	}
}

var otherShop = uuid.MustParse("22222222-2222-4222-8222-222222222222")
