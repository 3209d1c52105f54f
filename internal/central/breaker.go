package central

import (
	"sync"
	"time"

	"github.com/failsafe-go/failsafe-go/circuitbreaker"

	"github.com/veloxpos/reconciled/internal/velox"
)

// BreakerState is a circuit breaker's, as the runbook names it.
type BreakerState string

// The states.
const (
	Closed   BreakerState = "CLOSED"
	Open     BreakerState = "OPEN"
	HalfOpen BreakerState = "HALF_OPEN"
)

// Breaker is how a store's circuit breaker stands.
type Breaker struct {
	State    BreakerState
	Failures int       // among the last five tries; of an open one, those that opened it
	Since    time.Time // of the state
	Probe    time.Time // when an open one lets a call through; else zero
}

// breaker guards a store's calls: what fails for one store need not fail for others.
type breaker struct {
	circuit circuitbreaker.CircuitBreaker[[]byte]

	mu    sync.Mutex
	since time.Time // of the circuit's own state
	probe time.Time // when that state, open, has lasted its delay
}

const breakerFailures = 5 // in a row, until the breaker opens

// breakerOf is a store's breaker, made when it is first needed.
func (c *Client) breakerOf(store velox.StoreID) *breaker {
	c.mu.Lock()
	defer c.mu.Unlock()
	b, ok := c.breakers[store]
	if !ok {
		b = &breaker{since: time.Now()}
		b.circuit = circuitbreaker.NewBuilder[[]byte]().
			HandleIf(func(_ []byte, err error) bool { return isCentralsFault(err) }).
			WithFailureThreshold(breakerFailures).WithDelay(c.opts.BreakerDelay).WithJitterFactor(0.1).
			OnStateChanged(func(circuitbreaker.StateChangedEvent) { b.changed() }).Build()
		c.breakers[store] = b
	}
	return b
}

// changed notes when the circuit's state began. The circuit calls it past its own mutex.
func (b *breaker) changed() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.since = time.Now()
	b.probe = b.since.Add(b.circuit.RemainingDelay())
}

// Breaker tells how a store's breaker stands. One that is open and whose delay is over
// is half open, though only the next call, its probe, moves the circuit.
func (c *Client) Breaker(store velox.StoreID) Breaker {
	b := c.breakerOf(store)
	b.mu.Lock()
	defer b.mu.Unlock()
	s := Breaker{State: Closed, Failures: int(b.circuit.Metrics().Failures()), Since: b.since}
	switch {
	case b.circuit.IsHalfOpen():
		s.State = HalfOpen
	case b.circuit.IsOpen() && b.circuit.RemainingDelay() > 0:
		s.State, s.Probe = Open, b.probe
	case b.circuit.IsOpen():
		s.State, s.Since = HalfOpen, b.probe
	}
	return s
}

// ResetBreaker gives a store a new breaker, closed and without failures, as a restart
// would.
func (c *Client) ResetBreaker(store velox.StoreID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.breakers, store)
}
