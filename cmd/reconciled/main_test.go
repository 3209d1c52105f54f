package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/veloxpos/reconciled/internal/fleet"
	"github.com/veloxpos/reconciled/internal/httpapi"
	"github.com/veloxpos/reconciled/internal/stage"
	"github.com/veloxpos/reconciled/internal/testkit"
	"github.com/veloxpos/reconciled/internal/velox"
)

// The program under test, built once: with the race detector, and as it is shipped,
// for the test whose size would make the detector the slowest part of it.
var binary, plain string

func TestMain(m *testing.M) { os.Exit(buildAndRun(m)) }

func buildAndRun(m *testing.M) int {
	dir, err := os.MkdirTemp("", "reconciled-binary-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	binary, plain = filepath.Join(dir, "race", "reconciled"), filepath.Join(dir, "plain", "reconciled")
	for _, args := range [][]string{{"-race", "-o", binary}, {"-o", plain}} {
		if out, err := exec.Command("go", append(append([]string{"build"}, args...), ".")...).CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "build: %v\n%s", err, out)
			return 1
		}
	}
	return testkit.Main(m)
}

var shopID = uuid.MustParse("5eed0000-0000-4000-8000-000000000001")

// chain is a store and its central as real processes, and the log that both are
// to hold in the end.
type chain struct {
	*testing.T
	*stage.Stage
	shop  *fleet.Shop
	sides *fleet.Sides
	// patience is how long a task may take: a limit to waiting, no promise.
	patience time.Duration
}

// newChain lets a shop trade n events and plants faults in the log. The daemons
// are not started yet.
func newChain(t *testing.T, opts stage.Options, n int, faults ...fleet.LogFault) *chain {
	t.Helper()
	opts.Store = shopID
	if opts.Binary == "" {
		opts.Binary = binary
	}
	st, err := stage.New(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := st.Close(); err != nil {
			t.Error(err)
		}
	})
	c := &chain{T: t, Stage: st, patience: 5 * time.Minute}
	c.shop = fleet.NewShop(fleet.Options{
		Seed: 7, Store: shopID, Start: time.Date(2026, 9, 1, 8, 0, 0, 0, time.UTC), ClockSkew: 5 * time.Minute, Conflicts: true,
	})
	c.sides = fleet.NewSides(c.shop, c.shop.Trade(n))
	for _, fault := range faults {
		if _, err := fault.Plant(c.sides); err != nil {
			t.Fatalf("%s: %v", fault.Name, err)
		}
	}
	for side, node := range map[fleet.Side]*stage.Node{fleet.Store: c.Store, fleet.Central: c.Central} {
		if err := c.shop.Reference().Insert(t.Context(), node.Owner); err != nil {
			t.Fatal(err)
		}
		c.insert(node, c.sides.At(side), fleet.InsertOptions{Outbox: fleet.OutboxProcessed, Status: "processed", Relayed: side == fleet.Central})
		if err := fleet.NewBackend(node.Owner, fleet.BackendOptions{}).ProjectAll(t.Context(), shopID); err != nil {
			t.Fatal(err)
		}
	}
	return c
}

func (c *chain) insert(node *stage.Node, events []velox.Event, o fleet.InsertOptions) {
	c.Helper()
	if _, err := fleet.Insert(c.Context(), node.Owner, events, o); err != nil {
		c.Fatal(err)
	}
}

// super opens a node's database as a superuser, who sees the daemon's schema too.
func (c *chain) super(node *stage.Node) *pgxpool.Pool {
	c.Helper()
	pool, err := pgxpool.New(c.Context(), node.Server.URL("postgres", "velox"))
	if err != nil {
		c.Fatal(err)
	}
	c.Cleanup(pool.Close)
	return pool
}

// plant spoils a node's rows.
func (c *chain) plant(node *stage.Node, side fleet.Side, faults ...fleet.RowFault) {
	c.Helper()
	super := c.super(node)
	for _, fault := range faults {
		if _, err := fault.Plant(c.Context(), super, side, shopID); err != nil {
			c.Fatalf("%s: %v", fault.Name, err)
		}
	}
}

func (c *chain) start(nodes ...*stage.Node) {
	c.Helper()
	ctx, cancel := context.WithTimeout(c.Context(), time.Minute)
	defer cancel()
	for _, n := range nodes {
		if err := n.Start(ctx); err != nil {
			c.Fatal(err)
		}
	}
}

// must runs a task to its end, as soon as the daemon's own duties let it, and
// wants it to succeed.
func (c *chain) must(node *stage.Node, task string, full bool) httpapi.Run {
	c.Helper()
	return whenFree(c, node, task, func(ctx context.Context) (httpapi.Run, error) {
		run, err := node.Await(ctx, task, full, nil)
		if err == nil && run.State != "succeeded" {
			err = fmt.Errorf("it %s: %s", run.State, run.Error)
		}
		return run, err
	})
}

// begin starts a task as soon as the daemon's own duties let it.
func (c *chain) begin(node *stage.Node, task string) uuid.UUID {
	c.Helper()
	return whenFree(c, node, task, func(ctx context.Context) (uuid.UUID, error) { return node.Begin(ctx, task, false) })
}

// whenFree tries again while the daemon works on something else.
func whenFree[T any](c *chain, node *stage.Node, task string, try func(context.Context) (T, error)) T {
	c.Helper()
	ctx, cancel := context.WithTimeout(c.Context(), c.patience)
	defer cancel()
	for {
		result, err := try(ctx)
		if status := new(stage.StatusError); errors.As(err, &status) && status.Status == http.StatusConflict && ctx.Err() == nil {
			<-time.After(100 * time.Millisecond) // less than its Retry-After: a test is impatient
			continue
		}
		if err != nil {
			c.Fatalf("%s at %s: %v\n%s", task, node.Name, err, node.Output())
		}
		return result
	}
}

// wantSame wants both logs to hold the same events, and both read models to be
// the fold of them.
func (c *chain) wantSame() {
	c.Helper()
	logs := map[string]map[uuid.UUID]string{}
	for _, node := range []*stage.Node{c.Store, c.Central} {
		super := c.super(node)
		events, err := fleet.Read(c.Context(), super, shopID)
		if err != nil {
			c.Fatal(err)
		}
		logs[node.Name] = map[uuid.UUID]string{}
		for _, e := range events {
			logs[node.Name][e.ID] = string(e.Said())
		}
		got, err := fleet.Load(c.Context(), super, shopID)
		if err != nil {
			c.Fatal(err)
		}
		if diff := fleet.DiffUnsplit(fleet.Fold(events, c.shop.Reference()), got); len(diff) > 0 {
			c.Errorf("%s's read model differs from the fold of its log in %d places, first %q", node.Name, len(diff), diff[:min(5, len(diff))])
		}
	}
	if len(logs["store"]) != len(logs["central"]) {
		c.Errorf("the store holds %d events, central %d", len(logs["store"]), len(logs["central"]))
	}
	for id := range logs["store"] {
		if _, ok := logs["central"][id]; !ok {
			c.Errorf("central lacks event %s", id)
			return
		}
	}
}

func (c *chain) number(pool *pgxpool.Pool, sql string, args ...any) (n int) {
	c.Helper()
	if err := pool.QueryRow(c.Context(), sql, args...).Scan(&n); err != nil {
		c.Fatal(err)
	}
	return n
}
