package main

import (
	"encoding/json"
	"testing"

	"github.com/google/uuid"

	"github.com/veloxpos/reconciled/internal/fleet"
	"github.com/veloxpos/reconciled/internal/postgres/postgrestest"
	"github.com/veloxpos/reconciled/internal/velox"
	"github.com/veloxpos/reconciled/merkle/reconcile"
)

func TestAnEventWithTwoContentsIsShownAndDecided(t *testing.T) {
	site := postgrestest.New(t)
	site.AddStore(t, shopID)
	url := site.Server.URL("reconciled_runtime", site.Name)
	config, observing := file(t, storeConfig, url, "http://127.0.0.1:1", unused(t)), file(t, storeConfig+"mode: observe\n", url, "http://127.0.0.1:1", unused(t))
	sql := func(sql string, args ...any) {
		t.Helper()
		if _, err := site.DB.Pool.Exec(t.Context(), sql, args...); err != nil {
			t.Fatal(err)
		}
	}
	flour, receipt := uuid.New(), uuid.New()
	log := func(id uuid.UUID, seq int, kind, payload string) {
		t.Helper()
		hash, err := velox.PayloadHash(json.RawMessage(payload))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := site.Owner.Exec(t.Context(), `INSERT INTO events (event_id, store_id, device_id, seq, type, version, created_at, received_at, payload, delta_payload, full_payload_hash)
			VALUES ($1, $2, $2, $3, $4, 1, now() - interval '1 hour', now() - interval '1 hour', $5, $5, $6)`, id, shopID, seq, kind, payload, hash); err != nil {
			t.Fatal(err)
		}
	}
	content := func(qty string) string {
		return `{"qty": ` + qty + `, "product_id": "` + flour.String() + `", "movement_id": "` + receipt.String() + `"}`
	}
	log(uuid.New(), 1, "ProductCreated", `{"product_id": "`+flour.String()+`", "name": "Harina"}`)
	log(receipt, 2, "StockReceived", content("5"))
	cmd(t, "--config", config, "heal").want(t, exitOK, "2 healed")

	events, err := fleet.Read(t.Context(), site.Owner, shopID)
	if err != nil {
		t.Fatal(err)
	}
	here := events[1]
	arrives := func(qty string) {
		t.Helper()
		there := here
		there.Payload, there.Delta, there.VectorClock = json.RawMessage(content(qty)), nil, nil
		text, err := json.Marshal(there)
		if err != nil {
			t.Fatal(err)
		}
		hereItem, thereItem := reconcile.Item(&here), reconcile.Item(&there)
		sql(`INSERT INTO reconciled.conflict (store_id, event_id, here_item, there_item, there, there_from, recommendation)
			VALUES ($1, $2, $3, $4, $5, $1, 'both copies match their own hashes')`, shopID, receipt, hereItem.Digest[:], thereItem.Digest[:], string(text))
	}
	event := func(config string, args ...string) ran {
		t.Helper()
		return cmd(t, append([]string{"--config", config, "event", "decide"}, args...)...)
	}
	event(config, receipt.String()).want(t, exitTrouble, "no second content", receipt.String())
	arrives("7")
	cmd(t, "--config", config, "conflicts").want(t, exitDiffers, "event decide "+receipt.String())
	event(config, receipt.String()).want(t, exitDiffers, "differ in said", `"qty": 5`, `"qty": 7`, "both copies match", "--keep here|there")
	event(config, receipt.String(), "-o", "json").want(t, exitDiffers, `"qty": 5`, `"qty": 7`, `"differ"`)
	event(config, "x").want(t, exitTrouble, `event id "x" is not a UUID`)
	event(config, receipt.String(), "--keep", "mine").want(t, exitTrouble, "--keep", "mine")
	event(config, receipt.String(), "--keep", "there").want(t, exitTrouble, "--why is needed")
	event(observing, receipt.String(), "--keep", "there", "--why", "note").want(t, exitConfig, "mode: observe")
	moved := func(want string) {
		t.Helper()
		var got string
		err := site.Owner.QueryRow(t.Context(), `SELECT string_agg(qty_delta::int::text, ' ') FROM inventory_movements`).Scan(&got)
		if err != nil || got != want {
			t.Errorf("moved %s, %v; want %s", got, err, want)
		}
	}
	moved("5")
	event(config, receipt.String(), "--keep", "there", "--why", "delivery note", "--by", "ana").want(t, exitOK, "the other side's content, decided by ana", "1 healed")
	moved("7")
	cmd(t, "--config", config, "event", "lost").want(t, exitOK)
	cmd(t, "--config", config, "conflicts").want(t, exitOK, "0 events have two contents", "reconciled-decide")

	arrives("9")
	event(config, receipt.String(), "--keep", "here", "--why", "counted", "--by", "luis", "-o", "json").want(t, exitOK, `"kept": "here"`, `"decided_by": "luis"`)
	moved("7")
	arrives("11")
	event(config, receipt.String(), "--keep", "here", "--why", "counted").want(t, exitOK, "keeps the content that it has here", "--keep there")
}
