"""Idempotency keys: which request a key stands for, who is working on it, and what was answered.

Where the effect is in PostgreSQL, it is one transaction with the answer (`once`). Where a resource is made,
there is a claim, a lease by the database's clock. Whoever holds it may create the resource; it is held for
longer than a create can take, so that a claim that is over means: that create has landed, or never will.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from orderplane.crds.documents import Manifest
from orderplane.crds.meta import Kind
from orderplane.ledgers.postgres.session import Connection, Pool, session, transaction

KEEP_DAYS = 30
"""How long a key is kept at least; and a day beyond the end of its order."""

_MADE = {
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
    """The right to carry one key's request out; the highest `attempt` holds it."""

    ref: IdempotencyKey
    attempt: int


@dataclass(frozen=True, slots=True)
class StoredResponse:
    """What a key's request was answered, for good."""

    status: int
    body: str


@dataclass(frozen=True, slots=True)
class IdempotencyRecord:
    """One key's row. `response` is None until it is finished; `is_claimed`: someone is at it right now.

    `manifest` is the resource that is made for it, None where that is none.
    """

    fingerprint: bytes
    manifest: Manifest | None
    response: StoredResponse | None
    attempt: int = 1
    is_claimed: bool = False


@dataclass(frozen=True, slots=True)
class IdempotentResponse:
    """The answer to give; `is_replayed`: an earlier request with the key was given it."""

    response: StoredResponse
    is_replayed: bool


Effect = Callable[[Connection], Awaitable[StoredResponse]]
"""Changes something in the transaction of the connection, and answers what to say of it."""


class KeyReused(Exception):  # noqa: N818
    """The key belongs to another request; nothing was done."""


class PostgresIdempotency:
    """The table `idempotency`. But for `once` each method is one statement; raises as `session` does."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def find(self, ref: IdempotencyKey) -> IdempotencyRecord | None:
        """The row of a key."""
        async with session(self._pool) as connection:
            row = await connection.fetchrow(
                "SELECT *, claimed_until > now() AS is_claimed FROM idempotency "
                "WHERE merchant = $1 AND principal = $2 AND key_hash = $3",
                *_arguments(ref),
            )
        return _entry(row) if row else None

    async def once(self, ref: IdempotencyKey, fingerprint: bytes, effect: Effect) -> IdempotentResponse:
        """Carry `effect` out in the transaction that stores its answer; a key that has one gets that.

        A second request at the same time waits here for the first. Where `effect` raises, nothing was done,
        and the key is as unused as before.

        Raises:
            KeyReused: the key belongs to a request with another fingerprint.
        """
        async with transaction(self._pool) as connection:
            is_first = await connection.fetchval(
                "INSERT INTO idempotency (merchant, principal, key_hash, fingerprint) "
                "VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING RETURNING true",
                *_arguments(ref), fingerprint,
            )  # fmt: skip
            if is_first:
                answer = await effect(connection)
                await connection.execute(
                    "UPDATE idempotency SET status = $4, body = $5 "
                    "WHERE merchant = $1 AND principal = $2 AND key_hash = $3",
                    *_arguments(ref), answer.status, answer.body,
                )  # fmt: skip
                return IdempotentResponse(answer, is_replayed=False)
        entry = await self.find(ref)
        if entry is None or entry.response is None or entry.fingerprint != fingerprint:
            raise KeyReused
        return IdempotentResponse(entry.response, is_replayed=True)

    async def claim(
        self, ref: IdempotencyKey, *, fingerprint: bytes, manifest: Manifest, seconds: float
    ) -> Claim | None:
        """Make the row and hold it; None where the key has a row already."""
        async with session(self._pool) as connection:
            attempt = await connection.fetchval(
                "INSERT INTO idempotency "
                "(merchant, principal, key_hash, fingerprint, kind, name, manifest, claimed_until) "
                "VALUES ($1, $2, $3, $4, $5, $6, $7, now() + make_interval(secs => $8)) "
                "ON CONFLICT DO NOTHING RETURNING attempt",
                *_arguments(ref), fingerprint, manifest["kind"], manifest["metadata"]["name"], manifest,
                seconds,
            )  # fmt: skip
        return Claim(ref, attempt) if attempt else None

    async def take_over(self, ref: IdempotencyKey, attempt: int, *, seconds: float) -> Claim | None:
        """Hold an unfinished row whose claim `attempt` is over; None where somebody was faster."""
        async with session(self._pool) as connection:
            taken = await connection.fetchval(
                "UPDATE idempotency SET attempt = attempt + 1, "
                "claimed_until = now() + make_interval(secs => $5) "
                "WHERE merchant = $1 AND principal = $2 AND key_hash = $3 "
                "AND status IS NULL AND attempt = $4 AND claimed_until <= now() "
                "RETURNING attempt",
                *_arguments(ref), attempt, seconds,
            )  # fmt: skip
        return Claim(ref, taken) if taken else None

    async def give_up(self, claim: Claim, *, seconds: float) -> None:
        """End a claim early, in `seconds`: the row stays, and the next request finishes it."""
        async with session(self._pool) as connection:
            await connection.execute(
                "UPDATE idempotency SET claimed_until = now() + make_interval(secs => $5) "
                "WHERE merchant = $1 AND principal = $2 AND key_hash = $3 "
                "AND status IS NULL AND attempt = $4",
                *_arguments(claim.ref), claim.attempt, seconds,
            )  # fmt: skip

    async def forget(self, claim: Claim) -> None:
        """Take the row away: nothing was made, and the key can be used for another request."""
        async with session(self._pool) as connection:
            await connection.execute(
                "DELETE FROM idempotency "
                "WHERE merchant = $1 AND principal = $2 AND key_hash = $3 "
                "AND status IS NULL AND attempt = $4",
                *_arguments(claim.ref), claim.attempt,
            )  # fmt: skip

    async def store(self, ref: IdempotencyKey, answer: StoredResponse) -> StoredResponse:
        """Store the answer, once: answers the one that was first."""
        async with session(self._pool) as connection:
            row = await connection.fetchrow(
                # coalesce: whoever comes second writes back what is there, and is told of it.
                "UPDATE idempotency SET status = coalesce(status, $4), body = coalesce(body, $5) "
                "WHERE merchant = $1 AND principal = $2 AND key_hash = $3 RETURNING status, body",
                *_arguments(ref), answer.status, answer.body,
            )  # fmt: skip
        return StoredResponse(row["status"], row["body"]) if row else answer

    async def created_uid(self, kind: Kind, merchant: str, name: str) -> str | None:
        """The uid of the first of that name that the ledgers know, also if it is gone."""
        async with session(self._pool) as connection:
            uid = await connection.fetchval(_MADE[kind], merchant, name)
        return str(uid) if uid else None

    async def purge(self, *, limit: int = 1000) -> int:
        """Drop keys that are old enough, at most `limit`; answers how many."""
        async with session(self._pool) as connection:
            tag = await connection.execute(
                "DELETE FROM idempotency WHERE (merchant, principal, key_hash) IN ("
                "  SELECT merchant, principal, key_hash FROM idempotency i "
                "  WHERE created_at < now() - make_interval(days => $1) AND NOT EXISTS ("
                "    SELECT FROM orders o "
                "    WHERE i.kind = 'Order' AND o.merchant = i.merchant AND o.name = i.name "
                "    AND (o.finished_at IS NULL OR o.finished_at > now() - interval '1 day')) "
                "  ORDER BY created_at LIMIT $2)",
                KEEP_DAYS, limit,
            )  # fmt: skip
        return int(tag.rpartition(" ")[2])


def _arguments(ref: IdempotencyKey) -> tuple[str, str, bytes]:
    return ref.merchant, ref.principal, ref.key_hash


def _entry(row: Any) -> IdempotencyRecord:
    return IdempotencyRecord(
        fingerprint=row["fingerprint"],
        manifest=row["manifest"],
        response=StoredResponse(row["status"], row["body"]) if row["status"] is not None else None,
        attempt=row["attempt"],
        is_claimed=row["is_claimed"],
    )
