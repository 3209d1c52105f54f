package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/sync/errgroup"

	"github.com/veloxpos/reconciled/healer"
	"github.com/veloxpos/reconciled/internal/fleet"
	"github.com/veloxpos/reconciled/internal/postgres"
	"github.com/veloxpos/reconciled/internal/velox"
)

// A grace of nothing makes the healer take up what the backend is about to.
func TestI4APollerAtWorkOnTheSameEventsDoublesNothing(t *testing.T) {
	for name, backend := range map[string]fleet.BackendOptions{"right": right, "as shipped": {AsShipped: true}} {
		t.Run(name, func(t *testing.T) {
			trading := everythingSold(31)
			events := trading.Trade(400)
			f := newFolded(t, trading.Reference())
			f.healer = healer.New(postgres.NewHealing(f.site.DB), healer.Options{Grace: time.Nanosecond, Batch: 20})
			owner, err := pgxpool.New(t.Context(), f.site.Server.URL("postgres", f.site.Name))
			if err != nil {
				t.Fatal(err)
			}
			defer owner.Close()
			polled, healed := f.race(owner, events, backend)
			t.Logf("polled %d events, healed %d", polled, healed)
			if polled == 0 || healed == 0 {
				t.Error("there was no race")
			}
			// What the poller did last is looked at once more; its totals are another's to repair.
			f.settle()
			stock := postgres.NewHealing(f.site.DB)
			if err := stock.DrainStock(t.Context(), f.grant); err != nil {
				t.Fatal(err)
			}
			if _, err := stock.RepairStock(t.Context(), f.grant, time.Minute, "ana", "raced"); err != nil {
				t.Fatal(err)
			}
			// Of a payload that overwrote another, the movement has the time of whichever
			// event the backend projected first (events.md, section 5).
			for _, line := range f.differences() {
				if !backend.AsShipped || !strings.HasPrefix(line, "inventory_movements ") || !strings.Contains(line, ".happened_at: ") {
					t.Error(line)
				}
			}
			f.wantNothingTwice()
		})
	}
}

// race lets a poller and the healer work on the same events until the outbox is empty.
func (f *folded) race(owner *pgxpool.Pool, events []velox.Event, backend fleet.BackendOptions) (polled, healed int) {
	f.Helper()
	for i := range events {
		events[i] = fleet.Relayed(events[i]) // so that each has an entry
	}
	if _, err := fleet.Insert(f.Context(), owner, events, fleet.InsertOptions{Relayed: true}); err != nil {
		f.Fatal(err)
	}
	if _, err := postgres.NewLog(f.site.DB).Pin(f.Context(), shop); err != nil {
		f.Fatal(err)
	}
	poller := fleet.NewBackend(owner, backend)
	group, ctx := errgroup.WithContext(f.Context())
	idle := make(chan struct{})
	group.Go(func() error {
		defer close(idle)
		for ctx.Err() == nil {
			n, err := poller.Poll(ctx)
			polled += n
			if n == 0 || err != nil {
				return err
			}
		}
		return nil
	})
	group.Go(func() error {
		for {
			f.grant.Run = uuid.New()
			report, err := f.healer.Run(ctx, f.grant, nil)
			healed += report.Healed
			if err != nil {
				return errors.Join(fmt.Errorf("heal beside a poller: %+v", report.Counts), err)
			}
			select {
			case <-idle:
				return nil
			case <-time.After(time.Millisecond):
			}
		}
	})
	if err := group.Wait(); err != nil && !errors.Is(err, context.Canceled) {
		f.Fatal(err)
	}
	return polled, healed
}

// settle looks at everything until that brings nothing.
func (f *folded) settle() {
	f.Helper()
	for range 5 {
		f.exec(`UPDATE reconciled.gap SET next_attempt = now();
			INSERT INTO reconciled.worklist (consumer, store_id, slot) SELECT DISTINCT 'healer', store_id, reconciled.slot(created_at) FROM events
			ON CONFLICT (consumer, store_id, slot) DO UPDATE SET not_before = now()`)
		if report := f.heal(); report.Healed == 0 {
			return
		}
	}
	f.Errorf("there is always more to heal: %s", f.gaps())
}

// wantNothingTwice counts rows where the fold only adds up.
func (f *folded) wantNothingTwice() {
	f.Helper()
	for what, sql := range map[string]string{
		"sales with another number of lines than their event": `SELECT count(*) FROM (
			SELECT s.id, (SELECT count(*) FROM sale_items i WHERE i.sale_id = s.id) AS lines,
				(SELECT jsonb_array_length(coalesce(e.delta_payload, e.payload) -> 'items') FROM events e WHERE e.type = 'SaleCreated'
					AND coalesce(e.delta_payload, e.payload) ->> 'sale_id' = s.id::text ORDER BY e.created_at, e.device_id, e.seq, e.event_id LIMIT 1) AS said
			FROM sales s) c WHERE lines IS DISTINCT FROM said`,
		"movements of a sale alike but for their id, beyond its lines": `SELECT count(*) FROM (
			SELECT ref ->> 'sale_id' AS sale, product_id, variant_id, from_escrow, coalesce(ref ->> 'reversal', '') AS reversal, count(*) AS n
			FROM inventory_movements WHERE ref ->> 'sale_id' IS NOT NULL GROUP BY 1, 2, 3, 4, 5) m
			WHERE n > (SELECT count(*) FROM sale_items i WHERE i.sale_id::text = m.sale AND i.product_id = m.product_id AND i.variant_id IS NOT DISTINCT FROM m.variant_id)`,
		"sales with two debts":          `SELECT count(*) FROM (SELECT sale_id FROM debts WHERE sale_id IS NOT NULL GROUP BY 1 HAVING count(*) > 1) d`,
		"totals of one thing, in two":   `SELECT count(*) FROM (SELECT FROM warehouse_stock GROUP BY warehouse_id, product_id, variant_id HAVING count(*) > 1) w`,
		"cash entries with one request": `SELECT count(*) FROM (SELECT FROM cash_ledger_entries WHERE request_id IS NOT NULL GROUP BY request_id HAVING count(*) > 1) c`,
	} {
		var n int
		if err := f.site.Owner.QueryRow(f.Context(), sql).Scan(&n); err != nil {
			f.Fatal(err)
		}
		if n != 0 {
			f.Errorf("%d %s", n, what)
		}
	}
}
