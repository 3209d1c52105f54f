package postgres

import (
	"context"
	"errors"
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

// Standing is central's root row, whether anything waits in the dirty log, and what
// is remembered of an installation: one trip to the database.
func (l *Log) Standing(ctx context.Context, store velox.StoreID, installation uuid.UUID) (s reconcile.Standing, err error) {
	var (
		count, agreed *int64
		taken         *int
		whole         bool
		at            *time.Time

		digest, offered, confirmed, agreedRoot, wholeRoot, list []byte
	)
	batch := &pgx.Batch{}
	captured := false
	batch.Queue(lookAtCapture).QueryRow(func(row pgx.Row) (err error) {
		captured, err = isCaptured(row)
		return err
	})
	batch.Queue(`
		SELECT r.count, r.digest, r.digest_version, NOT EXISTS (SELECT FROM reconciled.dirty d WHERE d.store_id = $1),
		       w.offered, w.confirmed, w.agreed_count, w.agreed_root, w.whole_root, w.agreed_at, w.list
		FROM (SELECT) one
		LEFT JOIN reconciled.root r ON r.store_id = $1
		LEFT JOIN reconciled.witness w ON w.store_id = $1 AND w.installation_id = $2`, store, installation).
		QueryRow(func(row pgx.Row) error {
			return row.Scan(&count, &digest, &taken, &whole, &offered, &confirmed, &agreed, &agreedRoot, &wholeRoot, &at, &list)
		})
	if err := l.db.Pool.SendBatch(ctx, batch).Close(); err != nil {
		return s, fmt.Errorf("read standing of store %s: %w", store, err)
	}
	if count != nil {
		s.Root = merkle.Summary{Count: uint64(*count), Digest: digestOf(digest)}
		s.Clean = captured && whole && *taken == merkle.DigestVersion
	}
	copy(s.Offered[:], offered)
	copy(s.Confirmed[:], confirmed)
	copy(s.List[:], list)
	if agreed != nil {
		s.Agreed = merkle.Summary{Count: uint64(*agreed), Digest: digestOf(agreedRoot)}
		s.Whole = digestOf(wholeRoot)
	}
	if at != nil {
		s.At = *at
	}
	return s, nil
}

func digestOf(b []byte) (d merkle.Digest) {
	copy(d[:], b)
	return d
}

func tokenOrNull(t merkle.Token) []byte {
	if t == (merkle.Token{}) {
		return nil
	}
	return t[:]
}

// installationsAtMost are remembered of a store, those that were seen last: whoever
// has its token may claim any.
const installationsAtMost = 16

// Remember writes the memory of an installation down, unless it is another by now
// than it was read, with the highest numbers of slots that have changed since it last
// did.
func (l *Log) Remember(ctx context.Context, store velox.StoreID, installation uuid.UUID, was, m reconcile.Memory) error {
	err := l.db.transact(ctx, func(ctx context.Context, tx pgx.Tx) error {
		var at *time.Time
		if !m.At.IsZero() {
			at = &m.At
		}
		_, err := tx.Exec(ctx, `
			INSERT INTO reconciled.witness AS w (store_id, installation_id, offered, confirmed, agreed_count, agreed_root, whole_root, agreed_at)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
			ON CONFLICT (store_id, installation_id) DO UPDATE SET offered = excluded.offered, confirmed = excluded.confirmed,
				agreed_count = excluded.agreed_count, agreed_root = excluded.agreed_root, whole_root = excluded.whole_root,
				agreed_at = excluded.agreed_at, last_seen = now()
			WHERE w.offered IS NOT DISTINCT FROM $9 AND w.confirmed IS NOT DISTINCT FROM $10`,
			store, installation, tokenOrNull(m.Offered), tokenOrNull(m.Confirmed), int64(m.Agreed.Count), m.Agreed.Digest[:], m.Whole[:], at,
			tokenOrNull(was.Offered), tokenOrNull(was.Confirmed))
		if err == nil {
			err = forgetOldest(ctx, tx, store)
		}
		if err != nil {
			return err
		}
		return noteHighest(ctx, tx, store)
	})
	if err != nil {
		return fmt.Errorf("remember installation %s: %w", installation, err)
	}
	return nil
}

func forgetOldest(ctx context.Context, tx pgx.Tx, store velox.StoreID) error {
	_, err := tx.Exec(ctx, `DELETE FROM reconciled.witness WHERE store_id = $1 AND installation_id IN (
		SELECT installation_id FROM reconciled.witness WHERE store_id = $1 ORDER BY last_seen DESC, installation_id OFFSET $2)`, store, installationsAtMost)
	if err != nil {
		return fmt.Errorf("forget installations: %w", err)
	}
	return nil
}

// notedAtOnce bounds the slots that one call takes numbers from: the first time there
// are as many as the log is long.
const notedAtOnce = 256

// noteHighest takes the highest seq of each device and the highest fiscal number of
// each series from the slots that have changed since the last time.
func noteHighest(ctx context.Context, tx pgx.Tx, store velox.StoreID) error {
	rows, err := tx.Query(ctx, `DELETE FROM reconciled.worklist WHERE consumer = $2 AND store_id = $1 AND slot IN (
		SELECT slot FROM reconciled.worklist WHERE consumer = $2 AND store_id = $1 ORDER BY slot DESC LIMIT $3) RETURNING slot`, store, anchorConsumer, notedAtOnce)
	if err != nil {
		return fmt.Errorf("take changed slots: %w", err)
	}
	slots, err := pgx.CollectRows(rows, pgx.RowTo[int64])
	if err != nil {
		return fmt.Errorf("take changed slots: %w", err)
	}
	slices.Sort(slots)
	var first, last []pgtype.Timestamptz
	for _, run := range adjacent(slots) {
		span := merkle.Area{First: run.first, Last: run.last}.Span()
		first, last = append(first, notBefore(span.From.At)), append(last, notAfter(span.To.At))
	}
	_, err = tx.Exec(ctx, `
		WITH said AS (
			SELECT e.device_id, e.seq, e.type, coalesce(nullif(e.delta_payload, '{}'), e.payload) AS said
			FROM unnest($2::timestamptz[], $3::timestamptz[]) AS range (first, last)
			CROSS JOIN LATERAL (SELECT * FROM public.events e
				WHERE e.store_id = $1 AND e.created_at >= range.first AND e.created_at <= range.last) e),
		numbers AS (
			SELECT 'seq' AS kind, device_id::text AS of, max(seq) AS value FROM said GROUP BY 2
			UNION ALL
			SELECT 'fiscal', coalesce(said ->> 'invoice_series_id', ''), max(substring(said ->> 'fiscal_number' FROM '([0-9]{1,18})$')::bigint)
			FROM said WHERE type = $4 AND said ->> 'fiscal_number' ~ '[0-9]$' GROUP BY 2)
		INSERT INTO reconciled.highest AS h (store_id, kind, of, value)
		SELECT $1, kind, of, value FROM numbers WHERE value IS NOT NULL
		ON CONFLICT (store_id, kind, of) DO UPDATE SET value = greatest(h.value, excluded.value), seen_at = now()
		WHERE h.value < excluded.value`, store, first, last, velox.SaleCreated)
	if err != nil {
		return fmt.Errorf("note highest numbers: %w", err)
	}
	return nil
}

// Listed is the list of exceptions that an installation sent last.
func (l *Log) Listed(ctx context.Context, store velox.StoreID, installation uuid.UUID) ([]merkle.Exception, error) {
	var listed []byte
	err := l.db.Pool.QueryRow(ctx, `SELECT listed FROM reconciled.witness WHERE store_id = $1 AND installation_id = $2`, store, installation).Scan(&listed)
	if err != nil && !errors.Is(err, pgx.ErrNoRows) {
		return nil, fmt.Errorf("read list of exceptions: %w", err)
	}
	const each = 32
	list := make([]merkle.Exception, len(listed)/each)
	for i := range list {
		copy(list[i].ID[:], listed[i*each:])
		copy(list[i].Digest[:], listed[i*each+16:])
	}
	return list, nil
}

// Enlist keeps the list of exceptions that an installation sends.
func (l *Log) Enlist(ctx context.Context, store velox.StoreID, installation uuid.UUID, list []merkle.Exception) error {
	token := merkle.ListToken(list)
	var listed []byte
	for _, e := range list {
		listed = append(append(listed, e.ID[:]...), e.Digest[:]...)
	}
	err := l.db.transact(ctx, func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `INSERT INTO reconciled.witness (store_id, installation_id, list, listed) VALUES ($1, $2, $3, $4)
			ON CONFLICT (store_id, installation_id) DO UPDATE SET list = excluded.list, listed = excluded.listed, last_seen = now()`,
			store, installation, tokenOrNull(token), listed)
		if err != nil {
			return err
		}
		return forgetOldest(ctx, tx, store)
	})
	if err != nil {
		return fmt.Errorf("keep list of exceptions: %w", err)
	}
	return nil
}
