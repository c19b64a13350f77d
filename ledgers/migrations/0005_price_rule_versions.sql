-- Each version of each price rule, for ever: an order names the version that it was priced by.
--
-- The newest version of a currency is in force. Without one, or where its rule is null, no order is taken in that
-- currency. The rule is one document (orderplane.ledgers.price_rules): it is read and replaced as a whole.
CREATE TABLE price_rule_versions (
    merchant   text NOT NULL,
    currency   text NOT NULL,
    version    integer NOT NULL CHECK (version > 0),
    -- null: the rule was deleted.
    rule       jsonb,
    -- Who made this version, as in crds/actors.py; null where it is older than this table.
    actor      text,
    changed_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (merchant, currency, version)
);

CREATE VIEW current_price_rules AS
SELECT DISTINCT ON (merchant, currency) * FROM price_rule_versions ORDER BY merchant, currency, version DESC;

-- Front doors keep price rules in memory, see 0004.
CREATE TRIGGER price_rule_versions_version AFTER INSERT OR UPDATE OR DELETE ON price_rule_versions FOR EACH ROW
EXECUTE FUNCTION note_changed_price_rule();
CREATE TRIGGER price_rule_versions_emptied AFTER TRUNCATE ON price_rule_versions
EXECUTE FUNCTION note_emptied_catalogue();

-- From here on: for the version before, which has the table price_rules with one amount and one rate for each
-- currency. The two tables follow each other; pg_trigger_depth() keeps them from doing so in circles. All of it
-- can be dropped, with price_rules, once that version is not rolled back to any more.

CREATE FUNCTION flat_price_rule(shipping_amount bigint, tax_basis_points integer) RETURNS jsonb
LANGUAGE sql IMMUTABLE AS $$
    SELECT jsonb_build_object(
        'shipping', jsonb_build_array(jsonb_build_object(
            'byWeight', jsonb_build_array(jsonb_build_object('amount', shipping_amount)))),
        'taxIncluded', false,
        'taxes', jsonb_build_array(jsonb_build_object('basisPoints', tax_basis_points)))
$$;

INSERT INTO price_rule_versions (merchant, currency, version, rule)
SELECT merchant, currency, 1, flat_price_rule(shipping_amount, tax_basis_points) FROM price_rules;

CREATE FUNCTION note_flat_price_rule() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    written price_rules := coalesce(NEW, OLD);
BEGIN
    INSERT INTO price_rule_versions (merchant, currency, version, rule, actor)
    SELECT written.merchant, written.currency, coalesce(max(version), 0) + 1,
        CASE WHEN TG_OP <> 'DELETE'
             THEN flat_price_rule(written.shipping_amount, written.tax_basis_points) END,
        'database:' || session_user
    FROM price_rule_versions WHERE merchant = written.merchant AND currency = written.currency;
    RETURN NULL;
END
$$;

-- Of a rule with several zones the version before sees the first one, with the price of its lightest parcels; a tax
-- that is in the prices already it does not add.
CREATE FUNCTION flatten_price_rule() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM price_rules WHERE merchant = NEW.merchant AND currency = NEW.currency;
    INSERT INTO price_rules (merchant, currency, shipping_amount, tax_basis_points)
    SELECT NEW.merchant, NEW.currency, (NEW.rule #>> '{shipping,0,byWeight,0,amount}')::bigint,
        CASE WHEN (NEW.rule ->> 'taxIncluded')::boolean THEN 0
             ELSE (NEW.rule #>> '{taxes,0,basisPoints}')::integer END
    WHERE NEW.rule IS NOT NULL;
    RETURN NULL;
END
$$;

CREATE TRIGGER price_rules_noted AFTER INSERT OR UPDATE OR DELETE ON price_rules FOR EACH ROW
WHEN (pg_trigger_depth() = 0) EXECUTE FUNCTION note_flat_price_rule();
CREATE TRIGGER price_rule_versions_flattened AFTER INSERT ON price_rule_versions FOR EACH ROW
WHEN (pg_trigger_depth() = 0) EXECUTE FUNCTION flatten_price_rule();
