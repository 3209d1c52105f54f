-- +goose Up

-- A store's side: the last agreement with each installation.
ALTER TABLE reconciled.peer
    DROP COLUMN anchor_here, DROP COLUMN anchor_there, DROP COLUMN anchor_exceptions, DROP COLUMN anchor_version,
    DROP COLUMN highest_seq,
    ADD COLUMN token bytea, -- merkle.AgreementToken
    ADD COLUMN agreed_version bigint NOT NULL DEFAULT 0; -- of this side's root

-- Central's side: what it remembers of each installation that has compared with
-- it. A database that was restored, or copied, does not remember the same.
CREATE TABLE reconciled.witness (
    store_id        uuid        NOT NULL,
    installation_id uuid        NOT NULL,
    offered         bytea,       -- token of the last agreement that was answered
    confirmed       bytea,       -- and of the last one that the installation has shown
    agreed_count    bigint      NOT NULL DEFAULT 0,
    agreed_root     bytea,       -- the exceptions left out
    whole_root      bytea,       -- of the whole tree here, then
    agreed_at       timestamptz,
    list            bytea,       -- token of the list of exceptions
    listed          bytea,       -- the list: 16 bytes of id and 16 of digest each
    last_seen       timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (store_id, installation_id)
);

-- The highest numbers that were ever seen of a store: what a restored database may
-- give out again.
CREATE TABLE reconciled.highest (
    store_id uuid   NOT NULL,
    kind     text   NOT NULL CHECK (kind IN ('seq', 'fiscal')), -- of a device, of an invoice series
    of       text   NOT NULL,
    value    bigint NOT NULL,
    seen_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (store_id, kind, of)
);

ALTER TABLE reconciled.evidence DROP CONSTRAINT evidence_kind_check;
ALTER TABLE reconciled.evidence ADD CONSTRAINT evidence_kind_check CHECK (kind IN (
    'changed', 'deleted', 'truncated', 'self_check', 'slot', 'vanished', 'differs', 'capture',
    'went_back')); -- one of two sides does not remember their last agreement

-- When a slot's events were held against the other side's.
ALTER TABLE reconciled.evidence ADD COLUMN named_at timestamptz;

GRANT SELECT, INSERT, UPDATE ON reconciled.witness, reconciled.highest TO reconciled_runtime;
GRANT DELETE ON reconciled.witness TO reconciled_runtime;
GRANT UPDATE (named_at) ON reconciled.evidence TO reconciled_runtime;

-- +goose Down
SELECT 1 / 0 AS "the schema holds evidence; take it down by hand";
