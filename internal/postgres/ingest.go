package postgres

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/veloxpos/reconciled/internal/velox"
	"github.com/veloxpos/reconciled/lock"
	"github.com/veloxpos/reconciled/merkle/reconcile"
)

// Ingest stores events under a grant: the store's side of an exchange.
func (l *Log) Ingest(ctx context.Context, grant lock.Grant, from uuid.UUID, events []velox.Event) ([]reconcile.Outcome, error) {
	return l.ingest(ctx, grant.Store, from, events, func(ctx context.Context, write func(context.Context, pgx.Tx) error) error {
		return l.db.fenced(ctx, grant, write)
	})
}

// Accept stores events without a lease: central's side. It is idempotent by
// event_id, inserts only, and leaves the tree to the dirty log, so it needs none. It
// fails with lock.ErrPaused while a person has stopped the writing.
func (l *Log) Accept(ctx context.Context, store velox.StoreID, from uuid.UUID, events []velox.Event) ([]reconcile.Outcome, error) {
	return l.ingest(ctx, store, from, events, func(ctx context.Context, write func(context.Context, pgx.Tx) error) error {
		return l.db.unpaused(ctx, store, write)
	})
}

// ingest answers a page in one transaction. Everything about an event is decided
// before anything is written; what Postgres itself refuses is set aside alone.
func (l *Log) ingest(ctx context.Context, store velox.StoreID, from uuid.UUID, events []velox.Event,
	transaction func(context.Context, func(context.Context, pgx.Tx) error) error,
) (outcomes []reconcile.Outcome, err error) {
	err = transaction(ctx, func(ctx context.Context, tx pgx.Tx) error {
		in := &ingest{tx: tx, store: store, from: from, outcomes: make([]reconcile.Outcome, 0, len(events))}
		if err := in.run(ctx, events); err != nil {
			return err
		}
		outcomes = in.outcomes
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("ingest events: %w", err)
	}
	return outcomes, nil
}

type ingest struct {
	tx       pgx.Tx
	store    velox.StoreID
	from     uuid.UUID
	outcomes []reconcile.Outcome
}

func (in *ingest) answer(e *velox.Event, status reconcile.Status, reason string) {
	in.outcomes = append(in.outcomes, reconcile.Outcome{Event: e.ID, At: e.CreatedAt, Status: status, Reason: reason})
}

func (in *ingest) run(ctx context.Context, events []velox.Event) error {
	var known bool
	if err := in.tx.QueryRow(ctx, `SELECT EXISTS (SELECT FROM public.stores WHERE id = $1)`, in.store).Scan(&known); err != nil {
		return fmt.Errorf("look for store: %w", err)
	}
	if !known {
		return fmt.Errorf("store %s: %w", in.store, reconcile.ErrUnknownStore)
	}
	wellFormed := make([]*velox.Event, 0, len(events))
	seen := make(map[uuid.UUID]bool, len(events))
	for i := range events {
		e := &events[i]
		if reason := malformed(e, in.store); reason != "" {
			in.answer(e, reconcile.Refused, reason)
		} else if seen[e.ID] {
			in.answer(e, reconcile.Refused, "the page holds this event_id twice")
		} else {
			seen[e.ID] = true
			wellFormed = append(wellFormed, e)
		}
	}
	absent, err := in.compareWithHeld(ctx, wellFormed)
	if err != nil {
		return err
	}
	fresh, err := in.setAside(ctx, absent)
	if err != nil {
		return err
	}
	return in.insert(ctx, fresh)
}

const maxTypeLength = 100 // outbox_entries.event_type

// malformed says why an event can be no event of the store, "" when it can.
func malformed(e *velox.Event, store velox.StoreID) string {
	switch {
	case e.Store != store:
		return fmt.Sprintf("store_id %s is not the page's %s", e.Store, store)
	case e.ID == velox.ServerDevice || e.ID == velox.NoActor || e.ID == uuid.Nil:
		return fmt.Sprintf("event_id %s is a sentinel, not an event", e.ID)
	case e.Type == "" || len(e.Type) > maxTypeLength || !utf8.ValidString(string(e.Type)):
		return fmt.Sprintf("type %.40q is empty, too long or not UTF-8", string(e.Type))
	case len(e.Payload) == 0:
		return "said is missing, or too large to be sent"
	case !json.Valid(e.Payload):
		return "said is not JSON"
	case len(e.VectorClock) > 0 && !json.Valid(e.VectorClock):
		return "vector_clock is not JSON"
	case int64(e.CreatedAt) > lastInstant && e.CreatedAt != velox.MaxMillis,
		int64(e.CreatedAt) < firstInstant && e.CreatedAt != velox.MinMillis:
		return fmt.Sprintf("created_at %d ms is outside timestamptz", e.CreatedAt)
	}
	return ""
}

// compareWithHeld answers the events whose id is here already, and returns the
// others.
func (in *ingest) compareWithHeld(ctx context.Context, events []*velox.Event) ([]*velox.Event, error) {
	list := make([]uuid.UUID, len(events))
	for i, e := range events {
		list[i] = e.ID
	}
	rows, err := in.tx.Query(ctx, `SELECT `+eventColumns+` FROM `+eventTables+` WHERE e.event_id = ANY($1)`, list)
	if err != nil {
		return nil, fmt.Errorf("look for events: %w", err)
	}
	found, err := pgx.CollectRows(rows, scanEvent)
	if err != nil {
		return nil, fmt.Errorf("look for events: %w", err)
	}
	held := make(map[uuid.UUID]*velox.Event, len(found))
	for i := range found {
		held[found[i].ID] = &found[i]
	}
	absent := events[:0:0]
	for _, e := range events {
		here := held[e.ID]
		if here == nil {
			absent = append(absent, e)
			continue
		}
		if err := in.meet(ctx, here, e); err != nil {
			return nil, err
		}
	}
	return absent, nil
}

// meet answers an event whose id is here already. A copy that lost its content
// to last-write-wins is no contradiction; anything else that differs is.
func (in *ingest) meet(ctx context.Context, here, there *velox.Event) error {
	hereItem, thereItem := reconcile.Item(here), reconcile.Item(there)
	switch {
	case here.Store != in.store:
		in.answer(there, reconcile.Refused, "the event_id belongs to another store here")
		return nil
	case hereItem == thereItem:
		in.answer(there, reconcile.Present, "")
		return nil
	case here.Lost() && here.Restores(there.Said()) && sameButSaid(here, there):
		in.answer(there, reconcile.Restored, "")
		return giveBack(ctx, in.tx, here, there.Said(), in.from)
	case there.Lost() && there.Restores(here.Said()) && sameButSaid(there, here):
		in.answer(there, reconcile.Outdated, "the copy sent lost its content to last-write-wins")
		return nil
	}
	in.answer(there, reconcile.Conflict, recommend(here, there))
	return in.keepConflict(ctx, here, there)
}

// sameButSaid reports whether a copy that lost its content would be the other
// copy if it had it back.
func sameButSaid(lost, whole *velox.Event) bool {
	given := *lost
	given.Restored = whole.Said()
	return reconcile.Item(&given) == reconcile.Item(whole)
}

// giveBack makes an installation's content what an event is taken to have said.
func giveBack(ctx context.Context, tx pgx.Tx, here *velox.Event, said json.RawMessage, from uuid.UUID) error {
	_, err := tx.Exec(ctx, `INSERT INTO reconciled.said (event_id, store_id, said, source) VALUES ($1, $2, $3::text::jsonb, $4)
		ON CONFLICT (event_id) DO UPDATE SET said = excluded.said, source = excluded.source, restored_at = now()`,
		here.ID, here.Store, string(said), from)
	if err == nil {
		_, err = tx.Exec(ctx, `INSERT INTO reconciled.dirty (store_id, slot, op)
			SELECT store_id, reconciled.slot(created_at), 'm' FROM public.events WHERE event_id = $1`, here.ID)
	}
	if err != nil {
		return fmt.Errorf("restore content of event %s: %w", here.ID, err)
	}
	return nil
}

// recommend says which copy's own hash vouches for it. A person decides.
func recommend(here, there *velox.Event) string {
	hereOK, thereOK := here.Restores(here.Said()), there.Restores(there.Said())
	switch {
	case hereOK && !thereOK:
		return "the copy here matches its own hash, the other does not"
	case thereOK && !hereOK:
		return "the other copy matches its own hash, the one here does not"
	case hereOK:
		return "both copies match their own hashes"
	default:
		return "neither copy matches its own hash"
	}
}

func (in *ingest) keepConflict(ctx context.Context, here, there *velox.Event) error {
	whole := *there
	if len(whole.VectorClock) == 0 {
		whole.VectorClock = nil // encodes as null; an empty RawMessage does not encode
	}
	copyOf, err := json.Marshal(whole)
	if err != nil {
		return fmt.Errorf("encode copy of event %s: %w", there.ID, err)
	}
	hereItem, thereItem := reconcile.Item(here), reconcile.Item(there)
	// The same content once more is another conflict when it was settled, or when a person
	// kept what was here then and is here no more.
	_, err = in.tx.Exec(ctx, `INSERT INTO reconciled.conflict AS c (store_id, event_id, here_item, there_item, there, there_from, recommendation)
		VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (store_id, event_id, there_item) DO UPDATE SET
			here_item = excluded.here_item, there = excluded.there, there_from = excluded.there_from, recommendation = excluded.recommendation,
			found_at = now(), decided_at = NULL, decision = NULL
		WHERE c.decided_at IS NOT NULL AND (c.decision <> 'here' OR c.here_item <> excluded.here_item)`,
		in.store, here.ID, hereItem.Digest[:], thereItem.Digest[:], string(copyOf), in.from, recommend(here, there))
	if err != nil {
		return fmt.Errorf("keep conflicting copy of event %s: %w", here.ID, err)
	}
	return nil
}

// setAside answers events that are absent for a reason: purged here on purpose,
// deleted with many others, or a business act that is here under another id. It
// returns the rest.
func (in *ingest) setAside(ctx context.Context, events []*velox.Event) ([]*velox.Event, error) {
	list := make([]uuid.UUID, len(events))
	requests := make([]uuid.UUID, 0, len(events))
	for i, e := range events {
		list[i] = e.ID
		if request := requestOf(e); request.Valid {
			requests = append(requests, request.UUID)
		}
	}
	deleted, held, err := in.deletions(ctx, list)
	if err != nil {
		return nil, err
	}
	rows, err := in.tx.Query(ctx, `SELECT request_id, event_id, store_id FROM public.events WHERE request_id = ANY($1)`, requests)
	if err != nil {
		return nil, fmt.Errorf("look for request ids: %w", err)
	}
	taken := map[uuid.UUID]requestHolder{}
	var request, event, store uuid.UUID
	if _, err = pgx.ForEachRow(rows, []any{&request, &event, &store}, func() error {
		taken[request] = requestHolder{event, store}
		return nil
	}); err != nil {
		return nil, fmt.Errorf("look for request ids: %w", err)
	}
	fresh := events[:0:0]
	for _, sent := range events {
		e := new(velox.Event) // a copy: what was sent must be there whole if this runs again
		*e = *sent
		e.RequestID = requestOf(sent)
		holder, isTaken := taken[e.RequestID.UUID]
		gone, isGone := deleted[e.ID]
		item := reconcile.Item(e)
		switch {
		case isGone && gone.declared && bytes.Equal(gone.item, item.Digest[:]):
			in.answer(e, reconcile.Present, "") // its item is in the tree
		case isGone && gone.declared:
			in.answer(e, reconcile.Purged, "the POS purged it here, with another content")
		case isGone && gone.held:
			in.answer(e, reconcile.Held, fmt.Sprintf("one of %d that were deleted and are held; `reconciled event restore`, run where they were deleted, lets them come back", held))
		case e.RequestID.Valid && isTaken && holder.store == in.store:
			in.answer(e, reconcile.Duplicate, fmt.Sprintf("request_id %s is event %s here", e.RequestID.UUID, holder.event))
		default:
			if e.RequestID.Valid {
				// Another store's request id does not make this event any less of one;
				// and of two in one page the first is stored.
				if isTaken {
					e.RequestID = uuid.NullUUID{}
				} else {
					taken[e.RequestID.UUID] = requestHolder{e.ID, in.store}
				}
			}
			fresh = append(fresh, e)
		}
	}
	return fresh, nil
}

type requestHolder struct{ event, store uuid.UUID }

// requestOf is the idempotency key that the POS would give the event: the
// envelope's or else the payload's, for sales alone.
func requestOf(e *velox.Event) uuid.NullUUID {
	if e.Type != velox.SaleCreated || e.RequestID.Valid {
		return uuid.NullUUID{UUID: e.RequestID.UUID, Valid: e.RequestID.Valid && e.Type == velox.SaleCreated}
	}
	var payload struct {
		RequestID string `json:"request_id"`
	}
	if json.Unmarshal(e.Said(), &payload) != nil {
		return uuid.NullUUID{}
	}
	id, err := velox.ParseStoreID(payload.RequestID)
	return uuid.NullUUID{UUID: id, Valid: err == nil}
}

// insert writes the events set-wise; when Postgres refuses the set, one by one,
// so that a bad event is set aside alone.
func (in *ingest) insert(ctx context.Context, events []*velox.Event) error {
	if len(events) == 0 {
		return nil
	}
	err := in.insertSet(ctx, events)
	var bad *badEventError
	switch {
	case err == nil:
		for _, e := range events {
			in.answer(e, reconcile.Stored, "")
		}
		return nil
	case !errors.As(err, &bad):
		return err
	case len(events) == 1:
		in.answer(events[0], bad.status, bad.reason)
		return nil
	}
	half := len(events) / 2
	if err := in.insert(ctx, events[:half]); err != nil {
		return err
	}
	return in.insert(ctx, events[half:])
}

// badEventError: the data of some event in the set is at fault, not the database.
type badEventError struct {
	status reconcile.Status
	reason string
}

func (e *badEventError) Error() string { return e.reason }

func (in *ingest) insertSet(ctx context.Context, events []*velox.Event) error {
	savepoint, err := in.tx.Begin(ctx)
	if err != nil {
		return fmt.Errorf("begin insert: %w", err)
	}
	if err = writeEvents(ctx, savepoint, events); err == nil {
		if err = savepoint.Commit(ctx); err != nil {
			return fmt.Errorf("end insert: %w", err)
		}
		return nil
	}
	if back := savepoint.Rollback(ctx); back != nil {
		return fmt.Errorf("take back insert: %w", errors.Join(back, err))
	}
	// Classes 22 and 23: bad data, violated constraint; 44: a view's check; 54:
	// beyond a limit; P0: a trigger of the POS refuses it.
	pgErr, ok := errors.AsType[*pgconn.PgError](err)
	switch {
	case ok && pgErr.Code == "23505" && strings.Contains(pgErr.Detail, "(event_id)"):
		return errRunAgain // somebody stored it a moment ago: now it can be compared
	case ok && pgErr.Code == "23505" && strings.Contains(pgErr.Detail, "(request_id)"):
		return &badEventError{reconcile.Duplicate, pgErr.Detail}
	case ok && slices.Contains([]string{"22", "23", "44", "54", "P0"}, pgErr.Code[:2]):
		return &badEventError{reconcile.Refused, fmt.Sprintf("%s (SQLSTATE %s)", pgErr.Message, pgErr.Code)}
	}
	return err
}

// writeEvents inserts events as the POS's own relay would leave them: what was
// said in payload and delta_payload, the hash computed anew, one pending outbox
// row for the local projector and none for the relay.
func writeEvents(ctx context.Context, tx pgx.Tx, events []*velox.Event) error {
	n := len(events)
	var (
		ids, stores, devices   = make([]uuid.UUID, n), make([]uuid.UUID, n), make([]uuid.UUID, n)
		seqs, versions         = make([]int64, n), make([]int32, n)
		types, roles, said     = make([]string, n), make([]*string, n), make([]string, n)
		clocks, causal, hashes = make([]string, n), make([]string, n), make([]string, n)
		created                = make([]pgtype.Timestamptz, n)
		actors, requests       = make([]uuid.NullUUID, n), make([]uuid.NullUUID, n)
	)
	for i, e := range events {
		hash, err := velox.PayloadHash(e.Said())
		if err != nil {
			return &badEventError{reconcile.Refused, "said: " + err.Error()}
		}
		ids[i], stores[i], devices[i], seqs[i], versions[i] = e.ID, e.Store, e.Device, e.Seq, e.Version
		types[i], said[i], hashes[i], created[i] = string(e.Type), string(e.Said()), hash, notBefore(int64(e.CreatedAt))
		if e.ActorRole != "" {
			roles[i] = &e.ActorRole
		}
		if e.Actor.UUID != velox.NoActor {
			actors[i] = e.Actor
		}
		requests[i] = e.RequestID
		clocks[i] = string(e.VectorClock)
		if clocks[i] == "" {
			clocks[i] = "{}"
		}
		list, err := json.Marshal(e.Causal)
		if err != nil {
			return fmt.Errorf("encode causal dependencies: %w", err)
		}
		causal[i] = string(list)
	}
	// jsonb's own text is a fixed point. A text that is not would be stored as
	// another one, with another digest: better refused than silently different.
	var odd int
	if err := tx.QueryRow(ctx, `SELECT count(*) FROM unnest($1::text[]) AS t (said) WHERE said::jsonb::text <> said`, said).Scan(&odd); err != nil {
		return fmt.Errorf("check said: %w", err)
	}
	if odd > 0 {
		return &badEventError{reconcile.Refused, "said is not in jsonb's own spelling"}
	}
	_, err := tx.Exec(ctx, `
		WITH page AS (
			SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::bigint[], $5::text[], $6::int[], $7::timestamptz[],
				$8::uuid[], $9::text[], $10::text[], $11::text[], $12::text[], $13::text[], $14::uuid[])
			AS p (event_id, store_id, device_id, seq, type, version, created_at, actor, role, said, clock, causal, hash, request_id)),
		stored AS (
			INSERT INTO public.events (event_id, store_id, device_id, seq, type, version, created_at, actor_user_id, actor_role,
				payload, delta_payload, vector_clock, causal_dependencies, full_payload_hash, request_id, projection_status)
			SELECT event_id, store_id, device_id, seq, type, version, created_at, actor, role, said::jsonb, said::jsonb, clock::jsonb,
				ARRAY (SELECT jsonb_array_elements_text(CASE WHEN causal = 'null' THEN '[]' ELSE causal::jsonb END)),
				hash, request_id, 'pending'
			FROM page
			RETURNING event_id, type, store_id)
		INSERT INTO public.outbox_entries (event_id, event_type, store_id, target, status)
		SELECT event_id::text, type, store_id, 'projection', 'pending' FROM stored`,
		ids, stores, devices, seqs, types, versions, created, actors, roles, said, clocks, causal, hashes, requests)
	if err != nil {
		return fmt.Errorf("insert events: %w", err)
	}
	return nil
}
