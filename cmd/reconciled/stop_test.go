package main

import (
	"context"
	"net"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/veloxpos/reconciled/internal/fleet"
	"github.com/veloxpos/reconciled/internal/stage"
	"github.com/veloxpos/reconciled/internal/testkit"
)

func TestSIGTERMEndsThePageAndReleasesTheLock(t *testing.T) {
	c := newChain(t, stage.Options{}, 4000, fleet.Outage(fleet.Central, 3000))
	c.start(c.Central, c.Store)
	c.Line.SetLatency(200 * time.Millisecond)
	c.begin(c.Store, "auto-reconcile")
	received := func() int { return c.number(c.Central.Owner, `SELECT count(*) FROM events`) }
	before := received()
	testkit.Eventually(t, time.Minute, "pages arrive at central", func() bool { return received() > before })

	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if code, err := c.Store.Stop(ctx); code != 0 || err != nil {
		t.Fatalf("exit %d, %v\n%s", code, err, c.Store.Output())
	}
	if missing := 4000 - received(); missing == 0 || missing%500 != 0 {
		t.Errorf("central lacks %d events, want some whole pages of 500", missing)
	}
	if !strings.Contains(c.Store.Output(), `"msg":"daemon stopped"`) {
		t.Error("the daemon did not say that it stopped")
	}
	super := c.super(c.Store)
	if n := c.number(super, `SELECT count(*) FROM reconciled.lease WHERE holder <> '' AND expires_at > clock_timestamp()`); n != 0 {
		t.Error("the lease is still held")
	}
	if n := c.number(super, `SELECT count(*) FROM reconciled.run WHERE task = 'reconcile' AND state = 'interrupted'`); n != 1 {
		t.Errorf("%d runs are marked interrupted, want 1", n)
	}
	c.Line.SetLatency(0)
	c.start(c.Store)
	c.must(c.Store, "auto-reconcile", false) // at once: nobody waits for a TTL
	c.must(c.Central, "heal", true)
	c.wantSame()
}

func TestSystemdIsToldAndItsWatchdogFed(t *testing.T) {
	c := newChain(t, stage.Options{}, 0)
	told := systemd(t, c.Central)
	c.Central.Setenv("WATCHDOG_USEC", "1000000")
	c.start(c.Central)
	told("READY=1")
	told("WATCHDOG=1")
	told("WATCHDOG=1")
	if err := c.Central.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	told("STOPPING=1")
}

// systemd hears what a node says from its next start on; told waits for some of it.
func systemd(t *testing.T, node *stage.Node) (told func(want string)) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "notify")
	socket, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = socket.Close() })
	node.Setenv("NOTIFY_SOCKET", path)
	return func(want string) {
		t.Helper()
		b := make([]byte, 4096)
		if err := socket.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
			t.Fatal(err)
		}
		for {
			n, err := socket.Read(b)
			if err != nil {
				t.Fatalf("systemd was not told %s: %v", want, err)
			}
			if strings.Contains(string(b[:n]), want) {
				return
			}
		}
	}
}
