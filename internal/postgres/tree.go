package postgres

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/veloxpos/reconciled/internal/velox"
	"github.com/veloxpos/reconciled/merkle"
	"github.com/veloxpos/reconciled/merkle/reconcile"
)

// Consumers of the dirty log, beside the tree itself: what a drain takes from
// the log it hands on to their lists.
const (
	healerConsumer = "healer"
	anchorConsumer = "anchor"
)

// slotsAtOnce bounds one drain transaction.
const slotsAtOnce = 256

type pinned struct {
	tree    merkle.Tree
	version int64
}

// Pin drains the store's dirty log into its leaves, so that every event that was
// committed before the call is in the tree, and pins the tree.
func (l *Log) Pin(ctx context.Context, store velox.StoreID) (reconcile.Pin, error) {
	for {
		now, more, err := l.drain(ctx, store)
		if err != nil {
			return reconcile.Pin{}, fmt.Errorf("pin tree of store %s: %w", store, err)
		}
		if !more {
			view := merkle.NewView(now.tree, storeScanner{l.db, store})
			return reconcile.Pin{View: view, Version: now.version}, nil
		}
	}
}

// drain recomputes up to slotsAtOnce dirty slots in one READ COMMITTED
// transaction. What makes it sound:
//   - the store's root row is locked first, so every other writer of the store's
//     leaves waits, and then sees what this one committed;
//   - all of a slot's dirty rows are deleted, without SKIP LOCKED and without a
//     LIMIT within the slot, and only then, by a later statement with its own
//     snapshot, are the slot's events read. A change that commits in between is
//     in the events read, and its dirty row is still in the log: the slot is
//     computed once more, never once too few.
func (l *Log) drain(ctx context.Context, store velox.StoreID) (now pinned, more bool, err error) {
	err = l.db.transact(ctx, func(ctx context.Context, tx pgx.Tx) error {
		root, err := lockRoot(ctx, tx, store)
		if err != nil {
			return err
		}
		if now, err = l.current(ctx, tx, store, root); err != nil {
			return err
		}
		slots, err := dirtySlots(ctx, tx, store)
		if err != nil || len(slots) == 0 {
			more = false
			return err
		}
		more = len(slots) == slotsAtOnce
		if err := takeDirty(ctx, tx, store, slots); err != nil {
			return err
		}
		changes, err := readLeaves(ctx, tx, store, slots)
		if err != nil {
			return err
		}
		now = pinned{tree: now.tree.Apply(changes), version: root.version + 1}
		return writeLeaves(ctx, tx, store, changes, now)
	})
	if err == nil {
		l.trees.Add(store, now)
	}
	return now, more, err
}

// root is a store's root row.
type root struct {
	version int64
	count   int64
	digest  []byte
	taken   int // digest version
}

// is reports whether the row is about this tree.
func (r root) is(tree merkle.Tree) bool {
	s := tree.Root()
	return r.taken == merkle.DigestVersion && r.count == int64(s.Count) && bytes.Equal(r.digest, s.Digest[:])
}

// lockRoot locks the store's root row. A store without one is new: all the slots
// it has events in are marked dirty first.
func lockRoot(ctx context.Context, tx pgx.Tx, store velox.StoreID) (r root, err error) {
	const lock = `SELECT version, count, digest, digest_version FROM reconciled.root WHERE store_id = $1 FOR UPDATE`
	err = tx.QueryRow(ctx, lock, store).Scan(&r.version, &r.count, &r.digest, &r.taken)
	if !errors.Is(err, pgx.ErrNoRows) {
		if err != nil {
			return r, fmt.Errorf("lock root: %w", err)
		}
		return r, nil
	}
	empty := merkle.Tree{}.Root()
	tag, err := tx.Exec(ctx, `INSERT INTO reconciled.root (store_id, count, digest, digest_version, version)
		VALUES ($1, 0, $2, $3, 0) ON CONFLICT DO NOTHING`, store, empty.Digest[:], merkle.DigestVersion)
	if err != nil {
		return r, fmt.Errorf("make root: %w", err)
	}
	if tag.RowsAffected() > 0 {
		if err := markAll(ctx, tx, store); err != nil {
			return r, err
		}
	}
	if err := tx.QueryRow(ctx, lock, store).Scan(&r.version, &r.count, &r.digest, &r.taken); err != nil {
		return r, fmt.Errorf("lock root: %w", err)
	}
	return r, nil
}

// markAll marks every slot that has events or a leaf.
func markAll(ctx context.Context, tx pgx.Tx, store velox.StoreID) error {
	_, err := tx.Exec(ctx, `INSERT INTO reconciled.dirty (store_id, slot, op)
		SELECT $1, slot, 'm' FROM (
			SELECT reconciled.slot(created_at) AS slot FROM public.events WHERE store_id = $1
			UNION SELECT slot FROM reconciled.leaf WHERE store_id = $1) s`, store)
	if err != nil {
		return fmt.Errorf("mark slots: %w", err)
	}
	return nil
}

// current is the tree that the locked root row is about: the one in memory plus
// the leaves that have changed since, or else one from all leaves. Versions alone
// prove nothing: a database that was restored, or lost its last commits in a
// failover, counts the same versions again with other leaves. When not even the
// leaves add up to the root, every slot is computed anew.
func (l *Log) current(ctx context.Context, tx pgx.Tx, store velox.StoreID, root root) (pinned, error) {
	if held, ok := l.trees.Get(store); ok && held.version <= root.version {
		tree, err := withLeaves(ctx, tx, store, held.tree, held.version)
		if err != nil || root.is(tree) {
			return pinned{tree, root.version}, err
		}
	}
	tree, err := withLeaves(ctx, tx, store, merkle.Tree{}, -1)
	if err == nil && !root.is(tree) {
		err = markAll(ctx, tx, store)
	}
	return pinned{tree, root.version}, err
}

// withLeaves is a tree with the leaves of versions behind since applied.
func withLeaves(ctx context.Context, tx pgx.Tx, store velox.StoreID, tree merkle.Tree, since int64) (merkle.Tree, error) {
	rows, err := tx.Query(ctx, `SELECT slot, count, digest, sum FROM reconciled.leaf
		WHERE store_id = $1 AND version > $2 AND digest_version = $3`, store, since, merkle.DigestVersion)
	if err != nil {
		return tree, fmt.Errorf("load leaves: %w", err)
	}
	changes, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (merkle.Change, error) {
		var c merkle.Change
		var digest []byte
		if err := row.Scan(&c.Slot, &c.Leaf.Count, &digest, &c.Leaf.Sum); err != nil {
			return c, err
		}
		copy(c.Leaf.Digest[:], digest)
		return c, nil
	})
	if err != nil {
		return tree, fmt.Errorf("load leaves: %w", err)
	}
	return tree.Apply(changes), nil
}

func dirtySlots(ctx context.Context, tx pgx.Tx, store velox.StoreID) ([]int64, error) {
	rows, err := tx.Query(ctx, `SELECT DISTINCT slot FROM reconciled.dirty WHERE store_id = $1 ORDER BY slot LIMIT $2`,
		store, slotsAtOnce)
	if err != nil {
		return nil, fmt.Errorf("find dirty slots: %w", err)
	}
	slots, err := pgx.CollectRows(rows, pgx.RowTo[int64])
	if err != nil {
		return nil, fmt.Errorf("find dirty slots: %w", err)
	}
	return slots, nil
}

// takeDirty deletes the slots' dirty rows, keeps what they say of deleted events,
// takes back the proof for as many events as changed or went, and hands the slots on to the other consumers' lists.
func takeDirty(ctx context.Context, tx pgx.Tx, store velox.StoreID, slots []int64) error {
	_, err := tx.Exec(ctx, `
		WITH taken AS (
			DELETE FROM reconciled.dirty WHERE store_id = $1 AND slot = ANY($2)
			RETURNING slot, op, event_id, type, created_ms, item, at),
		unproven AS (
			UPDATE reconciled.leaf l SET agreed_count = greatest(l.agreed_count - t.n, 0)
			FROM (SELECT slot, count(*) AS n FROM taken WHERE op <> 'i' GROUP BY slot) t
			WHERE l.store_id = $1 AND l.slot = t.slot)
		INSERT INTO reconciled.deletion AS d (store_id, event_id, type, created_ms, item, deleted_at)
		SELECT DISTINCT ON (event_id) $1, event_id, type, created_ms, item, at FROM taken WHERE op = 'd'
		ORDER BY event_id, at DESC
		ON CONFLICT (store_id, event_id) DO UPDATE SET deleted_at = excluded.deleted_at, item = excluded.item`, store, slots)
	if err != nil {
		return fmt.Errorf("take dirty rows: %w", err)
	}
	for _, consumer := range []string{healerConsumer, anchorConsumer} {
		_, err := tx.Exec(ctx, `
			INSERT INTO reconciled.worklist AS w (consumer, store_id, slot) SELECT $1, $2, unnest($3::bigint[])
			ON CONFLICT (consumer, store_id, slot) DO UPDATE SET stamp = w.stamp + 1, not_before = now()`,
			consumer, store, slots)
		if err != nil {
			return fmt.Errorf("hand slots to %s: %w", consumer, err)
		}
	}
	return nil
}

// readLeaves digests slots from their events. A slot without events yields an
// empty leaf.
func readLeaves(ctx context.Context, tx pgx.Tx, store velox.StoreID, slots []int64) ([]merkle.Change, error) {
	changes := make([]merkle.Change, 0, len(slots))
	var builder merkle.LeafBuilder
	for _, slot := range slots {
		err := eachItem(ctx, tx, store, merkle.SlotRange(slot).Span(), func(item merkle.Item) error {
			builder.Add(item)
			return nil
		})
		if err != nil {
			return nil, fmt.Errorf("read slot %d: %w", slot, err)
		}
		changes = append(changes, merkle.Change{Slot: slot, Leaf: builder.Leaf(slot)})
	}
	return changes, nil
}

func writeLeaves(ctx context.Context, tx pgx.Tx, store velox.StoreID, changes []merkle.Change, now pinned) error {
	n := len(changes)
	slots, counts, digests, sums := make([]int64, n), make([]int32, n), make([][]byte, n), make([]int64, n)
	for i, c := range changes {
		slots[i], counts[i], digests[i], sums[i] = c.Slot, int32(c.Leaf.Count), c.Leaf.Digest[:], int64(c.Leaf.Sum)
	}
	_, err := tx.Exec(ctx, `
		INSERT INTO reconciled.leaf (store_id, slot, count, digest, sum, digest_version, version)
		SELECT $1, unnest($2::bigint[]), unnest($3::int[]), unnest($4::bytea[]), unnest($7::bigint[]), $5, $6
		ON CONFLICT (store_id, slot) DO UPDATE SET count = excluded.count, digest = excluded.digest, sum = excluded.sum,
			digest_version = excluded.digest_version, version = excluded.version`,
		store, slots, counts, digests, merkle.DigestVersion, now.version, sums)
	if err != nil {
		return fmt.Errorf("write leaves: %w", err)
	}
	root := now.tree.Root()
	_, err = tx.Exec(ctx, `UPDATE reconciled.root SET count = $2, digest = $3, digest_version = $4, version = $5, updated_at = now()
		WHERE store_id = $1`, store, int64(root.Count), root.Digest[:], merkle.DigestVersion, now.version)
	if err != nil {
		return fmt.Errorf("write root: %w", err)
	}
	return nil
}
