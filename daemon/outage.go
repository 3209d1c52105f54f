package daemon

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/veloxpos/reconciled/internal/alert"
	"github.com/veloxpos/reconciled/internal/health"
)

// outage keeps the one alert that the database cannot: that it is down. It lives as
// long as the process.
type outage struct {
	mu      sync.Mutex
	down    map[uuid.UUID]error // by store, of which the last look failed
	alerts  []alert.Alert
	waiting []alert.Delivery
}

// step says whether the database is down now for a store, and why, to the outlets that
// need none. It is over when it is down for none: another store's look ends nothing.
func (o *outage) step(host string, outlets []Outlet, store uuid.UUID, why error) {
	var channels []alert.Channel
	for _, outlet := range outlets {
		if outlet.Bare {
			channels = append(channels, outlet.Channel)
		}
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if why == nil {
		delete(o.down, store)
	} else {
		if o.down == nil {
			o.down = map[uuid.UUID]error{}
		}
		o.down[store] = why
	}
	var down error
	for _, other := range o.down {
		down = other
		break // one says it all
	}
	look := alert.Look{Store: uuid.Nil, Name: host}
	if down == nil {
		look.Add(alert.DatabaseDown)
	} else {
		look.Add(alert.DatabaseDown, alert.Finding{Value: 1, Total: 1, Affected: []health.Affected{{Kind: "database", ID: host, Text: down.Error()}}})
	}
	changed, notices := alert.Step(time.Now().UTC(), o.alerts, look, alert.LastRung(channels))
	for _, c := range changed {
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

// deliver sends what waits for an outlet, and says why it could not. What cannot be sent
// is tried again.
func (o *outage) deliver(ctx context.Context, outlet Outlet) (unsent error) {
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
			unsent = errors.Join(unsent, err)
			became = batch.Failed(now, err)
		}
		o.mu.Lock()
		o.keep(became)
		o.mu.Unlock()
	}
	return unsent
}

// keep holds what is not done.
func (o *outage) keep(became []alert.Delivery) {
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
