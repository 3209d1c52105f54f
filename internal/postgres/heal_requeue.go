package postgres

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/veloxpos/reconciled/healer"
	"github.com/veloxpos/reconciled/internal/velox"
	"github.com/veloxpos/reconciled/lock"
)

// Consumed says whether somebody else has projected one of the store's latest events
// within a quarter of an hour. What was healed here counts for nothing.
func (h *Healing) Consumed(ctx context.Context, store velox.StoreID) (consumed bool, err error) {
	err = h.db.Pool.QueryRow(ctx, `
		SELECT EXISTS (
			SELECT FROM (SELECT event_id, store_id FROM public.events
				WHERE store_id = $1 AND created_at <= now() + interval '1 day' ORDER BY created_at DESC LIMIT 2000) e
			JOIN public.outbox_entries o ON o.event_id = e.event_id::text AND o.target = 'projection'
			WHERE o.status = 'processed' AND o.processed_at > now() - interval '15 minutes'
			  AND NOT EXISTS (SELECT FROM reconciled.heal_log l WHERE l.store_id = e.store_id AND l.event_id = e.event_id AND l.strategy = 'native'))`,
		store).Scan(&consumed)
	if err != nil {
		return false, fmt.Errorf("read outbox: %w", err)
	}
	return consumed, nil
}

// Requeue sets events' own outbox entries back, never a second one, and remembers
// when. An entry that the backend holds is its own business.
func (h *Healing) Requeue(ctx context.Context, grant lock.Grant, gaps []healer.Gap, opts healer.Options) (given []uuid.UUID, err error) {
	type row struct {
		Event   uuid.UUID  `json:"event_id"`
		Type    velox.Type `json:"type"`
		Created int64      `json:"created_ms"`
		Reason  string     `json:"reason"`
	}
	rows := make([]row, len(gaps))
	for i, g := range gaps {
		rows[i] = row{g.Event, g.Type, int64(g.CreatedAt), g.Reason}
	}
	text, err := json.Marshal(rows)
	if err != nil {
		return nil, fmt.Errorf("print gaps: %w", err)
	}
	err = h.db.fenced(ctx, grant, func(ctx context.Context, tx pgx.Tx) error {
		found, err := tx.Query(ctx, `
			WITH asked AS (
				SELECT * FROM jsonb_to_recordset($2::jsonb) AS n (event_id uuid, type text, created_ms bigint, reason text)
			), own AS ( -- one entry an event: the oldest
				SELECT o.id, a.event_id FROM asked a CROSS JOIN LATERAL (
					SELECT id FROM public.outbox_entries o WHERE o.event_id IN (a.event_id::text, upper(a.event_id::text)) AND o.target = 'projection'
					ORDER BY o.created_at, o.id LIMIT 1 FOR UPDATE SKIP LOCKED) o
			), back AS (
				UPDATE public.outbox_entries o SET status = 'pending', retry_count = 0, error = NULL, processed_at = NULL
				FROM own WHERE o.id = own.id RETURNING own.event_id, o.status
			), status AS (
				UPDATE public.events e SET projection_status = 'pending', projection_error = NULL FROM back
				WHERE e.event_id = back.event_id AND e.projection_status <> 'pending'
			), booked AS (
				INSERT INTO reconciled.gap AS g (store_id, event_id, type, created_ms, class, reason, attempts, next_attempt, requeued_at, run_id)
				SELECT $1, a.event_id, a.type, a.created_ms, 'actionable', a.reason, 1, now() + $3::interval, now(), NULL
				FROM asked a JOIN back USING (event_id)
				ON CONFLICT (store_id, event_id) DO UPDATE SET class = 'actionable', reason = excluded.reason, waits_table = NULL, waits_id = NULL,
					class_since = `+classSince+`, attempts = g.attempts + 1, next_attempt = excluded.next_attempt, requeued_at = now(), planned_at = now(), run_id = NULL
			), told AS (
				INSERT INTO reconciled.heal_log (store_id, event_id, type, strategy, after, epoch, run_id)
				SELECT $1, a.event_id, a.type, 'requeue', '{"outbox": "pending"}', $4, $5 FROM asked a JOIN back USING (event_id)
			)
			SELECT event_id FROM back`, grant.Store, string(text), opts.Patience, grant.Epoch, grant.Run)
		if err == nil {
			given, err = pgx.CollectRows(found, pgx.RowTo[uuid.UUID])
		}
		if err != nil {
			return fmt.Errorf("set outbox entries back: %w", err)
		}
		return nil
	})
	return given, err
}
