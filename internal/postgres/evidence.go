package postgres

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/veloxpos/reconciled/internal/velox"
	"github.com/veloxpos/reconciled/lock"
	"github.com/veloxpos/reconciled/merkle"
)

// Evidence that a log was tampered with, has rotted, or went back in time.
type Evidence struct {
	ID       int64         `json:"id"`
	Kind     string        `json:"kind"`
	Slot     *int64        `json:"slot,omitempty"`
	Event    uuid.NullUUID `json:"event_id"`
	Expected string        `json:"expected,omitempty"` // digests in hex
	Found    string        `json:"found,omitempty"`
	Detail   string        `json:"detail,omitempty"`
	FoundAt  time.Time     `json:"found_at"`
}

// Evidence lists a store's that nobody has cleared yet, the latest first, and
// counts all of it.
func (l *Log) Evidence(ctx context.Context, store velox.StoreID, limit int) (list []Evidence, total int, err error) {
	rows, err := l.db.Pool.Query(ctx, `SELECT id, kind, slot, event_id, expected, found, detail, found_at, count(*) OVER ()
		FROM reconciled.evidence WHERE store_id = $1 AND cleared_at IS NULL ORDER BY found_at DESC, id DESC LIMIT $2`, store, limit)
	if err != nil {
		return nil, 0, fmt.Errorf("list evidence: %w", err)
	}
	list, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (e Evidence, err error) {
		var expected, found []byte
		err = row.Scan(&e.ID, &e.Kind, &e.Slot, &e.Event, &expected, &found, &e.Detail, &e.FoundAt, &total)
		e.Expected, e.Found = hex.EncodeToString(expected), hex.EncodeToString(found)
		return e, err
	})
	if err != nil {
		return nil, 0, fmt.Errorf("list evidence: %w", err)
	}
	return list, total, nil
}

// ErrNoEvidence: a number is not that of a store's open evidence.
var ErrNoEvidence = errors.New("there is no such open evidence")

// Clear closes evidence that a person has looked into: that of these numbers, or
// all when ids is empty. It clears all that is named or fails with ErrNoEvidence.
func (l *Log) Clear(ctx context.Context, grant lock.Grant, ids []int64, by, why string) (cleared []int64, err error) {
	err = l.db.fenced(ctx, grant, func(ctx context.Context, tx pgx.Tx) error {
		rows, err := tx.Query(ctx, `UPDATE reconciled.evidence SET cleared_at = now(), cleared_by = $3
			WHERE store_id = $1 AND (id = ANY($2) OR cardinality($2::bigint[]) = 0) AND cleared_at IS NULL RETURNING id`,
			grant.Store, append([]int64{}, ids...), by)
		if err == nil {
			cleared, err = pgx.CollectRows(rows, pgx.RowTo[int64])
		}
		switch {
		case err != nil:
			return fmt.Errorf("clear evidence: %w", err)
		case len(cleared) < len(ids):
			return fmt.Errorf("%w: %d of %d numbers are known", ErrNoEvidence, len(cleared), len(ids))
		case len(cleared) == 0:
			return nil
		}
		_, err = tx.Exec(ctx, `INSERT INTO reconciled.audit (actor, action, store_id, target, outcome, detail)
			VALUES ($1, 'event clear', $2, 'evidence', 'cleared', jsonb_build_object('why', $3::text, 'count', $4::int, 'evidence', $5::bigint[]))`,
			by, grant.Store, why, len(cleared), cleared[:min(len(cleared), releasedNamed)])
		if err != nil {
			return fmt.Errorf("write audit: %w", err)
		}
		return nil
	})
	return cleared, err
}

// Suspects are slots that were found to be other than their leaf, and whose events
// have not been held against the other side's yet; at most limit.
func (l *Log) Suspects(ctx context.Context, store velox.StoreID, limit int) ([]int64, error) {
	rows, err := l.db.Pool.Query(ctx, `SELECT DISTINCT slot FROM reconciled.evidence
		WHERE store_id = $1 AND kind = 'slot' AND slot IS NOT NULL AND cleared_at IS NULL AND named_at IS NULL
		ORDER BY slot LIMIT $2`, store, limit)
	if err != nil {
		return nil, fmt.Errorf("find suspect slots: %w", err)
	}
	slots, err := pgx.CollectRows(rows, pgx.RowTo[int64])
	if err != nil {
		return nil, fmt.Errorf("find suspect slots: %w", err)
	}
	return slots, nil
}

// Name holds a slot's events against what the other side has there: which are gone,
// and which say something else.
func (l *Log) Name(ctx context.Context, grant lock.Grant, slot int64, there []merkle.Item) error {
	items, err := l.SlotItems(ctx, grant.Store, slot)
	if err != nil {
		return err
	}
	here := make(map[[16]byte]merkle.Digest, len(items))
	for _, item := range items {
		here[item.Key.ID] = item.Digest
	}
	return l.db.fenced(ctx, grant, func(ctx context.Context, tx pgx.Tx) error {
		for _, item := range there {
			digest, held := here[item.Key.ID]
			if held && digest == item.Digest {
				continue
			}
			kind, found := "vanished", []byte(nil)
			if held {
				kind, found = "differs", digest[:]
			}
			_, err := tx.Exec(ctx, `INSERT INTO reconciled.evidence (store_id, kind, slot, event_id, expected, found, detail)
				VALUES ($1, $2, $3, $4, $5, $6, 'the digest that is expected is the other side''s') ON CONFLICT DO NOTHING`,
				grant.Store, kind, slot, uuid.UUID(item.Key.ID), item.Digest[:], found)
			if err != nil {
				return fmt.Errorf("name event %x: %w", item.Key.ID, err)
			}
		}
		_, err := tx.Exec(ctx, `UPDATE reconciled.evidence SET named_at = now() WHERE store_id = $1 AND kind = 'slot' AND slot = $2`, grant.Store, slot)
		if err != nil {
			return fmt.Errorf("note that slot %d is named: %w", slot, err)
		}
		return nil
	})
}
