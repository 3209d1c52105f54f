package postgres

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/veloxpos/reconciled/internal/velox"
	"github.com/veloxpos/reconciled/merkle"
	"github.com/veloxpos/reconciled/merkle/reconcile"
)

// rehashEvents is about how many events end a Rehash: a slot is never cut.
const rehashEvents = 20_000

// Rehash digests the slots of a section anew from their events, in one snapshot, and
// checks each event against its own hash. It stops after reconcile.SectionSlots slots
// or about 20,000 events, whichever comes first, but not before the first slot.
func (l *Log) Rehash(ctx context.Context, store velox.StoreID, section reconcile.Section) (answer reconcile.Rehash, err error) {
	if section.After == reconcile.BeforeFirst {
		if _, err := l.Pin(ctx, store); err != nil { // leaves to compare with
			return answer, err
		}
	}
	without := make(map[uuid.UUID]bool, len(section.Without))
	for _, id := range section.Without {
		without[id] = true
	}
	answer = reconcile.Rehash{Slots: []reconcile.SlotCheck{}, After: section.After}
	err = pgx.BeginTxFunc(ctx, l.db.Pool, snapshot, func(tx pgx.Tx) error {
		events := int64(0)
		for len(answer.Slots) < reconcile.SectionSlots && events < rehashEvents {
			slot, more, err := nextOf(ctx, tx, store, section.Slots, answer.After)
			if err != nil {
				return err
			}
			if !more {
				answer.Done = true
				return nil
			}
			check, n, err := checkSlot(ctx, tx, store, slot, without)
			if err != nil {
				return err
			}
			answer.Slots, answer.After = append(answer.Slots, check), slot
			events += n
		}
		return nil
	})
	if err != nil {
		return answer, fmt.Errorf("rehash: %w", err)
	}
	return answer, nil
}

// nextOf is the next of some slots, or of all that hold anything when they are none.
func nextOf(ctx context.Context, tx pgx.Tx, store velox.StoreID, slots []int64, after int64) (slot int64, more bool, err error) {
	if len(slots) == 0 {
		return slotAfter(ctx, tx, store, after)
	}
	for _, slot := range slots {
		if slot > after {
			return slot, true, nil
		}
	}
	return 0, false, nil
}

func checkSlot(ctx context.Context, tx pgx.Tx, store velox.StoreID, slot int64, without map[uuid.UUID]bool) (check reconcile.SlotCheck, events int64, err error) {
	stored, settled, err := storedLeaf(ctx, tx, store, slot)
	if err != nil {
		return check, 0, err
	}
	check.Slot = slot
	var whole, compared merkle.LeafBuilder
	drift := drift{sum: sha256.New(), held: map[uuid.UUID][sha256.Size]byte{}}
	events, err = readSlot(ctx, tx, store, slot, func(item merkle.Item) {
		whole.Add(item)
		if !without[item.Key.ID] {
			compared.Add(item)
		}
		drift.put(item.Key.ID)
	}, func(e *velox.Event) {
		drift.hold(e)
		if e.Verify() == velox.Corrupt {
			check.Corrupt.Add(e.ID)
		}
	})
	if err != nil {
		return check, events, err
	}
	now := whole.Leaf(slot)
	check.Count, check.Purged = now.Count, now.Count-uint32(events)
	check.Stale = settled && now.Digest != stored
	digest := compared.Leaf(slot).Digest
	copy(check.Digest[:], digest[:])
	if events > 0 {
		copy(check.Drift[:], drift.sum.Sum(nil))
	}
	return check, events, nil
}

// drift digests what no item covers. Events come in the order of time, and go into
// the sum in key order.
type drift struct {
	sum  hash.Hash
	held map[uuid.UUID][sha256.Size]byte
}

func (d *drift) hold(e *velox.Event) {
	text := append([]byte(nil), e.ID[:]...)
	for _, field := range append([]string{string(e.VectorClock)}, e.Causal...) {
		text = append(binary.BigEndian.AppendUint32(text, uint32(len(field))), field...)
	}
	d.held[e.ID] = sha256.Sum256(text)
}

// put adds an event that is held; a declared purge is not.
func (d *drift) put(event uuid.UUID) {
	if one, ok := d.held[event]; ok {
		d.sum.Write(one[:])
		delete(d.held, event)
	}
}
