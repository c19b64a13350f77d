"""Idempotency keys of requests, the names made from them, and the cleanup of old keys.

Source of the header: https://datatracker.ietf.org/doc/draft-ietf-httpapi-idempotency-key-header/
"""

import asyncio
import base64
import hashlib
import re
from collections.abc import Sequence
from typing import Any

import orjson
import structlog

from orderplane.gateway.http.problems import Problem
from orderplane.ledgers.errors import Transient
from orderplane.ledgers.postgres.idempotency import PostgresIdempotency

MAX_KEY = 255

_BARE = re.compile(r"[!#-\[\]-~]+")  # visible ASCII but for the quote and the backslash
_QUOTED = re.compile(r'"((?:[!#-\[\]-~]|\\["\\])*)"')
_ESCAPE = re.compile(r'\\(["\\])')
_HOW = f"Send one key of 1 to {MAX_KEY} visible ASCII characters, quoted or bare; a UUID is good."


def parse_key(headers: Sequence[str]) -> str:
    """Read the values of all `Idempotency-Key` headers of a request; `"a"` and `a` are the same key.

    Raises:
        Problem: `idempotency_key_missing`, `idempotency_key_invalid`.
    """
    if not headers:
        raise Problem("idempotency_key_missing", f"This request needs the header Idempotency-Key. {_HOW}")
    if len(headers) > 1:
        raise Problem("idempotency_key_invalid", f"Idempotency-Key was sent more than once. {_HOW}")
    text = headers[0].strip(" \t")
    if quoted := _QUOTED.fullmatch(text):
        key = _ESCAPE.sub(r"\1", quoted.group(1))
    else:
        key = text if _BARE.fullmatch(text) else ""
    if not 1 <= len(key) <= MAX_KEY:
        raise Problem("idempotency_key_invalid", f"Idempotency-Key is empty, too long or malformed. {_HOW}")
    return key


def hash_key(key: str) -> bytes:
    """What is stored of the key: SHA-256, because clients put all sorts of things into keys."""
    return hashlib.sha256(key.encode()).digest()


def order_name(merchant: str, principal: str, key: str) -> str:
    """The one name that an order of this key can have: `o-` and 26 characters, 128 bits of SHA-256."""
    return "o-" + _digest(merchant, principal, key)


def reservation_name(merchant: str, principal: str, key: str) -> str:
    """The one name that a reservation of this key can have: `r-`, and the rest as an order's."""
    return "r-" + _digest(merchant, principal, key)


def _digest(merchant: str, principal: str, key: str) -> str:
    parts = orjson.dumps([merchant, principal, key])  # as JSON, so that no two triples look the same
    digest = hashlib.sha256(parts).digest()[:16]
    return base64.b32encode(digest).decode().rstrip("=").lower()


def fingerprint(document: Any) -> bytes:
    """SHA-256 of a client's JSON in canonical form: members sorted, no white space.

    Integers, strings, booleans and null only mean one thing each, and no request has other scalars.
    """
    return hashlib.sha256(orjson.dumps(document, option=orjson.OPT_SORT_KEYS)).digest()


PERIOD_SECONDS = 600.0

log = structlog.get_logger(__name__)


async def purge(keys: PostgresIdempotency) -> None:
    """Purge now and then, until cancelled."""
    while True:
        await asyncio.sleep(PERIOD_SECONDS)
        try:
            dropped = await keys.purge()
        except Transient as problem:
            log.warning("idempotency keys not purged, it is tried again", detail=problem.message)
        else:
            log.info("idempotency keys purged", dropped=dropped)
