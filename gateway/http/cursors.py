"""Where a client is in a list, as an opaque string.

base64url of eight bytes of checksum and a JSON object with a version. The checksum is no secret: it
tells a damaged cursor from a good one, and what a cursor can reach, its list shows anyway.
"""

import base64
import binascii
import hashlib
from collections.abc import Mapping

import orjson

from orderplane.gateway.http.problems import Problem

VERSION = 1
MAX_CURSOR = 4096
_CHECK = 8


def write_cursor(kind: str, state: Mapping[str, str | None]) -> str:
    """Wrap a place in the list `kind`."""
    payload = orjson.dumps({"v": VERSION, "k": kind, "s": dict(state)})
    return base64.urlsafe_b64encode(_checksum(payload) + payload).decode().rstrip("=")


def read_cursor(kind: str, cursor: str) -> dict[str, str | None]:
    """Unwrap it.

    Raises:
        Problem: `invalid_cursor`: it was altered, or belongs to another list or version.
    """
    try:
        raw = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        check, payload = raw[:_CHECK], raw[_CHECK:]
        document = orjson.loads(payload) if check == _checksum(payload) else None
    except (binascii.Error, ValueError):
        document = None
    if not isinstance(document, dict) or document.get("v") != VERSION or document.get("k") != kind:
        raise invalid_cursor()
    state = document.get("s")
    # Anybody can make a checksum: what a place is made of is not to be trusted.
    if not isinstance(state, dict) or not all(_is_plain(value) for value in state.values()):
        raise invalid_cursor()
    return _Place(state)


class _Place(dict[str, str | None]):
    """A place of which nothing may be missing."""

    def __missing__(self, _: str) -> str | None:
        raise invalid_cursor()


def _is_plain(value: object) -> bool:
    return value is None or (isinstance(value, str) and "\0" not in value)


def read_place(kind: str, cursor: str | None) -> str:
    """The key after which a page of a list by key begins; empty without a cursor.

    Raises:
        Problem: `invalid_cursor`.
    """
    after = read_cursor(kind, cursor).get("after") if cursor else ""
    # Anybody can make up a cursor, but PostgreSQL has no text with a zero in it.
    if after is None or "\0" in after:
        raise invalid_cursor()
    return after


def invalid_cursor() -> Problem:
    """The refusal, also for a cursor that the API server does not know."""
    return Problem("invalid_cursor", "Take `next` of a page as it is, or leave `cursor` out to begin anew.")


def _checksum(payload: bytes) -> bytes:
    return hashlib.sha256(payload).digest()[:_CHECK]
