-- +goose Up

-- What was answered to requests that carried an Idempotency-Key, for a day. A row without
-- an answer is a request under way, or one whose process died on it.
CREATE TABLE reconciled.idempotency_key (
    key     text PRIMARY KEY,
    request bytea       NOT NULL, -- SHA-256 of what was asked
    status  int,
    answer  text,
    at      timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX idempotency_key_at ON reconciled.idempotency_key (at);

-- The history of a store's runs, whatever the task.
CREATE INDEX run_newest ON reconciled.run (store_id, started_at DESC, id DESC);

GRANT SELECT, INSERT, UPDATE, DELETE ON reconciled.idempotency_key TO reconciled_runtime;

-- +goose Down
SELECT 1 / 0 AS "the schema holds evidence; take it down by hand";
