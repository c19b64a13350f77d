"""Limits that replicas share in a real Redis, and what happens when it is gone or does not answer."""

import time
from collections.abc import AsyncIterator, Callable

import pytest
from prometheus_client import REGISTRY
from redis.exceptions import ConnectionError as RedisGone
from structlog.testing import capture_logs

from orderplane.adapters.limits.counters import Limit, LimitStatus
from orderplane.adapters.limits.memory import MemoryCounters
from orderplane.adapters.limits.shared import ANSWER_SECONDS, PAUSE_SECONDS, SharedCounters, open_counters

from .redis_server import RedisServer, running_redis

LIMIT, EXACT = Limit(3, 60), Limit(3, 60, is_exact=True)


def errors() -> float:
    return REGISTRY.get_sample_value("orderplane_rate_limiter_errors_total") or 0.0


class Elsewhere:
    """Shared counters that can be told how to behave."""

    def __init__(self) -> None:
        self.asked = 0
        self.behave: Callable[[], LimitStatus] = lambda: LimitStatus(True, 7, 1.0)

    async def hit(self, limit: Limit, *key: str) -> LimitStatus:
        self.asked += 1
        return self.behave()

    peek = hit


def be_gone() -> LimitStatus:
    raise RedisGone("no")


async def test_while_it_is_gone_it_is_asked_once_a_second_and_told_of_once() -> None:
    elsewhere, now = Elsewhere(), 0.0
    counters = SharedCounters(elsewhere, MemoryCounters(), monotonic=lambda: now)
    before = errors()
    with capture_logs() as logs:
        assert (await counters.hit(LIMIT, "k")).left == 7
        elsewhere.behave = be_gone
        assert [(await counters.hit(LIMIT, "k")).is_within for _ in range(4)] == [True] * 3 + [False]
        assert elsewhere.asked == 2
        now += PAUSE_SECONDS
        for _ in range(4):
            await counters.peek(LIMIT, "k")
        assert elsewhere.asked == 3
        assert errors() - before == 2
        elsewhere.behave = lambda: LimitStatus(True, 6, 1.0)
        assert not (await counters.peek(LIMIT, "k")).is_within
        now += PAUSE_SECONDS
        assert (await counters.hit(LIMIT, "k")).left == 6
    assert [log["log_level"] for log in logs] == ["warning", "info"]


@pytest.fixture(scope="module")
async def redis() -> AsyncIterator[RedisServer]:
    async with running_redis() as server:
        yield server


@pytest.mark.integration
@pytest.mark.parametrize("limit", [LIMIT, EXACT])
async def test_replicas_share_what_they_count(redis: RedisServer, limit: Limit) -> None:
    async with open_counters(redis.url) as one, open_counters(redis.url) as other:
        key = ("somebody", str(limit.is_exact))
        assert [(await counters.hit(limit, *key)).left for counters in (one, other, one)] == [2, 1, 0]
        for counters in (one, other):
            refused = await counters.hit(limit, *key)
            assert (refused.is_within, refused.left) == (False, 0)
            assert 0 < refused.reset_seconds <= 60
            assert not (await counters.peek(limit, *key)).is_within


@pytest.mark.integration
async def test_nobody_is_known_by_what_stands_there(redis: RedisServer) -> None:
    async with open_counters(redis.url) as counters:
        await counters.hit(LIMIT, "address", "198.51.100.7")
        await counters.hit(EXACT, "account", "ada@example.org")
    keys = await redis.keys()
    assert len(keys) >= 2
    assert not any("198.51" in key or "ada" in key for key in keys)


@pytest.mark.integration
async def test_requests_go_on_when_it_is_killed_and_are_limited_again_when_it_is_back() -> None:
    async with running_redis() as server, open_counters(server.url) as one, open_counters(server.url) as two:
        for _ in range(3):
            await one.hit(LIMIT, "k")
        assert not (await one.hit(LIMIT, "k")).is_within
        await server.kill()
        before = errors()
        begun_at = time.monotonic()
        # Each counts alone now, and for this process nothing has happened yet.
        assert [(await one.hit(LIMIT, "k")).is_within for _ in range(4)] == [True] * 3 + [False]
        assert time.monotonic() - begun_at < 2 * ANSWER_SECONDS + 1
        assert errors() > before
        await server.start()
        while (await one.hit(LIMIT, "back", str(time.monotonic()))).left != 2 or not await server.keys():
            pass
        await one.hit(LIMIT, "shared")
        while (await two.hit(LIMIT, "shared")).left == 2:  # it may not have noticed yet
            pass


@pytest.mark.integration
async def test_nothing_waits_for_one_that_hangs() -> None:
    async with running_redis() as server, open_counters(server.url) as counters:
        await counters.hit(LIMIT, "k")
        async with server.hanging():
            begun_at = time.monotonic()
            for _ in range(200):
                await counters.hit(Limit(1000, 60), "k")
            took = time.monotonic() - begun_at
        # One time-out a second, not one a request.
        assert took < 3 * ANSWER_SECONDS + 0.5


@pytest.mark.integration
async def test_it_need_not_be_there_at_the_start() -> None:
    async with running_redis() as server:
        await server.kill()
        async with open_counters(server.url) as counters:
            assert (await counters.hit(LIMIT, "k")).is_within
