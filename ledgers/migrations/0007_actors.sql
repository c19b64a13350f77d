-- Who asked for what, as in crds/actors.py; null where nobody did, or where it is not known. It is in the history,
-- too, where there is an event.
ALTER TABLE orders ADD COLUMN actor text;
ALTER TABLE stock_movements ADD COLUMN actor text;

-- Each time that somebody asked to try a stalled order again. Its event is `order.retried`.
CREATE TABLE retries (
    id        uuid PRIMARY KEY,
    merchant  text NOT NULL,
    order_uid uuid NOT NULL,
    -- The value of the annotation orderplane.dev/retry, which tells one request from the next.
    request   text NOT NULL,
    actor     text,
    at        timestamptz NOT NULL DEFAULT clock_timestamp(),
    FOREIGN KEY (merchant, order_uid) REFERENCES orders
);
