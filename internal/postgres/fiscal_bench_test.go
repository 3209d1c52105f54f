package postgres_test

import (
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/veloxpos/reconciled/internal/health"
	"github.com/veloxpos/reconciled/internal/postgres"
	"github.com/veloxpos/reconciled/internal/postgres/postgrestest"
	"github.com/veloxpos/reconciled/internal/testkit"
)

// What a look at a store's fiscal numbers costs the database, with a history of sales
// that all have one: one that finds nothing new, one after ten sales, and, to compare,
// the grouping of all sales. The time is mostly the machine's noise; the CPU of the one
// backend that does it is not.
func BenchmarkALookAtFiscalNumbers(b *testing.B) {
	for _, sales := range []int{10_000, 1_000_000} {
		s := postgrestest.NewOn(b, testkit.Shared(b), postgres.Options{MaxConns: 1})
		s.AddStore(b, shop)
		exec(b, s.Owner, `INSERT INTO invoice_series (id, store_id, series_code, name) VALUES ($1, $2, 'A', 'A')`, id("A"), shop)
		exec(b, s.Owner, `INSERT INTO fiscal_sequence_ranges (store_id, series_id, device_id, range_start, range_end, used_up_to, granted_at, expires_at)
			SELECT $1, $2, md5((i % 5)::text)::uuid, i * 1000, i * 1000 + 999, i * 1000 + 999, '2000-01-01', now() FROM generate_series(0, $3 / 1000) i`, shop, id("A"), sales)
		exec(b, s.Owner, `UPDATE fiscal_sequence_ranges SET status = 'expired' WHERE range_start < $1 - 10000`, sales)
		// Past the triggers, as a database of an earlier release has them.
		behind(b, s, `INSERT INTO events (event_id, store_id, device_id, seq, type, version, created_at, payload)
			SELECT gen_random_uuid(), $1, md5((i / 1000 % 5)::text)::uuid, i, 'SaleCreated', 1, now() - i * interval '1 minute',
				jsonb_build_object('sale_id', md5(i::text)::uuid, 'fiscal_number', i, 'invoice_series_id', $2::uuid) FROM generate_series(1, $3::int) i`, shop, id("A"), sales)
		behind(b, s, `INSERT INTO sales (id, store_id, sold_at, currency, totals, payment, fiscal_number, invoice_series_id)
			SELECT md5(i::text)::uuid, $1, now() - i * interval '1 minute', 'BS', '{}', '{}', i, $2 FROM generate_series(1, $3::int) i`, shop, id("A"), sales)
		execSuper(b, s, `VACUUM ANALYZE`)
		log := postgres.NewLog(s.DB)
		fiscal := postgres.NewFiscal(log)
		pin(b, log)
		look := func() {
			if err := fiscal.Follow(b.Context(), shop); err != nil {
				b.Fatal(err)
			}
		}
		start, before := time.Now(), poolCPU(b, s)
		look()
		b.Logf("%d sales: the first look took %s, %s of CPU", sales, time.Since(start).Round(time.Millisecond), (poolCPU(b, s) - before).Round(time.Millisecond))
		b.Logf("%d sales: %d kB of lines and their indexes", sales, number(b, s, `SELECT pg_total_relation_size('reconciled.fiscal_number') / 1024`))
		execSuper(b, s, `VACUUM ANALYZE`)
		monitor := postgres.NewHealth(log)
		for _, c := range []struct {
			name string
			do   func()
		}{
			{"nothing new", func() {
				look()
				for _, find := range []func() error{
					func() error {
						_, _, err := fiscal.Duplicates(b.Context(), postgres.FiscalScope{Stores: []uuid.UUID{shop}}, 20)
						return err
					},
					func() error {
						_, _, err := fiscal.Outside(b.Context(), postgres.FiscalScope{Stores: []uuid.UUID{shop}}, 20)
						return err
					},
					func() error {
						_, err := fiscal.Ranges(b.Context(), postgres.FiscalScope{Stores: []uuid.UUID{shop}}, false)
						return err
					},
					func() error {
						_, err := fiscal.Overlaps(b.Context(), postgres.FiscalScope{Stores: []uuid.UUID{shop}})
						return err
					},
				} {
					if err := find(); err != nil {
						b.Fatal(err)
					}
				}
			}},
			{"all of health", func() {
				if err := monitor.Measure(b.Context(), shop, new(health.Snapshot)); err != nil {
					b.Fatal(err)
				}
			}},
			{"ten sales", func() {
				b.StopTimer()
				exec(b, s.Owner, `INSERT INTO sales (id, store_id, sold_at, currency, totals, payment, fiscal_number, invoice_series_id)
					SELECT gen_random_uuid(), $1, now(), 'BS', '{}', '{}', $3 + (random() * 1e9)::int, $2 FROM generate_series(1, 10) i`, shop, id("A"), sales)
				b.StartTimer()
				look()
			}},
			{"all sales grouped", func() {
				number(b, s, `SELECT count(*) FROM (SELECT invoice_series_id, btrim(fiscal_number) FROM sales
					WHERE store_id = $1 AND voided_at IS NULL AND btrim(fiscal_number) <> '' GROUP BY 1, 2 HAVING count(*) > 1) d`, shop)
			}},
		} {
			b.Run(fmt.Sprintf("%s/%d", c.name, sales), func(b *testing.B) {
				before := poolCPU(b, s)
				for b.Loop() {
					c.do()
				}
				b.ReportMetric(float64((poolCPU(b, s)-before).Nanoseconds())/1000/float64(b.N), "cpu-us/op")
			})
		}
	}
}

// poolCPU is what the backend of a pool of one connection has used.
func poolCPU(b *testing.B, s *postgrestest.Site) (used time.Duration) {
	b.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/schedstat", number(b, s, `SELECT pg_backend_pid()`)))
	if err == nil {
		_, err = fmt.Sscan(string(text), &used)
	}
	if err != nil {
		b.Fatal(err)
	}
	return used
}
