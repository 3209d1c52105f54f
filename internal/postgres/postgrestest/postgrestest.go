// Package postgrestest gives each test a Velox-shaped database of its own in a
// real, private Postgres: owned by the POS's role, with the daemon's two roles and
// its migrated schema, as a site has it.
package postgrestest

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/veloxpos/reconciled/internal/postgres"
	"github.com/veloxpos/reconciled/internal/stage"
	"github.com/veloxpos/reconciled/internal/testkit"
	"github.com/veloxpos/reconciled/lock"
)

// Site is one database, seen by each of its roles.
type Site struct {
	Server *testkit.Postgres
	Name   string // of the database
	Owner  *pgxpool.Pool
	DB     *postgres.DB // as the runtime role
}

const template = "velox_template"

var (
	prepareTemplate sync.Once
	databases       atomic.Int64
)

// New gives the test a database of its own, dropped with the server.
func New(tb testing.TB) *Site {
	tb.Helper()
	return NewOn(tb, testkit.Shared(tb), postgres.Options{})
}

// NewOn is New with options of the daemon's side. All databases of a process are
// made from one template, so server must be the shared one.
func NewOn(tb testing.TB, server *testkit.Postgres, opts postgres.Options) *Site {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), 2*time.Minute)
	defer cancel()
	prepareTemplate.Do(func() {
		if err := stage.Prepare(ctx, server, template); err != nil {
			tb.Fatal(err)
		}
	})
	name := fmt.Sprintf("velox_%d_%.20s", databases.Add(1), strings.Map(plain, strings.ToLower(tb.Name())))
	if err := server.CreateDatabase(ctx, name, template); err != nil {
		tb.Fatal(err)
	}
	// A copy of a database is a clone; each has an identity of its own here.
	if err := server.Exec(ctx, name, `UPDATE reconciled.installation SET id = gen_random_uuid()`); err != nil {
		tb.Fatal(err)
	}
	return open(ctx, tb, server, name, opts)
}

func open(ctx context.Context, tb testing.TB, server *testkit.Postgres, name string, opts postgres.Options) *Site {
	tb.Helper()
	owner, err := pgxpool.New(ctx, server.URL("velox", name))
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(owner.Close)
	db, err := postgres.Open(ctx, server.URL("reconciled_runtime", name), opts)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(db.Close)
	return &Site{Server: server, Name: name, Owner: owner, DB: db}
}

// Copy is the database as it is now, under another name: a backup, a disk image, a
// clone. Its identity is the same.
func (s *Site) Copy(tb testing.TB) *Site {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), time.Minute)
	defer cancel()
	name := fmt.Sprintf("velox_%d_copy", databases.Add(1))
	// A template must have no other users; both pools connect again when they need to.
	s.Owner.Reset()
	s.DB.Pool.Reset()
	err := s.Server.Exec(ctx, "postgres", fmt.Sprintf(`DO $$ BEGIN PERFORM pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE datname = '%s'; END $$`, s.Name))
	if err == nil {
		err = s.Server.CreateDatabase(ctx, name, s.Name)
	}
	if err != nil {
		tb.Fatal(err)
	}
	return open(ctx, tb, s.Server, name, postgres.Options{})
}

func plain(r rune) rune {
	if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' {
		return r
	}
	return '_'
}

// AddStore inserts a store and nothing else.
func (s *Site) AddStore(tb testing.TB, store uuid.UUID) {
	tb.Helper()
	_, err := s.Owner.Exec(tb.Context(), `INSERT INTO stores (id, name) VALUES ($1, 'Tienda')`, store)
	if err != nil {
		tb.Fatal(err)
	}
}

// Grant takes the fence of a store for the length of the test.
func (s *Site) Grant(tb testing.TB, store uuid.UUID) lock.Grant {
	tb.Helper()
	grant := lock.Grant{Store: store, Run: uuid.New(), Token: uuid.NewString()}
	fence := postgres.NewFence(s.DB)
	epoch, err := fence.Grant(tb.Context(), lock.Request{Store: store, Run: grant.Run, Owner: tb.Name()}, grant.Token, lock.MaxTTL)
	if err != nil {
		tb.Fatal(err)
	}
	grant.Epoch = epoch
	return grant
}
