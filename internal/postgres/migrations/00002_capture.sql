-- +goose Up

-- CREATE TRIGGER waits for every open writer of the log, and all new ones wait
-- behind it: better to give up and be run again than to stop the shop.
SET LOCAL lock_timeout = '10s';

-- Statement triggers with transition tables on the event log. They run as the
-- schema's owner with a fixed search_path, so the POS role needs no new right;
-- they only append to reconciled.dirty and take no lock another insert needs.

-- +goose StatementBegin
CREATE FUNCTION reconciled.capture_insert() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    INSERT INTO reconciled.dirty (store_id, slot, op)
    SELECT n.store_id, reconciled.slot(n.created_at), 'i' FROM new_rows n;
    RETURN NULL;
END $$;
-- +goose StatementEnd

-- Only columns that the item digest is taken of, and those that decide which
-- payload is "said", count as a change: the backend's status updates log nothing.
-- The comparison is of binary images (*<>), since jsonb's own = takes 1.0 for 1;
-- that operator compares composites, hence the type.
CREATE TYPE reconciled.content AS (
    event_id uuid, store_id uuid, device_id uuid, seq bigint, type text, version int, created_at timestamptz,
    payload jsonb, delta_payload jsonb, conflict_status text, full_payload_hash text
);
-- +goose StatementBegin
CREATE FUNCTION reconciled.capture_update() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    INSERT INTO reconciled.dirty (store_id, slot, op)
    SELECT side.store_id, reconciled.slot(side.created_at), 'u'
    FROM old_rows o
    FULL JOIN new_rows n ON n.event_id = o.event_id
    CROSS JOIN LATERAL (VALUES (o.store_id, o.created_at), (n.store_id, n.created_at)) AS side (store_id, created_at)
    WHERE side.store_id IS NOT NULL
      AND ROW (o.event_id, o.store_id, o.device_id, o.seq, o.type, o.version, o.created_at,
               o.payload, o.delta_payload, o.conflict_status, o.full_payload_hash)::reconciled.content
      *<> ROW (n.event_id, n.store_id, n.device_id, n.seq, n.type, n.version, n.created_at,
               n.payload, n.delta_payload, n.conflict_status, n.full_payload_hash)::reconciled.content;
    RETURN NULL;
END $$;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE FUNCTION reconciled.capture_delete() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    INSERT INTO reconciled.dirty (store_id, slot, op, event_id, type, created_ms, item, deleted_at)
    SELECT o.store_id, reconciled.slot(o.created_at), 'd', o.event_id, o.type, reconciled.ms(o.created_at),
           reconciled.item(o.event_id, o.created_at, o.store_id, o.device_id, o.seq, o.type, o.version,
                           coalesce(s.said, nullif(o.delta_payload, '{}'), o.payload)), clock_timestamp()
    FROM old_rows o
    LEFT JOIN reconciled.said s ON s.event_id = o.event_id;
    RETURN NULL;
END $$;
-- +goose StatementEnd

-- A truncation names no rows: every slot that the tree knows is looked at again.
-- +goose StatementBegin
CREATE FUNCTION reconciled.capture_truncate() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    INSERT INTO reconciled.dirty (store_id, slot, op) SELECT DISTINCT l.store_id, l.slot, 'm'::"char" FROM reconciled.leaf l;
    RETURN NULL;
END $$;
-- +goose StatementEnd

CREATE TRIGGER reconciled_insert AFTER INSERT ON public.events
    REFERENCING NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION reconciled.capture_insert();
CREATE TRIGGER reconciled_update AFTER UPDATE ON public.events
    REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION reconciled.capture_update();
CREATE TRIGGER reconciled_delete AFTER DELETE ON public.events
    REFERENCING OLD TABLE AS old_rows
    FOR EACH STATEMENT EXECUTE FUNCTION reconciled.capture_delete();
CREATE TRIGGER reconciled_truncate AFTER TRUNCATE ON public.events
    FOR EACH STATEMENT EXECUTE FUNCTION reconciled.capture_truncate();

-- +goose Down
SELECT 1 / 0 AS "without capture the tree would lie; drop the triggers by hand";
