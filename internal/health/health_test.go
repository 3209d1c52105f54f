package health

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"
)

var limits = Thresholds{CriticalGaps: 10, CriticalNegativeStock: 5, CriticalOutboxDead: 5, CriticalConflictRate: 50}

// fine is a store with nothing wrong.
func fine() Snapshot {
	return Snapshot{
		At:      time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC),
		Metrics: Metrics{RemoteReachable: true, CircuitBreakerState: "CLOSED"}, LastReconcile: Last{Verdict: "in_sync"},
	}
}

func TestAStoreIsAsBadAsItsGravestReason(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*Snapshot)
		want   Level
		codes  []string
	}{
		"nothing wrong":           {func(*Snapshot) {}, Healthy, nil},
		"one gap":                 {func(s *Snapshot) { s.Metrics.ProjectionGapCount = 1 }, Degraded, []string{"PROJECTION_GAP"}},
		"ten gaps":                {func(s *Snapshot) { s.Metrics.ProjectionGapCount = 10 }, Degraded, []string{"PROJECTION_GAP"}},
		"eleven gaps":             {func(s *Snapshot) { s.Metrics.ProjectionGapCount = 11 }, Critical, []string{"PROJECTION_GAP"}},
		"one fiscal duplicate":    {func(s *Snapshot) { s.More.FiscalDuplicateCount = 1 }, Critical, []string{"FISCAL_DUPLICATE"}},
		"six products below zero": {func(s *Snapshot) { s.Metrics.NegativeStockCount = 6 }, Critical, []string{"NEGATIVE_STOCK"}},
		"six dead outbox entries": {func(s *Snapshot) { s.More.OutboxDead = 6 }, Critical, []string{"OUTBOX_DEAD"}},
		"a conflict never pages":  {func(s *Snapshot) { s.More.ConflictCount = 1000 }, Degraded, []string{"EVENT_CONFLICT"}},
		"one event altered":       {func(s *Snapshot) { s.More.EventTamperedCount = 1 }, Critical, []string{"EVENT_TAMPERED"}},
		"one event deleted":       {func(s *Snapshot) { s.More.EventTamperedCount = 1; s.More.EventDeletedCount = 1 }, Degraded, []string{"EVENT_DELETED"}},
		"deletions held":          {func(s *Snapshot) { s.More.DeletionsHeldCount = 21 }, Degraded, []string{"DELETIONS_HELD"}},
		"a small backlog":         {func(s *Snapshot) { s.More.OutboxPending = 10 }, Healthy, nil},
		"central away":            {func(s *Snapshot) { s.Metrics.RemoteReachable = false }, Degraded, []string{"REMOTE_UNREACHABLE"}},
		"central slow":            {func(s *Snapshot) { s.More.RemoteLatencyMs = 5001 }, Critical, []string{"REMOTE_SLOW"}},
		"never compared":          {func(s *Snapshot) { s.LastReconcile = Last{Verdict: "unknown"} }, Degraded, []string{"NOT_COMPARED"}},
		"central itself, no peer": {func(s *Snapshot) {
			s.Central = true
			s.LastReconcile.Verdict = "unknown"
			s.Metrics.RemoteReachable = false
		}, Healthy, nil},
		"the gravest of two counts": {func(s *Snapshot) { s.More.PoisonCount = 1; s.More.FiscalDuplicateCount = 1 }, Critical, []string{"FISCAL_DUPLICATE", "POISON"}},
	} {
		t.Run(name, func(t *testing.T) {
			s := fine()
			c.change(&s)
			report := Evaluate(s, limits)
			var codes []string
			for _, r := range report.Reasons {
				codes = append(codes, r.Code)
				if r.ES == "" || r.EN == "" || strings.Contains(r.ES+r.EN, "%!") {
					t.Errorf("%s: %q / %q", r.Code, r.ES, r.EN)
				}
			}
			if report.OverallHealth != c.want || !slices.Equal(codes, c.codes) {
				t.Errorf("%s for %v, want %s for %v", report.OverallHealth, codes, c.want, c.codes)
			}
		})
	}
}

func TestTheReportIsTheRunbooksJSON(t *testing.T) {
	text, err := json.Marshal(Evaluate(fine(), limits))
	if err != nil {
		t.Fatal(err)
	}
	want := `{"overallHealth":"healthy","metrics":{"eventLagCount":0,"projectionGapCount":0,"stockDivergenceCount":0,` +
		`"negativeStockCount":0,"remoteReachable":true,"circuitBreakerState":"CLOSED"},`
	if !strings.HasPrefix(string(text), want) {
		t.Errorf("%s\nwant it to begin with\n%s", text, want)
	}
}
