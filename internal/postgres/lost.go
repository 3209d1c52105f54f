package postgres

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/veloxpos/reconciled/healer"
	"github.com/veloxpos/reconciled/internal/velox"
	"github.com/veloxpos/reconciled/lock"
	"github.com/veloxpos/reconciled/merkle"
)

// truth is what an event said, where its payload says something else and its own hash
// vouches for the copy: nil when it is no lost update. Last write wins replaces the
// payload with another event's; soft validation only adds to it, which loses nothing.
func truth(e *velox.Event) json.RawMessage {
	said := e.Said()
	switch {
	case e.Hash == "" || bytes.Equal(said, e.Payload) || !e.Restores(said) || e.Restores(e.Payload):
		return nil
	case e.ConflictStatus != velox.AutoResolved && softlyValidated(e.Payload):
		return nil
	}
	return said
}

func softlyValidated(payload json.RawMessage) bool {
	var p struct {
		Metadata struct {
			Note json.RawMessage `json:"sync_soft_validation"`
		} `json:"metadata"`
	}
	return json.Unmarshal(payload, &p) == nil && p.Metadata.Note != nil
}

// NoteLost remembers those of the events that are lost updates, and whose content each
// one's payload is. What it knows already costs one read. A change of an event takes it
// out again (see takeDirty), as does its restoration.
func (h *Healing) NoteLost(ctx context.Context, grant lock.Grant, events []velox.Event) error {
	lost := map[uuid.UUID]LostUpdate{}
	for i := range events {
		if l := lostUpdate(&events[i]); l.Said != nil {
			lost[l.Event] = l
		}
	}
	if len(lost) == 0 {
		return nil
	}
	found, err := h.db.Pool.Query(ctx, `SELECT event_id FROM reconciled.lost_update WHERE store_id = $1 AND event_id = ANY($2) AND restored_at IS NULL`,
		grant.Store, slices.Collect(maps.Keys(lost)))
	if err != nil {
		return fmt.Errorf("look for lost updates: %w", err)
	}
	known, err := pgx.CollectRows(found, pgx.RowTo[uuid.UUID])
	if err != nil {
		return fmt.Errorf("look for lost updates: %w", err)
	}
	for _, id := range known {
		delete(lost, id)
	}
	if len(lost) == 0 {
		return nil
	}
	list := slices.Collect(maps.Values(lost))
	if err := findWinners(ctx, h.db.Pool, grant.Store, list); err != nil {
		return err
	}
	text, err := json.Marshal(list)
	if err != nil {
		return fmt.Errorf("print lost updates: %w", err)
	}
	return h.db.fenced(ctx, grant, func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `
			INSERT INTO reconciled.lost_update (store_id, event_id, type, created_ms, entity_type, entity_id, winner)
			SELECT $1, n.event_id, n.type, n.created_at, n.entity_type, n.entity_id, n.winner_event_id
			FROM jsonb_to_recordset($2::jsonb) AS n (event_id uuid, type text, created_at bigint, entity_type text, entity_id text, winner_event_id uuid)
			ON CONFLICT (store_id, event_id) DO UPDATE SET winner = excluded.winner, found_at = now(), restored_at = NULL, restored_by = NULL`,
			grant.Store, string(text))
		if err != nil {
			return fmt.Errorf("note lost updates: %w", err)
		}
		return nil
	})
}

// lostUpdate is an event as a lost update; Said is nil when it is none.
func lostUpdate(e *velox.Event) LostUpdate {
	l := LostUpdate{Event: e.ID, Type: e.Type, Created: e.CreatedAt, Said: truth(e)}
	if l.Said != nil {
		l.Payload = printable(e.Payload)
	}
	l.EntityType, l.EntityID = entityOf(e.Type, l.Said)
	return l
}

// printable is a content, or nil where it is nested more deeply than JSON is printed and
// hashed here: an event must not hide the others of a list.
func printable(content json.RawMessage) json.RawMessage {
	if !json.Valid(content) {
		return nil
	}
	return content
}

// findWinners names the events whose content the payloads are. They are found through
// the index on payload; that a hash is of that content proves it. An event of the online
// API has no hash where it was made, and is not named; nor is one whose content is
// nested too deeply to be hashed.
func findWinners(ctx context.Context, q querier, store velox.StoreID, lost []LostUpdate) error {
	hashes := make([]string, len(lost))
	payloads := map[string]json.RawMessage{} // by hash: one event may have replaced many
	for i, l := range lost {
		if hash, err := velox.PayloadHash(l.Payload); err == nil {
			hashes[i], payloads[hash] = hash, l.Payload
		}
	}
	text, err := json.Marshal(payloads)
	if err != nil {
		return fmt.Errorf("print payloads: %w", err)
	}
	found, err := q.Query(ctx, `SELECT n.key, (
			SELECT min(w.event_id::text)::uuid FROM public.events w
			WHERE w.store_id = $1 AND w.payload @> n.value AND w.full_payload_hash = n.key)
		FROM jsonb_each($2::jsonb) n`, store, string(text))
	if err != nil {
		return fmt.Errorf("look for winners: %w", err)
	}
	winners := map[string]uuid.NullUUID{}
	var hash string
	var winner uuid.NullUUID
	if _, err := pgx.ForEachRow(found, []any{&hash, &winner}, func() error { winners[hash] = winner; return nil }); err != nil {
		return fmt.Errorf("look for winners: %w", err)
	}
	for i := range lost {
		lost[i].Winner = winners[hashes[i]]
	}
	return nil
}

// entityMembers name what an event is about, in the order in which the POS looks.
var entityMembers = []string{"product_id", "sale_id", "customer_id", "debt_id", "session_id"}

// entityOf is what an event is about by the POS's own rule: the first capitalised word
// of its type, in lower case, and the first id that its payload has, "" for none.
func entityOf(kind velox.Type, payload json.RawMessage) (entityType, entityID string) {
	word := []byte(kind)
	for i := range word {
		if upper := 'A' <= word[i] && word[i] <= 'Z'; upper && i > 0 {
			word = word[:i]
			break
		}
	}
	var members map[string]any
	_ = json.Unmarshal(payload, &members) // what is no object has none
	for _, member := range entityMembers {
		if id, ok := members[member].(string); ok && id != "" {
			entityID = id
			break
		}
	}
	return string(bytes.ToLower(word)), entityID
}

// LostUpdate is an event whose payload is another event's, and what it said itself.
type LostUpdate struct {
	Event      uuid.UUID       `json:"event_id"`
	Type       velox.Type      `json:"type"`
	Created    velox.Millis    `json:"created_at"` // in milliseconds
	EntityType string          `json:"entity_type"`
	EntityID   string          `json:"entity_id"`
	Winner     uuid.NullUUID   `json:"winner_event_id"` // whose content the payload is, when that event is here
	Found      time.Time       `json:"found_at"`
	Payload    json.RawMessage `json:"payload"` // null when it cannot be printed
	Said       json.RawMessage `json:"said"`
}

// Lost lists the lost updates that nobody has restored, the latest first, at most
// limit, and counts all.
func (h *Healing) Lost(ctx context.Context, store velox.StoreID, limit int) (list []LostUpdate, total int, err error) {
	rows, err := h.db.Pool.Query(ctx, `
		SELECT l.event_id, l.type, l.created_ms, l.entity_type, l.entity_id, l.winner, l.found_at, e.payload, coalesce(s.said, e.delta_payload)
		FROM (SELECT * FROM reconciled.lost_update WHERE store_id = $1 AND restored_at IS NULL ORDER BY found_at DESC, event_id LIMIT $2) l
		JOIN public.events e ON e.event_id = l.event_id LEFT JOIN reconciled.said s ON s.event_id = l.event_id
		ORDER BY l.found_at DESC, l.event_id`, store, limit)
	if err == nil {
		list, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (l LostUpdate, err error) {
			err = row.Scan(&l.Event, &l.Type, &l.Created, &l.EntityType, &l.EntityID, &l.Winner, &l.Found, (*[]byte)(&l.Payload), (*[]byte)(&l.Said))
			l.Payload = printable(l.Payload)
			return l, err
		})
	}
	if err == nil {
		err = h.db.Pool.QueryRow(ctx, `SELECT count(*) FROM reconciled.lost_update WHERE store_id = $1 AND restored_at IS NULL`, store).Scan(&total)
	}
	if err != nil {
		return nil, 0, fmt.Errorf("list lost updates: %w", err)
	}
	return list, total, nil
}

// LookLost reads those of the events that are lost updates as they stand now, noted or
// not, in the order of their ids.
func (h *Healing) LookLost(ctx context.Context, store velox.StoreID, events []uuid.UUID) ([]LostUpdate, error) {
	return readLost(ctx, h.db.Pool, store, events)
}

func readLost(ctx context.Context, q querier, store velox.StoreID, events []uuid.UUID) ([]LostUpdate, error) {
	rows, err := q.Query(ctx, `SELECT `+eventColumns+`, coalesce(l.found_at, now()) FROM `+eventTables+`
		LEFT JOIN reconciled.lost_update l ON l.store_id = e.store_id AND l.event_id = e.event_id
		WHERE e.store_id = $1 AND e.event_id = ANY($2) ORDER BY e.event_id`, store, events)
	if err != nil {
		return nil, fmt.Errorf("read lost updates: %w", err)
	}
	list, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (LostUpdate, error) {
		var at time.Time
		e, err := scanEvent(alongside{row, []any{&at}})
		l := lostUpdate(&e)
		l.Found = at
		return l, err
	})
	if err != nil {
		return nil, fmt.Errorf("read lost updates: %w", err)
	}
	lost := slices.DeleteFunc(list, func(l LostUpdate) bool { return l.Said == nil })
	return lost, findWinners(ctx, q, store, lost)
}

// ErrNotLost: an event was to be restored that is no lost update.
var ErrNotLost = errors.New("event is no lost update")

// restoredBy names this program in the POS's own log of conflicts.
const restoredBy = "reconciled-restore"

// RestoreLost gives events their payload back, from the copy that their own hash
// vouches for: all of them, or it fails with ErrNotLost. What was overwritten goes to
// the POS's log of conflicts, and the events' slots onto the healer's list.
func (h *Healing) RestoreLost(ctx context.Context, grant lock.Grant, events []uuid.UUID, by string) (restored []LostUpdate, err error) {
	err = h.db.fenced(ctx, grant, func(ctx context.Context, tx pgx.Tx) error {
		var err error
		if restored, err = readLost(ctx, tx, grant.Store, events); err != nil {
			return err
		}
		found := make([]uuid.UUID, len(restored))
		for i, l := range restored {
			found[i] = l.Event
		}
		if missing := without(events, found); len(missing) > 0 {
			return fmt.Errorf("%w: %s", ErrNotLost, missing[0])
		}
		for i := range restored {
			if err := restoreLost(ctx, tx, grant, &restored[i], by); err != nil {
				return fmt.Errorf("restore event %s: %w", restored[i].Event, err)
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return restored, nil
}

// maxResolver is conflict_audit_log.resolved_by's.
const maxResolver = 100

func restoreLost(ctx context.Context, tx pgx.Tx, grant lock.Grant, l *LostUpdate, by string) error {
	if err := writePayload(ctx, tx, grant, l.Event, l.Payload, l.Said); err != nil {
		return err
	}
	losers := []string{}
	if l.Winner.Valid {
		losers = append(losers, l.Winner.UUID.String())
	}
	err := logResolution(ctx, tx, grant.Store, resolution{
		entityType: l.EntityType, entityID: l.EntityID, winner: l.Event, losers: losers, strategy: restoredBy, won: l.Said, lost: l.Payload, by: by,
	})
	if err != nil {
		return err
	}
	_, err = tx.Exec(ctx, `
		INSERT INTO reconciled.lost_update (store_id, event_id, type, created_ms, entity_type, entity_id, winner, found_at, restored_at, restored_by)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, now(), $9)
		ON CONFLICT (store_id, event_id) DO UPDATE SET restored_at = excluded.restored_at, restored_by = excluded.restored_by`,
		grant.Store, l.Event, l.Type, l.Created, l.EntityType, l.EntityID, l.Winner, l.Found, by)
	if err != nil {
		return fmt.Errorf("note restoration: %w", err)
	}
	if err := enlistSlot(ctx, tx, grant.Store, int64(l.Created)>>merkle.SlotBits); err != nil {
		return err
	}
	return audit(ctx, tx, grant.Store, decision{
		actor: by, action: "event restore", target: l.Event.String(), outcome: "restored",
		detail: map[string]any{"winner": l.Winner, "overwritten": l.Payload, "said": l.Said},
	})
}

// writePayload makes what an event is taken to have said its payload, in place of the
// overwritten one. The transaction runs again when it is another by now.
func writePayload(ctx context.Context, tx pgx.Tx, grant lock.Grant, event uuid.UUID, overwritten, said json.RawMessage) error {
	_, err := tx.Exec(ctx, `SELECT reconciled.restore_payload($1, $2, $3, $4, $5, $6)`,
		grant.Store, event, grant.Epoch, grant.Token, string(overwritten), string(said))
	if pgErr, ok := errors.AsType[*pgconn.PgError](err); ok && pgErr.Code == "RC006" {
		return errRunAgain // it changed a moment ago
	}
	if err != nil {
		return fmt.Errorf("write payload: %w", err)
	}
	return nil
}

// resolution is a row of the POS's own log of conflicts.
type resolution struct {
	entityType, entityID string
	winner               uuid.UUID
	losers               []string
	strategy             string
	won, lost            json.RawMessage
	by                   string
}

func logResolution(ctx context.Context, tx pgx.Tx, store velox.StoreID, r resolution) error {
	_, err := tx.Exec(ctx, `INSERT INTO public.conflict_audit_log (store_id, entity_type, entity_id, winner_event_id, loser_event_ids,
			strategy, winner_payload, loser_payloads, resolved_by)
		VALUES ($1, left($2, 50), nullif(left($3, 255), ''), $4, $5, $6, $7::text::jsonb, jsonb_build_array($8::text::jsonb), left($9, $10))`,
		store, r.entityType, r.entityID, r.winner.String(), r.losers, r.strategy, string(r.won), string(r.lost), r.by, maxResolver)
	if err != nil {
		return fmt.Errorf("write conflict_audit_log: %w", err)
	}
	return nil
}

// enlistSlot puts a slot onto the healer's list, to be looked at now.
func enlistSlot(ctx context.Context, tx pgx.Tx, store velox.StoreID, slot int64) error {
	_, err := tx.Exec(ctx, `
		INSERT INTO reconciled.worklist AS w (consumer, store_id, slot) VALUES ($1, $2, $3)
		ON CONFLICT (consumer, store_id, slot) DO UPDATE SET stamp = w.stamp + 1, not_before = now()`,
		healerConsumer, store, slot)
	if err != nil {
		return fmt.Errorf("put slot on worklist: %w", err)
	}
	return nil
}

// Around is the read models where all the log there is are the slots of these events:
// for a healer.Look at them alone.
func (h *Healing) Around(lost []LostUpdate) healer.Store {
	slots := make([]int64, len(lost))
	for i, l := range lost {
		slots[i] = int64(l.Created) >> merkle.SlotBits
	}
	slices.Sort(slots)
	return around{h, slices.Compact(slots)}
}

type around struct {
	*Healing
	slots []int64
}

// All lists those slots.
func (a around) All(_ context.Context, _ velox.StoreID, after int64, limit int) (list []healer.Slot, _ error) {
	for _, slot := range a.slots {
		if slot > after && len(list) < limit {
			list = append(list, healer.Slot{Slot: slot})
		}
	}
	return list, nil
}
