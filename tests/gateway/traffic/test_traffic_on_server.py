"""Rate limits and load shedding with real Redis, PostgreSQL, and an operator that stops and comes back."""

import asyncio
import itertools
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import httpx
import pytest

from orderplane.crds.meta import Kind
from orderplane.gateway.principal import Role

from ...adapters.limits.redis_server import RedisServer, running_redis
from ...support.plane import TEMPO, Merchant
from ..conftest import Gateway, new_key, order_of, running_gateway, until
from .users import headers_of, metric

pytestmark = pytest.mark.integration

SHED_AFTER = 3.0
TEA = "TEA-EARL-GREY-100"


# Rate limits


@asynccontextmanager
async def two_replicas(merchant: Merchant, redis: RedisServer) -> AsyncIterator[list[Gateway]]:
    env = {
        "ORDERPLANE_REDIS_URL": redis.url,
        "ORDERPLANE_RATE_LIMITS": "reads=6/1000",
        "ORDERPLANE_TRUSTED_PROXIES": "127.0.0.0/8",
    }
    async with AsyncExitStack() as stack:
        starting = (stack.enter_async_context(running_gateway(merchant.plane, env)) for _ in range(2))
        yield await asyncio.gather(*starting)


async def test_replicas_limit_together_and_go_on_without_redis(merchant: Merchant) -> None:
    async def codes_of(name: str, *gateways: Gateway) -> list[int]:
        headers = await headers_of(merchant, name, Role.CUSTOMER)
        answers = [await gateway.http.get("/api/orders", headers=headers) for gateway in gateways]
        assert all(int(a.headers["Retry-After"]) >= 1 for a in answers if a.status_code == 429)
        return [answer.status_code for answer in answers]

    together, alone = [200] * 6 + [429] * 2, [200] * 8
    async with running_redis() as redis, two_replicas(merchant, redis) as (one, other):
        both = (one, other) * 4
        assert await codes_of("u-1", *both) == together

        await redis.kill()
        begun_at = time.monotonic()
        assert await codes_of("u-2", *both) == alone
        assert await codes_of("u-3", *(one,) * 8) == together
        assert time.monotonic() - begun_at < 5
        assert await metric(one, "orderplane_rate_limiter_errors_total") >= 1

        await redis.start()
        names = (f"u-back-{number}" for number in itertools.count())

        async def is_together() -> bool:
            return await codes_of(next(names), *both) == together

        await until(is_together, 20)


async def test_logins_are_throttled_over_all_replicas(merchant: Merchant) -> None:
    form = {"grant_type": "password", "username": "nobody@example.test", "password": "wrong", "merchant": "x"}
    async with running_redis() as redis, two_replicas(merchant, redis) as (one, other):
        answers = [
            (await gateway.http.post("/api/auth/login", data=form)).json()["code"]
            for gateway in (one, other) * 6
        ]
        assert answers == ["invalid_grant"] * 10 + ["too_many_logins"] * 2


async def test_one_address_is_stopped_before_its_body_is_read(merchant: Merchant) -> None:
    async with running_gateway(merchant.plane, {"ORDERPLANE_RATE_LIMITS": "orders=10/5"}) as gateway:
        for _ in range(5):
            nobody = await gateway.http.post("/api/orders", headers={"Authorization": ""})
            assert nobody.status_code == 401
        host, _, port = gateway.url.removeprefix("http://").partition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        try:
            writer.write(b"POST /api/orders HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n{")
            async with asyncio.timeout(5):
                assert (await reader.readline()).startswith(b"HTTP/1.1 429 ")
        finally:
            writer.close()
            await writer.wait_closed()


# Load shedding


class Clerk:
    """Places orders of one merchant."""

    def __init__(self, merchant: Merchant, gateway: Gateway, headers: dict[str, str]) -> None:
        self.merchant = merchant
        self.gateway = gateway
        self.headers = headers

    async def place(self, key: str | None = None) -> httpx.Response:
        body = order_of(items=[{"sku": TEA, "quantity": 1}])
        return await self.gateway.post(body, key or new_key(), **self.headers)

    async def until_sent_away(self) -> httpx.Response:
        """One order after the other, and the answer to the first that is not taken."""
        answer = await self.place()
        async with asyncio.timeout(30):
            while answer.status_code == 202:
                await asyncio.sleep(0.5)
                answer = await self.place()
        return answer

    async def orders(self) -> dict[str, Any]:
        page = await self.merchant.api.list_page(Kind.ORDER, self.merchant.name)
        return {order["metadata"]["name"]: order for order in page.items}

    async def keys(self) -> int:
        count: int = await self.merchant.pool.fetchval(
            "SELECT count(*) FROM idempotency WHERE merchant = $1", self.merchant.name
        )
        return count


@pytest.fixture
async def clerk(merchant: Merchant) -> AsyncIterator[Clerk]:
    env = {"ORDERPLANE_SHED_AFTER_SECONDS": str(SHED_AFTER)}
    async with running_gateway(merchant.plane, env) as gateway:
        yield Clerk(merchant, gateway, await headers_of(merchant, "u-clerk"))


async def test_new_orders_are_sent_away_while_nobody_takes_them_up(clerk: Clerk) -> None:
    supervisor = clerk.merchant.plane.supervisor
    await supervisor.stop("operator")
    try:
        key = new_key()
        first = await clerk.place(key)
        begun_at = time.monotonic()
        assert first.status_code == 202
        await clerk.place()
        answer = await clerk.until_sent_away()
        assert time.monotonic() - begun_at > SHED_AFTER
        assert (answer.status_code, answer.json()["code"]) == (503, "overloaded")
        assert int(answer.headers["Retry-After"]) >= 1

        # Nothing is made, and no key is used up.
        before = (len(await clerk.orders()), await clerk.keys())
        again = new_key()
        for _ in range(3):
            assert (await clerk.place(again)).status_code == 503
        assert (len(await clerk.orders()), await clerk.keys()) == before

        # What was accepted is answered the same, and everything else goes on.
        replay = await clerk.place(key)
        assert (replay.status_code, replay.content) == (202, first.content)
        assert replay.headers["Idempotent-Replayed"] == "true"
        for path in ("/api/orders", first.headers["Location"], "/api/products"):
            assert (await clerk.gateway.http.get(path, headers=clerk.headers)).status_code == 200
        assert await metric(clerk.gateway, "orderplane_backlog_age_seconds") > SHED_AFTER
        assert await metric(clerk.gateway, "orderplane_orders_shed_total", reason="backlog_age") >= 4
    finally:
        await clerk.merchant.plane.start_process("operator", TEMPO["operator"])

    async def is_taken() -> bool:
        return (await clerk.place(again)).status_code == 202

    async def is_all_delivered() -> bool:
        return {order["status"]["phase"] for order in (await clerk.orders()).values()} == {"Delivered"}

    async def is_line_empty() -> bool:
        return await metric(clerk.gateway, "orderplane_backlog_orders") == 0

    await until(is_taken)
    await until(is_all_delivered)
    await until(is_line_empty)
