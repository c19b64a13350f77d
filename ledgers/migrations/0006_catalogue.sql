-- A product has one price by which it is sold when nobody names a currency, and may have prices in others.
ALTER TABLE products
    ADD COLUMN other_prices jsonb NOT NULL DEFAULT '{}',
    -- Rises with every change; what a client read is known by it.
    ADD COLUMN version integer NOT NULL DEFAULT 1,
    -- No language: names and SKUs are taken as they are.
    ADD COLUMN search tsvector NOT NULL
        GENERATED ALWAYS AS (to_tsvector('simple', sku || ' ' || name || ' ' || description)) STORED;
CREATE INDEX products_by_text ON products USING gin (search);

-- A correction by a difference, next to the recount, which is a correction by a count.
ALTER TABLE stock_movements DROP CONSTRAINT stock_movements_kind_check, ADD CHECK (kind IN
    ('Hold', 'Release', 'Expire', 'Lose', 'Commit', 'Return', 'Recount', 'Adjust'));

-- Those that no order answers for. Few are held at a time.
CREATE INDEX reservations_alone ON reservations (expires_at) WHERE order_uid IS NULL AND state = 'Held';

-- Keys stand for more than orders: `kind` and `name` are of the resource that is made for one; all three
-- are null where the effect is in the transaction that stores its answer.
ALTER TABLE idempotency RENAME COLUMN order_name TO name;
ALTER TABLE idempotency
    ADD COLUMN kind text CHECK (kind IN ('Order', 'Reservation')),
    ALTER COLUMN name DROP NOT NULL,
    ALTER COLUMN manifest DROP NOT NULL;
UPDATE idempotency SET kind = 'Order';
ALTER TABLE idempotency
    ADD CHECK (num_nulls(kind, name, manifest) IN (0, 3));
ALTER INDEX idempotency_by_order RENAME TO idempotency_by_name;
