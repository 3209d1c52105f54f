package daemon

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"
	"go.uber.org/zap"

	"github.com/veloxpos/reconciled/internal/alert"
	"github.com/veloxpos/reconciled/internal/health"
)

// Outage keeps the one alert that the database cannot: that it is down. It lives as
// long as the process, and begins before there is a database.
type Outage struct {
	place   string
	outlets []Outlet // that need no database
	logger  *zap.Logger

	mu      sync.Mutex
	down    map[uuid.UUID]error // by store, of which the last look failed; by uuid.Nil before any
	alerts  []alert.Alert
	waiting []alert.Delivery
}

// NewOutage tells those outlets that need no database. place names this daemon, as people
// know it; after a restart it is the same, and so is the alert's id: who was told that the
// database is down by a process that is no more is told its end.
func NewOutage(place string, outlets []Outlet, logger *zap.Logger) *Outage {
	bare := slices.DeleteFunc(slices.Clone(outlets), func(o Outlet) bool { return !o.Bare })
	return &Outage{place: place, outlets: bare, logger: logger, down: map[uuid.UUID]error{}}
}

// step says whether the database is down now for a store, and why. It is over when it is
// down for none: another store's look ends nothing.
func (o *Outage) step(store uuid.UUID, why error) {
	var channels []alert.Channel
	for _, outlet := range o.outlets {
		channels = append(channels, outlet.Channel)
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if why == nil {
		delete(o.down, store)
	} else {
		o.down[store] = why
	}
	var down error
	for _, other := range o.down {
		down = other
		break // one says it all
	}
	look := alert.Look{Store: uuid.Nil, Name: o.place}
	if down == nil {
		look.Add(alert.DatabaseDown)
	} else {
		look.Add(alert.DatabaseDown, alert.Finding{Value: 1, Total: 1, Affected: []health.Affected{{Kind: "database", ID: o.place, Text: down.Error()}}})
	}
	changed, notices := alert.Step(time.Now().UTC(), o.alerts, look, alert.LastRung(channels))
	for _, c := range changed {
		c.ID = uuid.NewSHA1(uuid.Nil, []byte(string(alert.DatabaseDown)+" "+o.place)) // of one that is new, and pending: nobody knows another
		o.alerts = replaced(o.alerts, c)
	}
	o.waiting = append(o.waiting, alert.Deliver(notices, channels)...)
}

// replaced is the list with an alert as it is now; one that is forgotten is in it no
// more.
func replaced(list []alert.Alert, a alert.Alert) []alert.Alert {
	var others []alert.Alert
	for _, other := range list {
		if other.ID != a.ID {
			others = append(others, other)
		}
	}
	if a.State == alert.Forgotten {
		return others
	}
	return append(others, a)
}

// deliver sends what waits for an outlet. What cannot be sent is tried again.
func (o *Outage) deliver(ctx context.Context, outlet Outlet) {
	now := time.Now().UTC()
	o.mu.Lock()
	var due []alert.Delivery
	for _, d := range o.waiting {
		if d.Channel == outlet.Name && !d.NextAttempt.After(now) {
			due = append(due, d)
		}
	}
	o.mu.Unlock()
	for _, batch := range outlet.Due(now, due, 0) {
		sending, cancel := context.WithTimeout(ctx, sendTimeout)
		err := outlet.Sender.Send(sending, batch.Message)
		cancel()
		became := batch.Sent(now)
		if err != nil {
			became = batch.Failed(now, err)
			o.logger.Warn("message not sent", zap.String("channel", outlet.Name), zap.String("subject", batch.Message.Subject), zap.Error(err))
		}
		o.mu.Lock()
		o.keep(became)
		o.mu.Unlock()
	}
}

// keep holds what is not done.
func (o *Outage) keep(became []alert.Delivery) {
	for _, d := range became {
		for i, other := range o.waiting {
			if other.ID != d.ID {
				continue
			}
			if d.DoneAt.IsZero() {
				o.waiting[i] = d
			} else {
				o.waiting = append(o.waiting[:i], o.waiting[i+1:]...)
			}
			break
		}
	}
}
