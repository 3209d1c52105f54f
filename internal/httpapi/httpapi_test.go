package httpapi

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
)

const (
	base        = "/sync/federation"
	healthPath  = base + "/health"
	startPath   = base + "/auto-reconcile"
	retryPath   = base + "/outbox/retry"
	gapsPath    = base + "/gaps/retry"
	dismissPath = base + "/gaps/dismiss"
)

var ofShop = "?store_id=" + shop.String()

// said is a body about the shop with more members.
func said(more string) string { return `{"store_id": "` + shop.String() + `"` + more + `}` }

func TestEveryBadRequestHasItsStatusAndItsField(t *testing.T) {
	id := `["` + run.String() + `"]`
	many := `["` + strings.Repeat(run.String()+`", "`, 500) + run.String() + `"]`
	for name, c := range map[string]struct {
		method, target, body string
		header               []string
		status               int
		code, field, says    string
	}{
		"no token":          {"GET", healthPath + ofShop, "", []string{"Authorization", ""}, 401, "UNAUTHORIZED", "Authorization", "a Bearer token is needed"},
		"wrong token":       {"GET", healthPath + ofShop, "", []string{"Authorization", "Bearer nimda"}, 401, "UNAUTHORIZED", "Authorization", "not the admin's"},
		"an empty token":    {"GET", healthPath + ofShop, "", []string{"Authorization", "Bearer "}, 401, "UNAUTHORIZED", "Authorization", "is needed"},
		"another scheme":    {"GET", healthPath + ofShop, "", []string{"Authorization", "Basic admin"}, 401, "UNAUTHORIZED", "Authorization", "is needed"},
		"a token in pieces": {"GET", healthPath + ofShop, "", []string{"Authorization", "Bearer admin "}, 401, "UNAUTHORIZED", "Authorization", "not the admin's"},
		"a blank operator":  {"GET", healthPath + ofShop, "", []string{"X-Operator", "  "}, 400, "BAD_REQUEST", "X-Operator", "printable"},
		"a long operator":   {"GET", healthPath + ofShop, "", []string{"X-Operator", strings.Repeat("á", 65)}, 400, "BAD_REQUEST", "X-Operator", "64"},
		"operator, no text": {"GET", healthPath + ofShop, "", []string{"X-Operator", "a\xffb"}, 400, "BAD_REQUEST", "X-Operator", "printable"},

		"unknown path":          {"GET", base + "/helth", "", nil, 404, "UNKNOWN_PATH", "", "openapi.json"},
		"unknown, no token":     {"GET", "/admin", "", []string{"Authorization", ""}, 404, "UNKNOWN_PATH", "", ""},
		"a slash behind":        {"GET", healthPath + "/" + ofShop, "", nil, 404, "UNKNOWN_PATH", "", ""},
		"a path with dots":      {"GET", base + "/x/../health" + ofShop, "", nil, 404, "UNKNOWN_PATH", "", ""},
		"two slashes":           {"GET", "//sync/federation/health" + ofShop, "", nil, 404, "UNKNOWN_PATH", "", ""},
		"POST on a GET":         {"POST", healthPath, "", nil, 405, "METHOD_NOT_ALLOWED", "", "GET, HEAD"},
		"GET on a POST":         {"GET", startPath, "", nil, 405, "METHOD_NOT_ALLOWED", "", "POST"},
		"DELETE":                {"DELETE", base + "/outbox", "", nil, 405, "METHOD_NOT_ALLOWED", "", ""},
		"POST on a probe":       {"POST", "/healthz", "", nil, 405, "METHOD_NOT_ALLOWED", "", ""},
		"method before token":   {"PUT", startPath, "", []string{"Authorization", ""}, 405, "METHOD_NOT_ALLOWED", "", ""},
		"a method of their own": {"BREW", healthPath, "", nil, 405, "METHOD_NOT_ALLOWED", "", ""},

		"no store_id":            {"GET", healthPath, "", nil, 400, "BAD_REQUEST", "store_id", "is missing"},
		"two store_ids":          {"GET", healthPath + ofShop + "&store_id=" + shop.String(), "", nil, 400, "BAD_REQUEST", "store_id", "2 times"},
		"malformed store_id":     {"GET", healthPath + "?store_id=tienda-1", "", nil, 400, "BAD_REQUEST", "store_id", "tienda-1"},
		"an id in braces":        {"GET", healthPath + "?store_id=%7B" + shop.String() + "%7D", "", nil, 400, "BAD_REQUEST", "store_id", "not a UUID"},
		"an id as a URN":         {"GET", healthPath + "?store_id=urn:uuid:" + shop.String(), "", nil, 400, "BAD_REQUEST", "store_id", "not a UUID"},
		"an id without dashes":   {"GET", healthPath + "?store_id=" + strings.ReplaceAll(shop.String(), "-", ""), "", nil, 400, "BAD_REQUEST", "store_id", "not a UUID"},
		"a NUL":                  {"GET", healthPath + ofShop + "%00", "", nil, 400, "BAD_REQUEST", "store_id", "not a UUID"},
		"no UTF-8":               {"GET", base + "/gaps" + ofShop + "&class=%ff", "", nil, 400, "BAD_REQUEST", "class", "none of"},
		"a malformed escape":     {"GET", healthPath + ofShop + "&x=%zz", "", nil, 400, "BAD_REQUEST", "", "query"},
		"semicolons":             {"GET", healthPath + ofShop + ";fresh=true", "", nil, 400, "BAD_REQUEST", "", "query"},
		"unknown parameter":      {"GET", healthPath + ofShop + "&freshh=true", "", nil, 400, "BAD_REQUEST", "freshh", "not known"},
		"parameter in capitals":  {"GET", healthPath + "?Store_ID=" + shop.String(), "", nil, 400, "BAD_REQUEST", "store_id", "is missing"},
		"parameter of a run":     {"GET", base + "/runs/" + run.String() + ofShop, "", nil, 400, "BAD_REQUEST", "store_id", "not known"},
		"parameter of a POST":    {"POST", startPath + ofShop, said(""), nil, 400, "BAD_REQUEST", "store_id", "not known"},
		"a long unknown name":    {"GET", healthPath + ofShop + "&" + strings.Repeat("x", 2000) + "=1", "", nil, 400, "BAD_REQUEST", "", "not known"},
		"unknown store":          {"GET", healthPath + "?store_id=" + run.String(), "", nil, 404, "UNKNOWN_STORE", "store_id", ""},
		"the nil store":          {"GET", healthPath + "?store_id=" + uuid.Nil.String(), "", nil, 404, "UNKNOWN_STORE", "store_id", ""},
		"unknown store, a POST":  {"POST", startPath, `{"store_id": "` + run.String() + `"}`, nil, 404, "UNKNOWN_STORE", "store_id", ""},
		"fresh, but not true":    {"GET", healthPath + ofShop + "&fresh=1", "", nil, 400, "BAD_REQUEST", "fresh", "neither true nor false"},
		"no hours":               {"GET", healthPath + "/history" + ofShop + "&hours=0", "", nil, 400, "BAD_REQUEST", "hours", "from 1 to 168"},
		"more than a week":       {"GET", healthPath + "/history" + ofShop + "&hours=169", "", nil, 400, "BAD_REQUEST", "hours", "from 1 to 168"},
		"a negative limit":       {"GET", base + "/outbox" + ofShop + "&limit=-1", "", nil, 400, "BAD_REQUEST", "limit", "from 1 to 500"},
		"a huge limit":           {"GET", base + "/outbox" + ofShop + "&limit=99999999999999999999", "", nil, 400, "BAD_REQUEST", "limit", "from 1 to 500"},
		"a limit in other words": {"GET", base + "/runs" + ofShop + "&limit=1e2", "", nil, 400, "BAD_REQUEST", "limit", "1e2"},
		"an empty limit":         {"GET", base + "/conflicts" + ofShop + "&limit=", "", nil, 400, "BAD_REQUEST", "limit", "from 1 to 100"},
		"a limit with zeros":     {"GET", base + "/gaps" + ofShop + "&limit=007", "", nil, 400, "BAD_REQUEST", "limit", "007"},
		"unknown status":         {"GET", base + "/outbox" + ofShop + "&status=failed", "", nil, 400, "BAD_REQUEST", "status", "pending, dead"},
		"malformed cursor":       {"GET", base + "/outbox" + ofShop + "&after=2", "", nil, 400, "BAD_REQUEST", "after", "not a UUID"},
		"unknown task":           {"GET", base + "/runs" + ofShop + "&task=dance", "", nil, 400, "BAD_REQUEST", "task", "reconcile"},
		"malformed run":          {"GET", base + "/runs/7", "", nil, 400, "BAD_REQUEST", "id", "not a UUID"},
		"a run in braces":        {"GET", base + "/runs/%7B" + run.String() + "%7D", "", nil, 400, "BAD_REQUEST", "id", "not a UUID"},
		"unknown run":            {"GET", base + "/runs/" + shop.String(), "", nil, 404, "UNKNOWN_RUN", "id", ""},

		"no media type":         {"POST", startPath, said(""), []string{"Content-Type", ""}, 415, "BAD_MEDIA_TYPE", "Content-Type", "application/json"},
		"a form":                {"POST", startPath, "store_id=1", []string{"Content-Type", "application/x-www-form-urlencoded"}, 415, "BAD_MEDIA_TYPE", "Content-Type", ""},
		"too large":             {"POST", startPath, said(strings.Repeat(" ", maxBody)), nil, 413, "TOO_LARGE", "", "65536"},
		"no body":               {"POST", startPath, "", nil, 400, "BAD_REQUEST", "", "want a JSON object"},
		"null":                  {"POST", startPath, "null", nil, 400, "BAD_REQUEST", "", "want a JSON object"},
		"a list":                {"POST", startPath, "[]", nil, 400, "BAD_REQUEST", "", "want a JSON object"},
		"half an object":        {"POST", startPath, `{"store_id": "x"`, nil, 400, "BAD_REQUEST", "", "body"},
		"a name without value":  {"POST", startPath, `{"store_id"}`, nil, 400, "BAD_REQUEST", "store_id", "body"},
		"a comma at the end":    {"POST", startPath, said(","), nil, 400, "BAD_REQUEST", "", "body"},
		"text behind":           {"POST", startPath, said("") + " {}", nil, 400, "BAD_REQUEST", "", "after the object"},
		"body without UTF-8":    {"POST", startPath, said(`, "x": "` + "\xff" + `"`), nil, 400, "BAD_REQUEST", "", "UTF-8"},
		"unknown member":        {"POST", startPath, said(`, "stroe": 1`), nil, 400, "BAD_REQUEST", "stroe", "not known"},
		"member in capitals":    {"POST", startPath, `{"STORE_ID": "` + shop.String() + `"}`, nil, 400, "BAD_REQUEST", "store_id", "is missing"},
		"a name with a NUL":     {"POST", startPath, said(`, "a\u0000b": 1`), nil, 400, "BAD_REQUEST", "", "not known"},
		"a member twice":        {"POST", startPath, said(`, "store_id": "` + run.String() + `"`), nil, 400, "BAD_REQUEST", "store_id", "given twice"},
		"store_id as a number":  {"POST", startPath, `{"store_id": 1}`, nil, 400, "BAD_REQUEST", "store_id", "not a string"},
		"store_id null":         {"POST", startPath, `{"store_id": null}`, nil, 400, "BAD_REQUEST", "store_id", "not a string"},
		"malformed in a body":   {"POST", startPath, `{"store_id": "x"}`, nil, 400, "BAD_REQUEST", "store_id", "not a UUID"},
		"full reconcile":        {"POST", startPath, said(`, "full": true`), nil, 400, "BAD_REQUEST", "full", "not known"},
		"full in words":         {"POST", base + "/heal", said(`, "full": "true"`), nil, 400, "BAD_REQUEST", "full", "neither true nor false"},
		"deep nesting":          {"POST", startPath, said(`, "x": ` + strings.Repeat("[", 20000)), nil, 400, "BAD_REQUEST", "x", "body"},
		"a key that is no word": {"POST", startPath, said(""), []string{"Idempotency-Key", "clé"}, 400, "BAD_REQUEST", "Idempotency-Key", "ASCII"},
		"a long key":            {"POST", startPath, said(""), []string{"Idempotency-Key", strings.Repeat("k", 129)}, 400, "BAD_REQUEST", "Idempotency-Key", "128"},

		"no ids":                  {"POST", retryPath, said(`, "why": "x"`), nil, 400, "BAD_REQUEST", "ids", "is missing"},
		"an empty list":           {"POST", retryPath, said(`, "why": "x", "ids": []`), nil, 400, "BAD_REQUEST", "ids", "1 to 500"},
		"too many ids":            {"POST", retryPath, said(`, "why": "x", "ids": ` + many), nil, 400, "BAD_REQUEST", "ids", "1 to 500"},
		"an id twice":             {"POST", retryPath, said(`, "why": "x", "ids": ["` + run.String() + `", "` + strings.ToUpper(run.String()) + `"]`), nil, 400, "BAD_REQUEST", "ids", "twice"},
		"an id of the wrong type": {"POST", retryPath, said(`, "why": "x", "ids": [1]`), nil, 400, "BAD_REQUEST", "ids", "not a string"},
		"a malformed id":          {"POST", retryPath, said(`, "why": "x", "ids": ["x"]`), nil, 400, "BAD_REQUEST", "ids", "not a UUID"},
		"no reason":               {"POST", retryPath, said(`, "ids": ` + id), nil, 400, "BAD_REQUEST", "why", "why is needed"},
		"a blank reason":          {"POST", retryPath, said(`, "why": " ", "ids": ` + id), nil, 400, "BAD_REQUEST", "why", "why is needed"},
		"a reason with a NUL":     {"POST", retryPath, said(`, "why": "a\u0000b", "ids": ` + id), nil, 400, "BAD_REQUEST", "why", "printable"},
		"half a character":        {"POST", retryPath, said(`, "why": "a\ud800b", "ids": ` + id), nil, 400, "BAD_REQUEST", "why", "printable"},
		"a reason in lines":       {"POST", retryPath, said(`, "why": "a\nb", "ids": ` + id), nil, 400, "BAD_REQUEST", "why", "printable"},
		"a long reason":           {"POST", retryPath, said(`, "why": "` + strings.Repeat("ñ", 501) + `", "ids": ` + id), nil, 400, "BAD_REQUEST", "why", "500"},
		"neither ids nor all":     {"POST", gapsPath, said(""), nil, 400, "BAD_REQUEST", "event_ids", "either"},
		"both ids and all":        {"POST", gapsPath, said(`, "all": true, "event_ids": ` + id), nil, 400, "BAD_REQUEST", "event_ids", "either"},
		"a class of some":         {"POST", gapsPath, said(`, "class": "waiting", "event_ids": ` + id), nil, 400, "BAD_REQUEST", "class", "goes with all"},
		"unknown class":           {"POST", gapsPath, said(`, "all": true, "class": "dusty"`), nil, 400, "BAD_REQUEST", "class", "none of"},
		"nothing to dismiss":      {"POST", dismissPath, said(`, "why": "x"`), nil, 400, "BAD_REQUEST", "event_id", "is missing"},
	} {
		t.Run(name, func(t *testing.T) {
			d := &desk{}
			w := request(d.at(), c.method, c.target, c.body, c.header...)
			var got struct{ Code, Message, Field string }
			if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil {
				t.Fatalf("%d %s: %v", w.Code, w.Body, err)
			}
			if w.Code != c.status || got.Code != c.code || got.Field != c.field || got.Message == "" || !strings.Contains(got.Message, c.says) {
				t.Errorf("%d %s, want %d %s with field %q, saying %q", w.Code, w.Body, c.status, c.code, c.field, c.says)
			}
			if w.Code == 405 && w.Header().Get("Allow") == "" {
				t.Error("405 without Allow")
			}
			if w.Code == 401 && w.Header().Get("WWW-Authenticate") != "Bearer" {
				t.Error("401 without WWW-Authenticate")
			}
			if len(d.asked) > 0 {
				t.Errorf("it came through as %v", d.asked)
			}
			if w.Body.Len() > 1000 {
				t.Errorf("an answer of %d bytes", w.Body.Len())
			}
		})
	}
}

func TestWhatTheDaemonSaysHasItsStatus(t *testing.T) {
	until := noon.Add(time.Hour)
	for name, c := range map[string]struct {
		err        error
		status     int
		retryAfter string
		says       []string
	}{
		"held":     {&HeldError{Holder: "caja-2", Run: run, RetryAfter: 12500 * time.Millisecond}, 409, "13", []string{`"code":"LockHeld"`, "caja-2", run.String()}},
		"paused":   {&PausedError{Message: "by ana: an upgrade", Until: until, RetryAfter: time.Hour}, 409, "3600", []string{`"code":"Paused"`, "by ana: an upgrade", `"until":"2026-11-23T13:00:00Z"`}},
		"observes": {ErrObserving, 409, "", []string{`"code":"Observing"`, "mode: observe"}},
		"unknown":  {&UnknownError{"UNKNOWN_ENTRY", "ids", "no entry " + run.String()}, 404, "", []string{`"code":"UNKNOWN_ENTRY"`, `"field":"ids"`, run.String()}},
		"no task":  {ErrNoTask, 404, "", []string{`"code":"NO_SUCH_TASK"`}},
		"stopping": {ErrStopping, 503, "5", []string{`"code":"STOPPING"`}},
		"trouble":  {errors.New("database away"), 503, "5", []string{`"code":"FAILED"`, "database away"}},
	} {
		t.Run(name, func(t *testing.T) {
			w := request((&desk{err: c.err}).at(), "POST", retryPath, said(`, "why": "x", "ids": ["`+run.String()+`"]`))
			for _, part := range c.says {
				if !strings.Contains(w.Body.String(), part) {
					t.Errorf("%s does not say %s", w.Body, part)
				}
			}
			if w.Code != c.status || w.Header().Get("Retry-After") != c.retryAfter {
				t.Errorf("%d, Retry-After %q", w.Code, w.Header().Get("Retry-After"))
			}
		})
	}
	if w := request((&desk{err: ErrNoBreaker}).at(), "GET", base+"/breaker"+ofShop, ""); w.Code != 404 || !strings.Contains(w.Body.String(), "NO_BREAKER") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

func TestWhatIsAskedReachesTheDaemon(t *testing.T) {
	cursor := uuid.NullUUID{UUID: run, Valid: true}
	for name, c := range map[string]struct {
		method, target, body string
		want                 any
	}{
		"health":                            {"GET", healthPath + ofShop, "", false},
		"in capitals":                       {"GET", healthPath + "?store_id=" + strings.ToUpper(shop.String()), "", false},
		"fresh":                             {"GET", healthPath + ofShop + "&fresh=true", "", true},
		"not fresh":                         {"GET", healthPath + ofShop + "&fresh=false", "", false},
		"history":                           {"GET", healthPath + "/history" + ofShop, "", 24},
		"a week":                            {"GET", healthPath + "/history" + ofShop + "&hours=168", "", 168},
		"reconcile":                         {"POST", startPath, said(""), "reconcile by admin"},
		"heal":                              {"POST", base + "/heal", said(""), "heal by admin"},
		"heal, not full":                    {"POST", base + "/heal", said(`, "full": false`), "heal by admin"},
		"heal everything":                   {"POST", base + "/heal", said(`, "full": true`), "heal-full by admin"},
		"a run":                             {"GET", base + "/runs/" + strings.ToUpper(run.String()), "", run},
		"runs":                              {"GET", base + "/runs" + ofShop + "&task=heal&limit=200", "", 200},
		"breaker":                           {"GET", base + "/breaker" + ofShop, "", "breaker"},
		"reset":                             {"POST", base + "/circuit-breaker/reset", said(""), "reset by admin"},
		"outbox":                            {"GET", base + "/outbox" + ofShop, "", OutboxQuery{Store: shop, Limit: 100}},
		"a page of the dead":                {"GET", base + "/outbox" + ofShop + "&status=dead&limit=2&after=" + run.String(), "", OutboxQuery{shop, "dead", 2, cursor}},
		"retry":                             {"POST", retryPath, said(`, "ids": ["` + run.String() + `"], "why": "el producto llegó"`), OutboxRetry{shop, []uuid.UUID{run}, "admin", "el producto llegó"}},
		"conflicts":                         {"GET", base + "/conflicts" + ofShop, "", 10},
		"ranges":                            {"GET", base + "/fiscal/ranges" + ofShop, "", 1000},
		"gaps":                              {"GET", base + "/gaps" + ofShop + "&class=waiting", "", GapQuery{shop, "waiting", 50}},
		"gaps again":                        {"POST", gapsPath, said(`, "event_ids": ["` + event.String() + `"]`), GapRetry{Store: shop, Events: []uuid.UUID{event}, By: "admin"}},
		"all gaps of a class":               {"POST", gapsPath, said(`, "all": true, "class": "blocked"`), GapRetry{Store: shop, Class: "blocked", By: "admin"}},
		"dismiss":                           {"POST", dismissPath, said(`, "event_id": "` + event.String() + `", "why": "a test till"`), GapDismissal{shop, event, "admin", "a test till"}},
		"with a media type and its charset": {"POST", startPath, said(""), "reconcile by admin"},
	} {
		t.Run(name, func(t *testing.T) {
			d := &desk{}
			w := request(d.at(), c.method, c.target, c.body, "Content-Type", "application/json; charset=utf-8")
			if w.Code >= 300 || len(d.asked) == 0 || !reflect.DeepEqual(d.asked[0], c.want) {
				t.Errorf("%d %s, it came through as %+v, want %+v", w.Code, w.Body, d.asked, c.want)
			}
		})
	}
}

func TestATaskIsAcceptedWithItsRun(t *testing.T) {
	w := request((&desk{}).at(), "POST", startPath, said(""))
	want := `{"runId":"` + run.String() + `","task":"reconcile","storeId":"` + shop.String() + `","status":"/sync/federation/runs/` + run.String() + `"}`
	if w.Code != http.StatusAccepted || w.Body.String() != want {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

func TestProbesNeedNoToken(t *testing.T) {
	away := (&desk{err: errors.New("database away")}).at()
	for target, want := range map[string]int{"/healthz": 200, "/readyz": 503, "/metrics": 200, "/openapi.json": 200} {
		if w := request(away, "GET", target, "", "Authorization", ""); w.Code != want {
			t.Errorf("%s: %d, want %d", target, w.Code, want)
		}
	}
}

func TestEveryAnswerSaysThatItIsNotToBeKeptAndWhichItIs(t *testing.T) {
	h := (&desk{}).at()
	for _, c := range []struct{ target, given string }{
		{healthPath + ofShop, ""},
		{healthPath, ""},
		{"/nowhere", ""},
		{"/healthz", ""},
		{healthPath + ofShop, "ticket-42.a_B"},
		{healthPath + ofShop, strings.Repeat("x", 65)},
		{healthPath + ofShop, "one two"},
	} {
		header := request(h, "GET", c.target, "", "X-Request-Id", c.given).Header()
		id := header.Get("X-Request-Id")
		kept := c.given == "ticket-42.a_B"
		if _, err := uuid.Parse(id); header.Get("Cache-Control") != "no-store" || header.Get("X-Content-Type-Options") != "nosniff" || kept != (id == c.given) || !kept && err != nil {
			t.Errorf("%s with %q: %v", c.target, c.given, header)
		}
	}
}

func TestHEADIsAGETWithoutABody(t *testing.T) {
	server := newServer(t, &desk{})
	for target, want := range map[string]int{"/healthz": 200, healthPath + ofShop: 200, healthPath: 400, startPath: 405, "/nowhere": 404} {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodHead, server.URL+target, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", "Bearer admin")
		response, err := server.Client().Do(r)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(response.Body)
		if err := errors.Join(err, response.Body.Close()); err != nil || response.StatusCode != want || len(body) > 0 {
			t.Errorf("%s: %d with %q, %v", target, response.StatusCode, body, err)
		}
	}
}
