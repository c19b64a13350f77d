-- Webhook endpoints: where a merchant's own systems are told of events, and what became of each event there.

CREATE TABLE webhook_endpoints (
    merchant              text NOT NULL,
    id                    text NOT NULL,
    url                   text NOT NULL,
    description           text NOT NULL DEFAULT '',
    -- Empty: every type.
    event_types           text[] NOT NULL DEFAULT '{}',
    -- Since when event_types are as they are: each event since then has its delivery.
    subscribed_at         timestamptz NOT NULL DEFAULT clock_timestamp(),
    -- Encrypted (orderplane.adapters.webhook_endpoints.secrets); empty where the endpoint is deleted. Until
    -- previous_secret_until requests are signed by both.
    secret                text NOT NULL,
    previous_secret       text,
    previous_secret_until timestamptz,
    -- A disabled endpoint gets nothing: its deliveries are parked.
    disabled_at           timestamptz,
    disabled_reason       text CHECK (disabled_reason IN ('ByShop', 'Failing', 'Gone')),
    -- The first failure since the last success.
    failing_since         timestamptz,
    -- Rises with every change that a person makes: the ETag.
    version               integer NOT NULL DEFAULT 1,
    -- Who made it, as in crds/actors.py.
    actor                 text,
    created_at            timestamptz NOT NULL DEFAULT now(),
    updated_at            timestamptz NOT NULL DEFAULT now(),
    -- The row stays as long as its deliveries.
    deleted_at            timestamptz,
    PRIMARY KEY (merchant, id),
    CHECK ((disabled_at IS NULL) = (disabled_reason IS NULL))
);
CREATE INDEX webhook_endpoints_deleted ON webhook_endpoints (deleted_at) WHERE deleted_at IS NOT NULL;

-- One row for each event and endpoint, and for each test of an endpoint.
--
-- It has no foreign key to its endpoint: each event would lock the rows of all endpoints, for nothing. An endpoint's
-- row is not deleted before the last of its deliveries.
CREATE TABLE event_deliveries (
    merchant       text NOT NULL,
    endpoint_id    text NOT NULL,
    -- A random id for a test, which is no event of the history.
    event_id       uuid NOT NULL,
    type           text NOT NULL,
    is_test        boolean NOT NULL DEFAULT false,
    state          text NOT NULL DEFAULT 'Waiting' CHECK (state IN ('Waiting', 'Delivered', 'Parked')),
    -- Why it was parked, or why the newest attempt failed.
    reason         text,
    -- The number of the newest attempt: an older one can no longer record its result.
    attempt        integer NOT NULL DEFAULT 0,
    -- The lease of the attempt that is under way: after it, the row of a deliverer that died is free.
    claimed_until  timestamptz,
    due_at         timestamptz NOT NULL DEFAULT now(),
    -- Some time after it the delivery is parked. While no deliverer runs, no time passes.
    first_tried_at timestamptz,
    -- The time of the event.
    created_at     timestamptz NOT NULL,
    ended_at       timestamptz,
    PRIMARY KEY (merchant, endpoint_id, event_id),
    CHECK ((state = 'Waiting') = (ended_at IS NULL))
);
CREATE INDEX event_deliveries_waiting ON event_deliveries (endpoint_id, merchant, due_at) WHERE state = 'Waiting';
CREATE INDEX event_deliveries_by_age ON event_deliveries (endpoint_id, merchant, created_at, event_id);
CREATE INDEX event_deliveries_by_end ON event_deliveries (ended_at) WHERE state <> 'Waiting';

-- The log: one row for each attempt whose end is known.
CREATE TABLE delivery_attempts (
    merchant        text NOT NULL,
    endpoint_id     text NOT NULL,
    event_id        uuid NOT NULL,
    attempt         integer NOT NULL,
    -- When it began: the header webhook-timestamp.
    at              timestamptz NOT NULL,
    url             text NOT NULL,
    -- The status of the answer; null where none came in time.
    status          smallint,
    -- Why it failed; null where it did not.
    reason          text,
    latency_seconds real NOT NULL,
    -- The first 2 kB of the answer.
    answer          text NOT NULL,
    PRIMARY KEY (merchant, endpoint_id, event_id, attempt),
    FOREIGN KEY (merchant, endpoint_id, event_id) REFERENCES event_deliveries ON DELETE CASCADE
);

-- Each event gets its deliveries in its own transaction, so that none is missed, whoever appends it. Subscriptions
-- change under the same lock, alone: an event is either before a change or after it.
CREATE FUNCTION add_event_deliveries() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_advisory_xact_lock_shared(hashtextextended('webhook endpoints ' || NEW.merchant, 0));
    INSERT INTO event_deliveries (merchant, endpoint_id, event_id, type, created_at, state, reason, ended_at)
    SELECT merchant, id, NEW.event_id, NEW.type, NEW.at,
        CASE WHEN disabled_at IS NULL THEN 'Waiting' ELSE 'Parked' END,
        CASE WHEN disabled_at IS NOT NULL THEN 'EndpointDisabled' END,
        CASE WHEN disabled_at IS NOT NULL THEN clock_timestamp() END
    FROM webhook_endpoints
    WHERE merchant = NEW.merchant AND deleted_at IS NULL
      AND (event_types = '{}' OR NEW.type = ANY (event_types));
    RETURN NULL;
END
$$;
CREATE TRIGGER history_deliveries AFTER INSERT ON history FOR EACH ROW EXECUTE FUNCTION add_event_deliveries();

-- The staff of a merchant is told of an endpoint that was disabled.
ALTER TABLE account_messages DROP CONSTRAINT account_messages_kind_check;
ALTER TABLE account_messages ADD CONSTRAINT account_messages_kind_check CHECK (kind IN
    ('Registration', 'NewEmail', 'NewPhone', 'PasswordReset', 'PasswordChanged', 'EmailChanged', 'PhoneChanged',
     'EndpointDisabled'));
-- What it is about where that is not the account: the id of a webhook endpoint.
ALTER TABLE account_messages ADD COLUMN about text;
