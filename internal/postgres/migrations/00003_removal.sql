-- +goose Up

-- The one removal that a projection stands for: a void takes its sale's credit
-- debt and that debt's payments out of the read model. The runtime role cannot
-- delete; this function can, once it has seen the void, the current fence and
-- the voided sale, and copied every row to reconciled.removed_row.
-- +goose StatementBegin
CREATE FUNCTION reconciled.remove_voided_debt(store uuid, sale uuid, void uuid, fence_epoch bigint, fence_holder text)
RETURNS int
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    removed int := 0;
    part    int;
BEGIN
    PERFORM 1 FROM reconciled.fence f
    WHERE f.store_id = store AND f.epoch = fence_epoch AND f.holder = fence_holder FOR SHARE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'fence: epoch % of store % is not current', fence_epoch, store USING ERRCODE = 'RC001';
    END IF;
    PERFORM 1 FROM public.events e
    LEFT JOIN reconciled.said s ON s.event_id = e.event_id
    WHERE e.event_id = void AND e.store_id = store AND e.type = 'SaleVoided'
      AND reconciled.try_uuid(coalesce(s.said, nullif(e.delta_payload, '{}'), e.payload) ->> 'sale_id') = sale;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'event % does not void sale % of store %', void, sale, store USING ERRCODE = 'RC002';
    END IF;
    PERFORM 1 FROM public.sales v WHERE v.id = sale AND v.store_id = store AND v.voided_at IS NOT NULL;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'sale % of store % is not voided', sale, store USING ERRCODE = 'RC003';
    END IF;

    PERFORM 1 FROM public.debts d WHERE d.store_id = store AND d.sale_id = sale FOR UPDATE;

    INSERT INTO reconciled.removed_row (store_id, table_name, row_id, row, event_id, epoch)
    SELECT p.store_id, 'debt_payments', p.id, to_jsonb(p), void, fence_epoch
    FROM public.debt_payments p JOIN public.debts d ON d.id = p.debt_id
    WHERE d.store_id = store AND d.sale_id = sale;
    INSERT INTO reconciled.removed_row (store_id, table_name, row_id, row, event_id, epoch)
    SELECT d.store_id, 'debts', d.id, to_jsonb(d), void, fence_epoch
    FROM public.debts d WHERE d.store_id = store AND d.sale_id = sale;

    DELETE FROM public.debt_payments p USING public.debts d
    WHERE p.debt_id = d.id AND d.store_id = store AND d.sale_id = sale;
    GET DIAGNOSTICS part = ROW_COUNT;
    removed := part;
    DELETE FROM public.debts d WHERE d.store_id = store AND d.sale_id = sale;
    GET DIAGNOSTICS part = ROW_COUNT;
    RETURN removed + part;
END $$;
-- +goose StatementEnd

-- +goose Down
SELECT 1 / 0 AS "voids could not be projected; drop the function by hand";
