package postgres_test

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/google/uuid"

	"github.com/veloxpos/reconciled/healer"
	"github.com/veloxpos/reconciled/internal/postgres"
)

// guillotine cuts the connection of the statement that its count falls to.
type guillotine struct {
	statements int
	victim     string
}

func (g *guillotine) TraceQueryStart(ctx context.Context, conn *pgx.Conn, q pgx.TraceQueryStartData) context.Context {
	if g.statements--; g.statements == 0 {
		g.victim = q.SQL
		_ = conn.PgConn().Conn().Close()
	}
	return ctx
}

func (*guillotine) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

// What holds after every transaction: an event is projected whole and written down,
// or not at all.
const halfDone = `SELECT concat_ws('; ',
	(SELECT 'processed and not logged: ' || string_agg(type, ', ') FROM events e WHERE (projection_status = 'processed')
		<> EXISTS (SELECT FROM reconciled.heal_log l WHERE l.event_id = e.event_id)),
	(SELECT 'without items' FROM sales s WHERE NOT EXISTS (SELECT FROM sale_items i WHERE i.sale_id = s.id) LIMIT 1),
	(SELECT 'without movements' FROM sales s WHERE NOT EXISTS (SELECT FROM inventory_movements m WHERE m.ref ->> 'sale_id' = s.id::text) LIMIT 1),
	(SELECT 'credit without a debt' FROM sales s WHERE payment ->> 'method' = 'FIAO' AND voided_at IS NULL
		AND NOT EXISTS (SELECT FROM debts d WHERE d.sale_id = s.id) LIMIT 1),
	(SELECT 'void without reversal' FROM sales s WHERE voided_at IS NOT NULL
		AND NOT EXISTS (SELECT FROM inventory_movements m WHERE m.ref ->> 'sale_id' = s.id::text AND m.ref ->> 'reversal' = 'true') LIMIT 1),
	(SELECT 'debt of a void' FROM sales s JOIN debts d ON d.sale_id = s.id WHERE voided_at IS NOT NULL LIMIT 1),
	(SELECT 'stock is not the ledger' FROM (SELECT product_id, warehouse_id, sum(qty_delta) AS qty FROM inventory_movements GROUP BY 1, 2) m
		LEFT JOIN warehouse_stock w USING (product_id, warehouse_id) WHERE w.stock IS DISTINCT FROM greatest(0, m.qty) LIMIT 1),
	(SELECT 'status without payments' FROM debts d WHERE status <> 'open' AND NOT EXISTS (SELECT FROM debt_payments p WHERE p.debt_id = d.id) LIMIT 1))`

func TestI14AConnectionThatDiesAtAnyStatementLeavesNothingHalfDone(t *testing.T) {
	h := newHealing(t, healer.Options{})
	h.log(aDay()...)
	h.heal()
	want := h.readModel()
	for at := 1; ; at++ {
		h.empty()
		h.log(aDay()...)
		h.enlist()
		blade := &guillotine{}
		db, err := postgres.Open(h.ctx, h.site.Server.URL("reconciled_runtime", h.site.Name), postgres.Options{Tracer: blade, MaxConns: 2})
		if err != nil {
			t.Fatal(err)
		}
		blade.statements = at
		h.grant.Run = uuid.New()
		_, died := healer.New(postgres.NewHealing(db), healer.Options{}).Run(h.ctx, h.grant, nil)
		db.Close()
		if died == nil && blade.statements > 0 {
			if at < 50 {
				t.Errorf("only %d statements to die at", at-1)
			}
			return
		}
		if died == nil && blade.victim != "rollback" {
			t.Errorf("statement %d: its connection died, and the run went on: %s", at, blade.victim)
		}
		if left := h.text(halfDone); left != "" {
			t.Fatalf("after death at statement %d: %s", at, left)
		}
		h.heal()
		if got := h.readModel(); got != want {
			t.Fatalf("healed after death at statement %d\n%s\nwant\n%s", at, got, want)
		}
	}
}
