package alert

import (
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/google/uuid"

	"github.com/veloxpos/reconciled/internal/health"
)

// Fold is how long a resolved alert may be reopened. What comes back within is the
// same trouble, not another one.
const Fold = 30 * time.Minute

// affectedAtMost bounds what an alert names, as a health report does.
const affectedAtMost = 20

// Step takes a store's alerts one look further. It returns those that changed, also
// new ones, and what there is to tell of them. alerts are those that are not over,
// and those that resolved less than Fold ago; older ones do no harm. lastRung is the
// highest rung of the ladder that people are on.
func Step(now time.Time, alerts []Alert, look Look, lastRung int) (changed []Alert, tell []Notice) {
	now = now.UTC().Round(0)
	before := make(map[uuid.UUID]Alert, len(alerts))
	for _, a := range alerts {
		before[a.ID] = a
	}
	alerts = observe(now, alerts, look)
	// What may keep others quiet is told first: they are quiet if it names them.
	slices.SortStableFunc(alerts, func(a, b Alert) int { return loudness(b.Code) - loudness(a.Code) })
	for i := range alerts {
		a := &alerts[i]
		a.inhibit(now, silencer(now, a, alerts, look.Measured))
		if news, ok := a.news(now, lastRung); ok {
			a.tell(now, news, lastRung)
			a.sumUp(alerts)
			tell = append(tell, Notice{News: news, At: now, Rung: a.Told.Rung, Alert: *a})
		}
	}
	for _, a := range alerts {
		if old, kept := before[a.ID]; !kept || !reflect.DeepEqual(a, old) {
			changed = append(changed, a)
		}
	}
	return changed, tell
}

// slot is what one alert at a time may stand for.
type slot struct {
	code Code
	key  string
}

// observe moves every alert on by what the look saw of it, and adds alerts for what
// is new.
func observe(now time.Time, alerts []Alert, look Look) []Alert {
	found := make(map[slot]Finding, len(look.Findings))
	for _, f := range look.Findings {
		f.Key = line(f.Key)
		found[slot{f.Code, f.Key}] = f
	}
	var next []Alert
	for _, a := range alerts {
		if a.State == Forgotten || a.State == Resolved && now.Sub(a.Resolved) > Fold {
			continue
		}
		a.clamp(now)
		at := slot{a.Code, a.Key}
		switch f, ok := found[at]; {
		case ok:
			a.found(now, f, look)
		case slices.Contains(look.Measured, a.Code):
			a.missed(now)
		}
		delete(found, at)
		next = append(next, a)
	}
	for _, f := range look.Findings { // in the look's order
		at := slot{f.Code, line(f.Key)}
		f, isNew := found[at]
		if !isNew {
			continue
		}
		delete(found, at)
		a := Alert{
			ID:    uuid.NewSHA1(look.Store, []byte(string(f.Code)+" "+f.Key+" "+now.Format(time.RFC3339Nano))),
			Store: look.Store, Code: f.Code, Key: f.Key, State: Pending, Since: now,
		}
		a.found(now, f, look)
		next = append(next, a)
	}
	return next
}

// found: the look found it.
func (a *Alert) found(now time.Time, f Finding, look Look) {
	if look.Name != "" {
		a.StoreName = line(look.Name)
	}
	a.Mode = look.Mode
	a.Value, a.Threshold, a.Total = f.Value, f.Threshold, max(f.Total, int64(len(f.Affected)))
	a.Affected = affected(f.Affected)
	a.Away = time.Time{}
	since := f.Since
	a.Causes = agesOf(f.Causes, a.Causes, now)
	if len(a.Causes) > 0 {
		since = slices.MinFunc(slices.Collect(maps.Values(a.Causes)), time.Time.Compare)
	}
	switch a.State {
	case Pending:
		if !since.IsZero() && !since.After(now) {
			a.Since = since.UTC()
		}
		if now.Sub(a.Since) >= a.kind().Pending {
			a.State, a.Fired = Firing, now
		}
	case Resolved:
		a.State, a.Resolved, a.Anew = Firing, time.Time{}, now
		a.Reopened++
	}
}

// agesOf says since when each cause is there.
func agesOf(causes []Code, before map[Code]time.Time, now time.Time) map[Code]time.Time {
	if len(causes) == 0 {
		return nil
	}
	ages := make(map[Code]time.Time, len(causes))
	for _, code := range causes {
		ages[code] = now
		if since, known := before[code]; known {
			ages[code] = earlier(since, now)
		}
	}
	return ages
}

// missed: the look looked for it, and it was not there. What has come back once must
// be away for as long as it could have been reopened, and longer each time: one that
// comes and goes all day is then one alert that stands all day.
func (a *Alert) missed(now time.Time) {
	switch {
	case a.State == Pending:
		a.State = Forgotten
	case a.Stands():
		if a.Away.IsZero() {
			a.Away = now
		}
		if now.Sub(a.Away) >= max(a.kind().Away, time.Duration(a.Reopened)*Fold) {
			a.State, a.Resolved = Resolved, now
		}
	}
}

// clamp brings times back that lie ahead, after the clock was set back: else what
// waits for them would wait as long as the clock was wrong.
func (a *Alert) clamp(now time.Time) {
	for _, t := range []*time.Time{&a.Since, &a.Away, &a.Resolved, &a.Anew, &a.Told.At, &a.Told.RungAt} {
		*t = earlier(*t, now)
	}
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// affected are the first 20, each a line.
func affected(list []health.Affected) []health.Affected {
	var kept []health.Affected
	for _, a := range list[:min(len(list), affectedAtMost)] {
		kept = append(kept, health.Affected{Kind: line(a.Kind), ID: line(a.ID), Text: line(a.Text)})
	}
	return kept
}

// line makes one short printable line of a text that came from elsewhere: a product's
// name must not look like a part of the message.
func line(text string) string {
	const most = 300 // runes
	text = strings.TrimSpace(strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return ' '
	}, text))
	if runes := []rune(text); len(runes) > most {
		return string(runes[:most-1]) + "…"
	}
	return text
}
