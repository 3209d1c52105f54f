package postgres

import (
	"context"
	"fmt"
	"math"

	"github.com/jackc/pgx/v5"

	"github.com/veloxpos/reconciled/internal/velox"
	"github.com/veloxpos/reconciled/merkle"
	"github.com/veloxpos/reconciled/merkle/reconcile"
)

// slotAfter is the first slot behind after that has a leaf or an event; false when
// there is none.
func slotAfter(ctx context.Context, tx pgx.Tx, store velox.StoreID, after int64) (slot int64, more bool, err error) {
	var leaf, event *int64
	first := merkle.SlotRange(after + 1).Span().From.At
	err = tx.QueryRow(ctx, `SELECT
		(SELECT slot FROM reconciled.leaf WHERE store_id = $1 AND slot > $2 AND count > 0 ORDER BY slot LIMIT 1),
		(SELECT reconciled.slot(created_at) FROM public.events WHERE store_id = $1 AND created_at >= $3 ORDER BY created_at LIMIT 1)`,
		store, after, notBefore(first)).Scan(&leaf, &event)
	switch {
	case err != nil:
		return 0, false, fmt.Errorf("find slot: %w", err)
	case after == merkle.Key{At: math.MaxInt64}.Slot(), leaf == nil && event == nil:
		return 0, false, nil
	case leaf == nil, event != nil && *event < *leaf:
		return *event, true, nil
	default:
		return *leaf, true, nil
	}
}

// storedLeaf is the digest that is stored of a slot, zero when there is none. It is
// settled when it should be that of the slot's events: no change of theirs waits to
// be put into it.
func storedLeaf(ctx context.Context, tx pgx.Tx, store velox.StoreID, slot int64) (digest merkle.Digest, settled bool, err error) {
	var (
		pending bool
		version int
		stored  []byte
	)
	err = tx.QueryRow(ctx, `SELECT EXISTS (SELECT FROM reconciled.dirty WHERE store_id = $1 AND slot = $2),
			coalesce(l.digest_version, $3), l.digest
		FROM (VALUES (1)) one LEFT JOIN reconciled.leaf l ON l.store_id = $1 AND l.slot = $2`,
		store, slot, merkle.DigestVersion).Scan(&pending, &version, &stored)
	if err != nil {
		return digest, false, fmt.Errorf("read leaf %d: %w", slot, err)
	}
	return digestOf(stored), !pending && version == merkle.DigestVersion, nil
}

// readSlot reads a slot's events whole, and counts them: each in the order of time,
// and then the item of each in key order, those of declared purges among them.
func readSlot(ctx context.Context, tx pgx.Tx, store velox.StoreID, slot int64, item func(merkle.Item), event func(*velox.Event)) (events int64, err error) {
	declared, err := declaredItems(ctx, tx, store, []int64{slot})
	if err != nil {
		return 0, err
	}
	order := keyOrder{declared: declared[slot], yield: item}
	span := merkle.SlotRange(slot).Span()
	rows, err := tx.Query(ctx, `SELECT `+eventColumns+` FROM `+eventTables+`
		WHERE e.store_id = $1 AND e.created_at >= $2 AND e.created_at <= $3 ORDER BY e.created_at`,
		store, notBefore(span.From.At), notAfter(span.To.At))
	if err != nil {
		return 0, fmt.Errorf("read slot %d: %w", slot, err)
	}
	defer rows.Close()
	for ; rows.Next(); events++ {
		e, err := scanEvent(rows)
		if err == nil {
			event(&e)
			err = order.add(reconcile.Item(&e))
		}
		if err != nil {
			return events, fmt.Errorf("read slot %d: %w", slot, err)
		}
	}
	if err := rows.Err(); err != nil {
		return events, fmt.Errorf("read slot %d: %w", slot, err)
	}
	order.flush()
	order.declaredBefore(nil)
	return events, nil
}
