package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/veloxpos/reconciled/internal/velox"
	"github.com/veloxpos/reconciled/lock"
)

// Pauses is where people stop all writing to a store's data for a while. Safe for
// concurrent use.
type Pauses struct{ db *DB }

// NewPauses returns the pauses kept in db.
func NewPauses(db *DB) *Pauses { return &Pauses{db: db} }

// Get describes the store's pause, nil when there is none.
func (p *Pauses) Get(ctx context.Context, store velox.StoreID) (*lock.PausedError, error) {
	return readPause(ctx, p.db.Pool, store)
}

// Check fails with a *lock.PausedError while the store is paused.
func (p *Pauses) Check(ctx context.Context, store velox.StoreID) error {
	return refusePaused(ctx, p.db.Pool, store)
}

// Begin pauses a store for this long by the database's clock, instead of a pause that
// there is. When it returns, writes that were in flight have ended.
//
// It works past the check that all writers make, and without the lock. A writer locks the
// fence row and then looks for a pause; this writes the pause and then asks for that row,
// so whoever did not see the pause is waited for.
func (p *Pauses) Begin(ctx context.Context, store velox.StoreID, length time.Duration, by, why string) (pause *lock.PausedError, err error) {
	err = p.db.transact(ctx, func(ctx context.Context, tx pgx.Tx) error {
		if err := NewFence(p.db).ensureRows(ctx, tx, store); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, `INSERT INTO reconciled.pause (store_id, until, by, why) VALUES ($1, clock_timestamp() + $2::interval, $3, $4)
			ON CONFLICT (store_id) DO UPDATE SET until = excluded.until, by = excluded.by, why = excluded.why, at = now()`, store, length, by, why)
		if err != nil {
			return fmt.Errorf("write pause: %w", err)
		}
		if pause, err = readPause(ctx, tx, store); err != nil || pause == nil {
			return err
		}
		return audit(ctx, tx, store, decision{
			actor: by, action: "pause", target: store.String(), outcome: "paused", detail: map[string]any{"until": pause.Until, "why": why},
		})
	})
	if err != nil {
		return nil, err
	}
	err = p.db.transact(ctx, func(ctx context.Context, tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `SELECT FROM reconciled.fence WHERE store_id = $1 FOR UPDATE`, store); err != nil {
			return fmt.Errorf("wait for writes in flight: %w", err)
		}
		return nil
	})
	return pause, err
}

// ErrNotPaused: there is no pause to end.
var ErrNotPaused = errors.New("the store is not paused")

// End ends a store's pause. It fails with ErrNotPaused when there is none.
func (p *Pauses) End(ctx context.Context, store velox.StoreID, by string) error {
	return p.db.transact(ctx, func(ctx context.Context, tx pgx.Tx) error {
		pause, err := readPause(ctx, tx, store)
		switch {
		case err != nil:
			return err
		case pause == nil:
			return fmt.Errorf("store %s: %w", store, ErrNotPaused)
		}
		if _, err := tx.Exec(ctx, `UPDATE reconciled.pause SET until = clock_timestamp() WHERE store_id = $1`, store); err != nil {
			return fmt.Errorf("end pause: %w", err)
		}
		return audit(ctx, tx, store, decision{
			actor: by, action: "pause", target: store.String(), outcome: "ended", detail: map[string]any{"until": pause.Until, "why": pause.Why},
		})
	})
}

// unpaused runs a write that needs no lease. FOR KEY SHARE holds up a pause, which waits
// for it, and no grant.
func (db *DB) unpaused(ctx context.Context, store velox.StoreID, write func(ctx context.Context, tx pgx.Tx) error) error {
	return db.transact(ctx, func(ctx context.Context, tx pgx.Tx) error {
		if err := NewFence(db).ensureRows(ctx, tx, store); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, `SELECT FROM reconciled.fence WHERE store_id = $1 FOR KEY SHARE`, store); err != nil {
			return fmt.Errorf("hold fence: %w", err)
		}
		if err := refusePaused(ctx, tx, store); err != nil {
			return err
		}
		return write(ctx, tx)
	})
}

func readPause(ctx context.Context, q querier, store velox.StoreID) (*lock.PausedError, error) {
	rows, err := q.Query(ctx, `SELECT until, by, why, until - clock_timestamp() FROM reconciled.pause WHERE store_id = $1 AND until > clock_timestamp()`, store)
	if err != nil {
		return nil, fmt.Errorf("read pause: %w", err)
	}
	pause, err := pgx.CollectExactlyOneRow(rows, func(row pgx.CollectableRow) (*lock.PausedError, error) {
		p := lock.PausedError{Store: store}
		return &p, row.Scan(&p.Until, &p.By, &p.Why, &p.RetryAfter)
	})
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("read pause: %w", err)
	}
	return pause, nil
}

// refusePaused is the check of everybody who writes a store's data. A transaction makes
// it after it has locked the fence row, in a statement of its own: the snapshot of the
// one that locks may be older than a pause that did not have to wait for it.
func refusePaused(ctx context.Context, q querier, store velox.StoreID) error {
	pause, err := readPause(ctx, q, store)
	if err == nil && pause != nil {
		err = pause
	}
	return err
}
