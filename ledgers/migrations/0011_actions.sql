-- What people have done: one row for each thing that somebody of the shop, or who runs it, has changed, by the console,
-- the HTTP API, the CLI, kubectl or SQL.
--
-- Triggers write it, in the transaction of the change: no way to change something is left out, and nothing is here
-- that did not happen.
CREATE TABLE actions (
    id       bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    merchant text NOT NULL,
    -- As in crds/actors.py.
    actor    text NOT NULL,
    -- A kind of object and what was done to it, as `order.cancel`.
    action   text NOT NULL,
    -- Its name or id: of an order, a SKU, a currency, an account, a message. Never personal data.
    object   text NOT NULL,
    -- What was changed, as it was and as it is; null where there was nothing, or is nothing any more.
    before   jsonb,
    after    jsonb,
    at       timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX actions_of_merchant ON actions (merchant, id);
CREATE INDEX actions_by_object ON actions (object, merchant, id);

-- The messages that were given up are few, and they are listed and counted.
CREATE INDEX notifications_dead ON notifications (ended_at, merchant) WHERE state = 'Dead';

-- Who acts in this transaction: whom the gateway has named (set_config('orderplane.actor', ..., true)), or else the role
-- of the session, which is all that is proved.
CREATE FUNCTION acting() RETURNS text LANGUAGE sql STABLE AS $$
    SELECT coalesce(nullif(current_setting('orderplane.actor', true), ''), 'database:' || session_user)
$$;

-- The members of the first document that the second has otherwise, or not at all.
CREATE FUNCTION differing(one jsonb, other jsonb) RETURNS jsonb LANGUAGE sql IMMUTABLE AS $$
    SELECT jsonb_object_agg(key, value) FROM jsonb_each(one) WHERE other -> key IS DISTINCT FROM value
$$;

CREATE FUNCTION note_cancellation() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO actions (merchant, actor, action, object, before, after)
    VALUES (NEW.merchant, NEW.actor, 'order.cancel', NEW.name, jsonb_build_object('state', OLD.state),
        jsonb_build_object('state', NEW.state, 'reason', NEW.reason));
    RETURN NULL;
END
$$;
CREATE TRIGGER orders_action AFTER UPDATE OF state ON orders FOR EACH ROW
WHEN (OLD.state = 'Open' AND NEW.state = 'Compensating' AND NEW.actor IS NOT NULL)
EXECUTE FUNCTION note_cancellation();

-- A refund, a label or a return has an actor in its event only where a person has settled it.
CREATE FUNCTION note_event() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO actions (merchant, actor, action, object, after)
    VALUES (NEW.merchant, NEW.data ->> 'actor',
        CASE NEW.type WHEN 'order.retried' THEN 'order.retry' WHEN 'refund.requested' THEN 'order.refund'
            ELSE 'order.settle' END,
        NEW.name, NEW.data - 'actor');
    RETURN NULL;
END
$$;
CREATE TRIGGER history_action AFTER INSERT ON history FOR EACH ROW
WHEN (NEW.type IN ('order.retried', 'refund.requested', 'payment.refunded', 'shipment.cancelled', 'order.returned')
    AND NEW.data ->> 'actor' IS NOT NULL)
EXECUTE FUNCTION note_event();

CREATE FUNCTION note_stock_correction() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    counted bigint;
BEGIN
    -- The stock is corrected before its movement is written.
    SELECT on_hand INTO counted FROM stock WHERE merchant = NEW.merchant AND sku = NEW.sku;
    INSERT INTO actions (merchant, actor, action, object, before, after)
    VALUES (NEW.merchant, coalesce(NEW.actor, acting()), CASE NEW.kind WHEN 'Adjust' THEN 'stock.adjust' ELSE 'stock.recount' END,
        NEW.sku, jsonb_build_object('onHand', counted - NEW.on_hand_delta),
        jsonb_build_object('onHand', counted, 'reason', NEW.note));
    RETURN NULL;
END
$$;
CREATE TRIGGER stock_movements_action AFTER INSERT ON stock_movements FOR EACH ROW
WHEN (NEW.kind IN ('Recount', 'Adjust')) EXECUTE FUNCTION note_stock_correction();

CREATE FUNCTION note_first_count() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO actions (merchant, actor, action, object, after)
    VALUES (NEW.merchant, acting(), 'stock.recount', NEW.sku, jsonb_build_object('onHand', NEW.on_hand));
    RETURN NULL;
END
$$;
CREATE TRIGGER stock_action AFTER INSERT ON stock FOR EACH ROW EXECUTE FUNCTION note_first_count();

CREATE FUNCTION product_details(p products) RETURNS jsonb LANGUAGE sql IMMUTABLE AS $$
    SELECT jsonb_build_object('name', p.name, 'description', p.description, 'currency', p.currency,
        'unitAmount', p.unit_amount, 'otherPrices', p.other_prices, 'weightGrams', p.weight_grams,
        'archived', NOT p.is_active)
$$;
CREATE FUNCTION note_product() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    was jsonb := CASE WHEN TG_OP = 'UPDATE' THEN product_details(OLD) END;
    made jsonb := product_details(NEW);
BEGIN
    IF was IS DISTINCT FROM made THEN
        INSERT INTO actions (merchant, actor, action, object, before, after)
        VALUES (NEW.merchant, acting(), CASE TG_OP WHEN 'INSERT' THEN 'product.create' ELSE 'product.change' END,
            NEW.sku, differing(was, made), CASE WHEN was IS NULL THEN made ELSE differing(made, was) END);
    END IF;
    RETURN NULL;
END
$$;
CREATE TRIGGER products_action AFTER INSERT OR UPDATE ON products FOR EACH ROW EXECUTE FUNCTION note_product();

CREATE FUNCTION note_price_rule() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO actions (merchant, actor, action, object, before, after)
    SELECT NEW.merchant, coalesce(NEW.actor, acting()),
        CASE WHEN NEW.rule IS NULL THEN 'price_rule.delete' ELSE 'price_rule.set' END, NEW.currency,
        (SELECT rule FROM price_rule_versions
         WHERE merchant = NEW.merchant AND currency = NEW.currency AND version = NEW.version - 1), NEW.rule;
    RETURN NULL;
END
$$;
CREATE TRIGGER price_rule_versions_action AFTER INSERT ON price_rule_versions FOR EACH ROW
EXECUTE FUNCTION note_price_rule();

CREATE FUNCTION note_account() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_TABLE_NAME = 'clients' THEN
        INSERT INTO actions (merchant, actor, action, object, before, after)
        VALUES (NEW.merchant, acting(), CASE TG_OP WHEN 'INSERT' THEN 'client.create' ELSE 'client.revoke' END, NEW.id,
            CASE TG_OP WHEN 'UPDATE' THEN jsonb_build_object('name', OLD.name) END,
            CASE TG_OP WHEN 'INSERT' THEN jsonb_build_object('name', NEW.name) END);
    ELSE
        INSERT INTO actions (merchant, actor, action, object, before, after)
        VALUES (NEW.merchant, acting(), CASE TG_OP WHEN 'INSERT' THEN 'user.create' ELSE 'user.delete' END, NEW.id,
            CASE TG_OP WHEN 'UPDATE' THEN jsonb_build_object('role', OLD.role) END,
            CASE TG_OP WHEN 'INSERT' THEN jsonb_build_object('role', NEW.role) END);
    END IF;
    RETURN NULL;
END
$$;
-- Customers who register are no staff, and nobody acts for them.
CREATE TRIGGER users_made AFTER INSERT ON users FOR EACH ROW
WHEN (NEW.role <> 'customer' OR coalesce(current_setting('orderplane.actor', true), '') <> '')
EXECUTE FUNCTION note_account();
CREATE TRIGGER users_deleted AFTER UPDATE OF deleted_at ON users FOR EACH ROW
WHEN (OLD.deleted_at IS NULL AND NEW.deleted_at IS NOT NULL) EXECUTE FUNCTION note_account();
CREATE TRIGGER clients_made AFTER INSERT ON clients FOR EACH ROW EXECUTE FUNCTION note_account();
CREATE TRIGGER clients_revoked AFTER UPDATE OF revoked_at ON clients FOR EACH ROW
WHEN (OLD.revoked_at IS NULL AND NEW.revoked_at IS NOT NULL) EXECUTE FUNCTION note_account();

CREATE FUNCTION note_replay() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO actions (merchant, actor, action, object, before, after)
    VALUES (NEW.merchant, acting(), 'message.replay', NEW.event_id || '.' || NEW.channel,
        jsonb_build_object('state', OLD.state, 'reason', OLD.reason), jsonb_build_object('state', NEW.state));
    RETURN NULL;
END
$$;
CREATE TRIGGER notifications_action AFTER UPDATE OF state ON notifications FOR EACH ROW
WHEN (OLD.state IN ('Dead', 'Superseded') AND NEW.state = 'Waiting') EXECUTE FUNCTION note_replay();
