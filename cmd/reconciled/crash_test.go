package main

import (
	"context"
	"errors"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/veloxpos/reconciled/internal/fleet"
	"github.com/veloxpos/reconciled/internal/stage"
	"github.com/veloxpos/reconciled/internal/testkit"
)

// kills is how often the loop kills something in the middle of a round.
const kills = 50

// Something is killed in the middle of a round, fifty times over: a daemon, a
// database, Redis. Each time the shop has traded on; in the end nothing is lost
// and nothing doubled.
func TestI14KilledAnywhereTheNextStartResumes(t *testing.T) {
	const seed = 20261123
	random := rand.New(rand.NewPCG(seed, 1))
	c := newChain(t, stage.Options{Durable: true, TTL: 2 * time.Second}, 3000)
	c.start(c.Central, c.Store)
	c.must(c.Store, "auto-reconcile", false)

	victims := map[string]struct{ kill, restart func(context.Context) error }{
		"store daemon":     {kill: func(context.Context) error { return c.Store.Kill() }, restart: c.Store.Start},
		"central daemon":   {kill: func(context.Context) error { return c.Central.Kill() }, restart: c.Central.Start},
		"redis":            {kill: func(context.Context) error { return c.Redis.Kill() }, restart: c.Redis.Start},
		"store postgres":   {kill: func(context.Context) error { return c.Store.Server.Kill() }, restart: restarted(c.Store)},
		"central postgres": {kill: func(context.Context) error { return c.Central.Server.Kill() }, restart: restarted(c.Central)},
	}
	order := []string{"store daemon", "central daemon", "redis", "store postgres", "central postgres"}
	for i := range kills {
		name := order[random.IntN(len(order))]
		fresh := c.shop.Trade(120)
		c.insert(c.Store, fresh[:80], fleet.InsertOptions{Outbox: fleet.OutboxPending})
		relayed := fresh[40:]
		for j := range relayed {
			relayed[j] = fleet.Relayed(relayed[j])
		}
		c.insert(c.Central, relayed, fleet.InsertOptions{Outbox: fleet.OutboxPending, Relayed: true})

		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
		_, err := c.Store.Begin(ctx, []string{"auto-reconcile", "heal"}[random.IntN(2)], false)
		if status := new(stage.StatusError); err != nil && !errors.As(err, &status) {
			t.Fatalf("kill %d (seed %d): %v", i, seed, err)
		}
		select {
		case <-time.After(time.Duration(random.IntN(120)) * time.Millisecond): // where in the round the blow falls
		case <-ctx.Done():
		}
		if err := victims[name].kill(ctx); err != nil {
			t.Fatalf("kill %d (%s, seed %d): %v", i, name, seed, err)
		}
		if err := victims[name].restart(ctx); err != nil {
			t.Fatalf("restart after kill %d (%s, seed %d): %v", i, name, seed, err)
		}
		cancel()
	}
	settle(c)
	c.wantSame()
}

// restarted starts a node's Postgres again and forgets the connections to the one
// that was killed.
func restarted(n *stage.Node) func(context.Context) error {
	return func(ctx context.Context) error {
		defer n.Owner.Reset()
		return n.Server.Start(ctx)
	}
}

// settle makes rounds and heals until both sides agree, as the schedules would.
func settle(c *chain) {
	c.Helper()
	ended := func(node *stage.Node, task string, full bool) func() bool {
		return func() bool {
			ctx, cancel := context.WithTimeout(c.Context(), 5*time.Minute)
			defer cancel()
			run, err := node.Await(ctx, task, full, nil)
			if err != nil || run.State != "succeeded" {
				c.Logf("%s of %s: %v %+v", task, node.Name, err, run)
				return false
			}
			return true
		}
	}
	testkit.Eventually(c, 5*time.Minute, "both sides agree again", ended(c.Store, "auto-reconcile", false))
	for _, node := range []*stage.Node{c.Central, c.Store} {
		testkit.Eventually(c, 5*time.Minute, node.Name+" heals", ended(node, "heal", true))
	}
}

// A daemon that dies with the lock keeps others out for the TTL and no longer.
func TestI14NoLockOutlivesItsTTL(t *testing.T) {
	const ttl = 30 * time.Second
	c := newChain(t, stage.Options{TTL: ttl}, 1500, fleet.Outage(fleet.Central, 900))
	c.start(c.Central, c.Store)
	c.Line.SetLatency(2 * time.Second) // so that the round is still under way
	if _, err := c.Store.Begin(t.Context(), "auto-reconcile", false); err != nil {
		t.Fatal(err)
	}
	died := time.Now()
	if err := c.Store.Kill(); err != nil {
		t.Fatal(err)
	}
	c.Line.SetLatency(0)
	c.start(c.Store)
	_, err := c.Store.Begin(t.Context(), "auto-reconcile", false)
	status := new(stage.StatusError)
	if !errors.As(err, &status) || status.Status != 409 || status.Header.Get("Retry-After") == "" {
		t.Fatalf("%v, want 409 LockHeld with Retry-After", err)
	}
	testkit.Eventually(t, 2*ttl, "the lock is free again", func() bool {
		_, err := c.Store.Begin(t.Context(), "auto-reconcile", false)
		return err == nil
	})
	if waited := time.Since(died); waited < ttl/3 {
		t.Errorf("the dead daemon's lease was taken after %s", waited)
	}
	settle(c)
	c.wantSame()
}
