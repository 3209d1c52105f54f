package httpapi

import (
	"context"
	"net/http"
	"time"

	"github.com/google/uuid"
)

// Outbox is the POS's outbox_entries.
type Outbox interface {
	Outbox(ctx context.Context, query OutboxQuery) (OutboxPage, error)
	// RetryOutbox lets the POS try entries again as if they were new: all of them, or an
	// UnknownError names the first that is not there.
	RetryOutbox(ctx context.Context, retry OutboxRetry) error
}

// OutboxQuery chooses entries that are not done with.
type OutboxQuery struct {
	Store  uuid.UUID
	Status string // pending or dead, as in the runbook; "" for both
	Limit  int
	After  uuid.NullUUID // the last entry of the page before
}

// OutboxPage are entries, the oldest first, beside counts of all.
type OutboxPage struct {
	Store   uuid.UUID     `json:"store_id"`
	Counts  []OutboxCount `json:"counts"`
	Entries []OutboxEntry `json:"entries"`
	Next    *uuid.UUID    `json:"next,omitempty"` // what after is for the next page
}

// OutboxCount counts a target's entries that are not done with.
type OutboxCount struct {
	Target  string `json:"target"`
	Pending int64  `json:"pending"`
	Dead    int64  `json:"dead"`
	Zombies int64  `json:"zombies"` // among the dead
}

// OutboxEntry is a row of outbox_entries. A dead one has failed or had its ten tries. A
// zombie is dead though its status is pending: the POS does not look at it again.
type OutboxEntry struct {
	ID         uuid.UUID `json:"id"`
	Event      string    `json:"event_id"`
	Type       string    `json:"event_type"`
	Target     string    `json:"target"`
	Status     string    `json:"status"`
	Error      string    `json:"error"` // its beginning
	Retries    int       `json:"retry_count"`
	Created    time.Time `json:"created_at"`
	Dead       bool      `json:"dead"`
	Zombie     bool      `json:"zombie"`
	EventKnown bool      `json:"event_known"` // the event is in the log
}

// OutboxRetry says who lets the POS try which entries again, and why.
type OutboxRetry struct {
	Store uuid.UUID   `json:"store_id"`
	IDs   []uuid.UUID `json:"retried"`
	By    string      `json:"by"`
	Why   string      `json:"why"`
}

func (a *api) outbox(c *call) (int, any, error) {
	f := a.query(c)
	query := OutboxQuery{Store: f.store(), Status: f.choice("status", "pending", "dead"), Limit: f.number("limit", 1, 500, 100), After: f.optionalID("after")}
	if err := f.end(); err != nil {
		return 0, nil, err
	}
	page, err := a.daemon.Outbox(c.ctx(), query)
	page.Counts, page.Entries = some(page.Counts), some(page.Entries)
	return http.StatusOK, page, err
}

// idsMost bounds how many things one decision is about.
const idsMost = 500

func (a *api) retryOutbox(c *call) (int, any, error) {
	f := a.body(c)
	retry := OutboxRetry{Store: f.store(), IDs: f.ids("ids", idsMost), By: c.by, Why: f.why()}
	if len(retry.IDs) == 0 {
		f.fault("ids", "ids is missing")
	}
	if err := f.end(); err != nil {
		return 0, nil, err
	}
	return http.StatusOK, retry, a.daemon.RetryOutbox(c.ctx(), retry)
}
