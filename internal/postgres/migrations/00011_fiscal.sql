-- +goose Up

-- How a fiscal number is spelled to be compared, NULL for what is none
-- (docs/decisions/0014): without the spaces around it, in upper case, and without the
-- zeros that pad the digits it ends in. A column of sales holds 100 characters.
-- +goose StatementBegin
CREATE FUNCTION reconciled.fiscal_normal(t text) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN length(t) <= 100 AND t ~ '[1-9]'
    THEN regexp_replace(upper(btrim(t, E' \t\n\r\f\x0B\u00A0')), '(^|[^0-9.,])0+([0-9]+)$', '\1\2') END;
-- +goose StatementEnd

-- The same of what a sale's event says. The POS keeps a number as ECMAScript prints
-- it, which from 1e21 on is no row of digits.
-- +goose StatementBegin
CREATE FUNCTION reconciled.fiscal_said(said jsonb) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN reconciled.fiscal_normal(CASE jsonb_typeof(said -> 'fiscal_number')
    WHEN 'string' THEN said ->> 'fiscal_number'
    WHEN 'number' THEN CASE WHEN abs((said -> 'fiscal_number')::numeric) < 1e21 THEN trim_scale((said -> 'fiscal_number')::numeric)::text END END);
-- +goose StatementEnd

-- The digits that such a number ends in, as ranges count them; 0: none, or too many.
-- +goose StatementBegin
CREATE FUNCTION reconciled.fiscal_value(number text) RETURNS bigint
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN coalesce(substring(number FROM '(?:^|[^0-9.,])([0-9]{1,18})$')::bigint, 0);
-- +goose StatementEnd

-- Of an id that is no UUID, one that stands for it.
-- +goose StatementBegin
CREATE FUNCTION reconciled.any_uuid(t text) RETURNS uuid
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN coalesce(reconciled.try_uuid(t), md5(t)::uuid);
-- +goose StatementEnd

-- Every fiscal number that a sale was ever seen to have, by its row or by an event. A
-- line is a hint where to look, and is never taken out: what is told of it is read anew
-- from the row and the event.
CREATE TABLE reconciled.fiscal_number (
    store_id  uuid   NOT NULL,
    sale_id   uuid   NOT NULL,
    number    text   NOT NULL, -- as fiscal_normal spells it
    value     bigint NOT NULL, -- as fiscal_value reads it
    series_id uuid   NOT NULL, -- that it counts in; the store's own id where there is none
    event_id  uuid,            -- that was first seen to say so; NULL: only the row did
    shared    bool   NOT NULL DEFAULT false, -- another sale was seen with it, in any store
    outside   bool   NOT NULL DEFAULT false, -- it was in no range of its device when it was first seen
    PRIMARY KEY (store_id, sale_id, number)
);
CREATE INDEX fiscal_number_series ON reconciled.fiscal_number (series_id, value, number);
CREATE INDEX fiscal_number_shared ON reconciled.fiscal_number (store_id) WHERE shared;
CREATE INDEX fiscal_number_outside ON reconciled.fiscal_number (store_id) WHERE outside;

-- Which stores use a series, by a number or by an active range. Whoever adds numbers of
-- it holds its row while he looks for others.
CREATE TABLE reconciled.fiscal_series (
    series_id uuid   PRIMARY KEY,
    stores    uuid[] NOT NULL
);
CREATE INDEX fiscal_series_common ON reconciled.fiscal_series (series_id) WHERE cardinality(stores) > 1;

-- How the trigger on sales looked when a store's sales were last followed without a
-- break; '' makes the next look hold all of them against fiscal_number. Its row is the
-- lock of the store's lines.
CREATE TABLE reconciled.fiscal_baseline (
    store_id    uuid PRIMARY KEY,
    fingerprint text NOT NULL
);

-- Sales whose row has come to say a fiscal number. One that says it no more is not
-- logged: that takes nothing away.
CREATE TABLE reconciled.fiscal_change (
    store_id uuid NOT NULL,
    sale_id  uuid NOT NULL
);
CREATE INDEX fiscal_change_store ON reconciled.fiscal_change (store_id);
-- It is emptied all the time. To give room back to the disk, vacuum would lock it, and
-- the shop's statements would wait.
ALTER TABLE reconciled.fiscal_change SET (vacuum_truncate = off, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);

-- A sale waits for it. It has no search_path set, since that costs a fifth of it.
-- +goose StatementBegin
CREATE FUNCTION reconciled.fiscal_changed() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    INSERT INTO reconciled.fiscal_change (store_id, sale_id) VALUES (NEW.store_id, NEW.id);
    RETURN NULL;
END $$;
-- +goose StatementEnd

-- Makes the trigger, or makes it anew where it is missing, disabled or another. To be
-- called by reconciled_migrator. A sale without a fiscal number does not call it.
-- +goose StatementBegin
CREATE FUNCTION reconciled.watch_fiscal_numbers() RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET lock_timeout = '900ms' AS $$
BEGIN
    CREATE OR REPLACE TRIGGER reconciled_fiscal AFTER INSERT OR UPDATE OF id, store_id, fiscal_number, invoice_series_id
        ON public.sales FOR EACH ROW WHEN (NEW.fiscal_number IS NOT NULL) EXECUTE FUNCTION reconciled.fiscal_changed();
END $$;
-- +goose StatementEnd
SELECT reconciled.watch_fiscal_numbers();

GRANT SELECT, INSERT, UPDATE ON reconciled.fiscal_number, reconciled.fiscal_series, reconciled.fiscal_baseline TO reconciled_runtime;
GRANT SELECT, INSERT, DELETE ON reconciled.fiscal_change TO reconciled_runtime;
REVOKE ALL ON FUNCTION reconciled.fiscal_normal, reconciled.fiscal_said, reconciled.fiscal_value, reconciled.any_uuid,
    reconciled.fiscal_changed, reconciled.watch_fiscal_numbers FROM PUBLIC;
GRANT EXECUTE ON FUNCTION reconciled.fiscal_normal, reconciled.fiscal_said, reconciled.fiscal_value, reconciled.any_uuid TO reconciled_runtime;

-- +goose Down
SELECT 1 / 0 AS "the schema holds evidence; take it down by hand";
