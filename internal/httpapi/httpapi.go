// Package httpapi serves operators: the runbook's requests at the runbook's paths, and
// the probes and metrics that machines ask for. What it promises: every answer is JSON
// with an exact status and of bounded size, an error names its code, its field and what
// to do, nothing but probes, metrics and the API's own description answers without the
// admin's token, and what is refused is written down. openapi.json describes all of it.
//
// Rows of the POS's and the daemon's tables have their columns' names, as in the
// runbook's queries; everything else is spelled as the runbook's health report.
package httpapi

import (
	"context"
	"fmt"
	"net/http"
	"path"
	"slices"
	"strings"

	"github.com/google/uuid"
)

// Daemon is what the API stands in front of.
type Daemon interface {
	// Ready says why the daemon cannot do its work, nil when it can.
	Ready(ctx context.Context) error
	// Serves reports whether the store is one of the daemon's.
	Serves(store uuid.UUID) bool

	Monitor
	Runner
	Breakers
	Outbox
	Conflicts
	Fiscal
	Gaps
	Alerts
	Audit
	Answers
}

// Options of New.
type Options struct {
	// Tokens are the admin's that are valid now; asked for each request.
	Tokens  func() ([]string, error)
	Metrics http.Handler // serves /metrics
	// Failed is told what is the daemon's own trouble, and no caller's. May be nil.
	Failed func(r *http.Request, requestID string, err error)
}

// New is the API's handler.
func New(daemon Daemon, opts Options) http.Handler {
	a := &api{daemon: daemon, opts: opts, refusals: newRefusals(daemon)}
	mux := http.NewServeMux()
	paths := map[string]methods{}
	for _, r := range a.routes() {
		if paths[r.path] == nil {
			paths[r.path] = methods{}
			mux.Handle(r.path, a.dispatch(paths[r.path]))
		}
		paths[r.path][r.method] = r.serve
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) { a.fail(w, r, errUnknownPath) })
	return a.front(mux)
}

type api struct {
	daemon   Daemon
	opts     Options
	refusals *refusals
}

// route is a method of a path.
type route struct {
	method, path string
	serve        http.HandlerFunc
}

// routes are all there are. What changes something has a name, for the audit.
func (a *api) routes() []route {
	return []route{
		{"GET", "/healthz", a.alive},
		{"GET", "/readyz", a.ready},
		{"GET", "/metrics", a.opts.Metrics.ServeHTTP},
		{"GET", "/openapi.json", a.describe},

		{"GET", "/sync/federation/health", a.read(a.health)},
		{"GET", "/sync/federation/health/history", a.read(a.healthHistory)},

		{"POST", "/sync/federation/auto-reconcile", a.act("reconcile", a.reconcile)},
		{"POST", "/sync/federation/heal", a.act("heal", a.heal)},
		{"GET", "/sync/federation/runs", a.read(a.runs)},
		{"GET", "/sync/federation/runs/{id}", a.read(a.run)},

		{"GET", "/sync/federation/breaker", a.read(a.breaker)},
		{"POST", "/sync/federation/circuit-breaker/reset", a.act("breaker reset", a.resetBreaker)},

		{"GET", "/sync/federation/alerts", a.read(a.alerts)},
		{"POST", "/sync/federation/alerts/acknowledge", a.act("alerts acknowledge", a.acknowledge)},

		{"GET", "/sync/federation/outbox", a.read(a.outbox)},
		{"POST", "/sync/federation/outbox/retry", a.act("outbox retry", a.retryOutbox)},

		{"GET", "/sync/federation/conflicts", a.read(a.conflicts)},
		{"GET", "/sync/federation/fiscal/ranges", a.read(a.fiscalRanges)},

		{"GET", "/sync/federation/gaps", a.read(a.gaps)},
		{"POST", "/sync/federation/gaps/retry", a.act("gaps retry", a.retryGaps)},
		{"POST", "/sync/federation/gaps/dismiss", a.act("gaps dismiss", a.dismissGap)},
	}
}

// methods are what a path answers to.
type methods map[string]http.HandlerFunc

// dispatch finds the method; HEAD is a GET whose body the server keeps back.
func (a *api) dispatch(m methods) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		method := r.Method
		if method == http.MethodHead {
			method = http.MethodGet
		}
		if serve := m[method]; serve != nil {
			serve(w, r)
			return
		}
		allowed := make([]string, 0, 3)
		for method := range m {
			allowed = append(allowed, method)
			if method == http.MethodGet {
				allowed = append(allowed, http.MethodHead)
			}
		}
		slices.Sort(allowed)
		allow := strings.Join(allowed, ", ")
		w.Header().Set("Allow", allow)
		a.fail(w, r, &fault{Status: http.StatusMethodNotAllowed, Code: "METHOD_NOT_ALLOWED", Message: fmt.Sprintf("method %.16q, want %s", r.Method, allow)})
	}
}

const headerRequestID = "X-Request-Id"

// front gives every answer its headers, and what the mux would redirect, in HTML, the
// 404 that it is.
func (a *api) front(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		header := w.Header()
		header.Set("Cache-Control", "no-store")
		header.Set("X-Content-Type-Options", "nosniff")
		header.Set(headerRequestID, requestID(r.Header.Get(headerRequestID)))
		if path.Clean(r.URL.Path) != r.URL.Path {
			a.fail(w, r, errUnknownPath)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// requestID is the caller's own when it can be told from anything else, or a new one.
func requestID(given string) string {
	plain := func(r rune) bool {
		return r >= '0' && r <= '9' || r >= 'A' && r <= 'Z' || r >= 'a' && r <= 'z' || r == '-' || r == '_' || r == '.'
	}
	if given != "" && len(given) <= 64 && !strings.ContainsFunc(given, func(r rune) bool { return !plain(r) }) {
		return given
	}
	return uuid.Must(uuid.NewV7()).String()
}

func (a *api) alive(w http.ResponseWriter, _ *http.Request) {
	write(w, http.StatusOK, map[string]string{"status": "alive"})
}

func (a *api) ready(w http.ResponseWriter, r *http.Request) {
	if err := a.daemon.Ready(r.Context()); err != nil {
		a.fail(w, r, &fault{Status: http.StatusServiceUnavailable, Code: "NOT_READY", Message: err.Error()})
		return
	}
	write(w, http.StatusOK, map[string]string{"status": "ready"})
}
