// Package postgres is the daemon's side of the database: the pool, the
// migrations of schema reconciled, the fence, and one file for each interface
// that a domain package declares. What it promises: nothing is written to a
// store's data outside a fenced transaction, but for the idempotent ingest of
// events and the tree, which have locks of their own.
package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	pgxuuid "github.com/vgarvardt/pgx-google-uuid/v5"

	"github.com/veloxpos/reconciled/lock"
)

// Options of a DB.
type Options struct {
	// LeaseTTL bounds every writing transaction, so that none outlives the lease
	// that it was begun under. lock.DefaultTTL when zero.
	LeaseTTL time.Duration
	// MaxConns of the pool; 16 when zero: the lease must be renewable while every
	// worker is in the database.
	MaxConns int32
	// Tracer sees every query. May be nil.
	Tracer pgx.QueryTracer
}

// DB is a POS database as the runtime role sees it. Safe for concurrent use.
type DB struct {
	Pool *pgxpool.Pool
	opts Options
}

// Open makes the pool and checks that the database answers.
func Open(ctx context.Context, url string, opts Options) (*DB, error) {
	config, err := pgxpool.ParseConfig(url)
	if err != nil {
		return nil, fmt.Errorf("parse database url: %w", withoutSecret(err))
	}
	if opts.LeaseTTL == 0 {
		opts.LeaseTTL = lock.DefaultTTL
	}
	if opts.MaxConns == 0 {
		opts.MaxConns = 16
	}
	config.MaxConns = opts.MaxConns
	config.ConnConfig.Tracer = opts.Tracer
	config.AfterConnect = func(_ context.Context, conn *pgx.Conn) error {
		pgxuuid.Register(conn.TypeMap()) // else each id is printed and parsed: a quarter of a heal's CPU here
		return nil
	}
	params := config.ConnConfig.RuntimeParams
	params["application_name"] = "reconciled"
	params["timezone"] = "UTC"
	params["search_path"] = "public" // decides how the server prints a trigger
	// A read that row level security would filter must fail: filtered rows look
	// like gaps.
	params["row_security"] = "off"
	// How many events a range of time holds is unknown when it is planned, and is
	// guessed high: 1.8 s were spent on compiling a statement that then ran for 0.2 s.
	params["jit"] = "off"
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("open database pool: %w", err)
	}
	if err := pool.Ping(ctx); err != nil {
		pool.Close()
		return nil, fmt.Errorf("reach database %s on %s:%d: %w",
			config.ConnConfig.Database, config.ConnConfig.Host, config.ConnConfig.Port, err)
	}
	return &DB{Pool: pool, opts: opts}, nil
}

// Close ends every connection.
func (db *DB) Close() { db.Pool.Close() }

// withoutSecret keeps pgx's reason but not the connection string it quotes.
func withoutSecret(err error) error {
	if parse, ok := errors.AsType[*pgconn.ParseConfigError](err); ok {
		if inner := errors.Unwrap(parse); inner != nil {
			return inner
		}
		return errors.New("not a Postgres connection string")
	}
	return err
}

// Installation is this database's own id, drawn when it was migrated.
func (db *DB) Installation(ctx context.Context) (uuid.UUID, error) {
	var id uuid.UUID
	if err := db.Pool.QueryRow(ctx, `SELECT id FROM reconciled.installation`).Scan(&id); err != nil {
		return id, fmt.Errorf("read installation id: %w", err)
	}
	return id, nil
}

// Stores lists the ids of the stores in the database.
func (db *DB) Stores(ctx context.Context) ([]uuid.UUID, error) {
	rows, err := db.Pool.Query(ctx, `SELECT id FROM public.stores ORDER BY id`)
	if err != nil {
		return nil, fmt.Errorf("list stores: %w", err)
	}
	ids, err := pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
	if err != nil {
		return nil, fmt.Errorf("list stores: %w", err)
	}
	return ids, nil
}

const transactionTries = 4

// withinLease is a time limit below the lease's TTL, as Postgres reads it.
func (db *DB) withinLease() string {
	return fmt.Sprintf("%dms", (db.opts.LeaseTTL * 3 / 4).Milliseconds())
}

// errRunAgain makes transact start over.
var errRunAgain = errors.New("transaction must run again")

// transact runs write in a READ COMMITTED transaction, again when Postgres ends
// it for a serialization failure or a deadlock, or write asks for it. write must
// bear being run again. A process that freezes in the middle loses its transaction,
// and the locks it holds, before its lease is over.
func (db *DB) transact(ctx context.Context, write func(ctx context.Context, tx pgx.Tx) error) error {
	var err error
	for range transactionTries {
		err = pgx.BeginFunc(ctx, db.Pool, func(tx pgx.Tx) error {
			_, err := tx.Exec(ctx, `SELECT set_config('idle_in_transaction_session_timeout', $1, true)`, db.withinLease())
			if err != nil {
				return fmt.Errorf("bound transaction: %w", err)
			}
			return write(ctx, tx)
		})
		pgErr, ok := errors.AsType[*pgconn.PgError](err)
		if again := ok && (pgErr.Code == "40001" || pgErr.Code == "40P01"); !again && !errors.Is(err, errRunAgain) {
			return err
		}
	}
	return err
}
