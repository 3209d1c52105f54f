-- +goose Up

-- A leaf also keeps the sum of its items' short hashes (merkle.Leaf.Sum), which
-- sketches are taken of. Leaves without one are computed anew. An overfull slot is
-- one leaf like any other.
ALTER TABLE reconciled.leaf DROP CONSTRAINT leaf_pkey;
ALTER TABLE reconciled.leaf DROP COLUMN sub_slot;
ALTER TABLE reconciled.leaf ADD PRIMARY KEY (store_id, slot);
ALTER TABLE reconciled.leaf ADD COLUMN sum bigint NOT NULL DEFAULT 0;
ALTER TABLE reconciled.leaf ALTER COLUMN sum DROP DEFAULT;
UPDATE reconciled.leaf SET digest_version = 0;

-- The POS purges StockAdjusted events that are a day old; nothing else that is
-- deleted from the log is declared to be. This is the one place of that rule.
-- +goose StatementBegin
CREATE FUNCTION reconciled.declared(type text, created_ms bigint, deleted_at timestamptz) RETURNS bool
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
RETURN type = 'StockAdjusted' AND created_ms < reconciled.ms(deleted_at) - 86400000;
-- +goose StatementEnd

-- A declared purge leaves its item in the tree. Any other deletion that was seen is
-- undone from the other side, a few a day; a bulk of them is held until a person
-- releases it. Whose event is in the log again is restored, and of no more account.
ALTER TABLE reconciled.deletion
    ADD COLUMN declared    bool NOT NULL DEFAULT false,
    ADD COLUMN held_at     timestamptz,
    ADD COLUMN released_at timestamptz,
    ADD COLUMN released_by text,
    ADD COLUMN restored_at timestamptz;
UPDATE reconciled.deletion SET declared = reconciled.declared(type, created_ms, deleted_at);
CREATE INDEX deletion_declared ON reconciled.deletion (store_id, created_ms) WHERE declared AND restored_at IS NULL;
CREATE INDEX deletion_recent ON reconciled.deletion (store_id, deleted_at) WHERE NOT declared;
CREATE INDEX deletion_open ON reconciled.deletion (store_id)
    WHERE NOT declared AND restored_at IS NULL AND released_at IS NULL AND held_at IS NULL;
CREATE INDEX deletion_held ON reconciled.deletion (store_id, deleted_at)
    WHERE held_at IS NOT NULL AND released_at IS NULL AND restored_at IS NULL;

ALTER TABLE reconciled.exception DROP CONSTRAINT exception_kind_check;
ALTER TABLE reconciled.exception ADD CHECK (kind IN ('conflict', 'refused', 'request_duplicate', 'purged', 'held'));

-- The dirty log says which event: op i arrived in the slot, u has other content or
-- left the slot, d was deleted, t the log was truncated, m marked by the daemon. Of
-- d and u it also says type, time, item digest (of u before and after) and when.
ALTER TABLE reconciled.dirty RENAME COLUMN deleted_at TO at;
ALTER TABLE reconciled.dirty ADD COLUMN item_after bytea;
-- It is emptied all the time. To give room back to the disk, vacuum would lock it,
-- and the shop's inserts would wait.
ALTER TABLE reconciled.dirty SET (vacuum_truncate = off, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);

-- A STRICT function with a CASE is called for each row; these two are written into
-- the statements that use them. NULL in is still NULL out.
-- +goose StatementBegin
CREATE OR REPLACE FUNCTION reconciled.ms(at timestamptz) RETURNS bigint
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE
    WHEN at = 'infinity'::timestamptz THEN 9223372036854775807
    WHEN at = '-infinity'::timestamptz THEN -9223372036854775808
    ELSE (extract(epoch FROM date_trunc('milliseconds', at AT TIME ZONE 'UTC')) * 1000)::bigint
END;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE OR REPLACE FUNCTION reconciled.slot(at timestamptz) RETURNS bigint
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN reconciled.ms(at) >> 20;
-- +goose StatementEnd

-- The one function that a sale waits for has no search_path set: that costs a fifth
-- of it. It must name whatever it uses with the schema, operators too.
-- +goose StatementBegin
CREATE OR REPLACE FUNCTION reconciled.capture_insert() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    INSERT INTO reconciled.dirty (store_id, slot, op, event_id)
    VALUES (NEW.store_id, reconciled.slot(NEW.created_at), 'i', NEW.event_id);
    RETURN NULL;
END $$;
-- +goose StatementEnd

-- Called for a row whose content is another. An event keeps its id: a row whose id
-- is another afterwards is a deletion of the one and an arrival of the other. One
-- that goes to another slot or store is noted where it was, with what changed, and
-- arrives where it is.
-- +goose StatementBegin
CREATE OR REPLACE FUNCTION reconciled.capture_update() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    same bool := NEW.event_id = OLD.event_id;
BEGIN
    INSERT INTO reconciled.dirty (store_id, slot, op, event_id, type, created_ms, item, item_after, at)
    SELECT OLD.store_id, reconciled.slot(OLD.created_at), CASE WHEN same THEN 'u' ELSE 'd' END::"char",
           OLD.event_id, OLD.type, reconciled.ms(OLD.created_at),
           reconciled.item(OLD.event_id, OLD.created_at, OLD.store_id, OLD.device_id, OLD.seq, OLD.type, OLD.version,
                           coalesce(s.said, nullif(OLD.delta_payload, '{}'), OLD.payload)),
           CASE WHEN same THEN
               reconciled.item(NEW.event_id, NEW.created_at, NEW.store_id, NEW.device_id, NEW.seq, NEW.type, NEW.version,
                               coalesce(s.said, nullif(NEW.delta_payload, '{}'), NEW.payload)) END,
           clock_timestamp()
    FROM (VALUES (OLD.event_id)) AS o (event_id)
    LEFT JOIN reconciled.said s ON s.event_id = o.event_id;
    IF NOT same OR NEW.store_id <> OLD.store_id OR reconciled.slot(NEW.created_at) <> reconciled.slot(OLD.created_at) THEN
        INSERT INTO reconciled.dirty (store_id, slot, op, event_id)
        VALUES (NEW.store_id, reconciled.slot(NEW.created_at), 'i', NEW.event_id);
    END IF;
    RETURN NULL;
END $$;
-- +goose StatementEnd

-- A till writes one event at a time: a trigger of the row costs it less than one of
-- the statement. Nearly every update is the backend's of an event's status: even
-- to look at the content of those would cost as much as the insert's trigger, so
-- the column list keeps it away from them. CREATE TRIGGER waits for every open
-- writer of the log, and all new ones wait behind it: better to give up and be run
-- again than to stop the shop.
SET LOCAL lock_timeout = '10s';
CREATE OR REPLACE TRIGGER reconciled_insert AFTER INSERT ON public.events
    FOR EACH ROW EXECUTE FUNCTION reconciled.capture_insert();
CREATE OR REPLACE TRIGGER reconciled_update
    AFTER UPDATE OF event_id, store_id, device_id, seq, type, version, created_at,
                    payload, delta_payload, conflict_status, full_payload_hash ON public.events FOR EACH ROW
    WHEN (ROW (OLD.event_id, OLD.store_id, OLD.device_id, OLD.seq, OLD.type, OLD.version, OLD.created_at,
               OLD.payload, OLD.delta_payload, OLD.conflict_status, OLD.full_payload_hash)::reconciled.content
          OPERATOR(pg_catalog.*<>)
          ROW (NEW.event_id, NEW.store_id, NEW.device_id, NEW.seq, NEW.type, NEW.version, NEW.created_at,
               NEW.payload, NEW.delta_payload, NEW.conflict_status, NEW.full_payload_hash)::reconciled.content)
    EXECUTE FUNCTION reconciled.capture_update();

-- +goose StatementBegin
CREATE OR REPLACE FUNCTION reconciled.capture_delete() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    INSERT INTO reconciled.dirty (store_id, slot, op, event_id, type, created_ms, item, at)
    SELECT o.store_id, reconciled.slot(o.created_at), 'd', o.event_id, o.type, reconciled.ms(o.created_at),
           reconciled.item(o.event_id, o.created_at, o.store_id, o.device_id, o.seq, o.type, o.version,
                           coalesce(s.said, nullif(o.delta_payload, '{}'), o.payload)), clock_timestamp()
    FROM old_rows o
    LEFT JOIN reconciled.said s ON s.event_id = o.event_id;
    RETURN NULL;
END $$;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE OR REPLACE FUNCTION reconciled.capture_truncate() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    INSERT INTO reconciled.dirty (store_id, slot, op, at)
    SELECT r.store_id, coalesce(l.slot, 0), 't', clock_timestamp()
    FROM reconciled.root r LEFT JOIN reconciled.leaf l ON l.store_id = r.store_id;
    RETURN NULL;
END $$;
-- +goose StatementEnd

-- Evidence that the log was tampered with or has rotted (EVENT_TAMPERED).
CREATE TABLE reconciled.evidence (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    store_id   uuid        NOT NULL,
    kind       text        NOT NULL CHECK (kind IN (
        'changed',   -- an update of content, seen by the trigger: item digests before and after
        'deleted',   -- a deletion that is no declared purge, seen by the trigger: item digest before
        'truncated', -- the log was truncated
        'self_check',-- content does not hash to the event's own full_payload_hash
        'slot',      -- a slot's leaf is not what its events say, and nothing in the dirty log explains it
        'vanished',  -- in such a slot: the other side has it, it is not here
        'differs',   -- in such a slot: the other side has it otherwise
        'capture')), -- triggers were missing or disabled, or the table was another
    slot       bigint,
    event_id   uuid,
    expected   bytea,       -- digest that was recorded
    found      bytea,       -- digest of what is there
    detail     text        NOT NULL DEFAULT '',
    found_at   timestamptz NOT NULL DEFAULT now(),
    cleared_at timestamptz,
    cleared_by text
);
CREATE INDEX evidence_open ON reconciled.evidence (store_id, found_at DESC) WHERE cleared_at IS NULL;
CREATE UNIQUE INDEX evidence_once ON reconciled.evidence (store_id, kind, coalesce(slot, 0), coalesce(event_id, store_id),
    coalesce(found, ''::bytea)) WHERE cleared_at IS NULL;

-- How the log looked when its triggers were last found whole: which tables, which
-- triggers, made by which transaction. Anything else than that means that changes
-- may have gone past them. A migration that replaces a capture function deletes the
-- row.
CREATE TABLE reconciled.capture (
    singleton    bool PRIMARY KEY DEFAULT true CHECK (singleton),
    fingerprint  text        NOT NULL,
    checked_at   timestamptz NOT NULL DEFAULT now(),
    broken_since timestamptz
);

-- The slow pass that digests everything anew.
CREATE TABLE reconciled.scrub (
    store_id     uuid PRIMARY KEY,
    began_at     timestamptz NOT NULL DEFAULT now(), -- of this pass
    slot         bigint,                             -- the last one done; NULL before the first
    slots        bigint      NOT NULL DEFAULT 0,     -- done in this pass
    events       bigint      NOT NULL DEFAULT 0,
    found        bigint      NOT NULL DEFAULT 0,     -- pieces of evidence in this pass
    last_full_at timestamptz                         -- end of the last complete pass
);

GRANT SELECT, INSERT ON reconciled.evidence TO reconciled_runtime;
GRANT UPDATE (cleared_at, cleared_by) ON reconciled.evidence TO reconciled_runtime;
GRANT SELECT, INSERT, UPDATE ON reconciled.capture, reconciled.scrub TO reconciled_runtime;
GRANT UPDATE (type, created_ms, declared, held_at, released_at, released_by, restored_at) ON reconciled.deletion TO reconciled_runtime;
REVOKE ALL ON FUNCTION reconciled.declared FROM PUBLIC;
GRANT EXECUTE ON FUNCTION reconciled.declared TO reconciled_runtime;

-- +goose Down
SELECT 1 / 0 AS "the schema holds evidence; take it down by hand";
