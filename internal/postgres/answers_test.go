package postgres_test

import (
	"crypto/sha256"
	"errors"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/veloxpos/reconciled/internal/postgres"
	"github.com/veloxpos/reconciled/internal/postgres/postgrestest"
)

var (
	asked = sha256.Sum256([]byte(`POST /heal {"store_id": "1"}`))
	other = sha256.Sum256([]byte(`POST /heal {"store_id": "2"}`))
)

func TestAnAnswerIsKeptForItsKeyAndItsRequestAlone(t *testing.T) {
	site := postgrestest.New(t)
	answers := postgres.NewAnswers(site.DB)
	claim := func(want error, request [32]byte) *postgres.Answer {
		t.Helper()
		answer, err := answers.Claim(t.Context(), "key", request)
		if !errors.Is(err, want) {
			t.Errorf("%v, want %v", err, want)
		}
		return answer
	}
	if answer := claim(nil, asked); answer != nil {
		t.Errorf("answered %+v before it was asked", answer)
	}
	claim(postgres.ErrKeyInUse, asked)
	claim(postgres.ErrKeyReused, other)
	if err := answers.Release(t.Context(), "key"); err != nil {
		t.Fatal(err)
	}
	claim(nil, other) // the first came to nothing: the key is free
	if err := answers.Release(t.Context(), "key"); err != nil {
		t.Fatal(err)
	}
	claim(nil, asked)
	if err := answers.Keep(t.Context(), "key", postgres.Answer{Status: 202, Body: []byte(`{"runId": "1"}`)}); err != nil {
		t.Fatal(err)
	}
	if err := answers.Release(t.Context(), "key"); err != nil { // too late to take back
		t.Fatal(err)
	}
	claim(postgres.ErrKeyReused, other)
	again := postgres.NewAnswers(site.DB) // as after a restart
	if answer, err := again.Claim(t.Context(), "key", asked); err != nil || answer == nil || answer.Status != 202 || string(answer.Body) != `{"runId": "1"}` {
		t.Errorf("%+v, %v", answer, err)
	}
}

func TestAKeyIsClaimedOnce(t *testing.T) {
	answers := postgres.NewAnswers(postgrestest.New(t).DB)
	var claimed atomic.Int64
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			switch _, err := answers.Claim(t.Context(), "key", asked); {
			case err == nil:
				claimed.Add(1)
			case !errors.Is(err, postgres.ErrKeyInUse):
				t.Error(err)
			}
		})
	}
	all.Wait()
	if claimed.Load() != 1 {
		t.Errorf("claimed %d times", claimed.Load())
	}
}

func TestKeysAreForgottenInTimeAndBounded(t *testing.T) {
	site := postgrestest.New(t)
	answers := postgres.NewAnswers(site.DB)
	exec := func(sql string, args ...any) {
		t.Helper()
		if _, err := site.DB.Pool.Exec(t.Context(), sql, args...); err != nil {
			t.Fatal(err)
		}
	}
	for key, row := range map[string]string{
		"a day old": `200, '{}', now() - interval '25 hours'`, "of a dead process": `NULL, NULL, now() - interval '6 minutes'`,
		"of today": `200, '{}', now() - interval '23 hours'`,
	} {
		exec(`INSERT INTO reconciled.idempotency_key (key, request, status, answer, at) VALUES ($1, $2, `+row+`)`, key, asked[:])
	}
	for key, kept := range map[string]bool{"a day old": false, "of a dead process": false, "of today": true} {
		if answer, err := answers.Claim(t.Context(), key, asked); err != nil || (answer != nil) != kept {
			t.Errorf("%s: %+v, %v", key, answer, err)
		}
	}
	exec(`INSERT INTO reconciled.idempotency_key (key, request, status, answer) SELECT 'k' || n, $1, 200, '{}' FROM generate_series(1, 9997) n`, asked[:])
	if _, err := answers.Claim(t.Context(), "one too many", asked); !errors.Is(err, postgres.ErrTooManyKeys) {
		t.Errorf("%v, want ErrTooManyKeys", err)
	}
	if answer, err := answers.Claim(t.Context(), "k1", asked); err != nil || answer == nil {
		t.Errorf("a known key: %v, %v", answer, err)
	}
}
