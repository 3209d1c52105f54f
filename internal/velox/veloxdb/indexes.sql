-- The indexes of a Velox POS database. Exact duplicates are left out, except on
-- events: what an insert there costs is measured with all of them.

CREATE UNIQUE INDEX ON stores (kitchen_public_token) WHERE kitchen_public_token IS NOT NULL;

CREATE UNIQUE INDEX ON profiles (email) WHERE email IS NOT NULL;

CREATE INDEX ON products (store_id, name);
CREATE INDEX ON products (store_id, category);
CREATE INDEX ON products (store_id, is_active);
CREATE INDEX ON products (barcode) WHERE barcode IS NOT NULL;
CREATE INDEX ON products (store_id, is_weight_product) WHERE is_weight_product = true;
CREATE INDEX ON products (store_id, category, name) WHERE is_active = true;
CREATE INDEX ON products (store_id, low_stock_threshold) WHERE is_active = true AND low_stock_threshold > 0;
CREATE UNIQUE INDEX ON products (store_id, barcode) WHERE barcode IS NOT NULL;
CREATE INDEX ON products (store_id, id) WHERE is_active = true;
CREATE INDEX ON products (store_id, barcode) WHERE barcode IS NOT NULL AND is_active = true;
CREATE INDEX ON products (store_id, category, name) WHERE is_active = true AND is_visible_public = true;

CREATE INDEX ON product_variants (product_id);
CREATE INDEX ON product_variants (variant_type);

CREATE INDEX ON customers (store_id, name);
CREATE INDEX ON customers (store_id, phone) WHERE phone IS NOT NULL;
CREATE INDEX ON customers (store_id, document_id) WHERE document_id IS NOT NULL;

CREATE INDEX ON warehouses (store_id);
CREATE INDEX ON warehouses (store_id, is_active) WHERE is_active = true;
CREATE INDEX ON warehouses (store_id, is_default) WHERE is_default = true;

CREATE INDEX ON invoice_series (store_id);
CREATE INDEX ON invoice_series (store_id, is_active) WHERE is_active = true;
CREATE INDEX ON invoice_series (store_id, created_at) WHERE is_active = true;

CREATE INDEX ON cash_sessions (store_id, opened_at);

CREATE INDEX ON events (store_id, seq);
CREATE INDEX ON events (store_id, type);
CREATE INDEX ON events (store_id, created_at);
CREATE INDEX ON events (device_id);
CREATE INDEX ON events (store_id, device_id);
CREATE INDEX ON events (device_id, seq DESC);
CREATE INDEX ON events (store_id, type, created_at DESC);
CREATE UNIQUE INDEX ON events (request_id) WHERE request_id IS NOT NULL;
CREATE INDEX ON events (store_id, created_at DESC);
CREATE INDEX ON events (store_id, type, created_at DESC);
CREATE INDEX ON events (store_id, device_id, seq DESC);
CREATE INDEX ON events USING gin (payload);
CREATE INDEX ON events (store_id, type, created_at DESC);
CREATE UNIQUE INDEX ON events (request_id) WHERE request_id IS NOT NULL;

CREATE INDEX ON outbox_entries (created_at) WHERE status = 'pending';
CREATE INDEX ON outbox_entries (event_id);

CREATE INDEX ON conflict_audit_log (store_id, resolved_at DESC);

CREATE INDEX ON fiscal_sequence_ranges (store_id, series_id, device_id, status);
CREATE INDEX ON fiscal_sequence_ranges (expires_at) WHERE status = 'active';
CREATE INDEX ON fiscal_sequence_ranges (store_id, device_id, status) WHERE status = 'active';

CREATE INDEX ON federation_health_snapshots (store_id, snapshot_at DESC);

CREATE INDEX ON sales (store_id, sold_at);
CREATE INDEX ON sales (store_id);
CREATE INDEX ON sales (sold_at DESC);
CREATE INDEX ON sales (cash_session_id) WHERE cash_session_id IS NOT NULL;
CREATE INDEX ON sales (customer_id) WHERE customer_id IS NOT NULL;
CREATE INDEX ON sales (sold_by_user_id) WHERE sold_by_user_id IS NOT NULL;
CREATE INDEX ON sales (invoice_series_id) WHERE invoice_series_id IS NOT NULL;
CREATE INDEX ON sales (store_id, sold_at DESC);
CREATE INDEX ON sales (store_id, customer_id, sold_at DESC) WHERE customer_id IS NOT NULL;
CREATE INDEX ON sales (store_id, sold_at DESC, currency);
CREATE UNIQUE INDEX ON sales (store_id, sale_number) WHERE sale_number IS NOT NULL;
CREATE INDEX ON sales (store_id, sold_at DESC, id DESC);
CREATE INDEX ON sales (cash_session_id, sold_at DESC) WHERE cash_session_id IS NOT NULL;
CREATE INDEX ON sales (sold_by_user_id, sold_at DESC) WHERE sold_by_user_id IS NOT NULL;
CREATE INDEX ON sales (store_id, sold_at DESC) WHERE voided_at IS NULL;
CREATE INDEX ON sales (store_id, fiscal_number) WHERE fiscal_number IS NOT NULL;

CREATE INDEX ON sale_items (sale_id);
CREATE INDEX ON sale_items (product_id, qty DESC);
CREATE INDEX ON sale_items (sale_id, product_id) INCLUDE (qty, unit_price_bs, unit_price_usd, discount_bs, discount_usd);
CREATE INDEX ON sale_items (sale_id, product_id) INCLUDE (qty, unit_price_bs, unit_price_usd, discount_bs, discount_usd, is_weight_product, weight_value);
CREATE INDEX ON sale_items (product_id, sale_id) INCLUDE (qty);
CREATE INDEX ON sale_items (variant_id) WHERE variant_id IS NOT NULL;
CREATE INDEX ON sale_items (lot_id) WHERE lot_id IS NOT NULL;

CREATE INDEX ON sale_payments (sale_id);
CREATE INDEX ON sale_payments (confirmed_by) WHERE confirmed_by IS NOT NULL;

CREATE INDEX ON debts (store_id, customer_id);
CREATE INDEX ON debts (customer_id, status);
CREATE INDEX ON debts (customer_id, status) WHERE status <> 'paid';
CREATE UNIQUE INDEX ON debts (store_id, sale_id) WHERE sale_id IS NOT NULL;

CREATE INDEX ON debt_payments (debt_id);
CREATE INDEX ON debt_payments (debt_id, amount_usd);

CREATE INDEX ON warehouse_stock (warehouse_id);
CREATE INDEX ON warehouse_stock (product_id);
CREATE INDEX ON warehouse_stock (variant_id) WHERE variant_id IS NOT NULL;
CREATE INDEX ON warehouse_stock (warehouse_id, product_id, variant_id);
CREATE INDEX ON warehouse_stock (warehouse_id, product_id) WHERE variant_id IS NULL;
CREATE INDEX ON warehouse_stock (warehouse_id, product_id, variant_id) WHERE stock > 0 OR reserved > 0;
CREATE INDEX ON warehouse_stock (warehouse_id, product_id, variant_id) WHERE variant_id IS NOT NULL;
CREATE UNIQUE INDEX ON warehouse_stock (warehouse_id, product_id) WHERE variant_id IS NULL;

CREATE INDEX ON inventory_movements (product_id, movement_type);
CREATE INDEX ON inventory_movements (store_id, product_id);
CREATE INDEX ON inventory_movements (store_id, movement_type);
CREATE INDEX ON inventory_movements (approved);
CREATE INDEX ON inventory_movements (variant_id) WHERE variant_id IS NOT NULL;
CREATE INDEX ON inventory_movements (warehouse_id) WHERE warehouse_id IS NOT NULL;
CREATE INDEX ON inventory_movements (store_id, happened_at DESC);
CREATE INDEX ON inventory_movements (store_id, product_id, happened_at DESC);
CREATE INDEX ON inventory_movements (store_id, movement_type, happened_at DESC);

CREATE UNIQUE INDEX ON stock_escrow (store_id, product_id, device_id);
CREATE INDEX ON stock_escrow (store_id, product_id);

CREATE INDEX ON fiscal_invoices (sale_id) WHERE sale_id IS NOT NULL;
CREATE INDEX ON fiscal_invoices (store_id, issued_at DESC) WHERE issued_at IS NOT NULL;
CREATE INDEX ON fiscal_invoices (store_id, invoice_number);
CREATE INDEX ON fiscal_invoices (created_by) WHERE created_by IS NOT NULL;
CREATE INDEX ON fiscal_invoices (invoice_series_id) WHERE invoice_series_id IS NOT NULL;
CREATE INDEX ON fiscal_invoices (store_id);

CREATE INDEX ON cash_ledger_entries (store_id, cash_session_id);
CREATE INDEX ON cash_ledger_entries (event_id);
CREATE UNIQUE INDEX ON cash_ledger_entries (request_id);
CREATE INDEX ON cash_ledger_entries (store_id, created_at);
CREATE INDEX ON cash_ledger_entries (store_id, created_at DESC);

CREATE INDEX ON notifications (store_id);
CREATE INDEX ON notifications (user_id);

CREATE INDEX ON recipe_ingredients (recipe_product_id);
CREATE INDEX ON recipe_ingredients (ingredient_product_id);
