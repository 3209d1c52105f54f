package postgres

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/veloxpos/reconciled/internal/velox"
)

// takeDirty deletes the slots' dirty rows and keeps what they say: deletions, and
// evidence of content that changed and of deletions that nobody declared. It takes
// back the proof for as many events as changed or went, and hands the slots on to
// the other consumers' lists. One statement does most of it, so that its snapshot
// of the log is that of the dirty rows it takes.
func takeDirty(ctx context.Context, tx pgx.Tx, store velox.StoreID, slots []int64) error {
	var undeclared int64
	err := tx.QueryRow(ctx, `
		WITH taken AS MATERIALIZED (
			DELETE FROM reconciled.dirty WHERE store_id = $1 AND slot = ANY($2)
			RETURNING slot, op, event_id, type, created_ms, item, item_after, at,
				op = 'd' AND reconciled.declared(type, created_ms, at) AS declared),
		unproven AS (
			UPDATE reconciled.leaf l SET agreed_count = CASE WHEN t.all_gone THEN 0 ELSE greatest(l.agreed_count - t.n, 0) END
			FROM (SELECT slot, count(*) AS n, bool_or(op = 't') AS all_gone FROM taken WHERE op <> 'i' AND NOT declared GROUP BY slot) t
			WHERE l.store_id = $1 AND l.slot = t.slot),
		gone AS (
			INSERT INTO reconciled.deletion AS d (store_id, event_id, type, created_ms, item, deleted_at, declared, restored_at)
			SELECT DISTINCT ON (event_id) $1, event_id, type, created_ms, item, at, declared, CASE WHEN `+present("t.event_id")+` THEN now() END
			FROM taken t WHERE op = 'd' ORDER BY event_id, at DESC
			ON CONFLICT (store_id, event_id) DO UPDATE SET type = excluded.type, created_ms = excluded.created_ms, item = excluded.item,
				deleted_at = excluded.deleted_at, declared = excluded.declared, restored_at = excluded.restored_at,
				held_at = NULL, released_at = NULL, released_by = NULL),
		again AS (
			UPDATE reconciled.deletion d SET restored_at = now()
			WHERE d.store_id = $1 AND d.restored_at IS NULL AND `+present("d.event_id")+` AND d.event_id = ANY(ARRAY(
				SELECT event_id FROM taken WHERE op = 'i' EXCEPT SELECT event_id FROM taken WHERE op = 'd'))
			RETURNING d.created_ms >> 20 AS slot),
		elsewhere AS ( -- its item leaves the slot it was deleted from
			INSERT INTO reconciled.dirty (store_id, slot, op) SELECT DISTINCT $1::uuid, slot, 'm'::"char" FROM again WHERE slot <> ALL($2)),
		other AS ( -- what was noted of its content; the healer's next look notes it again
			DELETE FROM reconciled.lost_update WHERE store_id = $1 AND restored_at IS NULL
				AND event_id = ANY(ARRAY(SELECT event_id FROM taken WHERE op IN ('u', 'd')))),
		evidence AS (
			INSERT INTO reconciled.evidence (store_id, kind, slot, event_id, expected, found, detail)
			SELECT $1, CASE op WHEN 'u' THEN 'changed' ELSE 'deleted' END, slot, event_id, item, item_after, format('%s at %s', type, at)
			FROM taken WHERE (op = 'u' AND item <> item_after) OR (op = 'd' AND NOT declared)
			UNION ALL
			SELECT $1, 'truncated', NULL, NULL, NULL, NULL, format('at %s', min(at)) FROM taken WHERE op = 't' HAVING count(*) > 0
			ON CONFLICT DO NOTHING),
		found AS (SELECT slot, event_id FROM taken),
		listed AS (`+enlistFound+`)
		SELECT count(*) FROM taken WHERE op = 'd' AND NOT declared`, store, slots).Scan(&undeclared)
	if err != nil {
		return fmt.Errorf("take dirty rows: %w", err)
	}
	if undeclared > 0 {
		if err := holdDeletions(ctx, tx, store); err != nil {
			return err
		}
	}
	for _, consumer := range []string{anchorConsumer, fiscalConsumer} {
		_, err = tx.Exec(ctx, `
			INSERT INTO reconciled.worklist AS w (consumer, store_id, slot) SELECT $1, $2, unnest($3::bigint[])
			ON CONFLICT (consumer, store_id, slot) DO UPDATE SET stamp = w.stamp + 1, not_before = now()`,
			consumer, store, slots)
		if err != nil {
			return fmt.Errorf("hand slots to %s: %w", consumer, err)
		}
	}
	return nil
}
