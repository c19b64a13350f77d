"""Rate limit counters: how many hits a key had lately."""

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Limit:
    """At most `amount` hits in any `seconds`.

    Args:
        is_exact: Stores the time of every hit (moving window). Otherwise two counters are stored and the hits
            of the previous window are assumed to be spread evenly (sliding window counter), which costs the
            same for any amount.
    """

    amount: int
    seconds: int
    is_exact: bool = False


@dataclass(frozen=True, slots=True)
class LimitStatus:
    """The state of a key: whether it is within its limit, hits left, and seconds until more are."""

    is_within: bool
    left: int
    reset_seconds: float


class Counters(Protocol):
    """Counts hits by limit and key. The counters of `open_counters` never fail, also without Redis."""

    async def hit(self, limit: Limit, *key: str) -> LimitStatus:
        """Count a hit, unless none is left; gives the state of the key afterwards."""
        ...

    async def peek(self, limit: Limit, *key: str) -> LimitStatus:
        """The state of the key, without counting a hit."""
        ...
