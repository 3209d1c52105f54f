package httpapi

import (
	"context"
	"net/http"
	"time"

	"github.com/google/uuid"

	"github.com/veloxpos/reconciled/internal/health"
)

// Alerts are what people are told of.
type Alerts interface {
	// Alerts are a store's, those that are not over first; all also those that are.
	Alerts(ctx context.Context, query AlertQuery) ([]Alert, error)
	// Acknowledge takes an alert on. One that is none is an UnknownError, and one that is
	// not firing fails with ErrNotFiring.
	Acknowledge(ctx context.Context, taking Taking) (Alert, error)
}

// AlertQuery chooses alerts.
type AlertQuery struct {
	Store uuid.UUID
	All   bool
	Limit int
}

// Alert is one thing that is or was wrong.
type Alert struct {
	ID           uuid.UUID         `json:"alertId"`
	Store        uuid.UUID         `json:"storeId"`
	Code         string            `json:"code"`
	Key          string            `json:"key,omitempty"` // which one of its code
	State        string            `json:"state"`
	Severity     string            `json:"severity"`
	TitleES      string            `json:"es"`
	TitleEN      string            `json:"en"`
	Since        time.Time         `json:"since"`
	Resolved     *time.Time        `json:"resolvedAt,omitempty"`
	Value        int64             `json:"value"`
	Threshold    int64             `json:"threshold"`
	Affected     []health.Affected `json:"affected"`
	Total        int64             `json:"total"`
	InhibitedBy  string            `json:"inhibitedBy,omitempty"` // what keeps it quiet
	Acknowledged string            `json:"acknowledgedBy,omitempty"`
	Why          string            `json:"why,omitempty"`
	Command      string            `json:"command"` // to type next
	Section      string            `json:"runbookSection"`
}

// AlertList is a store's.
type AlertList struct {
	Store  uuid.UUID `json:"storeId"`
	Alerts []Alert   `json:"alerts"`
}

// Taking says who takes an alert on, and what is being done.
type Taking struct {
	Store, Alert uuid.UUID
	By, Why      string
}

func (a *api) alerts(c *call) (int, any, error) {
	f := a.query(c)
	query := AlertQuery{Store: f.store(), All: f.choice("all", "true", "false") == "true", Limit: f.number("limit", 1, 200, 50)}
	if err := f.end(); err != nil {
		return 0, nil, err
	}
	list, err := a.daemon.Alerts(c.ctx(), query)
	return http.StatusOK, AlertList{Store: query.Store, Alerts: some(list)}, err
}

func (a *api) acknowledge(c *call) (int, any, error) {
	f := a.body(c)
	taking := Taking{Store: f.store(), Alert: f.id("alert_id"), By: c.by, Why: f.why()}
	if err := f.end(); err != nil {
		return 0, nil, err
	}
	taken, err := a.daemon.Acknowledge(c.ctx(), taking)
	return http.StatusOK, taken, err
}
