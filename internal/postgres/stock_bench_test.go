package postgres_test

import (
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// What the triggers on the read models cost a statement of the shop's, commits not
// waiting for the disk. The time is mostly the machine's noise; the CPU that the
// backend took for it is not.
func BenchmarkAShopsStatements(b *testing.B) {
	r := newStoreroom(b)
	r.cache(id("flour"), mainRoom, nil, 0)
	exec(b, r.site.Owner, named(`INSERT INTO customers (id, store_id, name) VALUES ('{c}', '{shop}', 'María')`))
	exec(b, r.site.Owner, named(`INSERT INTO debts (id, store_id, customer_id, created_at) VALUES ('{d}', '{shop}', '{c}', now())`))
	exec(b, r.site.Owner, named(`INSERT INTO cash_sessions (id, store_id, opened_at) VALUES ('{ses}', '{shop}', now())`))
	conn, err := pgx.Connect(b.Context(), r.site.Server.URL("velox", r.site.Name))
	if err != nil {
		b.Fatal(err)
	}
	defer conn.Close(b.Context())
	exec(b, conn, `SET synchronous_commit = off`)
	for _, statement := range []struct{ name, table, sql string }{
		{"insert movement", "inventory_movements", fmt.Sprintf(`INSERT INTO inventory_movements (id, store_id, product_id, movement_type, qty_delta, happened_at, warehouse_id)
			VALUES (gen_random_uuid(), '%s', '%s', 'sold', -1, now(), '%s')`, shop, id("flour"), mainRoom)},
		{"insert numbered sale", "sales", fmt.Sprintf(`INSERT INTO sales (id, store_id, sold_at, currency, totals, payment, fiscal_number)
			VALUES (gen_random_uuid(), '%s', now(), 'BS', '{}', '{}', '777')`, shop)},
		{"insert sale", "sales", fmt.Sprintf(`INSERT INTO sales (id, store_id, sold_at, currency, totals, payment)
			VALUES (gen_random_uuid(), '%s', now(), 'BS', '{}', '{}')`, shop)},
		{"update stock", "warehouse_stock", `UPDATE warehouse_stock SET stock = stock + 1, updated_at = now()`},
		{"update session's counters", "cash_sessions", `UPDATE cash_sessions SET ledger_p_bs = ledger_p_bs + 1, updated_at = now()`},
		{"update debt's status", "debts", `UPDATE debts SET status = CASE status WHEN 'open' THEN 'partial' ELSE 'open' END`},
	} {
		for _, triggers := range []string{"DISABLE", "ENABLE"} {
			b.Run(statement.name+"/"+triggers, func(b *testing.B) {
				exec(b, r.site.Owner, `ALTER TABLE `+statement.table+` `+triggers+` TRIGGER USER`)
				execSuper(b, r.site, `TRUNCATE reconciled.stock_change, reconciled.touched, reconciled.fiscal_change`)
				execSuper(b, r.site, `VACUUM `+statement.table)
				before := cpu(b, conn)
				for b.Loop() {
					exec(b, conn, statement.sql)
				}
				b.ReportMetric(float64((cpu(b, conn)-before).Nanoseconds())/1000/float64(b.N), "cpu-us/op")
			})
		}
	}
}

// cpu is what a connection's backend has used.
func cpu(b *testing.B, conn *pgx.Conn) (used time.Duration) {
	b.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/schedstat", conn.PgConn().PID()))
	if err == nil {
		_, err = fmt.Sscan(string(text), &used)
	}
	if err != nil {
		b.Fatal(err)
	}
	return used
}
