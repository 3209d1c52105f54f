// Package notify sends what package alert has to say: to a log, a webhook, a mail
// address, or an Alertmanager.
//
// What it promises. Send returns nil when the receiver has taken the message, and an
// error in every other case; it ends with its context, and within its own timeout.
// It does not try again: that is its caller's, who keeps the deliveries. Sending the
// same twice is harmless, since a message carries an id that stays the same. An
// error names the receiver's host and what it answered, and never a secret. One that
// wraps alert.ErrRefused says that the receiver does not want this message at all.
package notify

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	"github.com/veloxpos/reconciled/internal/alert"
)

const (
	// timeout of a send, where none is set.
	timeout = 30 * time.Second
	// bodyAtMost bounds what is posted. A message of alert's stays far below.
	bodyAtMost = 8 << 20
	// answerAtMost bounds what is read of an answer, so that its connection can be used
	// again.
	answerAtMost = 64 << 10
)

// poster posts JSON to one address.
type poster struct {
	client *http.Client
	url    *url.URL
}

// newPoster checks the address. It does not quote it: many a webhook's address is a
// secret.
func newPoster(address string, timeout time.Duration, transport http.RoundTripper) (poster, error) {
	u, err := url.Parse(address)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" {
		return poster{}, errors.New("the url is not an http(s) address")
	}
	return poster{url: u, client: &http.Client{
		Timeout: timeout, Transport: transport,
		// A redirect would take the message, and its signature, elsewhere.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}, nil
}

// post succeeds with any 2xx.
func (p poster) post(ctx context.Context, body []byte, header http.Header) error {
	if len(body) > bodyAtMost {
		return fmt.Errorf("post to %s: %w: %d bytes are more than %d", p.url.Host, alert.ErrRefused, len(body), bodyAtMost)
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, p.url.String(), bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("post to %s: the request cannot be made", p.url.Host)
	}
	if header != nil {
		request.Header = header
	}
	request.Header.Set("Content-Type", "application/json")
	answer, err := p.client.Do(request)
	if err != nil {
		if wrapped := new(url.Error); errors.As(err, &wrapped) {
			err = wrapped.Err // without the address
		}
		return fmt.Errorf("post to %s: %w", p.url.Host, err)
	}
	defer answer.Body.Close()
	_, _ = io.CopyN(io.Discard, answer.Body, answerAtMost)
	switch status := answer.StatusCode; {
	case status/100 == 2:
		return nil
	case status == http.StatusBadRequest, status == http.StatusRequestEntityTooLarge, status == http.StatusUnprocessableEntity:
		return fmt.Errorf("post to %s: %w: it answered %d", p.url.Host, alert.ErrRefused, status)
	default:
		return fmt.Errorf("post to %s: it answered %d", p.url.Host, status)
	}
}

func orDefault(d, otherwise time.Duration) time.Duration {
	if d == 0 {
		return otherwise
	}
	return d
}
