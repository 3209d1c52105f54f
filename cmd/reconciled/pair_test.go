package main

import (
	"context"
	"errors"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/veloxpos/reconciled/internal/fleet"
	"github.com/veloxpos/reconciled/internal/stage"
	"github.com/veloxpos/reconciled/internal/testkit"
)

// second makes another daemon on the store's database.
func (c *chain) second() *stage.Node {
	c.Helper()
	twin := *c.Store
	process, api, config, err := c.Stage.Daemon(c.Store, "second", map[string]any{
		"central":     map[string]string{"url": "http://" + c.Line.Addr()},
		"credentials": []map[string]string{{"store": shopID.String(), "token": stage.StoreToken}},
	})
	if err != nil {
		c.Fatal(err)
	}
	twin.Process, twin.API, twin.Config, twin.Name = process, api, config, "second"
	c.start(&twin)
	return &twin
}

func TestI7OfTwoDaemonsOneWorksAndTheOtherSaysLockHeld(t *testing.T) {
	c := newChain(t, stage.Options{}, 1500, fleet.Outage(fleet.Central, 900))
	c.start(c.Central, c.Store)
	second := c.second()
	c.Line.SetLatency(300 * time.Millisecond)
	run := c.begin(c.Store, "auto-reconcile")
	_, err := second.Begin(t.Context(), "auto-reconcile", false)
	status := new(stage.StatusError)
	if !errors.As(err, &status) || status.Status != 409 {
		t.Fatalf("%v, want 409", err)
	}
	for _, part := range []string{`"code":"LockHeld"`, run.String()} {
		if !strings.Contains(status.Body, part) {
			t.Errorf("%s does not say %s", status.Body, part)
		}
	}
	if status.Header.Get("Retry-After") == "" {
		t.Error("no Retry-After")
	}
	c.Line.SetLatency(0)
	settle(c)
	c.wantSame()
}

func TestI7ADaemonThatSleptThroughItsLeaseWritesNothing(t *testing.T) {
	c := newChain(t, stage.Options{TTL: 2 * time.Second}, 3000, fleet.Outage(fleet.Store, 2400))
	c.start(c.Central, c.Store)
	second := c.second()
	c.Line.SetLatency(400 * time.Millisecond) // the round lasts longer than the test needs
	run, err := c.Store.Begin(t.Context(), "auto-reconcile", false)
	if err != nil {
		t.Fatal(err)
	}
	events := func() int { return c.number(c.Store.Owner, `SELECT count(*) FROM events`) }
	before := events()
	testkit.Eventually(t, time.Minute, "the round is writing", func() bool { return events() > before })
	if err := c.Store.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	// Another takes over: its heal gets the lock once the lease has run out.
	testkit.Eventually(t, time.Minute, "the second daemon has the lock", func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		taken, err := second.Await(ctx, "heal", false, nil)
		return err == nil && taken.State == "succeeded"
	})
	asleep := events()
	if err := c.Store.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, time.Minute, "the sleeper's run has ended", func() bool {
		ended, err := c.Store.Run(t.Context(), run)
		if err != nil || ended.State == "running" {
			return false
		}
		if ended.State != "failed" || !strings.Contains(ended.Error, "lease lost") && !strings.Contains(ended.Error, "fenced") {
			t.Errorf("the run is %s: %s", ended.State, ended.Error)
		}
		return true
	})
	if now := events(); now != asleep {
		t.Errorf("it wrote %d events after it had lost its lease", now-asleep)
	}
	c.Line.SetLatency(0)
	settle(c)
	c.wantSame()
}
