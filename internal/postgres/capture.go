package postgres

import (
	"context"
	"errors"
	"fmt"
	"strings"

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

// content are the columns that a change of an event shows in (00005_evidence.sql),
// each behind a prefix.
func content(prefix string) string {
	return prefix + strings.Join([]string{
		"event_id", "store_id", "device_id", "seq", "type", "version", "created_at",
		"payload", "delta_payload", "conflict_status", "full_payload_hash",
	}, ", "+prefix)
}

// lookAtCapture compares the triggers with the statements that make them, as the
// server prints those, on the log and on every table that inherits from it. The
// fingerprint holds each catalog row's xmin, so that a trigger that was disabled and
// enabled again shows too.
var lookAtCapture = `
	WITH RECURSIVE log (id, kind) AS (
		SELECT c.oid, c.relkind FROM pg_catalog.pg_class c WHERE c.oid = to_regclass('public.events')
		UNION
		SELECT c.oid, c.relkind FROM log JOIN pg_catalog.pg_inherits i ON i.inhparent = log.id JOIN pg_catalog.pg_class c ON c.oid = i.inhrelid),
	want (name, event, action) AS (VALUES
		('reconciled_insert', 'INSERT', 'FOR EACH ROW EXECUTE FUNCTION reconciled.capture_insert()'),
		('reconciled_update', 'UPDATE OF ` + content("") + `', 'FOR EACH ROW WHEN ((ROW(` + content("old.") + `)::reconciled.content *<> ROW(` +
	content("new.") + `)::reconciled.content)) EXECUTE FUNCTION reconciled.capture_update()'),
		('reconciled_delete', 'DELETE', 'REFERENCING OLD TABLE AS old_rows FOR EACH STATEMENT EXECUTE FUNCTION reconciled.capture_delete()'),
		('reconciled_truncate', 'TRUNCATE', 'FOR EACH STATEMENT EXECUTE FUNCTION reconciled.capture_truncate()'))
	SELECT coalesce(string_agg(format('%s %s %s %s %s', log.id, log.kind, t.oid, t.xmin,
			(SELECT p.xmin FROM pg_catalog.pg_proc p WHERE p.oid = t.tgfoid)), ', ' ORDER BY log.id, want.name), ''),
		coalesce(string_agg(want.name || CASE log.id WHEN to_regclass('public.events') THEN '' ELSE ' on ' || log.id::regclass END, ', '
			ORDER BY log.id, want.name) FILTER (WHERE t.oid IS NULL), ''),
		coalesce(bool_or(log.kind = 'p'), false),
		(SELECT fingerprint FROM reconciled.capture)
	FROM log CROSS JOIN want
	LEFT JOIN LATERAL ( -- OFFSET 0 keeps the plan to the index of trigger names
		SELECT t.xmin, t.* FROM pg_catalog.pg_trigger t WHERE t.tgrelid = log.id AND t.tgname = want.name::name OFFSET 0) t
	ON t.tgenabled IN ('O', 'A') AND pg_get_triggerdef(t.oid) = format('CREATE TRIGGER %s AFTER %s ON %s %s', want.name, want.event,
		(SELECT format('%I.%I', n.nspname, c.relname) FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = log.id),
		want.action)`

// isCaptured reads a row of lookAtCapture: whether all is as it was when it was last
// found whole.
func isCaptured(row pgx.Row) (bool, error) {
	var (
		now, wrong  string
		partitioned bool
		before      *string
	)
	err := row.Scan(&now, &wrong, &partitioned, &before)
	return now != "" && wrong == "" && !partitioned && before != nil && *before == now, err
}

// captureHolds fails with ErrCapture when a trigger is not as it must be. When all
// are, but something about them is another than it was, changes may have gone past
// them: every tree is computed anew.
func captureHolds(ctx context.Context, tx pgx.Tx) error {
	var (
		now, wrong  string
		partitioned bool
		before      *string
	)
	if err := tx.QueryRow(ctx, lookAtCapture).Scan(&now, &wrong, &partitioned, &before); err != nil {
		return fmt.Errorf("look at triggers: %w", err)
	}
	switch {
	case now == "":
		return fmt.Errorf("%w: there is no table public.events", ErrCapture)
	case partitioned: // an update that moves an event to another partition calls no trigger of the row
		return fmt.Errorf("%w: public.events is partitioned", ErrCapture)
	case wrong != "":
		return fmt.Errorf("%w: triggers on public.events are missing, disabled or others: %s; ALTER TABLE public.events ENABLE TRIGGER enables one",
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
