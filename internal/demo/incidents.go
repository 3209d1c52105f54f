package demo

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/google/uuid"

	"github.com/veloxpos/reconciled/internal/alert"
	"github.com/veloxpos/reconciled/internal/stage"
)

// The shop of the walk: what every node has.
var (
	walkRoom    = uuid.MustParse("de300000-0000-4000-8000-00000000aa01")
	walkProduct = uuid.MustParse("de300000-0000-4000-8000-00000000aa02")
	walkSeries  = uuid.MustParse("de300000-0000-4000-8000-00000000aa03")
	walkDevice  = uuid.MustParse("de300000-0000-4000-8000-00000000aa04")
)

// furnish makes a small shop at a node.
func (w *walk) furnish(ctx context.Context, node *stage.Node) error {
	for _, sql := range []string{
		`INSERT INTO stores (id, name) VALUES ($1, 'Bodega La Esquina') ON CONFLICT DO NOTHING`,
		`INSERT INTO warehouses (id, store_id, name, code, is_default) VALUES ('` + walkRoom.String() + `', $1, 'Almacén', 'A', true)`,
		`INSERT INTO invoice_series (id, store_id, series_code, name) VALUES ('` + walkSeries.String() + `', $1, 'A', 'Facturas')`,
	} {
		if _, err := node.Owner.Exec(ctx, sql, shopID); err != nil {
			return fmt.Errorf("furnish %s: %w", node.Name, err)
		}
	}
	if node != w.stage.Store {
		return nil
	}
	if err := w.log(ctx, uuid.New(), "ProductCreated", map[string]any{"product_id": walkProduct, "name": "Harina PAN", "price_bs": 40, "price_usd": 1}); err != nil {
		return err
	}
	return w.log(ctx, uuid.New(), "StockReceived", map[string]any{"movement_id": uuid.New(), "product_id": walkProduct, "qty": 20})
}

// log inserts an event as a till would have said it, without an outbox entry.
func (w *walk) log(ctx context.Context, id uuid.UUID, kind string, payload map[string]any) error {
	_, err := w.stage.Store.Owner.Exec(ctx, `INSERT INTO events (event_id, store_id, device_id, seq, type, version, created_at, payload, delta_payload, vector_clock)
		SELECT $1, $2, $3, coalesce(max(seq), 0) + 1, $4, 1, now(), $5, $5, '{}' FROM events WHERE store_id = $2`, id, shopID, walkDevice, kind, payload)
	if err != nil {
		return fmt.Errorf("log %s: %w", kind, err)
	}
	return nil
}

// sell logs a sale of some pieces.
func (w *walk) sell(ctx context.Context, sale uuid.UUID, pieces int, more map[string]any) error {
	payload := map[string]any{
		"sale_id": sale, "currency": "BS", "exchange_rate": 40, "payment": map[string]any{"method": "CASH_BS"},
		"totals": map[string]any{"subtotal_bs": 40, "subtotal_usd": 1, "discount_bs": 0, "discount_usd": 0, "total_bs": 40, "total_usd": 1},
		"items":  []any{map[string]any{"item_id": uuid.New(), "product_id": walkProduct, "qty": pieces, "unit_price_bs": 40, "unit_price_usd": 1}},
	}
	for name, value := range more {
		payload[name] = value
	}
	return w.log(ctx, uuid.New(), "SaleCreated", payload)
}

// sql runs statements at the store as the POS would.
func (w *walk) sql(sql string, args ...any) func(context.Context) error {
	return func(ctx context.Context) error {
		for statement := range strings.SplitSeq(sql, ";;") {
			used := args
			if !strings.Contains(statement, "$1") {
				used = nil
			}
			if _, err := w.stage.Store.Owner.Exec(ctx, statement, used...); err != nil {
				return err
			}
		}
		return nil
	}
}

// healthy shows the runbook's first request, and that a shop in good order is healthy.
func (w *walk) healthy(ctx context.Context) error {
	w.out.scene("Runbook 1: GET /sync/federation/health, and `reconciled doctor`, of a shop in good order")
	for _, task := range []string{"heal", "auto-reconcile"} {
		if _, err := w.task(ctx, task); err != nil {
			return err
		}
	}
	if _, err := w.run(ctx, []string{"doctor", "--store", shopID.String()}); err != nil {
		return err
	}
	w.out.line("  Runbook 3: POST /sync/federation/auto-reconcile")
	run, err := w.task(ctx, "auto-reconcile")
	if err != nil {
		return err
	}
	w.out.line("            | run %s: %s, verdict %s", run.ID, run.State, run.Verdict)
	return nil
}

// incidents are the runbook's, and those that the data calls for.
func (w *walk) incidents() []incident {
	product := walkProduct.String()
	first, second := uuid.New(), uuid.New()
	return []incident{
		{
			section: "2", code: alert.FederationCritical, planted: "seven entries of the outbox that the backend has given up",
			plant: w.sql(`INSERT INTO outbox_entries (event_id, event_type, store_id, target, status, error, retry_count)
				SELECT gen_random_uuid(), 'SaleCreated', $1, 'federation-relay', 'failed', 'central answered 500', 10 FROM generate_series(1, 7)`, shopID),
			mended: "they are closed by the POS's support",
			mend:   w.sql(`UPDATE outbox_entries SET status = 'processed' WHERE store_id = $1 AND target = 'federation-relay'`, shopID),
			also:   [][]string{{"outbox", "--store", shopID.String()}},
		},
		{
			section: "2", code: alert.ProjectionGapDetected, planted: "a sale whose rows a constraint of the database refuses",
			plant: func(ctx context.Context) error {
				err := w.sql(`ALTER TABLE sales ADD CONSTRAINT wrong_migration CHECK (note IS DISTINCT FROM 'delivery') NOT VALID`)(ctx)
				return errors.Join(err, w.sell(ctx, uuid.New(), 1, map[string]any{"note": "delivery"}))
			},
			mended: "the constraint is dropped, and `reconciled gaps retry` makes the sale due",
			mend: func(ctx context.Context) error {
				if err := w.sql(`ALTER TABLE sales DROP CONSTRAINT wrong_migration`)(ctx); err != nil {
					return err
				}
				_, err := w.run(ctx, []string{"gaps", "retry", "--all", "--store", shopID.String()})
				return err
			},
		},
		{
			section: "2", code: alert.OversellingDetected, planted: "a sale of 500 of which 20 were received",
			plant:  func(ctx context.Context) error { return w.sell(ctx, uuid.New(), 500, nil) },
			mended: "the shelf is counted, and adjusted at the POS (StockAdjusted)",
			mend: func(ctx context.Context) error {
				return w.log(ctx, uuid.New(), "StockAdjusted", map[string]any{"movement_id": uuid.New(), "product_id": product, "qty_delta": 600, "reason": "conteo"})
			},
		},
		{
			section: "2", code: alert.FiscalDuplicate, planted: "two sales with the fiscal number 777 of one series",
			plant: func(ctx context.Context) error {
				number := map[string]any{"fiscal_number": "777", "invoice_series_id": walkSeries, "invoice_number": "1"}
				return errors.Join(w.sell(ctx, first, 1, number), w.sell(ctx, second, 1, number))
			},
			mended: "legal decides, and one is voided at the POS (SaleVoided)",
			mend: func(ctx context.Context) error {
				return w.log(ctx, uuid.New(), "SaleVoided", map[string]any{"sale_id": second, "reason": "número fiscal repetido"})
			},
			also: [][]string{{"fiscal", "ranges", "--store", shopID.String()}},
		},
		{
			section: "2", code: alert.FederationOffline, planted: "the line to central is cut",
			plant: func(context.Context) error {
				w.stage.Line.Refuse(true)
				w.stage.Line.CloseConnections()
				return nil
			},
			mended: "the line is back; the breaker is reset, as a restart would",
			mend: func(ctx context.Context) error {
				w.stage.Line.Refuse(false)
				_, err := w.run(ctx, []string{"breaker", "reset", "--store", shopID.String()})
				return err
			},
		},
		{
			section: "4", code: alert.OutboxDead, planted: "two entries of the outbox that the backend has given up",
			plant: w.sql(`INSERT INTO outbox_entries (event_id, event_type, store_id, target, status, error, retry_count)
				SELECT gen_random_uuid(), 'SaleCreated', $1, 'federation-relay', 'failed', 'central answered 500', 10 FROM generate_series(1, 2)`, shopID),
			mended: "they are closed by the POS's support",
			mend:   w.sql(`UPDATE outbox_entries SET status = 'processed' WHERE store_id = $1 AND target = 'federation-relay'`, shopID),
			also:   [][]string{{"conflicts", "--store", shopID.String()}},
		},
		{
			section: "4", code: alert.CaptureBroken, planted: "a migration of the POS disables the log's triggers for a moment",
			plant:  w.sql(`ALTER TABLE events DISABLE TRIGGER reconciled_insert;;ALTER TABLE events ENABLE TRIGGER reconciled_insert`),
			mended: "looked into, and cleared with a reason",
			mend:   w.clearEvidence,
		},
		{
			section: "4", code: alert.EventTampered, planted: "somebody changes an event by hand",
			plant:  w.sql(`UPDATE events SET payload = payload || '{"qty": 21}', delta_payload = delta_payload || '{"qty": 21}' WHERE store_id = $1 AND type = 'StockReceived'`, shopID),
			mended: "it is put back, looked into, and cleared with a reason",
			mend: func(ctx context.Context) error {
				err := w.sql(`UPDATE events SET payload = payload || '{"qty": 20}', delta_payload = delta_payload || '{"qty": 20}' WHERE store_id = $1 AND type = 'StockReceived'`, shopID)(ctx)
				if err == nil {
					_, err = w.task(ctx, "heal") // the change back is seen, too
				}
				if err != nil {
					return err
				}
				return w.clearEvidence(ctx)
			},
		},
	}
}

// clearEvidence says what was found out, as a person would.
func (w *walk) clearEvidence(ctx context.Context) error {
	_, err := w.run(ctx, []string{"event", "evidence", "--clear-all", "--why", "looked into with the POS's support", "--store", shopID.String()})
	return err
}
