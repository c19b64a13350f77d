"""How often something happened of late, and whether that was too often: the port, and `limits` behind it."""

import hashlib
import time
from dataclasses import dataclass
from typing import Protocol

import orjson
from limits import RateLimitItemPerSecond
from limits.aio.storage import MovingWindowSupport, SlidingWindowCounterSupport, Storage
from limits.aio.strategies import MovingWindowRateLimiter, RateLimiter, SlidingWindowCounterRateLimiter


@dataclass(frozen=True, slots=True)
class Limit:
    """`amount` in any `seconds`.

    Args:
        is_exact: The moment of each is remembered. Else two numbers are, and how the hits of the last window
            lay in it is estimated: cheap, however large the amount.
    """

    amount: int
    seconds: int
    is_exact: bool = False


@dataclass(frozen=True, slots=True)
class LimitStatus:
    """Where a key stands: how many it has left, and in how many seconds it gets some back."""

    is_within: bool
    left: int
    reset_seconds: float


class Counters(Protocol):
    """Counts by limit and key. What `open_counters` gives never fails, whatever becomes of Redis."""

    async def hit(self, limit: Limit, *key: str) -> LimitStatus:
        """Count one more, unless there is none left; answers where that leaves the key."""
        ...

    async def look(self, limit: Limit, *key: str) -> LimitStatus:
        """Answers where the key stands, and counts nothing."""
        ...


class StoredCounters:
    """Implements `Counters` over a storage of `limits`, whose exceptions pass."""

    def __init__(self, storage: Storage) -> None:
        assert isinstance(storage, MovingWindowSupport)
        assert isinstance(storage, SlidingWindowCounterSupport)
        self._exact = MovingWindowRateLimiter(storage)
        self._estimated = SlidingWindowCounterRateLimiter(storage)

    async def hit(self, limit: Limit, *key: str) -> LimitStatus:
        counter, item, name = self._of(limit, key)
        is_within = await counter.hit(item, name)
        return await _standing(counter, item, name, is_within)

    async def look(self, limit: Limit, *key: str) -> LimitStatus:
        counter, item, name = self._of(limit, key)
        is_within = await counter.test(item, name)
        return await _standing(counter, item, name, is_within)

    def _of(self, limit: Limit, key: tuple[str, ...]) -> tuple[RateLimiter, RateLimitItemPerSecond, str]:
        # Hashed: whose key it is, an address or an account, is nobody's business. As JSON, so that no two
        # keys look the same.
        name = hashlib.blake2b(orjson.dumps(key), digest_size=16).hexdigest()
        counter = self._exact if limit.is_exact else self._estimated
        return counter, RateLimitItemPerSecond(limit.amount, limit.seconds), name


async def _standing(
    counter: RateLimiter, item: RateLimitItemPerSecond, name: str, is_within: bool
) -> LimitStatus:
    window = await counter.get_window_stats(item, name)
    return LimitStatus(is_within, window.remaining, max(0.0, window.reset_time - time.time()))
