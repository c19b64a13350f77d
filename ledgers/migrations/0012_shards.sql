-- The shard of each order, as its label has it: ledgers are asked by shard. Null in rows of older versions, until the
-- operator has seen the resource.
ALTER TABLE orders ADD COLUMN shard smallint;
-- Of a Reservation without an order.
ALTER TABLE reservations ADD COLUMN shard smallint;
CREATE INDEX orders_without_shard ON orders (uid) WHERE shard IS NULL AND state <> 'Sealed';

-- Which attempt to buy a label was begun last, and which operator has begun it. Another one does not begin the next
-- before the call of that one can no longer land.
ALTER TABLE shipments ADD COLUMN buy_attempt integer NOT NULL DEFAULT 0;
ALTER TABLE shipments ADD COLUMN buy_begun_by text;
UPDATE shipments SET buy_attempt = 1 WHERE buy_begun_at IS NOT NULL AND state = 'Intended';

-- The same of a confirm; confirm_attempt numbers them.
ALTER TABLE payments ADD COLUMN confirm_begun_at timestamptz;
ALTER TABLE payments ADD COLUMN confirm_begun_by text;
