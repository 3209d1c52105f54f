package alert

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"
)

const (
	// EscalateAfter is how long nobody may acknowledge an alert before the next rung
	// is told: the runbook's hour.
	EscalateAfter = time.Hour
	// RemindAfter is how long an alert may stand without a word.
	RemindAfter = 24 * time.Hour
)

// News is why something is told.
type News string

// The news.
const (
	Fired     News = "fired"     // it is new
	Back      News = "back"      // it was told to be over, and is not
	Grew      News = "grew"      // it is more than what was told
	Escalated News = "escalated" // nobody has acknowledged it
	Reminder  News = "reminder"  // it still stands
	Over      News = "resolved"  // it is over
	Still     News = "standing"  // for receivers that forget, see Standing
)

// Notice is something to tell: an alert as it was then, and to whom. Escalated is
// told to its rung, everything else to its rung and all below.
type Notice struct {
	News  News
	At    time.Time
	Rung  int
	Alert Alert
}

// loudness orders codes by which may keep which quiet.
func loudness(code Code) int {
	switch code {
	case DatabaseDown:
		return 3
	case FederationCritical:
		return 2
	case FederationOffline:
		return 1
	}
	return 0
}

// silencer is what keeps an alert quiet, "" where nothing does:
//
//   - DATABASE_DOWN everything that cannot be measured meanwhile,
//   - FEDERATION_OFFLINE the exchange with central being late,
//   - FEDERATION_CRITICAL those of its causes that were there when it was told: people
//     have read of them. A cause that comes up later, or grows beyond what they have
//     read, is told by itself.
func silencer(now time.Time, a *Alert, alerts []Alert, measured []Code) Code {
	if a.State == Resolved || a.State == Forgotten || a.kind().AtOnce {
		return ""
	}
	for i := range alerts {
		by := &alerts[i]
		if !by.Stands() || by.Code == a.Code {
			continue
		}
		switch {
		case by.Code == DatabaseDown && !slices.Contains(measured, a.Code),
			by.Code == FederationOffline && a.Code == ScheduleLate && a.Key == KeyReconcile,
			by.toldOf(a) && !a.grew(now):
			return by.Code
		}
	}
	return ""
}

// toldOf says whether what was told last of another alert was told by a message of this
// one, which sums up.
func (a *Alert) toldOf(other *Alert) bool {
	return slices.Contains(a.Told.Causes, other.Code) && !other.Since.After(a.Told.At) && !other.Told.At.After(a.Told.At)
}

// sumUp writes down that people know how much there is of an alert's causes, since they
// have just read of it. Of what is told at once they know what was told by itself.
func (a *Alert) sumUp(alerts []Alert) {
	for i := range alerts {
		if cause := &alerts[i]; a.Told.Standing && a.toldOf(cause) && !cause.kind().AtOnce {
			cause.Told.Value = max(cause.Told.Value, cause.Value)
		}
	}
}

// inhibit keeps an alert quiet, or lets it speak again: not at once, since what
// followed from something that is over takes its time to heal.
func (a *Alert) inhibit(now time.Time, by Code) {
	if a.InhibitedBy != "" && by == "" {
		a.Anew = now
	}
	a.InhibitedBy = by
}

// news decides whether there is something to tell. Whoever was told of an alert is
// told its end, quiet or not. Of what the look did not find nothing is told but that:
// it may be over already.
func (a *Alert) news(now time.Time, lastRung int) (News, bool) {
	switch {
	case a.State == Resolved && a.Told.Standing:
		return Over, true
	case !a.Stands() || a.InhibitedBy != "" || !a.Away.IsZero():
		return "", false
	case !a.Told.Standing && now.Sub(a.Anew) < a.kind().Pending:
		return "", false
	case a.Told.At.IsZero():
		return Fired, true
	case !a.Told.Standing:
		return Back, true
	case a.grew(now):
		return Grew, true
	case a.State == Firing && a.Told.Rung < lastRung && now.Sub(later(a.Told.RungAt, a.Anew)) >= EscalateAfter:
		return Escalated, true
	case now.Sub(a.Told.At) >= RemindAfter:
		return Reminder, true
	}
	return "", false
}

func (a *Alert) grew(now time.Time) bool {
	switch a.kind().Growth {
	case Doubles:
		return a.Value >= max(2*a.Told.Value, 1)
	case Each:
		return a.Value > a.Told.Value
	case Sums:
		for cause, since := range a.Causes {
			if onlySummed(cause) && !slices.Contains(a.Told.Causes, cause) && now.Sub(since) >= a.kind().Pending {
				return true
			}
		}
	}
	return false
}

// onlySummed says whether a cause is no alert of its own: people hear of it by what sums
// it up alone.
func onlySummed(cause Code) bool {
	_, itself := catalogue[cause]
	return !itself
}

// tell writes down what people know from now on. Growth takes an acknowledgement
// back: it was given for less, and whoever gave it may not be looking any more.
func (a *Alert) tell(now time.Time, news News, lastRung int) {
	told := Told{
		Standing: news != Over, At: now, Value: max(a.Told.Value, a.Value), Rung: a.Told.Rung, RungAt: a.Told.RungAt,
		Causes: a.named(),
	}
	switch news {
	case Fired, Back:
		told.Value, told.RungAt = a.Value, now
		if a.kind().AtOnce {
			told.Rung = lastRung
		}
	case Grew:
		a.State, told.RungAt = Firing, now
	case Escalated:
		told.Rung, told.RungAt = a.Told.Rung+1, now
	}
	a.Told = told
}

// named are the causes that people have read of: those there are now, and of earlier ones
// those that nothing else tells of, which would be news each time that they come back.
func (a *Alert) named() []Code {
	named := slices.Collect(maps.Keys(a.Causes))
	for _, cause := range a.Told.Causes {
		if _, there := a.Causes[cause]; !there && onlySummed(cause) {
			named = append(named, cause)
		}
	}
	slices.Sort(named)
	return named
}

// ErrNotFiring: only an alert that is firing can be acknowledged.
var ErrNotFiring = errors.New("the alert is not firing")

// Acknowledge says that somebody has taken an alert on. It is escalated no more, and
// stays until it is over. It is told again when it has grown beyond what is known
// now.
func Acknowledge(a Alert, by, why string, now time.Time) (Alert, error) {
	if !a.Stands() {
		return a, fmt.Errorf("acknowledge %s, which is %s: %w", a.Code, a.State, ErrNotFiring)
	}
	a.State = Acknowledged
	a.Acknowledgement = Acknowledgement{By: line(by), Why: line(why), At: now.UTC().Round(0)}
	a.Told.Value = max(a.Told.Value, a.Value)
	return a, nil
}
