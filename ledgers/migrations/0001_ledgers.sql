-- The truth about stock, money and parcels. Custom resources tell people about it; they never decide it.
-- Every key and every query starts with the merchant, which is the namespace.

-- The gate: one row per order. Every effect locks it first and goes on only in the right state.
CREATE TABLE orders (
    merchant    text NOT NULL,
    uid         uuid NOT NULL,
    name        text NOT NULL,
    state       text NOT NULL DEFAULT 'Open' CHECK (state IN ('Open', 'Compensating', 'Sealed')),
    -- Why it is being undone; set with 'Compensating' and never changed after.
    reason      text,
    message     text,
    is_cancel   boolean NOT NULL DEFAULT false,
    outcome     text CHECK (outcome IN ('Shipped', 'Delivered', 'Failed', 'Cancelled')),
    -- The number of the order's newest history row; gapless.
    seq         integer NOT NULL DEFAULT 0,
    currency    text NOT NULL,
    total       bigint NOT NULL CHECK (total >= 0),
    traceparent text,
    opened_at   timestamptz NOT NULL DEFAULT now(),
    compensating_at  timestamptz,
    sealed_at   timestamptz,
    finished_at timestamptz,
    PRIMARY KEY (merchant, uid),
    CHECK ((state = 'Sealed') = (outcome IS NOT NULL)),
    CHECK (state <> 'Compensating' OR reason IS NOT NULL)
);
CREATE INDEX orders_unfinished ON orders (merchant, uid) WHERE state <> 'Sealed';
CREATE INDEX orders_by_name ON orders (merchant, name);

CREATE TABLE products (
    merchant     text NOT NULL,
    sku          text NOT NULL,
    name         text NOT NULL,
    description  text NOT NULL DEFAULT '',
    currency     text NOT NULL,
    unit_amount  bigint NOT NULL CHECK (unit_amount >= 0),
    weight_grams integer NOT NULL CHECK (weight_grams > 0),
    is_active    boolean NOT NULL DEFAULT true,
    created_at   timestamptz NOT NULL DEFAULT now(),
    updated_at   timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (merchant, sku)
);

-- What is added to the sum of the lines, per currency. A currency without a row ships free and untaxed.
CREATE TABLE price_rules (
    merchant         text NOT NULL,
    currency         text NOT NULL,
    shipping_amount  bigint NOT NULL DEFAULT 0 CHECK (shipping_amount >= 0),
    tax_basis_points integer NOT NULL DEFAULT 0 CHECK (tax_basis_points BETWEEN 0 AND 10000),
    PRIMARY KEY (merchant, currency)
);

CREATE TABLE stock (
    merchant text NOT NULL,
    sku      text NOT NULL,
    opening  bigint NOT NULL CHECK (opening >= 0),
    on_hand  bigint NOT NULL CHECK (on_hand >= 0),
    reserved bigint NOT NULL DEFAULT 0 CHECK (reserved BETWEEN 0 AND on_hand),
    PRIMARY KEY (merchant, sku)
);

-- The holder is the order, or the Reservation itself where it was asked for without an order.
CREATE TABLE reservations (
    merchant   text NOT NULL,
    holder     uuid NOT NULL,
    order_uid  uuid,
    name       text NOT NULL,
    state      text NOT NULL CHECK (state IN
        ('Held', 'Pinned', 'Committed', 'Rejected', 'Expired', 'Lost', 'Released')),
    message    text,
    expires_at timestamptz NOT NULL,
    created_at    timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (merchant, holder)
);

CREATE INDEX reservations_by_name ON reservations (merchant, name);

CREATE TABLE reservation_lines (
    merchant text NOT NULL,
    holder   uuid NOT NULL,
    sku      text NOT NULL,
    quantity bigint NOT NULL CHECK (quantity > 0),
    PRIMARY KEY (merchant, holder, sku),
    FOREIGN KEY (merchant, holder) REFERENCES reservations
);
CREATE INDEX reservation_lines_by_sku ON reservation_lines (merchant, sku);

CREATE TABLE stock_movements (
    id             bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    merchant       text NOT NULL,
    sku            text NOT NULL,
    on_hand_delta  bigint NOT NULL,
    reserved_delta bigint NOT NULL,
    kind           text NOT NULL CHECK (kind IN
        ('Hold', 'Release', 'Expire', 'Lose', 'Commit', 'Return', 'Recount')),
    holder         uuid,
    note           text,
    -- The wall clock under the gate's lock: transactions' own times would not be in the order of effects.
    at             timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX stock_movements_by_sku ON stock_movements (merchant, sku, id);
CREATE INDEX stock_movements_by_holder ON stock_movements (merchant, holder);

CREATE TABLE payments (
    merchant        text NOT NULL,
    order_uid       uuid NOT NULL,
    name            text NOT NULL,
    amount          bigint NOT NULL CHECK (amount >= 0),
    currency        text NOT NULL,
    method          text NOT NULL,
    state           text NOT NULL DEFAULT 'Intended' CHECK (state IN
        ('Intended', 'Captured', 'Declined', 'Cancelled', 'Refunded')),
    intent_id       text UNIQUE,
    -- Part of the idempotency keys. They rise only when the provider was seen not to have acted.
    create_attempt  integer NOT NULL DEFAULT 1,
    confirm_attempt integer NOT NULL DEFAULT 0,
    captured        bigint NOT NULL DEFAULT 0 CHECK (captured >= 0),
    reason          text,
    message         text,
    created_at         timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (merchant, order_uid)
);

CREATE INDEX payments_by_name ON payments (merchant, name);

CREATE TABLE refunds (
    id          uuid PRIMARY KEY,
    merchant    text NOT NULL,
    order_uid   uuid NOT NULL,
    amount      bigint NOT NULL CHECK (amount > 0),
    state       text NOT NULL DEFAULT 'Requested' CHECK (state IN
        ('Requested', 'Pending', 'Succeeded', 'Failed', 'SettledByHand')),
    provider_id text UNIQUE,
    attempt     integer NOT NULL DEFAULT 1,
    reason      text,
    -- Who settled it by hand and where to look that up.
    reference   text,
    created_at     timestamptz NOT NULL DEFAULT now(),
    FOREIGN KEY (merchant, order_uid) REFERENCES payments
);
CREATE INDEX refunds_by_order ON refunds (merchant, order_uid);

CREATE TABLE shipments (
    merchant      text NOT NULL,
    order_uid     uuid NOT NULL,
    name          text NOT NULL,
    state         text NOT NULL DEFAULT 'Intended' CHECK (state IN
        ('Intended', 'Bought', 'Refused', 'Voided', 'Cancelled')),
    provider_id   text UNIQUE,
    rate_id       text,
    carrier       text,
    service       text,
    tracking_code text,
    tracker_id    text,
    tracking_url  text,
    cost          bigint,
    cost_currency text,
    void_state    text NOT NULL DEFAULT 'None',
    tracking_status text NOT NULL DEFAULT 'PreTransit' CHECK (tracking_status IN
        ('PreTransit', 'InTransit', 'Delivered', 'Returned')),
    -- When the buying call was last begun: until a while after it, "no label" is not an answer.
    buy_begun_at  timestamptz,
    pickup_batch  uuid,
    pickup_claimed_at timestamptz,
    pickup        text,
    -- When the carrier is asked next; null where there is nothing left to ask.
    next_poll_at       timestamptz,
    poll_count         integer NOT NULL DEFAULT 0,
    reason        text,
    message       text,
    created_at       timestamptz NOT NULL DEFAULT now(),
    bought_at     timestamptz,
    -- Whether order.shipped was told; a label that came only while undoing ships nothing.
    is_shipped    boolean NOT NULL DEFAULT false,
    PRIMARY KEY (merchant, order_uid)
);
CREATE INDEX shipments_by_name ON shipments (merchant, name);
CREATE INDEX shipments_to_collect ON shipments (merchant, order_uid)
    WHERE state = 'Bought' AND pickup IS NULL;
CREATE INDEX shipments_by_pickup ON shipments (pickup_batch) WHERE pickup_batch IS NOT NULL;
CREATE INDEX shipments_to_poll ON shipments (next_poll_at) WHERE next_poll_at IS NOT NULL;

-- What happened, in order, for ever; and, while published_at is null, what Kafka has not been told yet.
-- Selected by "unpublished", never by a cursor over id: a transaction can commit after one with a higher id.
CREATE TABLE history (
    id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    event_id     uuid NOT NULL UNIQUE,
    merchant     text NOT NULL,
    -- The order's uid, or that of a Reservation without an order: the Kafka key.
    subject      uuid NOT NULL,
    name         text NOT NULL,
    seq          integer NOT NULL,
    type         text NOT NULL,
    data         jsonb NOT NULL,
    traceparent  text,
    -- Which relay worker publishes it; all rows of one subject share a partition.
    partition         smallint NOT NULL,
    at           timestamptz NOT NULL DEFAULT clock_timestamp(),
    published_at timestamptz,
    UNIQUE (subject, seq)
);
CREATE INDEX history_unpublished ON history (partition, id) WHERE published_at IS NULL;

CREATE TABLE idempotency (
    merchant    text NOT NULL,
    principal   text NOT NULL,
    key_hash    bytea NOT NULL,
    fingerprint bytea NOT NULL,
    order_name  text NOT NULL,
    -- The priced order, so that a row whose resource never came to be can be finished.
    manifest    jsonb NOT NULL,
    status      smallint,
    body        text,
    created_at     timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (merchant, principal, key_hash)
);
CREATE INDEX idempotency_by_order ON idempotency (merchant, order_name);
