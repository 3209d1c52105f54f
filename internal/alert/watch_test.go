package alert

import (
	"encoding/json"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/veloxpos/reconciled/internal/health"
)

var (
	centro = uuid.MustParse("11111111-1111-4111-8111-111111111111")
	noon   = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	all    = Codes()
)

const minute = time.Minute

// watch looks at a store again and again, and keeps what a daemon keeps: each look
// begins with what the last one left, read back from its JSON, as after a restart.
type watch struct {
	t        testing.TB
	now      time.Time
	lastRung int
	kept     map[uuid.UUID][]byte
	told     []Notice
}

func newWatch(t testing.TB) *watch {
	return &watch{t: t, now: noon, lastRung: 2, kept: map[uuid.UUID][]byte{}}
}

// alerts are what is kept.
func (w *watch) alerts() []Alert {
	w.t.Helper()
	var alerts []Alert
	for _, id := range slices.SortedFunc(maps.Keys(w.kept), func(a, b uuid.UUID) int { return slices.Compare(a[:], b[:]) }) {
		var a Alert
		if err := json.Unmarshal(w.kept[id], &a); err != nil {
			w.t.Fatal(err)
		}
		alerts = append(alerts, a)
	}
	return alerts
}

func (w *watch) keep(alerts ...Alert) {
	w.t.Helper()
	for _, a := range alerts {
		text, err := json.Marshal(a)
		if err != nil {
			w.t.Fatal(err)
		}
		if w.kept[a.ID] = text; a.State == Forgotten {
			delete(w.kept, a.ID)
		}
	}
}

// see is one look, which measured the codes that are given.
func (w *watch) see(measured []Code, found ...Finding) []Notice {
	w.t.Helper()
	changed, told := Step(w.now, w.alerts(), Look{Store: centro, Name: "Centro", Findings: found, Measured: measured}, w.lastRung)
	w.keep(changed...)
	w.told = append(w.told, told...)
	return told
}

// look is a minute's pause and a look that measured everything.
func (w *watch) look(found ...Finding) []Notice {
	w.t.Helper()
	w.now = w.now.Add(minute)
	return w.see(all, found...)
}

// during looks once a minute for a while.
func (w *watch) during(d time.Duration, found ...Finding) []Notice {
	w.t.Helper()
	var told []Notice
	for end := w.now.Add(d); w.now.Before(end); {
		told = append(told, w.look(found...)...)
	}
	return told
}

// blind is a while in which nothing but the codes given could be measured.
func (w *watch) blind(d time.Duration, measured []Code, found ...Finding) []Notice {
	w.t.Helper()
	var told []Notice
	for end := w.now.Add(d); w.now.Before(end); {
		w.now = w.now.Add(minute)
		told = append(told, w.see(measured, found...)...)
	}
	return told
}

// the alert of a code, the newest where there are several.
func (w *watch) the(code Code) Alert {
	w.t.Helper()
	var newest Alert
	for _, a := range w.alerts() {
		if a.Code == code && !a.Since.Before(newest.Since) {
			newest = a
		}
	}
	return newest
}

func (w *watch) acknowledge(code Code) {
	w.t.Helper()
	a, err := Acknowledge(w.the(code), "ana", "on it", w.now)
	if err != nil {
		w.t.Fatal(err)
	}
	w.keep(a)
}

// heard are notices in short: "fired PROJECTION_GAP_DETECTED".
func heard(notices []Notice) []string {
	var said []string
	for _, n := range notices {
		said = append(said, string(n.News)+" "+string(n.Alert.Code))
	}
	return said
}

func expect(t testing.TB, what string, got []Notice, want ...string) {
	t.Helper()
	if said := heard(got); !slices.Equal(said, want) {
		t.Errorf("%s: told %q, want %q", what, said, want)
	}
}

func gaps(n int64) Finding {
	return Finding{Code: ProjectionGapDetected, Value: n, Total: n}
}

func duplicate(key string, sales ...string) Finding {
	f := Finding{Code: FiscalDuplicate, Key: key, Value: int64(len(sales)), Threshold: 1, Total: int64(len(sales))}
	for _, id := range sales {
		f.Affected = append(f.Affected, health.Affected{Kind: "sale", ID: id})
	}
	return f
}

func of(code Code) Finding { return Finding{Code: code, Value: 1} }

// but is every code except some.
func but(codes ...Code) []Code {
	return slices.DeleteFunc(slices.Clone(all), func(c Code) bool { return slices.Contains(codes, c) })
}
