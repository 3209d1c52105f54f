package alert

import (
	"cmp"
	"fmt"
	"strings"
	"time"

	"github.com/veloxpos/reconciled/internal/health"
)

// Find reads what a health report holds.
func Find(r health.Report) Look {
	look := Look{Store: r.StoreID, Name: r.StoreName, Mode: r.Mode}
	look.Add(DatabaseDown)                                                          // which has just been measured
	if found := critical(r); len(found) > 0 || r.OverallHealth != health.Critical { // else it is for gaps alone, in a pause
		look.Add(FederationCritical, found...)
	}
	look.Add(FederationOffline, offline(r)...)
	look.Add(EventTampered, altered(r)...)
	look.Add(LostUpdate, lost(r)...)
	for _, c := range counts {
		if found := counted(r, c.reason, c.kind); len(found) > 0 || !unseen(r, c.code) {
			look.Add(c.code, found...)
		}
	}
	if r.Mode != health.Paused { // nothing is done then, and whoever paused it knows
		look.Add(ProjectionGapDetected, unhealed(r)...)
		look.Add(ScheduleLate, late(r)...)
	}
	look.addEach(FiscalDuplicate, r, "fiscal_duplicate", r.Metrics.FiscalDuplicateCount, claimed)
	look.addEach(FiscalRangeOverlap, r, "fiscal_overlap", r.Metrics.FiscalRangeOverlapCount, alone)
	look.addEach(FiscalRangeRegression, r, "fiscal_regression", r.Metrics.FiscalRegressionCount, alone)
	return look
}

// counts are the codes that are found by a reason of the report, with the kind of
// what it names.
var counts = []struct {
	code         Code
	reason, kind string
}{
	{OversellingDetected, "NEGATIVE_STOCK", "negative_stock"},
	{OutboxDead, "OUTBOX_DEAD", "outbox_dead"},
	{EventConflict, "EVENT_CONFLICT", "conflict"},
	{LockBackendDegraded, "LOCK_BACKEND_DEGRADED", ""},
	{ClockSkew, "CLOCK_SKEW", ""},
	{CaptureBroken, "CAPTURE_BROKEN", "capture"},
	{CloneOrRollback, "CLONE_OR_ROLLBACK", "went_back"},
	{DiskLow, "DISK_LOW", "disk"},
	{StoreSilent, "STORE_SILENT", ""},
}

// named are the things of a kind that a report names.
func named(r health.Report, kind string) (list []health.Affected) {
	for _, a := range r.Details {
		if a.Kind == kind {
			list = append(list, a)
		}
	}
	return list
}

// counted is the finding of a reason that the report has.
func counted(r health.Report, code, kind string) []Finding {
	reason, has := r.Has(code)
	if !has {
		return nil
	}
	f := Finding{Value: reason.Value, Threshold: reason.Threshold}
	if kind != "" {
		f.Affected, f.Total = named(r, kind), reason.Value
	}
	return []Finding{f}
}

// unseen says whether a part of what tells of a code could not be measured: that nothing
// was found is no end of it then. A clock is held against central's, beside the database's.
func unseen(r health.Report, code Code) bool {
	switch code {
	case ClockSkew:
		return !r.Metrics.SyncReady
	case DiskLow:
		return len(named(r, health.DiskUnread)) > 0
	}
	return false
}

// causes are the alerts of reasons that have another name there.
var causes = map[string]Code{
	gapReason:        ProjectionGapDetected,
	"NEGATIVE_STOCK": OversellingDetected,
}

func critical(r health.Report) []Finding {
	if r.OverallHealth != health.Critical {
		return nil
	}
	var f Finding
	for _, reason := range r.Reasons {
		if reason.Level != health.Critical || reason.Code == gapReason && r.Mode == health.Paused {
			continue
		}
		f.Affected = append(f.Affected, health.Affected{Kind: "cause", ID: reason.Code, Text: reason.ES + " / " + reason.EN})
		f.Causes = append(f.Causes, cmp.Or(causes[reason.Code], Code(reason.Code)))
	}
	if f.Total = int64(len(f.Affected)); f.Total == 0 {
		return nil
	}
	f.Value = f.Total
	return []Finding{f}
}

// gapReason is the reason of gaps in a report.
const gapReason = "PROJECTION_GAP"

// unhealed: gaps are as old as the oldest of them: where others come and are healed all the time
// there always are some.
func unhealed(r health.Report) []Finding {
	found := counted(r, gapReason, "gap")
	if age := time.Duration(r.Metrics.OldestGapSeconds) * time.Second; len(found) > 0 && age > 0 {
		found[0].Since = r.Timestamp.Add(-age)
	}
	return found
}

// offline: central does not answer, or not this store, or the breaker is open.
func offline(r health.Report) []Finding {
	if r.Metrics.RemoteReachable && r.Metrics.SyncReady && r.Metrics.CircuitBreakerState != "OPEN" {
		return nil
	}
	central := health.Affected{Kind: "central", ID: "circuit breaker " + r.Metrics.CircuitBreakerState}
	for _, code := range []string{"REMOTE_UNREACHABLE", "REMOTE_NOT_READY", "BREAKER_OPEN"} {
		if reason, has := r.Has(code); has {
			central.Text = reason.ES + " / " + reason.EN
		}
	}
	return []Finding{{Value: 1, Affected: []health.Affected{central}, Total: 1}}
}

// altered: the log was changed, or events were deleted from it, behind the POS.
func altered(r health.Report) []Finding {
	n := r.Metrics.EventTamperedCount
	if n <= 0 {
		return nil
	}
	return []Finding{{Value: n, Affected: append(named(r, "tampered"), named(r, "held")...), Total: n}}
}

// lost: what last write wins took is no trouble of the store's, and somebody's money.
func lost(r health.Report) []Finding {
	n := r.Metrics.LostUpdateCount
	if n <= 0 {
		return nil
	}
	return []Finding{{Value: n, Affected: named(r, "lost_update"), Total: n}}
}

// late makes each schedule a finding of its own: one may follow from something else.
func late(r health.Report) []Finding {
	var found []Finding
	for _, a := range named(r, "late") {
		reason, _ := r.Has("SCHEDULE_LATE")
		found = append(found, Finding{Key: a.ID, Value: reason.Value, Affected: []health.Affected{a}, Total: 1})
	}
	return found
}

// addEach makes each of what a report names a finding of its own, so that a second one
// is told like the first. A report names 20 of them. The others are one finding
// together, and none that is not named is known to be gone.
func (l *Look) addEach(code Code, r health.Report, kind string, total int64, finding func(health.Affected) Finding) {
	each := named(r, kind)
	for _, a := range each {
		f := finding(a)
		f.Code, f.Key = code, a.ID
		l.Findings = append(l.Findings, f)
	}
	unnamed := total - int64(len(each))
	if unnamed <= 0 {
		l.Measured = append(l.Measured, code)
		return
	}
	l.Findings = append(l.Findings, Finding{
		Code: code, Value: unnamed, Total: unnamed,
		Affected: []health.Affected{{Kind: kind, Text: fmt.Sprintf("%d más / %[1]d more", unnamed)}},
	})
}

// alone is the finding of one thing.
func alone(a health.Affected) Finding {
	return Finding{Affected: []health.Affected{a}, Value: 1, Total: 1}
}

// claimed is the finding of a fiscal number: the sales that have it.
func claimed(number health.Affected) Finding {
	_, list, listed := strings.Cut(number.Text, "sales ")
	if !listed {
		return alone(number)
	}
	var sales []health.Affected
	for _, id := range strings.Fields(list) {
		sales = append(sales, health.Affected{Kind: "sale", ID: strings.Trim(id, ",;")})
	}
	n := int64(len(sales))
	return Finding{Affected: sales, Value: n, Threshold: 1, Total: n}
}

// CodeOf is the alert under which people are told of a report's reason; "" where it has
// none.
func CodeOf(reason string) Code {
	for _, c := range counts {
		if c.reason == reason {
			return c.code
		}
	}
	switch reason {
	case gapReason:
		return ProjectionGapDetected
	case "FISCAL_DUPLICATE", "FISCAL_RANGE_OVERLAP", "FISCAL_RANGE_REGRESSION", "EVENT_TAMPERED", "SCHEDULE_LATE", "LOST_UPDATE":
		return Code(reason)
	case "EVENT_DELETED":
		return EventTampered
	case "REMOTE_UNREACHABLE", "REMOTE_NOT_READY", "BREAKER_OPEN":
		return FederationOffline
	}
	return ""
}
