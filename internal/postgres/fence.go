package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/veloxpos/reconciled/lock"
)

// fenced runs write in a transaction that the database itself ties to the grant:
// it holds the store's fence row FOR SHARE with the grant's epoch and token, so
// the next grant waits until it has ended, and it fails with lock.ErrFenced once
// there has been one. (FOR KEY SHARE, or a plain read, would let the next grant
// pass a write in flight.) It fails with lock.ErrPaused while a person has stopped the
// writing. Its timeouts lie below the lease's TTL and its
// application_name carries the token, by which a frozen holder is found.
func (db *DB) fenced(ctx context.Context, grant lock.Grant, write func(ctx context.Context, tx pgx.Tx) error) error {
	return db.transact(ctx, func(ctx context.Context, tx pgx.Tx) error {
		if err := db.boundTransaction(ctx, tx, backendName(grant.Token)); err != nil {
			return err
		}
		var current bool
		err := tx.QueryRow(ctx,
			`SELECT true FROM reconciled.fence WHERE store_id = $1 AND epoch = $2 AND holder = $3 FOR SHARE`,
			grant.Store, grant.Epoch, grant.Token).Scan(&current)
		if errors.Is(err, pgx.ErrNoRows) {
			return fmt.Errorf("store %s, epoch %d: %w", grant.Store, grant.Epoch, lock.ErrFenced)
		}
		if err != nil {
			return fmt.Errorf("check fence: %w", err)
		}
		if err := refusePaused(ctx, tx, grant.Store); err != nil {
			return err
		}
		return write(ctx, tx)
	})
}

func backendName(token string) string { return "reconciled " + token }

func (db *DB) boundTransaction(ctx context.Context, tx pgx.Tx, name string) error {
	_, err := tx.Exec(ctx, `SELECT set_config('application_name', $1, true), set_config('statement_timeout', $2, true)`,
		name, db.withinLease())
	if err != nil {
		return fmt.Errorf("bound transaction: %w", err)
	}
	return nil
}

// Fence is lock.Fence in two rows a store: reconciled.lease says until when its
// holder may work, reconciled.fence who may write. They are apart because
// writers share-lock the fence row, and a lease must be renewable meanwhile.
type Fence struct{ db *DB }

// NewFence returns the fence kept in db.
func NewFence(db *DB) *Fence { return &Fence{db: db} }

var _ lock.Fence = (*Fence)(nil)

// isLeased says that a lease is to be respected; $2 is lock.MaxTTL. One that ends later
// than any could was granted before the clock was set back, and would hold the store
// until the clock has caught up. Should its holder live, the fence keeps the theft safe:
// the next grant raises the epoch, and with the old one nothing is written any more.
const isLeased = `holder <> '' AND expires_at > clock_timestamp() AND expires_at <= clock_timestamp() + $2::interval`

// patience is how long a grant waits for writes in flight before it ends those
// of a holder whose lease has run out. A living writer is done sooner.
const patience = time.Second

// Grant takes the store for ttl by the database's clock.
func (f *Fence) Grant(ctx context.Context, req lock.Request, token string, ttl time.Duration) (int64, error) {
	for {
		epoch, writers, err := f.tryGrant(ctx, req, token, ttl)
		if !errors.Is(err, errWritersInFlight) {
			return epoch, err
		}
		if err := f.endBackends(ctx, writers); err != nil {
			return 0, err
		}
	}
}

var errWritersInFlight = errors.New("writes of an expired lease in flight")

// tryGrant fails with errWritersInFlight, and the token of the expired holder,
// when that holder's transactions still share-lock the fence row.
func (f *Fence) tryGrant(ctx context.Context, req lock.Request, token string, ttl time.Duration) (epoch int64, expired string, err error) {
	err = f.db.transact(ctx, func(ctx context.Context, tx pgx.Tx) error {
		if err := f.ensureRows(ctx, tx, req.Store); err != nil {
			return err
		}
		held := lock.HeldError{Store: req.Store}
		var free bool
		var run uuid.NullUUID
		err := tx.QueryRow(ctx, `
			SELECT holder, owner, run_id, expires_at - clock_timestamp(), NOT (`+isLeased+`)
			FROM reconciled.lease WHERE store_id = $1 FOR UPDATE`, req.Store, lock.MaxTTL).
			Scan(&expired, &held.Owner, &run, &held.RetryAfter, &free)
		if err != nil {
			return fmt.Errorf("read lease: %w", err)
		}
		if !free {
			held.Run = run.UUID
			return &held
		}
		if _, err := tx.Exec(ctx, `SELECT set_config('lock_timeout', $1, true)`, fmt.Sprintf("%dms", patience.Milliseconds())); err != nil {
			return fmt.Errorf("bound grant: %w", err)
		}
		err = tx.QueryRow(ctx, `UPDATE reconciled.fence SET epoch = epoch + 1, holder = $2 WHERE store_id = $1 RETURNING epoch`,
			req.Store, token).Scan(&epoch)
		if pgErr, ok := errors.AsType[*pgconn.PgError](err); ok && pgErr.Code == "55P03" {
			return errWritersInFlight
		}
		if err != nil {
			return fmt.Errorf("raise epoch: %w", err)
		}
		_, err = tx.Exec(ctx, `
			UPDATE reconciled.lease SET holder = $2, owner = $3, run_id = $4,
				granted_at = clock_timestamp(), expires_at = clock_timestamp() + $5
			WHERE store_id = $1`, req.Store, token, req.Owner, req.Run, ttl)
		if err != nil {
			return fmt.Errorf("write lease: %w", err)
		}
		return nil
	})
	return epoch, expired, err
}

func (f *Fence) ensureRows(ctx context.Context, tx pgx.Tx, store uuid.UUID) error {
	_, err := tx.Exec(ctx, `
		WITH fence AS (
			INSERT INTO reconciled.fence (store_id, epoch, holder)
			SELECT $1, 0, '' WHERE NOT EXISTS (SELECT FROM reconciled.fence WHERE store_id = $1)
			ON CONFLICT DO NOTHING)
		INSERT INTO reconciled.lease (store_id, holder, owner, granted_at, expires_at)
		SELECT $1, '', '', now(), now() WHERE NOT EXISTS (SELECT FROM reconciled.lease WHERE store_id = $1)
		ON CONFLICT DO NOTHING`, store)
	if err != nil {
		return fmt.Errorf("make fence rows: %w", err)
	}
	return nil
}

// endBackends terminates the transactions of a holder that is past its lease: a
// writer frozen in the middle of one would block every grant for ever.
func (f *Fence) endBackends(ctx context.Context, token string) error {
	_, err := f.db.Pool.Exec(ctx,
		`SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = $1 AND pid <> pg_backend_pid()`,
		backendName(token))
	if err != nil {
		return fmt.Errorf("end backends of expired lease: %w", err)
	}
	return nil
}

// Renew moves the lease's end to ttl from now by the database's clock. A lease
// that ran out but was taken by nobody is still its holder's.
func (f *Fence) Renew(ctx context.Context, grant lock.Grant, ttl time.Duration) error {
	tag, err := f.db.Pool.Exec(ctx,
		`UPDATE reconciled.lease SET expires_at = clock_timestamp() + $3 WHERE store_id = $1 AND holder = $2`,
		grant.Store, grant.Token, ttl)
	if err != nil {
		return fmt.Errorf("renew lease: %w", err)
	}
	if tag.RowsAffected() == 0 {
		return lock.ErrLost
	}
	return nil
}

// Release ends the lease, and the grant's right to write with it: it waits for
// writes in flight and leaves an epoch that nobody's token goes with.
func (f *Fence) Release(ctx context.Context, grant lock.Grant) error {
	return f.db.transact(ctx, func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx,
			`UPDATE reconciled.lease SET holder = '', expires_at = clock_timestamp() WHERE store_id = $1 AND holder = $2`,
			grant.Store, grant.Token)
		if err == nil {
			_, err = tx.Exec(ctx, `UPDATE reconciled.fence SET holder = '' WHERE store_id = $1 AND epoch = $2 AND holder = $3`,
				grant.Store, grant.Epoch, grant.Token)
		}
		if err != nil {
			return fmt.Errorf("release fence: %w", err)
		}
		return nil
	})
}

// Holder describes the unexpired lease on a store, nil when there is none.
func (f *Fence) Holder(ctx context.Context, store uuid.UUID) (*lock.HeldError, error) {
	held := lock.HeldError{Store: store}
	var run uuid.NullUUID
	err := f.db.Pool.QueryRow(ctx, `
		SELECT owner, run_id, expires_at - clock_timestamp() FROM reconciled.lease
		WHERE store_id = $1 AND `+isLeased, store, lock.MaxTTL).
		Scan(&held.Owner, &run, &held.RetryAfter)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read lease: %w", err)
	}
	held.Run = run.UUID
	return &held, nil
}
