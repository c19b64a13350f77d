-- What customers are told: one row per event and channel, written before anything is sent. To whom it goes is
-- looked up in `users` when it is sent, so that nothing here identifies a person.
CREATE TABLE notifications (
    merchant        text NOT NULL,
    event_id        uuid NOT NULL,
    channel         text NOT NULL CHECK (channel IN ('email', 'sms')),
    order_uid       uuid NOT NULL,
    -- The event's number within its order: messages of one order and channel go out by it.
    seq             integer NOT NULL,
    type            text NOT NULL,
    customer        text NOT NULL,
    state           text NOT NULL CHECK (state IN ('Waiting', 'Sent', 'Superseded', 'Skipped', 'Dead')),
    -- Why it ended as it did, or why the last attempt failed.
    reason          text,
    -- The number of the newest attempt: an older one can no longer say how it ended.
    attempt         integer NOT NULL DEFAULT 0,
    -- Attempts of which nobody knows whether they sent. Counted before the attempt is made.
    unknown_attempts          integer NOT NULL DEFAULT 0 CHECK (unknown_attempts >= 0),
    -- Whose attempt is under way keeps the row until then; a dead notifier's is free afterwards.
    claimed_until   timestamptz,
    due_at          timestamptz NOT NULL DEFAULT now(),
    -- It is given up a while after this: the event's time, or that of its replay.
    pending_since     timestamptz NOT NULL,
    -- Sent although a later one of its order was sent already.
    is_forced       boolean NOT NULL DEFAULT false,
    -- The provider's id of the message.
    provider_id     text,
    -- Where the event was read; null where a later one of its order was read first.
    kafka_partition integer,
    kafka_offset    bigint,
    created_at        timestamptz NOT NULL DEFAULT now(),
    ended_at        timestamptz,
    -- When the dead-letter topic had it.
    dead_lettered_at       timestamptz,
    PRIMARY KEY (merchant, event_id, channel),
    CHECK ((state = 'Waiting') = (ended_at IS NULL))
);
CREATE INDEX notifications_waiting ON notifications (channel, due_at) WHERE state = 'Waiting';
CREATE INDEX notifications_of_order ON notifications (merchant, order_uid, channel, seq);
CREATE INDEX notifications_unburied ON notifications (ended_at) WHERE state = 'Dead' AND dead_lettered_at IS NULL;
