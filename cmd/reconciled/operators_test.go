package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/veloxpos/reconciled/internal/httpapi"
	"github.com/veloxpos/reconciled/internal/postgres/postgrestest"
	"github.com/veloxpos/reconciled/internal/stage"
)

// lonely is a store without a daemon, with something on every list.
func lonely(t *testing.T) (site *postgrestest.Site, command func(args ...string) ran, dead, run uuid.UUID) {
	t.Helper()
	site = postgrestest.New(t)
	site.AddStore(t, shopID)
	dead, run = uuid.New(), uuid.New()
	for _, sql := range []string{
		fmt.Sprintf(`INSERT INTO outbox_entries (id, event_id, event_type, store_id, target, status, retry_count, error) VALUES
			('%s', 'e1', 'SaleCreated', SHOP, 'projection', 'failed', 10, E'no\tproduct\x1b[31m'), (gen_random_uuid(), 'e2', 'SaleCreated', SHOP, 'federation-relay', 'pending', 0, NULL),
			(gen_random_uuid(), 'e3', 'SaleCreated', SHOP, 'projection', 'pending', 10, 'Event not found')`, dead),
		`INSERT INTO conflict_audit_log (store_id, entity_type, entity_id, winner_event_id, loser_event_ids, strategy) VALUES (SHOP, 'stock', 'harina', 'w1', '{l1,l2}', 'lww')`,
		`INSERT INTO federation_health_snapshots (store_id, overall_health, projection_gap_count, remote_reachable) VALUES (SHOP, 'degraded', 7, true)`,
		fmt.Sprintf(`INSERT INTO reconciled.run (id, task, store_id, trigger, state, verdict, report, started_at, finished_at) VALUES
			('%s', 'heal', SHOP, 'schedule', 'succeeded', 'healed', '{"healed": 3}', now(), now() + interval '2 seconds')`, run),
	} {
		if err := site.Server.Exec(t.Context(), site.Name, strings.ReplaceAll(sql, "SHOP", "'"+shopID.String()+"'")); err != nil {
			t.Fatal(err)
		}
	}
	config := file(t, storeConfig, site.Server.URL("reconciled_runtime", site.Name), "http://127.0.0.1:1", unused(t))
	return site, func(args ...string) ran {
		t.Helper()
		return cmd(t, append([]string{"--config", config}, args...)...)
	}, dead, run
}

func TestTheListsNeedNoDaemon(t *testing.T) {
	site, run, dead, ranID := lonely(t)
	store := []string{"--store", shopID.String()}
	with := func(args ...string) ran { t.Helper(); return run(append(args[:1:1], append(store, args[1:]...)...)...) }

	r := with("outbox")
	r.want(t, exitDiffers, dead.String(), "no product [31m", "dead (zombie)", "e1 (not in the log)", "projection has 0 pending and 2 dead, of which 1 still say pending", "federation-relay has 1 pending and 0 dead\n", "reconciled outbox retry ENTRY --why TEXT")
	if strings.Contains(r.out, "\x1b") {
		t.Error("what the POS wrote reaches the terminal as it is")
	}
	if r := with("outbox", "--dead"); strings.Contains(r.out, "e2 (") || !strings.Contains(r.out, "e3 (") || r.code != exitDiffers {
		t.Errorf("exit %d: %s", r.code, r.out)
	}
	if r := with("outbox", "--pending"); !strings.Contains(r.out, "e2 (") || strings.Contains(r.out, "e3 (") || r.code != exitOK {
		t.Errorf("exit %d: %s", r.code, r.out)
	}
	with("outbox", "--pending", "--dead").want(t, exitTrouble, "--pending", "--dead")
	var page httpapi.OutboxPage
	if r := with("outbox", "-o", "json"); json.Unmarshal([]byte(r.out), &page) != nil || len(page.Entries) != 3 || page.Store != shopID || r.code != exitDiffers {
		t.Errorf("exit %d: %s%s", r.code, r.out, r.err)
	}

	run("outbox", "retry", dead.String()).want(t, exitTrouble, "--why is needed")
	run("outbox", "retry", "--why", "x").want(t, exitTrouble, "entry-id")
	run("outbox", "retry", "tienda", "--why", "x").want(t, exitTrouble, "entry id", "tienda")
	run("outbox", "retry", dead.String(), uuid.NewString(), "--why", "x").want(t, exitTrouble, "no such open outbox entry")
	with("outbox", "retry", dead.String(), "--why", "it came", "--by", "ana").want(t, exitOK, "1 outbox entries set back to pending by ana")
	with("outbox", "--dead").want(t, exitDiffers, "projection has 1 pending and 1 dead")
	var audit string
	if err := site.DB.Pool.QueryRow(t.Context(), `SELECT actor || ' ' || action || ' ' || (detail ->> 'why') FROM reconciled.audit`).Scan(&audit); err != nil || audit != "ana outbox retry it came" {
		t.Errorf("audit: %s, %v", audit, err)
	}

	with("conflicts").want(t, exitOK, "0 events have two contents", "stock harina", "l1 and 1 more")
	if err := site.Server.Exec(t.Context(), site.Name, fmt.Sprintf(`INSERT INTO reconciled.conflict (store_id, event_id, here_item, there_item, there, there_from, recommendation)
		VALUES ('%s', '%s', '\x0a', '\x0b', '{}', '%[1]s', 'both copies match their own hashes')`, shopID, ranID)); err != nil {
		t.Fatal(err)
	}
	with("conflicts").want(t, exitDiffers, "1 events have two contents", ranID.String(), "both copies match")
	with("conflicts", "--output", "json").want(t, exitDiffers, `"undecided_total": 1`, `"here_item": "0a"`)

	with("runs").want(t, exitOK, ranID.String(), "healed", "2s")
	with("runs", "--task", "reconcile").want(t, exitOK, "no run is known")
	with("runs", "--task", "dance").want(t, exitTrouble, "--task")
	run("runs", "show", ranID.String()).want(t, exitOK, `"healed": 3`, "took")
	run("runs", "show", uuid.NewString()).want(t, exitTrouble, "no run has this id")
	run("runs", "show", "7").want(t, exitTrouble, "run id")

	with("health", "--history", "24").want(t, exitOK, "degraded", "there")
	with("health", "--history", "24", "-o", "json").want(t, exitOK, `"projectionGapCount": 7`)
	with("health", "--history", "169").want(t, exitTrouble, "between 1 and 168")
	with("health", "--history", "24", "--fresh").want(t, exitTrouble, "--fresh")
	with("health", "--fresh").want(t, exitTrouble, "no daemon answers")

	with("breaker").want(t, exitTrouble, "no daemon answers", "the running daemon's")
	with("breaker", "reset").want(t, exitTrouble, "no daemon answers")
}

func TestOutboxEntriesStayAsTheyAreWhereNothingMayBeWritten(t *testing.T) {
	site, _, dead, _ := lonely(t)
	config := file(t, storeConfig+"mode: observe\n", site.Server.URL("reconciled_runtime", site.Name), "http://127.0.0.1:1", unused(t))
	cmd(t, "--config", config, "outbox", "retry", dead.String(), "--why", "x").want(t, exitConfig, "mode: observe")
}

func TestAnAPIWithoutATokenIsNotStarted(t *testing.T) {
	empty := file(t, "\n")
	for _, token := range []string{"", "token: ''", "token: '  '", "token_file: " + empty, "token_file: /nonexistent/token"} {
		config := strings.Replace(fmt.Sprintf(storeConfig, "postgres://x", "http://127.0.0.1:1", ":1"), "token: admin", token, 1)
		cmd(t, "--config", file(t, "%s", config), "run").want(t, exitConfig, "api.token")
	}
}

func TestWhatTheDaemonRefusesHasItsExitCode(t *testing.T) {
	var status int
	var body string
	api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Retry-After", "5")
		w.WriteHeader(status)
		fmt.Fprint(w, body)
	}))
	t.Cleanup(api.Close)
	config := file(t, storeConfig, "postgres://x", "http://127.0.0.1:1", strings.TrimPrefix(api.URL, "http://"))
	for _, c := range []struct {
		status int
		body   string
		exit   int
		says   string
	}{
		{409, `{"code": "LockHeld", "holder": "caja-2", "message": "LockHeld: caja-2 works on this store"}`, exitHeld, "caja-2"},
		{409, `{"code": "Paused", "message": "paused by ana"}`, exitHeld, "paused by ana"},
		{409, `{"code": "Observing", "message": "mode: observe"}`, exitConfig, "mode: observe"},
		{409, `{"code": "KEY_IN_USE", "message": "under way"}`, exitTrouble, "under way"},
		{404, `{"code": "UNKNOWN_ENTRY", "message": "there is no such open outbox entry: 7"}`, exitTrouble, "UNKNOWN_ENTRY"},
		{401, `{"code": "UNAUTHORIZED", "message": "the token is not the admin's"}`, exitTrouble, "not the admin's"},
		{502, `<html>`, exitTrouble, "not this daemon"},
	} {
		status, body = c.status, c.body
		cmd(t, "--config", config, "outbox", "retry", uuid.NewString(), "--why", "x").want(t, c.exit, c.says)
	}
}

func TestOperatorsCommandsGoThroughTheDaemon(t *testing.T) {
	c := newChain(t, stage.Options{}, 100)
	c.start(c.Central, c.Store)
	c.must(c.Store, "auto-reconcile", false)
	run := func(args ...string) ran {
		t.Helper()
		return cmd(t, append([]string{"--config", c.Store.Config}, append(args, "--store", shopID.String())...)...)
	}
	dead, super := uuid.New(), c.super(c.Store)
	if _, err := super.Exec(t.Context(), `INSERT INTO outbox_entries (id, event_id, event_type, store_id, target, status, retry_count) VALUES ($1, 'e', 'SaleCreated', $2, 'projection', 'failed', 10)`, dead, shopID); err != nil {
		t.Fatal(err)
	}
	run("health", "--fresh", "-o", "json").want(t, exitDiffers, `"outboxDead": 1`)
	run("outbox").want(t, exitDiffers, dead.String())
	run("outbox", "retry", uuid.NewString(), "--why", "x").want(t, exitTrouble, "UNKNOWN_ENTRY")
	run("outbox", "retry", dead.String(), "--why", "it came", "--by", "José").want(t, exitOK, "set back to pending by José")
	run("outbox").want(t, exitOK, "1 pending and 0 dead")
	run("health", "--fresh").want(t, exitOK, "healthy")
	run("conflicts").want(t, exitOK)
	run("health", "--history", "1").want(t, exitOK)
	r := run("runs", "--task", "reconcile", "-o", "json")
	var list httpapi.RunList
	if err := json.Unmarshal([]byte(r.out), &list); err != nil || len(list.Runs) == 0 || list.Runs[0].Trigger != "api" {
		t.Fatalf("%s, %v", r.out, err)
	}
	cmd(t, "--config", c.Store.Config, "runs", "show", list.Runs[0].ID.String()).want(t, exitOK, "in_sync", "report")

	run("breaker").want(t, exitOK, "CLOSED")
	if err := c.Central.Kill(); err != nil {
		t.Fatal(err)
	}
	for range 2 { // eight tries
		run("reconcile").want(t, exitTrouble)
	}
	run("breaker").want(t, exitDiffers, "OPEN", "next probe", "reconciled breaker reset")
	run("breaker", "reset", "--by", "luis").want(t, exitOK, "CLOSED")
	if n := c.number(super, `SELECT count(*) FROM reconciled.audit WHERE (actor, action, outcome) IN (('José', 'outbox retry', 'refused'), ('José', 'outbox retry', 'pending'), ('luis', 'breaker reset', 'reset'))`); n != 2 {
		t.Errorf("%d decisions of theirs in the audit, want 2", n)
	}
	if n := c.number(super, `SELECT count(*) FROM reconciled.audit WHERE action = 'outbox retry' AND outcome = 'refused' AND store_id = $1 AND detail ->> 'code' = 'UNKNOWN_ENTRY'`, shopID); n != 1 {
		t.Errorf("%d refusals in the audit, want 1", n)
	}
	cmd(t, "--config", c.Central.Config, "breaker", "--store", shopID.String()).want(t, exitTrouble, "no daemon answers")
	c.start(c.Central)
	cmd(t, "--config", c.Central.Config, "breaker", "--store", shopID.String()).want(t, exitTrouble, "NO_BREAKER")
}
