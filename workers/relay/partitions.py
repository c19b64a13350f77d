"""Which partitions a relay serves, so that several share them fairly. Pure."""

from collections.abc import Set
from dataclasses import dataclass

from orderplane.events.types import OUTBOX_PARTITIONS


@dataclass(frozen=True, slots=True)
class Change:
    """What to do about partitions now: let go of some, and try to take others that look free."""

    release: tuple[int, ...] = ()
    claim: tuple[int, ...] = ()


def fair_share(partitions: int, relays: int) -> int:
    """How many partitions one of `relays` relays takes at most, so that together they take all of them."""
    return -(-partitions // max(1, relays))


def share_out(mine: Set[int], taken: Set[int], relays: int, partitions: int = OUTBOX_PARTITIONS) -> Change:
    """What a relay changes about its partitions.

    Args:
        mine: The partitions it serves.
        taken: The partitions that anybody serves.
        relays: How many relays there are, itself included.
    """
    share = fair_share(partitions, relays)
    free = [partition for partition in range(partitions) if partition not in taken and partition not in mine]
    return Change(
        release=tuple(sorted(mine)[share:]),
        claim=tuple(free[: max(0, share - len(mine))]),
    )
