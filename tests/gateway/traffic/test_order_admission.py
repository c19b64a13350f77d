"""Which requests are processed while new orders are refused."""

import asyncio
from typing import Any

import httpx
import pytest

from orderplane.gateway.http.problems import Problem
from orderplane.gateway.traffic.load_shedding import OrderAdmissionMiddleware


class Door:
    """Open or shut, as the test wants it."""

    def __init__(self) -> None:
        self.is_shut = False
        self.asked = 0

    def check(self) -> None:
        self.asked += 1
        if self.is_shut:
            raise Problem("overloaded", "Not now.", headers={"Retry-After": "1"})


class House:
    """An application in which everybody stays until they are let go."""

    def __init__(self) -> None:
        self.go = asyncio.Event()
        self._arrivals = asyncio.Semaphore(0)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self._arrivals.release()
        await self.go.wait()
        await send({"type": "http.response.start", "status": 202, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async def have_come(self, count: int) -> None:
        """Wait until so many more have come in."""
        async with asyncio.timeout(5):
            for _ in range(count):
                await self._arrivals.acquire()


@pytest.fixture
def door() -> Door:
    return Door()


@pytest.fixture
def house() -> House:
    return House()


@pytest.fixture
def keeper(door: Door, house: House) -> OrderAdmissionMiddleware:
    return OrderAdmissionMiddleware(house, load_shedding=door, max_concurrent=2)  # type: ignore[arg-type]


async def test_while_the_door_is_open_everybody_is_looked_at(
    door: Door, house: House, keeper: OrderAdmissionMiddleware
) -> None:
    async with asyncio.TaskGroup() as group:
        visits = [group.create_task(asked(keeper, "POST", "/api/orders")) for _ in range(20)]
        await house.have_come(20)
        house.go.set()
    assert {visit.result() for visit in visits} == {202}


async def test_while_it_is_shut_few_are_and_the_rest_is_sent_away_at_once(
    door: Door, house: House, keeper: OrderAdmissionMiddleware
) -> None:
    door.is_shut = True
    async with asyncio.TaskGroup() as group:
        first = [group.create_task(asked(keeper, "POST", "/api/orders")) for _ in range(2)]
        await house.have_come(2)
        assert await asked(keeper, "POST", "/api/orders") == 503
        # Reads, cancels and other shops' matters go on.
        others = [
            group.create_task(asked(keeper, method, path))
            for method, path in (("GET", "/api/orders"), ("POST", "/api/orders/o-1/cancel"))
        ]
        await house.have_come(2)
        house.go.set()
    assert {visit.result() for visit in (*first, *others)} == {202}
    assert await asked(keeper, "POST", "/api/orders") == 202  # there is room again: it may be a repeat


async def test_who_leaves_early_makes_room(
    door: Door, house: House, keeper: OrderAdmissionMiddleware
) -> None:
    door.is_shut = True
    for _ in range(5):
        visit = asyncio.create_task(asked(keeper, "POST", "/api/orders"))
        await house.have_come(1)
        visit.cancel()
        with pytest.raises(asyncio.CancelledError):
            await visit
    assert door.asked == 0


async def asked(keeper: OrderAdmissionMiddleware, method: str, path: str) -> int:
    transport = httpx.ASGITransport(keeper)
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
        return (await client.request(method, path)).status_code
