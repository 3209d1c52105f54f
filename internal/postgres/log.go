package postgres

import (
	"context"
	"fmt"

	"github.com/google/uuid"
	lru "github.com/hashicorp/golang-lru/v2"
	"github.com/jackc/pgx/v5"

	"github.com/veloxpos/reconciled/internal/velox"
	"github.com/veloxpos/reconciled/merkle"
	"github.com/veloxpos/reconciled/merkle/reconcile"
)

// Log is the event log of every store in a database, and the tree over each: a
// reconcile.Store and a reconcile.Archive. Safe for concurrent use.
type Log struct {
	db    *DB
	trees *lru.Cache[velox.StoreID, pinned]
}

var (
	_ reconcile.Store   = (*Log)(nil)
	_ reconcile.Archive = (*Log)(nil)
)

// treesHeld bounds the trees in memory; those that fall out are loaded again
// from their leaves.
const treesHeld = 256

// NewLog returns the log kept in db.
func NewLog(db *DB) *Log {
	trees, err := lru.New[velox.StoreID, pinned](treesHeld)
	if err != nil {
		panic(err) // only for a size that is not positive
	}
	return &Log{db: db, trees: trees}
}

// querier is a pool or a transaction.
type querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}

// itemColumns are what scanItem reads: the envelope's share of an item, and what
// was said. They follow velox.Event.Said and reconcile.Item.
const itemColumns = `e.event_id AS id, reconciled.ms(e.created_at) AS at, e.store_id, e.device_id, e.seq, e.type, e.version,
	coalesce(s.said, nullif(e.delta_payload, '{}'), e.payload), NULL::bytea`

// purgedColumns are the same of a declared purge, whose digest is all there is.
const purgedColumns = `d.event_id AS id, d.created_ms AS at, d.store_id, d.store_id, 0, d.type, 0, NULL, d.item`

func scanItem(row pgx.CollectableRow) (merkle.Item, error) {
	var (
		key    merkle.Key
		c      merkle.Content
		purged []byte
	)
	err := row.Scan(&key.ID, &key.At, &c.Store, &c.Device, &c.Seq, &c.Type, &c.Version, &c.Said, &purged)
	if err != nil {
		return merkle.Item{}, fmt.Errorf("scan item: %w", err)
	}
	if purged != nil {
		return merkle.Item{Key: key, Digest: merkle.Digest(purged)}, nil
	}
	return merkle.NewItem(key, c), nil
}

// eachItem reads the items of a store between two instants, in key order: those of
// its events and of declared purges.
func eachItem(ctx context.Context, q querier, store velox.StoreID, span merkle.Span, yield func(merkle.Item) error) error {
	rows, err := q.Query(ctx, `SELECT `+itemColumns+` FROM `+eventTables+`
		WHERE e.store_id = $1 AND e.created_at >= $2 AND e.created_at <= $3
		UNION ALL SELECT `+purgedColumns+` FROM `+purgedTables+` AND d.created_ms >= $4 AND d.created_ms <= $5
		ORDER BY at, id`, store, notBefore(span.From.At), notAfter(span.To.At), span.From.At, span.To.At)
	if err != nil {
		return fmt.Errorf("read items: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		item, err := scanItem(rows)
		if err != nil {
			return err
		}
		if span.Holds(item.Key) {
			if err := yield(item); err != nil {
				return err
			}
		}
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("read items: %w", err)
	}
	return nil
}

// Items are those of the events that the store holds or has purged, in any order.
func (l *Log) Items(ctx context.Context, store velox.StoreID, events []uuid.UUID) ([]merkle.Item, error) {
	rows, err := l.db.Pool.Query(ctx, `SELECT `+itemColumns+` FROM `+eventTables+`
		WHERE e.store_id = $1 AND e.event_id = ANY($2)
		UNION ALL SELECT `+purgedColumns+` FROM `+purgedTables+` AND d.event_id = ANY($2)`, store, events)
	if err != nil {
		return nil, fmt.Errorf("read items: %w", err)
	}
	return pgx.CollectRows(rows, scanItem)
}
