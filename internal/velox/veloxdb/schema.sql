-- The Velox POS database as far as this project reads or writes it: the tables
-- of a live one after all of its migrations, with the columns, keys and checks
-- they have there. product_lots, ml_insights and notification_templates are
-- stubs that foreign keys name. Columns marked "drift" are missing from
-- databases that were built from the POS's committed migrations alone.

CREATE TABLE stores (
    id                      uuid PRIMARY KEY,
    name                    text NOT NULL,
    created_at              timestamptz NOT NULL DEFAULT now(),
    license_status          text NOT NULL DEFAULT 'active',
    license_expires_at      timestamptz,
    license_grace_days      int NOT NULL DEFAULT 3,
    license_plan            text,
    license_notes           text,
    kitchen_public_token    text,
    kitchen_public_pin_hash text,
    settings                jsonb DEFAULT '{}'
);

CREATE TABLE profiles (
    id                uuid PRIMARY KEY,
    full_name         text,
    created_at        timestamptz NOT NULL DEFAULT now(),
    email             varchar(255),
    email_verified    boolean DEFAULT false,
    email_verified_at timestamptz,
    updated_at        timestamptz DEFAULT now()
);

CREATE TABLE products (
    id                   uuid PRIMARY KEY,
    store_id             uuid NOT NULL REFERENCES stores (id) ON DELETE CASCADE,
    name                 text NOT NULL,
    category             text,
    sku                  text,
    barcode              text,
    price_bs             numeric(18,2) NOT NULL DEFAULT 0,
    price_usd            numeric(18,2) NOT NULL DEFAULT 0,
    cost_bs              numeric(18,2) NOT NULL DEFAULT 0,
    cost_usd             numeric(18,2) NOT NULL DEFAULT 0,
    low_stock_threshold  int NOT NULL DEFAULT 0,
    is_active            boolean NOT NULL DEFAULT true,
    updated_at           timestamptz NOT NULL DEFAULT now(),
    is_weight_product    boolean NOT NULL DEFAULT false,
    weight_unit          varchar(10),
    price_per_weight_bs  numeric(18,4),
    price_per_weight_usd numeric(18,4),
    min_weight           numeric(10,3),
    max_weight           numeric(10,3),
    scale_plu            varchar(50),
    scale_department     int,
    cost_per_weight_bs   numeric(18,6),
    cost_per_weight_usd  numeric(18,6),
    created_at           timestamptz NOT NULL DEFAULT now(),
    product_type         varchar(20) NOT NULL DEFAULT 'sale_item',
    is_visible_public    boolean NOT NULL DEFAULT false,
    public_name          text,
    public_description   text,
    public_image_url     text,
    public_category      text,
    image_url            text,
    description          text,
    is_recipe            boolean NOT NULL DEFAULT false,
    profit_margin        numeric(18,2) NOT NULL DEFAULT 0,
    CHECK (weight_unit IN ('kg', 'g', 'lb', 'oz'))
);

CREATE TABLE product_variants (
    id            uuid DEFAULT gen_random_uuid() PRIMARY KEY,
    product_id    uuid NOT NULL REFERENCES products (id) ON DELETE CASCADE,
    variant_type  varchar(50) NOT NULL,
    variant_value varchar(100) NOT NULL,
    sku           text,
    barcode       text,
    price_bs      numeric(18,2),
    price_usd     numeric(18,2),
    is_active     boolean NOT NULL DEFAULT true,
    created_at    timestamptz NOT NULL DEFAULT now(),
    updated_at    timestamptz NOT NULL DEFAULT now(),
    UNIQUE (product_id, variant_type, variant_value)
);

CREATE TABLE customers (
    id             uuid PRIMARY KEY,
    store_id       uuid NOT NULL REFERENCES stores (id) ON DELETE CASCADE,
    name           text NOT NULL,
    phone          text,
    note           text,
    updated_at     timestamptz NOT NULL DEFAULT now(),
    document_id    text,
    email          varchar(255),
    credit_limit   numeric(18,2),
    created_at     timestamptz DEFAULT now(),
    debt_cutoff_at timestamptz
);

CREATE TABLE warehouses (
    id            uuid DEFAULT gen_random_uuid() PRIMARY KEY,
    store_id      uuid NOT NULL REFERENCES stores (id) ON DELETE CASCADE,
    name          varchar(100) NOT NULL,
    code          varchar(50) NOT NULL,
    description   text,
    address       text,
    is_default    boolean NOT NULL DEFAULT false,
    is_active     boolean NOT NULL DEFAULT true,
    note          text,
    created_at    timestamptz NOT NULL DEFAULT now(),
    updated_at    timestamptz NOT NULL DEFAULT now(),
    type          varchar(20) DEFAULT 'STORE',
    capacity      numeric(10,2) DEFAULT 0,
    manager_name  varchar(100),
    contact_phone varchar(50),
    contact_email varchar(100),
    city          varchar(100),
    state         varchar(100),
    zip_code      varchar(20),
    status        varchar(20) DEFAULT 'OPERATIONAL',
    UNIQUE (store_id, code)
);

CREATE TABLE invoice_series (
    id             uuid DEFAULT gen_random_uuid() PRIMARY KEY,
    store_id       uuid NOT NULL REFERENCES stores (id) ON DELETE CASCADE,
    series_code    varchar(10) NOT NULL,
    name           varchar(100) NOT NULL,
    prefix         varchar(20),
    current_number int NOT NULL DEFAULT 0,
    start_number   int NOT NULL DEFAULT 1,
    is_active      boolean NOT NULL DEFAULT true,
    note           text,
    created_at     timestamptz NOT NULL DEFAULT now(),
    updated_at     timestamptz NOT NULL DEFAULT now(),
    UNIQUE (store_id, series_code)
);

CREATE TABLE cash_sessions (
    id                 uuid PRIMARY KEY,
    store_id           uuid NOT NULL REFERENCES stores (id) ON DELETE CASCADE,
    opened_by          uuid,
    opened_at          timestamptz NOT NULL,
    opening_amount_bs  numeric(18,2) NOT NULL DEFAULT 0,
    opening_amount_usd numeric(18,2) NOT NULL DEFAULT 0,
    closed_by          uuid,
    closed_at          timestamptz,
    expected           jsonb,
    counted            jsonb,
    note               text,
    ledger_p_bs        numeric(18,2) DEFAULT 0,
    ledger_n_bs        numeric(18,2) DEFAULT 0,
    ledger_p_usd       numeric(18,2) DEFAULT 0,
    ledger_n_usd       numeric(18,2) DEFAULT 0,
    updated_at         timestamptz NOT NULL DEFAULT now() -- drift
);

CREATE TABLE events (
    event_id            uuid PRIMARY KEY,
    store_id            uuid NOT NULL REFERENCES stores (id) ON DELETE CASCADE,
    device_id           uuid NOT NULL,
    seq                 bigint NOT NULL,
    type                text NOT NULL,
    version             int NOT NULL,
    created_at          timestamptz NOT NULL,
    actor_user_id       uuid,
    actor_role          text,
    payload             jsonb NOT NULL,
    received_at         timestamptz NOT NULL DEFAULT now(),
    vector_clock        jsonb DEFAULT '{}',
    causal_dependencies text[] DEFAULT '{}',
    conflict_status     text DEFAULT 'resolved',
    delta_payload       jsonb,
    full_payload_hash   text,
    request_id          uuid,
    projection_status   text NOT NULL DEFAULT 'pending', -- drift
    projection_error    text -- drift
);

CREATE TABLE outbox_entries (
    id           uuid DEFAULT gen_random_uuid() PRIMARY KEY,
    event_id     varchar(255) NOT NULL,
    event_type   varchar(100) NOT NULL,
    store_id     uuid NOT NULL,
    target       varchar(50) NOT NULL,
    status       varchar(20) NOT NULL DEFAULT 'pending',
    error        text,
    retry_count  int DEFAULT 0,
    created_at   timestamptz DEFAULT now(),
    processed_at timestamptz
);

CREATE TABLE conflict_audit_log (
    id              uuid DEFAULT gen_random_uuid() PRIMARY KEY,
    store_id        uuid NOT NULL,
    entity_type     varchar(50) NOT NULL,
    entity_id       varchar(255),
    winner_event_id varchar(255) NOT NULL,
    loser_event_ids text[] NOT NULL DEFAULT '{}',
    strategy        varchar(50) NOT NULL,
    winner_payload  jsonb,
    loser_payloads  jsonb,
    resolved_at     timestamptz DEFAULT now(),
    resolved_by     varchar(100) DEFAULT 'auto'
);

CREATE TABLE fiscal_sequence_ranges (
    id          uuid DEFAULT gen_random_uuid() PRIMARY KEY,
    store_id    uuid NOT NULL,
    series_id   uuid NOT NULL,
    device_id   varchar(255) NOT NULL,
    range_start bigint NOT NULL,
    range_end   bigint NOT NULL,
    used_up_to  bigint DEFAULT 0,
    status      varchar(20) DEFAULT 'active',
    granted_at  timestamptz DEFAULT now(),
    expires_at  timestamptz NOT NULL,
    UNIQUE (store_id, series_id, device_id, range_start)
);

CREATE TABLE federation_health_snapshots (
    id                     uuid DEFAULT gen_random_uuid() PRIMARY KEY,
    store_id               uuid NOT NULL,
    overall_health         varchar(20) NOT NULL,
    event_lag_count        int DEFAULT 0,
    projection_gap_count   int DEFAULT 0,
    stock_divergence_count int DEFAULT 0,
    negative_stock_count   int DEFAULT 0,
    queue_depth            int DEFAULT 0,
    failed_jobs            int DEFAULT 0,
    remote_reachable       boolean DEFAULT true,
    remote_latency_ms      int,
    snapshot_at            timestamptz DEFAULT now()
);

CREATE TABLE sales (
    id                  uuid PRIMARY KEY,
    store_id            uuid NOT NULL REFERENCES stores (id) ON DELETE CASCADE,
    cash_session_id     uuid REFERENCES cash_sessions (id) ON DELETE SET NULL,
    sold_at             timestamptz NOT NULL,
    exchange_rate       numeric(18,6) NOT NULL DEFAULT 0,
    currency            text NOT NULL,
    totals              jsonb NOT NULL,
    payment             jsonb NOT NULL,
    customer_id         uuid,
    note                text,
    sold_by_user_id     uuid REFERENCES profiles (id) ON DELETE SET NULL,
    invoice_series_id   uuid REFERENCES invoice_series (id) ON DELETE SET NULL,
    invoice_number      varchar(50),
    invoice_full_number varchar(100),
    voided_at           timestamptz,
    voided_by_user_id   uuid,
    void_reason         text,
    sale_number         bigint,
    fiscal_number       varchar(100),
    created_at          timestamptz NOT NULL DEFAULT now(), -- drift
    updated_at          timestamptz NOT NULL DEFAULT now() -- drift
);

CREATE TABLE product_lots (id uuid PRIMARY KEY, product_id uuid NOT NULL REFERENCES products (id) ON DELETE CASCADE);

CREATE TABLE sale_items (
    id                   uuid PRIMARY KEY,
    sale_id              uuid NOT NULL REFERENCES sales (id) ON DELETE CASCADE,
    product_id           uuid NOT NULL REFERENCES products (id) ON DELETE RESTRICT,
    qty                  numeric(18,3) NOT NULL,
    unit_price_bs        numeric(18,4) NOT NULL DEFAULT 0,
    unit_price_usd       numeric(18,4) NOT NULL DEFAULT 0,
    discount_bs          numeric(18,2) NOT NULL DEFAULT 0,
    discount_usd         numeric(18,2) NOT NULL DEFAULT 0,
    variant_id           uuid REFERENCES product_variants (id) ON DELETE SET NULL,
    lot_id               uuid REFERENCES product_lots (id) ON DELETE SET NULL,
    is_weight_product    boolean DEFAULT false,
    weight_unit          varchar(10),
    weight_value         numeric(18,3),
    price_per_weight_bs  numeric(18,4),
    price_per_weight_usd numeric(18,4)
);

CREATE TABLE sale_payments (
    id                 uuid DEFAULT gen_random_uuid() PRIMARY KEY,
    sale_id            uuid NOT NULL REFERENCES sales (id) ON DELETE CASCADE,
    payment_order      int NOT NULL DEFAULT 1,
    method             varchar(20) NOT NULL,
    amount_cents_usd   bigint NOT NULL,
    amount_cents_bs    bigint NOT NULL,
    rate_type          varchar(20) NOT NULL DEFAULT 'BCV',
    applied_rate       numeric(18,6) NOT NULL,
    reference          varchar(100),
    bank_code          varchar(10),
    phone              varchar(20),
    card_last_4        varchar(4),
    authorization_code varchar(20),
    status             varchar(20) NOT NULL DEFAULT 'CONFIRMED',
    confirmed_at       timestamptz,
    confirmed_by       uuid REFERENCES profiles (id) ON DELETE SET NULL,
    note               text,
    created_at         timestamptz NOT NULL DEFAULT now(),
    CHECK (method IN ('CASH_USD', 'CASH_BS', 'PAGO_MOVIL', 'TRANSFER', 'POINT_OF_SALE', 'ZELLE', 'OTHER', 'FIAO')),
    CHECK (amount_cents_usd >= 0 AND amount_cents_bs >= 0),
    CHECK (rate_type IN ('BCV', 'PARALLEL', 'CASH', 'ZELLE')),
    CHECK (status IN ('PENDING', 'CONFIRMED', 'REJECTED', 'REFUNDED'))
);

CREATE TABLE sale_sequences (
    store_id       uuid PRIMARY KEY REFERENCES stores (id) ON DELETE CASCADE,
    current_number bigint NOT NULL DEFAULT 0,
    created_at     timestamptz NOT NULL DEFAULT now(),
    updated_at     timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE debts (
    id              uuid PRIMARY KEY,
    store_id        uuid NOT NULL REFERENCES stores (id) ON DELETE CASCADE,
    sale_id         uuid REFERENCES sales (id) ON DELETE SET NULL,
    customer_id     uuid NOT NULL REFERENCES customers (id) ON DELETE CASCADE,
    created_at      timestamptz NOT NULL,
    amount_bs       numeric(18,2) NOT NULL DEFAULT 0,
    amount_usd      numeric(18,2) NOT NULL DEFAULT 0,
    status          text NOT NULL DEFAULT 'open',
    note            text,
    book_rate_bcv   numeric(18,6),
    book_rate_as_of timestamptz,
    parent_debt_id  uuid -- drift
);

CREATE TABLE debt_payments (
    id              uuid PRIMARY KEY,
    store_id        uuid NOT NULL REFERENCES stores (id) ON DELETE CASCADE,
    debt_id         uuid NOT NULL REFERENCES debts (id) ON DELETE CASCADE,
    paid_at         timestamptz NOT NULL,
    amount_bs       numeric(18,2) NOT NULL DEFAULT 0,
    amount_usd      numeric(18,2) NOT NULL DEFAULT 0,
    method          text NOT NULL,
    note            text,
    bcv_rate        numeric(18,6),
    book_rate_bcv   numeric(18,6),
    fx_gain_loss_bs numeric(18,2)
);

CREATE TABLE warehouse_stock (
    id           uuid DEFAULT gen_random_uuid() PRIMARY KEY,
    warehouse_id uuid NOT NULL REFERENCES warehouses (id) ON DELETE CASCADE,
    product_id   uuid NOT NULL REFERENCES products (id) ON DELETE CASCADE,
    variant_id   uuid REFERENCES product_variants (id) ON DELETE CASCADE,
    stock        numeric(18,3) NOT NULL DEFAULT 0,
    reserved     numeric(18,3) NOT NULL DEFAULT 0,
    updated_at   timestamptz NOT NULL DEFAULT now(),
    UNIQUE (warehouse_id, product_id, variant_id)
);

CREATE TABLE inventory_movements (
    id            uuid PRIMARY KEY,
    store_id      uuid NOT NULL REFERENCES stores (id) ON DELETE CASCADE,
    product_id    uuid NOT NULL REFERENCES products (id) ON DELETE CASCADE,
    movement_type text NOT NULL,
    qty_delta     numeric(18,3) NOT NULL,
    unit_cost_bs  numeric(18,2) NOT NULL DEFAULT 0,
    unit_cost_usd numeric(18,2) NOT NULL DEFAULT 0,
    note          text,
    ref           jsonb,
    happened_at   timestamptz NOT NULL,
    approved      boolean NOT NULL DEFAULT true,
    requested_by  uuid,
    approved_by   uuid,
    approved_at   timestamptz,
    variant_id    uuid REFERENCES product_variants (id) ON DELETE SET NULL,
    warehouse_id  uuid REFERENCES warehouses (id) ON DELETE SET NULL,
    from_escrow   boolean DEFAULT false
);

CREATE TABLE stock_escrow (
    id              uuid PRIMARY KEY,
    store_id        uuid NOT NULL,
    product_id      uuid NOT NULL,
    variant_id      uuid,
    device_id       uuid NOT NULL,
    qty_granted     numeric(18,3) DEFAULT 0,
    expires_at      timestamptz,
    last_updated_at timestamptz DEFAULT now()
);

CREATE TABLE fiscal_invoices (
    id                          uuid DEFAULT gen_random_uuid() PRIMARY KEY,
    store_id                    uuid NOT NULL REFERENCES stores (id) ON DELETE CASCADE,
    sale_id                     uuid REFERENCES sales (id) ON DELETE SET NULL,
    invoice_number              varchar(50) NOT NULL,
    fiscal_number               varchar(100),
    invoice_series_id           uuid REFERENCES invoice_series (id) ON DELETE SET NULL,
    invoice_type                varchar(20) NOT NULL DEFAULT 'invoice',
    status                      varchar(20) NOT NULL DEFAULT 'draft',
    issued_at                   timestamptz,
    cancelled_at                timestamptz,
    issuer_name                 varchar(200) NOT NULL,
    issuer_tax_id               varchar(50) NOT NULL,
    issuer_address              text,
    issuer_phone                varchar(50),
    issuer_email                varchar(255),
    customer_id                 uuid REFERENCES customers (id) ON DELETE SET NULL,
    customer_name               varchar(200),
    customer_tax_id             varchar(50),
    customer_address            text,
    customer_phone              varchar(50),
    customer_email              varchar(255),
    subtotal_bs                 numeric(18,2) NOT NULL DEFAULT 0,
    subtotal_usd                numeric(18,2) NOT NULL DEFAULT 0,
    tax_amount_bs               numeric(18,2) NOT NULL DEFAULT 0,
    tax_amount_usd              numeric(18,2) NOT NULL DEFAULT 0,
    tax_rate                    numeric(5,2) NOT NULL DEFAULT 0,
    discount_bs                 numeric(18,2) NOT NULL DEFAULT 0,
    discount_usd                numeric(18,2) NOT NULL DEFAULT 0,
    total_bs                    numeric(18,2) NOT NULL DEFAULT 0,
    total_usd                   numeric(18,2) NOT NULL DEFAULT 0,
    exchange_rate               numeric(18,6) NOT NULL DEFAULT 0,
    currency                    varchar(20) NOT NULL DEFAULT 'BS',
    fiscal_control_code         varchar(100),
    fiscal_authorization_number varchar(100),
    fiscal_qr_code              text,
    payment_method              varchar(50),
    note                        text,
    created_by                  uuid REFERENCES profiles (id) ON DELETE SET NULL,
    created_at                  timestamptz NOT NULL DEFAULT now(),
    updated_at                  timestamptz NOT NULL DEFAULT now(),
    UNIQUE (store_id, invoice_number),
    CHECK (invoice_type IN ('invoice', 'credit_note', 'debit_note')),
    CHECK (status IN ('draft', 'issued', 'cancelled', 'rejected')),
    CHECK (currency IN ('BS', 'USD', 'MIXED'))
);

CREATE TABLE cash_ledger_entries (
    id              uuid PRIMARY KEY,
    store_id        uuid NOT NULL,
    device_id       uuid,
    seq             bigint,
    vector_clock    jsonb DEFAULT '{}',
    entry_type      text,
    amount_bs       numeric(18,2) DEFAULT 0,
    amount_usd      numeric(18,2) DEFAULT 0,
    currency        varchar(10) DEFAULT 'BS',
    cash_session_id uuid,
    sold_at         timestamptz,
    event_id        uuid,
    request_id      uuid,
    created_at      timestamptz DEFAULT now(),
    metadata        jsonb
);

CREATE TABLE ml_insights (id uuid PRIMARY KEY);
CREATE TABLE notification_templates (id uuid PRIMARY KEY);
CREATE TABLE notifications (
    id                 uuid DEFAULT gen_random_uuid() PRIMARY KEY,
    store_id           uuid NOT NULL REFERENCES stores (id) ON DELETE CASCADE,
    user_id            uuid REFERENCES profiles (id) ON DELETE CASCADE,
    notification_type  varchar(50) NOT NULL,
    category           varchar(50) NOT NULL,
    title              varchar(200) NOT NULL,
    message            text NOT NULL,
    icon               varchar(100),
    action_url         varchar(500),
    action_label       varchar(100),
    priority           varchar(20) NOT NULL DEFAULT 'normal',
    severity           varchar(20),
    entity_type        varchar(50),
    entity_id          uuid,
    metadata           jsonb,
    is_read            boolean NOT NULL DEFAULT false,
    read_at            timestamptz,
    is_delivered       boolean NOT NULL DEFAULT false,
    delivered_at       timestamptz,
    delivery_channels  jsonb,
    expires_at         timestamptz,
    created_at         timestamptz NOT NULL DEFAULT now(),
    ml_insight_id      uuid REFERENCES ml_insights (id),
    template_id        uuid REFERENCES notification_templates (id),
    template_variables jsonb,
    engagement_score   numeric(5,2) DEFAULT 0,
    is_ml_generated    boolean DEFAULT false
);

CREATE TABLE recipe_ingredients (
    id                    uuid DEFAULT gen_random_uuid() PRIMARY KEY,
    recipe_product_id     uuid NOT NULL REFERENCES products (id) ON DELETE CASCADE,
    ingredient_product_id uuid NOT NULL REFERENCES products (id) ON DELETE RESTRICT,
    qty                   numeric(18,3) NOT NULL,
    unit                  varchar(20),
    created_at            timestamptz NOT NULL DEFAULT now(),
    updated_at            timestamptz NOT NULL DEFAULT now(),
    CHECK (qty > 0)
);

CREATE VIEW product_stock AS
SELECT store_id, product_id, sum(qty_delta) AS stock FROM inventory_movements GROUP BY store_id, product_id;

-- The POS backend connects as the owner, whom this does not bind.
ALTER TABLE sale_items ENABLE ROW LEVEL SECURITY;
ALTER TABLE inventory_movements ENABLE ROW LEVEL SECURITY;
ALTER TABLE warehouse_stock ENABLE ROW LEVEL SECURITY;
ALTER TABLE customers ENABLE ROW LEVEL SECURITY;
ALTER TABLE stores ENABLE ROW LEVEL SECURITY;
ALTER TABLE product_variants ENABLE ROW LEVEL SECURITY;
ALTER TABLE invoice_series ENABLE ROW LEVEL SECURITY;
ALTER TABLE fiscal_invoices ENABLE ROW LEVEL SECURITY;
