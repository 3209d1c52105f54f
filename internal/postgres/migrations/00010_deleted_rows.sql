-- +goose Up

-- The shop's statements append to this table: better to give up and be run again than
-- to hold them.
SET LOCAL lock_timeout = '900ms';

-- When it was: by the clock of the transaction, as whatever else it writes.
ALTER TABLE reconciled.touched ADD COLUMN at timestamptz NOT NULL DEFAULT now();

-- Rows that the POS has deleted where nothing else will tell: the debts of sales, whose
-- ids are in no event, and the lines of recipes, which are edited online without one.
CREATE TABLE reconciled.deleted_row (
    store_id   uuid        NOT NULL,
    table_name text        NOT NULL, -- debts, recipe_ingredients
    row_id     uuid        NOT NULL,
    parent_id  uuid        NOT NULL, -- of a debt the sale, of an ingredient the recipe
    deleted_at timestamptz NOT NULL,
    PRIMARY KEY (store_id, table_name, row_id)
);
CREATE INDEX deleted_row_parent ON reconciled.deleted_row (store_id, table_name, parent_id);
GRANT SELECT, INSERT, UPDATE ON reconciled.deleted_row TO reconciled_runtime;

-- In a slot of thousands of events the healer's list names those that it is about.
ALTER TABLE reconciled.worklist
    ADD COLUMN events       uuid[], -- NULL: all of the slot
    ADD COLUMN events_stamp bigint; -- events counts while the stamp is this one: else, all of the slot

-- +goose Down
SELECT 1 / 0 AS "the schema holds evidence; take it down by hand";
