package health

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"
)

var limits = Thresholds{
	Gaps: Limit{0, 10}, NegativeStock: Limit{0, 5}, OutboxPending: Limit{10, Never}, OutboxDead: Limit{0, 5},
	FiscalDuplicates: Limit{0, 0}, ConflictRate: Limit{10, 50}, LatencyMs: Limit{2000, 5000}, ClockSkewMs: Limit{30_000, Never},
	DiskUsedPercent: Limit{90, 97}, SilentSeconds: Limit{7200, Never},
}

// fine is a store with nothing wrong.
func fine() Snapshot {
	return Snapshot{
		At:      time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC),
		Metrics: Metrics{RemoteReachable: true, CircuitBreakerState: "CLOSED"}, More: More{SyncReady: true}, LastReconcile: Last{Verdict: "in_sync"},
		Duties: []Duty{{"heal", 3 * time.Minute, time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)}},
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
		"central refuses us":      {func(s *Snapshot) { s.More.SyncReady = false }, Degraded, []string{"REMOTE_NOT_READY"}},
		"breaker open":            {func(s *Snapshot) { s.Metrics.CircuitBreakerState = "OPEN" }, Degraded, []string{"BREAKER_OPEN"}},
		"central rather slow":     {func(s *Snapshot) { s.More.RemoteLatencyMs = 2001 }, Degraded, []string{"REMOTE_SLOW"}},
		"central slow":            {func(s *Snapshot) { s.More.RemoteLatencyMs = 5001 }, Critical, []string{"REMOTE_SLOW"}},
		"a clock behind":          {func(s *Snapshot) { s.More.ClockSkewMs = -30_001 }, Degraded, []string{"CLOCK_SKEW"}},
		"a disk fills":            {func(s *Snapshot) { s.More.DiskUsedPercent = 91 }, Degraded, []string{"DISK_LOW"}},
		"a disk is full":          {func(s *Snapshot) { s.More.DiskUsedPercent = 98 }, Critical, []string{"DISK_LOW"}},
		"a schedule late":         {func(s *Snapshot) { s.Duties[0].Due = s.At.Add(-time.Second) }, Degraded, []string{"SCHEDULE_LATE"}},
		"Redis away":              {func(s *Snapshot) { s.LockDegraded = true }, Degraded, []string{"LOCK_BACKEND_DEGRADED"}},
		"an hour's wait":          {func(s *Snapshot) { s.More.WaitingGapCount, s.More.OldestWaitingSeconds = 1, 3600 }, Healthy, nil},
		"a longer wait":           {func(s *Snapshot) { s.More.WaitingGapCount, s.More.OldestWaitingSeconds = 1, 3601 }, Degraded, []string{"GAP_WAITING"}},
		"a trigger dropped":       {func(s *Snapshot) { s.More.CaptureBrokenCount = 1 }, Critical, []string{"CAPTURE_BROKEN"}},
		"a database restored":     {func(s *Snapshot) { s.More.WentBackCount = 1 }, Critical, []string{"CLONE_OR_ROLLBACK"}},
		"never compared":          {func(s *Snapshot) { s.LastReconcile = Last{Verdict: "unknown"} }, Degraded, []string{"NOT_COMPARED"}},
		"paused": {func(s *Snapshot) {
			s.Pause = &Pause{Until: s.At.Add(time.Hour), By: "ana", Why: "an upgrade"}
			s.Duties[0].Due = s.At.Add(-time.Hour) // nobody works then
		}, Degraded, []string{"PAUSED"}},
		"observing alone": {func(s *Snapshot) { s.Mode = Observe }, Healthy, nil},
		"lost updates":    {func(s *Snapshot) { s.More.LostUpdateCount = 9 }, Healthy, nil}, // an alert of their own
		"semantic gaps":   {func(s *Snapshot) { s.More.SemanticGapCount = 9 }, Healthy, nil},
		"a silent store": {func(s *Snapshot) {
			s.Central = true
			s.More.SilentSeconds = 7201
		}, Degraded, []string{"STORE_SILENT"}},
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

func TestTheModeIsPausedOnlyInAPause(t *testing.T) {
	s := fine()
	s.Mode = Observe
	if r := Evaluate(s, limits); r.Mode != Observe {
		t.Errorf("mode %s, want observe", r.Mode)
	}
	s.Pause = &Pause{Until: s.At.Add(time.Hour), By: "ana", Why: "an upgrade"}
	r := Evaluate(s, limits)
	want := Affected{Kind: "pause", ID: "2026-11-23T13:00:00Z", Text: "by ana: an upgrade"}
	if r.Mode != Paused || !slices.Contains(r.Details, want) {
		t.Errorf("mode %s, details %v, want %v", r.Mode, r.Details, want)
	}
}

func TestTheReportIsTheRunbooksJSON(t *testing.T) {
	text, err := json.Marshal(Evaluate(fine(), limits))
	if err != nil {
		t.Fatal(err)
	}
	want := `{"overallHealth":"healthy","metrics":{"eventLagCount":0,"projectionGapCount":0,"stockDivergenceCount":0,` +
		`"negativeStockCount":0,"remoteReachable":true,"circuitBreakerState":"CLOSED","syncReady":true,`
	if !strings.HasPrefix(string(text), want) {
		t.Errorf("%s\nwant it to begin with\n%s", text, want)
	}
}
