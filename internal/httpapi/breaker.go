package httpapi

import (
	"context"
	"net/http"
	"time"

	"github.com/google/uuid"
)

// Breakers are the circuit breakers between stores and central. At central there are
// none: ErrNoBreaker.
type Breakers interface {
	Breaker(ctx context.Context, store uuid.UUID) (Breaker, error)
	// ResetBreaker closes a store's breaker, as a restart would.
	ResetBreaker(ctx context.Context, store uuid.UUID, by string) error
}

// Breaker is how a store's circuit breaker stands.
type Breaker struct {
	Store     uuid.UUID  `json:"storeId"`
	State     string     `json:"state"`    // CLOSED, OPEN, HALF_OPEN
	Failures  int        `json:"failures"` // among the last five tries
	Since     time.Time  `json:"since"`    // of the state
	NextProbe *time.Time `json:"nextProbe,omitempty"`
}

func (a *api) breaker(c *call) (int, any, error) {
	f := a.query(c)
	store := f.store()
	if err := f.end(); err != nil {
		return 0, nil, err
	}
	breaker, err := a.daemon.Breaker(c.ctx(), store)
	return http.StatusOK, breaker, err
}

// resetBreaker answers how the breaker stands then.
func (a *api) resetBreaker(c *call) (int, any, error) {
	f := a.body(c)
	store := f.store()
	if err := f.end(); err != nil {
		return 0, nil, err
	}
	if err := a.daemon.ResetBreaker(c.ctx(), store, c.by); err != nil {
		return 0, nil, err
	}
	breaker, err := a.daemon.Breaker(c.ctx(), store)
	return http.StatusOK, breaker, err
}
