package httpapi

import (
	"encoding/json"
	"net/http/httptest"
	"strings"
	"testing"
)

// FuzzAnyRequestIsAnsweredInJSON asks with a query and a body that nobody has thought of:
// the answer is JSON, bounded, and no failure of the daemon's.
func FuzzAnyRequestIsAnsweredInJSON(f *testing.F) {
	for _, seed := range [][2]string{
		{"store_id=" + shop.String(), said(`, "ids": ["` + run.String() + `"], "why": "x"`)},
		{"store_id=" + shop.String() + "&status=dead&limit=3&after=" + run.String(), said(`, "full": true`)},
		{"limit=%00&limit=1", `{"store_id": {"a": [1e999, null, "\ud800"]}}`},
		{"%zz;&=", "{\"\xff\": 1}"},
	} {
		f.Add(seed[0], seed[1])
	}
	f.Fuzz(func(t *testing.T, query, body string) {
		h := (&desk{}).at()
		ask := func(method, path, query, body string) {
			t.Helper()
			r := httptest.NewRequest(method, path, strings.NewReader(body))
			r.URL.RawQuery = query
			r.Header.Set("Authorization", "Bearer admin")
			r.Header.Set("Content-Type", "application/json")
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			if w.Code >= 500 || w.Code == 405 || !json.Valid(w.Body.Bytes()) || w.Body.Len() > maxBody {
				t.Errorf("%s %s with %q and %q: %d %s", method, path, query, body, w.Code, w.Body)
			}
		}
		for _, path := range []string{healthPath, base + "/outbox", base + "/runs"} {
			ask("GET", path, query, "")
		}
		for _, path := range []string{startPath, base + "/heal", retryPath, gapsPath, dismissPath} {
			ask("POST", path, "", body)
		}
	})
}
