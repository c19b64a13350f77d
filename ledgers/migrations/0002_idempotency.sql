-- Who is working on a key: the number of the claim (a fence: an older one may not release the row) and
-- until when it holds. A row without an answer whose claim is over is finished by the next request.
ALTER TABLE idempotency
    ADD COLUMN attempt integer NOT NULL DEFAULT 1,
    ADD COLUMN claimed_until timestamptz NOT NULL DEFAULT now(),
    ADD CHECK ((status IS NULL) = (body IS NULL));
CREATE INDEX idempotency_by_age ON idempotency (created_at);
