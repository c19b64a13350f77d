-- The manifest of a request that was never answered holds an address, too: it goes a day after the request. A row
-- without a manifest and without a response belongs to a request that nobody finishes any more.
ALTER TABLE idempotency DROP CONSTRAINT idempotency_check3;
CREATE INDEX idempotency_unanswered ON idempotency (created_at) WHERE manifest IS NOT NULL;
