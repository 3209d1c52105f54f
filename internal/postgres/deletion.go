package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/veloxpos/reconciled/internal/velox"
	"github.com/veloxpos/reconciled/lock"
	"github.com/veloxpos/reconciled/merkle"
)

// present is the condition that the store ($1) has an event in its log. OFFSET keeps
// the look-up by the event's id: a plan that was made while the table was small goes
// through all the store's events, for each.
func present(eventID string) string {
	return `EXISTS (SELECT FROM (SELECT e.store_id FROM public.events e WHERE e.event_id = ` + eventID + ` OFFSET 0) e WHERE e.store_id = $1)`
}

// purgedTables are the declared purges of a store ($1) whose items are still in
// the tree: those whose event is not in the log again.
var purgedTables = `reconciled.deletion d WHERE d.store_id = $1 AND d.declared AND d.restored_at IS NULL AND NOT ` + present("d.event_id")

// declaredItems are the items of declared purges, by slot, in key order. With the
// items of the events that are present they make up the slots' leaves.
func declaredItems(ctx context.Context, q querier, store velox.StoreID, slots []int64) (map[int64][]merkle.Item, error) {
	rows, err := q.Query(ctx, `SELECT d.event_id, d.created_ms, d.item FROM unnest($2::bigint[]) AS slot
		CROSS JOIN LATERAL (SELECT d.event_id, d.created_ms, d.item FROM `+purgedTables+`
			AND d.created_ms >= slot << 20 AND d.created_ms <= (slot << 20 | 1048575) OFFSET 0) d
		ORDER BY d.created_ms, d.event_id`, store, slots)
	if err != nil {
		return nil, fmt.Errorf("read declared deletions: %w", err)
	}
	items := map[int64][]merkle.Item{}
	var (
		key    merkle.Key
		digest []byte
	)
	_, err = pgx.ForEachRow(rows, []any{&key.ID, &key.At, &digest}, func() error {
		items[key.Slot()] = append(items[key.Slot()], merkle.Item{Key: key, Digest: merkle.Digest(digest)})
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read declared deletions: %w", err)
	}
	return items, nil
}

// deletionsADay is how many deletions that nobody declared are undone by
// themselves: more of them within a day are held, all that are not back by then.
const deletionsADay = 20

func holdDeletions(ctx context.Context, tx pgx.Tx, store velox.StoreID) error {
	_, err := tx.Exec(ctx, `
		UPDATE reconciled.deletion SET held_at = now()
		WHERE store_id = $1 AND NOT declared AND restored_at IS NULL AND released_at IS NULL AND held_at IS NULL
		  AND $2::bigint < (SELECT count(*) FROM (SELECT FROM reconciled.deletion
			WHERE store_id = $1 AND NOT declared AND deleted_at > now() - interval '24 hours' LIMIT $2::bigint + 1) recent)`, store, deletionsADay)
	if err != nil {
		return fmt.Errorf("hold deletions: %w", err)
	}
	return nil
}

// isHeld is the condition that a deletion waits for a person.
const isHeld = `held_at IS NOT NULL AND released_at IS NULL AND restored_at IS NULL`

// deletion is what setAside has to know of one.
type deletion struct {
	declared, held bool
	item           []byte
}

// deletions are those of the events that were seen to be deleted here, and how many
// the store holds when one of them is held.
func (in *ingest) deletions(ctx context.Context, events []uuid.UUID) (seen map[uuid.UUID]deletion, held int, err error) {
	rows, err := in.tx.Query(ctx, `SELECT event_id, declared, `+isHeld+`, item FROM reconciled.deletion
		WHERE store_id = $1 AND event_id = ANY($2) AND restored_at IS NULL`, in.store, events)
	if err != nil {
		return nil, 0, fmt.Errorf("look for deletions: %w", err)
	}
	seen = map[uuid.UUID]deletion{}
	var (
		event uuid.UUID
		d     deletion
	)
	_, err = pgx.ForEachRow(rows, []any{&event, &d.declared, &d.held, &d.item}, func() error {
		if d.held {
			held++
		}
		seen[event] = d
		d.item = nil // the next row gets bytes of its own
		return nil
	})
	if err == nil && held > 0 {
		err = in.tx.QueryRow(ctx, `SELECT count(*) FROM reconciled.deletion WHERE store_id = $1 AND `+isHeld, in.store).Scan(&held)
	}
	if err != nil {
		return nil, 0, fmt.Errorf("look for deletions: %w", err)
	}
	return seen, held, nil
}

// Deletion is an event that was deleted and does not come back by itself.
type Deletion struct {
	Event   uuid.UUID    `json:"event_id"`
	Type    velox.Type   `json:"type"`
	Created velox.Millis `json:"created_at"` // in milliseconds
	Deleted time.Time    `json:"deleted_at"`
}

// Held lists the deletions that wait for a person, the latest first, at most
// limit of them, and counts all.
func (l *Log) Held(ctx context.Context, store velox.StoreID, limit int) (list []Deletion, total int, err error) {
	rows, err := l.db.Pool.Query(ctx, `SELECT event_id, type, created_ms, deleted_at FROM reconciled.deletion
		WHERE store_id = $1 AND `+isHeld+` ORDER BY deleted_at DESC, event_id LIMIT $2`, store, limit)
	if err == nil {
		list, err = pgx.CollectRows(rows, pgx.RowToStructByPos[Deletion])
	}
	if err == nil {
		err = l.db.Pool.QueryRow(ctx, `SELECT count(*) FROM reconciled.deletion WHERE store_id = $1 AND `+isHeld, store).Scan(&total)
	}
	if err != nil {
		return nil, 0, fmt.Errorf("list held deletions: %w", err)
	}
	return list, total, nil
}

// HeldAmong are those of the events whose deletion waits for a person.
func (l *Log) HeldAmong(ctx context.Context, store velox.StoreID, events []uuid.UUID) ([]uuid.UUID, error) {
	rows, err := l.db.Pool.Query(ctx, `SELECT event_id FROM reconciled.deletion WHERE store_id = $1 AND event_id = ANY($2) AND `+isHeld, store, events)
	if err != nil {
		return nil, fmt.Errorf("look for held deletions: %w", err)
	}
	held, err := pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
	if err != nil {
		return nil, fmt.Errorf("look for held deletions: %w", err)
	}
	return held, nil
}

// ErrNotHeld: an event was to be released that is not held.
var ErrNotHeld = errors.New("event is not held")

// releasedNamed bounds the event ids that one audit row names.
const releasedNamed = 50

// Release lets held deletions be undone: of these events, or of all when events
// is empty. It releases all that are named or fails with ErrNotHeld.
func (l *Log) Release(ctx context.Context, grant lock.Grant, events []uuid.UUID, by string) (released []uuid.UUID, err error) {
	err = l.db.fenced(ctx, grant, func(ctx context.Context, tx pgx.Tx) error {
		rows, err := tx.Query(ctx, `UPDATE reconciled.deletion SET released_at = now(), released_by = $3
			WHERE store_id = $1 AND (event_id = ANY($2) OR cardinality($2::uuid[]) = 0) AND `+isHeld+` RETURNING event_id`,
			grant.Store, append([]uuid.UUID{}, events...), by)
		if err != nil {
			return fmt.Errorf("release deletions: %w", err)
		}
		if released, err = pgx.CollectRows(rows, pgx.RowTo[uuid.UUID]); err != nil {
			return fmt.Errorf("release deletions: %w", err)
		}
		if missing := without(events, released); len(missing) > 0 {
			return fmt.Errorf("%w: %s", ErrNotHeld, missing[0])
		}
		if len(released) == 0 {
			return nil
		}
		if _, err := tx.Exec(ctx, `DELETE FROM reconciled.exception WHERE store_id = $1 AND event_id = ANY($2)`, grant.Store, released); err != nil {
			return fmt.Errorf("settle exceptions: %w", err)
		}
		_, err = tx.Exec(ctx, `INSERT INTO reconciled.audit (actor, action, store_id, target, outcome, detail)
			VALUES ($1, 'event restore', $2, 'events', 'released', jsonb_build_object('count', $3::int, 'events', $4::uuid[]))`,
			by, grant.Store, len(released), released[:min(len(released), releasedNamed)])
		if err != nil {
			return fmt.Errorf("write audit: %w", err)
		}
		return nil
	})
	return released, err
}

// without is list less those that are in out.
func without(list, out []uuid.UUID) (rest []uuid.UUID) {
	set := make(map[uuid.UUID]bool, len(out))
	for _, id := range out {
		set[id] = true
	}
	for _, id := range list {
		if !set[id] {
			rest = append(rest, id)
		}
	}
	return rest
}
