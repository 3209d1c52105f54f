// Package alert decides what people are told of what is wrong with a store, when,
// and in which words. It is values and functions over them: the time is an
// argument, and whoever calls keeps the alerts and the deliveries.
//
// What it promises. What is wrong for a moment is told to nobody, what stays wrong
// is told once, and whoever was told is told its end. Nothing is over because a look
// could not see it. What follows from something graver is recorded and kept quiet
// while that lasts and it is no more than what was told. A message says what, where,
// since when, how much, what was already tried and which command to type next.
// However many alerts there are, messages are few, and none is dropped. A fiscal
// duplicate is told to everybody at once, whatever else is wrong.
//
// A cycle is: Find reads a health report into a Look, to which what was measured
// elsewhere is added; Step takes the store's alerts one look further; Deliver makes
// deliveries of what there is to tell. Alerts and deliveries are kept in one
// transaction. Whoever sends takes what Due makes of the deliveries that wait.
package alert

import (
	"time"

	"github.com/google/uuid"

	"github.com/veloxpos/reconciled/internal/health"
)

// Finding is one thing that is wrong now.
type Finding struct {
	Code Code
	// Key says which one of its code, where a store may have several: "" otherwise.
	Key string
	// Value is beyond Threshold, in the unit of its code; more is worse.
	Value, Threshold int64
	// Since is since when it is wrong, where that is known better than by the looks
	// that found it; zero otherwise. It may go forward: a queue that never empties, and
	// whose oldest entry is always young, is in good order.
	Since    time.Time
	Affected []health.Affected // at most 20 are kept
	Total    int64             // of what Affected names some
	// Causes are what it sums up. It is as old as the oldest of them: troubles that
	// follow each other are not one that lasts.
	Causes []Code
}

// Look is what one look at a store saw.
type Look struct {
	Store    uuid.UUID
	Name     string // of the store; "" where it is not known
	Mode     health.Mode
	Findings []Finding
	// Measured are the codes that were looked for. A code that is not among them may be
	// wrong or not: its alerts stay as they are.
	Measured []Code
}

// Add says that a code was looked for, and what was found of it.
func (l *Look) Add(code Code, found ...Finding) {
	l.Measured = append(l.Measured, code)
	for _, f := range found {
		f.Code = code
		l.Findings = append(l.Findings, f)
	}
}

// State is where an alert is in its life.
type State string

// The states.
const (
	Pending      State = "pending"      // wrong, not yet for long enough
	Firing       State = "firing"       // wrong for long enough
	Acknowledged State = "acknowledged" // firing, and somebody has taken it on
	Resolved     State = "resolved"     // over
	Forgotten    State = "forgotten"    // was over before it fired: not to be kept
)

// Alert is the record of one thing that is or was wrong, with all that Step needs to
// know of it.
type Alert struct {
	ID        uuid.UUID         `json:"id"`
	Store     uuid.UUID         `json:"storeId"`
	StoreName string            `json:"storeName,omitempty"`
	Mode      health.Mode       `json:"mode,omitempty"` // of the daemon, when it was last found
	Code      Code              `json:"code"`
	Key       string            `json:"key,omitempty"`
	State     State             `json:"state"`
	Value     int64             `json:"value"`
	Threshold int64             `json:"threshold"`
	Affected  []health.Affected `json:"affected,omitempty"`
	Total     int64             `json:"total"`
	// Causes are what it sums up, and since when it does.
	Causes map[Code]time.Time `json:"causes,omitempty"`

	Since    time.Time `json:"since"`
	Fired    time.Time `json:"firedAt,omitzero"`
	Away     time.Time `json:"awaySince,omitzero"` // since when looks do not find it any more
	Resolved time.Time `json:"resolvedAt,omitzero"`
	Reopened int       `json:"reopened,omitempty"` // how often it came back after it had resolved

	Acknowledgement Acknowledgement `json:"acknowledgement,omitzero"` // the last one; it counts while State says so

	InhibitedBy Code `json:"inhibitedBy,omitempty"` // what keeps it quiet now
	// Anew is when it last came back, or what kept it quiet ended: from then on it has
	// its pending time once more before it is told.
	Anew time.Time `json:"anewAt,omitzero"`
	Told Told      `json:"told,omitzero"`
}

// Acknowledgement is by whom and why an alert was taken on.
type Acknowledgement struct {
	By  string    `json:"by"`
	Why string    `json:"why"`
	At  time.Time `json:"at"`
}

// Told is what people know of an alert.
type Told struct {
	Standing bool      `json:"standing"`         // that it stands, not that it is over
	At       time.Time `json:"at"`               // when they last heard of it
	Value    int64     `json:"value"`            // the greatest they heard of
	Rung     int       `json:"rung"`             // up to which rung of the ladder they are
	RungAt   time.Time `json:"rungAt"`           // since when that rung knows
	Causes   []Code    `json:"causes,omitempty"` // that its messages named
}

// Stands: it fired, and is not over.
func (a *Alert) Stands() bool { return a.State == Firing || a.State == Acknowledged }

func (a *Alert) kind() Kind { return catalogue[a.Code] }
