-- +goose Up

-- An event's payload is written for two reasons: last write wins replaced it, or a
-- person decided between two contents. Either way it becomes what the event is taken to
-- have said, and nothing else: what reconciled.said holds, or else delta_payload.
-- +goose StatementBegin
CREATE OR REPLACE FUNCTION reconciled.restore_payload(store uuid, event uuid, fence_epoch bigint, fence_holder text, overwritten text, truth text)
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
      AND truth = coalesce((SELECT s.said FROM reconciled.said s WHERE s.event_id = event), nullif(e.delta_payload, '{}'))::text;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'event % of store % has changed, or does not keep that content', event, store USING ERRCODE = 'RC006';
    END IF;
END $$;
-- +goose StatementEnd

-- +goose Down
SELECT 1 / 0 AS "the schema holds evidence; take it down by hand";
