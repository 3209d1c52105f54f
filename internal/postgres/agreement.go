package postgres

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/veloxpos/reconciled/internal/velox"
	"github.com/veloxpos/reconciled/lock"
	"github.com/veloxpos/reconciled/merkle/reconcile"
)

// Exceptions lists events that both sides know to be different, at most
// reconcile.MaxExceptions, those first that were looked at longest ago.
func (l *Log) Exceptions(ctx context.Context, store velox.StoreID) ([]reconcile.Exception, error) {
	rows, err := l.db.Pool.Query(ctx,
		`SELECT event_id, created_ms, kind, reason, last_seen, EXISTS (SELECT FROM reconciled.conflict c
			WHERE c.store_id = x.store_id AND c.event_id = x.event_id AND c.decided_at IS NULL)
		FROM reconciled.exception x WHERE store_id = $1 ORDER BY last_seen, event_id LIMIT $2`,
		store, reconcile.MaxExceptions)
	if err != nil {
		return nil, fmt.Errorf("read exceptions: %w", err)
	}
	list, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (reconcile.Exception, error) {
		var e reconcile.Exception
		return e, row.Scan(&e.Event, &e.At, &e.Kind, &e.Reason, &e.Met, &e.Undecided)
	})
	if err != nil {
		return nil, fmt.Errorf("read exceptions: %w", err)
	}
	return list, nil
}

// Except lists events as exceptions, as they were answered last; but a conflict
// stays one until a person has decided.
func (l *Log) Except(ctx context.Context, grant lock.Grant, outcomes []reconcile.Outcome) error {
	return l.db.fenced(ctx, grant, func(ctx context.Context, tx pgx.Tx) error {
		for _, o := range outcomes {
			_, err := tx.Exec(ctx, `
				INSERT INTO reconciled.exception AS x (store_id, event_id, created_ms, kind, reason) VALUES ($1, $2, $3, $4, $5)
				ON CONFLICT (store_id, event_id) DO UPDATE SET last_seen = now(),
					kind = CASE x.kind WHEN 'conflict' THEN x.kind ELSE excluded.kind END,
					reason = CASE x.kind WHEN 'conflict' THEN x.reason ELSE excluded.reason END`, grant.Store, o.Event, o.At, o.Status, o.Reason)
			if err != nil {
				return fmt.Errorf("list exception %s: %w", o.Event, err)
			}
		}
		return nil
	})
}

// Settle takes events off the list: both sides hold the same again, and nothing is left
// to decide about them.
func (l *Log) Settle(ctx context.Context, grant lock.Grant, events []uuid.UUID) error {
	return l.db.fenced(ctx, grant, func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `DELETE FROM reconciled.exception WHERE store_id = $1 AND event_id = ANY($2)`, grant.Store, events)
		if err != nil {
			return fmt.Errorf("settle exceptions: %w", err)
		}
		if _, err = tx.Exec(ctx, closeConflicts, grant.Store, events); err != nil {
			return fmt.Errorf("close conflicts: %w", err)
		}
		return nil
	})
}

// Anchor is the last agreement, by the versions of the tree that was agreed on: clocks
// may have been set since.
func (l *Log) Anchor(ctx context.Context, store velox.StoreID) (anchor reconcile.Anchor, err error) {
	var token []byte
	err = l.db.Pool.QueryRow(ctx, `SELECT token, agreed_count, agreed_at FROM reconciled.peer
		WHERE store_id = $1 AND token IS NOT NULL ORDER BY agreed_version DESC, agreed_at DESC LIMIT 1`, store).Scan(&token, &anchor.Count, &anchor.At)
	if errors.Is(err, pgx.ErrNoRows) {
		return anchor, nil
	}
	if err != nil {
		return anchor, fmt.Errorf("read anchor: %w", err)
	}
	copy(anchor.Token[:], token)
	return anchor, nil
}

// Agree writes down what an equal comparison proved: the anchor, and for each leaf
// how many of its events the other side holds. A leaf that has changed since the
// pin keeps its older, smaller proof.
func (l *Log) Agree(ctx context.Context, grant lock.Grant, agreed reconcile.Agreement) error {
	excepted := make([]uuid.UUID, len(agreed.Exceptions))
	for i, e := range agreed.Exceptions {
		excepted[i] = e.Event
	}
	return l.db.fenced(ctx, grant, func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `
			WITH out AS (
				SELECT at >> 20 AS slot, count(*) AS n FROM (
					SELECT reconciled.ms(created_at) AS at FROM public.events WHERE store_id = $1 AND event_id = ANY($3)
					UNION ALL SELECT d.created_ms FROM `+purgedTables+` AND d.event_id = ANY($3)) held GROUP BY 1)
			UPDATE reconciled.leaf AS l SET agreed_count = l.count - coalesce((SELECT n FROM out WHERE out.slot = l.slot), 0)
			WHERE l.store_id = $1 AND l.version <= $2
			  AND l.agreed_count <> l.count - coalesce((SELECT n FROM out WHERE out.slot = l.slot), 0)`,
			grant.Store, agreed.Pin, excepted)
		if err != nil {
			return fmt.Errorf("mark proven leaves: %w", err)
		}
		_, err = tx.Exec(ctx, `
			INSERT INTO reconciled.peer (store_id, installation_id, token, agreed_count, agreed_version, agreed_at)
			VALUES ($1, $2, $3, $4, $5, now())
			ON CONFLICT (store_id, installation_id) DO UPDATE SET token = excluded.token,
				agreed_count = excluded.agreed_count, agreed_version = excluded.agreed_version, agreed_at = excluded.agreed_at, last_seen = now()`,
			grant.Store, agreed.Peer, agreed.Token[:], int64(agreed.Root.Count), agreed.Pin)
		if err != nil {
			return fmt.Errorf("write anchor: %w", err)
		}
		_, err = tx.Exec(ctx, `DELETE FROM reconciled.worklist w WHERE w.consumer = $1 AND w.store_id = $2
			AND NOT EXISTS (SELECT FROM reconciled.leaf l WHERE l.store_id = w.store_id AND l.slot = w.slot AND l.version > $3)`,
			anchorConsumer, grant.Store, agreed.Pin)
		if err != nil {
			return fmt.Errorf("clear changed slots: %w", err)
		}
		return nil
	})
}

// WentBack keeps the evidence that one of two sides does not remember their last
// agreement, once for each.
func (l *Log) WentBack(ctx context.Context, grant lock.Grant, back reconcile.Regress) error {
	return l.db.fenced(ctx, grant, func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `INSERT INTO reconciled.evidence (store_id, kind, expected, detail)
			SELECT $1, 'went_back', $2, $3 WHERE NOT EXISTS (SELECT FROM reconciled.evidence
				WHERE store_id = $1 AND kind = 'went_back' AND expected = $2 AND detail = $3 AND cleared_at IS NULL)
			ON CONFLICT DO NOTHING`, grant.Store, back.Remembered.Digest[:], back.Error())
		if err != nil {
			return fmt.Errorf("keep evidence: %w", err)
		}
		return nil
	})
}

// Unproven counts the store's events that the other side is not proven to hold:
// all of them before the first agreement.
func (l *Log) Unproven(ctx context.Context, store velox.StoreID) (int64, error) {
	if _, err := l.Pin(ctx, store); err != nil {
		return 0, err
	}
	var n int64
	err := l.db.Pool.QueryRow(ctx, `SELECT coalesce(sum(greatest(count - agreed_count, 0)), 0)::bigint
		FROM reconciled.leaf WHERE store_id = $1 AND count <> agreed_count`, store).Scan(&n)
	if err != nil {
		return 0, fmt.Errorf("count unproven events: %w", err)
	}
	return n, nil
}
