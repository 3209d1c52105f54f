package postgres

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// ErrCapture: changes of the event log are not captured, so the tree would lie.
var ErrCapture = errors.New("capture is broken")

// CheckCapture fails with ErrCapture unless every change of the log reaches the
// dirty log.
func (db *DB) CheckCapture(ctx context.Context) error {
	return db.whileCaptured(ctx, func(context.Context, pgx.Tx) error { return nil })
}

// whileCaptured is transact for work that relies on the dirty log: capture is
// looked at first, by the transaction itself, and what is wrong with it is kept.
func (db *DB) whileCaptured(ctx context.Context, work func(ctx context.Context, tx pgx.Tx) error) error {
	err := db.transact(ctx, func(ctx context.Context, tx pgx.Tx) error {
		if err := captureHolds(ctx, tx); err != nil {
			return err
		}
		return work(ctx, tx)
	})
	if errors.Is(err, ErrCapture) {
		err = errors.Join(err, db.noteBroken(ctx, err.Error()))
	}
	return err
}

// lookAtCapture compares the triggers with what they must be (tgtype: a statement
// trigger AFTER INSERT is 4, DELETE 8, UPDATE 16, TRUNCATE 32), on the log and on
// every table below it: a statement trigger of a partitioned table does not see
// what is done to a partition directly. The fingerprint holds each catalog row's
// xmin, so that a trigger that was disabled and enabled again shows too.
const lookAtCapture = `
	WITH RECURSIVE log (id, kind) AS (
		SELECT c.oid, c.relkind FROM pg_catalog.pg_class c WHERE c.oid = to_regclass('public.events')
		UNION
		SELECT c.oid, c.relkind FROM log JOIN pg_catalog.pg_inherits i ON i.inhparent = log.id JOIN pg_catalog.pg_class c ON c.oid = i.inhrelid),
	want (name, function, kind) AS (VALUES
		('reconciled_insert', to_regproc('reconciled.capture_insert'), 4), ('reconciled_update', to_regproc('reconciled.capture_update'), 16),
		('reconciled_delete', to_regproc('reconciled.capture_delete'), 8), ('reconciled_truncate', to_regproc('reconciled.capture_truncate'), 32))
	SELECT coalesce(string_agg(format('%s %s %s %s %s', log.id, log.kind, t.oid, t.xmin,
			(SELECT p.xmin FROM pg_catalog.pg_proc p WHERE p.oid = t.tgfoid)), ', ' ORDER BY log.id, want.name), ''),
		coalesce(string_agg(want.name || CASE log.id WHEN to_regclass('public.events') THEN '' ELSE ' on partition ' || log.id::regclass END, ', '
			ORDER BY log.id, want.name) FILTER (WHERE t.oid IS NULL), ''),
		(SELECT fingerprint FROM reconciled.capture)
	FROM log CROSS JOIN want
	LEFT JOIN LATERAL ( -- OFFSET 0 keeps the plan to the index of trigger names
		SELECT t.xmin, t.* FROM pg_catalog.pg_trigger t WHERE t.tgrelid = log.id AND t.tgname = want.name::name OFFSET 0) t
	ON t.tgfoid = want.function AND t.tgtype = want.kind AND t.tgenabled IN ('O', 'A') AND t.tgqual IS NULL AND t.tgattr = ''::int2vector`

// captureHolds fails with ErrCapture when a trigger is not as it must be. When all
// are, but something about them is another than it was, changes may have gone past
// them: every tree is computed anew.
func captureHolds(ctx context.Context, tx pgx.Tx) error {
	var (
		now, wrong string
		before     *string
	)
	if err := tx.QueryRow(ctx, lookAtCapture).Scan(&now, &wrong, &before); err != nil {
		return fmt.Errorf("look at triggers: %w", err)
	}
	switch {
	case now == "":
		return fmt.Errorf("%w: there is no table public.events", ErrCapture)
	case wrong != "":
		return fmt.Errorf("%w: triggers on public.events are missing or disabled: %s; ALTER TABLE public.events ENABLE TRIGGER brings one back",
			ErrCapture, wrong)
	case before == nil:
		_, err := tx.Exec(ctx, `INSERT INTO reconciled.capture (fingerprint) VALUES ($1) ON CONFLICT DO NOTHING`, now)
		if err != nil {
			return fmt.Errorf("keep fingerprint of triggers: %w", err)
		}
		return nil
	case *before != now:
		return captureAnew(ctx, tx, now)
	}
	return nil
}

func captureAnew(ctx context.Context, tx pgx.Tx, now string) error {
	var known, noted bool
	err := tx.QueryRow(ctx, `SELECT fingerprint = $1, broken_since IS NOT NULL FROM reconciled.capture FOR UPDATE`, now).Scan(&known, &noted)
	if err != nil {
		return fmt.Errorf("lock fingerprint of triggers: %w", err)
	}
	if known {
		return nil // another drain was faster
	}
	if !noted {
		if err := blameCapture(ctx, tx, "the events table or its triggers were made anew, or disabled for a time"); err != nil {
			return err
		}
	}
	rows, err := tx.Query(ctx, `SELECT store_id FROM reconciled.root ORDER BY store_id`)
	if err != nil {
		return fmt.Errorf("list trees: %w", err)
	}
	stores, err := pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
	if err != nil {
		return fmt.Errorf("list trees: %w", err)
	}
	for _, store := range stores {
		if err := markAll(ctx, tx, store); err != nil {
			return err
		}
	}
	_, err = tx.Exec(ctx, `UPDATE reconciled.deletion d SET restored_at = now() WHERE d.restored_at IS NULL
		AND EXISTS (SELECT FROM public.events e WHERE e.event_id = d.event_id AND e.store_id = d.store_id)`)
	if err == nil {
		_, err = tx.Exec(ctx, `UPDATE reconciled.capture SET fingerprint = $1, checked_at = now(), broken_since = NULL`, now)
	}
	if err != nil {
		return fmt.Errorf("keep fingerprint of triggers: %w", err)
	}
	return nil
}

// noteBroken keeps that capture was found broken, and since when: whoever saw it
// has no transaction left.
func (db *DB) noteBroken(ctx context.Context, why string) error {
	return db.transact(ctx, func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `INSERT INTO reconciled.capture AS c (fingerprint, broken_since) VALUES ('', now())
			ON CONFLICT (singleton) DO UPDATE SET fingerprint = '', broken_since = now(), checked_at = now() WHERE c.broken_since IS NULL`)
		if err != nil {
			return fmt.Errorf("note broken capture: %w", err)
		}
		return blameCapture(ctx, tx, why)
	})
}

// blameCapture is evidence against every tree there is, unless that is open already.
func blameCapture(ctx context.Context, tx pgx.Tx, why string) error {
	_, err := tx.Exec(ctx, `INSERT INTO reconciled.evidence (store_id, kind, detail) SELECT store_id, 'capture', $1 FROM reconciled.root
		ON CONFLICT DO NOTHING`, why)
	if err != nil {
		return fmt.Errorf("write evidence: %w", err)
	}
	return nil
}
