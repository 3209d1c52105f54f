package main

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/veloxpos/reconciled/internal/health"
	"github.com/veloxpos/reconciled/internal/postgres/postgrestest"
)

func TestTheDoctorWalksTheRunbookAndSaysWhatIsWrongTheGravestFirst(t *testing.T) {
	site := postgrestest.New(t)
	site.AddStore(t, shopID)
	config := file(t, storeConfig, site.Server.URL("reconciled_runtime", site.Name), "http://127.0.0.1:1", unused(t))
	sql := func(sql string, args ...any) {
		t.Helper()
		if _, err := site.Owner.Exec(t.Context(), sql, args...); err != nil {
			t.Fatal(err)
		}
	}
	sql(`INSERT INTO outbox_entries (event_id, event_type, store_id, target, status, error, retry_count) VALUES ($1, 'SaleCreated', $2, 'projection', 'failed', 'why', 10)`,
		uuid.NewString(), shopID)
	sql(`INSERT INTO sales (id, store_id, sold_at, currency, totals, payment, fiscal_number)
		SELECT gen_random_uuid(), $1, now(), 'BS', '{}', '{}', '777' FROM generate_series(1, 2)`, shopID)
	cmd(t, "--config", config, "heal").want(t, exitOK)
	cmd(t, "--config", config, "doctor").want(t, exitDiffers,
		"the daemon does not answer", "1. CRITICAL FISCAL_DUPLICATE", "2. CRITICAL DAEMON_DOWN", "OUTBOX_DEAD", "REMOTE_UNREACHABLE",
		"reconciled fiscal duplicates --store "+shopID.String(), "reconciled outbox --store "+shopID.String(), "systemctl status reconciled",
		"the runbook, section by section", "outbox dead", "fiscal numbers")
	r := cmd(t, "--config", config, "doctor", "-o", "json")
	var found diagnosis
	if err := json.Unmarshal([]byte(r.out), &found); err != nil || r.code != exitDiffers {
		t.Fatalf("exit %d, %v: %s", r.code, err, r.out)
	}
	for _, a := range found.Wrong {
		if a.Next == "" || a.Section == "" || a.Doing.ES == "" || a.Doing.EN == "" || a.ES == "" || a.EN == "" {
			t.Errorf("%s has no advice: %+v", a.Code, a)
		}
	}
	if found.Wrong[0].Code != "FISCAL_DUPLICATE" || len(found.Wrong[0].Affected) != 1 || len(found.Walked) < 10 {
		t.Errorf("%+v", found)
	}
	down := file(t, storeConfig, "postgres://reconciled_runtime@127.0.0.1:1/x", "http://127.0.0.1:1", unused(t))
	cmd(t, "--config", down, "doctor").want(t, exitTrouble, "without its database nothing can be measured")
	whichever := file(t, strings.Replace(storeConfig, "stores: [", "stores: [] # ", 1), "postgres://reconciled_runtime@127.0.0.1:1/x", "http://127.0.0.1:1", unused(t))
	cmd(t, "--config", whichever, "doctor").want(t, exitTrouble, "without its database nothing can be measured")
}

// A broken capture is what these commands are for: they must open a database that has it.
// What needs the tree does not go on.
func TestABrokenCaptureIsShownAndNotInTheWay(t *testing.T) {
	site := postgrestest.New(t)
	site.AddStore(t, shopID)
	config := file(t, storeConfig, site.Server.URL("reconciled_runtime", site.Name), "http://127.0.0.1:1", unused(t))
	cmd(t, "--config", config, "heal").want(t, exitOK)
	if err := site.Server.Exec(t.Context(), site.Name, `ALTER TABLE events DISABLE TRIGGER reconciled_insert`); err != nil {
		t.Fatal(err)
	}
	cmd(t, "--config", config, "doctor").want(t, exitDiffers, "CAPTURE_BROKEN", "reconciled event evidence")
	cmd(t, "--config", config, "event", "evidence").want(t, exitDiffers, "capture", "reconciled_insert")
	if r := cmd(t, "--config", config, "alerts"); r.code != exitTrouble || !strings.Contains(r.err, "is the daemon running") || r.out != "" {
		t.Errorf("exit %d, %s%s", r.code, r.out, r.err)
	}
	cmd(t, "--config", config, "fiscal", "duplicates").want(t, exitOK)
	cmd(t, "--config", config, "verify").want(t, exitConfig, "reconciled_insert")
}

// A daemon that answers something else is no reason to say nothing.
func TestTheDoctorMeasuresItselfWhereTheDaemonIsSick(t *testing.T) {
	sick := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "out of memory", http.StatusInternalServerError)
	}))
	defer sick.Close()
	site := postgrestest.New(t)
	site.AddStore(t, shopID)
	config := file(t, storeConfig, site.Server.URL("reconciled_runtime", site.Name), "http://127.0.0.1:1", sick.Listener.Addr())
	cmd(t, "--config", config, "doctor").want(t, exitDiffers, "CRITICAL DAEMON_DOWN", "does not answer as it should", "status 500", "REMOTE_UNREACHABLE")
}

// Every reason that health can give is one that the doctor has advice for.
func TestTheDoctorHasAdviceForEveryReason(t *testing.T) {
	for _, code := range reasonCodes(t) {
		if a := describe(health.Report{StoreID: shopID}, reasonOf(code)); a.Next == "" || a.Section == "" || a.Doing.EN == "" || a.Doing.ES == "" {
			t.Errorf("%s: %+v", code, a)
		}
	}
}

func reasonOf(code string) health.Reason { return health.Reason{Code: code, Level: health.Degraded} }

// reasonCodes are those of a store with which everything is wrong.
func reasonCodes(t *testing.T) (codes []string) {
	t.Helper()
	s := health.Snapshot{LockDegraded: true, At: time.Now(), Duties: []health.Duty{{Task: "heal", Since: 10}}}
	for _, counts := range []any{&s.Metrics, &s.More} {
		v := reflect.ValueOf(counts).Elem()
		for i := range v.NumField() {
			if field := v.Field(i); field.Kind() == reflect.Int64 {
				field.SetInt(1 << 40)
			}
		}
	}
	s.More.EventDeletedCount = 1
	for _, change := range []func(){
		func() {},
		func() { s.Metrics.RemoteReachable = true },
		func() { s.More.SyncReady, s.Metrics.CircuitBreakerState = true, "OPEN" },
		func() { s.LastReconcile.Verdict = "unknown" },
		func() { s.LastReconcile.Verdict = "differs" },
		func() { s.Pause = &health.Pause{By: "ana", Why: "x"} },
	} {
		change()
		for _, reason := range health.Evaluate(s, health.Thresholds{}).Reasons {
			if !slices.Contains(codes, reason.Code) {
				codes = append(codes, reason.Code)
			}
		}
	}
	if len(codes) < 25 {
		t.Fatalf("only %v", codes)
	}
	return codes
}
