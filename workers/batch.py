"""Which rows of a batch may go out now, and which never can. Pure."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from orderplane.events.types import EventType

Row = Mapping[str, Any]
"""A row of table `history`, with `data` as JSON text."""

_KNOWN = frozenset(type_.value for type_ in EventType)


def rounds(rows: Sequence[Row]) -> list[list[Row]]:
    """Split a batch so that each round holds at most one row of a subject, the lowest sequence first.

    The acknowledgement of one round is awaited before the next is sent, so that nobody sees the second
    event of an order before the first, whatever topics they are in.
    """
    by_subject: dict[UUID, list[Row]] = defaultdict(list)
    for row in rows:
        by_subject[row["subject"]].append(row)
    result: list[list[Row]] = []
    for waiting in by_subject.values():
        waiting.sort(key=lambda row: row["seq"])
        for number, row in enumerate(waiting):
            if number == len(result):
                result.append([])
            result[number].append(row)
    return result


def refusal(row: Row, largest: int) -> str | None:
    """Why a row cannot go out as it is; None where it can.

    Args:
        largest: The most bytes that a message's value may have.
    """
    if row["type"] not in _KNOWN:
        return "unknown_type"
    if len(row["data"].encode()) > largest:
        return "too_large"
    return None
