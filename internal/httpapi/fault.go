package httpapi

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"strconv"
	"time"

	"github.com/google/uuid"
)

var (
	// ErrUnknownStore: the daemon does not serve the store.
	ErrUnknownStore = errors.New("the daemon does not serve this store")
	// ErrUnknownRun: no run has this id.
	ErrUnknownRun = errors.New("no run has this id")
	// ErrNoTask: this daemon does not have the task (central does not reconcile).
	ErrNoTask = errors.New("this daemon does not have the task")
	// ErrNoBreaker: this daemon has no circuit breaker (central calls nobody).
	ErrNoBreaker = errors.New("this daemon calls no central and has no circuit breaker")
	// ErrObserving: the configuration lets the daemon look, and change nothing.
	ErrObserving = errors.New("mode: observe writes nothing to the POS's data")
	// ErrNotFiring: only an alert that is firing can be taken on.
	ErrNotFiring = errors.New("the alert is not firing")
	// ErrStopping: the daemon is on its way down.
	ErrStopping = errors.New("the daemon is stopping")
)

// UnknownError: what a request names is not there.
type UnknownError struct{ Code, Field, Message string }

func (e *UnknownError) Error() string { return e.Message }

// HeldError: the store's lock is with somebody else, or with another run here.
type HeldError struct {
	Holder     string
	Run        uuid.UUID
	RetryAfter time.Duration
}

func (e *HeldError) Error() string { return "lock held by " + e.Holder }

// PausedError: a person has stopped all writing to the store for a while.
type PausedError struct {
	Message    string // says who, until when and why
	Until      time.Time
	RetryAfter time.Duration
}

func (e *PausedError) Error() string { return e.Message }

// fault is an error with its status.
type fault struct {
	Status  int    `json:"-"`
	Code    string `json:"code"`
	Message string `json:"message"`
	Field   string `json:"field,omitempty"`

	Holder string `json:"holder,omitempty"`
	RunID  string `json:"runId,omitempty"`

	Until *time.Time `json:"until,omitempty"` // of a pause

	retryAfter time.Duration
	own        error // the daemon's own trouble, for the log; nil when it is the caller's
}

func (f *fault) Error() string { return f.Message }

var errUnknownPath = &fault{Status: http.StatusNotFound, Code: "UNKNOWN_PATH", Message: "nothing is here; GET /openapi.json describes what there is"}

// bad is a request that says what it may not. A field may be the caller's own word, and
// is named when it can be.
func bad(field, format string, args ...any) *fault {
	f := &fault{Status: http.StatusBadRequest, Code: "BAD_REQUEST", Message: fmt.Sprintf(format, args...)}
	if printable(field, 64) {
		f.Field = field
	}
	return f
}

// asFault gives each error its status. What it does not know is the daemon's own
// trouble: its text is for operators, who hold the token.
func asFault(err error) *fault {
	var (
		f       *fault
		held    *HeldError
		paused  *PausedError
		unknown *UnknownError
	)
	switch {
	case errors.As(err, &f):
		return f
	case errors.As(err, &held):
		f = &fault{
			Status: http.StatusConflict, Code: "LockHeld", Holder: held.Holder, retryAfter: max(held.RetryAfter, time.Second),
			Message: fmt.Sprintf("LockHeld: %s works on this store; wait and try again", held.Holder),
		}
		if held.Run != uuid.Nil {
			f.RunID = held.Run.String()
		}
		return f
	case errors.As(err, &paused):
		return &fault{Status: http.StatusConflict, Code: "Paused", Message: paused.Message, Until: &paused.Until, retryAfter: max(paused.RetryAfter, time.Second)}
	case errors.As(err, &unknown):
		return &fault{Status: http.StatusNotFound, Code: unknown.Code, Message: unknown.Message, Field: unknown.Field}
	case errors.Is(err, ErrObserving):
		return &fault{Status: http.StatusConflict, Code: "Observing", Message: err.Error()}
	case errors.Is(err, ErrNotFiring):
		return &fault{Status: http.StatusConflict, Code: "NOT_FIRING", Message: err.Error(), Field: "alert_id"}
	case errors.Is(err, ErrUnknownStore):
		return &fault{Status: http.StatusNotFound, Code: "UNKNOWN_STORE", Message: err.Error(), Field: "store_id"}
	case errors.Is(err, ErrUnknownRun):
		return &fault{Status: http.StatusNotFound, Code: "UNKNOWN_RUN", Message: err.Error(), Field: "id"}
	case errors.Is(err, ErrNoTask):
		return &fault{Status: http.StatusNotFound, Code: "NO_SUCH_TASK", Message: err.Error()}
	case errors.Is(err, ErrNoBreaker):
		return &fault{Status: http.StatusNotFound, Code: "NO_BREAKER", Message: err.Error()}
	case errors.Is(err, ErrStopping):
		return &fault{Status: http.StatusServiceUnavailable, Code: "STOPPING", Message: err.Error(), retryAfter: 5 * time.Second}
	default:
		return &fault{Status: http.StatusServiceUnavailable, Code: "FAILED", Message: err.Error(), retryAfter: 5 * time.Second, own: err}
	}
}

// fail answers with an error, and tells whoever keeps the log of the daemon's own. A
// caller that went away is no trouble.
func (a *api) fail(w http.ResponseWriter, r *http.Request, err error) {
	f := asFault(err)
	if f.own != nil && r.Context().Err() == nil {
		a.tell(w, r, f.own)
	}
	if f.retryAfter > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int(math.Ceil(f.retryAfter.Seconds()))))
	}
	write(w, f.Status, f)
}

func (a *api) tell(w http.ResponseWriter, r *http.Request, err error) {
	if a.opts.Failed != nil {
		a.opts.Failed(r, w.Header().Get(headerRequestID), err)
	}
}

func write(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body) // a caller that went away needs no answer
}
