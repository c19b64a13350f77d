"""Rate limit counters that all replicas share in Redis, with counters of this process as the fallback."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import structlog
from limits.aio.storage import RedisStorage
from prometheus_client import Counter
from redis.asyncio import BlockingConnectionPool
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from orderplane.adapters.limits.counters import Counters, Limit, LimitStatus, StoredCounters
from orderplane.adapters.limits.memory import BoundedMemoryStorage

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
    local = StoredCounters(BoundedMemoryStorage())
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
