package httpapi

import (
	"context"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"golang.org/x/time/rate"
)

// Refusal is what was asked and not done.
type Refusal struct {
	By        string // "" for somebody without the admin's token
	Action    string
	Store     uuid.UUID // uuid.Nil when it was not said
	Status    int
	Code      string
	Field     string
	RequestID string
	Remote    string // address
	Unwritten int64  // refusals like this one before it that were too many to write down
}

// Audit is where refusals are written down. What is done is audited where it is done.
type Audit interface {
	Refused(ctx context.Context, refusal Refusal) error
}

// Of each kind this many refusals are written down at once, and then one a minute: some
// 1500 rows a day at most, whoever scans the port.
const (
	refusalsAtOnce = 20
	refusalsEvery  = time.Minute
)

// refusals writes down what is refused: to strangers, and to those with a token, so that
// neither uses up the other's rows.
type refusals struct {
	audit             Audit
	strangers, admins bound
}

func newRefusals(audit Audit) *refusals {
	return &refusals{audit: audit, strangers: newBound(), admins: newBound()}
}

// bound lets some pass and counts the rest.
type bound struct {
	rate *rate.Limiter
	held *atomic.Int64
}

func newBound() bound {
	return bound{rate.NewLimiter(rate.Every(refusalsEvery), refusalsAtOnce), new(atomic.Int64)}
}

// auditTimeout bounds a write: a refusal must not wait for a database that hangs.
const auditTimeout = 5 * time.Second

// note writes a refusal down. A GET that was not answered is none, unless a stranger
// made it.
func (l *refusals) note(c *call, action string, f *fault) error {
	kind := l.admins
	switch {
	case f.Status == http.StatusUnauthorized:
		kind = l.strangers
	case action == "":
		return nil
	}
	if !kind.rate.Allow() {
		kind.held.Add(1)
		return nil
	}
	if action == "" {
		action = c.request.Method + " " + c.request.Pattern
	}
	// A stranger who hangs up has been here too.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(c.ctx()), auditTimeout)
	defer cancel()
	return l.audit.Refused(ctx, Refusal{
		By: c.by, Action: action, Store: c.store, Status: f.Status, Code: f.Code, Field: f.Field,
		RequestID: c.id, Remote: c.request.RemoteAddr, Unwritten: kind.held.Swap(0),
	})
}
