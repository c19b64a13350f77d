-- Services that call on their own behalf.
CREATE TABLE clients (
    merchant    text NOT NULL,
    id          text NOT NULL,
    name        text NOT NULL,
    -- SHA-256: the secret is 256 random bits, so there is nothing to guess.
    secret_hash bytea NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT now(),
    revoked_at  timestamptz,
    PRIMARY KEY (merchant, id)
);

-- One login, and the family of refresh tokens that came from it.
CREATE TABLE logins (
    merchant   text NOT NULL,
    id         uuid NOT NULL,
    user_id    text NOT NULL,
    scopes     text[] NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz NOT NULL,
    revoked_at timestamptz,
    PRIMARY KEY (merchant, id),
    FOREIGN KEY (merchant, user_id) REFERENCES users
);
CREATE INDEX logins_of_user ON logins (merchant, user_id) WHERE revoked_at IS NULL;

-- Used ones stay as long as their family: one that comes again was stolen, or lost by its thief.
CREATE TABLE refresh_tokens (
    merchant text NOT NULL,
    hash     bytea NOT NULL,
    login    uuid NOT NULL,
    used_at  timestamptz,
    PRIMARY KEY (merchant, hash),
    FOREIGN KEY (merchant, login) REFERENCES logins ON DELETE CASCADE
);
CREATE INDEX refresh_tokens_of_login ON refresh_tokens (merchant, login);
