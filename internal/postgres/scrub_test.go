package postgres_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/veloxpos/reconciled/internal/postgres"
	"github.com/veloxpos/reconciled/internal/postgres/postgrestest"
	"github.com/veloxpos/reconciled/internal/velox"
	"github.com/veloxpos/reconciled/lock"
)

// behind changes the log as a restore, or somebody with the superuser's password,
// would: past the triggers.
func behind(tb testing.TB, s *postgrestest.Site, sql string, args ...any) {
	tb.Helper()
	super, err := pgx.Connect(tb.Context(), s.Server.URL("postgres", s.Name))
	if err != nil {
		tb.Fatal(err)
	}
	defer super.Close(context.WithoutCancel(tb.Context()))
	exec(tb, super, `SET session_replication_role = replica`)
	exec(tb, super, sql, args...)
}

// hashed inserts an event with the hash that the POS would have given it.
func hashed(tb testing.TB, q execer, at, payload string) uuid.UUID {
	tb.Helper()
	hash, err := velox.PayloadHash([]byte(payload))
	if err != nil {
		tb.Fatal(err)
	}
	id := uuid.New()
	exec(tb, q, `INSERT INTO events (event_id, store_id, device_id, seq, type, version, created_at, payload, delta_payload, full_payload_hash)
		VALUES ($1, $2, $3, 1, 'SaleCreated', 1, $4::text::timestamptz, $5::text::jsonb, $5::text::jsonb, $6)`, id, shop, uuid.New(), at, payload, hash)
	return id
}

// piece is a row of evidence.
type piece struct {
	Kind            string
	Slot            *int64
	Event           *uuid.UUID
	Expected, Found []byte
	Detail          string
}

func evidenceOf(tb testing.TB, s *postgrestest.Site) []piece {
	tb.Helper()
	rows, err := s.DB.Pool.Query(tb.Context(), `SELECT kind, slot, event_id, expected, found, detail FROM reconciled.evidence ORDER BY id`)
	if err != nil {
		tb.Fatal(err)
	}
	list, err := pgx.CollectRows(rows, pgx.RowToStructByPos[piece])
	if err != nil {
		tb.Fatal(err)
	}
	return list
}

// quick has no pace.
var quick = postgres.ScrubOptions{Rate: 1e9}

func scrub(tb testing.TB, log *postgres.Log, grant lock.Grant, opts postgres.ScrubOptions) postgres.ScrubReport {
	tb.Helper()
	report, err := log.Scrub(tb.Context(), grant, opts)
	if err != nil {
		tb.Fatal(err)
	}
	return report
}

func TestAScrubFindsWhatWentPastTheTriggers(t *testing.T) {
	for name, change := range map[string]string{
		"an update":    `UPDATE events SET seq = seq + 1 WHERE event_id = $1`,
		"a deletion":   `DELETE FROM events WHERE event_id = $1`,
		"an insertion": `INSERT INTO events SELECT (jsonb_populate_record(e, jsonb_build_object('event_id', gen_random_uuid()))).* FROM events e WHERE event_id = $1`,
		"a new slot":   `INSERT INTO events SELECT (jsonb_populate_record(e, '{"event_id": "44444444-4444-4444-8444-444444444444", "created_at": "infinity"}')).* FROM events e WHERE event_id = $1`,
	} {
		t.Run(name, func(t *testing.T) {
			s, log := site(t)
			id := hashed(t, s.Owner, "2026-11-23 10:00", `{"a": 1}`)
			hashed(t, s.Owner, "2026-11-23 14:00", `{"a": 2}`)
			before := pin(t, log).Tree
			grant := s.Grant(t, shop)
			if r := scrub(t, log, grant, quick); r.Found != 0 || r.Slots != 2 || r.Events != 2 || r.LastFull == nil {
				t.Fatalf("a scrub of an honest log: %+v", r)
			}
			behind(t, s, change, id)
			if r := scrub(t, log, grant, quick); r.Found != 1 {
				t.Fatalf("the scrub reports %+v, want one piece of evidence", r)
			}
			list := evidenceOf(t, s)
			if len(list) != 1 || list[0].Kind != "slot" || list[0].Slot == nil {
				t.Fatalf("the evidence is %+v", list)
			}
			recorded := before.Leaf(*list[0].Slot).Digest
			if !bytes.Equal(list[0].Expected, recorded[:]) {
				t.Errorf("expected %x, the leaf was %x", list[0].Expected, recorded)
			}
			after := pin(t, log)
			wantTrueRoot(t, s, after)
			if now := after.Tree.Leaf(*list[0].Slot).Digest; !bytes.Equal(list[0].Found, now[:]) {
				t.Errorf("found %x, the leaf is now %x", list[0].Found, now)
			}
			if r := scrub(t, log, grant, quick); r.Found != 0 {
				t.Errorf("what is known was found again: %+v", r)
			}
		})
	}
}

func TestAScrubFindsATurnedBit(t *testing.T) {
	s, log := site(t)
	id := hashed(t, s.Owner, "2026-11-23 10:00", `{"total": 100}`)
	hashed(t, s.Owner, "2026-11-23 10:00", `{"total": 101}`)
	grant := s.Grant(t, shop)
	scrub(t, log, grant, quick)
	behind(t, s, `UPDATE events SET payload = '{"total": 101}', delta_payload = '{"total": 101}' WHERE event_id = $1`, id)
	scrub(t, log, grant, quick)
	scrub(t, log, grant, quick)
	was, _ := velox.PayloadHash([]byte(`{"total": 100}`))
	is, _ := velox.PayloadHash([]byte(`{"total": 101}`))
	var checks []piece
	for _, e := range evidenceOf(t, s) {
		if e.Kind == "self_check" {
			checks = append(checks, e)
		}
	}
	if len(checks) != 1 || *checks[0].Event != id || fmt.Sprintf("%x", checks[0].Expected) != was || fmt.Sprintf("%x", checks[0].Found) != is {
		t.Errorf("the evidence is %+v, want one self check of %s from %s to %s", checks, id, was, is)
	}
}

// manySlots inserts an event into each of n slots.
func manySlots(tb testing.TB, s *postgrestest.Site, n int) {
	tb.Helper()
	exec(tb, s.Owner, `INSERT INTO events (event_id, store_id, device_id, seq, type, version, created_at, payload)
		SELECT gen_random_uuid(), $1, gen_random_uuid(), i, 'StockAdjusted', 1, '2026-01-01'::timestamptz + i * interval '1 hour', '{}'
		FROM generate_series(1, $2::int) i`, shop, n)
}

func TestABulkChangeIsOnePieceOfEvidence(t *testing.T) {
	s, log := site(t)
	manySlots(t, s, 600)
	grant := s.Grant(t, shop)
	scrub(t, log, grant, quick)
	behind(t, s, `UPDATE events SET version = 2`)
	if r := scrub(t, log, grant, quick); r.Found != 1 {
		t.Errorf("the scrub reports %+v", r)
	}
	if list := evidenceOf(t, s); len(list) != 1 || list[0].Detail != "bulk change: 256 of 256 slots" || list[0].Slot != nil {
		t.Errorf("the evidence is %+v", list)
	}
	wantTrueRoot(t, s, pin(t, log))
}

func TestAScrubGoesOnWhereItWasKilled(t *testing.T) {
	s, log := site(t)
	manySlots(t, s, 700)
	grant := s.Grant(t, shop)
	scrub(t, log, grant, quick)
	behind(t, s, `UPDATE events SET version = 2 WHERE seq IN (10, 690)`)

	ctx, kill := context.WithCancel(t.Context())
	slots := 0
	_, err := log.Scrub(ctx, grant, postgres.ScrubOptions{Rate: 1e9, Stop: func() bool {
		if slots++; slots == 400 {
			fenceOff(t, s)
			kill()
		}
		return false
	}})
	if err == nil {
		t.Fatal("the scrub was to be killed")
	}
	state, err := log.ScrubState(t.Context(), shop)
	if err != nil || state.Slots != 256 || state.Found != 1 || state.Progress <= 0 || state.Progress >= 1 {
		t.Fatalf("after the kill: %+v, %v", state, err)
	}
	r := scrub(t, postgres.NewLog(s.DB), s.Grant(t, shop), quick)
	if r.Slots != 700-256 || r.Found != 1 {
		t.Errorf("the second part reports %+v", r)
	}
	if list := evidenceOf(t, s); len(list) != 2 {
		t.Errorf("the evidence is %+v", list)
	}
}

// fenceOff ends the grant under way, as the next holder of the lock would.
func fenceOff(tb testing.TB, s *postgrestest.Site) {
	tb.Helper()
	exec(tb, s.DB.Pool, `UPDATE reconciled.fence SET epoch = epoch + 1, holder = ''`)
	exec(tb, s.DB.Pool, `UPDATE reconciled.lease SET holder = '', expires_at = now()`)
}

func TestAScrubStopsBetweenSlotsAndGoesOn(t *testing.T) {
	s, log := site(t)
	manySlots(t, s, 50)
	grant := s.Grant(t, shop)
	slots := 0
	first, err := log.Scrub(t.Context(), grant, postgres.ScrubOptions{Rate: 1e9, Stop: func() bool { slots++; return slots == 20 }})
	if !errors.Is(err, lock.ErrGaveWay) || first.Slots != 20 {
		t.Fatalf("%+v, %v", first, err)
	}
	second := scrub(t, log, grant, quick)
	if second.Slots != 30 || second.LastFull == nil || first.LastFull != nil {
		t.Errorf("the first part says %+v, the second %+v", first, second)
	}
}

func TestAScrubKeepsItsPace(t *testing.T) {
	s, log := site(t)
	manySlots(t, s, 20)
	grant := s.Grant(t, shop)
	ctx, cancel := context.WithCancel(t.Context())
	slots := 0
	_, err := log.Scrub(ctx, grant, postgres.ScrubOptions{Rate: 1, Stop: func() bool {
		if slots++; slots == 3 { // asked several times a second: the second slot's turn has not come
			cancel()
		}
		return false
	}})
	if !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	if state, err := log.ScrubState(t.Context(), shop); err != nil || state.Slots != 1 {
		t.Errorf("%+v, %v, want one slot done", state, err)
	}
}

func TestAScrubBesideWritersRaisesNoAlarm(t *testing.T) {
	s, log := site(t)
	manySlots(t, s, 400) // enough that most are at rest when they are looked at
	grant := s.Grant(t, shop)
	var writers sync.WaitGroup
	stop := make(chan struct{})
	for w := range 4 {
		writers.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				var err error
				switch i % 3 {
				case 0:
					_, err = s.Owner.Exec(t.Context(), `INSERT INTO events (event_id, store_id, device_id, seq, type, version, created_at, payload)
						VALUES (gen_random_uuid(), $1, gen_random_uuid(), $2, 'StockAdjusted', 1, '2026-01-01'::timestamptz + $3 * interval '1 hour', '{}')`, shop, i, 1+(i*37+w*101)%400)
				case 1:
					_, err = s.Owner.Exec(t.Context(), `UPDATE events SET seq = seq + 1, projection_status = 'processed' WHERE event_id =
						(SELECT event_id FROM events WHERE store_id = $1 ORDER BY event_id OFFSET $2 LIMIT 1)`, shop, (i*13+w)%400)
				case 2:
					_, err = s.Owner.Exec(t.Context(), `DELETE FROM events WHERE event_id =
						(SELECT event_id FROM events WHERE store_id = $1 AND seq > 400 ORDER BY event_id LIMIT 1)`, shop)
				}
				if err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	drains := make(chan error, 1)
	go func() { // the other tasks' drains, as of a second daemon
		other := postgres.NewLog(s.DB)
		for {
			if _, err := other.Pin(t.Context(), shop); err != nil {
				drains <- err
				return
			}
			select {
			case <-stop:
				drains <- nil
				return
			default:
			}
		}
	}()
	var total postgres.ScrubReport
	for began := time.Now(); time.Since(began) < 3*time.Second || total.Slots-total.Pending < 400 && time.Since(began) < time.Minute; {
		total = total.Plus(scrub(t, log, grant, quick))
	}
	close(stop)
	writers.Wait()
	if err := <-drains; err != nil {
		t.Error(err)
	}
	if total.Found != 0 || total.Slots-total.Pending < 400 {
		t.Errorf("beside writers: %+v", total)
	}
	for _, e := range evidenceOf(t, s) {
		if e.Kind == "slot" {
			t.Errorf("false alarm: %+v", e)
		}
	}
	if got, want := pin(t, log).Tree.Root(), naive(t, s); got != want {
		t.Errorf("the tree says %+v, its events %+v", got, want)
	}
}
