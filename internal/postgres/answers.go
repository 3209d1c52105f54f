package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// Answers remembers for a day what was answered to requests that carried an idempotency
// key. Safe for concurrent use, by several daemons too.
type Answers struct{ db *DB }

// NewAnswers returns the answers kept in db.
func NewAnswers(db *DB) *Answers { return &Answers{db: db} }

// Answer is what was answered.
type Answer struct {
	Status int
	Body   []byte
}

// What keeps a key from being claimed.
var (
	// ErrKeyReused: the key was given with another request.
	ErrKeyReused = errors.New("idempotency key was used for another request")
	// ErrKeyInUse: the key's first request is still being answered.
	ErrKeyInUse = errors.New("idempotency key's first request is under way")
	// ErrTooManyKeys: as many keys are remembered as there may be.
	ErrTooManyKeys = errors.New("too many idempotency keys in a day")
)

const (
	answersKept = 24 * time.Hour
	answersMost = 10_000
	// claimKept is more than any request takes: a claim that has no answer by then was
	// its process's, which died.
	claimKept = 5 * time.Minute
)

// Claim reserves a key for a request, of which it gets the digest. It returns the answer
// when the request was answered before; else whoever claims must Keep or Release.
func (a *Answers) Claim(ctx context.Context, key string, request [32]byte) (answer *Answer, err error) {
	err = a.db.transact(ctx, func(ctx context.Context, tx pgx.Tx) error {
		answer = nil
		if _, err := tx.Exec(ctx, `DELETE FROM reconciled.idempotency_key WHERE at < now() - $1::interval OR status IS NULL AND at < now() - $2::interval`,
			answersKept, claimKept); err != nil {
			return fmt.Errorf("forget idempotency keys: %w", err)
		}
		tag, err := tx.Exec(ctx, `INSERT INTO reconciled.idempotency_key (key, request)
			SELECT $1, $2 WHERE (SELECT count(*) FROM reconciled.idempotency_key) < $3 ON CONFLICT DO NOTHING`, key, request[:], answersMost)
		if err != nil {
			return fmt.Errorf("claim idempotency key: %w", err)
		}
		if tag.RowsAffected() == 1 {
			return nil
		}
		answer, err = readAnswer(ctx, tx, key, request)
		return err
	})
	return answer, err
}

// readAnswer reads what was answered to the key's first request, which must be this one.
func readAnswer(ctx context.Context, tx pgx.Tx, key string, request [32]byte) (*Answer, error) {
	var (
		same   bool
		status *int
		body   *string
	)
	err := tx.QueryRow(ctx, `SELECT request = $2, status, answer FROM reconciled.idempotency_key WHERE key = $1`, key, request[:]).Scan(&same, &status, &body)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return nil, ErrTooManyKeys
	case err != nil:
		return nil, fmt.Errorf("read idempotency key: %w", err)
	case !same:
		return nil, ErrKeyReused
	case status == nil:
		return nil, ErrKeyInUse
	}
	return &Answer{Status: *status, Body: []byte(orEmpty(body))}, nil
}

// Keep remembers the answer to a claimed key.
func (a *Answers) Keep(ctx context.Context, key string, answer Answer) error {
	_, err := a.db.Pool.Exec(ctx, `UPDATE reconciled.idempotency_key SET status = $2, answer = $3 WHERE key = $1 AND status IS NULL`,
		key, answer.Status, string(answer.Body))
	if err != nil {
		return fmt.Errorf("keep answer: %w", err)
	}
	return nil
}

// Release forgets a claimed key whose request came to nothing.
func (a *Answers) Release(ctx context.Context, key string) error {
	if _, err := a.db.Pool.Exec(ctx, `DELETE FROM reconciled.idempotency_key WHERE key = $1 AND status IS NULL`, key); err != nil {
		return fmt.Errorf("release idempotency key: %w", err)
	}
	return nil
}
