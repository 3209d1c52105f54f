package httpapi

import (
	"context"
	"crypto/sha256"
	"errors"
	"net/http"
	"strings"
	"time"
)

// Answers remembers for a day what was answered to calls that carried an
// Idempotency-Key, also beyond a restart.
type Answers interface {
	// Claim reserves a key for a call, of which it gets a digest. It returns the answer
	// when there has been one; else it fails with ErrKeyReused, ErrKeyInUse or
	// ErrTooManyKeys, or the caller must Keep an answer or Release the key.
	Claim(ctx context.Context, key string, digest [32]byte) (*Answer, error)
	Keep(ctx context.Context, key string, answer Answer) error
	Release(ctx context.Context, key string) error
}

// Answer is what was answered.
type Answer struct {
	Status int
	Body   []byte
}

// What keeps a key from being claimed.
var (
	// ErrKeyReused: the key was given with another call.
	ErrKeyReused = errors.New("this Idempotency-Key was given with another request")
	// ErrKeyInUse: the key's first call is still being answered.
	ErrKeyInUse = errors.New("the first request with this Idempotency-Key is still being answered")
	// ErrTooManyKeys: no more keys are remembered today.
	ErrTooManyKeys = errors.New("too many different Idempotency-Keys within a day")
)

const (
	headerKey = "Idempotency-Key"
	// headerReplayed marks an answer that was given before.
	headerReplayed = "Idempotency-Replayed"
	// settleTimeout bounds what is left to do for a call that is over.
	settleTimeout = 5 * time.Second
)

// once answers a call, and one that carries a key only the first time: after that the
// answer is the first one. A call that failed may be made again with its key.
func (a *api) once(w http.ResponseWriter, c *call, next handler) error {
	key := c.request.Header.Get(headerKey)
	if key == "" {
		answer, err := encode(next(c))
		if err == nil {
			answer.write(w)
		}
		return err
	}
	if len(key) > 128 || strings.ContainsFunc(key, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return bad(headerKey, "%s is not 1 to 128 visible ASCII characters", headerKey)
	}
	digest := sha256.Sum256([]byte(c.request.Method + " " + c.request.URL.Path + "\n" + string(c.text)))
	before, err := a.daemon.Claim(c.ctx(), key, digest)
	switch {
	case err != nil:
		return asKeyFault(err)
	case before != nil:
		w.Header().Set(headerReplayed, "true")
		before.write(w)
		return nil
	}
	answer, err := encode(next(c))
	// The caller may be gone by now; what became of its key is settled all the same.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(c.ctx()), settleTimeout)
	defer cancel()
	if err != nil {
		if err := a.daemon.Release(ctx, key); err != nil {
			a.tell(w, c.request, err)
		}
		return err
	}
	if err := a.daemon.Keep(ctx, key, answer); err != nil {
		a.tell(w, c.request, err) // it is done, and must be answered
	}
	answer.write(w)
	return nil
}

func asKeyFault(err error) error {
	f := &fault{Field: headerKey, Message: err.Error()}
	switch {
	case errors.Is(err, ErrKeyReused):
		f.Status, f.Code = http.StatusUnprocessableEntity, "KEY_REUSED"
	case errors.Is(err, ErrKeyInUse):
		f.Status, f.Code, f.retryAfter = http.StatusConflict, "KEY_IN_USE", time.Second
	case errors.Is(err, ErrTooManyKeys):
		f.Status, f.Code, f.retryAfter = http.StatusTooManyRequests, "TOO_MANY_KEYS", time.Hour
	default:
		return err
	}
	return f
}

func (a Answer) write(w http.ResponseWriter) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(a.Status)
	_, _ = w.Write(a.Body) // a caller that went away needs no answer
}
