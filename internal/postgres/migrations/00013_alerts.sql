-- +goose Up

-- What is or was wrong with a store, until it has been over for a while. The record is
-- alert.Alert whole; the columns beside it are what is looked for.
CREATE TABLE reconciled.alert (
    id          uuid PRIMARY KEY,
    store_id    uuid        NOT NULL,
    code        text        NOT NULL,
    state       text        NOT NULL,
    since       timestamptz NOT NULL,
    resolved_at timestamptz,
    alert       jsonb       NOT NULL
);
CREATE INDEX alert_open ON reconciled.alert (store_id) WHERE state <> 'resolved';
CREATE INDEX alert_resolved ON reconciled.alert (store_id, resolved_at) WHERE state = 'resolved';

-- When a store was last looked at. Its row is the lock of the store's alerts, so that
-- of several daemons one takes a step at a time.
CREATE TABLE reconciled.alert_look (
    store_id  uuid PRIMARY KEY,
    looked_at timestamptz NOT NULL
);

-- What people are told, on its way over a channel: alert.Delivery whole.
CREATE TABLE reconciled.delivery (
    id           uuid PRIMARY KEY,
    alert_id     uuid        NOT NULL,
    store_id     uuid        NOT NULL,
    channel      text        NOT NULL,
    made_at      timestamptz NOT NULL DEFAULT now(),
    next_attempt timestamptz NOT NULL,
    done_at      timestamptz,
    delivery     jsonb       NOT NULL
);
CREATE INDEX delivery_waiting ON reconciled.delivery (channel, next_attempt) WHERE done_at IS NULL;
CREATE INDEX delivery_done ON reconciled.delivery (channel, done_at) WHERE done_at IS NOT NULL;
CREATE INDEX delivery_store ON reconciled.delivery (store_id, done_at) WHERE done_at IS NOT NULL;

-- Who sends over a channel, and until when: of several daemons one does.
CREATE TABLE reconciled.channel (
    name   text PRIMARY KEY,
    sender uuid        NOT NULL,
    until  timestamptz NOT NULL
);

-- At central: when a store last called.
CREATE TABLE reconciled.heard (
    store_id uuid PRIMARY KEY,
    at       timestamptz NOT NULL
);

GRANT SELECT, INSERT, UPDATE, DELETE ON reconciled.alert, reconciled.delivery, reconciled.channel TO reconciled_runtime;
GRANT SELECT, INSERT, UPDATE ON reconciled.alert_look, reconciled.heard TO reconciled_runtime;

-- +goose Down
SELECT 1 / 0 AS "the schema holds evidence; take it down by hand";
