// Package telemetry is how the daemon speaks to machines: structured logs on
// standard error and Prometheus metrics with stable names and bounded labels.
package telemetry

import (
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// NewLogger writes JSON lines to w: level, time in ISO 8601, message, fields.
// Nothing is sampled.
func NewLogger(w io.Writer, level string) (*zap.Logger, error) {
	at, err := zapcore.ParseLevel(level)
	if err != nil {
		return nil, fmt.Errorf("log level: %w", err)
	}
	encoding := zap.NewProductionEncoderConfig()
	encoding.TimeKey, encoding.EncodeTime = "time", zapcore.ISO8601TimeEncoder
	core := zapcore.NewCore(zapcore.NewJSONEncoder(encoding), zapcore.Lock(zapcore.AddSync(w)), at)
	return zap.New(core), nil
}

// Metrics are the daemon's. A label "store" has as many values as stores are
// served, "task" as many as there are tasks, "outcome" those of a run.
type Metrics struct {
	registry *prometheus.Registry

	runs        *prometheus.CounterVec
	runSeconds  *prometheus.HistogramVec
	lastSuccess *prometheus.GaugeVec
	health      *prometheus.GaugeVec
	lockDegrade *prometheus.GaugeVec
	alerts      *prometheus.GaugeVec
}

// NewMetrics registers on a registry of its own.
func NewMetrics(version string) *Metrics {
	m := &Metrics{
		registry: prometheus.NewRegistry(),
		runs: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "reconciled_runs_total", Help: "Runs ended, by task and outcome (the verdict, or failed, held, interrupted).",
		}, []string{"task", "outcome"}),
		runSeconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "reconciled_run_seconds", Help: "How long runs took.", Buckets: prometheus.ExponentialBuckets(0.01, 4, 9),
		}, []string{"task"}),
		lastSuccess: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "reconciled_last_success_timestamp_seconds", Help: "When a task last succeeded for a store.",
		}, []string{"store", "task"}),
		health: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "reconciled_health", Help: "The health report's numbers, by their name in the report.",
		}, []string{"store", "metric"}),
		lockDegrade: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "reconciled_lock_degraded", Help: "1 while Redis is away and the database's fence alone excludes.",
		}, []string{"store"}),
	}
	m.alerts = prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "reconciled_alerts", Help: "Alerts that are not over, by code and state.",
	}, []string{"store", "code", "state"})
	build := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "reconciled_build_info", Help: "1, with the version as a label.", ConstLabels: prometheus.Labels{"version": version},
	})
	build.Set(1)
	m.registry.MustRegister(m.runs, m.runSeconds, m.lastSuccess, m.health, m.lockDegrade, m.alerts, build,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// Handler serves the metrics.
func (m *Metrics) Handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{Registry: m.registry})
}

// Ended counts a run.
func (m *Metrics) Ended(store, task, outcome string, took time.Duration, success bool) {
	m.runs.WithLabelValues(task, outcome).Inc()
	m.runSeconds.WithLabelValues(task).Observe(took.Seconds())
	if success {
		m.lastSuccess.WithLabelValues(store, task).SetToCurrentTime()
	}
}

// Degraded says whether the store's lock went without Redis.
func (m *Metrics) Degraded(store string, degraded bool) {
	value := 0.0
	if degraded {
		value = 1
	}
	m.lockDegrade.WithLabelValues(store).Set(value)
}

// Health sets one of the report's numbers.
func (m *Metrics) Health(store, metric string, value float64) {
	m.health.WithLabelValues(store, metric).Set(value)
}

// Alerts sets how many alerts of a store are not over, by code and state. What is not
// named is none.
func Alerts[Code, State ~string](m *Metrics, store string, counts map[Code]map[State]int) {
	m.alerts.DeletePartialMatch(prometheus.Labels{"store": store})
	for code, states := range counts {
		for state, n := range states {
			m.alerts.WithLabelValues(store, string(code), string(state)).Set(float64(n))
		}
	}
}
