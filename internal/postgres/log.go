package postgres

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/uuid"
	lru "github.com/hashicorp/golang-lru/v2"
	"github.com/jackc/pgx/v5"

	"github.com/veloxpos/reconciled/internal/velox"
	"github.com/veloxpos/reconciled/merkle"
	"github.com/veloxpos/reconciled/merkle/reconcile"
)

// Log is the event log of every store in a database, and the tree over each: a
// reconcile.Store. Safe for concurrent use.
type Log struct {
	db    *DB
	trees *lru.Cache[velox.StoreID, pinned]
}

var _ reconcile.Store = (*Log)(nil)

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
const itemColumns = `e.event_id, reconciled.ms(e.created_at), e.store_id, e.device_id, e.seq, e.type, e.version,
	coalesce(s.said, nullif(e.delta_payload, '{}'), e.payload)`

func scanItem(row pgx.CollectableRow) (merkle.Item, error) {
	var (
		key merkle.Key
		c   merkle.Content
	)
	err := row.Scan(&key.ID, &key.At, &c.Store, &c.Device, &c.Seq, &c.Type, &c.Version, &c.Said)
	if err != nil {
		return merkle.Item{}, fmt.Errorf("scan item: %w", err)
	}
	return merkle.NewItem(key, c), nil
}

// eachItem reads the items of a store between two instants, in key order.
func eachItem(ctx context.Context, q querier, store velox.StoreID, span merkle.Span, yield func(merkle.Item) error) error {
	rows, err := q.Query(ctx, `SELECT `+itemColumns+` FROM `+eventTables+`
		WHERE e.store_id = $1 AND e.created_at >= $2 AND e.created_at <= $3
		ORDER BY reconciled.ms(e.created_at), e.event_id`, store, notBefore(span.From.At), notAfter(span.To.At))
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

// storeScanner is merkle.Scanner over one store's events.
type storeScanner struct {
	db    *DB
	store velox.StoreID
}

func (s storeScanner) Scan(ctx context.Context, span merkle.Span, yield func(merkle.Item) error) error {
	return eachItem(ctx, s.db.Pool, s.store, span, yield)
}

// Items are those of the events that the store holds, in any order.
func (l *Log) Items(ctx context.Context, store velox.StoreID, events []uuid.UUID) ([]merkle.Item, error) {
	rows, err := l.db.Pool.Query(ctx, `SELECT `+itemColumns+` FROM `+eventTables+`
		WHERE e.store_id = $1 AND e.event_id = ANY($2)`, store, events)
	if err != nil {
		return nil, fmt.Errorf("read items: %w", err)
	}
	return pgx.CollectRows(rows, scanItem)
}

// A page ends at 500 events or when they reach 1 MiB, whichever comes first.
const (
	pageEvents = 500
	pageBytes  = 1 << 20
)

// Page reads the next events of the spans, in key order, behind after.
func (l *Log) Page(ctx context.Context, store velox.StoreID, spans []merkle.Span, after *merkle.Key) (reconcile.Page, error) {
	var page reconcile.Page
	size := 0
	for _, span := range spans {
		if after != nil && span.To.Compare(*after) <= 0 {
			continue
		}
		full, err := l.addToPage(ctx, store, span, after, &page, &size)
		if full || err != nil {
			page.More = true
			return page, err
		}
	}
	return page, nil
}

// addToPage goes through a span in pieces that an index can bound: the key's order
// has none, since ms() rounds, but created_at has.
func (l *Log) addToPage(ctx context.Context, store velox.StoreID, span merkle.Span, after *merkle.Key, page *reconcile.Page, size *int) (full bool, err error) {
	if after != nil && span.From.Compare(*after) < 0 {
		span.From = *after
	}
	for {
		piece, more, err := l.piece(ctx, store, span, pageEvents+2)
		if err != nil {
			return false, err
		}
		full, err := l.addPiece(ctx, store, piece, after, page, size)
		if full || err != nil || !more {
			return full, err
		}
		span.From = merkle.Key{At: piece.To.At + 1}
	}
}

// piece is the beginning of a span, up to the end of the millisecond of its n-th
// event; all of it, and no more, when there are fewer.
func (l *Log) piece(ctx context.Context, store velox.StoreID, span merkle.Span, n int) (piece merkle.Span, more bool, err error) {
	var at int64
	err = l.db.Pool.QueryRow(ctx, `SELECT reconciled.ms(created_at) FROM public.events
		WHERE store_id = $1 AND created_at >= $2 AND created_at <= $3 ORDER BY created_at OFFSET $4 LIMIT 1`,
		store, notBefore(span.From.At), notAfter(span.To.At), n).Scan(&at)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return span, false, nil
	case err != nil:
		return span, false, fmt.Errorf("bound page: %w", err)
	case at >= span.To.At:
		return span, false, nil
	}
	last := merkle.Key{At: at}
	for i := range last.ID {
		last.ID[i] = 0xff
	}
	return merkle.Span{From: span.From, To: last}, true, nil
}

func (l *Log) addPiece(ctx context.Context, store velox.StoreID, span merkle.Span, after *merkle.Key, page *reconcile.Page, size *int) (full bool, err error) {
	rows, err := l.db.Pool.Query(ctx, `SELECT `+eventColumns+` FROM `+eventTables+`
		WHERE e.store_id = $1 AND e.created_at >= $2 AND e.created_at <= $3
		  AND (reconciled.ms(e.created_at), e.event_id) >= ($4, $5) AND (reconciled.ms(e.created_at), e.event_id) <= ($6, $7)
		ORDER BY reconciled.ms(e.created_at), e.event_id LIMIT $8`,
		store, notBefore(span.From.At), notAfter(span.To.At),
		span.From.At, uuid.UUID(span.From.ID), span.To.At, uuid.UUID(span.To.ID), pageEvents+2-len(page.Events))
	if err != nil {
		return false, fmt.Errorf("read page: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		e, err := scanEvent(rows)
		if err != nil {
			return false, err
		}
		if after != nil && reconcile.Key(&e).Compare(*after) <= 0 {
			continue
		}
		*size += len(e.Said()) + len(e.VectorClock)
		if n := len(page.Events); n == pageEvents || (n > 0 && *size > pageBytes) {
			return true, nil
		}
		page.Events = append(page.Events, e)
	}
	if err := rows.Err(); err != nil {
		return false, fmt.Errorf("read page: %w", err)
	}
	return false, nil
}
