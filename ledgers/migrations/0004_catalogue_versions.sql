-- Front doors keep products and price rules in memory. This is how they see that something has changed: each
-- transaction that changes a merchant's products or price rules gives the merchant a new version, whoever runs it.
--
-- The row is locked until the transaction ends, so a merchant's versions are committed in their order: who reads one
-- has every change up to it, and none after it.
CREATE TABLE catalogue_versions (
    merchant   text PRIMARY KEY,
    version    bigint NOT NULL,
    -- Nothing in the table of products tells of a deleted row: who knows an older version than this one only has to
    -- read everything again.
    deleted_in bigint NOT NULL DEFAULT 0,
    -- The transaction that made the version. A number alone may come again after a restore.
    changed_in xid8 NOT NULL,
    changed_at timestamptz NOT NULL
);

-- One sequence for all merchants, so that the index on the version of products selects few rows.
CREATE SEQUENCE catalogue_version;

INSERT INTO catalogue_versions (merchant, version, changed_in, changed_at)
SELECT merchant, nextval('catalogue_version'), pg_current_xact_id(), now()
FROM (SELECT merchant FROM products UNION SELECT merchant FROM price_rules) AS merchants;

-- The version of the merchant's catalogue that has this row as it is.
ALTER TABLE products ADD COLUMN catalogue_version bigint NOT NULL DEFAULT 0;
CREATE INDEX products_by_catalogue_version ON products (catalogue_version, merchant);

-- The version that this transaction makes: one, however many rows it changes.
CREATE FUNCTION new_catalogue_version(of_merchant text) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    made bigint;
BEGIN
    SELECT version INTO made FROM catalogue_versions
    WHERE merchant = of_merchant AND changed_in = pg_current_xact_id() AND changed_at = now();
    IF NOT FOUND THEN
        INSERT INTO catalogue_versions AS v (merchant, version, changed_in, changed_at)
        VALUES (of_merchant, nextval('catalogue_version'), pg_current_xact_id(), now())
        -- The number is drawn under the lock of the row.
        ON CONFLICT (merchant) DO UPDATE SET version = nextval('catalogue_version'),
            changed_in = excluded.changed_in, changed_at = excluded.changed_at
        RETURNING version INTO made;
        PERFORM pg_notify('catalogue', of_merchant);
    END IF;
    RETURN made;
END
$$;

CREATE FUNCTION note_changed_product() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    made bigint;
BEGIN
    IF TG_OP = 'DELETE' OR (TG_OP = 'UPDATE' AND (OLD.merchant, OLD.sku) <> (NEW.merchant, NEW.sku)) THEN
        made := new_catalogue_version(OLD.merchant);
        UPDATE catalogue_versions SET deleted_in = made WHERE merchant = OLD.merchant;
    END IF;
    IF TG_OP = 'DELETE' THEN
        RETURN OLD;
    END IF;
    NEW.catalogue_version := new_catalogue_version(NEW.merchant);
    RETURN NEW;
END
$$;

CREATE FUNCTION note_changed_price_rule() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP <> 'INSERT' THEN
        PERFORM new_catalogue_version(OLD.merchant);
    END IF;
    IF TG_OP <> 'DELETE' THEN
        PERFORM new_catalogue_version(NEW.merchant);
    END IF;
    RETURN NULL;
END
$$;

CREATE FUNCTION note_emptied_catalogue() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM new_catalogue_version(merchant) FROM catalogue_versions ORDER BY merchant;
    UPDATE catalogue_versions SET deleted_in = version;
    RETURN NULL;
END
$$;

CREATE TRIGGER products_version BEFORE INSERT OR UPDATE OR DELETE ON products FOR EACH ROW
EXECUTE FUNCTION note_changed_product();

CREATE TRIGGER price_rules_version AFTER INSERT OR UPDATE OR DELETE ON price_rules FOR EACH ROW
EXECUTE FUNCTION note_changed_price_rule();

CREATE TRIGGER products_emptied AFTER TRUNCATE ON products EXECUTE FUNCTION note_emptied_catalogue();
CREATE TRIGGER price_rules_emptied AFTER TRUNCATE ON price_rules EXECUTE FUNCTION note_emptied_catalogue();
