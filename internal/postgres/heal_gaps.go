package postgres

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/veloxpos/reconciled/healer"
	"github.com/veloxpos/reconciled/healer/projection"
	"github.com/veloxpos/reconciled/lock"
)

// classSince is since when gap g is of the class that it is given.
const classSince = `CASE WHEN g.class = excluded.class THEN g.class_since ELSE now() END`

// Record writes open gaps and forgets closed ones. The next attempt of one that
// may still heal lies further off each time that nothing has changed.
func (h *Healing) Record(ctx context.Context, grant lock.Grant, open []healer.Gap, closed []uuid.UUID, opts healer.Options) error {
	type row struct {
		Event   uuid.UUID         `json:"event_id"`
		Type    string            `json:"type"`
		Created int64             `json:"created_ms"`
		Class   projection.Class  `json:"class"`
		Reason  string            `json:"reason"`
		Table   *projection.Table `json:"waits_table"`
		ID      *uuid.UUID        `json:"waits_id"`
		Error   *string           `json:"last_error"`
	}
	rows := make([]row, len(open))
	var settled []uuid.UUID // rightly without rows
	for i, g := range open {
		if g.Class == projection.Semantic {
			settled = append(settled, g.Event)
		}
		rows[i] = row{Event: g.Event, Type: string(g.Type), Created: int64(g.CreatedAt), Class: g.Class, Reason: g.Reason}
		if g.Waits != (projection.Ref{}) {
			rows[i].Table, rows[i].ID = &g.Waits.Table, &g.Waits.ID
		}
		if g.LastError != "" {
			rows[i].Error = &g.LastError
		}
	}
	text, err := json.Marshal(rows)
	if err != nil {
		return fmt.Errorf("print gaps: %w", err)
	}
	return h.db.fenced(ctx, grant, func(ctx context.Context, tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `
			INSERT INTO reconciled.heal_log (store_id, event_id, type, strategy, before, after, epoch, run_id)
			SELECT $1, g.event_id, g.type, 'requeue', jsonb_build_object('requeued_at', g.requeued_at), '{"verified": true}', $3, $4
			FROM reconciled.gap g WHERE g.store_id = $1 AND g.event_id = ANY($2) AND g.requeued_at IS NOT NULL
			  AND NOT EXISTS (SELECT FROM reconciled.heal_log l WHERE l.store_id = $1 AND l.event_id = g.event_id AND l.run_id = $4)`,
			grant.Store, closed, grant.Epoch, grant.Run); err != nil {
			return fmt.Errorf("log what the backend healed: %w", err)
		}
		if _, err := tx.Exec(ctx, `DELETE FROM reconciled.gap WHERE store_id = $1 AND event_id = ANY($2)`, grant.Store, closed); err != nil {
			return fmt.Errorf("forget gaps: %w", err)
		}
		// What is closed is projected: the backend's entry that gave up on it is moot, and
		// it is not malformed any more. When it was projected is not known: what people
		// edited since must not look older than that.
		if !opts.Observe {
			_, err := tx.Exec(ctx, `UPDATE public.outbox_entries SET status = 'processed'
				WHERE store_id = $1 AND target = 'projection' AND status = 'failed' AND event_id = ANY($2::uuid[]::text[])`,
				grant.Store, slices.Concat(closed, settled))
			if err != nil {
				return fmt.Errorf("settle outbox: %w", err)
			}
		}
		if _, err := tx.Exec(ctx, `UPDATE reconciled.quarantine SET dismissed_at = now(), dismissed_by = 'reconciled', dismissed_reason = 'projected since'
			WHERE store_id = $1 AND dismissed_at IS NULL AND event_id = ANY($2)`, grant.Store, closed); err != nil {
			return fmt.Errorf("clear quarantine: %w", err)
		}
		_, err := tx.Exec(ctx, `
			INSERT INTO reconciled.gap AS g (store_id, event_id, type, created_ms, class, reason, waits_table, waits_id,
				last_error, attempts, next_attempt, run_id)
			SELECT $1, n.event_id, n.type, n.created_ms, n.class, n.reason, n.waits_table, n.waits_id, n.last_error, 1, now() + $3::interval, $5
			FROM jsonb_to_recordset($2::jsonb) AS n (event_id uuid, type text, created_ms bigint, class text, reason text,
				waits_table text, waits_id uuid, last_error text)
			ON CONFLICT (store_id, event_id) DO UPDATE SET
				class = excluded.class, reason = excluded.reason, waits_table = excluded.waits_table, waits_id = excluded.waits_id,
				last_error = excluded.last_error, planned_at = now(), run_id = excluded.run_id, class_since = `+classSince+`,
				attempts = CASE WHEN (g.class, g.waits_id) IS NOT DISTINCT FROM (excluded.class, excluded.waits_id) THEN g.attempts + 1 ELSE 1 END,
				next_attempt = now() + CASE WHEN (g.class, g.waits_id) IS NOT DISTINCT FROM (excluded.class, excluded.waits_id)
					THEN least($4::interval, $3::interval * power(2, least(g.attempts, 30))) ELSE $3::interval END`,
			grant.Store, string(text), opts.Backoff, opts.MaxBackoff, grant.Run)
		if err != nil {
			return fmt.Errorf("write gaps: %w", err)
		}
		_, err = tx.Exec(ctx, `
			INSERT INTO reconciled.quarantine (store_id, event_id, type, reason)
			SELECT $1, n.event_id, n.type, n.reason
			FROM jsonb_to_recordset($2::jsonb) AS n (event_id uuid, type text, class text, reason text)
			WHERE n.class = 'poison'
			ON CONFLICT (store_id, event_id) DO UPDATE SET reason = excluded.reason, dismissed_at = NULL, dismissed_by = NULL, dismissed_reason = NULL
			WHERE quarantine.dismissed_by = 'reconciled' -- a person's word stands`, grant.Store, string(text))
		if err != nil {
			return fmt.Errorf("write quarantine: %w", err)
		}
		return nil
	})
}
