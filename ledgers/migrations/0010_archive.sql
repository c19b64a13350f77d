-- Orders that have left the API server: what they were there. A row is written before its resource may go, and is
-- brought up to date whenever the ledgers move afterwards.
--
-- Both tables are partitioned by month, so that retention drops a table instead of deleting rows. `name` is compared by
-- bytes, as in every list of orders.
CREATE TABLE archived_orders (
    merchant         text NOT NULL,
    uid              uuid NOT NULL,
    name             text COLLATE "C" NOT NULL,
    customer         text NOT NULL,
    reference        text,
    phase            text NOT NULL,
    created_at       timestamptz NOT NULL,
    -- When it was archived first: `archived_at` of its row in orders.
    rested_at        timestamptz NOT NULL,
    -- Of the resource that was stored. An older one never replaces a newer one.
    resource_version bigint NOT NULL,
    -- Rises with every change of this row: the ETag, together with resource_version.
    revision         integer NOT NULL DEFAULT 1,
    -- Our metadata, spec and status. The address in it is personal data.
    document         jsonb NOT NULL,
    PRIMARY KEY (merchant, uid, rested_at)
) PARTITION BY RANGE (rested_at);
CREATE INDEX archived_orders_by_name ON archived_orders (name, merchant);
CREATE INDEX archived_orders_by_reference ON archived_orders (reference, merchant) WHERE reference IS NOT NULL;
CREATE INDEX archived_orders_by_customer ON archived_orders (customer, merchant, created_at, name);
-- The merchant comes first here: these are read in the order of the index, and no further than a page.
CREATE INDEX archived_orders_by_phase ON archived_orders (merchant, phase, created_at, name);
CREATE INDEX archived_orders_by_time ON archived_orders (merchant, created_at, name);

-- The products of each archived order. A GIN index over an array would find the same, but in no order: each page of a
-- product that is in a tenth of all orders would sort them all.
CREATE TABLE archived_order_skus (
    merchant   text NOT NULL,
    sku        text NOT NULL,
    created_at timestamptz NOT NULL,
    name       text COLLATE "C" NOT NULL,
    uid        uuid NOT NULL,
    rested_at  timestamptz NOT NULL,
    PRIMARY KEY (sku, merchant, created_at, name, uid, rested_at)
) PARTITION BY RANGE (rested_at);

-- Makes the partitions of this month, of the last one (clocks differ) and of `months` to come; answers how many were
-- missing. It works with the rights of whoever migrates: the processes may not create tables.
CREATE FUNCTION make_archive_partitions(months integer) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
DECLARE
    parent text;
    part   text;
    month  timestamp := date_trunc('month', now() AT TIME ZONE 'UTC') - interval '1 month';
    made   integer := 0;
BEGIN
    PERFORM pg_advisory_xact_lock(x'6f700010'::bigint);
    FOR i IN -1 .. months LOOP
        FOREACH parent IN ARRAY ARRAY['archived_orders', 'archived_order_skus'] LOOP
            part := parent || to_char(month, '_YYYY_MM');
            CONTINUE WHEN to_regclass(quote_ident(part)) IS NOT NULL;
            -- Attaching lets others read and write meanwhile; CREATE TABLE ... PARTITION OF does not.
            EXECUTE format('CREATE TABLE %I (LIKE %I INCLUDING ALL)', part, parent);
            EXECUTE format('ALTER TABLE %I ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)',
                parent, part, month || '+00', month + interval '1 month' || '+00');
            made := made + 1;
        END LOOP;
        month := month + interval '1 month';
    END LOOP;
    RETURN made;
END
$$;
SELECT make_archive_partitions(3);

-- Drops the partitions that ended more than `months` months ago, with every order in them; answers how many.
CREATE FUNCTION drop_archive_partitions(months integer) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
DECLARE
    part    text;
    first   text := to_char(
        date_trunc('month', now() AT TIME ZONE 'UTC') - make_interval(months => greatest(months, 1)), '_YYYY_MM');
    dropped integer := 0;
BEGIN
    PERFORM pg_advisory_xact_lock(x'6f700010'::bigint);
    FOR part IN
        SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
        WHERE i.inhparent IN ('archived_orders'::regclass, 'archived_order_skus'::regclass)
          AND right(c.relname, 8) < first
    LOOP
        EXECUTE format('DROP TABLE %I', part);
        dropped := dropped + 1;
    END LOOP;
    RETURN dropped;
END
$$;

ALTER TABLE orders
    -- The resourceVersion in which the order was archived. From then on it is leaving, or has left: a child of it that
    -- is missing was deleted by us.
    ADD COLUMN archived_version    bigint,
    ADD COLUMN archived_at         timestamptz,
    -- The ledgers have moved since its row in archived_orders was written.
    ADD COLUMN is_archive_outdated boolean NOT NULL DEFAULT false,
    -- It was opened by a version that archives an order before its resource may go.
    ADD COLUMN is_archive_due      boolean NOT NULL DEFAULT false;
CREATE INDEX orders_archive_outdated ON orders (merchant, uid) WHERE is_archive_outdated;

-- An order that has left, or is leaving, is compensated only where somebody asked for it: what is missing of it was
-- deleted by us. Here, and not in the statement, because the operator of the version before would take it for lost.
CREATE FUNCTION keep_what_has_left() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RETURN NULL;
END
$$;
CREATE TRIGGER orders_keep_what_has_left BEFORE UPDATE OF state ON orders FOR EACH ROW
WHEN (OLD.archived_version IS NOT NULL AND OLD.state = 'Open' AND NEW.state = 'Compensating' AND NOT NEW.is_cancel)
EXECUTE FUNCTION keep_what_has_left();

CREATE FUNCTION note_outdated_archive() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.is_archive_outdated := true;
    RETURN NEW;
END
$$;
CREATE TRIGGER orders_outdate_archive BEFORE UPDATE OF seq, state ON orders FOR EACH ROW
WHEN (NEW.archived_version IS NOT NULL AND (OLD.seq, OLD.state) IS DISTINCT FROM (NEW.seq, NEW.state))
EXECUTE FUNCTION note_outdated_archive();

CREATE FUNCTION note_archive_outdated_by_parcel() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE orders SET is_archive_outdated = true
    WHERE merchant = NEW.merchant AND uid = NEW.order_uid AND archived_version IS NOT NULL;
    RETURN NULL;
END
$$;
CREATE TRIGGER shipments_outdate_archive AFTER UPDATE OF tracking_status ON shipments FOR EACH ROW
WHEN (OLD.tracking_status <> NEW.tracking_status) EXECUTE FUNCTION note_archive_outdated_by_parcel();

CREATE OR REPLACE VIEW order_gates AS
SELECT o.merchant, o.uid, o.name, o.state, o.outcome, o.reason, o.message, o.is_cancel, o.finished_at,
    r.state AS reservation, r.message AS reservation_message,
    p.state AS payment, p.reason AS payment_reason, p.message AS payment_message,
    s.state AS shipment, s.reason AS shipment_reason, s.message AS shipment_message,
    s.tracking_status, s.tracking_code, s.tracking_url, s.carrier,
    o.seq, o.archived_version
FROM orders o
LEFT JOIN reservations r ON r.merchant = o.merchant AND r.holder = o.uid
LEFT JOIN payments p ON p.merchant = o.merchant AND p.order_uid = o.uid
LEFT JOIN shipments s ON s.merchant = o.merchant AND s.order_uid = o.uid;

-- Customers whose personal data was erased. Their orders of before are archived without it, also those that were under
-- way then.
CREATE TABLE erasures (
    merchant     text NOT NULL,
    customer     text NOT NULL,
    requested_at timestamptz NOT NULL DEFAULT now(),
    actor        text,
    PRIMARY KEY (merchant, customer)
);
