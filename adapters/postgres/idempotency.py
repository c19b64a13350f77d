"""Idempotency keys: which request a key stands for, who is working on it, and what was answered.

A claim is a lease by the database's clock. Whoever holds it may create the order; it is held for longer
than a create can take, so that a claim that is over means: that create has landed, or never will.
"""

from dataclasses import dataclass
from typing import Any

from orderplane.adapters.postgres.pool import Pool, session

KEEP_DAYS = 30
"""How long a key is kept at least; and a day beyond the end of its order."""


@dataclass(frozen=True, slots=True)
class KeyRef:
    """One key of one caller."""

    merchant: str
    principal: str
    key_hash: bytes


@dataclass(frozen=True, slots=True)
class Claim:
    """The right to carry one key's request out; the highest `attempt` holds it."""

    ref: KeyRef
    attempt: int


@dataclass(frozen=True, slots=True)
class Answer:
    """What a key's request was answered, for good."""

    status: int
    body: str


@dataclass(frozen=True, slots=True)
class Entry:
    """One key's row. `answer` is None until it is finished; `is_claimed`: someone is at it right now."""

    fingerprint: bytes
    order_name: str
    manifest: dict[str, Any]
    answer: Answer | None
    attempt: int
    is_claimed: bool


class PostgresIdempotency:
    """The table `idempotency`. Each method is one statement; raises `Transient` as `session` does."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def find(self, ref: KeyRef) -> Entry | None:
        """The row of a key."""
        async with session(self._pool) as connection:
            row = await connection.fetchrow(
                "SELECT *, claimed_until > now() AS is_claimed FROM idempotency "
                "WHERE merchant = $1 AND principal = $2 AND key_hash = $3",
                *_arguments(ref),
            )
        return _entry(row) if row else None

    async def claim(
        self, ref: KeyRef, *, fingerprint: bytes, order_name: str, manifest: dict[str, Any], seconds: float
    ) -> Claim | None:
        """Make the row and hold it; None where the key has a row already."""
        async with session(self._pool) as connection:
            attempt = await connection.fetchval(
                "INSERT INTO idempotency "
                "(merchant, principal, key_hash, fingerprint, order_name, manifest, claimed_until) "
                "VALUES ($1, $2, $3, $4, $5, $6, now() + make_interval(secs => $7)) "
                "ON CONFLICT DO NOTHING RETURNING attempt",
                *_arguments(ref), fingerprint, order_name, manifest, seconds,
            )  # fmt: skip
        return Claim(ref, attempt) if attempt else None

    async def take_over(self, ref: KeyRef, attempt: int, *, seconds: float) -> Claim | None:
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

    async def store(self, ref: KeyRef, answer: Answer) -> Answer:
        """Store the answer, once: answers the one that was first."""
        async with session(self._pool) as connection:
            row = await connection.fetchrow(
                # coalesce: whoever comes second writes back what is there, and is told of it.
                "UPDATE idempotency SET status = coalesce(status, $4), body = coalesce(body, $5) "
                "WHERE merchant = $1 AND principal = $2 AND key_hash = $3 RETURNING status, body",
                *_arguments(ref), answer.status, answer.body,
            )  # fmt: skip
        return Answer(row["status"], row["body"]) if row else answer

    async def made_uid(self, merchant: str, order_name: str) -> str | None:
        """The uid of the order that was once opened under that name, also if it is gone."""
        async with session(self._pool) as connection:
            uid = await connection.fetchval(
                "SELECT uid FROM orders WHERE merchant = $1 AND name = $2 ORDER BY opened_at LIMIT 1",
                merchant, order_name,
            )  # fmt: skip
        return str(uid) if uid else None

    async def purge(self, *, limit: int = 1000) -> int:
        """Drop keys that are old enough, at most `limit`; answers how many."""
        async with session(self._pool) as connection:
            tag = await connection.execute(
                "DELETE FROM idempotency WHERE (merchant, principal, key_hash) IN ("
                "  SELECT merchant, principal, key_hash FROM idempotency i "
                "  WHERE made_at < now() - make_interval(days => $1) AND NOT EXISTS ("
                "    SELECT FROM orders o WHERE o.merchant = i.merchant AND o.name = i.order_name "
                "    AND (o.finished_at IS NULL OR o.finished_at > now() - interval '1 day')) "
                "  ORDER BY made_at LIMIT $2)",
                KEEP_DAYS, limit,
            )  # fmt: skip
        return int(tag.rpartition(" ")[2])


def _arguments(ref: KeyRef) -> tuple[str, str, bytes]:
    return ref.merchant, ref.principal, ref.key_hash


def _entry(row: Any) -> Entry:
    return Entry(
        fingerprint=row["fingerprint"],
        order_name=row["order_name"],
        manifest=row["manifest"],
        answer=Answer(row["status"], row["body"]) if row["status"] is not None else None,
        attempt=row["attempt"],
        is_claimed=row["is_claimed"],
    )
