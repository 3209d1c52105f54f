package postgres

import (
	"context"
	"encoding/hex"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/veloxpos/reconciled/internal/velox"
)

// Conflicts is what people read about events that contradict each other: those that the
// POS resolved by itself, and those of one id with two contents, which nobody has decided.
// Safe for concurrent use.
type Conflicts struct{ db *DB }

// NewConflicts returns the conflicts kept in db.
func NewConflicts(db *DB) *Conflicts { return &Conflicts{db: db} }

// Conflict is an event of which the other side has another content.
type Conflict struct {
	Event          uuid.UUID
	Type           velox.Type // "" when the event is here no more
	Here, There    string     // the contents' digests, in hex
	From           uuid.UUID  // the installation whose copy it is
	Recommendation string
	Found          time.Time
}

// Undecided lists a store's newest conflicts that nobody has decided, and counts all.
func (c *Conflicts) Undecided(ctx context.Context, store velox.StoreID, limit int) (list []Conflict, total int, err error) {
	rows, err := c.db.Pool.Query(ctx, `
		SELECT c.event_id, coalesce(e.type, ''), c.here_item, c.there_item, c.there_from, c.recommendation, c.found_at, count(*) OVER ()
		FROM reconciled.conflict c LEFT JOIN public.events e ON e.event_id = c.event_id
		WHERE c.store_id = $1 AND c.decided_at IS NULL ORDER BY c.found_at DESC, c.event_id, c.there_item LIMIT $2`, store, limit)
	if err != nil {
		return nil, 0, fmt.Errorf("list conflicts: %w", err)
	}
	list, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (o Conflict, err error) {
		var here, there []byte
		err = row.Scan(&o.Event, &o.Type, &here, &there, &o.From, &o.Recommendation, &o.Found, &total)
		o.Here, o.There = hex.EncodeToString(here), hex.EncodeToString(there)
		return o, err
	})
	if err != nil {
		return nil, 0, fmt.Errorf("list conflicts: %w", err)
	}
	return list, total, nil
}

// Resolution is a row of the POS's conflict_audit_log without the payloads, which have
// no bound.
type Resolution struct {
	ID         uuid.UUID
	EntityType string
	EntityID   string
	Winner     string   // event ids, as the POS wrote them
	Losers     []string // at most 20
	Strategy   string
	At         time.Time
	By         string
}

// Resolved lists what the POS resolved by itself, what was restored of it, and what a
// person decided, the latest first.
func (c *Conflicts) Resolved(ctx context.Context, store velox.StoreID, limit int) ([]Resolution, error) {
	rows, err := c.db.Pool.Query(ctx, `
		SELECT id, entity_type, coalesce(entity_id, ''), winner_event_id, ARRAY(SELECT left(l, 64) FROM unnest(loser_event_ids[1:20]) l),
			strategy, coalesce(resolved_at, 'epoch'), coalesce(resolved_by, '')
		FROM public.conflict_audit_log WHERE store_id = $1 ORDER BY resolved_at DESC, id LIMIT $2`, store, limit)
	if err != nil {
		return nil, fmt.Errorf("list resolutions: %w", err)
	}
	list, err := pgx.CollectRows(rows, pgx.RowToStructByPos[Resolution])
	if err != nil {
		return nil, fmt.Errorf("list resolutions: %w", err)
	}
	return list, nil
}
