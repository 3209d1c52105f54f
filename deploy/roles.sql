-- Roles, schema and rights of reconciled in a Velox POS database.
--
-- Run it once, as a superuser, inside the POS database; again after the POS has
-- gained a table that this file names. It is safe to repeat and drops nothing:
--
--     psql --set=ON_ERROR_STOP=1 --single-transaction --file=roles.sql velox
--
-- It makes two roles that may log in and sets no password. Give each one, or
-- let the operating system vouch for it:
--
--     \password reconciled_runtime           (psql asks; nothing lands in a log)
--     local  velox  reconciled_runtime  peer map=reconciled      (pg_hba.conf)
--     reconciled  reconciled  reconciled_runtime               (pg_ident.conf)
--
-- reconciled_migrator owns the schema reconciled, its tables, the triggers on the
-- event log and the read models, and the functions that do, each in one narrow
-- case, what the daemon may not: take a voided sale's debt out, replace a recipe's
-- lines, give an event its payload back. The migrations run as it.
-- reconciled_runtime is the daemon: it appends, updates what a projection updates,
-- and can neither delete a row of the POS nor change an event. Both bypass row
-- level security, since a filtered read of the log or of a read model would look
-- like a gap.
--
-- Who owns the tables of the POS does not matter. A table or column that is
-- missing here is passed over; the daemon's check at start names it.

DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['reconciled_migrator', 'reconciled_runtime'] LOOP
        IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = name) THEN
            EXECUTE pg_catalog.format('CREATE ROLE %I', name);
        END IF;
        EXECUTE pg_catalog.format('ALTER ROLE %I LOGIN BYPASSRLS NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION', name);
        EXECUTE pg_catalog.format('GRANT CONNECT ON DATABASE %I TO %I', pg_catalog.current_database(), name);
    END LOOP;
END $$;

CREATE SCHEMA IF NOT EXISTS reconciled AUTHORIZATION reconciled_migrator;
ALTER SCHEMA reconciled OWNER TO reconciled_migrator;
REVOKE ALL ON SCHEMA reconciled FROM PUBLIC;
GRANT USAGE ON SCHEMA reconciled TO reconciled_runtime;

GRANT USAGE ON SCHEMA public TO reconciled_migrator, reconciled_runtime;
REVOKE CREATE ON SCHEMA public FROM reconciled_migrator, reconciled_runtime;

-- Rights on tables start from none, so that this file is the whole of them.
REVOKE ALL ON ALL TABLES IN SCHEMA public FROM reconciled_migrator, reconciled_runtime;

DO $$
DECLARE
    wanted record;
BEGIN
    FOR wanted IN
        SELECT role, rights, unnest(tables) AS "table"
        FROM (VALUES
            -- The definer functions read the log and the void, remove a debt
            -- with its payments, replace a recipe's lines and restore a payload;
            -- the triggers sit on the log and the read models.
            ('reconciled_migrator', 'SELECT, TRIGGER', ARRAY[
                'events', 'products', 'recipe_ingredients', 'customers', 'sales', 'sale_items', 'debts', 'debt_payments',
                'warehouse_stock', 'inventory_movements', 'stock_escrow', 'cash_sessions', 'cash_ledger_entries']),
            ('reconciled_migrator', 'UPDATE, DELETE', ARRAY['debts', 'debt_payments', 'recipe_ingredients']),
            ('reconciled_migrator', 'UPDATE (payload)', ARRAY['events']),

            ('reconciled_runtime', 'SELECT', ARRAY[
                'stores', 'profiles', 'products', 'product_variants', 'product_lots', 'recipe_ingredients', 'customers',
                'events', 'outbox_entries', 'conflict_audit_log', 'fiscal_sequence_ranges',
                'federation_health_snapshots', 'sales', 'sale_items', 'debts', 'debt_payments',
                'warehouses', 'warehouse_stock', 'inventory_movements', 'stock_escrow',
                'invoice_series', 'fiscal_invoices', 'cash_sessions', 'cash_ledger_entries', 'notifications']),
            ('reconciled_runtime', 'INSERT', ARRAY[
                'products', 'recipe_ingredients', 'customers', 'sales', 'sale_items', 'debts', 'debt_payments',
                'warehouse_stock', 'inventory_movements', 'stock_escrow', 'cash_sessions', 'cash_ledger_entries',
                'events', 'outbox_entries', 'conflict_audit_log', 'federation_health_snapshots', 'notifications']),
            ('reconciled_runtime', 'UPDATE', ARRAY[
                'products', 'recipe_ingredients', 'customers', 'sales', 'debts',
                'warehouse_stock', 'stock_escrow', 'cash_sessions']),
            ('reconciled_runtime', 'UPDATE (product_id, variant_id, lot_id, qty, unit_price_bs, unit_price_usd, discount_bs, discount_usd)', ARRAY['sale_items']),
            ('reconciled_runtime', 'UPDATE (is_weight_product, weight_unit, weight_value, price_per_weight_bs, price_per_weight_usd)', ARRAY['sale_items']),
            ('reconciled_runtime', 'UPDATE (debt_id, paid_at, amount_bs, amount_usd, method, note)', ARRAY['debt_payments']),
            ('reconciled_runtime', 'UPDATE (entry_type, amount_bs, amount_usd, currency, cash_session_id, sold_at)', ARRAY['cash_ledger_entries']),
            ('reconciled_runtime', 'UPDATE (product_id, variant_id, qty_delta)', ARRAY['inventory_movements']),
            ('reconciled_runtime', 'UPDATE (projection_status)', ARRAY['events']),
            ('reconciled_runtime', 'UPDATE (projection_error)', ARRAY['events']),
            ('reconciled_runtime', 'UPDATE (status, error, retry_count, processed_at)', ARRAY['outbox_entries'])
        ) AS list (role, rights, tables)
    LOOP
        BEGIN
            EXECUTE pg_catalog.format('GRANT %s ON TABLE public.%I TO %I', wanted.rights, wanted."table", wanted.role);
        EXCEPTION WHEN undefined_table OR undefined_column THEN
            RAISE WARNING 'not granted to %: % on %: %', wanted.role, wanted.rights, wanted."table", SQLERRM;
        END;
    END LOOP;
END $$;
