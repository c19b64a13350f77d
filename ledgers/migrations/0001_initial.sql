-- The ledgers: what holds of stock, money and shipments. Custom resources show it; they never decide it.
--
-- The primary key of every table of a merchant begins with the merchant, which is the namespace. Every other
-- index begins with the column that selects few rows: without statistics, as in a database that is minutes
-- old, PostgreSQL takes an index that begins with the merchant for as selective as the primary key, and reads
-- all of its rows.
--
-- A trigger refuses each change of state that orderplane.ledgers.states does not allow; a test holds the two
-- lists together. The triggers run AFTER the update and list the pairs in their WHEN clause: a legal change
-- calls no function and takes no further row lock.

CREATE FUNCTION refuse_transition() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% of table % cannot change from % to %',
        TG_ARGV[0], TG_TABLE_NAME, to_jsonb(OLD) ->> TG_ARGV[0], to_jsonb(NEW) ->> TG_ARGV[0]
        USING ERRCODE = 'check_violation', TABLE = TG_TABLE_NAME, CONSTRAINT = TG_NAME;
END
$$;


-- Orders

-- The order gate: one row per order. Every effect locks it first and goes on only in a state that admits the
-- effect.
CREATE TABLE orders (
    merchant        text NOT NULL,
    uid             uuid NOT NULL,
    name            text NOT NULL,
    state           text NOT NULL DEFAULT 'Open' CHECK (state IN ('Open', 'Compensating', 'Sealed')),
    -- Why the order is compensated; set with 'Compensating' and never changed after.
    reason          text,
    message         text,
    is_cancel       boolean NOT NULL DEFAULT false,
    outcome         text CHECK (outcome IN ('Shipped', 'Delivered', 'Failed', 'Cancelled')),
    -- The number of the order's newest history row, without gaps.
    seq             integer NOT NULL DEFAULT 0,
    currency        text NOT NULL,
    -- In minor units of the currency, as every amount.
    total           bigint NOT NULL CHECK (total >= 0),
    traceparent     text,
    opened_at       timestamptz NOT NULL DEFAULT now(),
    compensating_at timestamptz,
    sealed_at       timestamptz,
    finished_at     timestamptz,
    PRIMARY KEY (merchant, uid),
    CHECK ((state = 'Sealed') = (outcome IS NOT NULL)),
    CHECK (state <> 'Compensating' OR reason IS NOT NULL)
);
CREATE INDEX orders_unsealed ON orders (merchant, uid) WHERE state <> 'Sealed';
CREATE INDEX orders_by_name ON orders (name, merchant);

CREATE TRIGGER orders_state AFTER UPDATE OF state ON orders FOR EACH ROW
WHEN (OLD.state <> NEW.state AND (OLD.state, NEW.state) NOT IN (
    ('Open', 'Compensating'), ('Open', 'Sealed'), ('Compensating', 'Sealed')))
EXECUTE FUNCTION refuse_transition('state');

CREATE TRIGGER orders_outcome AFTER UPDATE OF outcome ON orders FOR EACH ROW
WHEN (OLD.outcome <> NEW.outcome AND (OLD.outcome, NEW.outcome) NOT IN (('Shipped', 'Delivered')))
EXECUTE FUNCTION refuse_transition('outcome');

-- Products and stock

CREATE TABLE products (
    merchant     text NOT NULL,
    sku          text NOT NULL,
    name         text NOT NULL,
    description  text NOT NULL DEFAULT '',
    -- The price that holds where an order names no currency; other_prices has those in other currencies.
    currency     text NOT NULL,
    unit_amount  bigint NOT NULL CHECK (unit_amount >= 0),
    other_prices jsonb NOT NULL DEFAULT '{}',
    weight_grams integer NOT NULL CHECK (weight_grams > 0),
    is_active    boolean NOT NULL DEFAULT true,
    -- Rises with every change: the ETag of the product.
    version      integer NOT NULL DEFAULT 1,
    -- 'simple' knows no language: names and SKUs are not stemmed.
    search       tsvector NOT NULL
        GENERATED ALWAYS AS (to_tsvector('simple', sku || ' ' || name || ' ' || description)) STORED,
    created_at   timestamptz NOT NULL DEFAULT now(),
    updated_at   timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (merchant, sku)
);
CREATE INDEX products_by_text ON products USING gin (search);

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
    -- The first count: on_hand is always this and the sum of the movements.
    opening  bigint NOT NULL CHECK (opening >= 0),
    on_hand  bigint NOT NULL CHECK (on_hand >= 0),
    reserved bigint NOT NULL DEFAULT 0 CHECK (reserved BETWEEN 0 AND on_hand),
    PRIMARY KEY (merchant, sku)
);

CREATE TABLE reservations (
    merchant   text NOT NULL,
    -- The order's uid, or the uid of the Reservation itself where it has no order.
    holder     uuid NOT NULL,
    order_uid  uuid,
    name       text NOT NULL,
    state      text NOT NULL CHECK (state IN
        ('Held', 'Pinned', 'Committed', 'Rejected', 'Expired', 'Lost', 'Released')),
    message    text,
    expires_at timestamptz NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (merchant, holder)
);
CREATE INDEX reservations_by_name ON reservations (name, merchant);
-- Those without an order: nobody but the expiry ends them where their resource is gone.
CREATE INDEX reservations_standalone ON reservations (expires_at) WHERE order_uid IS NULL AND state = 'Held';

CREATE TRIGGER reservations_state AFTER UPDATE OF state ON reservations FOR EACH ROW
WHEN (OLD.state <> NEW.state AND (OLD.state, NEW.state) NOT IN (
    ('Held', 'Pinned'), ('Held', 'Expired'), ('Held', 'Lost'), ('Held', 'Released'),
    ('Pinned', 'Committed'), ('Pinned', 'Lost'), ('Pinned', 'Released'),
    ('Committed', 'Released'), ('Lost', 'Committed')))
EXECUTE FUNCTION refuse_transition('state');

CREATE TABLE reservation_lines (
    merchant text NOT NULL,
    holder   uuid NOT NULL,
    sku      text NOT NULL,
    quantity bigint NOT NULL CHECK (quantity > 0),
    PRIMARY KEY (merchant, holder, sku),
    FOREIGN KEY (merchant, holder) REFERENCES reservations
);
CREATE INDEX reservation_lines_by_sku ON reservation_lines (sku, merchant);

CREATE TABLE stock_movements (
    id             bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    merchant       text NOT NULL,
    sku            text NOT NULL,
    on_hand_delta  bigint NOT NULL,
    reserved_delta bigint NOT NULL,
    kind           text NOT NULL CHECK (kind IN
        ('Hold', 'Release', 'Expire', 'Lose', 'Commit', 'Return', 'Recount', 'Adjust')),
    -- The reservation; null where a merchant corrected the stock, whose reason is in note.
    holder         uuid,
    note           text,
    -- clock_timestamp() under the locks of the effect: now() is the start of the transaction, which is not in
    -- the order of the effects.
    at             timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX stock_movements_by_sku ON stock_movements (sku, merchant, id);
CREATE INDEX stock_movements_by_holder ON stock_movements (holder, merchant);

-- Payments

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
    -- Parts of the idempotency keys. They rise only once the provider is known not to have acted on the last
    -- one.
    create_attempt  integer NOT NULL DEFAULT 1,
    confirm_attempt integer NOT NULL DEFAULT 0,
    captured        bigint NOT NULL DEFAULT 0 CHECK (captured >= 0),
    reason          text,
    message         text,
    created_at      timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (merchant, order_uid)
);
CREATE INDEX payments_by_name ON payments (name, merchant);

CREATE TRIGGER payments_state AFTER UPDATE OF state ON payments FOR EACH ROW
WHEN (OLD.state <> NEW.state AND (OLD.state, NEW.state) NOT IN (
    ('Intended', 'Captured'), ('Intended', 'Declined'), ('Intended', 'Cancelled'),
    ('Declined', 'Captured'), ('Declined', 'Cancelled'), ('Captured', 'Refunded')))
EXECUTE FUNCTION refuse_transition('state');

CREATE TABLE refunds (
    id          uuid PRIMARY KEY,
    merchant    text NOT NULL,
    order_uid   uuid NOT NULL,
    amount      bigint NOT NULL CHECK (amount > 0),
    state       text NOT NULL DEFAULT 'Requested' CHECK (state IN
        ('Requested', 'Pending', 'Succeeded', 'Failed', 'SettledByHand', 'NotNeeded')),
    provider_id text UNIQUE,
    -- Part of the idempotency key, as in payments.
    attempt     integer NOT NULL DEFAULT 1,
    reason      text,
    -- Who settled it by hand, and where that can be looked up.
    reference   text,
    created_at  timestamptz NOT NULL DEFAULT now(),
    FOREIGN KEY (merchant, order_uid) REFERENCES payments
);
CREATE INDEX refunds_by_order ON refunds (order_uid, merchant);

CREATE TRIGGER refunds_state AFTER UPDATE OF state ON refunds FOR EACH ROW
WHEN (OLD.state <> NEW.state AND (OLD.state, NEW.state) NOT IN (
    ('Requested', 'Pending'), ('Requested', 'Succeeded'), ('Requested', 'Failed'), ('Requested', 'NotNeeded'),
    ('Pending', 'Succeeded'), ('Pending', 'Failed'),
    ('Failed', 'Requested'), ('Failed', 'Pending'), ('Failed', 'Succeeded'), ('Failed', 'SettledByHand'),
    ('Failed', 'NotNeeded')))
EXECUTE FUNCTION refuse_transition('state');

-- Money that left a payment without us: a refund that somebody made at the provider, or a dispute that the
-- customer won.
CREATE TABLE withdrawals (
    id          uuid PRIMARY KEY,
    merchant    text NOT NULL,
    order_uid   uuid NOT NULL,
    provider_id text NOT NULL UNIQUE,
    kind        text NOT NULL CHECK (kind IN ('Refund', 'Dispute')),
    amount      bigint NOT NULL CHECK (amount > 0),
    -- Several may be found at once; they keep their order.
    created_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    FOREIGN KEY (merchant, order_uid) REFERENCES payments
);
CREATE INDEX withdrawals_by_order ON withdrawals (order_uid, merchant);

-- Shipments

CREATE TABLE shipments (
    merchant          text NOT NULL,
    order_uid         uuid NOT NULL,
    name              text NOT NULL,
    state             text NOT NULL DEFAULT 'Intended' CHECK (state IN
        ('Intended', 'Bought', 'Refused', 'Voided', 'Cancelled', 'Stray', 'Discarded')),
    provider_id       text UNIQUE,
    rate_id           text,
    -- When the newest purchase call was begun, by the clock of this database: for some time after it, a carrier
    -- that knows no label may still sell one.
    buy_begun_at      timestamptz,
    carrier           text,
    service           text,
    tracking_code     text,
    tracker_id        text,
    tracking_url      text,
    cost              bigint,
    cost_currency     text,
    void_state        text NOT NULL DEFAULT 'None' CHECK (void_state IN
        ('None', 'Submitted', 'Refunded', 'Rejected', 'NotApplicable', 'SettledByHand')),
    -- Who settled it by hand, and where that can be looked up.
    void_reference    text,
    tracking_status   text NOT NULL DEFAULT 'PreTransit' CHECK (tracking_status IN
        ('PreTransit', 'InTransit', 'Delivered', 'Returned', 'Failed', 'Cancelled', 'Unclear')),
    -- When the carrier is asked next; null where no answer is awaited any more.
    next_poll_at      timestamptz,
    poll_count        integer NOT NULL DEFAULT 0,
    -- The parcels that are handed over together, and until when a scheduler works on them.
    pickup_batch      uuid,
    pickup_claimed_at timestamptz,
    -- The carrier's id of a pickup that was created and is not confirmed: it is booked, never created again.
    pickup_id         text,
    -- The carrier's confirmation of the booked pickup.
    pickup            text,
    reason            text,
    message           text,
    -- Whether order.shipped is in the history: a label that was recorded while compensating ships nothing.
    is_shipped        boolean NOT NULL DEFAULT false,
    created_at        timestamptz NOT NULL DEFAULT now(),
    bought_at         timestamptz,
    PRIMARY KEY (merchant, order_uid)
);
CREATE INDEX shipments_by_name ON shipments (name, merchant);
CREATE INDEX shipments_to_collect ON shipments (merchant, order_uid) WHERE state = 'Bought' AND pickup IS NULL;
CREATE INDEX shipments_by_pickup ON shipments (pickup_batch) WHERE pickup_batch IS NOT NULL;
CREATE INDEX shipments_to_poll ON shipments (next_poll_at) WHERE next_poll_at IS NOT NULL;
CREATE INDEX shipments_stray ON shipments (merchant, order_uid) WHERE state = 'Stray';

CREATE TRIGGER shipments_state AFTER UPDATE OF state ON shipments FOR EACH ROW
WHEN (OLD.state <> NEW.state AND (OLD.state, NEW.state) NOT IN (
    ('Intended', 'Bought'), ('Intended', 'Refused'), ('Intended', 'Cancelled'), ('Bought', 'Voided'),
    ('Refused', 'Stray'), ('Cancelled', 'Stray'), ('Stray', 'Discarded')))
EXECUTE FUNCTION refuse_transition('state');

CREATE TRIGGER shipments_void_state AFTER UPDATE OF void_state ON shipments FOR EACH ROW
WHEN (OLD.void_state <> NEW.void_state AND (OLD.void_state, NEW.void_state) NOT IN (
    ('None', 'Submitted'), ('None', 'Refunded'), ('None', 'Rejected'), ('None', 'NotApplicable'),
    ('None', 'SettledByHand'), ('Rejected', 'Submitted'), ('Rejected', 'Refunded'), ('Rejected', 'NotApplicable'),
    ('Rejected', 'SettledByHand')))
EXECUTE FUNCTION refuse_transition('void_state');

CREATE TRIGGER shipments_tracking_status AFTER UPDATE OF tracking_status ON shipments FOR EACH ROW
WHEN (OLD.tracking_status <> NEW.tracking_status AND (OLD.tracking_status, NEW.tracking_status) NOT IN (
    ('PreTransit', 'InTransit'), ('PreTransit', 'Delivered'), ('PreTransit', 'Returned'),
    ('PreTransit', 'Failed'), ('PreTransit', 'Cancelled'), ('PreTransit', 'Unclear'),
    ('InTransit', 'Delivered'), ('InTransit', 'Returned'), ('InTransit', 'Failed'),
    ('InTransit', 'Cancelled'), ('InTransit', 'Unclear'), ('Failed', 'InTransit'), ('Failed', 'Delivered'),
    ('Failed', 'Returned'), ('Failed', 'Cancelled'), ('Failed', 'Unclear'), ('Cancelled', 'InTransit'),
    ('Cancelled', 'Delivered'), ('Cancelled', 'Returned'), ('Cancelled', 'Failed'),
    ('Cancelled', 'Unclear'), ('Unclear', 'InTransit'), ('Unclear', 'Delivered'), ('Unclear', 'Returned'),
    ('Unclear', 'Failed'), ('Unclear', 'Cancelled'), ('Returned', 'Delivered'), ('Returned', 'Failed'),
    ('Returned', 'Cancelled'), ('Returned', 'Unclear')))
EXECUTE FUNCTION refuse_transition('tracking_status');

-- One order with the state of its three ledgers.
CREATE VIEW order_gates AS
SELECT o.merchant, o.uid, o.name, o.state, o.outcome, o.reason, o.message, o.is_cancel, o.finished_at,
    r.state AS reservation, r.message AS reservation_message,
    p.state AS payment, p.reason AS payment_reason, p.message AS payment_message,
    s.state AS shipment, s.reason AS shipment_reason, s.message AS shipment_message,
    s.tracking_status, s.tracking_code, s.tracking_url, s.carrier
FROM orders o
LEFT JOIN reservations r ON r.merchant = o.merchant AND r.holder = o.uid
LEFT JOIN payments p ON p.merchant = o.merchant AND p.order_uid = o.uid
LEFT JOIN shipments s ON s.merchant = o.merchant AND s.order_uid = o.uid;

-- History and outbox

-- What happened, in order and for ever. The rows without published_at are the outbox: Kafka does not have
-- them yet. They are selected by that, never by a cursor over id: a transaction can commit after one that got
-- a higher id.
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
    -- The relay's share of work: all rows of one subject are in one outbox partition.
    partition    smallint NOT NULL,
    at           timestamptz NOT NULL DEFAULT clock_timestamp(),
    published_at timestamptz,
    UNIQUE (subject, seq)
);
CREATE INDEX history_unpublished ON history (partition, id) WHERE published_at IS NULL;

-- Idempotency

CREATE TABLE idempotency (
    merchant      text NOT NULL,
    principal     text NOT NULL,
    key_hash      bytea NOT NULL,
    fingerprint   bytea NOT NULL,
    -- The resource that is created for the key, and all of it, so that a row whose resource was never created
    -- can be finished. All three are null where the effect is in the transaction that stores the response. The
    -- manifest holds an address: it goes as soon as there is a response.
    kind          text CHECK (kind IN ('Order', 'Reservation')),
    name          text,
    manifest      jsonb,
    status        smallint,
    body          text,
    -- The number of the newest claim: a process with an older one may no longer release the row.
    attempt       integer NOT NULL DEFAULT 1,
    -- A row without a response whose claim is over is finished by the next request.
    claimed_until timestamptz NOT NULL DEFAULT now(),
    created_at    timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (merchant, principal, key_hash),
    CHECK ((status IS NULL) = (body IS NULL)),
    CHECK ((kind IS NULL) = (name IS NULL)),
    CHECK (kind IS NOT NULL OR manifest IS NULL),
    CHECK (kind IS NULL OR manifest IS NOT NULL OR status IS NOT NULL)
);
CREATE INDEX idempotency_by_name ON idempotency (name, merchant);
CREATE INDEX idempotency_by_age ON idempotency (created_at);

-- Identity

-- Customers and the merchant's staff. Personal data is in this table and, for a few days, in account_messages and
-- registrations; in no other table, in no resource (but the shipping address of an order), event, span or log.
CREATE TABLE users (
    merchant      text NOT NULL,
    id            text NOT NULL,
    -- In lower case, its domain in A-labels (RFC 5890): one address is one user of a merchant. The collation makes
    -- the check one of ASCII; each locale has other rules for the rest.
    email         text NOT NULL CHECK (email = lower(email COLLATE "C")),
    -- When its owner has shown that they read what is sent to it; null where an admin has made the account and
    -- nobody has shown that.
    email_confirmed_at timestamptz,
    name          text NOT NULL DEFAULT '',
    -- E.164, confirmed by its owner; null where there is none.
    phone         text,
    -- They take the place of the others once they are confirmed.
    unconfirmed_email text,
    unconfirmed_phone text,
    role          text NOT NULL DEFAULT 'customer' CHECK (role IN ('customer', 'merchant', 'admin')),
    password_hash text NOT NULL,
    -- The channels that the user wants messages through.
    preferences   jsonb NOT NULL DEFAULT '{"email": true, "sms": false}',
    created_at    timestamptz NOT NULL DEFAULT now(),
    updated_at    timestamptz NOT NULL DEFAULT now(),
    -- The row of a deleted user stays as long as its tokens may be valid, without any personal data.
    deleted_at    timestamptz,
    PRIMARY KEY (merchant, id)
);
CREATE UNIQUE INDEX users_by_email ON users (merchant, email) WHERE deleted_at IS NULL;
-- Every gateway caches accounts and reads twice a second which of them have changed.
CREATE INDEX users_by_change ON users (updated_at);

-- Services that call on their own behalf.
CREATE TABLE clients (
    merchant    text NOT NULL,
    id          text NOT NULL,
    name        text NOT NULL,
    -- SHA-256 is enough: the secret is 256 random bits.
    secret_hash bytea NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT now(),
    revoked_at  timestamptz,
    PRIMARY KEY (merchant, id)
);

-- One login, and the family of refresh tokens that came from it.
CREATE TABLE logins (
    merchant   text NOT NULL,
    id         uuid NOT NULL,
    user_id    text NOT NULL,
    scopes     text[] NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz NOT NULL,
    revoked_at timestamptz,
    PRIMARY KEY (merchant, id),
    FOREIGN KEY (merchant, user_id) REFERENCES users
);
-- Those that have ended are purged.
CREATE INDEX logins_by_end ON logins (least(expires_at, revoked_at));
CREATE INDEX logins_of_user ON logins (user_id, merchant) WHERE revoked_at IS NULL;
CREATE INDEX logins_by_revocation ON logins (revoked_at) WHERE revoked_at IS NOT NULL;

-- From where a user has logged in before: guesses from elsewhere do not lock them out there.
CREATE TABLE known_addresses (
    merchant   text NOT NULL,
    user_id    text NOT NULL,
    -- A hash of the user and the network.
    hash       bytea NOT NULL,
    expires_at timestamptz NOT NULL,
    PRIMARY KEY (merchant, user_id, hash),
    FOREIGN KEY (merchant, user_id) REFERENCES users
);
CREATE INDEX known_addresses_by_expiry ON known_addresses (expires_at);

-- Used tokens stay as long as their family: a used one that is presented again was stolen.
CREATE TABLE refresh_tokens (
    merchant text NOT NULL,
    hash     bytea NOT NULL,
    login    uuid NOT NULL,
    used_at  timestamptz,
    PRIMARY KEY (merchant, hash),
    FOREIGN KEY (merchant, login) REFERENCES logins ON DELETE CASCADE
);
CREATE INDEX refresh_tokens_of_login ON refresh_tokens (login, merchant);

-- Account messages

-- Mails and SMS about accounts: those that have an address confirmed, and notices. A row is written by the
-- gateway and sent by the notifier, which makes the secret of a link or code while it sends: nobody else ever has
-- it, and here are only its hashes.
CREATE TABLE account_messages (
    id               uuid PRIMARY KEY,
    merchant         text NOT NULL,
    channel          text NOT NULL CHECK (channel IN ('email', 'sms')),
    kind             text NOT NULL CHECK (kind IN
        ('Registration', 'NewEmail', 'NewPhone', 'PasswordReset',
         'PasswordChanged', 'EmailChanged', 'PhoneChanged')),
    -- Null for a registration, and for a reset until it is sent: a request does not look whether there is an
    -- account, so that its time does not tell.
    user_id          text,
    -- A mail address or a number; erased a day after the message has expired.
    address          text,
    -- SHA-256 of the address: how many messages it gets is counted over all merchants.
    recipient        bytea,
    -- One for each attempt that may have been sent.
    secret_hashes    bytea[] NOT NULL DEFAULT '{}',
    guesses          integer NOT NULL DEFAULT 0,
    state            text NOT NULL DEFAULT 'Waiting' CHECK (state IN ('Waiting', 'Sent', 'Skipped', 'Dead')),
    -- As in notifications.
    reason           text,
    attempt          integer NOT NULL DEFAULT 0,
    unknown_attempts integer NOT NULL DEFAULT 0 CHECK (unknown_attempts >= 0),
    claimed_until    timestamptz,
    due_at           timestamptz NOT NULL DEFAULT now(),
    provider_id      text,
    created_at       timestamptz NOT NULL DEFAULT now(),
    ended_at         timestamptz,
    -- Counted from each attempt to send it: the time that a mail server was down is not its reader's.
    expires_at       timestamptz NOT NULL DEFAULT now() + interval '2 days',
    used_at          timestamptz,
    CHECK ((state = 'Waiting') = (ended_at IS NULL))
);
CREATE INDEX account_messages_waiting ON account_messages (channel, due_at) WHERE state = 'Waiting';
CREATE INDEX account_messages_of_user ON account_messages (user_id, merchant) WHERE address IS NOT NULL;
CREATE INDEX account_messages_to_recipient ON account_messages (recipient, created_at);
CREATE INDEX account_messages_by_expiry ON account_messages (expires_at) WHERE address IS NOT NULL;

-- What becomes a user once the message is confirmed.
CREATE TABLE registrations (
    message       uuid PRIMARY KEY REFERENCES account_messages ON DELETE CASCADE,
    password_hash text NOT NULL,
    name          text NOT NULL,
    phone         text
);

-- Notifications

-- The messages to customers: one row per event and channel, written before anything is sent. The recipient is
-- looked up in users when it is sent, so that no personal data is here.
CREATE TABLE notifications (
    merchant         text NOT NULL,
    event_id         uuid NOT NULL,
    channel          text NOT NULL CHECK (channel IN ('email', 'sms')),
    order_uid        uuid NOT NULL,
    -- The event's number within its order: messages of one order and channel are sent in this order.
    seq              integer NOT NULL,
    type             text NOT NULL,
    customer         text NOT NULL,
    state            text NOT NULL CHECK (state IN ('Waiting', 'Sent', 'Superseded', 'Skipped', 'Dead')),
    -- Why it ended, or why the newest attempt failed.
    reason           text,
    -- The number of the newest attempt: an older one can no longer record its result.
    attempt          integer NOT NULL DEFAULT 0,
    -- Attempts whose result is unknown; counted before the attempt is made.
    unknown_attempts integer NOT NULL DEFAULT 0 CHECK (unknown_attempts >= 0),
    -- The lease of the attempt that is under way: after it, the row of a notifier that died is free.
    claimed_until    timestamptz,
    due_at           timestamptz NOT NULL DEFAULT now(),
    -- The time of the event or of its replay.
    pending_since    timestamptz NOT NULL,
    -- Some time after it, and after a replay, the message is given up. While no notifier runs, no time passes.
    first_tried_at   timestamptz,
    -- Sent although a later message of its order was sent before.
    is_forced        boolean NOT NULL DEFAULT false,
    -- The provider's id of the message.
    provider_id      text,
    -- Where the event was read; null where a later event of its order was read first.
    kafka_partition  integer,
    kafka_offset     bigint,
    created_at       timestamptz NOT NULL DEFAULT now(),
    ended_at         timestamptz,
    -- When the dead-letter topic had it.
    dead_lettered_at timestamptz,
    PRIMARY KEY (merchant, event_id, channel),
    CHECK ((state = 'Waiting') = (ended_at IS NULL))
);
CREATE INDEX notifications_waiting ON notifications (channel, due_at) WHERE state = 'Waiting';
CREATE INDEX notifications_of_order ON notifications (order_uid, merchant, channel, seq);
CREATE INDEX notifications_to_dead_letter ON notifications (ended_at)
    WHERE state = 'Dead' AND dead_lettered_at IS NULL;
