"""Which rows may go out now, and which lanes are ours: the relay's decisions. Pure."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

Row = Mapping[str, Any]


def rounds(rows: Sequence[Row]) -> list[list[Row]]:
    """Split a batch so that each round holds at most one row of a subject, the lowest sequence first.

    The acknowledgement of one round is awaited before the next is sent, so that nobody sees the second
    event of an order before the first, whatever topics they are in.
    """
    by_subject: dict[Any, list[Row]] = defaultdict(list)
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


def fair_share(lanes: int, relays: int) -> int:
    """How many lanes one of `relays` relays takes, so that together they take all of them."""
    return -(-lanes // max(1, relays))
