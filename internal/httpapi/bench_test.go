package httpapi

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/google/uuid"

	"github.com/veloxpos/reconciled/internal/health"
)

// measured is a daemon that has a store's report at hand, as the real one does.
type measured struct {
	desk
	report health.Report
}

func (m *measured) Health(context.Context, uuid.UUID, bool) (health.Report, error) {
	return m.report, nil
}

// How long health takes to answer over loopback when every figure is bad and twenty of
// each kind are named, beside a probe, which says nothing.
func BenchmarkHealth(b *testing.B) {
	s := health.Snapshot{Store: shop, At: noon, Mode: health.Normal, Metrics: health.Metrics{
		ProjectionGapCount: 20, NegativeStockCount: 20, StockDivergenceCount: 20, CircuitBreakerState: "OPEN",
	}, RemoteError: "no answer"}
	for _, kind := range []string{"negative_stock", "stock_divergence", "fiscal_duplicate", "fiscal_overlap", "gap", "poison", "conflict", "outbox"} {
		for range 20 {
			s.Details = append(s.Details, health.Affected{Kind: kind, ID: uuid.NewString(), Text: "Café Doña Ana 500 g at Almacén 1: ledger -3, cache 0"})
		}
	}
	server := httptest.NewServer(at(&measured{report: health.Evaluate(s, health.Thresholds{})}))
	b.Cleanup(server.Close)
	for _, c := range []struct{ figure, path string }{{"health.answer.ms", healthPath + ofShop}, {"health.answer.floor.ms", "/healthz"}} {
		b.Run(c.figure, func(b *testing.B) {
			r, err := http.NewRequestWithContext(b.Context(), http.MethodGet, server.URL+c.path, nil)
			if err != nil {
				b.Fatal(err)
			}
			r.Header.Set("Authorization", "Bearer admin")
			var bytes int64
			for b.Loop() {
				answer, err := server.Client().Do(r)
				if err != nil {
					b.Fatal(err)
				}
				bytes, err = io.Copy(io.Discard, answer.Body)
				answer.Body.Close()
				if err != nil || answer.StatusCode != http.StatusOK {
					b.Fatal(answer.Status, err)
				}
			}
			b.ReportMetric(float64(bytes), "bytes")
			fmt.Printf("figure %s %.3f ms\n", c.figure, b.Elapsed().Seconds()*1000/float64(b.N))
		})
	}
}
