package telemetry

import (
	"bytes"
	"encoding/json"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
)

func TestALogLineIsJSONWithAnISOTime(t *testing.T) {
	var out bytes.Buffer
	log, err := NewLogger(&out, "info")
	if err != nil {
		t.Fatal(err)
	}
	log.Debug("not said")
	log.Info("run finished", zap.String("task", "heal"))
	var line struct{ Level, Time, Msg, Task string }
	if err := json.Unmarshal(out.Bytes(), &line); err != nil {
		t.Fatal(err)
	}
	if _, err := time.Parse("2006-01-02T15:04:05.000Z0700", line.Time); err != nil || line.Msg != "run finished" || line.Task != "heal" {
		t.Errorf("%+v, %v", line, err)
	}
	if _, err := NewLogger(&out, "loud"); err == nil {
		t.Error("an unknown level was taken")
	}
}

func TestMetricsHaveTheirNames(t *testing.T) {
	m := NewMetrics("v1")
	m.Ended("s", "heal", "succeeded", time.Second, true)
	m.Degraded("s", true)
	m.Health("s", "eventLagCount", 7)
	w := httptest.NewRecorder()
	m.Handler().ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	for _, want := range []string{
		`reconciled_runs_total{outcome="succeeded",task="heal"} 1`, `reconciled_lock_degraded{store="s"} 1`,
		`reconciled_health{metric="eventLagCount",store="s"} 7`, `reconciled_build_info{version="v1"} 1`, `reconciled_last_success_timestamp_seconds{store="s",task="heal"}`,
	} {
		if !strings.Contains(w.Body.String(), want) {
			t.Errorf("no %s", want)
		}
	}
}
