-- +goose Up

-- Since when a gap is of its class: what waited for days for its cause has stood still
-- only since that is there.
ALTER TABLE reconciled.gap ADD COLUMN class_since timestamptz NOT NULL DEFAULT now();
UPDATE reconciled.gap SET class_since = first_seen;

-- In which order deliveries were made, whatever a clock says.
ALTER TABLE reconciled.delivery ADD COLUMN place bigint;
UPDATE reconciled.delivery d SET place = made.place
FROM (SELECT id, row_number() OVER (ORDER BY made_at, id) AS place FROM reconciled.delivery) made WHERE made.id = d.id;
ALTER TABLE reconciled.delivery ALTER COLUMN place SET NOT NULL, ALTER COLUMN place ADD GENERATED ALWAYS AS IDENTITY;
SELECT setval(pg_get_serial_sequence('reconciled.delivery', 'place'), (SELECT count(*) + 1 FROM reconciled.delivery), false);

-- +goose Down
SELECT 1 / 0 AS "the schema holds evidence; take it down by hand";
