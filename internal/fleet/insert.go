package fleet

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/veloxpos/reconciled/internal/velox"
)

// Outbox is the state of the projection rows that come with events.
type Outbox int

// The states of projection rows.
const (
	OutboxPending   Outbox = iota // the backend is still to project
	OutboxProcessed               // it has
	OutboxNone                    // there is no row, and so nobody will
)

// InsertOptions says how a backend left the events.
type InsertOptions struct {
	Outbox Outbox
	Status string // projection_status; "pending" when empty
	// Relayed events came by the trusted path: none gets a relay row. Of others,
	// those that the server made itself get no outbox row and stay pending.
	Relayed bool
}

var eventColumns = []string{
	"event_id", "store_id", "device_id", "seq", "type", "version", "created_at", "actor_user_id", "actor_role",
	"payload", "vector_clock", "causal_dependencies", "conflict_status", "delta_payload", "full_payload_hash",
	"request_id", "projection_status",
}

// Insert stores events with their outbox rows, in one transaction, and returns
// how many were new. As in the backend, an event whose id or request_id is there
// already is passed over; received_at is the database's clock.
func Insert(ctx context.Context, db Conn, events []velox.Event, o InsertOptions) (int64, error) {
	status := o.Status
	if status == "" {
		status = "pending"
	}
	var inserted int64
	err := atomically(ctx, db, "insert events", func(tx pgx.Tx) error {
		// Longer runs into the GIN index over payloads take a third off the time.
		if _, err := tx.Exec(ctx, `SET LOCAL gin_pending_list_limit = '64MB'; SET LOCAL work_mem = '64MB'; DROP TABLE IF EXISTS pg_temp.fleet_arrivals;
			CREATE TEMPORARY TABLE fleet_arrivals ON COMMIT DROP AS
			SELECT e.*, 0 AS place, false AS relayed FROM events e WITH NO DATA`); err != nil {
			return err
		}
		columns := append(append([]string{}, eventColumns...), "place", "relayed")
		_, err := tx.CopyFrom(ctx, pgx.Identifier{"fleet_arrivals"}, columns, pgx.CopyFromSlice(len(events), func(i int) ([]any, error) {
			e := &events[i]
			own := e.Device == velox.ServerDevice && !o.Relayed
			as := status
			if own {
				as = "pending"
			}
			return []any{
				e.ID, e.Store, e.Device, e.Seq, string(e.Type), e.Version, e.CreatedAt.Time(), e.Actor, textOrNull(e.ActorRole),
				string(e.Payload), string(e.VectorClock), e.Causal, e.ConflictStatus, jsonOrNull(e.Delta), textOrNull(e.Hash),
				e.RequestID, as, int32(i), !own,
			}, nil
		}))
		if err != nil {
			return err
		}
		names := joined(eventColumns)
		tag, err := tx.Exec(ctx, fmt.Sprintf(`INSERT INTO events (%s) SELECT %s FROM fleet_arrivals ORDER BY place ON CONFLICT DO NOTHING`, names, names))
		if err != nil {
			return err
		}
		inserted = tag.RowsAffected()
		if o.Outbox == OutboxNone {
			return nil
		}
		_, err = tx.Exec(ctx, `INSERT INTO outbox_entries (event_id, event_type, store_id, target, status, processed_at)
			SELECT event_id::text, type, store_id, target, status, CASE status WHEN 'processed' THEN now() END
			FROM fleet_arrivals, LATERAL (VALUES ('projection', $1), ('federation-relay', 'processed')) AS row (target, status)
			WHERE relayed AND (target = 'projection' OR NOT $2) ORDER BY place`,
			map[Outbox]string{OutboxPending: "pending", OutboxProcessed: "processed"}[o.Outbox], o.Relayed)
		return err
	})
	if err != nil || inserted < 1000 {
		return inserted, err
	}
	// As autovacuum does: a lookup goes through all that is still pending.
	_, err = db.Exec(ctx, `SELECT gin_clean_pending_list(i.indexrelid) FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_am a ON a.oid = c.relam
		WHERE i.indrelid = 'events'::regclass AND a.amname = 'gin'`)
	if err != nil {
		return inserted, fmt.Errorf("clean pending list: %w", err)
	}
	return inserted, nil
}

func textOrNull(s string) any {
	if s == "" {
		return nil
	}
	return s
}

func jsonOrNull(raw []byte) any {
	if raw == nil {
		return nil
	}
	return string(raw)
}

func joined(names []string) string {
	list := names[0]
	for _, name := range names[1:] {
		list += ", " + name
	}
	return list
}

// Read returns a store's events as the database holds them, by created_at and id.
// Where the caller may see the daemon's schema, an event whose content was given
// back has it as Restored.
func Read(ctx context.Context, db Conn, store velox.StoreID) ([]velox.Event, error) {
	var restored bool
	err := db.QueryRow(ctx, `SELECT EXISTS (SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
		WHERE n.nspname = 'reconciled' AND c.relname = 'said' AND has_schema_privilege(n.oid, 'USAGE'))`).Scan(&restored)
	if err != nil {
		return nil, fmt.Errorf("look for the daemon's schema: %w", err)
	}
	said := "NULL::jsonb"
	if restored {
		said = "(SELECT said FROM reconciled.said s WHERE s.event_id = e.event_id)"
	}
	rows, err := db.Query(ctx, `SELECT event_id, store_id, device_id, seq, type, version,
			floor(extract(epoch FROM created_at) * 1000)::bigint, actor_user_id, coalesce(actor_role, ''),
			payload, delta_payload, `+said+`, vector_clock, causal_dependencies, conflict_status, coalesce(full_payload_hash, ''), request_id
		FROM events e WHERE store_id = $1 ORDER BY created_at, event_id`, store)
	if err != nil {
		return nil, fmt.Errorf("read events: %w", err)
	}
	events, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (velox.Event, error) {
		var e velox.Event
		err := row.Scan(&e.ID, &e.Store, &e.Device, &e.Seq, &e.Type, &e.Version, &e.CreatedAt, &e.Actor, &e.ActorRole,
			&e.Payload, &e.Delta, &e.Restored, &e.VectorClock, &e.Causal, &e.ConflictStatus, &e.Hash, &e.RequestID)
		return e, err
	})
	if err != nil {
		return nil, fmt.Errorf("read events: %w", err)
	}
	return events, nil
}
