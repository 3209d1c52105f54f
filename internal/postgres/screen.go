package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/veloxpos/reconciled/internal/alert"
	"github.com/veloxpos/reconciled/lock"
)

// Show puts what waits for the shop's screens into the POS's own notifications, where
// its backend's alerts of the federation are, too, and returns how many messages that
// were. Message and delivery are written together, so nothing is shown twice.
func (a *Alerts) Show(ctx context.Context, grant lock.Grant, channel alert.Channel) (shown int, err error) {
	waiting, sent, now, err := a.waiting(ctx, channel.Name, &grant.Store)
	if err != nil {
		return 0, err
	}
	for _, batch := range channel.Due(now, waiting, sent) {
		err := a.db.fenced(ctx, grant, func(ctx context.Context, tx pgx.Tx) error {
			if err := notifyShop(ctx, tx, grant.Store, batch.Message); err != nil {
				return err
			}
			return saveDeliveries(ctx, tx, batch.Sent(now))
		})
		if err != nil {
			return shown, err
		}
		shown++
		now = now.Add(time.Microsecond) // messages are counted by when they were done
	}
	return shown, nil
}

// priorities are the POS's words for a severity (events.md 7.3).
var priorities = map[alert.Severity]string{alert.Critical: "urgent", alert.High: "high", alert.Medium: "normal"}

func notifyShop(ctx context.Context, tx pgx.Tx, store uuid.UUID, m alert.Message) error {
	gravest := m.Items[0]
	priority := priorities[gravest.Severity]
	if gravest.News == alert.Over {
		priority = "normal"
	}
	title := []rune(m.Subject)
	title = title[:min(len(title), 200)] // varchar(200)
	_, err := tx.Exec(ctx, `INSERT INTO public.notifications (id, store_id, notification_type, category, title, message, priority, severity,
			delivery_channels, metadata)
		VALUES ($1, $2, 'alert', 'federation_health', $3, $4, $5, $6, '["in_app", "push"]',
			jsonb_build_object('alertKey', $7::text, 'alertId', $8::uuid, 'news', $9::text, 'source', 'reconciled'))
		ON CONFLICT (id) DO NOTHING`,
		m.ID, store, string(title), m.Text, priority, string(gravest.Severity), string(gravest.Code), gravest.ID, string(gravest.News))
	if err != nil {
		return fmt.Errorf("notify the shop: %w", err)
	}
	return nil
}
