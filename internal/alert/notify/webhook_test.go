package notify_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/veloxpos/reconciled/internal/alert"
	"github.com/veloxpos/reconciled/internal/alert/notify"
)

const secret = "not-to-be-shown"

// hook is a webhook at a receiver that answers as it is told.
func hook(t *testing.T, timeout time.Duration, answer http.HandlerFunc) *notify.Webhook {
	t.Helper()
	server := httptest.NewServer(answer)
	transport := &http.Transport{}
	t.Cleanup(func() { transport.CloseIdleConnections(); server.Close() })
	w, err := notify.NewWebhook(notify.WebhookOptions{URL: server.URL + "/hook/" + secret, Secret: secret, Timeout: timeout, Transport: transport})
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func TestAWebhookGetsTheMessageSigned(t *testing.T) {
	message := alert.Render(news(gap(), alert.Fired))
	var got alert.Message
	w := hook(t, 0, func(_ http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		timestamp := r.Header.Get("Reconciled-Timestamp")
		mac := hmac.New(sha256.New, []byte(secret))
		mac.Write([]byte(timestamp + "." + string(body)))
		if want := "sha256=" + hex.EncodeToString(mac.Sum(nil)); r.Header.Get("Reconciled-Signature") != want {
			t.Errorf("signature %q, want %q", r.Header.Get("Reconciled-Signature"), want)
		}
		if seconds, err := strconv.ParseInt(timestamp, 10, 64); err != nil || time.Since(time.Unix(seconds, 0)).Abs() > time.Minute {
			t.Errorf("timestamp %q", timestamp)
		}
		if r.Method != http.MethodPost || r.Header.Get("Content-Type") != "application/json" || r.Header.Get("Reconciled-Message-Id") != message.ID.String() {
			t.Errorf("%s with %v", r.Method, r.Header)
		}
		if err := json.Unmarshal(body, &got); err != nil {
			t.Error(err)
		}
	})
	if err := w.Send(t.Context(), message); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(message, got); diff != "" {
		t.Error(diff)
	}
}

func TestOnlyASuccessIsAnAcceptance(t *testing.T) {
	for status, refused := range map[int]bool{
		200: false, 202: false, 204: false,
		301: false, 307: false, 401: false, 404: false, 429: false, 500: false, 503: false,
		400: true, 413: true, 422: true,
	} {
		var calls atomic.Int32
		w := hook(t, 0, func(w http.ResponseWriter, _ *http.Request) {
			calls.Add(1)
			w.Header().Set("Location", "/elsewhere")
			w.WriteHeader(status)
			if status != http.StatusNoContent {
				fmt.Fprint(w, secret)
			}
		})
		err := w.Send(t.Context(), alert.Render(news(gap(), alert.Fired)))
		if calls.Load() != 1 {
			t.Errorf("%d: %d calls, want no redirect followed", status, calls.Load())
		}
		if status/100 == 2 {
			if err != nil {
				t.Errorf("%d: %v", status, err)
			}
			continue
		}
		if err == nil || !strings.Contains(err.Error(), strconv.Itoa(status)) || errors.Is(err, alert.ErrRefused) != refused {
			t.Errorf("%d: %v", status, err)
		}
		if err != nil && strings.Contains(err.Error(), secret) {
			t.Errorf("shows the secret: %v", err)
		}
	}
}

func TestAReceiverThatIsAwayOrSilentIsAnErrorWithoutItsAddress(t *testing.T) {
	for _, address := range []string{"http://127.0.0.1:1/" + secret, "http://[::1]:namedport/" + secret, "ftp://host/" + secret, secret} {
		w, err := notify.NewWebhook(notify.WebhookOptions{URL: address, Secret: secret})
		if err == nil {
			err = w.Send(t.Context(), alert.Message{})
		}
		if err == nil || strings.Contains(err.Error(), secret) {
			t.Errorf("%v", err)
		}
	}
	if _, err := notify.NewWebhook(notify.WebhookOptions{URL: "http://127.0.0.1:1/"}); err == nil {
		t.Error("takes no secret for one")
	}
	silent := hook(t, 20*time.Millisecond, func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body) // the server notices a client that leaves only then
		<-r.Context().Done()
	})
	if err := silent.Send(t.Context(), alert.Message{}); err == nil || strings.Contains(err.Error(), secret) {
		t.Errorf("%v", err)
	}
}

func TestAnEndlessAnswerIsNotReadToItsEnd(t *testing.T) {
	w := hook(t, 0, func(w http.ResponseWriter, _ *http.Request) {
		const most = 64 << 20 // more than buffers on the way hold
		for written := 0; written < most; written += 32 << 10 {
			if _, err := w.Write(make([]byte, 32<<10)); err != nil {
				return
			}
		}
		t.Error("all of it was read")
	})
	if err := w.Send(t.Context(), alert.Render(news(gap(), alert.Fired))); err != nil {
		t.Error(err)
	}
}

func TestAReceiverThatFailsHalfTheTimeGetsEverything(t *testing.T) {
	var calls int
	got := map[uuid.UUID]int{}
	w := hook(t, 0, func(w http.ResponseWriter, r *http.Request) {
		if calls++; calls%2 == 1 {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		var m alert.Message
		if err := json.NewDecoder(r.Body).Decode(&m); err != nil {
			t.Error(err)
		}
		for _, i := range m.Items {
			got[i.ID]++
		}
	})
	channel := alert.Channel{Name: "hook", Limit: 3}
	kept := map[uuid.UUID]alert.Delivery{}
	keep := func(deliveries []alert.Delivery) {
		for _, d := range deliveries {
			kept[d.ID] = d
		}
	}
	var sent []time.Time
	const stores = 60
	now := time.Now()
	for minute := range 3 * stores { // a store's alert in each of the first
		now = now.Add(time.Minute)
		if minute < stores {
			keep(alert.Deliver([]alert.Notice{news(gap(), alert.Fired)}, []alert.Channel{channel}))
		}
		lately := slices.IndexFunc(sent, func(at time.Time) bool { return now.Sub(at) < alert.Window })
		if lately < 0 {
			lately = len(sent)
		}
		for _, b := range channel.Due(now, slices.Collect(maps.Values(kept)), len(sent)-lately) {
			if err := w.Send(t.Context(), b.Message); err != nil {
				keep(b.Failed(now, err))
				continue
			}
			keep(b.Sent(now))
			sent = append(sent, now)
		}
	}
	for _, d := range kept {
		if got[d.Alert] != 1 || d.DoneAt.IsZero() {
			t.Errorf("%s came %d times after %d attempts: %s", d.Alert, got[d.Alert], d.Attempts, d.LastError)
		}
	}
	if most := 3 * (stores/10 + 2); len(kept) != stores || len(sent) > most {
		t.Errorf("%d alerts in %d messages, the limit is %d", len(kept), len(sent), most)
	}
}
