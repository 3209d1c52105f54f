package httpapi

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/veloxpos/reconciled/internal/health"
)

var (
	shop = uuid.MustParse("11111111-1111-4111-8111-111111111111")
	run  = uuid.MustParse("99999999-9999-4999-8999-999999999999")
)

// fixed is a daemon that serves one store and answers with what it is told.
type fixed struct {
	err  error
	task string
}

func (f *fixed) Ready(context.Context) error { return f.err }

func (f *fixed) Health(_ context.Context, store uuid.UUID) (health.Report, error) {
	if store != shop {
		return health.Report{}, ErrUnknownStore
	}
	return health.Report{OverallHealth: health.Healthy}, f.err
}

func (f *fixed) Start(_ context.Context, task string, store uuid.UUID) (uuid.UUID, error) {
	f.task = task
	if store != shop {
		return run, ErrUnknownStore
	}
	return run, f.err
}

func (f *fixed) Run(_ context.Context, id uuid.UUID) (Run, error) {
	if id != run {
		return Run{}, ErrUnknownRun
	}
	return Run{ID: id}, f.err
}

func ask(d Daemon, method, target, body string, header ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, target, strings.NewReader(body))
	r.Header.Set("Authorization", "Bearer admin")
	r.Header.Set("Content-Type", "application/json")
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	New(d, "admin", http.NotFoundHandler()).ServeHTTP(w, r)
	return w
}

func TestEveryBadRequestHasItsStatusAndItsField(t *testing.T) {
	const healthPath, reconcilePath = "/sync/federation/health", "/sync/federation/auto-reconcile"
	for name, c := range map[string]struct {
		method, target, body string
		header               []string
		status               int
		says                 string
	}{
		"no token":              {"GET", healthPath + "?store_id=" + shop.String(), "", []string{"Authorization", ""}, 401, `"a Bearer token is needed"`},
		"wrong token":           {"GET", healthPath + "?store_id=" + shop.String(), "", []string{"Authorization", "Bearer nimda"}, 401, `"UNAUTHORIZED"`},
		"no store_id":           {"GET", healthPath, "", nil, 400, `"field":"store_id"`},
		"two store_ids":         {"GET", healthPath + "?store_id=a&store_id=b", "", nil, 400, `2 are given`},
		"malformed store_id":    {"GET", healthPath + "?store_id=tienda-1", "", nil, 400, `tienda-1`},
		"another spelling":      {"GET", healthPath + "?store_id=%7B" + shop.String() + "%7D", "", nil, 400, `not a UUID`},
		"unknown store":         {"GET", healthPath + "?store_id=" + run.String(), "", nil, 404, `"UNKNOWN_STORE"`},
		"wrong method":          {"POST", healthPath, "", nil, 405, ``},
		"no body":               {"POST", reconcilePath, "", nil, 400, `body`},
		"form instead of JSON":  {"POST", reconcilePath, "store_id=1", []string{"Content-Type", "application/x-www-form-urlencoded"}, 415, `BAD_MEDIA_TYPE`},
		"unknown field":         {"POST", reconcilePath, `{"store": "x"}`, nil, 400, `unknown field`},
		"text after the object": {"POST", reconcilePath, `{"store_id": "` + shop.String() + `"} {}`, nil, 400, `after the object`},
		"malformed in a body":   {"POST", reconcilePath, `{"store_id": "x"}`, nil, 400, `"field":"store_id"`},
		"too large":             {"POST", reconcilePath, `{"store_id": "` + strings.Repeat("x", maxBody) + `"}`, nil, 413, `TOO_LARGE`},
		"full reconcile":        {"POST", reconcilePath, `{"store_id": "x", "full": true}`, nil, 400, `"field":"full"`},
		"malformed run":         {"GET", "/sync/federation/runs/7", "", nil, 400, `"field":"id"`},
		"unknown run":           {"GET", "/sync/federation/runs/" + shop.String(), "", nil, 404, `UNKNOWN_RUN`},
	} {
		t.Run(name, func(t *testing.T) {
			w := ask(&fixed{}, c.method, c.target, c.body, c.header...)
			if w.Code != c.status || !strings.Contains(w.Body.String(), c.says) {
				t.Errorf("%d %s, want %d with %s", w.Code, w.Body, c.status, c.says)
			}
		})
	}
}

func TestATaskIsAcceptedWithItsRun(t *testing.T) {
	for target, c := range map[string]struct{ body, task string }{
		"/sync/federation/auto-reconcile": {`{"store_id": "` + shop.String() + `"}`, "reconcile"},
		"/sync/federation/heal":           {`{"store_id": "` + shop.String() + `", "full": true}`, "heal-full"},
	} {
		d := &fixed{}
		w := ask(d, "POST", target, c.body)
		if w.Code != http.StatusAccepted || d.task != c.task || !strings.Contains(w.Body.String(), run.String()) {
			t.Errorf("%s: %d %s, task %q", target, w.Code, w.Body, d.task)
		}
	}
}

func TestLockHeldSaysWhoAndWhenToTryAgain(t *testing.T) {
	held := &HeldError{Holder: "caja-2", Run: run, RetryAfter: 12500 * time.Millisecond}
	w := ask(&fixed{err: held}, "POST", "/sync/federation/auto-reconcile", `{"store_id": "`+shop.String()+`"}`)
	for _, part := range []string{`"code":"LockHeld"`, "caja-2", run.String()} {
		if !strings.Contains(w.Body.String(), part) {
			t.Errorf("%s does not say %s", w.Body, part)
		}
	}
	if w.Code != http.StatusConflict || w.Header().Get("Retry-After") != "13" {
		t.Errorf("%d, Retry-After %q", w.Code, w.Header().Get("Retry-After"))
	}
}

func TestProbesNeedNoToken(t *testing.T) {
	for target, want := range map[string]int{"/healthz": 200, "/readyz": 503} {
		if w := ask(&fixed{err: errors.New("database away")}, "GET", target, "", "Authorization", ""); w.Code != want {
			t.Errorf("%s: %d, want %d", target, w.Code, want)
		}
	}
}
