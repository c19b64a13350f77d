"""Which rows of a batch may go out now, and which never can. Pure."""

from collections import defaultdict
from collections.abc import Sequence
from uuid import UUID

from orderplane.events.envelope import HistoryRow
from orderplane.events.types import EventType


class Row(HistoryRow):
    """An unpublished row of table `history`."""

    id: int


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


def sendable(rows: Sequence[Row], largest: int) -> tuple[list[Row], list[tuple[Row, str]]]:
    """Take out the rows that cannot go out as they are, and what comes after them in their subjects.

    Args:
        largest: The most bytes that a message's value may have.

    Returns:
        What can go out, and of each subject that is cut short the first row that cannot, with why.
    """
    fit: list[Row] = []
    refused: dict[UUID, tuple[Row, str]] = {}
    for row in sorted(rows, key=lambda row: row["seq"]):
        if row["subject"] in refused:
            continue
        if reason := _refusal(row, largest):
            refused[row["subject"]] = (row, reason)
        else:
            fit.append(row)
    return fit, list(refused.values())


def _refusal(row: Row, largest: int) -> str | None:
    if row["type"] not in _KNOWN:
        return "unknown_type"
    # A character takes four bytes at most: only what is suspiciously long is encoded to be measured.
    if len(row["data"]) * 4 > largest and len(row["data"].encode()) > largest:
        return "too_large"
    return None
