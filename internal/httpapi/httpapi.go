// Package httpapi serves operators: the runbook's requests at the runbook's
// paths, and the probes and metrics that machines ask for. What it promises:
// every answer is JSON with an exact status, an error names its code, its field
// and what to do, and nothing but the probes answers without the admin's token.
package httpapi

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/veloxpos/reconciled/internal/health"
)

var (
	// ErrUnknownStore: the daemon does not serve the store.
	ErrUnknownStore = errors.New("the daemon does not serve this store")
	// ErrUnknownRun: no run has this id.
	ErrUnknownRun = errors.New("no run has this id")
	// ErrNoTask: this daemon does not have the task (central does not reconcile).
	ErrNoTask = errors.New("this daemon does not have the task")
	// ErrStopping: the daemon is on its way down.
	ErrStopping = errors.New("the daemon is stopping")
)

// HeldError: the store's lock is with somebody else, or with another run here.
type HeldError struct {
	Holder     string
	Run        uuid.UUID
	RetryAfter time.Duration
}

func (e *HeldError) Error() string { return "lock held by " + e.Holder }

// Run is a run as operators see it.
type Run struct {
	ID         uuid.UUID  `json:"runId"`
	Task       string     `json:"task"`
	Store      uuid.UUID  `json:"storeId"`
	State      string     `json:"state"`
	Verdict    string     `json:"verdict,omitempty"`
	Error      string     `json:"error,omitempty"`
	StartedAt  time.Time  `json:"startedAt"`
	FinishedAt *time.Time `json:"finishedAt,omitempty"`
	Progress   any        `json:"progress,omitempty"`
	Report     any        `json:"report,omitempty"`
}

// Daemon is what the API stands in front of.
type Daemon interface {
	// Ready says why the daemon cannot do its work, nil when it can.
	Ready(ctx context.Context) error
	Health(ctx context.Context, store uuid.UUID) (health.Report, error)
	// Start begins a task and returns once it holds the store's lock.
	Start(ctx context.Context, task string, store uuid.UUID) (uuid.UUID, error)
	Run(ctx context.Context, id uuid.UUID) (Run, error)
}

// maxBody bounds a request's body.
const maxBody = 64 << 10

// New is the API's handler. metrics serves /metrics.
func New(daemon Daemon, token string, metrics http.Handler) http.Handler {
	a := &api{daemon: daemon, token: sha256.Sum256([]byte(token))}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", a.alive)
	mux.HandleFunc("GET /readyz", a.ready)
	mux.Handle("GET /metrics", metrics)
	mux.Handle("GET /sync/federation/health", a.admin(a.health))
	mux.Handle("POST /sync/federation/auto-reconcile", a.admin(a.start("reconcile")))
	mux.Handle("POST /sync/federation/heal", a.admin(a.heal))
	mux.Handle("GET /sync/federation/runs/{id}", a.admin(a.run))
	return mux
}

type api struct {
	daemon Daemon
	token  [sha256.Size]byte
}

// fault is an error with its status.
type fault struct {
	Status  int    `json:"-"`
	Code    string `json:"code"`
	Message string `json:"message"`
	Field   string `json:"field,omitempty"`

	Holder string `json:"holder,omitempty"`
	RunID  string `json:"runId,omitempty"`

	retryAfter time.Duration
}

func (f *fault) Error() string { return f.Message }

func bad(field, format string, args ...any) error {
	return &fault{Status: http.StatusBadRequest, Code: "BAD_REQUEST", Message: fmt.Sprintf(format, args...), Field: field}
}

func (a *api) alive(w http.ResponseWriter, _ *http.Request) {
	write(w, http.StatusOK, map[string]string{"status": "alive"})
}

func (a *api) ready(w http.ResponseWriter, r *http.Request) {
	if err := a.daemon.Ready(r.Context()); err != nil {
		fail(w, &fault{Status: http.StatusServiceUnavailable, Code: "NOT_READY", Message: err.Error()})
		return
	}
	write(w, http.StatusOK, map[string]string{"status": "ready"})
}

type handler func(r *http.Request) (status int, answer any, err error)

// admin lets a request through whose bearer token is the admin's.
func (a *api) admin(next handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		token, found := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		sum := sha256.Sum256([]byte(token))
		if !found || subtle.ConstantTimeCompare(sum[:], a.token[:]) != 1 {
			w.Header().Set("WWW-Authenticate", "Bearer")
			message := "the token is not the admin's"
			if token == "" {
				message = "a Bearer token is needed"
			}
			fail(w, &fault{Status: http.StatusUnauthorized, Code: "UNAUTHORIZED", Message: message, Field: "Authorization"})
			return
		}
		r.Body = http.MaxBytesReader(w, r.Body, maxBody)
		status, answer, err := next(r)
		if err != nil {
			fail(w, err)
			return
		}
		write(w, status, answer)
	})
}

func (a *api) health(r *http.Request) (int, any, error) {
	ids := r.URL.Query()["store_id"]
	if len(ids) != 1 {
		return 0, nil, bad("store_id", "one store_id is needed, %d are given", len(ids))
	}
	store, err := storeID(ids[0])
	if err != nil {
		return 0, nil, err
	}
	report, err := a.daemon.Health(r.Context(), store)
	return http.StatusOK, report, err
}

func storeID(s string) (uuid.UUID, error) {
	id, err := uuid.Parse(s)
	if err != nil || len(s) != 36 {
		return id, bad("store_id", "store_id %.64q is not a UUID", s)
	}
	return id, nil
}

// accepted is the answer to a task that was begun.
type accepted struct {
	Run    uuid.UUID `json:"runId"`
	Task   string    `json:"task"`
	Store  uuid.UUID `json:"storeId"`
	Status string    `json:"status"` // where to ask how it goes
}

type startRequest struct {
	Store string `json:"store_id"`
	Full  bool   `json:"full,omitempty"` // of heal: look at every event
}

func (a *api) start(task string) handler {
	return func(r *http.Request) (int, any, error) {
		body, err := readStart(r)
		if err == nil && body.Full {
			err = bad("full", "full belongs to heal")
		}
		if err != nil {
			return 0, nil, err
		}
		return a.begin(r.Context(), task, body.Store)
	}
}

func (a *api) heal(r *http.Request) (int, any, error) {
	body, err := readStart(r)
	if err != nil {
		return 0, nil, err
	}
	task := "heal"
	if body.Full {
		task = "heal-full"
	}
	return a.begin(r.Context(), task, body.Store)
}

func readStart(r *http.Request) (body startRequest, err error) {
	if media, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type")); media != "application/json" {
		return body, &fault{Status: http.StatusUnsupportedMediaType, Code: "BAD_MEDIA_TYPE", Message: fmt.Sprintf("media type %q, want application/json", media), Field: "Content-Type"}
	}
	dec := json.NewDecoder(r.Body)
	dec.DisallowUnknownFields()
	var tooLarge *http.MaxBytesError
	switch err := dec.Decode(&body); {
	case errors.As(err, &tooLarge):
		return body, &fault{Status: http.StatusRequestEntityTooLarge, Code: "TOO_LARGE", Message: fmt.Sprintf("the body has more than %d bytes", maxBody)}
	case err != nil:
		return body, bad("", "body: %v", err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return body, bad("", "body: text after the object")
	}
	return body, nil
}

func (a *api) begin(ctx context.Context, task, id string) (int, any, error) {
	store, err := storeID(id)
	if err != nil {
		return 0, nil, err
	}
	run, err := a.daemon.Start(ctx, task, store)
	if err != nil {
		return 0, nil, err
	}
	return http.StatusAccepted, accepted{Run: run, Task: task, Store: store, Status: "/sync/federation/runs/" + run.String()}, nil
}

func (a *api) run(r *http.Request) (int, any, error) {
	id, err := uuid.Parse(r.PathValue("id"))
	if err != nil {
		return 0, nil, bad("id", "run id %.64q is not a UUID", r.PathValue("id"))
	}
	run, err := a.daemon.Run(r.Context(), id)
	return http.StatusOK, run, err
}

// asFault gives each error its status. What it does not know is the daemon's own
// trouble: its text is for operators, who hold the token.
func asFault(err error) *fault {
	var (
		f    *fault
		held *HeldError
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
	case errors.Is(err, ErrUnknownStore):
		return &fault{Status: http.StatusNotFound, Code: "UNKNOWN_STORE", Message: err.Error(), Field: "store_id"}
	case errors.Is(err, ErrUnknownRun):
		return &fault{Status: http.StatusNotFound, Code: "UNKNOWN_RUN", Message: err.Error(), Field: "id"}
	case errors.Is(err, ErrNoTask):
		return &fault{Status: http.StatusNotFound, Code: "NO_SUCH_TASK", Message: err.Error()}
	case errors.Is(err, ErrStopping):
		return &fault{Status: http.StatusServiceUnavailable, Code: "STOPPING", Message: err.Error(), retryAfter: 5 * time.Second}
	default:
		return &fault{Status: http.StatusServiceUnavailable, Code: "FAILED", Message: err.Error(), retryAfter: 5 * time.Second}
	}
}

func fail(w http.ResponseWriter, err error) {
	f := asFault(err)
	if f.retryAfter > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int(math.Ceil(f.retryAfter.Seconds()))))
	}
	write(w, f.Status, f)
}

func write(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body) // a caller that went away needs no answer
}
