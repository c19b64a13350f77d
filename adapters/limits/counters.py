"""Rate limit counters: the port, and its implementation over the library `limits`."""

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


class StoredCounters:
    """Implements `Counters` over a storage of `limits`; exceptions of the storage are not caught."""

    def __init__(self, storage: Storage) -> None:
        assert isinstance(storage, MovingWindowSupport)
        assert isinstance(storage, SlidingWindowCounterSupport)
        self._exact = MovingWindowRateLimiter(storage)
        self._estimated = SlidingWindowCounterRateLimiter(storage)

    async def hit(self, limit: Limit, *key: str) -> LimitStatus:
        counter, item, name = self._of(limit, key)
        is_within = await counter.hit(item, name)
        return await _status(counter, item, name, is_within)

    async def peek(self, limit: Limit, *key: str) -> LimitStatus:
        counter, item, name = self._of(limit, key)
        is_within = await counter.test(item, name)
        return await _status(counter, item, name, is_within)

    def _of(self, limit: Limit, key: tuple[str, ...]) -> tuple[RateLimiter, RateLimitItemPerSecond, str]:
        # Hashed, because keys contain addresses and account names. JSON keeps ("a", "bc") and ("ab", "c")
        # apart.
        name = hashlib.blake2b(orjson.dumps(key), digest_size=16).hexdigest()
        counter = self._exact if limit.is_exact else self._estimated
        return counter, RateLimitItemPerSecond(limit.amount, limit.seconds), name


async def _status(
    counter: RateLimiter, item: RateLimitItemPerSecond, name: str, is_within: bool
) -> LimitStatus:
    window = await counter.get_window_stats(item, name)
    return LimitStatus(is_within, window.remaining, max(0.0, window.reset_time - time.time()))
