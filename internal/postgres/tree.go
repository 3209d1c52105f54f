package postgres

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

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

// A drain transaction takes some slots at first, then as many as hold about
// rowsAtOnce rows, as far as the transaction before it tells: a kill loses little,
// and a build of many half-empty slots takes few transactions.
const (
	slotsAtFirst = 256
	slotsAtMost  = 1 << 14
	rowsAtOnce   = 100_000
)

// slotsNext is how many slots a transaction takes after one that took some and read
// that many rows.
func slotsNext(slots, rows int) int {
	return max(1, min(slots*rowsAtOnce/max(rows, 1), 4*slots, slotsAtMost))
}

type pinned struct {
	tree    merkle.Tree
	version int64
}

// Pin drains the store's dirty log into its leaves, so that every event that was
// committed before the call is in the tree, and pins the tree.
func (l *Log) Pin(ctx context.Context, store velox.StoreID) (reconcile.Pin, error) {
	for slots := slotsAtFirst; ; {
		now, took, rows, err := l.drain(ctx, store, slots)
		if err != nil {
			return reconcile.Pin{}, fmt.Errorf("pin tree of store %s: %w", store, err)
		}
		if took < slots {
			view := merkle.NewView(now.tree, storeScanner{l.db, store})
			return reconcile.Pin{View: view, Version: now.version}, nil
		}
		slots = slotsNext(took, rows)
	}
}

// drain recomputes up to a number of dirty slots in one READ COMMITTED transaction,
// and says how many it took and the rows it read. What makes it sound:
//   - the store's root row is locked first, so every other writer of the store's
//     leaves waits, and then sees what this one committed;
//   - all of a slot's dirty rows are deleted, without SKIP LOCKED and without a
//     LIMIT within the slot, and only then, by a later statement with its own
//     snapshot, are the slot's events read. A change that commits in between is
//     in the events read, and its dirty row is still in the log: the slot is
//     computed once more, never once too few.
func (l *Log) drain(ctx context.Context, store velox.StoreID, most int) (now pinned, took, rows int, err error) {
	err = l.db.whileCaptured(ctx, func(ctx context.Context, tx pgx.Tx) error {
		root, err := lockRoot(ctx, tx, store)
		if err != nil {
			return err
		}
		if now, err = l.current(ctx, tx, store, root); err != nil {
			return err
		}
		slots, err := dirtySlots(ctx, tx, store, most)
		if took = len(slots); err != nil || took == 0 {
			return err
		}
		if err := takeDirty(ctx, tx, store, slots); err != nil {
			return err
		}
		changes, n, err := readLeaves(ctx, tx, store, slots)
		if rows = n; err != nil {
			return err
		}
		now = pinned{tree: now.tree.Apply(changes), version: root.version + 1}
		return writeLeaves(ctx, tx, store, changes, now)
	})
	if err == nil {
		l.trees.Add(store, now)
	}
	return now, took, rows, err
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

// markAll marks every slot that has events or a leaf. date_bin cuts time into slots
// for a tenth of what reconciled.slot costs an event; it has no answer for the ends
// of time, which the clocks of devices reach.
func markAll(ctx context.Context, tx pgx.Tx, store velox.StoreID) error {
	_, err := tx.Exec(ctx, `INSERT INTO reconciled.dirty (store_id, slot, op)
		SELECT $1, slot, 'm' FROM (
			SELECT reconciled.slot(cut) FROM (
				SELECT DISTINCT date_bin($2, created_at, '1970-01-01Z') AS cut FROM public.events
				WHERE store_id = $1 AND created_at >= '1970-01-01Z' AND created_at < '2200-01-01Z') c
			UNION SELECT reconciled.slot(created_at) FROM public.events
				WHERE store_id = $1 AND (created_at < '1970-01-01Z' OR created_at >= '2200-01-01Z')
			UNION SELECT slot FROM reconciled.leaf WHERE store_id = $1) s (slot)`, store, slotWidth)
	if err != nil {
		return fmt.Errorf("mark slots: %w", err)
	}
	return nil
}

// slotWidth is the time a slot spans.
const slotWidth = time.Duration(1<<merkle.SlotBits) * time.Millisecond

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
		WHERE store_id = $1 AND version > $2 AND digest_version = $3`,
		pgx.QueryResultFormats{pgx.BinaryFormatCode}, store, since, merkle.DigestVersion)
	if err != nil {
		return tree, fmt.Errorf("load leaves: %w", err)
	}
	defer rows.Close()
	var changes []merkle.Change
	for rows.Next() {
		c, err := rawLeaf(rows.RawValues())
		if err != nil {
			return tree, err
		}
		changes = append(changes, c)
	}
	if err := rows.Err(); err != nil {
		return tree, fmt.Errorf("load leaves: %w", err)
	}
	return tree.Apply(changes), nil
}

// rawLeaf reads slot, count, digest and sum in the binary format.
func rawLeaf(v [][]byte) (c merkle.Change, err error) {
	if len(v) != 4 || len(v[0]) != 8 || len(v[1]) != 4 || len(v[2]) != len(c.Leaf.Digest) || len(v[3]) != 8 {
		return c, errors.New("load leaves: a column is not as the binary format has it")
	}
	c.Slot = int64(binary.BigEndian.Uint64(v[0]))
	c.Leaf.Count = binary.BigEndian.Uint32(v[1])
	c.Leaf.Digest = merkle.Digest(v[2])
	c.Leaf.Sum = uint32(binary.BigEndian.Uint64(v[3]))
	return c, nil
}

func dirtySlots(ctx context.Context, tx pgx.Tx, store velox.StoreID, most int) ([]int64, error) {
	rows, err := tx.Query(ctx, `SELECT DISTINCT slot FROM reconciled.dirty WHERE store_id = $1 ORDER BY slot LIMIT $2`,
		store, most)
	if err != nil {
		return nil, fmt.Errorf("find dirty slots: %w", err)
	}
	slots, err := pgx.CollectRows(rows, pgx.RowTo[int64])
	if err != nil {
		return nil, fmt.Errorf("find dirty slots: %w", err)
	}
	return slots, nil
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
