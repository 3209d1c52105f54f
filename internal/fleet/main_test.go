package fleet_test

import (
	"context"
	"fmt"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/veloxpos/reconciled/internal/fleet"
	"github.com/veloxpos/reconciled/internal/testkit"
	"github.com/veloxpos/reconciled/internal/velox/veloxdb"
)

func TestMain(m *testing.M) { os.Exit(testkit.Main(m)) }

var (
	store  = uuid.MustParse("11111111-1111-4111-8111-111111111111")
	monday = time.Date(2026, 3, 2, 8, 0, 0, 0, time.UTC)
)

// everything is a shop with all the oddities switched on.
func everything(seed uint64) fleet.Options {
	return fleet.Options{
		Seed: seed, Store: store, Start: monday, Devices: 4, ClockSkew: 20 * time.Minute,
		DeadClock: true, Conflicts: true, Rarities: true,
	}
}

var databases atomic.Int64

// database is an empty POS database of the test's own.
func database(t testing.TB) *pgxpool.Pool {
	t.Helper()
	ctx := context.Background()
	pg := testkit.Shared(t)
	name := fmt.Sprintf("fleet_%d", databases.Add(1))
	if err := pg.CreateDatabase(ctx, name, ""); err != nil {
		t.Fatal(err)
	}
	conn, err := pgx.Connect(ctx, pg.URL("postgres", name))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(ctx)
	if err := veloxdb.Create(ctx, conn); err != nil {
		t.Fatal(err)
	}
	pool, err := pgxpool.New(ctx, pg.URL("postgres", name))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	return pool
}
