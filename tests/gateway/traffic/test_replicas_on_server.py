"""Two replicas of the gateway: what one has done the other shows, and on one port they limit together."""

import asyncio
import itertools
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial

import httpx
import pytest

from orderplane.dev.localplane.ports import free_port
from orderplane.gateway.principal import Role

from ...adapters.limits.redis_server import running_redis
from ...support.plane import ORDER, Merchant
from ..conftest import Gateway, new_key, running_gateway, until
from .users import headers_of, metric

pytestmark = pytest.mark.integration

ROUNDS = 5


@asynccontextmanager
async def two_replicas(
    merchant: Merchant, env: Mapping[str, str], *, port: int | None = None
) -> AsyncIterator[tuple[Gateway, Gateway]]:
    """On a port of their own each, or both on this one."""
    async with AsyncExitStack() as stack:
        starting = (
            stack.enter_async_context(running_gateway(merchant.plane, env, port=port)) for _ in range(2)
        )
        one, other = await asyncio.gather(*starting)
        yield one, other


async def place(gateway: Gateway, headers: Mapping[str, str], key: str) -> httpx.Response:
    body = json.dumps(ORDER).encode()
    return await gateway.post(body, key, **headers)


async def is_cancelled(gateway: Gateway, path: str, headers: Mapping[str, str]) -> bool:
    found: bool = (await gateway.http.get(path, headers=headers)).json()["cancelRequested"]
    return found


async def test_what_one_has_done_is_read_from_the_other_at_once(merchant: Merchant) -> None:
    headers = await headers_of(merchant, "u-customer", Role.CUSTOMER)
    env = {"ORDERPLANE_MERCHANT": merchant.name}
    async with two_replicas(merchant, env) as both:
        for number in range(ROUNDS):
            here, there = both if number % 2 else both[::-1]
            key = new_key()
            placed = await place(here, headers, key)
            assert placed.status_code == 202, placed.text
            own = placed.headers["Location"]

            seen = await there.http.get(own, headers=headers)
            assert (seen.status_code, seen.json()["id"]) == (200, placed.json()["id"])
            ids = [
                order["id"]
                for order in (await there.http.get("/api/orders", headers=headers)).json()["items"]
            ]
            assert placed.json()["id"] in ids
            repeated = await place(there, headers, key)
            assert (repeated.status_code, repeated.content) == (202, placed.content)

            asked = await there.http.post(f"{own}/cancel", headers=headers)
            assert (asked.status_code, asked.json()["cancelRequested"]) == (202, True)
            # A change may be shown a moment later, as on one replica. Asking again needs no such moment.
            again = await here.http.post(f"{own}/cancel", headers=headers)
            assert again.json()["cancelRequested"]
            await until(partial(is_cancelled, here, own, headers))


async def test_on_one_port_both_answer_and_limit_together(merchant: Merchant) -> None:
    answered = "orderplane_http_requests_total"
    route = {"method": "GET", "route": "/api/orders"}
    names = (f"u-{number}" for number in itertools.count())
    async with running_redis() as redis:
        env = {
            "ORDERPLANE_REDIS_URL": redis.url,
            "ORDERPLANE_RATE_LIMITS": "reads=6/1000",
            "ORDERPLANE_HTTP_REUSE_PORT": "true",
        }
        async with two_replicas(merchant, env, port=free_port()) as both:

            async def good_answers() -> list[float]:
                return [await metric(gateway, answered, code="200", **route) for gateway in both]

            async def is_shared() -> bool:
                """Each request has a connection of its own, and the kernel chooses who takes it."""
                before, user = await good_answers(), await headers_of(merchant, next(names), Role.CUSTOMER)
                headers = {**user, "Connection": "close"}
                answers = [await both[0].http.get("/api/orders", headers=headers) for _ in range(9)]
                codes = [answer.status_code for answer in answers]
                assert codes == [200] * 6 + [429] * 3
                return all(now > then for now, then in zip(await good_answers(), before, strict=True))

            await until(is_shared)


async def test_a_port_that_is_not_shared_is_refused(merchant: Merchant) -> None:
    async with running_gateway(merchant.plane) as gateway:
        port = int(gateway.url.rpartition(":")[2])
        with pytest.raises(AssertionError, match="ended at its start"):
            async with running_gateway(merchant.plane, {"ORDERPLANE_HTTP_REUSE_PORT": "true"}, port=port):
                pass
