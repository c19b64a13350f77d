"""Idempotency keys: which request a key belongs to, who is working on it, and the response that was stored.

Where the effect is in PostgreSQL, it is in one transaction with its response (`once`). Where a resource is
created, the key is claimed first: a lease by the database's clock, whose holder may create the resource. The
lease is longer than a create can take, so once it is over, that create has landed or never will.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from orderplane.crds.documents import Manifest
from orderplane.crds.meta import Kind
from orderplane.ledgers.postgres.session import Connection, Pool, Row, session, transaction

_FIND = """
SELECT *, claimed_until > now() AS is_claimed FROM idempotency
WHERE merchant = $1 AND principal = $2 AND key_hash = $3
"""

# A second request at the same time waits here until the first one commits or rolls back.
_INSERT = """
INSERT INTO idempotency (merchant, principal, key_hash, fingerprint) VALUES ($1, $2, $3, $4)
ON CONFLICT DO NOTHING RETURNING true
"""

_SET_RESPONSE = """
UPDATE idempotency SET status = $4, body = $5 WHERE merchant = $1 AND principal = $2 AND key_hash = $3
"""

_CLAIM = """
INSERT INTO idempotency (merchant, principal, key_hash, fingerprint, kind, name, manifest, claimed_until)
VALUES ($1, $2, $3, $4, $5, $6, $7, now() + make_interval(secs => $8))
ON CONFLICT DO NOTHING RETURNING attempt
"""

# Only a claim that is over can be taken over, and only once: the attempt is the fencing token.
_TAKE_OVER = """
UPDATE idempotency SET attempt = attempt + 1, claimed_until = now() + make_interval(secs => $5)
WHERE merchant = $1 AND principal = $2 AND key_hash = $3
  AND status IS NULL AND attempt = $4 AND claimed_until <= now()
RETURNING attempt
"""

_END_CLAIM = """
UPDATE idempotency SET claimed_until = now() + make_interval(secs => $5)
WHERE merchant = $1 AND principal = $2 AND key_hash = $3 AND status IS NULL AND attempt = $4
"""

_DELETE = """
DELETE FROM idempotency
WHERE merchant = $1 AND principal = $2 AND key_hash = $3 AND status IS NULL AND attempt = $4
"""

# The first response stays: a later one is answered with it. The manifest goes: it holds an address, and
# nobody needs it to finish the request any more.
_STORE = """
UPDATE idempotency SET status = coalesce(status, $4), body = coalesce(body, $5), manifest = NULL
WHERE merchant = $1 AND principal = $2 AND key_hash = $3 RETURNING status, body
"""

_FIND_CREATED = {
    Kind.ORDER: "SELECT uid FROM orders WHERE merchant = $1 AND name = $2 ORDER BY opened_at LIMIT 1",
    Kind.RESERVATION: "SELECT holder FROM reservations WHERE merchant = $1 AND name = $2 "
    "ORDER BY created_at LIMIT 1",
}


@dataclass(frozen=True, slots=True)
class IdempotencyKey:
    """One key of one caller."""

    merchant: str
    principal: str
    key_hash: bytes


@dataclass(frozen=True, slots=True)
class Claim:
    """The right to carry out the request of one key; the highest `attempt` has it."""

    ref: IdempotencyKey
    attempt: int


@dataclass(frozen=True, slots=True)
class StoredResponse:
    """The response to the request of a key; it never changes."""

    status: int
    body: str


@dataclass(frozen=True, slots=True)
class IdempotencyRecord:
    """The row of one key. `response` is None until the request is finished; `is_claimed`: a request works on
    it now.

    `manifest` is the resource that is to be created for it; None where none is, once there is a response, and
    where there was none for so long that nobody finishes the request any more.
    """

    fingerprint: bytes
    manifest: Manifest | None
    response: StoredResponse | None
    attempt: int = 1
    is_claimed: bool = False


@dataclass(frozen=True, slots=True)
class IdempotentResponse:
    """The response to give; `is_replayed`: it was stored by an earlier request with the key."""

    response: StoredResponse
    is_replayed: bool


Effect = Callable[[Connection], Awaitable[StoredResponse]]
"""Makes changes in the transaction of the connection and returns the response to them."""


class KeyReused(Exception):  # noqa: N818
    """The key belongs to another request; nothing was done."""


class PostgresIdempotencyStore:
    """The table `idempotency`. Each method but `once` is one statement; raises as `session` does."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def find(self, ref: IdempotencyKey) -> IdempotencyRecord | None:
        """The row of a key."""
        async with session(self._pool) as connection:
            row = await connection.fetchrow(_FIND, *_arguments(ref))
        return _entry(row) if row else None

    async def once(self, ref: IdempotencyKey, fingerprint: bytes, effect: Effect) -> IdempotentResponse:
        """Run `effect` in the transaction that stores its response; a key that has a response gets that one.

        A second request at the same time waits for the first. Where `effect` raises, the transaction is
        rolled back and the key is unused.

        Raises:
            KeyReused: the key belongs to a request with another fingerprint.
        """
        async with transaction(self._pool) as connection:
            if await connection.fetchval(_INSERT, *_arguments(ref), fingerprint):
                response = await effect(connection)
                await connection.execute(_SET_RESPONSE, *_arguments(ref), response.status, response.body)
                return IdempotentResponse(response, is_replayed=False)
        entry = await self.find(ref)
        if entry is None or entry.response is None or entry.fingerprint != fingerprint:
            raise KeyReused
        return IdempotentResponse(entry.response, is_replayed=True)

    async def claim(
        self, ref: IdempotencyKey, *, fingerprint: bytes, manifest: Manifest, seconds: float
    ) -> Claim | None:
        """Insert the row and claim it; None where the key has a row already."""
        async with session(self._pool) as connection:
            attempt = await connection.fetchval(
                _CLAIM,
                *_arguments(ref), fingerprint, manifest["kind"], manifest["metadata"]["name"],
                manifest, seconds,
            )  # fmt: skip
        return Claim(ref, attempt) if attempt else None

    async def take_over(self, ref: IdempotencyKey, attempt: int, *, seconds: float) -> Claim | None:
        """Claim a row without a response whose claim `attempt` is over; None where another request was
        faster."""
        async with session(self._pool) as connection:
            taken = await connection.fetchval(_TAKE_OVER, *_arguments(ref), attempt, seconds)
        return Claim(ref, taken) if taken else None

    async def end_claim(self, claim: Claim, *, seconds: float) -> None:
        """End a claim early, in `seconds`: the row stays, and the next request finishes it."""
        async with session(self._pool) as connection:
            await connection.execute(_END_CLAIM, *_arguments(claim.ref), claim.attempt, seconds)

    async def delete(self, claim: Claim) -> None:
        """Delete the row: nothing was created, and the key can be used for another request."""
        async with session(self._pool) as connection:
            await connection.execute(_DELETE, *_arguments(claim.ref), claim.attempt)

    async def store(self, ref: IdempotencyKey, response: StoredResponse) -> StoredResponse:
        """Store the response; returns the first one that was stored."""
        async with session(self._pool) as connection:
            row = await connection.fetchrow(_STORE, *_arguments(ref), response.status, response.body)
        return StoredResponse(row["status"], row["body"]) if row else response

    async def created_uid(self, kind: Kind, merchant: str, name: str) -> str | None:
        """The uid of the first resource of that name in the ledgers, also where the resource is gone."""
        async with session(self._pool) as connection:
            uid = await connection.fetchval(_FIND_CREATED[kind], merchant, name)
        return str(uid) if uid else None


def _arguments(ref: IdempotencyKey) -> tuple[str, str, bytes]:
    return ref.merchant, ref.principal, ref.key_hash


def _entry(row: Row) -> IdempotencyRecord:
    return IdempotencyRecord(
        fingerprint=row["fingerprint"],
        manifest=row["manifest"],
        response=StoredResponse(row["status"], row["body"]) if row["status"] is not None else None,
        attempt=row["attempt"],
        is_claimed=row["is_claimed"],
    )
