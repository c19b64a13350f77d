-- Refunds after the sale: one row for each that was asked for, admitted or not. The money is a row of refunds, as
-- that of a compensation.
CREATE TABLE refund_requests (
    merchant     text NOT NULL,
    order_uid    uuid NOT NULL,
    -- Chosen by whoever asks: the same name asks once.
    name         text NOT NULL,
    -- One word, the shop's own.
    reason       text NOT NULL,
    -- What was asked for. The refund is less where money left the payment elsewhere before it was made.
    amount       bigint NOT NULL CHECK (amount >= 0),
    -- The pieces that it is for, quantities by SKU.
    lines        jsonb NOT NULL DEFAULT '{}',
    -- Whether these pieces are on hand again.
    is_restocked boolean NOT NULL DEFAULT false,
    -- Null where it was refused, for the reason in refusal.
    refund_id    uuid UNIQUE REFERENCES refunds,
    refusal      text,
    message      text,
    created_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (merchant, order_uid, name),
    FOREIGN KEY (merchant, order_uid) REFERENCES orders,
    CHECK ((refund_id IS NULL) = (refusal IS NOT NULL))
);

-- Few refunds are open, of all that there ever were.
CREATE INDEX refunds_open ON refunds (merchant, order_uid) WHERE state IN ('Requested', 'Pending', 'Failed');
