"""Rate limit counters that all replicas share in Redis, with counters of this process as the fallback."""

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import orjson
import structlog
from limits import RateLimitItemPerSecond
from limits.aio.storage import MovingWindowSupport, RedisStorage, SlidingWindowCounterSupport, Storage
from limits.aio.strategies import MovingWindowRateLimiter, RateLimiter, SlidingWindowCounterRateLimiter
from prometheus_client import Counter
from redis.asyncio import BlockingConnectionPool
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from orderplane.adapters.limits.counters import Counters, Limit, LimitStatus
from orderplane.adapters.limits.memory import MemoryCounters

ERRORS = Counter("orderplane_rate_limiter_errors_total", "Calls to Redis that failed or timed out.")

ANSWER_SECONDS = 0.1
"""Timeout of one call to Redis."""
PAUSE_SECONDS = 1.0
"""After a failure Redis is not called for this time; then one call tries it again."""

_CONNECTIONS = 32

log = structlog.get_logger(__name__)


@asynccontextmanager
async def open_counters(redis_url: str | None) -> AsyncIterator[Counters]:
    """Counters in Redis if there is an address, else in this process.

    Redis need not be available, neither now nor later.
    """
    local = MemoryCounters()
    if redis_url is None:
        yield local
        return
    pool = BlockingConnectionPool.from_url(
        redis_url,
        max_connections=_CONNECTIONS,
        timeout=ANSWER_SECONDS,
        socket_connect_timeout=ANSWER_SECONDS,
        socket_timeout=ANSWER_SECONDS,
        retry=Retry(NoBackoff(), 0),
    )
    storage = RedisStorage(
        f"async+{redis_url}",
        implementation="redispy",
        key_prefix="orderplane",
        connection_pool=pool,  # type: ignore[arg-type]
    )
    try:
        yield SharedCounters(StoredCounters(storage), local)
    finally:
        await pool.aclose()


class SharedCounters:
    """Implements `Counters` by the shared ones, or by those of this process while Redis does not answer.

    So a failure of Redis refuses nobody, and limits still hold for each replica.
    """

    def __init__(
        self, shared: Counters, local: Counters, *, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._shared = shared
        self._local = local
        self._monotonic = monotonic
        self._is_down = False
        self._retry_at = 0.0

    async def hit(self, limit: Limit, *key: str) -> LimitStatus:
        return await self._call(lambda counters: counters.hit(limit, *key))

    async def peek(self, limit: Limit, *key: str) -> LimitStatus:
        return await self._call(lambda counters: counters.peek(limit, *key))

    async def _call(self, operation: Callable[[Counters], Awaitable[LimitStatus]]) -> LimitStatus:
        is_retry = self._is_down
        if is_retry:
            if self._monotonic() < self._retry_at:
                return await operation(self._local)
            # Requests that come during this attempt use the local counters at once.
            self._retry_at = self._monotonic() + PAUSE_SECONDS
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                status = await operation(self._shared)
        except (RedisError, OSError, TimeoutError) as problem:
            self._mark_down(problem)
            return await operation(self._local)
        if is_retry:
            self._is_down = False
            log.info("Redis answers again, limits are shared")
        return status

    def _mark_down(self, problem: Exception) -> None:
        ERRORS.inc()
        self._retry_at = self._monotonic() + PAUSE_SECONDS
        if not self._is_down:
            self._is_down = True
            log.warning("Redis does not answer; each replica limits alone", why=type(problem).__name__)


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
