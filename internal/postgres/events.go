package postgres

import (
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/veloxpos/reconciled/internal/velox"
)

// eventColumns are what scanEvent reads, from eventTables.
const eventColumns = `e.event_id, e.store_id, e.device_id, e.seq, e.type, e.version, reconciled.ms(e.created_at),
	e.actor_user_id, coalesce(e.actor_role, ''), e.payload, e.delta_payload, s.said,
	coalesce(e.vector_clock, '{}'), ARRAY(SELECT d FROM unnest(e.causal_dependencies) AS d WHERE d IS NOT NULL), coalesce(e.conflict_status, ''),
	coalesce(e.full_payload_hash, ''), e.request_id`

// eventTables joins an event to what was given back of it.
const eventTables = `public.events e LEFT JOIN reconciled.said s ON s.event_id = e.event_id`

// scanEvent reads a row of eventColumns. It is a pgx.RowToFunc.
func scanEvent(row pgx.CollectableRow) (velox.Event, error) {
	var e velox.Event
	err := row.Scan(
		(*[16]byte)(&e.ID), (*[16]byte)(&e.Store), (*[16]byte)(&e.Device), &e.Seq, &e.Type, &e.Version, &e.CreatedAt,
		&e.Actor, &e.ActorRole, (*[]byte)(&e.Payload), (*[]byte)(&e.Delta), (*[]byte)(&e.Restored),
		(*[]byte)(&e.VectorClock), &e.Causal, &e.ConflictStatus,
		&e.Hash, &e.RequestID)
	if err != nil {
		return e, fmt.Errorf("scan event: %w", err)
	}
	return e, nil
}
