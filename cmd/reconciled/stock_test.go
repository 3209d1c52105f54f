package main

import (
	"encoding/json"
	"testing"

	"github.com/google/uuid"

	"github.com/veloxpos/reconciled/internal/postgres/postgrestest"
)

func TestStockIsHeldAgainstTheLedgerAndRepaired(t *testing.T) {
	site := postgrestest.New(t)
	site.AddStore(t, shopID)
	store := file(t, storeConfig, site.Server.URL("reconciled_runtime", site.Name), "http://127.0.0.1:1", unused(t))
	sql := func(sql string, args ...any) {
		t.Helper()
		if _, err := site.Owner.Exec(t.Context(), sql, args...); err != nil {
			t.Fatal(err)
		}
	}
	room, flour, rice := uuid.New(), uuid.New(), uuid.New()
	sql(`INSERT INTO warehouses (id, store_id, name, code, is_default) VALUES ($1, $2, 'Principal', 'P', true)`, room, shopID)
	sql(`INSERT INTO products (id, store_id, name) VALUES ($1, $2, 'Harina'), ($3, $2, 'Arroz')`, flour, shopID, rice)
	cmd(t, "--config", store, "stock").want(t, exitOK, "nothing is oversold")

	sql(`INSERT INTO inventory_movements (id, store_id, product_id, movement_type, qty_delta, happened_at, warehouse_id)
		VALUES (gen_random_uuid(), $1, $2, 'received', 5.5, now(), $3), (gen_random_uuid(), $1, $4, 'sold', -4, now(), NULL)`, shopID, flour, room, rice)
	sql(`INSERT INTO warehouse_stock (warehouse_id, product_id, stock) VALUES ($1, $2, 2)`, room, flour)
	cmd(t, "--config", store, "stock").want(t, exitDiffers, "Harina", "Principal", "5.5", "-3.5", "Arroz", "2 keys found", "1 diverge and 1 are oversold", "--repair --dry-run", "StockAdjusted")
	cmd(t, "--config", store, "stock", "--repair").want(t, exitTrouble, "--why is needed")
	cmd(t, "--config", store, "stock", "--dry-run").want(t, exitTrouble, "--repair")
	cmd(t, "--config", store, "stock", "--repair", "--dry-run").want(t, exitDiffers, "would be set from 2 to 5.5", "--why TEXT")
	r := cmd(t, "--config", store, "stock", "--rebuild", "-o", "json")
	var list stockList
	if err := json.Unmarshal([]byte(r.out), &list); err != nil || r.code != exitDiffers || list.Total != 2 || len(list.Findings) != 2 ||
		list.Findings[0].Product != flour || list.Findings[0].Target != "5.5" || !list.Findings[1].Oversold {
		t.Fatalf("exit %d, %+v, %v", r.code, list, err)
	}

	cmd(t, "--config", store, "stock", "--repair", "--why", "a drill", "--by", "ana").
		want(t, exitDiffers, "cache set from 2 to 5.5", "1 cached totals set by ana", "Arroz", "0 diverge and 1 are oversold")
	var audits int
	if err := site.DB.Pool.QueryRow(t.Context(), `SELECT count(*) FROM reconciled.audit WHERE actor = 'ana' AND detail ->> 'why' = 'a drill'`).Scan(&audits); err != nil || audits != 1 {
		t.Errorf("%d audit rows, %v", audits, err)
	}
	sql(`INSERT INTO inventory_movements (id, store_id, product_id, movement_type, qty_delta, happened_at)
		VALUES (gen_random_uuid(), $1, $2, 'adjust', 4, now())`, shopID, rice)
	r = cmd(t, "--config", store, "stock", "--repair", "--why", "a drill", "-o", "json")
	list = stockList{}
	if err := json.Unmarshal([]byte(r.out), &list); err != nil || r.code != exitOK || list.Total != 0 || len(list.Repaired) != 0 || list.By == "" {
		t.Errorf("exit %d, %+v, %v: %s", r.code, list, err, r.err)
	}
	sql(`ALTER TABLE inventory_movements DISABLE TRIGGER reconciled_stock`)
	cmd(t, "--config", store, "stock").want(t, exitTrouble, "stock is not followed", "reconciled event evidence")
}
