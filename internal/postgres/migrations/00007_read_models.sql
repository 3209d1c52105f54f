-- +goose Up

-- The read models' dirty log: rows that were deleted, or changed in a column that
-- events bear. An insertion takes nothing away, so it is not logged.
CREATE TABLE reconciled.touched (
    store_id   uuid NOT NULL,
    table_name text NOT NULL,
    row_id     uuid, -- NULL: the table was truncated
    parent_id  uuid  -- of an item and a debt the sale, of a payment the debt, of an ingredient the
                     -- recipe, of a movement the sale, else the request or quota, that its ref
                     -- names, of a share the product
);
CREATE INDEX touched_store ON reconciled.touched (store_id);

-- The movement ledger's dirty log. A row adds delta to what a key has moved; the
-- change and its row commit together, so the sum is exact.
CREATE TABLE reconciled.stock_change (
    store_id     uuid, -- NULL: the cache's row, whose warehouse says the store
    warehouse_id uuid, -- NULL: the movement names none
    product_id   uuid, -- NULL: a table was truncated
    variant_id   uuid,
    delta        numeric NOT NULL
);
CREATE INDEX stock_change_store ON reconciled.stock_change (store_id, warehouse_id);

-- They are emptied all the time. To give room back to the disk, vacuum would lock
-- them, and the shop's statements would wait.
ALTER TABLE reconciled.touched SET (vacuum_truncate = off, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);
ALTER TABLE reconciled.stock_change SET (vacuum_truncate = off, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);

-- How the triggers on the read models looked to a store's last drain. A migration
-- that replaces touch() deletes the rows; one that replaces a stock function, those
-- of stock_baseline.
CREATE TABLE reconciled.touch_capture (
    store_id    uuid PRIMARY KEY,
    fingerprint text        NOT NULL,
    seen_at     timestamptz NOT NULL DEFAULT now()
);

-- Stock as the ledger and the cache have it, a row a key. The nil UUID stands for
-- no warehouse and no variant.
CREATE TABLE reconciled.stock (
    store_id       uuid    NOT NULL,
    product_id     uuid    NOT NULL,
    variant_id     uuid    NOT NULL,
    warehouse_id   uuid    NOT NULL,
    moved          numeric NOT NULL,           -- by movements that name this warehouse
    ledger         numeric NOT NULL DEFAULT 0, -- and by those that name none, where they count
    cache          numeric NOT NULL DEFAULT 0, -- warehouse_stock's
    diverged_since timestamptz,                -- the cache is not the ledger, or not 0 where that is below 0
    oversold_since timestamptz,                -- the ledger is below 0
    stale          bool    NOT NULL DEFAULT true, -- changed since it was last compared
    PRIMARY KEY (store_id, product_id, variant_id, warehouse_id)
);
CREATE INDEX stock_stale ON reconciled.stock (store_id) WHERE stale;
CREATE INDEX stock_found ON reconciled.stock (store_id) WHERE diverged_since IS NOT NULL OR oversold_since IS NOT NULL;

-- What a store's rows in reconciled.stock stand on. Without one they mean nothing.
CREATE TABLE reconciled.stock_baseline (
    store_id    uuid PRIMARY KEY,
    fingerprint text        NOT NULL, -- of the triggers that log what moved since
    fallback    uuid,                 -- warehouse that movements without one count for
    warehouses  uuid[]      NOT NULL, -- the store's, ascending
    built_at    timestamptz NOT NULL DEFAULT now()
);

-- +goose StatementBegin
CREATE FUNCTION reconciled.touch() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    line   jsonb := to_jsonb(OLD); -- a column that is gone is NULL in it, and no error
    store  uuid;
    parent uuid;
BEGIN
    LOOP
        parent := reconciled.try_uuid(CASE TG_TABLE_NAME
            WHEN 'sale_items' THEN line ->> 'sale_id'
            WHEN 'inventory_movements' THEN coalesce(line #>> '{ref,sale_id}', line #>> '{ref,request_id}', line #>> '{ref,quota_id}')
            WHEN 'debts' THEN line ->> 'sale_id'
            WHEN 'debt_payments' THEN line ->> 'debt_id'
            WHEN 'recipe_ingredients' THEN line ->> 'recipe_product_id'
            WHEN 'stock_escrow' THEN line ->> 'product_id' END);
        -- An item whose sale is gone too has no store; its sale's own row stands for it.
        IF TG_TABLE_NAME = 'sale_items' THEN
            SELECT s.store_id INTO store FROM public.sales s WHERE s.id = parent;
        ELSIF TG_TABLE_NAME = 'recipe_ingredients' THEN
            SELECT p.store_id INTO store FROM public.products p WHERE p.id = parent;
        ELSE
            store := reconciled.try_uuid(line ->> 'store_id');
        END IF;
        IF store IS NOT NULL THEN
            INSERT INTO reconciled.touched (store_id, table_name, row_id, parent_id)
            VALUES (store, TG_TABLE_NAME, reconciled.try_uuid(line ->> 'id'), parent);
        END IF;
        EXIT WHEN TG_OP = 'DELETE' OR line = to_jsonb(NEW);
        line := to_jsonb(NEW);
    END LOOP;
    RETURN NULL;
END $$;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE FUNCTION reconciled.touch_truncate() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    INSERT INTO reconciled.touched (store_id, table_name) SELECT r.store_id, TG_TABLE_NAME FROM reconciled.root r;
    RETURN NULL;
END $$;
-- +goose StatementEnd

-- What a movement adds to the stock that the ledger stands for (events.md 3.3).
-- +goose StatementBegin
CREATE FUNCTION reconciled.ledger_effect(movement_type text, from_escrow bool, qty_delta numeric) RETURNS numeric
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN from_escrow IS NOT TRUE
    AND movement_type IN ('received', 'adjust', 'sold', 'sale', 'transfer_in', 'transfer_out') THEN qty_delta ELSE 0 END;
-- +goose StatementEnd

-- A sale waits for the next three. They have no search_path set, since that costs a
-- fifth of them: they name whatever they use with the schema, operators too.
-- +goose StatementBegin
CREATE FUNCTION reconciled.stock_moved() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    IF TG_OP OPERATOR(pg_catalog.<>) 'DELETE' THEN
        INSERT INTO reconciled.stock_change (store_id, warehouse_id, product_id, variant_id, delta)
        VALUES (NEW.store_id, NEW.warehouse_id, NEW.product_id, NEW.variant_id,
            reconciled.ledger_effect(NEW.movement_type, NEW.from_escrow, NEW.qty_delta));
    END IF;
    IF TG_OP OPERATOR(pg_catalog.<>) 'INSERT' THEN
        INSERT INTO reconciled.stock_change (store_id, warehouse_id, product_id, variant_id, delta)
        VALUES (OLD.store_id, OLD.warehouse_id, OLD.product_id, OLD.variant_id,
            OPERATOR(pg_catalog.-) reconciled.ledger_effect(OLD.movement_type, OLD.from_escrow, OLD.qty_delta));
    END IF;
    RETURN NULL;
END $$;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE FUNCTION reconciled.stock_cached() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    INSERT INTO reconciled.stock_change (warehouse_id, product_id, variant_id, delta)
    VALUES (NEW.warehouse_id, NEW.product_id, NEW.variant_id, 0);
    RETURN NULL;
END $$;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE FUNCTION reconciled.stock_uncached() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    INSERT INTO reconciled.stock_change (warehouse_id, product_id, variant_id, delta)
    VALUES (OLD.warehouse_id, OLD.product_id, OLD.variant_id, 0);
    RETURN NULL;
END $$;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE FUNCTION reconciled.stock_truncate() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    INSERT INTO reconciled.stock_change (store_id, delta) SELECT b.store_id, 0 FROM reconciled.stock_baseline b;
    RETURN NULL;
END $$;
-- +goose StatementEnd

-- Makes all triggers on the read models, and makes them anew where one is missing,
-- disabled or another. To be called by reconciled_migrator.
-- +goose StatementBegin
CREATE FUNCTION reconciled.watch_read_models() RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET lock_timeout = '900ms' AS $$
DECLARE
    model record;
BEGIN
    -- CREATE TRIGGER waits for every open writer of a table, and all new ones wait
    -- behind it, while the tables before it stay locked. Giving up before
    -- deadlock_timeout (1 s) means that it is never a sale that is ended: better to
    -- be run again than to stop the shop.
    FOR model IN SELECT name, string_to_array(columns, ' ') AS columns FROM (VALUES
        ('products', 'id store_id name category sku barcode product_type price_bs price_usd cost_bs cost_usd profit_margin low_stock_threshold is_active is_recipe is_visible_public public_name public_description public_image_url public_category image_url description'),
        ('recipe_ingredients', 'recipe_product_id ingredient_product_id qty unit'),
        ('customers', 'id store_id name phone note document_id email credit_limit'),
        ('cash_sessions', 'id store_id opened_by opened_at opening_amount_bs opening_amount_usd closed_by closed_at expected counted note'),
        ('cash_ledger_entries', 'id store_id device_id seq entry_type amount_bs amount_usd currency cash_session_id sold_at event_id request_id metadata'),
        ('sales', 'id store_id cash_session_id sold_at exchange_rate currency totals payment customer_id note sold_by_user_id fiscal_number voided_at voided_by_user_id void_reason'),
        ('sale_items', 'id sale_id product_id variant_id lot_id qty unit_price_bs unit_price_usd discount_bs discount_usd is_weight_product weight_unit weight_value price_per_weight_bs price_per_weight_usd'),
        ('inventory_movements', 'id store_id product_id variant_id warehouse_id movement_type qty_delta unit_cost_bs unit_cost_usd note ref happened_at from_escrow'),
        ('debts', 'id store_id sale_id customer_id created_at amount_bs amount_usd status note'),
        ('debt_payments', 'id store_id debt_id paid_at amount_bs amount_usd method note'),
        -- what it holds changes with each sale; that is compared by the full pass
        ('stock_escrow', 'id store_id product_id device_id variant_id')
    ) AS list (name, columns) LOOP
        EXECUTE format('CREATE OR REPLACE TRIGGER reconciled_touch_delete AFTER DELETE ON public.%I FOR EACH ROW EXECUTE FUNCTION reconciled.touch()', model.name);
        EXECUTE format('CREATE OR REPLACE TRIGGER reconciled_touch_update AFTER UPDATE OF %s ON public.%I FOR EACH ROW
            WHEN (ROW (OLD.%s) IS DISTINCT FROM ROW (NEW.%s)) EXECUTE FUNCTION reconciled.touch()',
            array_to_string(model.columns, ', '), model.name,
            array_to_string(model.columns, ', OLD.'), array_to_string(model.columns, ', NEW.'));
        EXECUTE format('CREATE OR REPLACE TRIGGER reconciled_touch_truncate AFTER TRUNCATE ON public.%I FOR EACH STATEMENT EXECUTE FUNCTION reconciled.touch_truncate()', model.name);
    END LOOP;

    CREATE OR REPLACE TRIGGER reconciled_stock
        AFTER INSERT OR DELETE OR UPDATE OF store_id, warehouse_id, product_id, variant_id, movement_type, from_escrow, qty_delta
        ON public.inventory_movements FOR EACH ROW EXECUTE FUNCTION reconciled.stock_moved();
    CREATE OR REPLACE TRIGGER reconciled_stock_truncate AFTER TRUNCATE ON public.inventory_movements
        FOR EACH STATEMENT EXECUTE FUNCTION reconciled.stock_truncate();
    CREATE OR REPLACE TRIGGER reconciled_stock AFTER INSERT OR UPDATE OF warehouse_id, product_id, variant_id, stock
        ON public.warehouse_stock FOR EACH ROW EXECUTE FUNCTION reconciled.stock_cached();
    CREATE OR REPLACE TRIGGER reconciled_stock_gone AFTER DELETE OR UPDATE OF warehouse_id, product_id, variant_id
        ON public.warehouse_stock FOR EACH ROW EXECUTE FUNCTION reconciled.stock_uncached();
    CREATE OR REPLACE TRIGGER reconciled_stock_truncate AFTER TRUNCATE ON public.warehouse_stock
        FOR EACH STATEMENT EXECUTE FUNCTION reconciled.stock_truncate();
END $$;
-- +goose StatementEnd
SELECT reconciled.watch_read_models();

GRANT SELECT, DELETE ON reconciled.touched, reconciled.stock_change TO reconciled_runtime;
GRANT SELECT, INSERT, UPDATE ON reconciled.touch_capture TO reconciled_runtime;
GRANT SELECT, INSERT, UPDATE, DELETE ON reconciled.stock, reconciled.stock_baseline TO reconciled_runtime;
REVOKE ALL ON FUNCTION reconciled.touch, reconciled.touch_truncate, reconciled.ledger_effect, reconciled.stock_moved,
    reconciled.stock_cached, reconciled.stock_uncached, reconciled.stock_truncate, reconciled.watch_read_models FROM PUBLIC;
GRANT EXECUTE ON FUNCTION reconciled.ledger_effect TO reconciled_runtime;

-- +goose Down
SELECT 1 / 0 AS "without capture the read models would lie; drop the triggers by hand";
