"""Counters that all replicas share in Redis, and what happens while Redis does not answer."""

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

ERRORS = Counter("orderplane_rate_limiter_errors_total", "Questions that Redis did not answer in time.")

ANSWER_SECONDS = 0.1
"""The most that one question may take."""
PAUSE_SECONDS = 1.0
"""So long Redis is left alone after it did not answer; then one question tries it."""

_CONNECTIONS = 32

log = structlog.get_logger(__name__)


@asynccontextmanager
async def open_counters(redis_url: str | None) -> AsyncIterator[Counters]:
    """Counters of this process, or with an address those of all who have the same one.

    Redis need not be there, now or later.
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
    """Implements `Counters`: asks the shared ones, and those of this process while they do not answer.

    So nobody is kept out because Redis is gone, and nobody may do without end what is to be limited.
    """

    def __init__(
        self, shared: Counters, local: Counters, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._shared = shared
        self._local = local
        self._clock = clock
        self._is_lost = False
        self._try_at = 0.0

    async def hit(self, limit: Limit, *key: str) -> LimitStatus:
        return await self._ask(lambda counters: counters.hit(limit, *key))

    async def look(self, limit: Limit, *key: str) -> LimitStatus:
        return await self._ask(lambda counters: counters.look(limit, *key))

    async def _ask(self, question: Callable[[Counters], Awaitable[LimitStatus]]) -> LimitStatus:
        is_trial = self._is_lost
        if is_trial:
            if self._clock() < self._try_at:
                return await question(self._local)
            # Whoever comes while this one tries is not to wait, too.
            self._try_at = self._clock() + PAUSE_SECONDS
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                standing = await question(self._shared)
        except (RedisError, OSError, TimeoutError) as problem:
            self._lose(problem)
            return await question(self._local)
        if is_trial:
            self._is_lost = False
            log.info("limits are shared again")
        return standing

    def _lose(self, problem: Exception) -> None:
        ERRORS.inc()
        self._try_at = self._clock() + PAUSE_SECONDS
        if not self._is_lost:
            self._is_lost = True
            log.warning("Redis does not answer; each replica limits alone", why=type(problem).__name__)
