-- People who shop, and people who run the shop. What identifies a person is here and nowhere else: no
-- resource, event, span or log has it.
CREATE TABLE users (
    merchant      text NOT NULL,
    id            text NOT NULL,
    -- In lower case: one address is one person of a merchant.
    email         text NOT NULL CHECK (email = lower(email)),
    name          text NOT NULL DEFAULT '',
    -- E.164; null where there is none.
    phone         text,
    role          text NOT NULL DEFAULT 'customer' CHECK (role IN ('customer', 'merchant', 'admin')),
    password_hash text NOT NULL,
    -- Which channels to be told through: {"email": true, "sms": false}.
    preferences   jsonb NOT NULL DEFAULT '{"email": true, "sms": false}',
    created_at    timestamptz NOT NULL DEFAULT now(),
    updated_at    timestamptz NOT NULL DEFAULT now(),
    -- A deleted user's row stays as long as its tokens could, without anything that identifies a person.
    deleted_at    timestamptz,
    PRIMARY KEY (merchant, id)
);
CREATE UNIQUE INDEX users_by_email ON users (merchant, email) WHERE deleted_at IS NULL;
