"""Idempotency keys of requests, and the names made from them.

Source of the header: https://datatracker.ietf.org/doc/draft-ietf-httpapi-idempotency-key-header/
"""

import base64
import hashlib
import re
from collections.abc import Sequence
from typing import Any

import orjson

from orderplane.gateway.http.problems import Problem

MAX_KEY = 255

_BARE = re.compile(r"[!#-\[\]-~]+")  # visible ASCII but for the quote and the backslash
_QUOTED = re.compile(r'"((?:[!#-\[\]-~]|\\["\\])*)"')
_ESCAPE = re.compile(r'\\(["\\])')
_ADVICE = f"Send one key of 1 to {MAX_KEY} visible ASCII characters, quoted or bare; a UUID is good."


def parse_key(headers: Sequence[str]) -> str:
    """Parse the `Idempotency-Key` headers of a request; `"a"` and `a` are the same key.

    Raises:
        Problem: `idempotency_key_missing`, `idempotency_key_invalid`.
    """
    if not headers:
        raise Problem("idempotency_key_missing", f"This request needs the header Idempotency-Key. {_ADVICE}")
    if len(headers) > 1:
        raise Problem("idempotency_key_invalid", f"Idempotency-Key was sent more than once. {_ADVICE}")
    text = headers[0].strip(" \t")
    if quoted := _QUOTED.fullmatch(text):
        key = _ESCAPE.sub(r"\1", quoted.group(1))
    else:
        key = text if _BARE.fullmatch(text) else ""
    if not 1 <= len(key) <= MAX_KEY:
        raise Problem(
            "idempotency_key_invalid", f"Idempotency-Key is empty, too long or malformed. {_ADVICE}"
        )
    return key


def hash_key(key: str) -> bytes:
    """SHA-256 of a key, which is stored in its place: clients may put personal data into keys."""
    return hashlib.sha256(key.encode()).digest()


def order_name(merchant: str, principal: str, key: str) -> str:
    """The name of the order with this key: `o-` and 26 characters, 128 bits of SHA-256."""
    return "o-" + _digest(merchant, principal, key)


def reservation_name(merchant: str, principal: str, key: str) -> str:
    """The name of the reservation with this key: `r-`, and the rest as an order's."""
    return "r-" + _digest(merchant, principal, key)


def refund_name(merchant: str, principal: str, key: str) -> str:
    """The name of the refund with this key: `rf-`, and the rest as an order's."""
    return "rf-" + _digest(merchant, principal, key)


def _digest(merchant: str, principal: str, key: str) -> str:
    parts = orjson.dumps([merchant, principal, key])  # JSON keeps ("a", "bc") and ("ab", "c") apart
    digest = hashlib.sha256(parts).digest()[:16]
    return base64.b32encode(digest).decode().rstrip("=").lower()


def fingerprint(document: Any) -> bytes:
    """SHA-256 of a client's JSON in canonical form: members sorted, no white space.

    Requests have no floats, so every scalar has exactly one form.
    """
    return hashlib.sha256(orjson.dumps(document, option=orjson.OPT_SORT_KEYS)).digest()
