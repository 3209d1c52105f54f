package alert

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/veloxpos/reconciled/internal/health"
)

// fine is a store with nothing wrong, as it is measured.
func fine() health.Snapshot {
	return health.Snapshot{
		Store: centro, Name: "Centro", At: noon, Metrics: health.Metrics{RemoteReachable: true, CircuitBreakerState: "CLOSED"},
		More: health.More{SyncReady: true, LockBackend: "redis"}, LastReconcile: health.Last{Verdict: "in_sync"},
	}
}

func judged(change func(*health.Snapshot)) health.Report {
	s := fine()
	change(&s)
	return health.Evaluate(s, health.Thresholds{
		Gaps: health.Limit{Degraded: 0, Critical: 10}, NegativeStock: health.Limit{Degraded: 0, Critical: 5}, OutboxDead: health.Limit{Degraded: 0, Critical: 5},
		ConflictRate: health.Limit{Degraded: 10, Critical: 50}, LatencyMs: health.Limit{Degraded: 2000, Critical: 5000},
		OutboxPending: health.Limit{Degraded: 10, Critical: health.Never}, ClockSkewMs: health.Limit{Degraded: 30_000, Critical: health.Never},
		DiskUsedPercent: health.Limit{Degraded: 90, Critical: 97}, SilentSeconds: health.Limit{Degraded: 7200, Critical: health.Never},
	})
}

func TestAReportIsReadIntoFindings(t *testing.T) {
	detail := func(kind, id, text string) health.Affected { return health.Affected{Kind: kind, ID: id, Text: text} }
	for name, c := range map[string]struct {
		change func(*health.Snapshot)
		want   []Finding
	}{
		"nothing wrong": {func(*health.Snapshot) {}, nil},
		"gaps": {
			func(s *health.Snapshot) { s.Metrics.ProjectionGapCount, s.More.OldestGapSeconds = 3, 60 },
			[]Finding{{Code: ProjectionGapDetected, Since: noon.Add(-minute), Value: 3, Total: 3}},
		},
		"gaps that are no alert": {func(s *health.Snapshot) { s.More.WaitingGapCount, s.More.SemanticGapCount = 3, 3 }, nil},
		"oversold": {
			func(s *health.Snapshot) {
				s.Metrics.NegativeStockCount = 2
				s.Details = []health.Affected{detail("waiting", "e", "not this one"), detail("negative_stock", "p", "Papel: -4")}
			},
			[]Finding{{Code: OversellingDetected, Value: 2, Total: 2, Affected: []health.Affected{detail("negative_stock", "p", "Papel: -4")}}},
		},
		"a fiscal duplicate is its series and number, and names its sales": {
			func(s *health.Snapshot) {
				s.More.FiscalDuplicateCount = 2
				s.Details = []health.Affected{
					detail("fiscal_duplicate", "A/0017", "sales a b c"), detail("fiscal_duplicate", "?/0017", "sales d e"),
				}
			},
			[]Finding{
				{
					Code: FederationCritical, Value: 1, Total: 1, Causes: []Code{FiscalDuplicate},
					Affected: []health.Affected{detail("cause", "FISCAL_DUPLICATE", "2 números fiscales repetidos en ventas no anuladas: avise a legal/contabilidad (runbook 2) / 2 fiscal numbers are used twice by sales that are not voided: call legal (runbook 2)")},
				},
				{
					Code: FiscalDuplicate, Key: "A/0017", Value: 3, Threshold: 1, Total: 3,
					Affected: []health.Affected{detail("sale", "a", ""), detail("sale", "b", ""), detail("sale", "c", "")},
				},
				{
					Code: FiscalDuplicate, Key: "?/0017", Value: 2, Threshold: 1, Total: 2,
					Affected: []health.Affected{detail("sale", "d", ""), detail("sale", "e", "")},
				},
			},
		},
		"fiscal ranges that overlap or went back are one alert each, in their own words": {
			func(s *health.Snapshot) {
				s.More.FiscalRangeOverlapCount, s.More.FiscalRegressionCount = 2, 1
				s.Details = []health.Affected{
					detail("fiscal_overlap", "A/1-9/presales 1/c2", "numbers 1 to 9 are in 1-9 of device presales 1 and in 1-9 of device c2"),
					detail("fiscal_overlap", "A/1-9/presales 1/c3", "again"), detail("fiscal_regression", "A/c1/1", "used up to 3, but 5 was seen"),
				}
			},
			[]Finding{
				{
					Code: FederationCritical, Value: 2, Total: 2, Causes: []Code{FiscalRangeRegression, FiscalRangeOverlap},
					Affected: []health.Affected{
						detail("cause", "FISCAL_RANGE_REGRESSION", "1 rangos fiscales volverían a entregar números ya usados: no venda con esas cajas (reconciled fiscal ranges) / 1 fiscal ranges would give out numbers again that are used: do not sell on those tills (reconciled fiscal ranges)"),
						detail("cause", "FISCAL_RANGE_OVERLAP", "2 pares de rangos fiscales activos de cajas distintas se solapan (reconciled fiscal ranges) / 2 pairs of active fiscal ranges of different tills overlap (reconciled fiscal ranges)"),
					},
				},
				{
					Code: FiscalRangeOverlap, Key: "A/1-9/presales 1/c2", Value: 1, Total: 1,
					Affected: []health.Affected{detail("fiscal_overlap", "A/1-9/presales 1/c2", "numbers 1 to 9 are in 1-9 of device presales 1 and in 1-9 of device c2")},
				},
				{
					Code: FiscalRangeOverlap, Key: "A/1-9/presales 1/c3", Value: 1, Total: 1,
					Affected: []health.Affected{detail("fiscal_overlap", "A/1-9/presales 1/c3", "again")},
				},
				{
					Code: FiscalRangeRegression, Key: "A/c1/1", Value: 1, Total: 1,
					Affected: []health.Affected{detail("fiscal_regression", "A/c1/1", "used up to 3, but 5 was seen")},
				},
			},
		},
		"central away": {
			func(s *health.Snapshot) { s.Metrics.RemoteReachable = false; s.RemoteError = "no route" },
			[]Finding{{Code: FederationOffline, Value: 1, Total: 1, Affected: []health.Affected{
				detail("central", "circuit breaker CLOSED", "central no responde: no route / central does not answer: no route"),
			}}},
		},
		"central refuses this store": {
			func(s *health.Snapshot) { s.More.SyncReady = false; s.RemoteError = "401" },
			[]Finding{{Code: FederationOffline, Value: 1, Total: 1, Affected: []health.Affected{
				detail("central", "circuit breaker CLOSED", "central responde, pero no está listo para esta tienda: 401 / central answers, but is not ready for this store: 401"),
			}}},
		},
		"the breaker is open": {
			func(s *health.Snapshot) { s.Metrics.CircuitBreakerState = "OPEN" },
			[]Finding{{Code: FederationOffline, Value: 1, Total: 1, Affected: []health.Affected{detail("central", "circuit breaker OPEN",
				"el circuit breaker está OPEN tras fallos seguidos; pasa a HALF_OPEN en un minuto (reconciled breaker) / the circuit breaker is OPEN after failures in a row; it turns HALF_OPEN within a minute (reconciled breaker)")}}},
		},
		"the breaker probes": {func(s *health.Snapshot) { s.Metrics.CircuitBreakerState = "HALF_OPEN" }, nil},
		"dead entries": {
			func(s *health.Snapshot) { s.More.OutboxDead = 2 },
			[]Finding{{Code: OutboxDead, Value: 2, Total: 2}},
		},
		"conflicts, lost updates, no Redis": {
			func(s *health.Snapshot) {
				s.More.ConflictCount, s.More.LostUpdateCount, s.LockDegraded = 1, 2, true
				s.Details = []health.Affected{detail("conflict", "e1", "keep it"), detail("lost_update", "e2", "by e3")}
			},
			[]Finding{
				{Code: LostUpdate, Value: 2, Total: 2, Affected: []health.Affected{detail("lost_update", "e2", "by e3")}},
				{Code: EventConflict, Value: 1, Total: 1, Affected: []health.Affected{detail("conflict", "e1", "keep it")}},
				{Code: LockBackendDegraded, Value: 1},
			},
		},
		"deleted events": {
			func(s *health.Snapshot) {
				s.More.EventTamperedCount, s.More.EventDeletedCount = 2, 2
				s.Details = []health.Affected{detail("tampered", "e1", "deleted: by hand"), detail("tampered", "e2", "deleted: by hand"), detail("held", "e1", "SaleCreated")}
			},
			[]Finding{{Code: EventTampered, Value: 2, Total: 2, Affected: []health.Affected{
				detail("tampered", "e1", "deleted: by hand"), detail("tampered", "e2", "deleted: by hand"), detail("held", "e1", "SaleCreated"),
			}}},
		},
		"a fast clock, a full disk, a silent store": {
			func(s *health.Snapshot) {
				s.Central, s.More.ClockSkewMs, s.More.DiskUsedPercent, s.More.SilentSeconds = true, 31_000, 91, 7201
				s.Details = []health.Affected{detail("disk", "/", "1 GiB free")}
			},
			[]Finding{
				{Code: ClockSkew, Value: 31_000, Threshold: 30_000},
				{Code: DiskLow, Value: 91, Threshold: 90, Total: 91, Affected: []health.Affected{detail("disk", "/", "1 GiB free")}},
				{Code: StoreSilent, Value: 7201, Threshold: 7200},
			},
		},
		"two schedules late": {
			func(s *health.Snapshot) {
				due := s.At.Add(-minute)
				s.Duties = []health.Duty{{Task: "heal", Since: 4 * minute, Due: due}, {Task: KeyReconcile, Since: 5 * minute, Due: due}}
			},
			[]Finding{
				{Code: ScheduleLate, Key: "heal", Value: 300, Total: 1, Affected: []health.Affected{detail("late", "heal", "no good end for 4m0s")}},
				{Code: ScheduleLate, Key: KeyReconcile, Value: 300, Total: 1, Affected: []health.Affected{detail("late", KeyReconcile, "no good end for 5m0s")}},
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			report := judged(c.change)
			look := Find(report)
			if diff := cmp.Diff(c.want, look.Findings); diff != "" {
				t.Error(diff)
			}
			want := []Code{
				DatabaseDown, FederationCritical, ProjectionGapDetected, OversellingDetected, FederationOffline, OutboxDead, EventConflict,
				LostUpdate, LockBackendDegraded, CaptureBroken, CloneOrRollback, EventTampered, FiscalDuplicate, ScheduleLate, ClockSkew,
				DiskLow, StoreSilent, FiscalRangeOverlap, FiscalRangeRegression,
			}
			if !report.Metrics.SyncReady {
				want = slices.DeleteFunc(want, func(c Code) bool { return c == ClockSkew })
			}
			if slices.Sort(want); !slices.Equal(want, slices.Sorted(slices.Values(look.Measured))) || look.Store != centro || look.Name != "Centro" {
				t.Errorf("store %s %q, measured %v\nwant %v", look.Store, look.Name, look.Measured, want)
			}
		})
	}
}

func TestWhatCouldNotBeMeasuredIsNotOver(t *testing.T) {
	look := Find(judged(func(s *health.Snapshot) {
		s.More.SyncReady, s.Metrics.RemoteReachable = false, false
		s.Details = []health.Affected{{Kind: health.DiskUnread, ID: "/var/lib/postgresql", Text: "input/output error"}}
	}))
	for _, code := range []Code{ClockSkew, DiskLow} {
		if slices.Contains(look.Measured, code) {
			t.Errorf("%s counts as measured", code)
		}
	}
}

func TestARangeThatGoesBackWhileAnotherIsPutRightIsTold(t *testing.T) {
	wentBack := func(ids ...string) []Finding {
		return Find(judged(func(s *health.Snapshot) {
			s.More.FiscalRegressionCount = int64(len(ids))
			for _, id := range ids {
				s.Details = append(s.Details, health.Affected{Kind: "fiscal_regression", ID: id})
			}
		})).Findings
	}
	w := newWatch(t)
	w.look(wentBack("A/c1/1", "A/c2/1")...)
	told := w.look(wentBack("A/c2/1", "A/c3/1")...)
	expect(t, "one for another", told, "resolved FISCAL_RANGE_REGRESSION", "fired FISCAL_RANGE_REGRESSION")
	if told[0].Alert.Key != "A/c1/1" || told[1].Alert.Key != "A/c3/1" {
		t.Errorf("%s is over, %s is new", told[0].Alert.Key, told[1].Alert.Key)
	}
}

func TestAPauseIsNoEndOfACriticalStore(t *testing.T) {
	paused := func(s *health.Snapshot) { s.Pause = &health.Pause{Until: noon.Add(time.Hour), By: "ana", Why: "x"} }
	measured := func(change func(*health.Snapshot)) bool {
		return slices.Contains(Find(judged(func(s *health.Snapshot) { paused(s); change(s) })).Measured, FederationCritical)
	}
	if measured(func(s *health.Snapshot) { s.Metrics.ProjectionGapCount = 11 }) {
		t.Error("critical for gaps, which are not looked for, and that counts as measured")
	}
	if !measured(func(s *health.Snapshot) { s.Metrics.ProjectionGapCount = 1 }) {
		t.Error("a store that is not critical is not measured")
	}
	if !measured(func(s *health.Snapshot) { s.Metrics.ProjectionGapCount, s.More.OutboxDead = 11, 6 }) {
		t.Error("a store that is critical for something else is not measured")
	}
}

func TestOnlyCriticalReasonsAreCausesOfACriticalStore(t *testing.T) {
	look := Find(judged(func(s *health.Snapshot) {
		s.Metrics.ProjectionGapCount, s.Metrics.NegativeStockCount, s.More.OutboxDead, s.More.RemoteLatencyMs = 11, 5, 6, 6000
	}))
	want := []Code{ProjectionGapDetected, OutboxDead, "REMOTE_SLOW"}
	if f := look.Findings[0]; f.Code != FederationCritical || !slices.Equal(f.Causes, want) || f.Value != 3 || len(f.Affected) != 3 {
		t.Errorf("%+v, want the causes %v", f, want)
	}
}

// A report names twenty of a kind, whatever it counts.
func TestWhatAReportCountsAndDoesNotNameIsNotKnownToBeGone(t *testing.T) {
	report := judged(func(s *health.Snapshot) {
		s.More.FiscalDuplicateCount, s.More.EventTamperedCount = 23, 21
		for i := range 20 {
			s.Details = append(s.Details,
				health.Affected{Kind: "fiscal_duplicate", ID: fmt.Sprintf("5e/%04d", i), Text: "sales a b"},
				health.Affected{Kind: "tampered", ID: fmt.Sprint(i), Text: "changed: by hand"})
		}
	})
	look := Find(report)
	if slices.Contains(look.Measured, FiscalDuplicate) {
		t.Error("fiscal duplicates count as measured")
	}
	others := look.Findings[len(look.Findings)-1]
	if others.Code != FiscalDuplicate || others.Key != "" || others.Value != 3 {
		t.Errorf("the others are %+v", others)
	}

	w := newWatch(t)
	w.look(duplicate("5e/9999", "a", "b")) // beyond the twenty that are named later
	w.now = w.now.Add(10 * minute)
	told := w.see(look.Measured, look.Findings...)
	if n := len(told); n != 22 { // 20, the others, tampering
		t.Errorf("told %d: %q", n, heard(told))
	}
	for _, a := range w.alerts() {
		if a.State == Resolved || !a.Away.IsZero() {
			t.Errorf("%s %s is %s, away since %v", a.Code, a.Key, a.State, a.Away)
		}
	}
	others.Value = 4
	look.Findings[len(look.Findings)-1] = others
	expect(t, "one more that is not named", w.see(look.Measured, look.Findings...), "grew FISCAL_DUPLICATE")
}
