package httpapi

import (
	"errors"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestBothTokensOpenTheAPIUntilOneIsTakenOut(t *testing.T) {
	valid, unreadable := []string{"new", "old"}, error(nil)
	var told []string
	h := New(&desk{}, Options{
		Tokens: func() ([]string, error) { return valid, unreadable }, Metrics: http.NotFoundHandler(),
		Failed: func(_ *http.Request, id string, err error) { told = append(told, id+" "+err.Error()) },
	})
	ask := func(token string, want int) {
		t.Helper()
		w := request(h, "GET", healthPath+ofShop, "", "Authorization", token, "X-Request-Id", "r1")
		if w.Code != want || strings.Contains(w.Body.String(), "token_file") {
			t.Errorf("%s: %d %s, want %d", token, w.Code, w.Body, want)
		}
	}
	ask("Bearer new", 200)
	ask("bearer old", 200)
	valid = []string{"new"}
	ask("Bearer new", 200)
	ask("Bearer old", 401)
	valid, unreadable = nil, errors.New("read api.token_file: permission denied")
	ask("Bearer new", 503)
	if len(told) != 1 || told[0] != "r1 read api.token_file: permission denied" {
		t.Errorf("told %q", told)
	}
}

func TestARefusalIsWrittenDownWithoutTheToken(t *testing.T) {
	d := &desk{}
	h := d.at()
	request(h, "GET", base+"/runs/"+run.String(), "", "Authorization", "Bearer s3cret", "X-Request-Id", "r1", "X-Operator", "ana")
	request(h, "POST", startPath, said(""), "Authorization", "Bearer s3cret", "X-Request-Id", "r2")
	request(h, "POST", retryPath, said(""), "X-Request-Id", "r3", "X-Operator", "ana")
	request(h, "GET", healthPath, "") // a question that was badly put is no action
	d.err = &HeldError{Holder: "caja-2"}
	request(h, "POST", base+"/heal", said(""), "X-Request-Id", "r4", "X-Operator", "José Núñez")
	want := []Refusal{
		{Action: "GET /sync/federation/runs/{id}", Status: 401, Code: "UNAUTHORIZED", Field: "Authorization", RequestID: "r1"},
		{Action: "reconcile", Status: 401, Code: "UNAUTHORIZED", Field: "Authorization", RequestID: "r2"},
		{By: "ana", Action: "outbox retry", Store: shop, Status: 400, Code: "BAD_REQUEST", Field: "why", RequestID: "r3"},
		{By: "José Núñez", Action: "heal", Store: shop, Status: 409, Code: "LockHeld", RequestID: "r4"},
	}
	if len(d.refused) != len(want) {
		t.Fatalf("%+v", d.refused)
	}
	for i, got := range d.refused {
		want[i].Remote = got.Remote
		if got != want[i] || got.Remote == "" {
			t.Errorf("%+v, want %+v", got, want[i])
		}
	}
}

func TestAScannerFillsNoDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &desk{}
		h := d.at()
		scan := func(times int) {
			for range times {
				request(h, "POST", startPath, said(""), "Authorization", "Bearer guess")
			}
		}
		scan(500)
		if len(d.refused) != 20 {
			t.Errorf("%d rows for 500 guesses, want 20", len(d.refused))
		}
		request(h, "POST", retryPath, said("")) // an operator's own refusal has its own room
		if last := d.refused[len(d.refused)-1]; last.By != admin || last.Unwritten != 0 {
			t.Errorf("%+v", last)
		}
		time.Sleep(time.Minute)
		scan(10)
		if last := d.refused[len(d.refused)-1]; len(d.refused) != 22 || last.By != "" || last.Unwritten != 480 {
			t.Errorf("%d rows, the last %+v", len(d.refused), last)
		}
	})
}

func TestWhoActsIsNamed(t *testing.T) {
	d := &desk{}
	request(d.at(), "POST", startPath, said(""), "X-Operator", "José Núñez")
	if len(d.asked) != 1 || d.asked[0] != "reconcile by José Núñez" || len(d.refused) != 0 {
		t.Errorf("%v, %v", d.asked, d.refused)
	}
}

func TestNoAnswerQuotesAToken(t *testing.T) {
	w := request((&desk{}).at(), "GET", healthPath+ofShop, "", "Authorization", "Bearer s3cret")
	if strings.Contains(w.Body.String(), "s3cret") || strings.Contains(w.Body.String(), "the one before") {
		t.Error(w.Body)
	}
}
