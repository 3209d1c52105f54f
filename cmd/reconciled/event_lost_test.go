package main

import (
	"encoding/json"
	"testing"

	"github.com/google/uuid"

	"github.com/veloxpos/reconciled/internal/fleet"
	"github.com/veloxpos/reconciled/internal/postgres"
	"github.com/veloxpos/reconciled/internal/postgres/postgrestest"
	"github.com/veloxpos/reconciled/internal/velox"
)

func TestLostUpdatesAreListedAndRestored(t *testing.T) {
	site := postgrestest.New(t)
	site.AddStore(t, shopID)
	url := site.Server.URL("reconciled_runtime", site.Name)
	config, observing := file(t, storeConfig, url, "http://127.0.0.1:1", unused(t)), file(t, storeConfig+"mode: observe\n", url, "http://127.0.0.1:1", unused(t))
	sql := func(sql string, args ...any) {
		t.Helper()
		if _, err := site.Owner.Exec(t.Context(), sql, args...); err != nil {
			t.Fatal(err)
		}
	}
	flour, loser, winner, gone := uuid.New(), uuid.New(), uuid.New(), uuid.New()
	log := func(id uuid.UUID, kind, payload string) {
		hash, err := velox.PayloadHash(json.RawMessage(payload))
		if err != nil {
			t.Fatal(err)
		}
		sql(`INSERT INTO events (event_id, store_id, device_id, seq, type, version, created_at, received_at, payload, delta_payload, full_payload_hash)
			VALUES ($1, $2, $2, 1, $3, 1, now() - interval '1 hour', now() - interval '1 hour', $4, $4, $5)`, id, shopID, kind, payload, hash)
	}
	receipt := func(qty string) string {
		return `{"movement_id": "` + uuid.NewString() + `", "product_id": "` + flour.String() + `", "qty": ` + qty + `}`
	}
	log(uuid.New(), "ProductCreated", `{"product_id": "`+flour.String()+`", "name": "Harina"}`)
	cmd(t, "--config", config, "heal").want(t, exitOK, "1 healed")
	log(winner, "StockReceived", receipt("5"))
	log(loser, "StockReceived", receipt("7"))
	sql(`UPDATE events l SET payload = w.payload, conflict_status = 'auto_resolved' FROM events w WHERE l.event_id = $1 AND w.event_id = $2`, loser, winner)
	event := func(config string, args ...string) ran {
		t.Helper()
		return cmd(t, append([]string{"--config", config, "event"}, args...)...)
	}
	event(config, "lost").want(t, exitOK, "no lost updates")
	if _, err := postgres.NewLog(site.DB).Pin(t.Context(), shopID); err != nil {
		t.Fatal(err)
	}
	events, err := fleet.Read(t.Context(), site.Owner, shopID)
	if err != nil {
		t.Fatal(err)
	}
	grant := site.Grant(t, shopID)
	if err := postgres.NewHealing(site.DB).NoteLost(t.Context(), grant, events); err != nil {
		t.Fatal(err)
	}
	if err := postgres.NewFence(site.DB).Release(t.Context(), grant); err != nil {
		t.Fatal(err)
	}

	event(config, "lost").want(t, exitDiffers, loser.String(), "stock "+flour.String(), winner.String(), "1 lost updates", "--dry-run")
	r := event(config, "lost", "-o", "json")
	var list lostList
	if err := json.Unmarshal([]byte(r.out), &list); err != nil || r.code != exitDiffers || list.Total != 1 || list.Lost[0].Event != loser || string(list.Lost[0].Payload) == string(list.Lost[0].Said) {
		t.Fatalf("exit %d, %+v, %v", r.code, list, err)
	}

	event(config, "restore", loser.String()).want(t, exitTrouble, loser.String()+" is a lost update", "--dry-run", "--yes")
	event(config, "restore", winner.String(), "--yes").want(t, exitTrouble, winner.String(), "no lost update either")
	event(config, "restore", "--dry-run").want(t, exitTrouble, "--dry-run goes with event ids")
	event(config, "restore", loser.String(), "--dry-run").want(t, exitDiffers, `"qty": 5`, `"qty": 7`, "actionable", "--yes does it")
	r = event(config, "restore", loser.String(), "--dry-run", "-o", "json")
	var plan restorePlan
	if err := json.Unmarshal([]byte(r.out), &plan); err != nil || r.code != exitDiffers || !plan.DryRun || len(plan.Restore) != 1 || plan.Restore[0].Class != "actionable" {
		t.Fatalf("exit %d, %+v, %v", r.code, plan, err)
	}
	event(observing, "restore", loser.String(), "--yes").want(t, exitConfig, "mode: observe")
	event(config, "lost").want(t, exitDiffers)

	// A held deletion and a lost update are told apart, in one command.
	log(gone, "StockReceived", receipt("1"))
	event(config, "restore").want(t, exitOK)
	sql(`INSERT INTO events (event_id, store_id, device_id, seq, type, version, created_at, payload)
		SELECT gen_random_uuid(), $1, $1, 100 + i, 'StockReceived', 1, now(), '{}' FROM generate_series(1, 30) i`, shopID)
	event(config, "restore").want(t, exitOK)
	sql(`DELETE FROM events WHERE event_id = $1 OR seq > 100`, gone)
	event(config, "restore").want(t, exitDiffers, "31 deleted events are held")
	event(config, "restore", loser.String(), gone.String(), "--yes", "--by", "ana").want(t, exitOK, "1 deleted events released by ana", "1 lost updates restored by ana", "2 healed")
	event(config, "lost").want(t, exitOK)
	event(config, "restore", loser.String(), "--yes").want(t, exitTrouble, "is not held")
	event(config, "evidence").want(t, exitDiffers, "31 pieces of evidence") // the deletions alone
	var moved string
	if err := site.Owner.QueryRow(t.Context(), `SELECT string_agg(qty_delta::int::text, ' ' ORDER BY qty_delta) FROM inventory_movements`).Scan(&moved); err != nil || moved != "5 7" {
		t.Errorf("moved %s, %v", moved, err)
	}
}
