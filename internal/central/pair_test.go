package central_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/veloxpos/reconciled/internal/central"
	"github.com/veloxpos/reconciled/internal/postgres"
	"github.com/veloxpos/reconciled/internal/postgres/postgrestest"
	"github.com/veloxpos/reconciled/internal/testkit"
	"github.com/veloxpos/reconciled/internal/velox"
	"github.com/veloxpos/reconciled/lock"
	"github.com/veloxpos/reconciled/merkle"
	"github.com/veloxpos/reconciled/merkle/reconcile"
)

var (
	shop  = uuid.MustParse("11111111-1111-4111-8111-111111111111")
	other = uuid.MustParse("22222222-2222-4222-8222-222222222222")
	noon  = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
)

const token = "shop-token"

// side is a database with events and its log.
type side struct {
	testing.TB
	*postgrestest.Site
	log *postgres.Log
}

func newSide(tb testing.TB) *side { return newTracedSide(tb, nil) }

func newTracedSide(tb testing.TB, tracer pgx.QueryTracer) *side {
	tb.Helper()
	s := &side{TB: tb, Site: postgrestest.NewOn(tb, testkit.Shared(tb), postgres.Options{Tracer: tracer})}
	s.AddStore(tb, shop)
	s.log = postgres.NewLog(s.DB)
	return s
}

// copy is the side as it is now: a backup or a clone of it.
func (s *side) copy() *side {
	c := &side{TB: s.TB, Site: s.Copy(s.TB)}
	c.log = postgres.NewLog(c.DB)
	return c
}

// event is a device-made event of the shop, i seconds after noon.
func event(i int, typ velox.Type, payload string) velox.Event {
	hash, err := velox.PayloadHash(json.RawMessage(payload))
	if err != nil {
		panic(err)
	}
	return velox.Event{
		ID: uuid.NewSHA1(shop, fmt.Append(nil, i)), Store: shop, Device: uuid.NewSHA1(shop, []byte("till")), Seq: int64(i),
		Type: typ, Version: 1, CreatedAt: velox.MillisOf(noon.Add(time.Duration(i) * time.Second)),
		Payload: json.RawMessage(payload), Delta: json.RawMessage(payload), Hash: hash, ConflictStatus: velox.Resolved,
	}
}

// withNote is an event whose content is at least n bytes.
func withNote(e velox.Event, n int) velox.Event {
	said := json.RawMessage(fmt.Sprintf(`{"note": %q}`, strings.Repeat("x", n)))
	hash, err := velox.PayloadHash(said)
	if err != nil {
		panic(err)
	}
	e.Payload, e.Delta, e.Hash = said, said, hash
	e.ID = uuid.NewSHA1(shop, []byte("large"))
	return e
}

// received are n events with a payload of their own.
func received(from, n int) []velox.Event {
	events := make([]velox.Event, n)
	for i := range events {
		events[i] = event(from+i, velox.StockReceived, fmt.Sprintf(`{"qty": %d}`, from+i))
	}
	return events
}

// add writes events as the POS left them.
func (s *side) add(events ...velox.Event) {
	s.Helper()
	var batch pgx.Batch
	for _, e := range events {
		batch.Queue(`INSERT INTO events (event_id, store_id, device_id, seq, type, version, created_at, payload, delta_payload,
				full_payload_hash, conflict_status, request_id)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8::text::jsonb, $9::text::jsonb, nullif($10, ''), $11, $12)`,
			e.ID, e.Store, e.Device, e.Seq, e.Type, e.Version, e.CreatedAt.Time(), string(e.Payload), text(e.Delta), e.Hash, e.ConflictStatus, e.RequestID)
	}
	if err := s.Owner.SendBatch(s.Context(), &batch).Close(); err != nil {
		s.Fatal(err)
	}
}

func text(raw json.RawMessage) *string {
	if raw == nil {
		return nil
	}
	t := string(raw)
	return &t
}

// number reads one number, such as a count.
func (s *side) number(sql string, args ...any) (n int) {
	s.Helper()
	if err := s.DB.Pool.QueryRow(s.Context(), sql, args...).Scan(&n); err != nil {
		s.Fatal(err)
	}
	return n
}

func (s *side) exec(sql string, args ...any) {
	s.Helper()
	if _, err := s.Owner.Exec(s.Context(), sql, args...); err != nil {
		s.Fatal(err)
	}
}

func (s *side) root() reconcile.Root {
	s.Helper()
	pin, err := s.log.Pin(s.Context(), shop)
	if err != nil {
		s.Fatal(err)
	}
	return reconcile.RootOf(pin.Tree)
}

// pair is a store and its central, with the protocol between them.
type pair struct {
	store, central *side
	server         *httptest.Server
	client         *central.Client
	grant          lock.Grant
}

func newPair(tb testing.TB) *pair {
	tb.Helper()
	return newPairOf(tb, newSide(tb), newSide(tb), nil)
}

// newPairOf is a pair of two sides with a middleware between them, or none.
func newPairOf(tb testing.TB, store, central *side, through func(http.Handler) http.Handler) *pair {
	tb.Helper()
	if through == nil {
		through = func(h http.Handler) http.Handler { return h }
	}
	p := &pair{store: store, central: central}
	p.serve(tb, through)
	p.grant = p.store.Grant(tb, shop)
	return p
}

// serve starts central behind a middleware and a client that talks to it.
func (p *pair) serve(tb testing.TB, through func(http.Handler) http.Handler) {
	tb.Helper()
	server := central.NewServer(p.central.log, central.ServerOptions{
		Installation: installation(tb, p.central), Tokens: map[velox.StoreID][]string{shop: {token}},
		Failed: func(call string, _ velox.StoreID, err error) { tb.Logf("central: %s: %v", call, err) },
	})
	p.server = httptest.NewServer(through(server.Handler()))
	tb.Cleanup(p.server.Close)
	p.client = newClient(tb, p.server.URL, installation(tb, p.store))
}

func installation(tb testing.TB, s *side) uuid.UUID {
	tb.Helper()
	id, err := s.DB.Installation(tb.Context())
	if err != nil {
		tb.Fatal(err)
	}
	return id
}

func newClient(tb testing.TB, url string, installation uuid.UUID) *central.Client {
	tb.Helper()
	transport := &http.Transport{}
	tb.Cleanup(transport.CloseIdleConnections)
	client, err := central.NewClient(central.ClientOptions{
		URL: url, Tokens: map[velox.StoreID]string{shop: token}, Installation: installation,
		RetryDelay: time.Millisecond, BreakerDelay: time.Hour, Transport: transport,
	})
	if err != nil {
		tb.Fatal(err)
	}
	return client
}

func (p *pair) round(tb testing.TB) (reconcile.Report, error) {
	return reconcile.Run(tb.Context(), p.store.log, p.client, p.grant, reconcile.Options{})
}

// wantRound makes a round and wants its verdict.
func (p *pair) wantRound(tb testing.TB, want reconcile.Verdict) reconcile.Report {
	tb.Helper()
	report, err := p.round(tb)
	if err != nil {
		tb.Fatalf("%v (%+v)", err, report)
	}
	if report.Verdict != want {
		tb.Fatalf("verdict %v, want %v: %+v", report.Verdict, want, report)
	}
	return report
}

// liar is a central that sends other events than it was asked for.
type liar struct {
	*central.Client
	sends []velox.Event
}

func (l *liar) Pull(context.Context, velox.StoreID, merkle.Want, *merkle.Key) (reconcile.Page, error) {
	return reconcile.Page{Events: l.sends}, nil
}
