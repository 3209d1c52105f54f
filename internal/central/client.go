package central

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/failsafe-go/failsafe-go"
	"github.com/failsafe-go/failsafe-go/circuitbreaker"
	"github.com/failsafe-go/failsafe-go/retrypolicy"
	"github.com/google/uuid"
	"golang.org/x/time/rate"

	"github.com/veloxpos/reconciled/internal/velox"
	"github.com/veloxpos/reconciled/merkle"
	"github.com/veloxpos/reconciled/merkle/reconcile"
)

// ClientOptions of a Client.
type ClientOptions struct {
	URL          string // central's base, such as https://central.example:8443
	Tokens       map[velox.StoreID]string
	Installation uuid.UUID
	// Timeout of a try in which nothing moves. 60 s when zero. One that is slow but
	// moves may take its time.
	Timeout time.Duration
	// UploadRate and DownloadRate bound what all stores together send and fetch, in
	// bytes a second. Zero is no bound.
	UploadRate, DownloadRate int64
	// RetryDelay before the second try, doubled for each further one up to 5 s.
	// 200 ms when zero.
	RetryDelay time.Duration
	// BreakerDelay until an open breaker lets a call through. One minute when zero.
	BreakerDelay time.Duration
	Transport    http.RoundTripper // http.DefaultTransport when nil
}

// tries of one call.
const tries = 4

// Client is central as a round sees it: a reconcile.Peer. Every call is repeated
// while central cannot be reached or fails, and none is made while the store's
// circuit breaker is open. Safe for concurrent use.
type Client struct {
	base     *url.URL
	opts     ClientOptions
	http     *http.Client
	up, down *rate.Limiter // nil: no limit
	retry    retrypolicy.RetryPolicy[[]byte]

	mu       sync.Mutex
	breakers map[velox.StoreID]*breaker
}

var (
	_ reconcile.DiffPeer = (*Client)(nil)
	_ reconcile.Rehasher = (*Client)(nil)
)

// NewClient checks its options and makes no call.
func NewClient(opts ClientOptions) (*Client, error) {
	base, err := url.Parse(opts.URL)
	if err != nil || (base.Scheme != "http" && base.Scheme != "https") || base.Host == "" {
		return nil, fmt.Errorf("central url %q is not an http(s) address", opts.URL)
	}
	opts.Timeout = orDefault(opts.Timeout, time.Minute)
	opts.RetryDelay = orDefault(opts.RetryDelay, 200*time.Millisecond)
	opts.BreakerDelay = orDefault(opts.BreakerDelay, time.Minute)
	c := &Client{
		base: base, opts: opts, breakers: map[velox.StoreID]*breaker{},
		up: newLimiter(opts.UploadRate), down: newLimiter(opts.DownloadRate),
		http: &http.Client{
			Transport: opts.Transport,
			// A redirect would take the token and the events elsewhere.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}
	c.retry = retrypolicy.NewBuilder[[]byte]().
		HandleIf(func(_ []byte, err error) bool {
			return isCentralsFault(err) && !errors.Is(err, ErrNotCentral) && !errors.Is(err, errOthersWait)
		}).
		WithMaxAttempts(tries).WithBackoff(opts.RetryDelay, 5*time.Second).WithJitterFactor(0.2).ReturnLastFailure().Build()
	return c, nil
}

func orDefault(d, otherwise time.Duration) time.Duration {
	if d == 0 {
		return otherwise
	}
	return d
}

// StatusError is an answer that is no success.
type StatusError struct {
	Status  int
	Code    string
	Message string
}

func (e *StatusError) Error() string {
	if e.Code == "" {
		return fmt.Sprintf("central answered %d", e.Status)
	}
	return fmt.Sprintf("central answered %d %s: %s", e.Status, e.Code, e.Message)
}

// Is makes 401 and 403 ErrUnauthorized, and a refused version ErrOtherVersion.
func (e *StatusError) Is(target error) bool {
	return target == ErrOtherVersion && e.Code == codeVersion || target == ErrUnauthorized && (e.Status == http.StatusUnauthorized || e.Status == http.StatusForbidden)
}

// isCentralsFault: central was not reached, or failed, or is not central. What it
// refused is the caller's fault, or somebody's decision, and no reason to leave it alone.
func isCentralsFault(err error) bool {
	if status := new(StatusError); errors.As(err, &status) {
		if status.Code == CodePaused || status.Code == CodeObserving {
			return false
		}
		return status.Status >= 500 || status.Status == http.StatusTooManyRequests
	}
	return errors.Is(err, ErrUnreachable) || errors.Is(err, ErrNotCentral)
}

// post makes one call, with its retries, and returns the answer's body.
func (c *Client) post(ctx context.Context, store velox.StoreID, call, media, wantMedia string, body []byte, header *http.Header) ([]byte, error) {
	breaker := c.breakerOf(store)
	answer, err := failsafe.With[[]byte](c.retry, breaker.circuit).WithContext(ctx).GetWithExecution(func(exec failsafe.Execution[[]byte]) ([]byte, error) {
		return c.try(exec.Context(), http.MethodPost, store, call, media, wantMedia, body, header)
	})
	switch {
	case err != nil && ctx.Err() != nil:
		return nil, fmt.Errorf("%s: %w", call, context.Cause(ctx))
	case errors.Is(err, circuitbreaker.ErrOpen):
		return nil, fmt.Errorf("%s: %w for another %s", call, ErrBreakerOpen, breaker.circuit.RemainingDelay().Round(time.Second))
	case err != nil:
		return nil, fmt.Errorf("%s: %w", call, err)
	}
	return answer, nil
}

func (c *Client) try(ctx context.Context, method string, store velox.StoreID, call, media, wantMedia string, body []byte, header *http.Header) ([]byte, error) {
	ctx, pulse, done := watch(ctx, c.opts.Timeout)
	defer done()
	target := c.base.JoinPath("federation", "v1", "stores", store.String(), call)
	request, err := http.NewRequestWithContext(ctx, method, target.String(), bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("make request: %w", err)
	}
	if get := request.GetBody; len(body) > 0 {
		request.Body = transfer{request.Body, ctx, c.up, pulse}
		request.GetBody = func() (io.ReadCloser, error) { // the transport's, when a kept connection turns out to be dead
			again, err := get()
			return transfer{again, ctx, c.up, pulse}, err
		}
	}
	request.Header.Set("Authorization", "Bearer "+c.opts.Tokens[store])
	request.Header.Set(headerInstallation, c.opts.Installation.String())
	if media != "" {
		request.Header.Set("Content-Type", media)
	}
	response, err := c.http.Do(request)
	if err != nil {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		return nil, fmt.Errorf("%w: %w", ErrUnreachable, err)
	}
	defer response.Body.Close()
	pulse.beat()
	answer, err := io.ReadAll(io.LimitReader(transfer{response.Body, ctx, c.down, pulse}, maxPage+1))
	switch got, _, _ := mime.ParseMediaType(response.Header.Get("Content-Type")); {
	case err != nil && ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case err != nil:
		return nil, fmt.Errorf("%w: answer cut off: %w", ErrUnreachable, err)
	case len(answer) > maxPage:
		return nil, fmt.Errorf("%w: answer of more than %d bytes", ErrNotCentral, maxPage)
	case response.StatusCode >= 500, response.StatusCode != http.StatusOK && got == mediaJSON:
		return nil, statusError(response.StatusCode, answer)
	case got != wantMedia:
		return nil, fmt.Errorf("%w: %s answered %d with media type %q instead of %s; a proxy or a captive portal may stand between",
			ErrNotCentral, target.Redacted(), response.StatusCode, got, wantMedia)
	}
	if header != nil {
		*header = response.Header
	}
	return answer, nil
}

func statusError(status int, body []byte) error {
	var p problem
	if json.Unmarshal(body, &p) != nil {
		p = problem{}
	}
	return &StatusError{Status: status, Code: p.Code, Message: p.Message}
}

// postJSON is a post whose answer is JSON.
func (c *Client) postJSON(ctx context.Context, store velox.StoreID, call, media string, body []byte, into any) error {
	answer, err := c.post(ctx, store, call, media, mediaJSON, body, nil)
	if err != nil {
		return err
	}
	return decodeAnswer(call, answer, into)
}

func decodeAnswer(call string, answer []byte, into any) error {
	if err := json.Unmarshal(answer, into); err != nil {
		return fmt.Errorf("%s: %w: %w", call, ErrNotCentral, err)
	}
	return nil
}

// Open opens a comparison.
func (c *Client) Open(ctx context.Context, store velox.StoreID, opening merkle.Opening) (reply merkle.Reply, from uuid.UUID, err error) {
	var header http.Header
	answer, err := c.post(ctx, store, "open", mediaMerkle, mediaMerkle, merkle.EncodeOpening(opening), &header)
	if err != nil {
		return reply, from, err
	}
	if reply, err = merkle.DecodeReply(answer, reconcile.MaxExceptions); err != nil {
		return reply, from, fmt.Errorf("open: %w", err)
	}
	if from, err = uuid.Parse(header.Get(headerInstallation)); err != nil {
		return reply, from, fmt.Errorf("open: %w: header %s: %w", ErrNotCentral, headerInstallation, err)
	}
	return reply, from, nil
}

// Ask asks a walk's questions.
func (c *Client) Ask(ctx context.Context, store velox.StoreID, questions merkle.Questions) (answers merkle.Answers, err error) {
	answer, err := c.post(ctx, store, "ask", mediaMerkle, mediaMerkle, merkle.EncodeQuestions(questions), nil)
	if err != nil {
		return answers, err
	}
	if answers, err = merkle.DecodeAnswers(questions.Areas, answer); err != nil {
		return answers, fmt.Errorf("ask: %w", err)
	}
	return answers, nil
}

// Pull fetches the next page of what is wanted.
func (c *Client) Pull(ctx context.Context, store velox.StoreID, want merkle.Want, after *merkle.Key) (page reconcile.Page, err error) {
	var header http.Header
	answer, err := c.post(ctx, store, "pull", mediaMerkle, mediaPage, merkle.EncodeWant(want, after), &header)
	if err != nil {
		return page, err
	}
	if page, err = readPage(bytes.NewReader(answer)); err != nil {
		return page, fmt.Errorf("pull: %w", err)
	}
	if next := header.Get(headerNext); next != "" {
		key, err := decodeKey(next)
		if err != nil {
			return page, fmt.Errorf("pull: %w: header %s: %w", ErrNotCentral, headerNext, err)
		}
		page.Next = &key
	}
	return page, nil
}

// Push sends a page.
func (c *Client) Push(ctx context.Context, store velox.StoreID, events []velox.Event) (outcomes []reconcile.Outcome, err error) {
	body, err := encodePage(reconcile.Page{Events: events})
	if err != nil {
		return nil, err
	}
	return outcomes, c.postJSON(ctx, store, "push", mediaPage, body, &outcomes)
}

// Weigh asks how much of what is wanted there is.
func (c *Client) Weigh(ctx context.Context, store velox.StoreID, want merkle.Want) (w reconcile.Weight, err error) {
	err = c.postJSON(ctx, store, "weigh", mediaMerkle, merkle.EncodeWant(want, nil), &w)
	return w, err
}

// Rehash lets central digest a section of its log anew.
func (c *Client) Rehash(ctx context.Context, store velox.StoreID, section reconcile.Section) (r reconcile.Rehash, err error) {
	body, err := json.Marshal(section)
	if err != nil {
		return r, fmt.Errorf("encode section: %w", err)
	}
	err = c.postJSON(ctx, store, "verify", mediaJSON, body, &r)
	return r, err
}

// Probe asks once, without retries and past the breaker, whether central is
// there and ready for this store, and how long the answer took.
func (c *Client) Probe(ctx context.Context, store velox.StoreID) (ready Ready, latency time.Duration, err error) {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	began := time.Now()
	answer, err := c.try(ctx, http.MethodGet, store, "ready", "", mediaJSON, nil, nil)
	latency = time.Since(began)
	if errors.Is(err, context.DeadlineExceeded) {
		err = fmt.Errorf("%w: no answer in %s", ErrUnreachable, probeTimeout)
	}
	if err == nil {
		err = decodeAnswer("ready", answer, &ready)
	}
	return ready, latency, err
}

const probeTimeout = 10 * time.Second
