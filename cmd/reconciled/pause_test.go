package main

import (
	"encoding/json"
	"errors"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/veloxpos/reconciled/internal/central"
	"github.com/veloxpos/reconciled/internal/postgres"
	"github.com/veloxpos/reconciled/internal/postgres/postgrestest"
	"github.com/veloxpos/reconciled/internal/velox"
)

func TestAPauseIsBegunShownAndEnded(t *testing.T) {
	site := postgrestest.New(t)
	site.AddStore(t, shopID)
	config := file(t, storeConfig, site.Server.URL("reconciled_runtime", site.Name), "http://127.0.0.1:1", unused(t))
	pause := func(args ...string) ran {
		t.Helper()
		return cmd(t, append([]string{"--config", config, "pause"}, args...)...)
	}
	pause().want(t, exitOK, "is not paused")
	pause("--end").want(t, exitTrouble, "not paused")
	pause("--for", "2h").want(t, exitTrouble, "--why is needed")
	pause("--for", "200h", "--why", "x").want(t, exitTrouble, "is not between 1s and 168h")
	pause("--for", "2h", "--end", "--why", "x").want(t, exitTrouble, "exclude each other")
	pause("--for", "2h", "--why", "an upgrade", "--by", "ana").want(t, exitOK, "is paused until", "by ana: an upgrade", "--end")
	r := pause("-o", "json")
	var shown pauseShown
	if err := json.Unmarshal([]byte(r.out), &shown); err != nil || r.code != exitOK || !shown.Paused || shown.By != "ana" || time.Until(*shown.Until) < time.Hour {
		t.Errorf("exit %d, %+v, %v", r.code, shown, err)
	}
	cmd(t, "--config", config, "heal").want(t, exitHeld, "paused until", "an upgrade")
	cmd(t, "--config", config, "gaps", "retry", "--all").want(t, exitHeld, "paused until")
	cmd(t, "--config", config, "gaps").want(t, exitOK)
	pause("--end", "--by", "ana").want(t, exitOK, "is not paused")
	cmd(t, "--config", config, "heal").want(t, exitOK)
}

func TestObservingCommandsThatWriteRefuse(t *testing.T) {
	site := postgrestest.New(t)
	site.AddStore(t, shopID)
	config := file(t, storeConfig+"mode: observe\n", site.Server.URL("reconciled_runtime", site.Name), "http://127.0.0.1:1", unused(t))
	for _, args := range [][]string{
		{"gaps", "retry", "--all"},
		{"event", "restore", "--all"},
		{"stock", "--repair", "--why", "x"},
		{"reconcile"},
	} {
		cmd(t, append([]string{"--config", config}, args...)...).want(t, exitConfig, "mode: observe")
	}
	cmd(t, "--config", config, "stock", "--repair", "--dry-run").want(t, exitOK)
	cmd(t, "--config", config, "heal").want(t, exitOK)
}

func TestCentralTakesNothingWhileItObservesOrIsPaused(t *testing.T) {
	site := postgrestest.New(t)
	site.AddStore(t, shopID)
	log := postgres.NewLog(site.DB)
	page := []velox.Event{{ID: uuid.New(), Store: shopID, Device: shopID, Type: velox.StockReceived, Version: 1, Payload: []byte(`{}`)}}
	refused := func(d door, code string) {
		t.Helper()
		_, err := d.Accept(t.Context(), shopID, uuid.New(), page)
		var away *central.UnavailableError
		if !errors.As(err, &away) || away.Code != code || away.RetryAfter <= 0 || away.Reason == "" {
			t.Errorf("%v, want %s", err, code)
		}
	}
	refused(door{log, true}, central.CodeObserving)
	pauses := postgres.NewPauses(site.DB)
	if _, err := pauses.Begin(t.Context(), shopID, time.Hour, "ana", "x"); err != nil {
		t.Fatal(err)
	}
	refused(door{log, false}, central.CodePaused)
	if err := pauses.End(t.Context(), shopID, "ana"); err != nil {
		t.Fatal(err)
	}
	if outcomes, err := (door{log, false}).Accept(t.Context(), shopID, uuid.New(), page); err != nil || len(outcomes) != 1 {
		t.Errorf("%v, %v", outcomes, err)
	}
}
