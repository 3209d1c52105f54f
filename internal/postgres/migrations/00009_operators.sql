-- +goose Up

-- Until when nobody writes the store's data, and who said so. A row whose time has
-- come is no pause: it ends by itself, by this database's clock.
CREATE TABLE reconciled.pause (
    store_id uuid PRIMARY KEY,
    until    timestamptz NOT NULL,
    by       text        NOT NULL,
    why      text        NOT NULL,
    at       timestamptz NOT NULL DEFAULT now()
);

-- Events whose payload last write wins replaced with another event's, while another
-- copy here still says what was said. An event that changes, or is deleted, is taken
-- out by the drain; the healer's next look puts it back if it still is one.
CREATE TABLE reconciled.lost_update (
    store_id    uuid        NOT NULL,
    event_id    uuid        NOT NULL,
    type        text        NOT NULL,
    created_ms  bigint      NOT NULL,
    entity_type text        NOT NULL, -- what the two events were about, as the POS names it
    entity_id   text        NOT NULL, -- '' when nothing is named
    winner      uuid,                 -- event whose content the payload is, when it is here
    found_at    timestamptz NOT NULL DEFAULT now(),
    restored_at timestamptz,
    restored_by text,
    PRIMARY KEY (store_id, event_id)
);
CREATE INDEX lost_update_open ON reconciled.lost_update (store_id, found_at DESC) WHERE restored_at IS NULL;

-- What the POS's backend would have done beside the rows, until an accountant has
-- settled it.
CREATE INDEX heal_log_outstanding ON reconciled.heal_log (store_id, event_id) WHERE strategy = 'native' AND after ? 'outstanding';
CREATE INDEX audit_settled ON reconciled.audit (store_id, target) WHERE action = 'outstanding.settle';

GRANT SELECT, INSERT, UPDATE ON reconciled.pause TO reconciled_runtime;
GRANT SELECT, INSERT, UPDATE, DELETE ON reconciled.lost_update TO reconciled_runtime;

-- +goose Down
SELECT 1 / 0 AS "the schema holds evidence; take it down by hand";
