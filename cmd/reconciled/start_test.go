package main

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/veloxpos/reconciled/internal/stage"
	"github.com/veloxpos/reconciled/internal/testkit"
)

func TestADaemonWaitsForADatabaseThatComesUpLate(t *testing.T) {
	c := newChain(t, stage.Options{}, 0)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := c.Central.Server.Stop(ctx); err != nil {
		t.Fatal(err)
	}
	told := systemd(t, c.Central)
	waits := func() bool {
		return strings.Contains(c.Central.Output(), "the database does not answer: waiting for it")
	}
	launch := func() {
		if err := c.Central.Launch(); err != nil {
			t.Fatal(err)
		}
		testkit.Eventually(t, 20*time.Second, "the daemon waits", waits)
		told("READY=1\nWATCHDOG=1\nSTATUS=waiting for the database")
	}
	launch()
	if code, err := c.Central.Stop(ctx); code != exitOK || err != nil {
		t.Errorf("told to stop while it waits: exit %d, %v\n%s", code, err, c.Central.Output())
	}
	launch()
	if err := c.Central.Server.Start(ctx); err != nil {
		t.Fatal(err)
	}
	if err := c.Central.AwaitReady(ctx); err != nil {
		t.Errorf("%v\n%s", err, c.Central.Output())
	}
	told("STATUS=serving")
}
