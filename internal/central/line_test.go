package central_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"

	"github.com/veloxpos/reconciled/internal/central"
	"github.com/veloxpos/reconciled/internal/velox"
	"github.com/veloxpos/reconciled/merkle"
)

// remote is a central made of one function.
type remote func(r *http.Request) (*http.Response, error)

func (f remote) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// answers reads the request and answers with a body.
func answers(sent *atomic.Int64, body func() io.Reader) remote {
	return func(r *http.Request) (*http.Response, error) {
		n, err := io.Copy(io.Discard, r.Body)
		sent.Add(n)
		if err != nil {
			return nil, err
		}
		header := http.Header{"Content-Type": {"application/json"}}
		return &http.Response{StatusCode: http.StatusOK, Header: header, Body: io.NopCloser(body()), Request: r}, nil
	}
}

func clientOf(t *testing.T, opts central.ClientOptions) *central.Client {
	t.Helper()
	opts.URL = "https://central.example"
	client, err := central.NewClient(opts)
	if err != nil {
		t.Fatal(err)
	}
	return client
}

// large is a want that makes a message of some size.
func large() merkle.Want {
	var want merkle.Want
	for i := range int64(merkle.MaxWantSpans) {
		want.Spans = append(want.Spans, merkle.Span{
			From: merkle.Key{At: i << 30, ID: uuid.New()}, To: merkle.Key{At: i<<30 + 1, ID: uuid.New()},
		})
	}
	return want
}

// took is how long work takes by the bubble's clock.
func took(work func()) time.Duration {
	began := time.Now()
	work()
	return time.Since(began)
}

// wantPace wants n bytes to have taken their time at a rate, but for the burst that
// goes at once.
func wantPace(t *testing.T, got time.Duration, n int64, rate float64) {
	t.Helper()
	full := time.Duration(float64(n) / rate * float64(time.Second))
	if least := full - 100*time.Millisecond; got < least || got > full {
		t.Errorf("%d bytes took %s at %.0f a second, want between %s and %s", n, got, rate, least, full)
	}
}

func TestAnUploadKeepsToItsRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var sent atomic.Int64
		client := clientOf(t, central.ClientOptions{UploadRate: 2048, Transport: answers(&sent, func() io.Reader { return strings.NewReader(`{}`) })})
		elapsed := took(func() {
			if _, err := client.Weigh(t.Context(), shop, large()); err != nil {
				t.Error(err)
			}
		})
		if sent.Load() < 8000 {
			t.Errorf("%d bytes were sent: too few to show anything", sent.Load())
		}
		wantPace(t, elapsed, sent.Load(), 2048)
	})
}

func TestADownloadKeepsToItsRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		answer := `{"events": 1` + strings.Repeat(" ", 300_000) + `}`
		client := clientOf(t, central.ClientOptions{DownloadRate: 10_000, Transport: answers(new(atomic.Int64), func() io.Reader { return strings.NewReader(answer) })})
		elapsed := took(func() {
			if w, err := client.Weigh(t.Context(), shop, merkle.Want{}); err != nil || w.Events != 1 {
				t.Errorf("%+v, %v", w, err)
			}
		})
		wantPace(t, elapsed, int64(len(answer)), 10_000)
	})
}

func TestAllStoresShareOneRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var sent atomic.Int64
		client := clientOf(t, central.ClientOptions{UploadRate: 4096, Transport: answers(&sent, func() io.Reader { return strings.NewReader(`{}`) })})
		elapsed := took(func() {
			var all sync.WaitGroup
			for _, store := range []velox.StoreID{shop, other, uuid.New()} {
				all.Go(func() {
					if _, err := client.Weigh(t.Context(), store, large()); err != nil {
						t.Error(err)
					}
				})
			}
			all.Wait()
		})
		wantPace(t, elapsed, sent.Load(), 4096)
	})
}

func TestNoRateIsNoLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client := clientOf(t, central.ClientOptions{Transport: answers(new(atomic.Int64), func() io.Reader {
			return strings.NewReader(`{}` + strings.Repeat(" ", 1<<20))
		})})
		if elapsed := took(func() { _, _ = client.Weigh(t.Context(), shop, large()) }); elapsed != 0 {
			t.Errorf("took %s", elapsed)
		}
	})
}

func TestOurOwnRateKillsNoPage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		answer := `{"events": 1` + strings.Repeat(" ", 300_000) + `}`
		client := clientOf(t, central.ClientOptions{
			DownloadRate: 1024, Timeout: 5 * time.Second,
			Transport: answers(new(atomic.Int64), func() io.Reader { return strings.NewReader(answer) }),
		})
		// Nor does somebody who waits: it moves.
		ctx := central.WithStop(t.Context(), func() bool { return true })
		if w, err := client.Weigh(ctx, shop, merkle.Want{}); err != nil || w.Events != 1 {
			t.Errorf("%+v, %v", w, err)
		}
	})
}

// silent never answers, and counts how often it is asked.
func silent(tries *atomic.Int64) remote {
	return func(r *http.Request) (*http.Response, error) {
		tries.Add(1)
		<-r.Context().Done()
		return nil, r.Context().Err()
	}
}

func TestATryInWhichNothingMovesIsGivenUpAndRepeated(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var tries atomic.Int64
		client := clientOf(t, central.ClientOptions{Transport: silent(&tries)})
		_, err := client.Weigh(t.Context(), shop, merkle.Want{})
		if !errors.Is(err, central.ErrUnreachable) || !strings.Contains(err.Error(), "nothing moved for 1m0s") || tries.Load() != 4 {
			t.Errorf("%v after %d tries", err, tries.Load())
		}
	})
}

func TestAnAnswerThatBreaksOffIsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client := clientOf(t, central.ClientOptions{Transport: remote(func(r *http.Request) (*http.Response, error) {
			rest := readFunc(func([]byte) (int, error) {
				<-r.Context().Done()
				return 0, r.Context().Err()
			})
			return answers(new(atomic.Int64), func() io.Reader { return io.MultiReader(strings.NewReader(`{"ev`), rest) })(r)
		})})
		_, err := client.Weigh(t.Context(), shop, merkle.Want{})
		if !errors.Is(err, central.ErrUnreachable) || !strings.Contains(err.Error(), "nothing moved") {
			t.Error(err)
		}
	})
}

type readFunc func([]byte) (int, error)

func (f readFunc) Read(b []byte) (int, error) { return f(b) }

func TestAHealGetsItsTurnWhileCentralIsSilent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var tries atomic.Int64
		client := clientOf(t, central.ClientOptions{Transport: silent(&tries)})
		began := time.Now()
		waits := func() bool { return time.Since(began) > 3*time.Second } // a heal, since then
		elapsed := took(func() {
			_, err := client.Weigh(central.WithStop(t.Context(), waits), shop, merkle.Want{})
			if !errors.Is(err, central.ErrUnreachable) || !strings.Contains(err.Error(), "other work waits") {
				t.Error(err)
			}
		})
		if elapsed > 15*time.Second || tries.Load() != 1 {
			t.Errorf("it took %s and %d tries", elapsed, tries.Load())
		}
	})
}

func TestACancelledCallSaysWhy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		why := errors.New("lease lost")
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(time.Second, func() { cancel(why) })
		client := clientOf(t, central.ClientOptions{Transport: silent(new(atomic.Int64))})
		if _, err := client.Weigh(ctx, shop, merkle.Want{}); !errors.Is(err, why) {
			t.Errorf("%v, want %v", err, why)
		}
	})
}

func TestAStoreThatFailsStopsNoOther(t *testing.T) {
	client := clientOf(t, central.ClientOptions{
		RetryDelay: time.Nanosecond,
		Transport: remote(func(r *http.Request) (*http.Response, error) {
			if strings.Contains(r.URL.Path, shop.String()) {
				return nil, errors.New("reset by peer")
			}
			return answers(new(atomic.Int64), func() io.Reader { return strings.NewReader(`{"events": 1}`) })(r)
		}),
	})
	for range 2 {
		if _, err := client.Weigh(t.Context(), shop, merkle.Want{}); err == nil {
			t.Fatal("a call succeeded")
		}
	}
	if _, err := client.Weigh(t.Context(), other, merkle.Want{}); err != nil {
		t.Error(err)
	}
	if one, two := client.Breaker(shop).State, client.Breaker(other).State; one != central.Open || two != central.Closed {
		t.Errorf("breakers %s and %s, want OPEN and CLOSED", one, two)
	}
}

func TestCentralLetsASlowPageThrough(t *testing.T) {
	p := newPair(t)
	p.server.Close()
	p.server = httptest.NewUnstartedServer(p.server.Config.Handler)
	p.server.Config.ReadTimeout = 250 * time.Millisecond // less than the page takes
	p.server.Start()
	t.Cleanup(p.server.Close)
	client, err := central.NewClient(central.ClientOptions{
		URL: p.server.URL, Tokens: map[velox.StoreID]string{shop: token}, Installation: installation(t, p.store),
		UploadRate: 8192, Transport: p.server.Client().Transport,
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.Weigh(t.Context(), shop, large()); err != nil {
		t.Error(err)
	}
}
