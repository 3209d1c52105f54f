package postgres

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/veloxpos/reconciled/internal/velox"
)

// Run is a row of the run history.
type Run struct {
	ID       uuid.UUID
	Task     string
	Store    velox.StoreID
	Trigger  string // schedule, start, api, cli
	State    string // running, succeeded, failed, held, interrupted
	Verdict  string
	Error    string
	Report   json.RawMessage
	Started  time.Time
	Finished time.Time // zero while it runs
}

// Runs is the history of what the daemon did, for every store.
type Runs struct{ db *DB }

// NewRuns returns the history kept in db.
func NewRuns(db *DB) *Runs { return &Runs{db: db} }

// Save writes a run, or what it has become.
func (r *Runs) Save(ctx context.Context, run Run) error {
	var finished *time.Time
	if !run.Finished.IsZero() {
		finished = &run.Finished
	}
	_, err := r.db.Pool.Exec(ctx, `
		INSERT INTO reconciled.run (id, task, store_id, trigger, state, verdict, report, error, started_at, finished_at)
		VALUES ($1, $2, $3, $4, $5, nullif($6, ''), $7, nullif($8, ''), $9, $10)
		ON CONFLICT (id) DO UPDATE SET state = excluded.state, verdict = excluded.verdict, report = excluded.report,
			error = excluded.error, finished_at = excluded.finished_at`,
		run.ID, run.Task, run.Store, run.Trigger, run.State, run.Verdict, []byte(run.Report), run.Error, run.Started, finished)
	if err != nil {
		return fmt.Errorf("save run %s: %w", run.ID, err)
	}
	return nil
}

const runColumns = `id, task, store_id, trigger, state, coalesce(verdict, ''), coalesce(error, ''), report, started_at,
	coalesce(finished_at, 'epoch')`

func scanRun(row pgx.CollectableRow) (Run, error) {
	var run Run
	err := row.Scan(&run.ID, &run.Task, &run.Store, &run.Trigger, &run.State, &run.Verdict, &run.Error, (*[]byte)(&run.Report),
		&run.Started, &run.Finished)
	if run.Finished.Unix() == 0 {
		run.Finished = time.Time{}
	}
	return run, err
}

// Get reads a run; found is false when there is none with this id.
func (r *Runs) Get(ctx context.Context, id uuid.UUID) (run Run, found bool, err error) {
	return r.one(ctx, `SELECT `+runColumns+` FROM reconciled.run WHERE id = $1`, id)
}

// Last reads the newest ended run of a task, and the newest that succeeded.
func (r *Runs) Last(ctx context.Context, store velox.StoreID, task string) (last, success Run, err error) {
	const newest = `SELECT ` + runColumns + ` FROM reconciled.run WHERE store_id = $1 AND task = $2 AND state = ANY($3)
		ORDER BY started_at DESC LIMIT 1`
	last, _, err = r.one(ctx, newest, store, task, []string{"succeeded", "failed", "interrupted"})
	if err != nil {
		return last, success, err
	}
	success, _, err = r.one(ctx, newest, store, task, []string{"succeeded"})
	return last, success, err
}

// listedError bounds the error of a run that is listed: a panic's holds its stack.
const listedError = 500

// List reads a store's newest runs, of one task or of every one when task is "", without
// their reports.
func (r *Runs) List(ctx context.Context, store velox.StoreID, task string, limit int) ([]Run, error) {
	rows, err := r.db.Pool.Query(ctx, `SELECT id, task, store_id, trigger, state, coalesce(verdict, ''), coalesce(left(error, $4), ''), NULL::jsonb,
			started_at, coalesce(finished_at, 'epoch')
		FROM reconciled.run WHERE store_id = $1 AND $2 IN ('', task) ORDER BY started_at DESC, id DESC LIMIT $3`, store, task, limit, listedError)
	if err != nil {
		return nil, fmt.Errorf("list runs: %w", err)
	}
	list, err := pgx.CollectRows(rows, scanRun)
	if err != nil {
		return nil, fmt.Errorf("list runs: %w", err)
	}
	return list, nil
}

func (r *Runs) one(ctx context.Context, sql string, args ...any) (run Run, found bool, err error) {
	rows, err := r.db.Pool.Query(ctx, sql, args...)
	if err == nil {
		run, err = pgx.CollectExactlyOneRow(rows, scanRun)
	}
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return run, false, nil
	case err != nil:
		return run, false, fmt.Errorf("read run: %w", err)
	}
	return run, true, nil
}

// historyKept is how long ended runs are kept.
const historyKept = 90 * 24 * time.Hour

// Tidy marks runs whose process died as interrupted (nobody holds a lease for
// them any more) and forgets those older than 90 days.
func (r *Runs) Tidy(ctx context.Context, store velox.StoreID) error {
	_, err := r.db.Pool.Exec(ctx, `
		UPDATE reconciled.run AS r SET state = 'interrupted', finished_at = now(), error = 'the process that ran it is gone'
		WHERE r.store_id = $1 AND r.state = 'running' AND NOT EXISTS (
			SELECT FROM reconciled.lease l WHERE l.run_id = r.id AND l.holder <> '' AND l.expires_at > clock_timestamp())
		  AND r.started_at < now() - interval '5 seconds'`, store)
	if err == nil {
		_, err = r.db.Pool.Exec(ctx, `DELETE FROM reconciled.run WHERE store_id = $1 AND started_at < now() - $2::interval`, store, historyKept)
	}
	if err != nil {
		return fmt.Errorf("tidy runs: %w", err)
	}
	return nil
}
