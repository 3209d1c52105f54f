package central_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/uuid"

	"github.com/veloxpos/reconciled/internal/central"
	"github.com/veloxpos/reconciled/internal/velox"
	"github.com/veloxpos/reconciled/lock"
	"github.com/veloxpos/reconciled/merkle"
	"github.com/veloxpos/reconciled/merkle/reconcile"
)

func TestI2BothSidesEndWithTheSameEvents(t *testing.T) {
	p := newPair(t)
	all := received(0, 3000)
	p.store.add(all[:2500]...)      // central had an outage of 500 …
	p.central.add(all[300:2000]...) // … and the store lost 300, and central 500 more
	p.central.add(all[2500:]...)

	report := p.wantRound(t, reconcile.Repaired)
	if report.Pushed[reconcile.Stored] != 800 || report.Pulled[reconcile.Stored] != 500 {
		t.Errorf("pushed %v, pulled %v; want 800 and 500 stored", report.Pushed, report.Pulled)
	}
	if p.store.root() != p.central.root() || p.store.root().Count != 3000 {
		t.Errorf("roots %v and %v, want the same 3000 events", p.store.root(), p.central.root())
	}
	if again := p.wantRound(t, reconcile.InSync); again.Messages != 1 {
		t.Errorf("a round with nothing to do took %d messages, want 1", again.Messages)
	}
	if n, err := p.store.log.Unproven(t.Context(), shop); n != 0 || err != nil {
		t.Errorf("%d events unproven (%v), want none", n, err)
	}
	p.store.add(event(9000, velox.StockReceived, `{"qty": 1}`))
	if n, _ := p.store.log.Unproven(t.Context(), shop); n != 1 {
		t.Errorf("%d events unproven after a new one, want 1", n)
	}
}

func TestEveryEventIsUnprovenBeforeTheFirstComparison(t *testing.T) {
	p := newPair(t)
	p.store.add(received(0, 42)...)
	if n, err := p.store.log.Unproven(t.Context(), shop); n != 42 || err != nil {
		t.Errorf("%d events unproven (%v), want all 42", n, err)
	}
}

func TestAReceivedEventLooksAsTheRelayWouldHaveLeftIt(t *testing.T) {
	p := newPair(t)
	sent := event(1, velox.SaleCreated, `{"sale_id": "5a046d2e-fbff-410a-990f-655fd52a9fe0", "request_id": "e77dcfdb-4746-4ddb-9534-94231ec8d2e3"}`)
	overwritten := sent
	overwritten.Payload = json.RawMessage(`{"winner": true}`) // last write wins took it
	overwritten.ConflictStatus = velox.AutoResolved
	p.store.add(overwritten)
	p.wantRound(t, reconcile.Repaired)

	var payload, delta, hash, request, status, conflict string
	err := p.central.DB.Pool.QueryRow(t.Context(), `SELECT payload::text, delta_payload::text, full_payload_hash, request_id::text, projection_status, conflict_status
		FROM events WHERE event_id = $1`, sent.ID).Scan(&payload, &delta, &hash, &request, &status, &conflict)
	if err != nil {
		t.Fatal(err)
	}
	said := string(sent.Payload)
	if payload != said || delta != said || hash != sent.Hash {
		t.Errorf("payload %s, delta %s, hash %s; want what the device said", payload, delta, hash)
	}
	if request != "e77dcfdb-4746-4ddb-9534-94231ec8d2e3" || status != "pending" || conflict != velox.Resolved {
		t.Errorf("request_id %s, status %s, conflict %s", request, status, conflict)
	}
	if n := p.central.number(`SELECT count(*) FROM outbox_entries WHERE event_id = $1::text AND target = 'projection' AND status = 'pending'`, sent.ID); n != 1 {
		t.Errorf("%d pending projection rows, want 1", n)
	}
	if n := p.central.number(`SELECT count(*) FROM outbox_entries WHERE target <> 'projection'`); n != 0 {
		t.Errorf("%d relay rows, want none", n)
	}
}

func TestI3TwoContentsOfOneIDAreBothKept(t *testing.T) {
	p := newPair(t)
	common := received(0, 100)
	p.store.add(common...)
	p.central.add(common...)
	here := event(500, velox.StockReceived, `{"qty": 7}`)
	there := here
	there.Delta = json.RawMessage(`{"qty": 700}`) // altered: its hash is still the original's
	p.store.add(here)
	p.central.add(there)

	report := p.wantRound(t, reconcile.Differs)
	if report.Exceptions[reconcile.Conflict] != 1 || len(report.Noted) != 1 || report.Noted[0].Event != here.ID {
		t.Errorf("exceptions %v, noted %v; want the one conflict", report.Exceptions, report.Noted)
	}
	for name, s := range map[string]*side{"store": p.store, "central": p.central} {
		if n := s.number(`SELECT count(*) FROM reconciled.conflict WHERE event_id = $1`, here.ID); n != 1 {
			t.Errorf("%s keeps %d copies of the other side's content, want 1", name, n)
		}
	}
	var recommendation, kept string
	if err := p.store.DB.Pool.QueryRow(t.Context(), `SELECT recommendation, (there::jsonb ->> 'Payload') FROM reconciled.conflict`).Scan(&recommendation, &kept); err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(recommendation, "the copy here matches") || kept != `{"qty": 700}` {
		t.Errorf("recommendation %q, the other copy %s", recommendation, kept)
	}
	if n := p.store.number(`SELECT (delta_payload ->> 'qty')::int FROM events WHERE event_id = $1`, here.ID); n != 7 {
		t.Errorf("the store's copy says %d, want its own 7", n)
	}

	// A standing conflict is agreed on: it costs one message, and hides nothing.
	again := p.wantRound(t, reconcile.Differs)
	if again.Messages != 1 {
		t.Errorf("the next round took %d messages, want 1", again.Messages)
	}
	p.store.add(event(501, velox.StockReceived, `{"qty": 1}`))
	if r := p.wantRound(t, reconcile.Differs); r.Pushed[reconcile.Stored] != 1 {
		t.Errorf("beside a conflict %v was pushed, want the new event", r.Pushed)
	}
	if n, _ := p.store.log.Unproven(t.Context(), shop); n != 1 {
		t.Errorf("%d events unproven, want the one in conflict", n)
	}

	// Once both sides hold the same, it is an exception no more.
	p.central.exec(`UPDATE events SET delta_payload = '{"qty": 7}' WHERE event_id = $1`, here.ID)
	if r := p.wantRound(t, reconcile.InSync); len(r.Exceptions) != 0 {
		t.Errorf("exceptions %v after the conflict was settled", r.Exceptions)
	}
	if here, there := p.store.undecided(), p.central.undecided(); here != 0 || there != 0 {
		t.Errorf("%d conflicts still wait for a decision at the store, %d at central", here, there)
	}
}

func TestAnIDWithTwoTimesIsAConflictToo(t *testing.T) {
	p := newPair(t)
	here := event(1, velox.StockReceived, `{"qty": 7}`)
	there := here
	there.CreatedAt += 100_000_000
	p.store.add(here)
	p.central.add(there)
	if r := p.wantRound(t, reconcile.Differs); r.Exceptions[reconcile.Conflict] != 1 {
		t.Errorf("exceptions %v, want one conflict", r.Exceptions)
	}
}

func TestACopyThatLostItsContentGetsItBack(t *testing.T) {
	for _, loser := range []string{"store", "central"} {
		t.Run("at the "+loser, func(t *testing.T) {
			p := newPair(t)
			whole := event(1, velox.StockDeltaApplied, `{"qty_delta": -3}`)
			whole.Delta = nil
			lost := whole
			lost.Payload, lost.ConflictStatus = json.RawMessage(`{"qty_delta": 8}`), velox.AutoResolved
			from, to := p.store, p.central
			if loser == "store" {
				from, to = p.central, p.store
			}
			from.add(whole)
			to.add(lost)
			if r := p.wantRound(t, reconcile.Repaired); len(r.Exceptions) != 0 {
				t.Errorf("exceptions %v, want none", r.Exceptions)
			}
			if n := to.number(`SELECT (said ->> 'qty_delta')::int FROM reconciled.said WHERE event_id = $1`, whole.ID); n != -3 {
				t.Errorf("what was said is %d, want -3", n)
			}
			if n := to.number(`SELECT (payload ->> 'qty_delta')::int FROM events WHERE event_id = $1`, whole.ID); n != 8 {
				t.Errorf("the POS's payload was changed to %d", n)
			}
		})
	}
}

// twins are one business act under two event ids.
func twins() (first, second velox.Event) {
	const request = "e77dcfdb-4746-4ddb-9534-94231ec8d2e3"
	payload := `{"sale_id": "5a046d2e-fbff-410a-990f-655fd52a9fe0", "request_id": "` + request + `"}`
	first, second = event(1, velox.SaleCreated, payload), event(2, velox.SaleCreated, payload)
	first.RequestID = uuid.NullUUID{UUID: uuid.MustParse(request), Valid: true}
	second.RequestID = first.RequestID
	return first, second
}

func TestARequestUnderASecondIDIsExplained(t *testing.T) {
	p := newPair(t)
	first, second := twins()
	p.store.add(first)
	p.central.add(second)
	report := p.wantRound(t, reconcile.InSync)
	if report.Exceptions[reconcile.Duplicate] != 2 {
		t.Errorf("exceptions %v, want both ids of the one act", report.Exceptions)
	}
	if p.wantRound(t, reconcile.InSync).Messages != 1 {
		t.Error("an explained exception costs more than a check")
	}
}

func TestAnExceptionWhoseCauseIsGoneIsNoneAnyMore(t *testing.T) {
	p := newPair(t)
	first, second := twins()
	p.store.add(first)
	p.central.add(second)
	p.wantRound(t, reconcile.InSync)
	p.central.exec(`DELETE FROM events`) // a backup without it was restored
	if r := p.wantRound(t, reconcile.Repaired); len(r.Exceptions) != 0 {
		t.Errorf("exceptions %v after their cause was gone", r.Exceptions)
	}
	if n := p.central.number(`SELECT count(*) FROM events`); n != 1 {
		t.Errorf("central holds %d events, want the store's", n)
	}
}

func TestAnEventTooLargeForTheWireHoldsUpNobody(t *testing.T) {
	p := newPair(t)
	p.store.add(received(0, 20)...)
	p.store.add(withNote(event(5, velox.StockReceived, `{}`), 9<<20))
	report := p.wantRound(t, reconcile.Differs)
	if report.Pushed[reconcile.Stored] != 20 || report.Exceptions[reconcile.Refused] != 1 || !strings.Contains(report.Noted[0].Reason, "too large") {
		t.Errorf("%+v, want 20 stored and the large one refused", report)
	}
}

func TestAPOSThatRefusesAnEventRefusesThatOne(t *testing.T) {
	p := newPair(t)
	p.central.exec(`CREATE FUNCTION no_sevens() RETURNS trigger LANGUAGE plpgsql AS
		$$ BEGIN IF NEW.seq = 7 THEN RAISE EXCEPTION 'no sevens'; END IF; RETURN NEW; END $$`)
	p.central.exec(`CREATE TRIGGER no_sevens BEFORE INSERT ON events FOR EACH ROW EXECUTE FUNCTION no_sevens()`)
	all := received(0, 20)
	all[3].Causal = []string{"x"}
	p.store.add(all...)
	p.store.exec(`UPDATE events SET causal_dependencies = '{NULL}' WHERE seq = 4`)
	report := p.wantRound(t, reconcile.Differs)
	if report.Pushed[reconcile.Stored] != 19 || report.Exceptions[reconcile.Refused] != 1 {
		t.Errorf("pushed %v, exceptions %v; want 19 stored and the seventh refused", report.Pushed, report.Exceptions)
	}
	p.central.exec(`DROP TRIGGER no_sevens ON events`)
	p.age()
	if r := p.wantRound(t, reconcile.Repaired); len(r.Exceptions) != 0 {
		t.Errorf("exceptions %v after the POS takes it", r.Exceptions)
	}
}

func TestPagesSkipNothingWithinAMillisecond(t *testing.T) {
	p := newPair(t)
	crowd := received(0, 1700)
	for i := range crowd {
		crowd[i].CreatedAt = velox.MillisOf(noon) + velox.Millis(i/1200) // 1200 in one, 500 in the next
	}
	p.store.add(crowd...)
	p.store.exec(`UPDATE events SET created_at = created_at + (seq * 7919 % 1000) * interval '1 microsecond'`)
	if r := p.wantRound(t, reconcile.Repaired); r.Pushed[reconcile.Stored] != 1700 || r.Messages > 4 {
		t.Errorf("pushed %v in %d messages, want all in one walk", r.Pushed, r.Messages)
	}
}

func TestTheProofIsTakenBackForWhatChanged(t *testing.T) {
	p := newPair(t)
	p.store.add(received(0, 10)...)
	p.wantRound(t, reconcile.Repaired)
	p.store.exec(`DELETE FROM events WHERE seq = 3`)
	p.store.add(event(500, velox.StockReceived, `{"qty": 1}`))
	if n, err := p.store.log.Unproven(t.Context(), shop); n != 1 || err != nil {
		t.Errorf("%d events unproven (%v), want the new one", n, err)
	}
}

func TestAPurgeIsNotFought(t *testing.T) {
	p := newPair(t)
	old := event(-3*24*3600, velox.StockAdjusted, `{"qty_delta": 1}`)
	p.store.add(append(received(0, 10), old)...)
	p.wantRound(t, reconcile.Repaired)
	p.store.exec(`DELETE FROM events WHERE event_id = $1`, old.ID)
	r := p.wantRound(t, reconcile.InSync)
	if len(r.Exceptions) != 0 || r.Messages != 1 || p.store.root() != p.central.root() {
		t.Errorf("exceptions %v, %d messages; want none, since the item of a purge stays in the tree", r.Exceptions, r.Messages)
	}
	if n := p.store.number(`SELECT count(*) FROM events WHERE event_id = $1`, old.ID); n != 0 {
		t.Error("the purged event was put back")
	}
	p.central.exec(`UPDATE events SET delta_payload = '{"qty_delta": 2}' WHERE event_id = $1`, old.ID)
	if r := p.wantRound(t, reconcile.InSync); r.Exceptions[reconcile.Purged] != 1 {
		t.Errorf("exceptions %v, want the purged event that says something else there", r.Exceptions)
	}
}

func TestALostDiskIsFetchedAgain(t *testing.T) {
	p := newPair(t)
	p.store.add(received(0, 1000)...)
	p.wantRound(t, reconcile.Repaired)
	err := p.store.Server.Exec(t.Context(), p.store.Site.Name, `SET session_replication_role = replica;
		INSERT INTO reconciled.dirty (store_id, slot, op) SELECT store_id, reconciled.slot(created_at), 'm' FROM events WHERE seq % 7 = 0;
		DELETE FROM events WHERE seq % 7 = 0; SET session_replication_role = DEFAULT`)
	if err != nil {
		t.Fatal(err)
	}
	report := p.wantRound(t, reconcile.Repaired)
	if report.Pulled[reconcile.Stored] != 143 || p.store.root() != p.central.root() {
		t.Errorf("pulled %v, want 143 events back", report.Pulled)
	}
}

func TestAFewDeletionsAreUndone(t *testing.T) {
	p := newPair(t)
	p.store.add(received(0, 1000)...)
	p.wantRound(t, reconcile.Repaired)
	p.store.exec(`DELETE FROM events WHERE seq < 10`)
	p.central.exec(`DELETE FROM events WHERE seq > 990`)
	if r := p.wantRound(t, reconcile.Repaired); r.Pulled[reconcile.Stored] != 10 || r.Pushed[reconcile.Stored] != 9 || p.store.root() != p.central.root() {
		t.Errorf("pulled %v, pushed %v; want 10 and 9 events back", r.Pulled, r.Pushed)
	}
}

func TestABulkOfDeletionsWaitsForAPerson(t *testing.T) {
	for _, where := range []string{"store", "central"} {
		t.Run("at the "+where, func(t *testing.T) {
			p := newPair(t)
			p.store.add(received(0, 200)...)
			p.wantRound(t, reconcile.Repaired)
			at := map[string]*side{"store": p.store, "central": p.central}[where]
			at.exec(`DELETE FROM events WHERE seq < 50`)
			for range 2 {
				r := p.wantRound(t, reconcile.Differs)
				if r.Exceptions[reconcile.Held] != 50 || !strings.Contains(r.Noted[0].Reason, "one of 50") {
					t.Errorf("exceptions %v, noted %+v; want 50 held", r.Exceptions, r.Noted[0])
				}
			}
			grant := p.grant
			if where == "central" {
				grant = p.central.Grant(t, shop)
			}
			if _, err := at.log.Release(t.Context(), grant, nil, "ana"); err != nil {
				t.Fatal(err)
			}
			p.age()
			if r := p.wantRound(t, reconcile.Repaired); len(r.Exceptions) != 0 || p.store.root() != p.central.root() {
				t.Errorf("exceptions %v, roots %v and %v; want them all back", r.Exceptions, p.store.root(), p.central.root())
			}
		})
	}
}

func TestABadEventIsSetAsideAndTheRestGoOn(t *testing.T) {
	p := newPair(t)
	sentinel := event(2, velox.StockReceived, `{"qty": 2}`)
	sentinel.ID = velox.NoActor
	p.store.add(append(received(100, 600), sentinel)...)
	report := p.wantRound(t, reconcile.Differs)
	if report.Pushed[reconcile.Stored] != 600 || report.Exceptions[reconcile.Refused] != 1 {
		t.Errorf("pushed %v, exceptions %v; want 600 stored, the sentinel refused", report.Pushed, report.Exceptions)
	}
	if report.Noted[0].Reason == "" || !strings.Contains(report.Noted[0].Reason, "sentinel") {
		t.Errorf("reason %q", report.Noted[0].Reason)
	}
}

func TestI7AFencedRoundWritesNothing(t *testing.T) {
	p := newPair(t)
	p.central.add(received(0, 50)...)
	stale := p.grant
	p.store.exec(`SELECT 1`)
	if _, err := p.store.DB.Pool.Exec(t.Context(), `UPDATE reconciled.fence SET epoch = epoch + 1, holder = 'another'`); err != nil {
		t.Fatal(err)
	}
	report, err := reconcile.Run(t.Context(), p.store.log, p.client, stale, reconcile.Options{})
	if !errors.Is(err, lock.ErrFenced) || report.Verdict != reconcile.Unknown {
		t.Errorf("verdict %v, %v; want unknown, fenced", report.Verdict, err)
	}
	if n := p.store.number(`SELECT count(*) FROM events`); n != 0 {
		t.Errorf("%d events were written without the fence", n)
	}
}

func TestI10AStoresTokenOpensThatStoreOnly(t *testing.T) {
	p := newPair(t)
	p.central.AddStore(t, other)
	for name, c := range map[string]struct {
		path, auth, body string
		want             int
		code             string
	}{
		"no token":            {"/federation/v1/stores/" + shop.String() + "/open", "", `{}`, 401, "TOKEN_MISSING"},
		"an empty token":      {"/federation/v1/stores/" + shop.String() + "/open", "Bearer ", `{}`, 401, "TOKEN_MISSING"},
		"a wrong token":       {"/federation/v1/stores/" + shop.String() + "/open", "Bearer x", `{}`, 403, "TOKEN_REFUSED"},
		"another store":       {"/federation/v1/stores/" + other.String() + "/open", "Bearer " + token, `{}`, 403, "TOKEN_REFUSED"},
		"no store id":         {"/federation/v1/stores/tienda/open", "Bearer " + token, `{}`, 400, "BAD_STORE_ID"},
		"no message":          {"/federation/v1/stores/" + shop.String() + "/open", "Bearer " + token, string(merkle.EncodeOpening(merkle.Opening{})[:2]), 400, "BAD_MESSAGE"},
		"another version":     {"/federation/v1/stores/" + shop.String() + "/ask", "Bearer " + token, "\x11\x03", 400, "MESSAGE_VERSION"},
		"the token and right": {"/federation/v1/stores/" + shop.String() + "/pull", "Bearer " + token, string(merkle.EncodeWant(merkle.Want{}, nil)), 200, ""},
	} {
		t.Run(name, func(t *testing.T) {
			request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, p.server.URL+c.path, strings.NewReader(c.body))
			if err != nil {
				t.Fatal(err)
			}
			request.Header.Set("Content-Type", "application/vnd.reconciled.merkle")
			request.Header.Set("Authorization", c.auth)
			response, err := http.DefaultClient.Do(request)
			if err != nil {
				t.Fatal(err)
			}
			defer response.Body.Close()
			body, _ := io.ReadAll(response.Body)
			if response.StatusCode != c.want || !strings.Contains(string(body), c.code) {
				t.Errorf("%d %s, want %d %s", response.StatusCode, body, c.want, c.code)
			}
		})
	}
	foreign := event(1, velox.StockReceived, `{"qty": 1}`)
	foreign.Store = other
	_, err := p.client.Push(t.Context(), shop, []velox.Event{foreign})
	if status := new(central.StatusError); !errors.As(err, &status) || status.Code != "OTHER_STORE" {
		t.Errorf("pushing another store's event: %v, want OTHER_STORE", err)
	}
	if n := p.central.number(`SELECT count(*) FROM events`); n != 0 {
		t.Errorf("%d events came in through a wrong door", n)
	}
}

func TestAnInstallationThatIsNoUUIDIsRefused(t *testing.T) {
	p := newPair(t)
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, p.server.URL+"/federation/v1/stores/"+shop.String()+"/ready", nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+token)
	for header, want := range map[string]int{"": http.StatusOK, uuid.NewString(): http.StatusOK, "tienda": http.StatusBadRequest} {
		request.Header.Set("Reconciled-Installation", header)
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		if response.StatusCode != want {
			t.Errorf("installation %q: %d, want %d", header, response.StatusCode, want)
		}
	}
}

// TestI13 puts every answer of central through a mangler, one call after another.
func TestI13AMangledAnswerChangesNothingAndTheRoundEnds(t *testing.T) {
	manglers := map[string]func([]byte) []byte{
		"cut short": func(b []byte) []byte { return b[:len(b)/2] },
		"bits turned": func(b []byte) []byte {
			for i := range b {
				b[i] ^= 0x5a
			}
			return b
		},
		"empty":      func([]byte) []byte { return nil },
		"junk after": func(b []byte) []byte { return append(b, "\x00\x01\x02{}"...) },
	}
	for name, mangle := range manglers {
		t.Run(name, func(t *testing.T) {
			p := newPair(t)
			all := received(0, 300)
			p.store.add(all[:200]...)
			p.central.add(all[100:]...)
			var calls, victim atomic.Int64
			p.serve(t, func(next http.Handler) http.Handler {
				return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					if calls.Add(1) != victim.Load() {
						next.ServeHTTP(w, r)
						return
					}
					rec := &recorder{header: http.Header{}, status: 200}
					next.ServeHTTP(rec, r)
					body := mangle(rec.body)
					for k, v := range rec.header {
						w.Header()[k] = v
					}
					w.Header().Del("Content-Length")
					w.WriteHeader(rec.status)
					_, _ = w.Write(body)
				})
			})
			for n := int64(1); ; n++ {
				calls.Store(0)
				victim.Store(n)
				report, err := p.round(t)
				if calls.Load() < n {
					break // every call has had its turn
				}
				if report.Verdict == reconcile.InSync || (err == nil && report.Verdict == reconcile.Unknown && report.Reason == "") {
					t.Fatalf("call %d mangled: verdict %v (%v)", n, report.Verdict, err)
				}
			}
			victim.Store(0)
			p.wantRound(t, reconcile.InSync)
			if p.store.root() != p.central.root() || p.store.root().Count != 300 {
				t.Errorf("%v and %v, want the same 300 events", p.store.root(), p.central.root())
			}
			for name, s := range map[string]*side{"store": p.store, "central": p.central} {
				if n := s.number(`SELECT count(*) FROM reconciled.conflict`); n != 0 {
					t.Errorf("%s: %d conflicts out of nowhere", name, n)
				}
			}
		})
	}
}

type recorder struct {
	header http.Header
	status int
	body   []byte
}

func (r *recorder) Header() http.Header         { return r.header }
func (r *recorder) WriteHeader(status int)      { r.status = status }
func (r *recorder) Write(b []byte) (int, error) { r.body = append(r.body, b...); return len(b), nil }

func TestWhatIsNotCentralIsNamed(t *testing.T) {
	p := newPair(t)
	p.serve(t, func(http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/html")
			fmt.Fprint(w, "<html>Bienvenido al portal</html>")
		})
	})
	report, err := p.round(t)
	if !errors.Is(err, central.ErrNotCentral) || report.Verdict != reconcile.Unknown || !strings.Contains(err.Error(), "text/html") {
		t.Errorf("%v, %v; want unknown, and HTML named", report.Verdict, err)
	}
}

func TestTheBreakerOpensAfterFiveFailuresAndCanBeReset(t *testing.T) {
	p := newPair(t)
	var down atomic.Bool
	p.serve(t, func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if down.Load() {
				w.WriteHeader(http.StatusBadGateway)
				return
			}
			next.ServeHTTP(w, r)
		})
	})
	down.Store(true)
	for range 2 {
		if _, err := p.round(t); err == nil {
			t.Fatal("a round without central succeeded")
		}
	}
	if got := p.client.Breaker(shop).State; got != central.Open {
		t.Errorf("breaker %s, want OPEN", got)
	}
	if _, err := p.round(t); !errors.Is(err, central.ErrBreakerOpen) {
		t.Errorf("%v, want ErrBreakerOpen", err)
	}
	down.Store(false)
	p.client.ResetBreaker(shop)
	p.wantRound(t, reconcile.InSync)
	if got := p.client.Breaker(shop).State; got != central.Closed {
		t.Errorf("breaker %s, want CLOSED", got)
	}
}

func TestARoundStopsAtAPageBoundary(t *testing.T) {
	p := newPair(t)
	p.store.add(received(0, 1600)...)
	pages := 0
	report, err := reconcile.Run(t.Context(), p.store.log, p.client, p.grant, reconcile.Options{
		Stop: func() bool { return pages == 2 },
		Progress: func(pr reconcile.Progress) {
			if pr.Stage == "push" {
				pages++
			}
		},
	})
	if !errors.Is(err, lock.ErrGaveWay) || report.Verdict != reconcile.Unknown {
		t.Errorf("%v, %v; want a stop", report.Verdict, err)
	}
	if n := p.central.number(`SELECT count(*) FROM events`); n != 1000 {
		t.Errorf("central holds %d events, want two whole pages", n)
	}
	if r := p.wantRound(t, reconcile.Repaired); r.Pushed[reconcile.Stored] != 600 {
		t.Errorf("the next round pushed %v, want the other 600", r.Pushed)
	}
}

func TestTradeDuringARoundIsCaughtUpOrCalledMoving(t *testing.T) {
	p := newPair(t)
	p.store.add(received(0, 50)...)
	n := 1000
	report, err := reconcile.Run(t.Context(), p.store.log, p.client, p.grant, reconcile.Options{
		Progress: func(pr reconcile.Progress) {
			if pr.Stage == "push" { // after each page somebody buys something
				p.store.add(event(n, velox.StockReceived, `{"qty": 1}`))
				n++
			}
		},
	})
	if err != nil || report.Verdict != reconcile.Unknown || !strings.HasPrefix(report.Reason, "moving") {
		t.Errorf("%v %q, %v; want unknown, moving", report.Verdict, report.Reason, err)
	}
	p.wantRound(t, reconcile.Repaired)
}

func TestCentralWithoutTheStoreSaysSo(t *testing.T) {
	p := newPair(t)
	p.central.exec(`DELETE FROM stores`)
	p.store.add(received(0, 1)...)
	if _, err := p.round(t); err == nil || !strings.Contains(err.Error(), "STORE_UNKNOWN") {
		t.Errorf("%v, want STORE_UNKNOWN", err)
	}
}

func TestAHostileCentralCannotSendWhatWasNotAskedFor(t *testing.T) {
	p := newPair(t)
	p.central.add(received(0, 1)...)
	hostile := &liar{Client: p.client, sends: received(900, 1)}
	_, err := reconcile.Run(t.Context(), p.store.log, hostile, p.grant, reconcile.Options{})
	if !errors.Is(err, merkle.ErrHostile) {
		t.Errorf("%v, want ErrHostile", err)
	}
	if n := p.store.number(`SELECT count(*) FROM events`); n != 0 {
		t.Errorf("%d events slipped in", n)
	}
}
