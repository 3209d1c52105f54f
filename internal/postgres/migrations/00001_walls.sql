-- +goose Up

-- The schema itself and the two roles come from deploy/roles.sql. Nothing here
-- has a foreign key into the POS tables: evidence outlives what it is about.

-- Time. ms() is total: it gives an answer for every timestamptz, the infinities
-- and years BC included, because a trigger calls it inside the shop's statements.
-- +goose StatementBegin
CREATE FUNCTION reconciled.ms(at timestamptz) RETURNS bigint
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
RETURN CASE
    WHEN at = 'infinity'::timestamptz THEN 9223372036854775807
    WHEN at = '-infinity'::timestamptz THEN -9223372036854775808
    -- Cut to milliseconds first: far from 1970 numeric division rounds.
    ELSE (extract(epoch FROM date_trunc('milliseconds', at AT TIME ZONE 'UTC')) * 1000)::bigint
END;
-- +goose StatementEnd
COMMENT ON FUNCTION reconciled.ms IS 'milliseconds since 1970 UTC, rounded down; the infinities become the ends of bigint';

-- A slot is 2^20 ms, about 17.5 minutes: merkle.SlotBits.
-- +goose StatementBegin
CREATE FUNCTION reconciled.slot(at timestamptz) RETURNS bigint
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
RETURN reconciled.ms(at) >> 20;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE FUNCTION reconciled.try_uuid(t text) RETURNS uuid
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN t ~ '^[0-9a-fA-F]{8}-([0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}$' THEN t::uuid END;
-- +goose StatementEnd
COMMENT ON FUNCTION reconciled.try_uuid IS 'the uuid that t spells, or NULL: payload ids are unchecked text';

-- What was said about an event whose own copy lost it (see merkle round, ingest).
CREATE TABLE reconciled.said (
    event_id    uuid PRIMARY KEY,
    store_id    uuid        NOT NULL,
    said        jsonb       NOT NULL,
    source      uuid        NOT NULL, -- installation that gave it back
    restored_at timestamptz NOT NULL DEFAULT now()
);

-- The item digest of merkle.Item, in SQL: for events that are being deleted, and
-- as an independent check of the Go code.
-- +goose StatementBegin
CREATE FUNCTION reconciled.field(b bytea) RETURNS bytea
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN b IS NULL THEN '\x00'::bytea ELSE '\x01'::bytea || int4send(octet_length(b)) || b END;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE FUNCTION reconciled.item(event_id uuid, created_at timestamptz, store_id uuid, device_id uuid,
                                seq bigint, type text, version int, said jsonb) RETURNS bytea
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN sha256('\x00'::bytea || uuid_send(event_id) || int8send(reconciled.ms(created_at)) || sha256(
    reconciled.field(uuid_send(store_id)) || reconciled.field(uuid_send(device_id)) ||
    reconciled.field(int8send(seq)) || reconciled.field(convert_to(type, 'UTF8')) ||
    reconciled.field(int4send(version)) || reconciled.field(convert_to(said::text, 'UTF8'))));
-- +goose StatementEnd

-- Capture: the dirty log. Rows are appended, one per change, never deduplicated;
-- a drain deletes all of a slot's rows and only then reads the slot's events.
CREATE TABLE reconciled.dirty (
    store_id   uuid   NOT NULL,
    slot       bigint NOT NULL,
    op         "char" NOT NULL, -- i insert, u update, d delete, m marked by the daemon
    event_id   uuid,            -- deletions: what was deleted, its type, time and item digest, and when
    type       text,
    created_ms bigint,
    item       bytea,
    deleted_at timestamptz
);
CREATE INDEX dirty_slot ON reconciled.dirty (store_id, slot);

-- Deletions that were seen: evidence, and the reason not to fetch a purged event again.
CREATE TABLE reconciled.deletion (
    store_id   uuid        NOT NULL,
    event_id   uuid        NOT NULL,
    type       text        NOT NULL,
    created_ms bigint      NOT NULL,
    item       bytea       NOT NULL,
    deleted_at timestamptz NOT NULL,
    PRIMARY KEY (store_id, event_id)
);

-- Slots that a consumer of the dirty log still has to look at.
CREATE TABLE reconciled.worklist (
    consumer   text        NOT NULL,
    store_id   uuid        NOT NULL,
    slot       bigint      NOT NULL,
    not_before timestamptz NOT NULL DEFAULT now(),
    stamp      bigint      NOT NULL DEFAULT 1, -- moves with every change; a consumer removes only what it has seen
    since      timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (consumer, store_id, slot)
);
CREATE INDEX worklist_due ON reconciled.worklist (consumer, store_id, not_before);

-- The tree: leaves and, beside them, the root they add up to.
CREATE TABLE reconciled.leaf (
    store_id       uuid     NOT NULL,
    slot           bigint   NOT NULL,
    sub_slot       smallint NOT NULL DEFAULT 0,
    count          int      NOT NULL,
    digest         bytea    NOT NULL,
    digest_version smallint NOT NULL,
    version        bigint   NOT NULL,           -- of the root when this leaf last changed
    agreed_count   int      NOT NULL DEFAULT 0, -- events of the slot that the other side was proven to hold
    PRIMARY KEY (store_id, slot, sub_slot)
);
CREATE INDEX leaf_version ON reconciled.leaf (store_id, version);
CREATE INDEX leaf_unproven ON reconciled.leaf (store_id) WHERE count <> agreed_count;

CREATE TABLE reconciled.root (
    store_id       uuid PRIMARY KEY,
    count          bigint      NOT NULL,
    digest         bytea       NOT NULL,
    digest_version smallint    NOT NULL,
    version        bigint      NOT NULL,
    updated_at     timestamptz NOT NULL DEFAULT now()
);

-- The lock's second half. The lease says until when a holder may work, the fence
-- who may write. They are two rows because writers hold the fence row FOR SHARE,
-- and a lease must be renewable while they do.
CREATE TABLE reconciled.fence (
    store_id uuid PRIMARY KEY,
    epoch    bigint NOT NULL,
    holder   text   NOT NULL -- random token: a restored database rewinds epochs, not tokens
);
CREATE TABLE reconciled.lease (
    store_id   uuid PRIMARY KEY,
    holder     text        NOT NULL, -- the fence's token; '' when released
    owner      text        NOT NULL, -- for people: host, pid and purpose
    run_id     uuid,
    granted_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL
);

-- Who is who.
CREATE TABLE reconciled.installation (
    singleton  bool PRIMARY KEY DEFAULT true CHECK (singleton),
    id         uuid        NOT NULL DEFAULT gen_random_uuid(),
    created_at timestamptz NOT NULL DEFAULT now()
);
INSERT INTO reconciled.installation DEFAULT VALUES;

CREATE TABLE reconciled.peer (
    store_id          uuid        NOT NULL,
    installation_id   uuid        NOT NULL,
    anchor_here       bytea,      -- this side's root when both last agreed, the exceptions left out
    anchor_there      bytea,
    anchor_exceptions bytea,      -- digest of the agreed exception list
    anchor_version    bigint,     -- of this side's root
    agreed_count      bigint      NOT NULL DEFAULT 0,
    agreed_at         timestamptz,
    highest_seq       jsonb       NOT NULL DEFAULT '{}',
    last_seen         timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (store_id, installation_id)
);

-- What both sides know to be different, and why.
CREATE TABLE reconciled.exception (
    store_id   uuid        NOT NULL,
    event_id   uuid        NOT NULL,
    created_ms bigint      NOT NULL,
    kind       text        NOT NULL CHECK (kind IN ('conflict', 'refused', 'request_duplicate', 'purged')),
    reason     text        NOT NULL DEFAULT '',
    first_seen timestamptz NOT NULL DEFAULT now(),
    last_seen  timestamptz NOT NULL DEFAULT now(), -- when an exchange last met it
    PRIMARY KEY (store_id, event_id)
);

-- The second content of an event id: the other side's copy, whole.
CREATE TABLE reconciled.conflict (
    store_id       uuid        NOT NULL,
    event_id       uuid        NOT NULL,
    here_item      bytea       NOT NULL,
    there_item     bytea       NOT NULL,
    there          text        NOT NULL, -- the event as it was received, JSON
    there_from     uuid        NOT NULL, -- installation
    recommendation text        NOT NULL,
    found_at       timestamptz NOT NULL DEFAULT now(),
    decided_at     timestamptz,
    decision       text,
    PRIMARY KEY (store_id, event_id, there_item)
);

-- Healing.
CREATE TABLE reconciled.gap (
    store_id     uuid        NOT NULL,
    event_id     uuid        NOT NULL,
    type         text        NOT NULL,
    created_ms   bigint      NOT NULL,
    class        text        NOT NULL CHECK (class IN ('actionable', 'waiting', 'semantic', 'blocked', 'poison', 'unsupported')),
    reason       text        NOT NULL,
    waits_table  text,
    waits_id     uuid,
    first_seen   timestamptz NOT NULL DEFAULT now(),
    attempts     int         NOT NULL DEFAULT 0,
    next_attempt timestamptz NOT NULL DEFAULT now(),
    last_error   text,
    PRIMARY KEY (store_id, event_id)
);
CREATE INDEX gap_due ON reconciled.gap (store_id, class, next_attempt);

CREATE TABLE reconciled.quarantine (
    store_id         uuid        NOT NULL,
    event_id         uuid        NOT NULL,
    type             text        NOT NULL,
    reason           text        NOT NULL,
    first_seen       timestamptz NOT NULL DEFAULT now(),
    dismissed_at     timestamptz,
    dismissed_by     text,
    dismissed_reason text,
    PRIMARY KEY (store_id, event_id)
);

CREATE TABLE reconciled.removed_row (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    store_id   uuid        NOT NULL,
    table_name text        NOT NULL,
    row_id     uuid        NOT NULL,
    row        jsonb       NOT NULL,
    event_id   uuid        NOT NULL, -- the void that stands for the removal
    epoch      bigint      NOT NULL,
    removed_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX removed_row_id ON reconciled.removed_row (store_id, table_name, row_id);

CREATE TABLE reconciled.heal_log (
    id        bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    store_id  uuid        NOT NULL,
    event_id  uuid        NOT NULL,
    type      text        NOT NULL,
    strategy  text        NOT NULL,
    before    jsonb,
    after     jsonb,
    epoch     bigint      NOT NULL,
    run_id    uuid,
    healed_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX heal_log_event ON reconciled.heal_log (store_id, event_id);
CREATE INDEX heal_log_time ON reconciled.heal_log (store_id, healed_at DESC);

-- What was done, by whom, why.
CREATE TABLE reconciled.run (
    id          uuid PRIMARY KEY,
    task        text        NOT NULL,
    store_id    uuid        NOT NULL,
    trigger     text        NOT NULL, -- schedule, start, api, cli
    state       text        NOT NULL CHECK (state IN ('running', 'succeeded', 'failed', 'held', 'interrupted')),
    verdict     text,
    report      jsonb,
    error       text,
    started_at  timestamptz NOT NULL DEFAULT now(),
    finished_at timestamptz
);
CREATE INDEX run_recent ON reconciled.run (store_id, task, started_at DESC);
CREATE INDEX run_open ON reconciled.run (state) WHERE state = 'running';

CREATE TABLE reconciled.audit (
    id       bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at       timestamptz NOT NULL DEFAULT now(),
    actor    text        NOT NULL,
    action   text        NOT NULL,
    store_id uuid,
    target   text,
    outcome  text        NOT NULL,
    detail   jsonb       NOT NULL DEFAULT '{}'
);
CREATE INDEX audit_store ON reconciled.audit (store_id, at DESC);

-- +goose Down
SELECT 1 / 0 AS "the schema holds evidence; take it down by hand";
