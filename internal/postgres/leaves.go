package postgres

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/veloxpos/reconciled/internal/velox"
	"github.com/veloxpos/reconciled/merkle"
)

// slotItemsSQL reads the events of ranges of time, range by range and each in the
// order of time, as raw as the server has them: what reconciled.ms would make of
// created_at costs more there than the digest costs here. The subquery's order
// keeps it from being pulled up, and with it the ranges' own.
const slotItemsSQL = `
	SELECT e.event_id, e.created_at, e.device_id, e.seq, e.type, e.version, e.said
	FROM unnest($2::timestamptz[], $3::timestamptz[]) AS range (first, last)
	CROSS JOIN LATERAL (
		SELECT e.event_id, e.created_at, e.device_id, e.seq, e.type, e.version,
		       coalesce(s.said, nullif(e.delta_payload, '{}'), e.payload) AS said
		FROM ` + eventTables + `
		WHERE e.store_id = $1 AND e.created_at >= range.first AND e.created_at <= range.last
		ORDER BY e.created_at) e`

// byIndex keeps a transaction's plans to the index over created_at: the ranges are
// unknown when slotItemsSQL is planned, and a plan that sorts whole rows costs many
// times more.
const byIndex = `SELECT set_config(name, 'off', true) FROM unnest(ARRAY['enable_seqscan', 'enable_bitmapscan', 'enable_mergejoin', 'enable_hashjoin']) AS name`

// slotRun is a run of slots that is read as one range of time.
type slotRun struct{ first, last int64 }

// adjacent puts ascending slots that follow each other without a gap into runs.
func adjacent(slots []int64) []slotRun {
	var runs []slotRun
	for _, slot := range slots {
		if n := len(runs); n > 0 && runs[n-1].last+1 == slot {
			runs[n-1].last = slot
		} else {
			runs = append(runs, slotRun{slot, slot})
		}
	}
	return runs
}

// readLeaves digests slots, which ascend, from their events, and counts the rows.
// One without events yields an empty leaf. One slot's digests are held at a time.
func readLeaves(ctx context.Context, tx pgx.Tx, store velox.StoreID, slots []int64) (changes []merkle.Change, rows int, err error) {
	runs, err := runsOf(ctx, tx, store, slots)
	if err != nil {
		return nil, 0, err
	}
	changes = make([]merkle.Change, 0, len(slots))
	var builder merkle.LeafBuilder
	finish := func() {
		slot := slots[len(changes)]
		changes = append(changes, merkle.Change{Slot: slot, Leaf: builder.Leaf(slot)})
	}
	err = readItems(ctx, tx, store, slots, runs, func(item merkle.Item) {
		for slots[len(changes)] != item.Key.Slot() {
			finish()
		}
		builder.Add(item)
		rows++
	})
	if err != nil {
		return nil, rows, err
	}
	for len(changes) < len(slots) {
		finish()
	}
	return changes, rows, nil
}

// runsOf is how slots are best read: run by run when they are few among many, and
// all at once when there is little else between them, as in a build.
func runsOf(ctx context.Context, tx pgx.Tx, store velox.StoreID, slots []int64) ([]slotRun, error) {
	runs := adjacent(slots)
	if len(runs) < 2 {
		return runs, nil
	}
	first, last := slots[0], slots[len(slots)-1]
	most := 2 * len(slots)
	var between int
	err := tx.QueryRow(ctx, `SELECT count(*) FROM (SELECT FROM reconciled.leaf
		WHERE store_id = $1 AND slot BETWEEN $2 AND $3 AND count > 0 LIMIT $4) l`, store, first, last, most).Scan(&between)
	if err != nil {
		return nil, fmt.Errorf("count leaves: %w", err)
	}
	if between < most {
		return []slotRun{{first, last}}, nil
	}
	return runs, nil
}

// readItems yields the items of slots, which ascend, in key order, those of
// declared purges among them. Runs may hold more than the slots do. The items of
// one millisecond are held at a time.
func readItems(ctx context.Context, tx pgx.Tx, store velox.StoreID, slots []int64, runs []slotRun, yield func(merkle.Item)) error {
	declared, err := declaredItems(ctx, tx, store, slots)
	if err != nil {
		return err
	}
	order := keyOrder{yield: yield}
	for _, slot := range slots {
		order.declared = append(order.declared, declared[slot]...)
	}
	if _, err := tx.Exec(ctx, byIndex); err != nil {
		return fmt.Errorf("prepare to read items: %w", err)
	}
	first, last := make([]pgtype.Timestamptz, len(runs)), make([]pgtype.Timestamptz, len(runs))
	for i, run := range runs {
		first[i] = notBefore(merkle.SlotRange(run.first).Span().From.At)
		last[i] = notAfter(merkle.SlotRange(run.last).Span().To.At)
	}
	rows, err := tx.Query(ctx, slotItemsSQL, pgx.QueryResultFormats{pgx.BinaryFormatCode}, store, first, last)
	if err != nil {
		return fmt.Errorf("read items: %w", err)
	}
	defer rows.Close()
	wanted := slots
	for rows.Next() {
		row := rawItem(rows.RawValues())
		at, err := row.at()
		if err != nil {
			return err
		}
		slot := merkle.Key{At: at}.Slot()
		for len(wanted) > 0 && wanted[0] < slot {
			wanted = wanted[1:]
		}
		if len(wanted) == 0 || wanted[0] != slot {
			continue
		}
		item, err := row.item(store, at)
		if err != nil {
			return err
		}
		if err := order.add(item); err != nil {
			return err
		}
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("read items: %w", err)
	}
	order.flush()
	order.declaredBefore(nil)
	return nil
}

// rawItem is a row of slotItemsSQL in the binary format.
type rawItem [][]byte

var errRawItem = errors.New("read items: a column is not as the binary format has it")

// at is created_at in milliseconds, as reconciled.ms has it: rounded down, with the
// infinities at the ends.
func (r rawItem) at() (int64, error) {
	if len(r) != 7 || len(r[1]) != 8 {
		return 0, errRawItem
	}
	switch micros := int64(binary.BigEndian.Uint64(r[1])); {
	case micros == math.MinInt64 || micros == math.MaxInt64:
		return micros, nil
	case micros < 0:
		return (micros-999)/1000 + postgresEpoch, nil
	default:
		return micros/1000 + postgresEpoch, nil
	}
}

// postgresEpoch is where timestamptz counts from, 2000-01-01, in milliseconds.
const postgresEpoch = 946684800000

// jsonbVersion begins a jsonb in the binary format; its text follows.
const jsonbVersion = 1

func (r rawItem) item(store velox.StoreID, at int64) (merkle.Item, error) {
	if len(r[0]) != 16 || len(r[2]) != 16 || len(r[3]) != 8 || len(r[5]) != 4 || len(r[6]) == 0 || r[6][0] != jsonbVersion {
		return merkle.Item{}, errRawItem
	}
	return merkle.NewItem(merkle.Key{At: at, ID: [16]byte(r[0])}, merkle.Content{
		Store: store, Device: [16]byte(r[2]), Seq: int64(binary.BigEndian.Uint64(r[3])), Type: string(r[4]),
		Version: int32(binary.BigEndian.Uint32(r[5])), Said: r[6][1:],
	}), nil
}

// keyOrder passes items that come in the order of time on in key order, and declared
// ones between them: events of one millisecond may come in any order.
type keyOrder struct {
	declared []merkle.Item // that are still to come, in key order
	same     []merkle.Item // of one millisecond
	yield    func(merkle.Item)
}

func (o *keyOrder) add(item merkle.Item) error {
	if len(o.same) > 0 && o.same[0].Key.At != item.Key.At {
		if o.same[0].Key.At > item.Key.At {
			return errors.New("read items: rows came out of order")
		}
		o.flush()
	}
	o.same = append(o.same, item)
	return nil
}

// flush passes on what is held.
func (o *keyOrder) flush() {
	if len(o.same) > 1 {
		slices.SortFunc(o.same, func(a, b merkle.Item) int { return bytes.Compare(a.Key.ID[:], b.Key.ID[:]) })
	}
	for i := range o.same {
		if len(o.declared) > 0 {
			o.declaredBefore(&o.same[i].Key)
		}
		o.yield(o.same[i])
	}
	o.same = o.same[:0]
}

// declaredBefore passes on what was declared before a key, or all of it. One that is
// there again, since a moment ago, counts as there.
func (o *keyOrder) declaredBefore(key *merkle.Key) {
	for len(o.declared) > 0 {
		order := -1
		if key != nil {
			order = o.declared[0].Key.Compare(*key)
		}
		if order > 0 {
			return
		}
		if order < 0 {
			o.yield(o.declared[0])
		}
		o.declared = o.declared[1:]
	}
}
