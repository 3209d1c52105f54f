package central_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/veloxpos/reconciled/internal/health"
	"github.com/veloxpos/reconciled/internal/postgres"
	"github.com/veloxpos/reconciled/internal/velox"
	"github.com/veloxpos/reconciled/merkle/reconcile"
)

// use makes a copy of the store's database the store, as when a server is restored or
// cloned. The lease is in it too.
func (p *pair) use(tb testing.TB, store *side) {
	tb.Helper()
	p.store = store
	p.client = newClient(tb, p.server.URL, installation(tb, store))
}

func wantBack(tb testing.TB, r reconcile.Report, who string) {
	tb.Helper()
	switch {
	case r.WentBack == nil && who != "":
		tb.Errorf("nobody noticed that the side %s has gone back in time", who)
	case r.WentBack != nil && r.WentBack.Who != who:
		tb.Errorf("%q is said to have gone back in time, want %q: %v", r.WentBack.Who, who, r.WentBack)
	}
}

func TestI8ARestoredStoreIsRecognisedAndCaughtUp(t *testing.T) {
	p := newPair(t)
	p.store.add(received(0, 50)...)
	p.wantRound(t, reconcile.Repaired)
	backup := p.store.copy()
	p.store.add(received(50, 50)...)
	wantBack(t, p.wantRound(t, reconcile.Repaired), "")
	wantBack(t, p.wantRound(t, reconcile.InSync), "")

	p.use(t, backup)
	backup.add(received(200, 5)...) // it trades on before it first reaches central
	r := p.wantRound(t, reconcile.Repaired)
	wantBack(t, r, reconcile.Here)
	if r.Pulled[reconcile.Stored] != 50 || r.Pushed[reconcile.Stored] != 5 || r.WentBack.Remembered.Count != 100 {
		t.Errorf("pulled %v, pushed %v, %v; want the 50 that were lost back", r.Pulled, r.Pushed, r.WentBack)
	}
	if n := backup.number(`SELECT count(*) FROM reconciled.evidence WHERE kind = 'went_back' AND detail LIKE '%restored%'`); n != 1 {
		t.Errorf("%d pieces of evidence, want one", n)
	}
	wantBack(t, p.wantRound(t, reconcile.InSync), "")
	wantBack(t, p.wantRound(t, reconcile.InSync), "")
}

// The events that come back say which numbers were used: before the first sale is made
// with one of them, and to central by what it remembers.
func TestI8ARestoredStoreIsToldThatItsFiscalRangeWentBackBeforeItSells(t *testing.T) {
	p := newPair(t)
	sale := func(i, number int) velox.Event {
		return event(i, velox.SaleCreated, fmt.Sprintf(`{"sale_id": "%s", "fiscal_number": %d, "invoice_series_id": "%s"}`, uuid.NewSHA1(shop, fmt.Append(nil, number)), number, other))
	}
	for _, s := range []*side{p.store, p.central} {
		s.exec(`INSERT INTO fiscal_sequence_ranges (store_id, series_id, device_id, range_start, range_end, used_up_to, granted_at, expires_at)
			VALUES ($1, $2, $3, 100, 199, 150, '2026-11-01', '2026-12-01')`, shop, other, uuid.NewSHA1(shop, []byte("till")).String())
	}
	measured := func(s *side) string {
		t.Helper()
		snapshot := health.Snapshot{Central: s == p.central}
		if _, err := s.log.Pin(t.Context(), shop); err != nil {
			t.Fatal(err)
		}
		if err := postgres.NewHealth(s.log).Measure(t.Context(), shop, &snapshot); err != nil {
			t.Fatal(err)
		}
		for _, a := range snapshot.Details {
			if a.Kind == "fiscal_regression" {
				return a.Text
			}
		}
		return ""
	}
	p.store.add(sale(1, 150))
	p.wantRound(t, reconcile.Repaired)
	backup := p.store.copy()
	p.store.add(sale(2, 151), sale(3, 180))
	p.store.exec(`UPDATE fiscal_sequence_ranges SET used_up_to = 180`)
	p.wantRound(t, reconcile.Repaired)
	if got := measured(p.store); got != "" {
		t.Errorf("before anything went back: %q", got)
	}

	p.use(t, backup)
	if got := measured(p.store); got != "" {
		t.Errorf("before it has reached central nothing can tell: %q", got)
	}
	wantBack(t, p.wantRound(t, reconcile.Repaired), reconcile.Here)
	for name, s := range map[string]*side{"the store": p.store, "central": p.central} {
		if got := measured(s); !strings.Contains(got, "used up to 150, but 180 was seen") {
			t.Errorf("%s says %q", name, got)
		}
	}
}

func TestI8ACloneIsRecognisedByEachOfTheTwo(t *testing.T) {
	p := newPair(t)
	p.store.add(received(0, 50)...)
	p.wantRound(t, reconcile.Repaired)
	p.wantRound(t, reconcile.InSync)
	original := p.store
	clone := p.store.copy()
	original.add(received(100, 5)...)
	wantBack(t, p.wantRound(t, reconcile.Repaired), "")
	wantBack(t, p.wantRound(t, reconcile.InSync), "")

	p.use(t, clone)
	clone.add(received(200, 30)...) // more than the original has, so no count tells
	wantBack(t, p.wantRound(t, reconcile.Repaired), reconcile.Here)
	wantBack(t, p.wantRound(t, reconcile.InSync), "")
	p.use(t, original)
	wantBack(t, p.wantRound(t, reconcile.Repaired), reconcile.Here)
}

func TestI8ARestoredCentralIsToldApartFromARestoredStore(t *testing.T) {
	p := newPair(t)
	p.store.add(received(0, 50)...)
	p.wantRound(t, reconcile.Repaired)
	p.wantRound(t, reconcile.InSync)
	backup := p.central.copy()
	p.store.add(received(50, 50)...)
	p.wantRound(t, reconcile.Repaired)
	p.wantRound(t, reconcile.InSync)

	p.central = backup
	p.serve(t, func(h http.Handler) http.Handler { return h })
	r := p.wantRound(t, reconcile.Repaired)
	wantBack(t, r, reconcile.There)
	if r.Pushed[reconcile.Stored] != 50 {
		t.Errorf("pushed %v, want the 50 that central lost", r.Pushed)
	}
	wantBack(t, p.wantRound(t, reconcile.InSync), "")
}

func TestALostReplyIsNoJourneyInTime(t *testing.T) {
	p := newPair(t)
	s := &saboteur{}
	p.serve(t, failingCalls{s, true}.through)
	p.store.add(received(0, 5)...)
	p.wantRound(t, reconcile.Repaired)
	for n := 1; n < 4; n++ {
		p.store.add(received(10*n, 1)...)
		p.central.add(received(10*n, 1)...) // so that the first call is the agreement
		s.arm(1)
		if r, err := p.round(t); err == nil {
			t.Fatalf("the reply was not lost: %+v", r)
		}
		s.disarm()
	}
	wantBack(t, p.wantRound(t, reconcile.InSync), "")
}

func TestCentralRemembersTheHighestNumbers(t *testing.T) {
	p := newPair(t)
	sale := event(900, velox.SaleCreated, `{"sale_id": "5a046d2e-fbff-410a-990f-655fd52a9fe0", "fiscal_number": "F-00777", "invoice_series_id": "s1"}`)
	p.store.add(append(received(0, 20), sale)...)
	p.wantRound(t, reconcile.Repaired)
	p.store.add(received(20, 5)...)
	p.wantRound(t, reconcile.Repaired)
	rows, err := p.central.DB.Pool.Query(t.Context(), `SELECT kind || ' ' || of || ' ' || value FROM reconciled.highest WHERE store_id = $1 ORDER BY 1`, shop)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	var lines []string
	for rows.Next() {
		var line string
		if err := rows.Scan(&line); err != nil {
			t.Fatal(err)
		}
		lines = append(lines, line)
	}
	if got, want := strings.Join(lines, "; "), "fiscal s1 777; seq "+sale.Device.String()+" 900"; got != want {
		t.Errorf("central remembers %s, want %s", got, want)
	}
}
