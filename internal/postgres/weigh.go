package postgres

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/veloxpos/reconciled/internal/velox"
	"github.com/veloxpos/reconciled/merkle"
	"github.com/veloxpos/reconciled/merkle/reconcile"
)

// weighedColumns are what a weight is made of; weighedPurge the same of a declared
// purge, whose content is gone.
const (
	weighedColumns = `e.event_id AS id, reconciled.ms(e.created_at) AS at, e.type,
		octet_length(coalesce(s.said, nullif(e.delta_payload, '{}'), e.payload)::text) AS bytes`
	weighedPurge = `d.event_id, d.created_ms, d.type, 0`
)

// weighed are events and purges within spans; of each span's events the first $8 in
// the order of time, or all. created_at bounds what an index can, the key the rest.
var weighed = `unnest($2::timestamptz[], $3::timestamptz[], $4::bigint[], $5::uuid[], $6::bigint[], $7::uuid[])
		AS span (first, last, from_at, from_id, to_at, to_id)
	CROSS JOIN LATERAL (
		(SELECT ` + weighedColumns + ` FROM ` + eventTables + `
		WHERE e.store_id = $1 AND e.created_at >= span.first AND e.created_at <= span.last
		  AND (reconciled.ms(e.created_at), e.event_id) >= (span.from_at, span.from_id)
		  AND (reconciled.ms(e.created_at), e.event_id) <= (span.to_at, span.to_id)
		ORDER BY e.created_at LIMIT $8)
		UNION ALL SELECT ` + weighedPurge + ` FROM ` + purgedTables + `
		  AND (d.created_ms, d.event_id) >= (span.from_at, span.from_id)
		  AND (d.created_ms, d.event_id) <= (span.to_at, span.to_id)) w`

// Weigh counts the events that are wanted and what they say, in bytes, and names the
// first of them. A declared purge is an event without content.
func (l *Log) Weigh(ctx context.Context, store velox.StoreID, want merkle.Want) (reconcile.Weight, error) {
	if len(want.Picks) > 0 {
		return l.weighPicks(ctx, store, want)
	}
	var total reconcile.Weight
	for spans := range slices.Chunk(want.Spans, merkle.MaxWantSpans) {
		w, err := l.weighSpans(ctx, store, spans)
		if err != nil {
			return total, fmt.Errorf("weigh events: %w", err)
		}
		total = total.Plus(w)
	}
	return total, nil
}

func (l *Log) weighSpans(ctx context.Context, store velox.StoreID, spans []merkle.Span) (w reconcile.Weight, err error) {
	n := len(spans)
	first, last := make([]pgtype.Timestamptz, n), make([]pgtype.Timestamptz, n)
	fromAt, toAt := make([]int64, n), make([]int64, n)
	fromID, toID := make([]uuid.UUID, n), make([]uuid.UUID, n)
	for i, span := range spans {
		first[i], last[i] = notBefore(span.From.At), notAfter(span.To.At)
		fromAt[i], fromID[i] = span.From.At, span.From.ID
		toAt[i], toID[i] = span.To.At, span.To.ID
	}
	args := []any{store, first, last, fromAt, fromID, toAt, toID}
	err = l.db.Pool.QueryRow(ctx, `SELECT count(*), coalesce(sum(bytes), 0)::bigint FROM `+weighed, append(args, nil)...).Scan(&w.Events, &w.Bytes)
	if err != nil || w.Events == 0 {
		return w, err
	}
	rows, err := l.db.Pool.Query(ctx, `SELECT id, at, type FROM `+weighed+` ORDER BY at, id LIMIT $8`, append(args, reconcile.NamedAtMost)...)
	if err != nil {
		return w, err
	}
	w.First, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (e reconcile.Named, err error) {
		return e, row.Scan(&e.Event, &e.At, &e.Type)
	})
	return w, err
}

// weighPicks finds picked events by their items first, as a page of them does.
func (l *Log) weighPicks(ctx context.Context, store velox.StoreID, want merkle.Want) (w reconcile.Weight, err error) {
	spans := make([]merkle.Span, len(want.Picks))
	for i, p := range want.Picks {
		spans[i] = p.Span()
	}
	var ids []uuid.UUID
	err = storeScanner{l.db, store}.Scan(ctx, spans, func(item merkle.Item) error {
		if want.Holds(item) {
			ids = append(ids, item.Key.ID)
		}
		return nil
	})
	if err != nil {
		return w, err
	}
	rows, err := l.db.Pool.Query(ctx, `SELECT `+weighedColumns+` FROM `+eventTables+` WHERE e.store_id = $1 AND e.event_id = ANY($2)
		UNION ALL SELECT `+weighedPurge+` FROM `+purgedTables+` AND d.event_id = ANY($2) ORDER BY at, id`, store, ids)
	if err != nil {
		return w, fmt.Errorf("weigh events: %w", err)
	}
	var (
		e     reconcile.Named
		bytes int64
	)
	_, err = pgx.ForEachRow(rows, []any{&e.Event, &e.At, &e.Type, &bytes}, func() error {
		w.Events++
		w.Bytes += bytes
		if len(w.First) < reconcile.NamedAtMost {
			w.First = append(w.First, e)
		}
		return nil
	})
	if err != nil {
		return w, fmt.Errorf("weigh events: %w", err)
	}
	return w, nil
}

// Deleted says when the deletion of events was seen here, of those that were deleted
// and are not back.
func (l *Log) Deleted(ctx context.Context, store velox.StoreID, events []uuid.UUID) (map[uuid.UUID]time.Time, error) {
	rows, err := l.db.Pool.Query(ctx, `SELECT event_id, deleted_at FROM reconciled.deletion
		WHERE store_id = $1 AND event_id = ANY($2) AND restored_at IS NULL`, store, events)
	if err != nil {
		return nil, fmt.Errorf("look for deletions: %w", err)
	}
	deleted := map[uuid.UUID]time.Time{}
	var (
		event uuid.UUID
		at    time.Time
	)
	_, err = pgx.ForEachRow(rows, []any{&event, &at}, func() error {
		deleted[event] = at
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("look for deletions: %w", err)
	}
	return deleted, nil
}
