package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/veloxpos/reconciled/internal/postgres/postgrestest"
	"github.com/veloxpos/reconciled/lock"
)

const centralConfig = `
database: {url: %q}
serve: {listen: "127.0.0.1:0"}
api: {listen: "%s", token: admin}
credentials: [{store: 5eed0000-0000-4000-8000-000000000001, token: t}]
`

func TestHeldDeletionsAreListedAndReleased(t *testing.T) {
	site := postgrestest.New(t)
	site.AddStore(t, shopID)
	url := site.Server.URL("reconciled_runtime", site.Name)
	store, central := file(t, storeConfig, url, "http://127.0.0.1:1", unused(t)), file(t, centralConfig, url, unused(t))
	sql := func(sql string, args ...any) {
		t.Helper()
		if _, err := site.Owner.Exec(t.Context(), sql, args...); err != nil {
			t.Fatal(err)
		}
	}
	sql(`INSERT INTO events (event_id, store_id, device_id, seq, type, version, created_at, payload)
		SELECT gen_random_uuid(), $1, $1, i, 'StockReceived', 1, now(), '{}' FROM generate_series(1, 60) i`, shopID)
	cmd(t, "--config", store, "event", "restore").want(t, exitOK, "no deleted event is held")
	sql(`DELETE FROM events`)

	cmd(t, "--config", store, "event", "restore").want(t, exitDiffers, "StockReceived", "… and 10 more", "60 deleted events are held")
	r := cmd(t, "--config", store, "event", "restore", "--output", "json")
	var list heldList
	if err := json.Unmarshal([]byte(r.out), &list); err != nil || r.code != exitDiffers || list.Total != 60 || len(list.Held) != heldShown {
		t.Fatalf("exit %d, %d of %d held, %v", r.code, len(list.Held), list.Total, err)
	}
	one := list.Held[0].Event.String()
	cmd(t, "--config", store, "event", "restore", "tienda-1").want(t, exitTrouble, "tienda-1")
	cmd(t, "--config", store, "event", "restore", "--all", one).want(t, exitTrouble, "--all")
	cmd(t, "--config", store, "event", "restore", one, uuid.NewString()).want(t, exitTrouble, "is not held")
	cmd(t, "--config", store, "event", "restore", one, "--by", "ana").want(t, exitOK, "1 deleted events released by ana", "reconciled reconcile")
	cmd(t, "--config", store, "event", "restore", one).want(t, exitTrouble, "is not held")

	r = cmd(t, "--config", central, "event", "restore", "--store", shopID.String(), "--all", "-o", "json")
	var released restoredList
	if err := json.Unmarshal([]byte(r.out), &released); err != nil || r.code != exitOK || len(released.Released) != 59 || released.By == "" {
		t.Errorf("exit %d, %+v, %v: %s", r.code, released, err, r.err)
	}
	cmd(t, "--config", central, "event", "restore", "--store", shopID.String()).want(t, exitOK, "no deleted event is held")
	cmd(t, "--config", central, "event", "restore", "--store", shopID.String(), "--all").want(t, exitOK, "0 deleted events released")
}

func TestAShortCommandWaitsForTheLockAWhile(t *testing.T) {
	held := &lock.HeldError{Store: shopID, RetryAfter: time.Second}
	answers := []error{fmt.Errorf("take lock: %w", held), nil}
	err := untilFree(t.Context(), time.Minute, func() error {
		next := answers[0]
		answers = answers[1:]
		return next
	})
	if err != nil || len(answers) > 0 {
		t.Errorf("%v, %d tries left; want success at the second", err, len(answers))
	}
	err = untilFree(t.Context(), 0, func() error { return held })
	if code := exitCode(err, io.Discard); code != exitHeld {
		t.Errorf("exit %d (%v), want %d", code, err, exitHeld)
	}
	broken, calls := errors.New("broken"), 0
	err = untilFree(t.Context(), time.Minute, func() error { calls++; return broken })
	if !errors.Is(err, broken) || calls != 1 {
		t.Errorf("%v after %d calls, want another error at once", err, calls)
	}
	stopped, cancel := context.WithCancel(t.Context())
	cancel()
	err = untilFree(stopped, time.Minute, func() error { return held })
	if !errors.Is(err, context.Canceled) {
		t.Errorf("%v, want to be stopped", err)
	}
}
