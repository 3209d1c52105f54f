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
)

// Outbox is what people read and decide about the POS's outbox: what still has to be
// projected or relayed, and what it has given up. Safe for concurrent use.
type Outbox struct{ db *DB }

// NewOutbox returns the outbox of db.
func NewOutbox(db *DB) *Outbox { return &Outbox{db: db} }

// The entries (o) that are not done with. The POS tries an entry ten times. A dead one,
// as in the runbook, has failed or has had its tries. A zombie (D35 of the event reference)
// is dead and does not say so: its status is pending, and the POS never looks at it again.
const (
	isPending = `o.status = 'pending' AND coalesce(o.retry_count, 0) < 10`
	isZombie  = `o.status = 'pending' AND coalesce(o.retry_count, 0) >= 10`
	isDead    = `(o.status = 'failed' OR ` + isZombie + `)`
)

// OutboxFilter chooses entries: the dead, the pending, or both.
type OutboxFilter struct {
	Pending, Dead bool
	After         uuid.NullUUID // the last entry of the page before
	Limit         int
}

// OutboxEntry is an entry that is not done with.
type OutboxEntry struct {
	ID         uuid.UUID
	Event      string // what stands there: the POS does not check it
	Type       string
	Target     string // projection, federation-relay
	Status     string
	Error      string // its beginning
	Retries    int
	Created    time.Time
	Dead       bool
	Zombie     bool
	EventKnown bool // the event is in the log
}

// OutboxCount says how many entries of a target are not done with.
type OutboxCount struct {
	Target                 string
	Pending, Dead, Zombies int64 // zombies are among the dead
}

// outboxError bounds an entry's error.
const outboxError = 500

// List reads a page of entries, the oldest first, counts all, and says whether there are
// more. It fails with ErrNoEntry when After is none.
func (o *Outbox) List(ctx context.Context, store velox.StoreID, filter OutboxFilter) (page []OutboxEntry, counts []OutboxCount, more bool, err error) {
	err = pgx.BeginTxFunc(ctx, o.db.Pool, pgx.TxOptions{AccessMode: pgx.ReadOnly, IsoLevel: pgx.RepeatableRead}, func(tx pgx.Tx) error {
		counts, err = countOutbox(ctx, tx, store)
		if err == nil {
			page, err = pageOutbox(ctx, tx, store, filter)
		}
		return err
	})
	if more = len(page) > filter.Limit; more {
		page = page[:filter.Limit]
	}
	return page, counts, more, err
}

func countOutbox(ctx context.Context, tx pgx.Tx, store velox.StoreID) ([]OutboxCount, error) {
	rows, err := tx.Query(ctx, `SELECT target, count(*) FILTER (WHERE `+isPending+`), count(*) FILTER (WHERE `+isDead+`), count(*) FILTER (WHERE `+isZombie+`)
		FROM public.outbox_entries o WHERE store_id = $1 AND status IN ('pending', 'failed') GROUP BY target ORDER BY target`, store)
	if err != nil {
		return nil, fmt.Errorf("count outbox: %w", err)
	}
	counts, err := pgx.CollectRows(rows, pgx.RowToStructByPos[OutboxCount])
	if err != nil {
		return nil, fmt.Errorf("count outbox: %w", err)
	}
	return counts, nil
}

// pageOutbox reads one entry more than the page holds, if there is one.
func pageOutbox(ctx context.Context, tx pgx.Tx, store velox.StoreID, filter OutboxFilter) ([]OutboxEntry, error) {
	var behind time.Time // when After was made; before everything when there is none
	if filter.After.Valid {
		err := tx.QueryRow(ctx, `SELECT coalesce(created_at, 'epoch') FROM public.outbox_entries WHERE store_id = $1 AND id = $2`, store, filter.After.UUID).Scan(&behind)
		if errors.Is(err, pgx.ErrNoRows) {
			return nil, fmt.Errorf("%w: %s", ErrNoEntry, filter.After.UUID)
		}
		if err != nil {
			return nil, fmt.Errorf("find outbox entry: %w", err)
		}
	}
	rows, err := tx.Query(ctx, `
		SELECT o.id, o.event_id, o.event_type, o.target, o.status, coalesce(left(o.error, $7), ''), coalesce(o.retry_count, 0), o.made, `+isDead+`, `+isZombie+`,
			EXISTS (SELECT FROM public.events e WHERE e.event_id = reconciled.try_uuid(o.event_id) AND e.store_id = $1)
		FROM (SELECT *, coalesce(created_at, 'epoch') AS made FROM public.outbox_entries o
			WHERE store_id = $1 AND ($2 AND `+isPending+` OR $3 AND `+isDead+`) AND (coalesce(created_at, 'epoch'), id) > ($4, $5)
			ORDER BY made, id LIMIT $6) o
		ORDER BY o.made, o.id`, store, filter.Pending, filter.Dead, behind, filter.After.UUID, filter.Limit+1, outboxError)
	if err != nil {
		return nil, fmt.Errorf("list outbox: %w", err)
	}
	page, err := pgx.CollectRows(rows, pgx.RowToStructByPos[OutboxEntry])
	if err != nil {
		return nil, fmt.Errorf("list outbox: %w", err)
	}
	return page, nil
}

// ErrNoEntry: an id is not that of an entry of the store's that is not done with.
var ErrNoEntry = errors.New("there is no such open outbox entry")

// Retry lets the POS try entries again as if they were new: all of them, or it fails
// with ErrNoEntry, which names the first that is not there or is done with by now. One
// that the POS is at work on is waited for.
func (o *Outbox) Retry(ctx context.Context, grant lock.Grant, ids []uuid.UUID, by, why string) error {
	type before struct {
		ID      uuid.UUID `json:"id"`
		Status  string    `json:"status"`
		Retries int       `json:"retry_count"`
		Error   string    `json:"error"`
	}
	return o.db.fenced(ctx, grant, func(ctx context.Context, tx pgx.Tx) error {
		rows, err := tx.Query(ctx, `
			WITH chosen AS (
				SELECT id, status, coalesce(retry_count, 0) AS retries, coalesce(left(error, $3), '') AS error FROM public.outbox_entries
				WHERE store_id = $1 AND id = ANY($2) AND status IN ('pending', 'failed') ORDER BY id FOR UPDATE)
			UPDATE public.outbox_entries o SET status = 'pending', retry_count = 0, error = NULL, processed_at = NULL
			FROM chosen c WHERE o.id = c.id RETURNING c.id, c.status, c.retries, c.error`, grant.Store, ids, outboxError)
		if err != nil {
			return fmt.Errorf("set outbox entries back: %w", err)
		}
		was, err := pgx.CollectRows(rows, pgx.RowToStructByPos[before])
		if err != nil {
			return fmt.Errorf("set outbox entries back: %w", err)
		}
		found := make([]uuid.UUID, len(was))
		for i, entry := range was {
			found[i] = entry.ID
		}
		if missing := without(ids, found); len(missing) > 0 {
			return fmt.Errorf("%w: %s", ErrNoEntry, missing[0])
		}
		return audit(ctx, tx, grant.Store, decision{
			actor: by, action: "outbox retry", target: "outbox_entries", outcome: "pending",
			detail: map[string]any{"why": why, "count": len(was), "entries": was[:min(len(was), releasedNamed)]},
		})
	})
}
