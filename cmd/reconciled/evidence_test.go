package main

import (
	"encoding/json"
	"testing"

	"github.com/veloxpos/reconciled/internal/postgres"
	"github.com/veloxpos/reconciled/internal/postgres/postgrestest"
)

func TestEvidenceStaysOpenUntilAPersonClearsIt(t *testing.T) {
	site := postgrestest.New(t)
	site.AddStore(t, shopID)
	store := file(t, storeConfig, site.Server.URL("reconciled_runtime", site.Name), "http://127.0.0.1:1", unused(t))
	sql := func(sql string, args ...any) {
		t.Helper()
		if _, err := site.Owner.Exec(t.Context(), sql, args...); err != nil {
			t.Fatal(err)
		}
	}
	cmd(t, "--config", store, "event", "evidence").want(t, exitOK, "no open evidence")
	sql(`INSERT INTO events (event_id, store_id, device_id, seq, type, version, created_at, payload)
		SELECT gen_random_uuid(), $1, $1, i, 'StockReceived', 1, now(), '{}' FROM generate_series(1, 3) i`, shopID)
	if _, err := postgres.NewLog(site.DB).Pin(t.Context(), shopID); err != nil {
		t.Fatal(err)
	}
	sql(`UPDATE events SET seq = seq + 100`)
	if _, err := postgres.NewLog(site.DB).Pin(t.Context(), shopID); err != nil {
		t.Fatal(err)
	}

	cmd(t, "--config", store, "event", "evidence").want(t, exitDiffers, "changed", "3 pieces of evidence", "--clear NUMBER")
	r := cmd(t, "--config", store, "event", "evidence", "-o", "json")
	var list evidenceList
	if err := json.Unmarshal([]byte(r.out), &list); err != nil || r.code != exitDiffers || list.Total != 3 || !list.Evidence[0].Event.Valid ||
		len(list.Evidence[0].Expected) != 64 || list.Evidence[0].Expected == list.Evidence[0].Found {
		t.Fatalf("exit %d, %+v, %v", r.code, list, err)
	}
	cmd(t, "--config", store, "event", "evidence", "--clear-all").want(t, exitTrouble, "--why is needed")
	cmd(t, "--config", store, "event", "evidence", "--clear", "1", "--clear-all", "--why", "x").want(t, exitTrouble, "exclude each other")
	cmd(t, "--config", store, "event", "evidence", "--clear", "999999", "--why", "x").want(t, exitTrouble, "no such open evidence")
	cmd(t, "--config", store, "event", "evidence", "--clear-all", "--why", "a drill", "--by", "ana").want(t, exitOK, "3 pieces of evidence cleared by ana")
	cmd(t, "--config", store, "event", "evidence").want(t, exitOK, "no open evidence")
}
