"""Times that a client sets, in one form: `2030-01-31T12:00:00Z`.

RFC 3339 allows more: small letters, offsets, fractions, leap seconds, the years 0 to 9999. Not everything
that reads such a time can read all of it: CEL cannot read `t` and `z`, and a rule that fails to read a stored
value refuses every later update of its object, also the operator's. So the form is a pattern, which compares
characters, and there is no `format: date-time` on such a field, which would make CEL read it.

Source: https://kubernetes.io/docs/reference/using-api/cel/#cel-types-and-openapi-schemas
"""

import re
from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import BeforeValidator, WithJsonSchema

_DAY = (
    r"(20\d\d-((0[13578]|1[02])-(0[1-9]|[12]\d|3[01])|(0[469]|11)-(0[1-9]|[12]\d|30)|02-(0[1-9]|1\d|2[0-8]))"
    r"|20([02468][048]|[13579][26])-02-29)"
).replace(r"\d", "[0-9]")
TIME_PATTERN = f"^{_DAY}T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]Z$"
"""Every second of the years 2000 to 2099 in UTC, and nothing else."""

EARLIEST = datetime(2000, 1, 1, tzinfo=UTC)
LATEST = datetime(2099, 12, 31, 23, 59, 59, tzinfo=UTC)

_CANONICAL = re.compile(TIME_PATTERN)


def _check(value: Any) -> Any:
    if isinstance(value, datetime):
        return value
    if not isinstance(value, str) or not _CANONICAL.fullmatch(value):
        raise ValueError("Send a time as 2030-01-31T12:00:00Z, in UTC and in whole seconds.")
    return datetime.fromisoformat(value)


def _read(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        found = datetime.fromisoformat(value.upper())
    except ValueError:
        return EARLIEST
    try:
        found = (found if found.tzinfo else found.replace(tzinfo=UTC)).astimezone(UTC)
    except OverflowError:
        return EARLIEST if found.year < EARLIEST.year else LATEST
    return min(max(found, EARLIEST), LATEST)


Time = Annotated[
    datetime,
    BeforeValidator(_check),
    WithJsonSchema({"type": "string", "maxLength": 20, "pattern": TIME_PATTERN}),
]
"""A time in a new object."""

StoredTime = Annotated[datetime, BeforeValidator(_read)]
"""A time in a stored object, which may be older than the pattern: what cannot be read is long over."""
