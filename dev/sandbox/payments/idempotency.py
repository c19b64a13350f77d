"""Idempotency keys: the first reply is stored, an error too, and sent again.

Source: https://docs.stripe.com/api/idempotent_requests
"""

import time
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import blake2b

from aiohttp import web

from orderplane.dev.sandbox.exchange import Perform, Reply
from orderplane.dev.sandbox.payments.wire import Form, Refusal
from orderplane.dev.sandbox.store import Store

_MAX_LENGTH = 255
_SWEEP_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class StoredReply:
    """The first reply to a key. `fingerprint` covers path and parameters; `at` is unix time."""

    fingerprint: str
    status: int
    body: str
    at: float


class IdempotencyKeys:
    """All keys of the account.

    Args:
        ttl_seconds: Seconds until a key is deleted.
    """

    def __init__(self, store: Store, ttl_seconds: float) -> None:
        self._kept = store.table("key", lambda row: StoredReply(**row))
        self._ttl_seconds = ttl_seconds
        self._in_use: dict[str, str] = {}
        self._swept_at = 0.0

    async def answer(self, request: web.Request, body: bytes, perform: Perform) -> Reply:
        """Perform once for each key; without a key, each time.

        Raises:
            Refusal: the key was used with other parameters, or its request is in progress.
        """
        key = request.headers.get("Idempotency-Key")
        if key is None or request.method != "POST":
            return await perform()
        if not 0 < len(key) <= _MAX_LENGTH:
            raise Refusal(400, f"Idempotency keys have 1 to {_MAX_LENGTH} characters.", is_replayed=False)
        now = time.time()
        if now - self._swept_at > _SWEEP_SECONDS:
            self.prune(now)
        fingerprint = _fingerprint(request.path, Form(body.decode()).pairs)
        kept = self._kept.get(key)
        if kept is not None and now - kept.at < self._ttl_seconds:
            _check_same(key, kept.fingerprint, fingerprint)
            return Reply(kept.status, kept.body.encode(), {"Idempotent-Replayed": "true"})
        if key in self._in_use:
            _check_same(key, self._in_use[key], fingerprint)
            raise Refusal(
                409,
                f"There is currently another in-progress request using the idempotency key {key}.",
                code="idempotency_key_in_use",
                kind="idempotency_error",
                is_replayed=False,
            )
        return await self._first(key, fingerprint, perform)

    def prune(self, now: float, *, everything: bool = False) -> int:
        """Delete expired keys, or all; returns how many."""
        self._swept_at = now
        gone = [key for key, kept in self._kept.items() if everything or now - kept.at >= self._ttl_seconds]
        for key in gone:
            self._kept.drop(key)
        return len(gone)

    async def _first(self, key: str, fingerprint: str, perform: Perform) -> Reply:
        self._in_use[key] = fingerprint
        try:
            reply = await perform()
        except Refusal as refusal:
            if not refusal.is_replayed:
                raise
            reply = refusal.reply()
        finally:
            del self._in_use[key]
        if reply.body:
            self._kept.put(key, StoredReply(fingerprint, reply.status, reply.body.decode(), time.time()))
        return reply


def _check_same(key: str, first: str, now: str) -> None:
    if first != now:
        raise Refusal(
            400,
            f"Keys for idempotent requests can only be used with the same parameters they were first used "
            f"with. Try using a key other than '{key}'.",
            kind="idempotency_error",
            is_replayed=False,
        )


def _fingerprint(path: str, pairs: Iterable[tuple[str, str]]) -> str:
    return blake2b(repr((path, sorted(pairs))).encode(), digest_size=16).hexdigest()
