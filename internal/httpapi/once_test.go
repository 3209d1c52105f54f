package httpapi

import (
	"context"
	"errors"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/uuid"
)

func TestACallWithAKeyIsMadeOnce(t *testing.T) {
	d := &desk{}
	h := d.at()
	first := request(h, "POST", startPath, said(""), "Idempotency-Key", "k1")
	again := request(d.at(), "POST", startPath, said(""), "Idempotency-Key", "k1", "X-Operator", "another")
	if first.Code != 202 || again.Code != 202 || again.Body.String() != first.Body.String() || !strings.Contains(again.Body.String(), run.String()) {
		t.Errorf("%d %s, then %d %s", first.Code, first.Body, again.Code, again.Body)
	}
	if first.Header().Get("Idempotency-Replayed") != "" || again.Header().Get("Idempotency-Replayed") != "true" || len(d.asked) != 1 {
		t.Errorf("headers %v, then %v; it was asked %d times", first.Header(), again.Header(), len(d.asked))
	}
	for name, w := range map[string]struct{ target, body string }{"another body": {startPath, said(" ")}, "another path": {base + "/heal", said("")}} {
		if got := request(h, "POST", w.target, w.body, "Idempotency-Key", "k1"); got.Code != 422 || !strings.Contains(got.Body.String(), `"KEY_REUSED"`) {
			t.Errorf("%s: %d %s", name, got.Code, got.Body)
		}
	}
	if request(h, "POST", startPath, said(""), "Idempotency-Key", "k2"); len(d.asked) != 2 {
		t.Errorf("asked %v", d.asked)
	}
}

func TestACallThatFailedMayBeMadeAgainWithItsKey(t *testing.T) {
	d := &desk{err: &HeldError{Holder: "caja-2"}}
	if w := request(d.at(), "POST", startPath, said(""), "Idempotency-Key", "k1"); w.Code != 409 {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	d.err = nil
	if w := request(d.at(), "POST", startPath, said(""), "Idempotency-Key", "k1"); w.Code != 202 || len(d.asked) != 2 {
		t.Errorf("%d %s, asked %v", w.Code, w.Body, d.asked)
	}
}

// nested makes the same call again while the first is being answered.
type nested struct {
	*desk
	within func()
}

func (n nested) Start(ctx context.Context, task string, store uuid.UUID, by string) (uuid.UUID, error) {
	n.within()
	return n.desk.Start(ctx, task, store, by)
}

func TestAKeyWhoseCallIsUnderWayIsTold(t *testing.T) {
	d := &desk{}
	var second *httptest.ResponseRecorder
	n := nested{d, func() { second = request(d.at(), "POST", startPath, said(""), "Idempotency-Key", "k1") }}
	first := request(at(n), "POST", startPath, said(""), "Idempotency-Key", "k1")
	if first.Code != 202 || second.Code != 409 || second.Header().Get("Retry-After") != "1" || !strings.Contains(second.Body.String(), `"KEY_IN_USE"`) {
		t.Errorf("%d; within it %d %s", first.Code, second.Code, second.Body)
	}
}

// forgetful cannot remember anything.
type forgetful struct {
	*desk
	claim error
}

func (f forgetful) Claim(context.Context, string, [32]byte) (*Answer, error) { return nil, f.claim }
func (f forgetful) Keep(context.Context, string, Answer) error               { return errors.New("disk full") }

func (f forgetful) Release(context.Context, string) error { return errors.New("disk full") }

func TestWhatIsDoneIsAnsweredThoughItCannotBeRemembered(t *testing.T) {
	for name, c := range map[string]struct {
		claim  error
		status int
		says   string
	}{
		"not kept":      {nil, 202, run.String()},
		"too many keys": {ErrTooManyKeys, 429, `"TOO_MANY_KEYS"`},
		"no database":   {errors.New("database away"), 503, "database away"},
	} {
		d := &desk{}
		w := request(at(forgetful{d, c.claim}), "POST", startPath, said(""), "Idempotency-Key", "k1")
		if w.Code != c.status || !strings.Contains(w.Body.String(), c.says) || (len(d.asked) > 0) != (c.claim == nil) {
			t.Errorf("%s: %d %s, asked %v", name, w.Code, w.Body, d.asked)
		}
	}
}
