package fleet

import (
	"context"
	"fmt"
	"strings"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/veloxpos/reconciled/internal/velox"
)

// RowFault is one thing wrong with a read model whose log is whole. It is
// planted in a filled and projected database.
type RowFault struct {
	Name string
	// n events at most are picked; victims yields each with the row it stands
	// for, and perhaps another event that belongs to it.
	n       int
	victims string
	// products yields those whose stock is to look as if nothing had happened.
	products string
	spoil    []string // $1: the rows' ids
	quiet    bool     // the events keep the status they have
}

// Plant spoils a store's rows, as a superuser and in one transaction, without
// firing any trigger: rows are gone as with a disk, not as by a statement. The
// events whose rows are missing are left processed, failed and pending by turns.
// It fails when nothing fits.
func (f RowFault) Plant(ctx context.Context, db Conn, side Side, store velox.StoreID) (Expect, error) {
	e := Expect{Fault: f.Name, Side: side}
	err := atomically(ctx, db, "plant "+f.Name, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `SET LOCAL session_replication_role = replica`); err != nil {
			return err
		}
		var rowIDs []uuid.UUID
		rows, err := tx.Query(ctx, strings.ReplaceAll(f.victims, "SAID", saidSQL)+fmt.Sprintf(" LIMIT %d", f.n), store)
		if err != nil {
			return err
		}
		var event, row uuid.UUID
		var with uuid.NullUUID
		_, err = pgx.ForEachRow(rows, []any{&event, &row, &with}, func() error {
			e.Healed, rowIDs = append(e.Healed, event), append(rowIDs, row)
			if with.Valid {
				e.Healed = append(e.Healed, with.UUID)
			}
			return nil
		})
		if err != nil {
			return err
		}
		if len(rowIDs) == 0 {
			return fmt.Errorf("store %s has no row that fits", store)
		}
		return f.apply(ctx, tx, rowIDs, e.Healed)
	})
	return e, err
}

func (f RowFault) apply(ctx context.Context, tx pgx.Tx, rowIDs, events []uuid.UUID) error {
	var moved []move
	if f.products != "" {
		rows, err := tx.Query(ctx, f.products, rowIDs)
		if err != nil {
			return err
		}
		var product uuid.UUID
		if _, err := pgx.ForEachRow(rows, []any{&product}, func() error {
			moved = append(moved, move{Product: product})
			return nil
		}); err != nil {
			return err
		}
	}
	right := NewBackend(nil, BackendOptions{})
	for _, sql := range f.spoil {
		if _, err := tx.Exec(ctx, right.expand(strings.ReplaceAll(sql, "SAID", saidSQL)), rowIDs); err != nil {
			return err
		}
	}
	if err := refreshStock(ctx, tx, moved); err != nil {
		return err
	}
	if f.quiet {
		return nil
	}
	for i, event := range events {
		if _, err := tx.Exec(ctx, [...]string{asProcessed, asFailed, asPending}[i%3], event); err != nil {
			return err
		}
	}
	return nil
}

const (
	saidSQL     = `coalesce(nullif(e.delta_payload, '{}'), e.payload)`
	asProcessed = `UPDATE events SET projection_status = 'processed', projection_error = NULL WHERE event_id = $1`
	asPending   = `UPDATE events SET projection_status = 'pending', projection_error = NULL WHERE event_id = $1`
	asFailed    = `WITH o AS (UPDATE outbox_entries SET status = 'failed', retry_count = 10, error = 'connection reset', processed_at = NULL
			WHERE event_id = $1::uuid::text AND target = 'projection')
		UPDATE events SET projection_status = 'failed', projection_error = 'connection reset' WHERE event_id = $1`

	productsOfSales = `SELECT DISTINCT product_id FROM inventory_movements WHERE ref->>'sale_id' = ANY($1::uuid[]::text[])`
	dropMovements   = `DELETE FROM inventory_movements WHERE ref->>'sale_id' = ANY($1::uuid[]::text[])`
	returnEscrow    = `UPDATE stock_escrow x SET qty_granted = x.qty_granted + t.qty FROM (
			SELECT e.device_id, m.product_id, m.variant_id, -sum(m.qty_delta) AS qty FROM inventory_movements m
			JOIN events e ON e.store_id = m.store_id AND e.type = 'SaleCreated' AND SAID->>'sale_id' = m.ref->>'sale_id'
			WHERE m.from_escrow AND m.ref->>'sale_id' = ANY($1::uuid[]::text[]) GROUP BY 1, 2, 3) t
		WHERE x.device_id = t.device_id AND x.product_id = t.product_id AND x.variant_id IS NOT DISTINCT FROM t.variant_id`
	dropItems  = `DELETE FROM sale_items WHERE sale_id = ANY($1)`
	dropCredit = `DELETE FROM debts WHERE sale_id = ANY($1)`
	dropSales  = `DELETE FROM sales WHERE id = ANY($1)`
)

// SalesWithoutRows takes n sales out of the read model, with their items and
// credit debts; their movements go too, unless they are kept.
func SalesWithoutRows(n int, keepMovements bool) RowFault {
	f := RowFault{
		Name: fmt.Sprintf("%d sales without any row", n), n: n,
		victims: `SELECT e.event_id, s.id, NULL::uuid FROM sales s JOIN events e ON e.store_id = s.store_id AND e.type = 'SaleCreated' AND SAID->>'sale_id' = s.id::text
			WHERE s.store_id = $1 AND s.voided_at IS NULL AND EXISTS (SELECT FROM sale_items i WHERE i.sale_id = s.id)
				AND NOT EXISTS (SELECT FROM debts d JOIN debt_payments p ON p.debt_id = d.id WHERE d.sale_id = s.id) ORDER BY s.id`,
		products: productsOfSales,
		spoil:    []string{returnEscrow, dropMovements, dropItems, dropCredit, dropSales},
	}
	if keepMovements {
		f.Name = fmt.Sprintf("%d sales of which only the movements are there", n)
		f.products, f.spoil = "", f.spoil[2:]
	}
	return f
}

// DebtsMissing takes out n debts that no sale stands behind and nobody has paid on.
func DebtsMissing(n int) RowFault {
	return RowFault{
		Name: fmt.Sprintf("%d debts missing", n), n: n,
		victims: `SELECT e.event_id, d.id, NULL::uuid FROM debts d JOIN events e ON e.store_id = d.store_id AND e.type = 'DebtCreated' AND SAID->>'debt_id' = d.id::text
			WHERE d.store_id = $1 AND d.sale_id IS NULL AND NOT EXISTS (SELECT FROM debt_payments p WHERE p.debt_id = d.id) ORDER BY d.id`,
		spoil: []string{`DELETE FROM debts WHERE id = ANY($1)`},
	}
}

// PaymentsMissing takes out n payments; their debts look unpaid by as much.
func PaymentsMissing(n int) RowFault {
	return RowFault{
		Name: fmt.Sprintf("%d debt payments missing", n), n: n,
		victims: `SELECT e.event_id, p.id, NULL::uuid FROM debt_payments p JOIN events e ON e.store_id = p.store_id
				AND e.type IN ('DebtPaymentRecorded', 'DebtPaymentAdded') AND SAID->>'payment_id' = p.id::text
			WHERE p.store_id = $1 AND e.conflict_status = 'resolved' ORDER BY p.id`,
		spoil: []string{
			`UPDATE debts d SET status = CASE WHEN EXISTS (SELECT FROM debt_payments o WHERE o.debt_id = d.id AND o.id <> ALL($1)) THEN 'partial' ELSE 'open' END
				FROM debt_payments p WHERE p.debt_id = d.id AND p.id = ANY($1)`,
			`DELETE FROM debt_payments WHERE id = ANY($1)`,
		},
	}
}

// CustomersMissing takes out n customers who owe nothing.
func CustomersMissing(n int) RowFault {
	return RowFault{
		Name: fmt.Sprintf("%d customers missing", n), n: n,
		victims: `SELECT e.event_id, c.id, NULL::uuid FROM customers c JOIN events e ON e.store_id = c.store_id AND e.type = 'CustomerCreated' AND SAID->>'customer_id' = c.id::text
			WHERE c.store_id = $1 AND NOT EXISTS (SELECT FROM debts d WHERE d.customer_id = c.id) ORDER BY c.id`,
		spoil: []string{`DELETE FROM customers WHERE id = ANY($1)`},
	}
}

// ProductsMissing takes out n products that were never stocked nor sold.
func ProductsMissing(n int) RowFault {
	return RowFault{
		Name: fmt.Sprintf("%d products missing that nothing depends on", n), n: n,
		victims: `SELECT e.event_id, p.id, NULL::uuid FROM products p JOIN events e ON e.store_id = p.store_id AND e.type = 'ProductCreated' AND SAID->>'product_id' = p.id::text
			WHERE p.store_id = $1 AND NOT EXISTS (SELECT FROM inventory_movements m WHERE m.product_id = p.id)
				AND NOT EXISTS (SELECT FROM sale_items i WHERE i.product_id = p.id)
				AND NOT EXISTS (SELECT FROM recipe_ingredients r WHERE p.id IN (r.recipe_product_id, r.ingredient_product_id)) ORDER BY p.id`,
		spoil: []string{
			`DELETE FROM warehouse_stock WHERE product_id = ANY($1)`,
			`DELETE FROM products WHERE id = ANY($1)`,
		},
	}
}

// SessionsLeftOpen undoes the close of n cash sessions.
func SessionsLeftOpen(n int) RowFault {
	return RowFault{
		Name: fmt.Sprintf("%d cash sessions whose close was not applied", n), n: n,
		// Of sessions that were closed once: any closing of a session brings its last one.
		victims: `SELECT e.event_id, s.id, NULL::uuid FROM cash_sessions s JOIN LATERAL (
				SELECT min(event_id::text)::uuid AS event_id FROM events e
				WHERE e.store_id = s.store_id AND e.type = 'CashSessionClosed' AND SAID->>'session_id' = s.id::text
				HAVING count(*) = 1) e ON true
			WHERE s.store_id = $1 AND s.closed_at IS NOT NULL ORDER BY s.id`,
		spoil: []string{`UPDATE cash_sessions s SET closed_at = NULL, closed_by = NULL, expected = NULL, counted = NULL,
			note = (SELECT SAID->>'note' FROM events e WHERE e.store_id = s.store_id AND e.type = 'CashSessionOpened' AND SAID->>'session_id' = s.id::text LIMIT 1)
			WHERE id = ANY($1)`},
	}
}

// MovementsMissing takes out n movements of receipts and adjustments.
func MovementsMissing(n int) RowFault {
	return RowFault{
		Name: fmt.Sprintf("%d stock movements missing", n), n: n,
		victims: `SELECT e.event_id, m.id, NULL::uuid FROM inventory_movements m JOIN events e ON e.store_id = m.store_id
				AND e.type IN ('StockReceived', 'StockAdjusted', 'StockDeltaApplied') AND SAID->>'movement_id' = m.id::text
			WHERE m.store_id = $1 AND e.conflict_status = 'resolved' ORDER BY m.id`,
		products: `SELECT DISTINCT product_id FROM inventory_movements WHERE id = ANY($1)`,
		spoil:    []string{`DELETE FROM inventory_movements WHERE id = ANY($1)`},
	}
}

// UpdatesLost takes out the rows of n events whose payload last write wins has
// overwritten, as a backend that projects the payload leaves them.
func UpdatesLost(n int) RowFault {
	f := MovementsMissing(n)
	f.Name = fmt.Sprintf("%d stock events that a concurrent one overwrote", n)
	f.victims = `SELECT e.event_id, m.id, NULL::uuid FROM inventory_movements m JOIN events e ON e.store_id = m.store_id
			AND e.conflict_status = 'auto_resolved' AND e.delta_payload->>'movement_id' = m.id::text
		WHERE m.store_id = $1 AND e.payload->>'movement_id' <> m.id::text ORDER BY m.id`
	return f
}

const voided = `SELECT %s FROM sales s
	JOIN events e ON e.store_id = s.store_id AND e.type = 'SaleCreated' AND SAID->>'sale_id' = s.id::text
	JOIN events v ON v.store_id = s.store_id AND v.type = 'SaleVoided' AND coalesce(nullif(v.delta_payload, '{}'), v.payload)->>'sale_id' = s.id::text
	WHERE s.store_id = $1 AND s.voided_at IS NOT NULL AND s.payment->>'method' <> 'FIAO' ORDER BY s.id`

// EarlyVoids takes out n voided sales whole, as if the void had come first and
// gone by without effect, and the sale had come since and still waited.
func EarlyVoids(n int) RowFault {
	return RowFault{
		Name: fmt.Sprintf("%d voids that came before their sale", n), n: n,
		victims:  fmt.Sprintf(voided, "v.event_id, s.id, e.event_id"),
		products: productsOfSales,
		spoil: []string{
			returnEscrow, dropMovements, dropItems, dropSales,
			`UPDATE events e SET projection_status = 'pending' WHERE e.type = 'SaleCreated' AND SAID->>'sale_id' = ANY($1::uuid[]::text[])`,
		},
		quiet: true,
	}
}

// VoidsIgnored undoes n voids: the sales stand as if never taken back.
func VoidsIgnored(n int) RowFault {
	return RowFault{
		Name: fmt.Sprintf("%d voids without effect", n), n: n,
		victims:  fmt.Sprintf(voided, "v.event_id, s.id, NULL::uuid"),
		products: productsOfSales,
		spoil: []string{
			`UPDATE sales SET voided_at = NULL, voided_by_user_id = NULL, void_reason = NULL WHERE id = ANY($1)`,
			dropMovements + ` AND ref->'reversal' = 'true'`,
		},
		quiet: true,
	}
}

// LoseEvents removes events from a filled database as a lost disk would: no
// trigger fires, so they are absent, not deleted. Their rows stay. Their slots
// are marked dirty where there is a dirty log, since a restored database would
// have been scrubbed.
func LoseEvents(ctx context.Context, db Conn, side Side, events []uuid.UUID) (Expect, error) {
	e := Expect{Fault: fmt.Sprintf("%d events lost with a disk", len(events)), Side: side, Fetched: events}
	err := atomically(ctx, db, "lose events", func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `SET LOCAL session_replication_role = replica`); err != nil {
			return err
		}
		if err := markDirty(ctx, tx, events); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, `WITH o AS (DELETE FROM outbox_entries WHERE event_id = ANY($1::uuid[]::text[]))
			DELETE FROM events WHERE event_id = ANY($1)`, events)
		return err
	})
	return e, err
}

func markDirty(ctx context.Context, tx pgx.Tx, events []uuid.UUID) error {
	var kept bool
	if err := tx.QueryRow(ctx, `SELECT to_regclass('reconciled.dirty') IS NOT NULL`).Scan(&kept); err != nil || !kept {
		return err
	}
	_, err := tx.Exec(ctx, `INSERT INTO reconciled.dirty (store_id, slot, op)
		SELECT store_id, reconciled.slot(created_at), 'm' FROM events WHERE event_id = ANY($1)`, events)
	return err
}
