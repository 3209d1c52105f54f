package fleet_test

import (
	"context"
	"testing"

	"github.com/veloxpos/reconciled/internal/fleet"
)

const manyEvents = 100_000

func BenchmarkTrade(b *testing.B) {
	for b.Loop() {
		fleet.NewShop(everything(1)).Trade(manyEvents)
	}
}

func BenchmarkInsert(b *testing.B) {
	shop := fleet.NewShop(everything(1))
	events := shop.Trade(manyEvents)
	for b.Loop() {
		b.StopTimer()
		pool := database(b)
		if err := shop.Reference().Insert(context.Background(), pool); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
		if _, err := fleet.Insert(context.Background(), pool, events, fleet.InsertOptions{}); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkProjectAll(b *testing.B) {
	shop := fleet.NewShop(everything(1))
	events := shop.Trade(manyEvents)
	for b.Loop() {
		b.StopTimer()
		pool := database(b)
		ctx := context.Background()
		if err := shop.Reference().Insert(ctx, pool); err != nil {
			b.Fatal(err)
		}
		if _, err := fleet.Insert(ctx, pool, events, fleet.InsertOptions{}); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
		if err := fleet.NewBackend(pool, fleet.BackendOptions{}).ProjectAll(ctx, store); err != nil {
			b.Fatal(err)
		}
	}
}
