-- +goose Up

-- What a gap was tried with, and in which run it was counted.
ALTER TABLE reconciled.gap
    ADD COLUMN requeued_at timestamptz, -- given back to the POS backend
    ADD COLUMN planned_at  timestamptz NOT NULL DEFAULT now(),
    ADD COLUMN run_id      uuid;

-- A payment that waits for a debt is woken by the gap of a debt that will never be.
CREATE INDEX gap_never ON reconciled.gap (store_id, waits_id) WHERE class = 'semantic' AND waits_table = 'debts';

-- Events whose effect leaves no row of its own in the read model: quotas of a store
-- without a warehouse.
CREATE TABLE reconciled.applied (
    id         uuid PRIMARY KEY, -- of the event
    store_id   uuid        NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now()
);

-- Where the pass is that goes through the log beside the read models.
CREATE TABLE reconciled.sift (
    store_id    uuid PRIMARY KEY,
    slot        bigint,      -- the last one done; NULL: none, or all
    began_at    timestamptz NOT NULL DEFAULT now(),
    finished_at timestamptz  -- when it last came to the end
);

-- A recipe is replaced as a whole. Its old rows are copied to reconciled.removed_row
-- before they go; the runtime role cannot delete.
-- +goose StatementBegin
CREATE FUNCTION reconciled.remove_recipe(store uuid, product uuid, event uuid, fence_epoch bigint, fence_holder text)
RETURNS int
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    removed int;
BEGIN
    PERFORM 1 FROM reconciled.fence f
    WHERE f.store_id = store AND f.epoch = fence_epoch AND f.holder = fence_holder FOR SHARE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'fence: epoch % of store % is not current', fence_epoch, store USING ERRCODE = 'RC001';
    END IF;
    PERFORM 1 FROM public.events e
    LEFT JOIN reconciled.said s ON s.event_id = e.event_id
    WHERE e.event_id = event AND e.store_id = store AND e.type = 'RecipeIngredientsUpdated'
      AND reconciled.try_uuid(coalesce(s.said, nullif(e.delta_payload, '{}'), e.payload) ->> 'product_id') = product;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'event % gives product % of store % no recipe', event, product, store USING ERRCODE = 'RC004';
    END IF;
    PERFORM 1 FROM public.products p WHERE p.id = product AND p.store_id = store;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'product % is not one of store %', product, store USING ERRCODE = 'RC005';
    END IF;

    INSERT INTO reconciled.removed_row (store_id, table_name, row_id, row, event_id, epoch)
    SELECT store, 'recipe_ingredients', r.id, to_jsonb(r), event, fence_epoch
    FROM public.recipe_ingredients r WHERE r.recipe_product_id = product;
    DELETE FROM public.recipe_ingredients r WHERE r.recipe_product_id = product;
    GET DIAGNOSTICS removed = ROW_COUNT;
    RETURN removed;
END $$;
-- +goose StatementEnd

-- The content that last write wins took from an event is put back from the copy that
-- the backend never changes. The caller has verified it against the event's hash;
-- both are named, so that nothing else is written when they have changed since.
-- +goose StatementBegin
CREATE FUNCTION reconciled.restore_payload(store uuid, event uuid, fence_epoch bigint, fence_holder text, overwritten text, truth text)
RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM 1 FROM reconciled.fence f
    WHERE f.store_id = store AND f.epoch = fence_epoch AND f.holder = fence_holder FOR SHARE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'fence: epoch % of store % is not current', fence_epoch, store USING ERRCODE = 'RC001';
    END IF;
    UPDATE public.events e SET payload = truth::jsonb
    WHERE e.event_id = event AND e.store_id = store AND e.payload::text = overwritten
      AND (truth = nullif(e.delta_payload, '{}')::text
        OR e.delta_payload IS NULL AND e.conflict_status = 'auto_resolved'
          AND truth = (SELECT s.said::text FROM reconciled.said s WHERE s.event_id = event));
    IF NOT FOUND THEN
        RAISE EXCEPTION 'event % of store % has changed, or does not keep that content', event, store USING ERRCODE = 'RC006';
    END IF;
END $$;
-- +goose StatementEnd

GRANT SELECT, INSERT ON reconciled.applied TO reconciled_runtime;
GRANT SELECT, INSERT, UPDATE ON reconciled.sift TO reconciled_runtime;
REVOKE ALL ON FUNCTION reconciled.remove_recipe(uuid, uuid, uuid, bigint, text),
    reconciled.restore_payload(uuid, uuid, bigint, text, text, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION reconciled.remove_recipe(uuid, uuid, uuid, bigint, text),
    reconciled.restore_payload(uuid, uuid, bigint, text, text, text) TO reconciled_runtime;

-- +goose Down
SELECT 1 / 0 AS "the schema holds evidence; take it down by hand";
