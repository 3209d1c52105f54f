package notify

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/veloxpos/reconciled/internal/alert"
)

// Headers of a webhook's request. A receiver that knows the secret computes
//
//	"sha256=" + hex(HMAC-SHA256(secret, timestamp + "." + body))
//
// over the body's bytes as they came, compares it with the signature in constant
// time, and refuses a timestamp that is more than some minutes old. The id is that of
// the message: one that it has seen already came twice.
const (
	HeaderTimestamp = "Reconciled-Timestamp" // when it was signed, in seconds since 1970
	HeaderSignature = "Reconciled-Signature"
	HeaderID        = "Reconciled-Message-Id"
)

// WebhookOptions of a Webhook.
type WebhookOptions struct {
	URL       string // may hold a token: it is never shown
	Secret    string // signs each request; required
	Timeout   time.Duration
	Transport http.RoundTripper // http.DefaultTransport when nil
}

// Webhook posts an alert.Message as JSON, signed. Any 2xx is an acceptance.
type Webhook struct {
	poster poster
	secret []byte
}

// NewWebhook checks its options and makes no call.
func NewWebhook(o WebhookOptions) (*Webhook, error) {
	if o.Secret == "" {
		return nil, errors.New("webhook: there is no secret to sign with")
	}
	p, err := newPoster(o.URL, orDefault(o.Timeout, timeout), o.Transport)
	if err != nil {
		return nil, fmt.Errorf("webhook: %w", err)
	}
	return &Webhook{poster: p, secret: []byte(o.Secret)}, nil
}

// Send posts the message.
func (w *Webhook) Send(ctx context.Context, message alert.Message) error {
	body, err := json.Marshal(message)
	if err != nil {
		return fmt.Errorf("webhook: encode message: %w", err)
	}
	timestamp := strconv.FormatInt(time.Now().Unix(), 10)
	mac := hmac.New(sha256.New, w.secret)
	mac.Write([]byte(timestamp + "."))
	mac.Write(body)
	header := http.Header{}
	header.Set(HeaderTimestamp, timestamp)
	header.Set(HeaderSignature, "sha256="+hex.EncodeToString(mac.Sum(nil)))
	header.Set(HeaderID, message.ID.String())
	if err := w.poster.post(ctx, body, header); err != nil {
		return fmt.Errorf("webhook: %w", err)
	}
	return nil
}
