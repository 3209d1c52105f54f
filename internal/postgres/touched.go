package postgres

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/veloxpos/reconciled/internal/velox"
	"github.com/veloxpos/reconciled/lock"
)

// Up to how many rows of the read models' dirty log are looked at one by one: one to
// touchedShare events of the store's log, but touchedFew of a short one, and
// touchedSingly of the longest. To find a row's events by the index takes as long as to
// compare some events, and many more while the index lags behind. They are looked at in
// steps of touchedStep at first; of a bulk, for which every slot is looked at instead,
// touchedDrop times as many are dropped in one.
const (
	touchedSingly = 20_000
	touchedFew    = 500
	touchedShare  = 16
	touchedStep   = 2_000
	touchedDrop   = 500
)

// Notice puts the slots of events on the healer's list whose rows were deleted or
// changed in a read model since it was last called. After a bulk of them or a
// truncation it is every slot. While a trigger that logs them is missing or disabled
// that is evidence, and every slot is put on once; what happens meanwhile is found by
// the full pass alone.
func (h *Healing) Notice(ctx context.Context, grant lock.Grant) error {
	step := touchedStep
	for more := true; more; {
		err := h.db.fenced(ctx, grant, func(ctx context.Context, tx pgx.Tx) (err error) {
			if err := noticeTriggers(ctx, tx, grant.Store); err != nil {
				return err
			}
			more, err = noticeSome(ctx, tx, grant.Store, step)
			return err
		})
		if step > 1 && tookTooLong(err) { // a slow disk, or an index on payload that lags behind
			step, more = max(1, step/8), true
			continue
		}
		if err != nil {
			return fmt.Errorf("notice touched rows: %w", err)
		}
	}
	return nil
}

// tookTooLong says whether a statement ran into the time that the lease leaves it.
func tookTooLong(err error) bool {
	pgErr, ok := errors.AsType[*pgconn.PgError](err)
	return ok && pgErr.Code == "57014"
}

// touchTriggers log what is done to the read models.
var touchTriggers = func() (watched []watch) {
	for _, table := range []string{
		"products", "recipe_ingredients", "customers", "cash_sessions", "cash_ledger_entries",
		"sales", "sale_items", "inventory_movements", "debts", "debt_payments", "stock_escrow",
	} {
		watched = append(watched, watch{table, "reconciled_touch_delete", "touch"},
			watch{table, "reconciled_touch_update", "touch"}, watch{table, "reconciled_touch_truncate", "touch_truncate"})
	}
	return watched
}()

// broken begins the fingerprint that is kept while a trigger is wrong.
const broken = "broken: "

func noticeTriggers(ctx context.Context, tx pgx.Tx, store velox.StoreID) error {
	now, wrong, err := lookAtTriggers(ctx, tx, touchTriggers)
	if err != nil {
		return err
	}
	if wrong != "" {
		now = broken + wrong
	}
	var before string
	err = tx.QueryRow(ctx, `SELECT coalesce((SELECT fingerprint FROM reconciled.touch_capture WHERE store_id = $1), '')`, store).Scan(&before)
	if err != nil {
		return fmt.Errorf("read fingerprint of triggers: %w", err)
	}
	if before == now {
		return nil
	}
	_, err = tx.Exec(ctx, `INSERT INTO reconciled.touch_capture (store_id, fingerprint) VALUES ($1, $2)
		ON CONFLICT (store_id) DO UPDATE SET fingerprint = excluded.fingerprint, seen_at = now()`, store, now)
	if err != nil {
		return fmt.Errorf("keep fingerprint of triggers: %w", err)
	}
	switch {
	case wrong != "":
		err = blameTriggers(ctx, tx, store, now, whyBroken(wrong))
	case before == "":
		return nil
	case !strings.HasPrefix(before, broken):
		err = blameTriggers(ctx, tx, store, now, "triggers on the read models were made anew, or disabled for a time")
	}
	if err != nil {
		return err
	}
	return enlistAll(ctx, tx, store)
}

// noticeSome works off a part of the log, and reports whether there may be more. A
// row that is taken stands for a change that is committed, and the slots are on the
// list no sooner than that: the healer sees the change.
func noticeSome(ctx context.Context, tx pgx.Tx, store velox.StoreID, step int) (more bool, err error) {
	var rows int
	var truncated bool
	var events int64
	err = tx.QueryRow(ctx, `SELECT count(*), coalesce(bool_or(row_id IS NULL), false),
			coalesce((SELECT count FROM reconciled.root WHERE store_id = $1), 0)
		FROM (SELECT row_id FROM reconciled.touched WHERE store_id = $1 LIMIT $2) t`, store, touchedSingly+1).Scan(&rows, &truncated, &events)
	switch {
	case err != nil:
		return false, fmt.Errorf("count touched rows: %w", err)
	case rows == 0:
		return false, nil
	case truncated || int64(rows) > min(touchedSingly, max(touchedFew, events/touchedShare)):
		err := tx.QueryRow(ctx, `WITH `+takeTouched+` SELECT count(*) FROM taken`, pgx.QueryExecModeCacheDescribe, store, step*touchedDrop).Scan(&rows)
		if err != nil {
			return false, fmt.Errorf("drop touched rows: %w", err)
		}
		return rows == step*touchedDrop, enlistAll(ctx, tx, store)
	}
	if _, err := tx.Exec(ctx, byPayload); err != nil {
		return false, fmt.Errorf("prepare to find events: %w", err)
	}
	_, err = tx.Exec(ctx, enlistTouched, pgx.QueryExecModeCacheDescribe, store, step)
	if err != nil {
		return false, fmt.Errorf("find events of touched rows: %w", err)
	}
	return rows > step, nil
}

// takeTouched takes rows of the log, and keeps of some that are gone from the read
// model what nothing else will tell: of which sale a debt was, whose id is in no event;
// and when a recipe lost a line. What this program took out itself, in the same
// transaction, is in removed_row.
const takeTouched = `taken AS (
		DELETE FROM reconciled.touched WHERE ctid = ANY(ARRAY(SELECT ctid FROM reconciled.touched WHERE store_id = $1 LIMIT $2))
		RETURNING table_name, row_id, parent_id, at),
	kept AS (
		INSERT INTO reconciled.deleted_row (store_id, table_name, row_id, parent_id, deleted_at)
		SELECT DISTINCT ON (t.table_name, t.row_id) $1::uuid, t.table_name, t.row_id, t.parent_id, t.at FROM taken t
		WHERE t.row_id IS NOT NULL AND t.parent_id IS NOT NULL AND CASE t.table_name
				WHEN 'debts' THEN NOT EXISTS (SELECT FROM public.debts d WHERE d.id = t.row_id)
				WHEN 'recipe_ingredients' THEN NOT EXISTS (SELECT FROM public.recipe_ingredients i WHERE i.id = t.row_id) END
			AND NOT EXISTS (SELECT FROM reconciled.removed_row r WHERE r.store_id = $1 AND r.table_name = t.table_name
				AND r.row_id = t.row_id AND r.removed_at = t.at)
		ORDER BY t.table_name, t.row_id, t.at DESC
		ON CONFLICT (store_id, table_name, row_id) DO UPDATE SET parent_id = excluded.parent_id, deleted_at = excluded.deleted_at)`

// enlistTouched finds events by the ids that they bear, through the index on payload.
// The ids are compared as JSON, so a malformed one fails no cast. Not found that way
// are an id that is not spelled in lower case, and one that only delta_payload has:
// that of a movement or of a debt whose payload another event's replaced (D8); a
// payment, sale, product, customer or session shares an id with whatever replaced it.
// An id that is in more than a thousand events is a customer's of every day: some of
// their sales are enough to bring the row back.
const enlistTouched = `
	WITH ` + takeTouched + `,
	asked AS MATERIALIZED (
		SELECT DISTINCT CASE k.member WHEN 'customer' THEN jsonb_build_object('customer', jsonb_build_object('customer_id', k.id))
			ELSE jsonb_build_object(k.member, k.id) END AS body, k.types,
			-- any event of a product or customer speaks for its whole row
			k.table_name IN ('products', 'customers', 'recipe_ingredients') AND k.types <> '{SaleCreated}' AS newest
		FROM taken t CROSS JOIN LATERAL (VALUES
			('products', 'product_id', t.row_id, '{ProductCreated,ProductUpdated,ProductDeactivated,PriceChanged,RecipeIngredientsUpdated}'::text[]),
			('recipe_ingredients', 'product_id', t.parent_id, '{RecipeIngredientsUpdated}'),
			('customers', 'customer_id', t.row_id, '{CustomerCreated,CustomerUpdated}'),
			('customers', 'customer_id', t.row_id, '{SaleCreated}'),
			('customers', 'customer', t.row_id, '{SaleCreated}'),
			('cash_sessions', 'session_id', t.row_id, NULL),
			('cash_ledger_entries', 'entry_id', t.row_id, NULL),
			('sales', 'sale_id', t.row_id, NULL),
			('sale_items', 'sale_id', t.parent_id, NULL),
			('inventory_movements', 'movement_id', t.row_id, NULL),
			('inventory_movements', 'sale_id', t.parent_id, NULL),
			('inventory_movements', 'request_id', t.parent_id, '{StockQuotaGranted,StockQuotaTransferred,StockQuotaReclaimed}'),
			('inventory_movements', 'quota_id', t.parent_id, '{StockQuotaGranted}'),
			('debts', 'debt_id', t.row_id, NULL),
			('debts', 'sale_id', t.parent_id, NULL),
			('debt_payments', 'payment_id', t.row_id, NULL),
			('debt_payments', 'debt_id', t.parent_id, NULL),
			('stock_escrow', 'product_id', t.parent_id, '{StockQuotaGranted,StockQuotaTransferred,StockQuotaReclaimed,StockDeltaApplied}')) AS k (table_name, member, id, types)
		WHERE k.table_name = t.table_name AND k.id IS NOT NULL),
	found AS (
		SELECT DISTINCT seen.slot, seen.event_id FROM asked CROSS JOIN LATERAL (
			SELECT e.event_id, reconciled.slot(e.created_at) AS slot, row_number() OVER (PARTITION BY e.type ORDER BY e.created_at DESC) AS place
			FROM (SELECT e.event_id, e.store_id, e.type, e.created_at FROM public.events e WHERE e.payload @> asked.body OFFSET 0) e
			WHERE e.store_id = $1 AND (asked.types IS NULL OR e.type = ANY(asked.types)) LIMIT 1000) AS seen
		WHERE NOT coalesce(asked.newest, false) OR seen.place = 1)
	` + enlistFound

// byPayload keeps enlistTouched's plan to the index on payload: OFFSET leaves it no
// other, and of a log that was just written, or restored, the planner knows too little
// to prefer it to reading all events, once for each id.
const byPayload = `SELECT set_config('enable_seqscan', 'off', true)`

// enlistAll puts every slot of the store's tree on the healer's list.
func enlistAll(ctx context.Context, tx pgx.Tx, store velox.StoreID) error {
	_, err := tx.Exec(ctx, `
		INSERT INTO reconciled.worklist AS w (consumer, store_id, slot)
		SELECT $1, store_id, slot FROM reconciled.leaf WHERE store_id = $2
		ON CONFLICT (consumer, store_id, slot) DO UPDATE SET stamp = w.stamp + 1, not_before = now()`, healerConsumer, store)
	if err != nil {
		return fmt.Errorf("fill worklist: %w", err)
	}
	return nil
}
