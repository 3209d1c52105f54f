package main

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/veloxpos/reconciled/internal/alert"
	"github.com/veloxpos/reconciled/internal/postgres"
	"github.com/veloxpos/reconciled/internal/postgres/postgrestest"
)

func TestAlertsAreShownAndTakenOn(t *testing.T) {
	site := postgrestest.New(t)
	site.AddStore(t, shopID)
	config := file(t, storeConfig, site.Server.URL("reconciled_runtime", site.Name), "http://127.0.0.1:1", unused(t))
	cmd(t, "--config", config, "alerts").want(t, exitTrouble, "is not being looked at (never)")
	book := postgres.NewAlerts(site.DB)
	err := book.Step(t.Context(), shopID, 0, func(time.Time, []alert.Alert) ([]alert.Alert, []alert.Delivery) { return nil, nil })
	if err != nil {
		t.Fatal(err)
	}
	cmd(t, "--config", config, "alerts").want(t, exitOK, "no alerts", "reconciled health --store "+shopID.String())
	err = book.Step(t.Context(), shopID, 0, func(now time.Time, kept []alert.Alert) ([]alert.Alert, []alert.Delivery) {
		look := alert.Look{Store: shopID}
		look.Add(alert.FiscalDuplicate, alert.Finding{Key: "A/777", Value: 2, Threshold: 1, Total: 2})
		changed, _ := alert.Step(now, kept, look, 0)
		return changed, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	cmd(t, "--config", config, "alerts").want(t, exitDiffers, "FISCAL_DUPLICATE", "A/777", "firing", "reconciled fiscal duplicates --store "+shopID.String())
	r := cmd(t, "--config", config, "alerts", "-o", "json")
	var list []alert.Alert
	if err := json.Unmarshal([]byte(r.out), &list); err != nil || r.code != exitDiffers || len(list) != 1 {
		t.Fatalf("exit %d, %+v, %v", r.code, list, err)
	}
	cmd(t, "--config", config, "alerts", "ack", list[0].ID.String()).want(t, exitTrouble, "--why")
	cmd(t, "--config", config, "alerts", "ack", "x", "--why", "y").want(t, exitTrouble, `"x" is not a UUID`)
	cmd(t, "--config", config, "alerts", "ack", uuid.NewString(), "--why", "y").want(t, exitTrouble, "no alert has this id")
	cmd(t, "--config", config, "alerts", "ack", list[0].ID.String(), "--why", "legal knows", "--by", "ana").want(t, exitOK, "taken on by ana")
	cmd(t, "--config", config, "alerts").want(t, exitDiffers, "acknowledged by ana")
}

func TestALookAheadOfTheClockIsNone(t *testing.T) {
	site := postgrestest.New(t)
	site.AddStore(t, shopID)
	config := file(t, storeConfig, site.Server.URL("reconciled_runtime", site.Name), "http://127.0.0.1:1", unused(t))
	looked := func(when string) {
		err := site.Server.Exec(t.Context(), site.Name, `INSERT INTO reconciled.alert_look (store_id, looked_at) VALUES ('`+shopID.String()+`', now() + interval '`+when+`')
			ON CONFLICT (store_id) DO UPDATE SET looked_at = excluded.looked_at`)
		if err != nil {
			t.Fatal(err)
		}
	}
	looked("5 seconds") // the database's clock is not this one
	cmd(t, "--config", config, "alerts").want(t, exitOK, "no alerts")
	looked("3 hours")
	cmd(t, "--config", config, "alerts").want(t, exitTrouble, "is not being looked at (last at ")
}

func TestATestMessageGoesOverEachChannelAndSaysSo(t *testing.T) {
	var mu sync.Mutex
	var heard []string
	receiver := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		mu.Lock()
		defer mu.Unlock()
		heard = append(heard, r.URL.Path+" "+string(body))
		if strings.HasPrefix(r.URL.Path, "/api/v2") {
			w.WriteHeader(http.StatusTeapot)
		}
	}))
	defer receiver.Close()
	config := file(t, storeConfig, "postgres://nobody@127.0.0.1:1/x", "http://127.0.0.1:1", unused(t))
	cmd(t, "--config", config, "alert", "test").want(t, exitConfig, "no channel is configured")
	environ := map[string]string{
		"RECONCILED_ALERTS_WEBHOOK_URL": receiver.URL + "/hook", "RECONCILED_ALERTS_WEBHOOK_SECRET": "s3cret",
		"RECONCILED_ALERTS_ALERTMANAGER_URL": receiver.URL,
	}
	var out, errs strings.Builder
	code := run(context.Background(), []string{"--config", config, "alert", "test"}, environ, &out, &errs)
	if code != exitTrouble || !strings.Contains(out.String(), "webhook: sent") || !strings.Contains(out.String(), "alertmanager: NOT sent") || !strings.Contains(out.String(), "418") {
		t.Errorf("exit %d\n%s%s", code, out.String(), errs.String())
	}
	mu.Lock()
	defer mu.Unlock()
	if len(heard) != 2 || !strings.HasPrefix(heard[0], "/hook") || !strings.Contains(heard[0], "PRUEBA") {
		t.Errorf("heard %q", heard)
	}
}
