-- Two more that could be answered by reading every row of a merchant (see 0010). With the time in it, the newest order
-- of a name is the index's first; sorting is what made the primary key look as good.

DROP INDEX orders_by_name, users_by_email;

CREATE INDEX orders_by_name ON orders (name, merchant, opened_at);
CREATE UNIQUE INDEX users_by_email ON users (email, merchant) WHERE deleted_at IS NULL;
