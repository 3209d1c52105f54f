package main

import (
	"fmt"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/veloxpos/reconciled/daemon"
	"github.com/veloxpos/reconciled/internal/alert"
	"github.com/veloxpos/reconciled/internal/alert/notify"
	"github.com/veloxpos/reconciled/internal/config"
)

// How many messages may go out over a channel within alert.Window. People read mail
// and screens; a hook is read by a program.
const (
	mailsAtMost = 10
	hooksAtMost = 100
)

// restateEvery is how often an Alertmanager is told what stands, which it would else
// take for over.
const restateEvery = time.Minute

// screenChannel is that of the shop's own screens.
var screenChannel = alert.Channel{Name: "screens", Limit: mailsAtMost}

// outlets are what the configuration tells people over.
func outlets(c config.Alerts, logger *zap.Logger) ([]daemon.Outlet, error) {
	list := []daemon.Outlet{{Channel: alert.Channel{Name: "log"}, Sender: notify.NewLog(logger), Bare: true}}
	if c.Webhook.URL != "" {
		hook, err := notify.NewWebhook(notify.WebhookOptions{URL: c.Webhook.URL, Secret: c.Webhook.Secret})
		if err != nil {
			return nil, fmt.Errorf("%w: alerts.webhook: %w", config.ErrInvalid, err)
		}
		list = append(list, daemon.Outlet{Channel: alert.Channel{Name: "webhook", Limit: hooksAtMost}, Sender: hook, Bare: true})
	}
	if c.Alertmanager.URL != "" {
		manager, err := notify.NewAlertmanager(notify.AlertmanagerOptions{URL: c.Alertmanager.URL, Hold: 5 * restateEvery})
		if err != nil {
			return nil, fmt.Errorf("%w: alerts.alertmanager: %w", config.ErrInvalid, err)
		}
		list = append(list, daemon.Outlet{Channel: alert.Channel{Name: "alertmanager"}, Sender: manager, Restate: restateEvery})
	}
	if c.Mail.Relay == "" {
		return list, nil
	}
	mail := func(address string, rung int) error {
		relay, err := notify.NewSMTP(notify.SMTPOptions{
			Addr: c.Mail.Relay, From: c.Mail.From, To: address, Username: c.Mail.Username, Password: c.Mail.Password, Plaintext: c.Mail.Plaintext,
		})
		if err != nil {
			return fmt.Errorf("%w: alerts.mail: %w", config.ErrInvalid, err)
		}
		list = append(list, daemon.Outlet{Channel: alert.Channel{Name: "mail " + address, Rung: rung, Limit: mailsAtMost}, Sender: relay})
		return nil
	}
	for i, address := range c.Mail.To {
		if slices.Contains(c.Mail.To[:i], address) {
			continue
		}
		if err := mail(address, 0); err != nil {
			return nil, err
		}
	}
	rung := 0
	for i, address := range c.Mail.Escalate {
		if slices.Contains(c.Mail.To, address) || slices.Contains(c.Mail.Escalate[:i], address) {
			continue // who is told at once is not told again in turn; the next is up an hour earlier
		}
		rung++
		if err := mail(address, rung); err != nil {
			return nil, err
		}
	}
	return list, nil
}
