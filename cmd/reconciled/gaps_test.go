package main

import (
	"encoding/json"
	"testing"

	"github.com/google/uuid"

	"github.com/veloxpos/reconciled/internal/postgres/postgrestest"
)

func TestGapsAreListedRetriedDismissedAndSettled(t *testing.T) {
	site := postgrestest.New(t)
	site.AddStore(t, shopID)
	config := file(t, storeConfig, site.Server.URL("reconciled_runtime", site.Name), "http://127.0.0.1:1", unused(t))
	sql := func(sql string, args ...any) {
		t.Helper()
		if _, err := site.Owner.Exec(t.Context(), sql, args...); err != nil {
			t.Fatal(err)
		}
	}
	gaps := func(args ...string) ran {
		t.Helper()
		return cmd(t, append([]string{"--config", config, "gaps"}, args...)...)
	}
	gaps().want(t, exitOK, "0 actionable", "0 poison")

	waits, malformed, sale, thing := uuid.New(), uuid.New(), uuid.New(), uuid.New()
	log := func(id uuid.UUID, kind, payload string) {
		sql(`INSERT INTO events (event_id, store_id, device_id, seq, type, version, created_at, received_at, payload, delta_payload)
			VALUES ($1, $2, $2, 1, $3, 1, now() - interval '1 hour', now() - interval '1 hour', $4, $4)`, id, shopID, kind, payload)
	}
	log(waits, "StockReceived", `{"movement_id": "`+uuid.NewString()+`", "product_id": "`+thing.String()+`", "qty": 1}`)
	log(malformed, "StockReceived", `{"qty": "x"}`)
	cmd(t, "--config", config, "heal").want(t, exitOK, "1 waiting", "1 in quarantine")

	gaps().want(t, exitDiffers, "1 waiting", "1 poison", waits.String(), malformed.String(), "products "+thing.String(), "gaps retry EVENT", "gaps dismiss EVENT --why TEXT")
	gaps("--class", "blocked").want(t, exitOK)
	gaps("--class", "dusty").want(t, exitTrouble, "--class")
	r := gaps("--output", "json", "--class", "waiting")
	var list gapList
	if err := json.Unmarshal([]byte(r.out), &list); err != nil || r.code != exitDiffers || list.Totals["poison"] != 1 || len(list.Gaps) != 1 || list.Gaps[0].Event != waits || list.Gaps[0].WaitsID.UUID != thing {
		t.Fatalf("exit %d, %+v, %v", r.code, list, err)
	}

	gaps("retry").want(t, exitTrouble, "either event ids or --all")
	gaps("retry", "--all", waits.String()).want(t, exitTrouble, "either event ids or --all")
	gaps("retry", waits.String(), "--class", "waiting").want(t, exitTrouble, "--class goes with --all")
	gaps("retry", "tienda-1").want(t, exitTrouble, "tienda-1")
	gaps("retry", uuid.NewString()).want(t, exitTrouble, "is no gap")
	gaps("retry", waits.String(), "--by", "ana").want(t, exitOK, "1 gaps made due by ana", "reconciled heal")
	gaps("retry", "--all", "--class", "blocked", "-o", "json").want(t, exitOK, `"due": []`)

	gaps("dismiss", malformed.String()).want(t, exitTrouble, "--why is needed")
	gaps("dismiss", waits.String(), "--why", "x").want(t, exitTrouble, "is not in quarantine")
	gaps("dismiss", malformed.String(), "--why", "a test till", "--by", "ana").want(t, exitOK, "dismissed by ana", "gaps retry "+malformed.String())
	gaps("--class", "poison").want(t, exitOK, "0 poison")
	gaps("--class", "poison", "--dismissed").want(t, exitOK, "dismissed by ana: a test till")

	gaps("outstanding").want(t, exitOK, "nothing is outstanding")
	sql(`INSERT INTO products (id, store_id, name) VALUES ($1, $2, 'Harina')`, thing, shopID)
	log(sale, "SaleCreated", `{"sale_id": "`+sale.String()+`", "items": [{"product_id": "`+thing.String()+`", "qty": 1, "unit_price_bs": 1, "unit_price_usd": 1}],
		"totals": {}, "payment": {"method": "CASH_BS"}}`)
	cmd(t, "--config", config, "heal").want(t, exitOK, "2 healed")
	gaps("outstanding").want(t, exitDiffers, sale.String(), "journal entry", "--settle EVENT --why TEXT")
	gaps("outstanding", "--settle", sale.String()).want(t, exitTrouble, "--why is needed")
	gaps("outstanding", "--settle", waits.String(), "--why", "x").want(t, exitTrouble, "nothing is outstanding of event")
	gaps("outstanding", "--settle", sale.String(), "--why", "booked by hand", "--by", "luis").want(t, exitOK, "1 events settled by luis")
	gaps("outstanding", "-o", "json").want(t, exitOK, `"total": 0`)
	gaps("log", "--event", sale.String()).want(t, exitOK, "SaleCreated", "native", `"projection_status": "pending"`, "healed 1 times")
	gaps("log", "--event", malformed.String(), "-o", "json").want(t, exitOK, `"entries": []`)
}
