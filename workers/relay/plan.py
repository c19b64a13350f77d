"""Which outbox partitions a relay serves, and which rows of a batch it may send. Pure."""

from collections import defaultdict
from collections.abc import Sequence, Set
from dataclasses import dataclass
from uuid import UUID

from orderplane.events.envelope import HistoryRow
from orderplane.events.types import OUTBOX_PARTITIONS, EventType


class OutboxRow(HistoryRow):
    """A row of `history` that is not published yet."""

    id: int


_KNOWN_TYPES = frozenset(type_.value for type_ in EventType)


@dataclass(frozen=True, slots=True)
class PartitionChange:
    """Partitions to release, and free ones to claim."""

    release: tuple[int, ...] = ()
    claim: tuple[int, ...] = ()


def fair_share(partitions: int, relays: int) -> int:
    """The most partitions that one of `relays` relays takes, so that together they take all of them."""
    return -(-partitions // max(1, relays))


def rebalance(
    mine: Set[int], taken: Set[int], relays: int, partitions: int = OUTBOX_PARTITIONS
) -> PartitionChange:
    """What a relay changes about its partitions, so that all are served and the shares are fair.

    Args:
        mine: The partitions that it serves.
        taken: The partitions that any relay serves.
        relays: How many relays there are, this one included.
    """
    share = fair_share(partitions, relays)
    free = [partition for partition in range(partitions) if partition not in taken and partition not in mine]
    return PartitionChange(
        release=tuple(sorted(mine)[share:]),
        claim=tuple(free[: max(0, share - len(mine))]),
    )


def sequential_batches(rows: Sequence[OutboxRow]) -> list[list[OutboxRow]]:
    """Split rows into batches with at most one row of each subject, in the order of their sequence numbers.

    Each batch is sent only when the one before it is acknowledged. So no consumer can see the second event of
    an order before the first, whatever topics they are in.
    """
    by_subject: dict[UUID, list[OutboxRow]] = defaultdict(list)
    for row in rows:
        by_subject[row["subject"]].append(row)
    batches: list[list[OutboxRow]] = []
    for of_subject in by_subject.values():
        of_subject.sort(key=lambda row: row["seq"])
        for number, row in enumerate(of_subject):
            if number == len(batches):
                batches.append([])
            batches[number].append(row)
    return batches


def split_sendable(
    rows: Sequence[OutboxRow], max_bytes: int
) -> tuple[list[OutboxRow], list[tuple[OutboxRow, str]]]:
    """Separate the rows that cannot be sent, and all later rows of their subjects, from those that can.

    Args:
        max_bytes: The size limit of a message's value.

    Returns:
        The rows to send; and for each blocked subject its first row that cannot be sent, with the reason.
    """
    sendable: list[OutboxRow] = []
    blocked: dict[UUID, tuple[OutboxRow, str]] = {}
    for row in sorted(rows, key=lambda row: row["seq"]):
        if row["subject"] in blocked:
            continue
        if reason := _why_not(row, max_bytes):
            blocked[row["subject"]] = (row, reason)
        else:
            sendable.append(row)
    return sendable, list(blocked.values())


def _why_not(row: OutboxRow, max_bytes: int) -> str | None:
    if row["type"] not in _KNOWN_TYPES:
        return "unknown_type"
    # A character takes four bytes at most, so only long texts are encoded to be measured.
    if len(row["data"]) * 4 > max_bytes and len(row["data"].encode()) > max_bytes:
        return "too_large"
    return None
