package central_test

import (
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"

	"github.com/veloxpos/reconciled/internal/central"
	"github.com/veloxpos/reconciled/internal/velox"
	"github.com/veloxpos/reconciled/merkle"
)

// wire answers every request with one status.
type wire struct{ status int }

func (w *wire) RoundTrip(r *http.Request) (*http.Response, error) {
	return &http.Response{
		StatusCode: w.status, Request: r, Header: http.Header{"Content-Type": {"application/json"}}, Body: io.NopCloser(strings.NewReader(`{}`)),
	}, nil
}

func TestABreakerTellsSinceWhenItIsOpenAndWhenItsProbeIsDue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		line := &wire{status: http.StatusBadGateway}
		client, err := central.NewClient(central.ClientOptions{
			URL: "http://central.test", Tokens: map[velox.StoreID]string{shop: token}, Installation: uuid.New(), Transport: line,
		})
		if err != nil {
			t.Fatal(err)
		}
		call := func() error {
			_, err := client.Weigh(t.Context(), shop, merkle.Want{})
			return err
		}
		born := time.Now()
		if got, want := client.Breaker(shop), (central.Breaker{State: central.Closed, Since: born}); got != want {
			t.Errorf("%+v, want %+v", got, want)
		}
		if err := call(); err == nil { // four tries
			t.Fatal("it answered")
		}
		if got := client.Breaker(shop); got.State != central.Closed || got.Failures != 4 {
			t.Errorf("after four failures: %+v", got)
		}
		_ = call()
		opened := time.Now()
		open := client.Breaker(shop)
		if wait := open.Probe.Sub(opened); open.State != central.Open || open.Failures != 5 || wait < 54*time.Second || wait > 66*time.Second {
			t.Errorf("%+v, probe in %s", open, wait)
		}
		time.Sleep(time.Until(open.Probe))
		if got := client.Breaker(shop); got.State != central.HalfOpen || !got.Since.Equal(open.Probe) || !got.Probe.IsZero() {
			t.Errorf("when its delay is over: %+v", got)
		}
		_ = call()
		if got := client.Breaker(shop); got.State != central.HalfOpen || got.Failures != 4 {
			t.Errorf("after four more failures: %+v", got)
		}
		_ = call()
		if got := client.Breaker(shop); got.State != central.Open || !got.Since.After(open.Probe) {
			t.Errorf("after the fifth: %+v", got)
		}
		client.ResetBreaker(shop)
		if got := client.Breaker(shop); got.State != central.Closed || got.Failures != 0 {
			t.Errorf("after a reset: %+v", got)
		}
		line.status = http.StatusOK
		if err := call(); err != nil {
			t.Error(err)
		}
	})
}
