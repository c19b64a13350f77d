"""Cursors: the position of a client in a list, as an opaque string.

A cursor is base64url of an eight-byte checksum and a JSON object with a version. The checksum only detects
damage. It needs no secret, because a cursor reaches nothing that its list does not show anyway.
"""

import base64
import binascii
import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import orjson

from orderplane.gateway.http.problems import Problem

VERSION = 1
MAX_CURSOR = 4096
_CHECK = 8

T = TypeVar("T")


def write_cursor(kind: str, state: Mapping[str, str | None]) -> str:
    """Encode a position in the list `kind`."""
    payload = orjson.dumps({"v": VERSION, "k": kind, "s": dict(state)})
    return base64.urlsafe_b64encode(_checksum(payload) + payload).decode().rstrip("=")


def read_cursor(kind: str, cursor: str) -> dict[str, str | None]:
    """Decode a cursor of the list `kind`.

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
    # Anyone can compute the checksum, so the content is checked as any other input.
    if not isinstance(state, dict) or not all(_is_plain(value) for value in state.values()):
        raise invalid_cursor()
    return _CursorState(state)


class _CursorState(dict[str, str | None]):
    """The decoded state; a missing member means that the cursor was forged."""

    def __missing__(self, _: str) -> str | None:
        raise invalid_cursor()


def _is_plain(value: object) -> bool:
    return value is None or (isinstance(value, str) and "\0" not in value)


def read_after(kind: str, cursor: str | None) -> str:
    """The key after which a page begins, in a list sorted by key; empty without a cursor.

    Raises:
        Problem: `invalid_cursor`.
    """
    after = read_cursor(kind, cursor).get("after") if cursor else ""
    # PostgreSQL refuses text with a zero byte, and a forged cursor may contain one.
    if after is None or "\0" in after:
        raise invalid_cursor()
    return after


def read_before(kind: str, cursor: str | None) -> int | None:
    """The number before which a page begins, in a list with the greatest number first; None without a cursor.

    Raises:
        Problem: `invalid_cursor`.
    """
    if cursor is None:
        return None
    text = read_cursor(kind, cursor).get("before") or ""
    # A forged cursor may contain more than PostgreSQL's bigint takes.
    if not re.fullmatch(r"[0-9]{1,18}", text):
        raise invalid_cursor()
    return int(text)


def cut_page(
    found: Sequence[T], limit: int, kind: str, position: Callable[[T], Mapping[str, str | None]]
) -> tuple[Sequence[T], str | None]:
    """A page of the list `kind`, and the cursor of the next one; None after the last.

    Args:
        found: What comes on the page, and one more where there is more.
        position: Where the next page goes on, by the last item of this one; as `read_cursor` answers it.
    """
    page = found[:limit]
    return page, write_cursor(kind, position(page[-1])) if len(found) > limit else None


def invalid_cursor() -> Problem:
    """The problem for a cursor that cannot be read, or that the API server does not accept."""
    return Problem("invalid_cursor", "Take `next` of a page as it is, or leave `cursor` out to begin anew.")


def _checksum(payload: bytes) -> bytes:
    return hashlib.sha256(payload).digest()[:_CHECK]
