package alert

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/veloxpos/reconciled/internal/health"
)

// day is a store's trade, looked at once a minute: what is measured, and what is
// found beside the report. Trouble passes in its usual time.
type day struct {
	rand   *rand.Rand
	passes map[string]int // minutes until a trouble has passed; negative: until it may come again
}

// has says whether a trouble is there this minute. It comes with a chance, stays for
// up to most minutes, and leaves the store alone for a while.
func (d *day) has(trouble string, chance float64, most int) bool {
	left := d.passes[trouble]
	switch {
	case left > 1:
		d.passes[trouble]--
	case left == 1:
		d.passes[trouble] = -1
	case left < 0:
		d.passes[trouble]++
	case d.rand.Float64() < chance:
		d.passes[trouble] = 1 + d.rand.IntN(most)
	}
	return d.passes[trouble] > 0
}

// minute is what one look sees in normal trade.
func (d *day) minute() (s health.Snapshot, beside []Finding, down bool) {
	s = fine()
	if d.has("gaps", 0.3, 2) { // a burst may make the store critical until it has healed
		s.Metrics.ProjectionGapCount = 1 + d.rand.Int64N(40)
	}
	if d.has("outage", 0.05, 2) {
		s.Metrics.RemoteReachable, s.RemoteError = false, "no route to host"
	}
	s.More.RemoteLatencyMs = int64(d.rand.ExpFloat64() * 200)
	if d.has("slow line", 0.05, 4) {
		s.More.RemoteLatencyMs += 6000
	}
	s.More.OutboxPending = d.rand.Int64N(40)
	if d.has("retries", 0.02, 8) {
		s.More.OutboxDead = 1 + d.rand.Int64N(4)
	}
	if d.has("sold before received", 0.02, 12) {
		s.Metrics.NegativeStockCount = 1 + d.rand.Int64N(4)
	}
	if d.has("Redis restarts", 0.01, 4) {
		s.LockDegraded = true
	}
	if d.has("conflict that the next round settles", 0.01, 14) {
		s.More.ConflictCount = 1
	}
	if d.has("overwritten and given back", 0.01, 25) {
		s.More.LostUpdateCount = 2
	}
	if d.has("long round", 0.01, 14) {
		beside = append(beside, Finding{Code: ScheduleLate, Key: KeyReconcile, Value: 1900, Threshold: 1800})
	}
	if d.has("clock is set", 0.01, 8) {
		beside = append(beside, Finding{Code: ClockSkew, Value: 40, Threshold: 5})
	}
	if d.has("sort on disk", 0.01, 4) {
		beside = append(beside, Finding{Code: DiskLow, Value: 93, Threshold: 90})
	}
	return s, beside, d.has("database restarts", 0.005, 2)
}

// elsewhere are the codes that a health report does not measure.
var elsewhere = []Code{ScheduleLate, ClockSkew, DiskLow, FiscalRangeOverlap, FiscalRangeRegression, StoreSilent}

// trade runs for some minutes, each of them changed by plant.
func trade(w *watch, seed uint64, minutes int, plant func(minute int, s *health.Snapshot, beside *[]Finding, down *bool)) {
	d := day{rand: rand.New(rand.NewPCG(seed, 7)), passes: map[string]int{}}
	for minute := range minutes {
		w.now = w.now.Add(time.Minute)
		s, beside, down := d.minute()
		plant(minute, &s, &beside, &down)
		look := Look{}
		if down {
			look.Add(DatabaseDown, of(DatabaseDown))
		} else {
			look = Find(judged(func(into *health.Snapshot) { *into = s }))
		}
		look.Findings = append(look.Findings, beside...)
		look.Measured = append(look.Measured, elsewhere...)
		w.see(look.Measured, look.Findings...)
	}
}

func TestADayOfNormalTradeRaisesNoAlarm(t *testing.T) {
	for seed := range uint64(7) {
		w := newWatch(t)
		trade(w, seed, 24*60, func(int, *health.Snapshot, *[]Finding, *bool) {})
		expect(t, fmt.Sprint("seed ", seed), w.told)
	}
}

func TestEachIncidentIsToldWithinACycleOfItsTime(t *testing.T) {
	named := func(kind, id, text string) []health.Affected {
		return []health.Affected{{Kind: kind, ID: id, Text: text}}
	}
	incidents := map[Code]func(s *health.Snapshot, beside *[]Finding, down *bool){
		FederationCritical:    func(s *health.Snapshot, _ *[]Finding, _ *bool) { s.Metrics.ProjectionGapCount = 50 },
		ProjectionGapDetected: func(s *health.Snapshot, _ *[]Finding, _ *bool) { s.Metrics.ProjectionGapCount = 3 },
		OversellingDetected:   func(s *health.Snapshot, _ *[]Finding, _ *bool) { s.Metrics.NegativeStockCount = 2 },
		FederationOffline:     func(s *health.Snapshot, _ *[]Finding, _ *bool) { s.Metrics.CircuitBreakerState = "OPEN" },
		OutboxDead:            func(s *health.Snapshot, _ *[]Finding, _ *bool) { s.More.OutboxDead = 3 },
		EventConflict:         func(s *health.Snapshot, _ *[]Finding, _ *bool) { s.More.ConflictCount = 1 },
		LostUpdate:            func(s *health.Snapshot, _ *[]Finding, _ *bool) { s.More.LostUpdateCount = 1 },
		LockBackendDegraded:   func(s *health.Snapshot, _ *[]Finding, _ *bool) { s.LockDegraded = true },
		DatabaseDown:          func(_ *health.Snapshot, _ *[]Finding, down *bool) { *down = true },
		FiscalDuplicate: func(s *health.Snapshot, _ *[]Finding, _ *bool) {
			s.More.FiscalDuplicateCount, s.Details = 1, named("fiscal_duplicate", "0017", "series 5e, sales a b")
		},
		EventTampered: func(s *health.Snapshot, _ *[]Finding, _ *bool) {
			s.More.EventTamperedCount, s.Details = 1, named("tampered", "e", "changed: by hand")
		},
		CaptureBroken: func(s *health.Snapshot, _ *[]Finding, _ *bool) {
			s.More.CaptureBrokenCount, s.Details = 1, named("capture", "", "a trigger is disabled")
		},
		CloneOrRollback: func(s *health.Snapshot, _ *[]Finding, _ *bool) {
			s.More.WentBackCount, s.Details = 1, named("went_back", "", "central remembers more")
		},
	}
	for _, code := range elsewhere {
		incidents[code] = func(_ *health.Snapshot, beside *[]Finding, _ *bool) { *beside = append(*beside, of(code)) }
	}
	// What is told beside: a store with one of these is critical, too.
	with := map[Code][]Code{
		FiscalDuplicate: {FederationCritical}, EventTampered: {FederationCritical},
		CaptureBroken: {FederationCritical}, CloneOrRollback: {FederationCritical},
	}
	for code := range catalogue {
		t.Run(string(code), func(t *testing.T) {
			w := newWatch(t)
			w.lastRung = 0
			const planted = 90
			trade(w, 4, planted+45, func(minute int, s *health.Snapshot, beside *[]Finding, down *bool) {
				if minute >= planted {
					*down = false // a restart in between would only make it later
					incidents[code](s, beside, down)
				}
			})
			at := noon.Add((planted + 1) * time.Minute)
			due := at.Add(KindOf(code).Pending)
			if len(w.told) == 0 {
				t.Fatal("nobody was told")
			}
			for _, n := range w.told {
				switch {
				case n.Alert.Code == code && n.News == Fired:
					if n.At.Before(at) || n.At.After(due) {
						t.Errorf("told at %v, want it by %v", n.At, due)
					}
				case !slices.Contains(with[code], n.Alert.Code) || n.News != Fired:
					t.Errorf("also told: %s %s at %v", n.News, n.Alert.Code, n.At)
				}
			}
			if fired := slices.ContainsFunc(w.told, func(n Notice) bool { return n.Alert.Code == code }); !fired {
				t.Errorf("told only of %q", heard(w.told))
			}
		})
	}
}
