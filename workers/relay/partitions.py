"""Which lanes a relay serves, so that several share them fairly. Pure."""

from collections.abc import Set
from dataclasses import dataclass

from orderplane.events.types import LANES


@dataclass(frozen=True, slots=True)
class Change:
    """What to do about lanes now: let go of some, and try to take others that look free."""

    release: tuple[int, ...] = ()
    claim: tuple[int, ...] = ()


def fair_share(lanes: int, relays: int) -> int:
    """How many lanes one of `relays` relays takes at most, so that together they take all of them."""
    return -(-lanes // max(1, relays))


def share_out(mine: Set[int], taken: Set[int], relays: int, lanes: int = LANES) -> Change:
    """What a relay changes about its lanes.

    Args:
        mine: The lanes it serves.
        taken: The lanes that anybody serves.
        relays: How many relays there are, itself included.
    """
    share = fair_share(lanes, relays)
    free = [lane for lane in range(lanes) if lane not in taken and lane not in mine]
    return Change(
        release=tuple(sorted(mine)[share:]),
        claim=tuple(free[: max(0, share - len(mine))]),
    )
