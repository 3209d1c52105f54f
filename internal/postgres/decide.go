package postgres

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/veloxpos/reconciled/internal/velox"
	"github.com/veloxpos/reconciled/lock"
	"github.com/veloxpos/reconciled/merkle"
	"github.com/veloxpos/reconciled/merkle/reconcile"
)

// Keep is whose content of an event a person holds to be right.
type Keep string

const (
	KeepHere  Keep = "here"
	KeepThere Keep = "there"
)

// Copies are the two contents of one event that nobody has decided between: this side's,
// and the last that the other side sent.
type Copies struct {
	Event          uuid.UUID       `json:"event_id"`
	Type           velox.Type      `json:"type"`
	Found          time.Time       `json:"found_at"`
	Here           json.RawMessage `json:"here"` // what it says
	There          json.RawMessage `json:"there"`
	Differ         []string        `json:"differ"` // members of the event, "said" among them
	Recommendation string          `json:"recommendation"`

	here  velox.Event
	there velox.Event
	from  uuid.UUID // the installation whose copy it is
}

var (
	// ErrNoConflict: an event has no second content that waits for a decision.
	ErrNoConflict = errors.New("event has no second content that waits for a decision")
	// ErrOtherEvent: the other side's copy is another event under the same id. No content
	// that this one is given makes the two the same.
	ErrOtherEvent = errors.New("the other side's copy is another event under this id")
)

// Copies reads the two contents of an event. It fails with ErrNoConflict.
func (c *Conflicts) Copies(ctx context.Context, store velox.StoreID, event uuid.UUID) (Copies, error) {
	return readCopies(ctx, c.db.Pool, store, event)
}

func readCopies(ctx context.Context, q querier, store velox.StoreID, event uuid.UUID) (c Copies, err error) {
	// What was received was written as it came; as jsonb it is spelled as it was sent.
	rows, err := q.Query(ctx, `SELECT `+eventColumns+`, c.there, (c.there::jsonb -> 'Payload')::text, c.there_item, c.there_from, c.recommendation, c.found_at
		FROM `+eventTables+` JOIN reconciled.conflict c ON c.store_id = e.store_id AND c.event_id = e.event_id
		WHERE e.store_id = $1 AND e.event_id = $2 AND c.decided_at IS NULL ORDER BY c.found_at DESC, c.there_item LIMIT 1`, store, event)
	if err != nil {
		return c, fmt.Errorf("read both contents: %w", err)
	}
	var received, said string
	var item []byte
	c, err = pgx.CollectExactlyOneRow(rows, func(row pgx.CollectableRow) (c Copies, err error) {
		c.here, err = scanEvent(alongside{row, []any{&received, &said, &item, &c.from, &c.Recommendation, &c.Found}})
		return c, err
	})
	if errors.Is(err, pgx.ErrNoRows) {
		return c, fmt.Errorf("%w: %s", ErrNoConflict, event)
	}
	if err == nil {
		err = json.Unmarshal([]byte(received), &c.there)
	}
	if err != nil {
		return c, fmt.Errorf("read both contents: %w", err)
	}
	c.there.Payload, c.there.Delta, c.there.Restored = json.RawMessage(said), nil, nil
	if kept := reconcile.Item(&c.there); kept.Digest != digestOf(item) {
		return c, fmt.Errorf("the copy of event %s that was kept has another digest than the one received: it was changed", event)
	}
	c.Event, c.Type, c.Here, c.There = event, c.here.Type, c.here.Said(), c.there.Said()
	c.Differ = differing(&c.here, &c.there)
	return c, nil
}

// differing are the members in which two copies of an event differ, of those that are
// compared.
func differing(here, there *velox.Event) (members []string) {
	for _, m := range []struct {
		name   string
		differ bool
	}{
		{"created_at", here.CreatedAt != there.CreatedAt},
		{"device_id", here.Device != there.Device},
		{"seq", here.Seq != there.Seq},
		{"type", here.Type != there.Type},
		{"version", here.Version != there.Version},
		{"said", string(here.Said()) != string(there.Said())},
	} {
		if m.differ {
			members = append(members, m.name)
		}
	}
	return members
}

// decidedBy names this program in the POS's own log of conflicts.
const decidedBy = "reconciled-decide"

// Decide writes down whose content of an event is right. The other side's is taken over
// where it is that one: it becomes what the event said and its payload, and the slot goes
// onto the healer's list. It fails with ErrNoConflict, and with ErrOtherEvent where the
// other side's copy differs in more than what it says.
func (c *Conflicts) Decide(ctx context.Context, grant lock.Grant, event uuid.UUID, keep Keep, by, why string) (copies Copies, err error) {
	err = c.db.fenced(ctx, grant, func(ctx context.Context, tx pgx.Tx) error {
		var err error
		if copies, err = readCopies(ctx, tx, grant.Store, event); err != nil {
			return err
		}
		winner, loser := copies.Here, copies.There
		if keep == KeepThere {
			if !sameButSaid(&copies.here, &copies.there) {
				return fmt.Errorf("%w: they differ in %s; `--keep here` on both sides ends the alert, and leaves them listed as different",
					ErrOtherEvent, strings.Join(copies.Differ, ", "))
			}
			if err := takeOver(ctx, tx, grant, &copies); err != nil {
				return fmt.Errorf("take over the content of event %s: %w", event, err)
			}
			winner, loser = loser, winner
		}
		_, err = tx.Exec(ctx, `UPDATE reconciled.conflict SET decided_at = now(), decision = $3
			WHERE store_id = $1 AND event_id = $2 AND decided_at IS NULL`, grant.Store, event, keep)
		if err != nil {
			return fmt.Errorf("write decision: %w", err)
		}
		entity, id := entityOf(copies.Type, winner)
		err = logResolution(ctx, tx, grant.Store, resolution{
			entityType: entity, entityID: id, winner: event, losers: []string{}, strategy: decidedBy, won: winner, lost: loser, by: by,
		})
		if err != nil {
			return err
		}
		return audit(ctx, tx, grant.Store, decision{
			actor: by, action: "event decide", target: event.String(), outcome: "kept " + string(keep),
			detail: map[string]any{"why": why, "here": copies.Here, "there": copies.There, "there_from": copies.from},
		})
	})
	return copies, err
}

// takeOver makes the other side's content what an event said, and its payload, too: the
// POS projects from that, and what differs would look like a lost update.
func takeOver(ctx context.Context, tx pgx.Tx, grant lock.Grant, c *Copies) error {
	if err := giveBack(ctx, tx, &c.here, c.There, c.from); err != nil {
		return err
	}
	if err := writePayload(ctx, tx, grant, c.Event, c.here.Payload, c.There); err != nil {
		return err
	}
	return enlistSlot(ctx, tx, grant.Store, int64(c.here.CreatedAt)>>merkle.SlotBits)
}

// CloseConflicts writes down that both sides hold events the same way again, of which
// they had two contents: there is nothing left to decide.
func (l *Log) CloseConflicts(ctx context.Context, store velox.StoreID, events []uuid.UUID) error {
	_, err := l.db.Pool.Exec(ctx, closeConflicts, store, events)
	if err != nil {
		return fmt.Errorf("close conflicts: %w", err)
	}
	return nil
}

const closeConflicts = `UPDATE reconciled.conflict SET decided_at = now(), decision = 'agreed'
	WHERE store_id = $1 AND event_id = ANY($2) AND decided_at IS NULL`
