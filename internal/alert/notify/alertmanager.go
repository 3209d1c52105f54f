package notify

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/veloxpos/reconciled/internal/alert"
)

// AlertmanagerOptions of an Alertmanager.
type AlertmanagerOptions struct {
	URL string // its base, such as http://127.0.0.1:9093; may hold user and password
	// Hold is how long it takes an alert to stand when it hears no more of it. Give
	// several times as long as it is between two sends of alert.Standing: one send that
	// is lost or late must not look like an end. Five minutes when zero.
	Hold      time.Duration
	Timeout   time.Duration
	Transport http.RoundTripper // http.DefaultTransport when nil
}

// Alertmanager posts to an Alertmanager's API v2. It forgets what it is not told
// again, so beside the notices it must be sent alert.Standing every minute or so.
// An alert's labels are alertname (its code), store, severity and, where it has one,
// key.
type Alertmanager struct {
	poster poster
	hold   time.Duration
}

// NewAlertmanager checks its options and makes no call.
func NewAlertmanager(o AlertmanagerOptions) (*Alertmanager, error) {
	p, err := newPoster(strings.TrimRight(o.URL, "/")+"/api/v2/alerts", orDefault(o.Timeout, timeout), o.Transport)
	if err != nil {
		return nil, fmt.Errorf("alertmanager: %w", err)
	}
	return &Alertmanager{poster: p, hold: orDefault(o.Hold, 5*time.Minute)}, nil
}

// postable is an alert in the API's words.
type postable struct {
	Labels      map[string]string `json:"labels"`
	Annotations map[string]string `json:"annotations"`
	StartsAt    time.Time         `json:"startsAt"`
	EndsAt      time.Time         `json:"endsAt"`
}

// Send posts every alert of the message.
func (a *Alertmanager) Send(ctx context.Context, message alert.Message) error {
	var alerts []postable
	for _, i := range message.Items {
		p := postable{
			Labels: map[string]string{"alertname": string(i.Code), "store": i.Store.String(), "severity": string(i.Severity)},
			Annotations: map[string]string{
				"summary": i.Summary(alert.EN), "resumen": i.Summary(alert.ES),
				"description": i.Meaning.EN, "descripcion": i.Meaning.ES,
				"command": i.Command, "runbook": i.Section, "store_name": i.StoreName,
			},
			StartsAt: i.Since, EndsAt: time.Now().UTC().Add(a.hold),
		}
		if i.Key != "" {
			p.Labels["key"] = i.Key
		}
		if i.News == alert.Over {
			p.EndsAt = i.Resolved
		}
		alerts = append(alerts, p)
	}
	body, err := json.Marshal(alerts)
	if err != nil {
		return fmt.Errorf("alertmanager: encode alerts: %w", err)
	}
	if err := a.poster.post(ctx, body, nil); err != nil {
		return fmt.Errorf("alertmanager: %w", err)
	}
	return nil
}
