package httpapi

import (
	"context"
	"net/http"
	"time"

	"github.com/google/uuid"
)

// Gaps are events that are not projected.
type Gaps interface {
	Gaps(ctx context.Context, query GapQuery) (GapList, error)
	// RetryGaps lets the next heal try gaps again: all that are named, or an UnknownError
	// names the first that is none.
	RetryGaps(ctx context.Context, retry GapRetry) (due []uuid.UUID, err error)
	// DismissGap leaves a malformed event as it is; one that is not in quarantine is an
	// UnknownError.
	DismissGap(ctx context.Context, dismissal GapDismissal) error
}

// gapClasses are those that people look at.
var gapClasses = []string{"actionable", "blocked", "poison", "waiting", "semantic"}

// GapQuery chooses gaps.
type GapQuery struct {
	Store uuid.UUID
	Class string // "" for all
	Limit int    // of a class
}

// GapList are the newest gaps of each class, beside the number of all.
type GapList struct {
	Store  uuid.UUID      `json:"store_id"`
	Totals map[string]int `json:"totals"` // by class
	Gaps   []Gap          `json:"gaps"`
}

// Gap is an event that is not projected, and why.
type Gap struct {
	Event       uuid.UUID     `json:"event_id"`
	Type        string        `json:"type"`
	Class       string        `json:"class"`
	Since       time.Time     `json:"since"`
	WaitsTable  string        `json:"waits_table,omitempty"` // where the row is missing that it waits for
	WaitsID     uuid.NullUUID `json:"waits_id"`
	Attempts    int           `json:"attempts"`
	NextAttempt *time.Time    `json:"next_attempt"`
	Reason      string        `json:"reason"`
	LastError   string        `json:"last_error,omitempty"`
}

// GapRetry says which gaps are tried again: those of events, or all, or all of a class.
type GapRetry struct {
	Store  uuid.UUID
	Events []uuid.UUID
	Class  string
	By     string
}

// GapsRetried is what was made due.
type GapsRetried struct {
	Store uuid.UUID   `json:"store_id"`
	By    string      `json:"by"`
	Count int         `json:"count"`
	Due   []uuid.UUID `json:"due"` // at most 500
}

// GapDismissal says who leaves a malformed event as it is, and why.
type GapDismissal struct {
	Store uuid.UUID `json:"store_id"`
	Event uuid.UUID `json:"event_id"`
	By    string    `json:"dismissed_by"`
	Why   string    `json:"why"`
}

func (a *api) gaps(c *call) (int, any, error) {
	f := a.query(c)
	query := GapQuery{Store: f.store(), Class: f.choice("class", gapClasses...), Limit: f.number("limit", 1, 200, 50)}
	if err := f.end(); err != nil {
		return 0, nil, err
	}
	list, err := a.daemon.Gaps(c.ctx(), query)
	list.Gaps = some(list.Gaps)
	return http.StatusOK, list, err
}

func (a *api) retryGaps(c *call) (int, any, error) {
	f := a.body(c)
	retry := GapRetry{Store: f.store(), Events: f.ids("event_ids", idsMost), Class: f.choice("class", gapClasses...), By: c.by}
	all := f.flag("all")
	switch {
	case all == (len(retry.Events) > 0):
		f.fault("event_ids", "either event_ids or all is needed")
	case retry.Class != "" && !all:
		f.fault("class", "class goes with all")
	}
	if err := f.end(); err != nil {
		return 0, nil, err
	}
	due, err := a.daemon.RetryGaps(c.ctx(), retry)
	return http.StatusOK, GapsRetried{Store: retry.Store, By: retry.By, Count: len(due), Due: some(due[:min(len(due), idsMost)])}, err
}

func (a *api) dismissGap(c *call) (int, any, error) {
	f := a.body(c)
	dismissal := GapDismissal{Store: f.store(), Event: f.id("event_id"), By: c.by, Why: f.why()}
	if err := f.end(); err != nil {
		return 0, nil, err
	}
	return http.StatusOK, dismissal, a.daemon.DismissGap(c.ctx(), dismissal)
}
