package lock

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/bsm/redislock"
	"github.com/redis/go-redis/v9"
)

// Redis is the Front that lives in Redis: one key per store, by redislock.
type Redis struct{ client *redislock.Client }

// NewRedis uses a client whose calls honour their context's deadline
// (ContextTimeoutEnabled), since a call without one would block for the TTL.
func NewRedis(client redis.UniversalClient) *Redis {
	return &Redis{client: redislock.New(client)}
}

// Obtain takes key for ttl, once and without waiting.
func (r *Redis) Obtain(ctx context.Context, key string, ttl time.Duration) (Lease, error) {
	lease, err := r.client.Obtain(ctx, key, ttl, nil)
	switch {
	case errors.Is(err, redislock.ErrNotObtained):
		return nil, ErrHeld
	case err != nil:
		return nil, fmt.Errorf("%w: %w", ErrFrontAway, err)
	}
	return redisLease{lease}, nil
}

type redisLease struct{ lock *redislock.Lock }

func (l redisLease) Refresh(ctx context.Context, ttl time.Duration) error {
	err := l.lock.Refresh(ctx, ttl, nil)
	if errors.Is(err, redislock.ErrNotObtained) {
		return ErrHeld
	}
	return err
}

func (l redisLease) Release(ctx context.Context) error { return l.lock.Release(ctx) }
