-- What singles a row out comes first in an index that is not the primary key. With the merchant first, who looks for
-- a merchant's row by the primary key could be answered from any of these by reading every row of that merchant:
-- without statistics, as in a database of a few minutes, PostgreSQL takes the one for as good as the other.

DROP INDEX orders_by_name, reservations_by_name, reservation_lines_by_sku, stock_movements_by_sku, stock_movements_by_holder,
    payments_by_name, refunds_by_order, shipments_by_name, idempotency_by_name, notifications_of_order,
    logins_of_user, refresh_tokens_of_login;

CREATE INDEX orders_by_name ON orders (name, merchant);
CREATE INDEX reservations_by_name ON reservations (name, merchant);
CREATE INDEX reservation_lines_by_sku ON reservation_lines (sku, merchant);
CREATE INDEX stock_movements_by_sku ON stock_movements (sku, merchant, id);
CREATE INDEX stock_movements_by_holder ON stock_movements (holder, merchant);
CREATE INDEX payments_by_name ON payments (name, merchant);
CREATE INDEX refunds_by_order ON refunds (order_uid, merchant);
CREATE INDEX shipments_by_name ON shipments (name, merchant);
CREATE INDEX idempotency_by_name ON idempotency (name, merchant);
CREATE INDEX notifications_of_order ON notifications (order_uid, merchant, channel, seq);
CREATE INDEX logins_of_user ON logins (user_id, merchant) WHERE revoked_at IS NULL;
CREATE INDEX refresh_tokens_of_login ON refresh_tokens (login, merchant);
