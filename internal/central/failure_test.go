package central_test

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/veloxpos/reconciled/internal/velox"
	"github.com/veloxpos/reconciled/merkle/reconcile"
)

// saboteur makes the n-th step of something fail, counted from when it is armed.
type saboteur struct {
	mu    sync.Mutex
	left  int
	armed bool
	done  string // what failed
}

func (s *saboteur) arm(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.left, s.armed, s.done = n, true, ""
}

// disarm tells what failed, "" when the step was not reached.
func (s *saboteur) disarm() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.armed = false
	return s.done
}

func (s *saboteur) strikes(step string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.armed {
		return false
	}
	if s.left--; s.left != 0 {
		return false
	}
	s.done = step
	return true
}

// failingQueries is a tracer that cuts the connection under the query that the
// saboteur chooses: queries, commits and batches alike.
type failingQueries struct{ *saboteur }

func (f failingQueries) TraceQueryStart(ctx context.Context, conn *pgx.Conn, query pgx.TraceQueryStartData) context.Context {
	if f.strikes(query.SQL) {
		_ = conn.PgConn().Conn().Close()
	}
	return ctx
}

func (failingQueries) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

func (f failingQueries) TraceBatchStart(ctx context.Context, conn *pgx.Conn, _ pgx.TraceBatchStartData) context.Context {
	if f.strikes("batch") {
		_ = conn.PgConn().Conn().Close()
	}
	return ctx
}

func (failingQueries) TraceBatchQuery(context.Context, *pgx.Conn, pgx.TraceBatchQueryData) {}
func (failingQueries) TraceBatchEnd(context.Context, *pgx.Conn, pgx.TraceBatchEndData)     {}

// failingCalls loses the call that the saboteur chooses: before central sees it, or
// after it has done what it was asked.
type failingCalls struct {
	*saboteur
	after bool
}

func (f failingCalls) through(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		struck := f.strikes(r.URL.Path)
		switch {
		case !struck:
			next.ServeHTTP(w, r)
			return
		case f.after:
			next.ServeHTTP(&recorder{header: http.Header{}}, r)
		}
		w.WriteHeader(http.StatusTeapot) // not repeated by the client, unlike a 5xx
	})
}

// mess makes both sides differ in every way that a round mends, and in some that it
// cannot: numbers from n on are free.
func (p *pair) mess(n int) {
	p.store.add(received(n, 3)...)
	p.central.add(received(n+10, 3)...)
	here, there := event(n+20, velox.StockReceived, `{"qty": 1}`), event(n+20, velox.StockReceived, `{"qty": 2}`)
	p.store.add(here)
	p.central.add(there)
	refused := event(n+21, velox.StockReceived, `{"qty": 1}`)
	refused.ID = velox.NoActor
	if n == 0 {
		p.store.add(refused)
	}
}

// TestNoFailureOfARoundIsCalledInSync breaks a round at each of its steps: every query
// of the store and of central, every call before and after it took effect. The round
// must say unknown, or have mended what broke; nothing may be lost; and the next
// round must end well.
func TestNoFailureOfARoundIsCalledInSync(t *testing.T) {
	for _, c := range []struct {
		name  string
		build func(t *testing.T, s *saboteur) *pair
		mends bool // the client repeats the call, so that nobody notices
	}{
		{"queries of the store", func(t *testing.T, s *saboteur) *pair {
			return newPairOf(t, newTracedSide(t, failingQueries{s}), newSide(t), nil)
		}, false},
		{"queries of central", func(t *testing.T, s *saboteur) *pair {
			return newPairOf(t, newSide(t), newTracedSide(t, failingQueries{s}), nil)
		}, true},
		{"calls that are lost on the way", func(t *testing.T, s *saboteur) *pair {
			return newPairOf(t, newSide(t), newSide(t), failingCalls{s, false}.through)
		}, false},
		{"answers that are lost on the way back", func(t *testing.T, s *saboteur) *pair {
			return newPairOf(t, newSide(t), newSide(t), failingCalls{s, true}.through)
		}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := &saboteur{}
			p := c.build(t, s)
			failed, unknown := 0, 0
			for step := 1; ; step++ {
				p.mess((step - 1) * 100)
				const all = `SELECT count(*) FROM events`
				before := [2]int{p.store.number(all), p.central.number(all)}
				s.arm(step)
				report, err := p.round(t)
				what := s.disarm()
				if what == "" {
					break // the round has fewer steps than that
				}
				failed++
				where := fmt.Sprintf("step %d, %.60q", step, what)
				if (err != nil) != (report.Verdict == reconcile.Unknown) {
					t.Errorf("%s: verdict %v with error %v", where, report.Verdict, err)
				}
				if err != nil {
					unknown++
				}
				if n := [2]int{p.store.number(all), p.central.number(all)}; n[0] < before[0] || n[1] < before[1] {
					t.Errorf("%s: %v events, %v before", where, n, before)
				}
				if report.Verdict != reconcile.Unknown {
					p.wantTruth(t, where)
				}
				p.client.ResetBreaker(shop)
				p.wantRound(t, reconcile.Differs)
				p.wantTruth(t, where+", next round")
			}
			t.Logf("%d steps failed, %d rounds ended as unknown", failed, unknown)
			if failed < 5 || (unknown == 0) != c.mends {
				t.Errorf("%d steps failed and %d rounds noticed: the saboteur does not work", failed, unknown)
			}
		})
	}
}

// wantTruth compares the two logs row by row, without any tree: the same ids but for
// the event that central cannot have, and the same content but for the conflicts.
func (p *pair) wantTruth(t *testing.T, where string) {
	t.Helper()
	read := func(s *side) map[string]string {
		rows, err := s.Owner.Query(t.Context(), `SELECT event_id::text, seq || coalesce(delta_payload, payload)::text FROM events`)
		if err != nil {
			t.Fatal(err)
		}
		events := map[string]string{}
		var id, said string
		if _, err := pgx.ForEachRow(rows, []any{&id, &said}, func() error { events[id] = said; return nil }); err != nil {
			t.Fatal(err)
		}
		return events
	}
	here, there := read(p.store), read(p.central)
	delete(here, velox.NoActor.String())
	conflicts := p.store.number(`SELECT count(DISTINCT event_id) FROM reconciled.exception WHERE kind = 'conflict'`)
	differ := 0
	for id, said := range here {
		switch other, ok := there[id]; {
		case !ok:
			t.Errorf("%s: central lacks %s", where, id)
		case other != said:
			differ++
		}
	}
	if len(here) != len(there) || differ != conflicts {
		t.Errorf("%s: %d events here, %d there, %d differ of which %d are listed", where, len(here), len(there), differ, conflicts)
	}
}
