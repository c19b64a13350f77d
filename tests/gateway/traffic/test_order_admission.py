"""Which requests are processed while new orders are refused."""

import asyncio

import httpx
import pytest
from fastapi import FastAPI
from starlette.responses import Response

from orderplane.gateway.front_door import FrontDoor
from orderplane.gateway.http.problems import Problem
from orderplane.gateway.traffic.load_shedding import OrderAdmission


class FakeLoadShedding:
    """Refuses new orders or not, as the test sets it."""

    def __init__(self) -> None:
        self.is_shedding = False
        self.asked = 0

    def check(self) -> None:
        self.asked += 1
        if self.is_shedding:
            raise Problem("overloaded", "Not now.", headers={"Retry-After": "1"})


class BlockedRoutes:
    """Routes that hold all requests until `go` is set."""

    def __init__(self) -> None:
        self.go = asyncio.Event()
        self._arrivals = asyncio.Semaphore(0)
        self.api = FastAPI(openapi_url=None)
        for method, path in (
            ("POST", "/api/orders"),
            ("GET", "/api/orders"),
            ("POST", "/api/orders/{name}/cancel"),
        ):
            self.api.add_api_route(path, self._answer, methods=[method], response_model=None)

    async def _answer(self) -> Response:
        self._arrivals.release()
        await self.go.wait()
        return Response(status_code=202)

    async def wait_for_arrivals(self, count: int) -> None:
        """Wait until so many more requests have arrived."""
        async with asyncio.timeout(5):
            for _ in range(count):
                await self._arrivals.acquire()


@pytest.fixture
def load_shedding() -> FakeLoadShedding:
    return FakeLoadShedding()


@pytest.fixture
def app() -> BlockedRoutes:
    return BlockedRoutes()


@pytest.fixture
def door(load_shedding: FakeLoadShedding, app: BlockedRoutes) -> FrontDoor:
    return FrontDoor(app.api, admission=OrderAdmission(load_shedding, max_concurrent=2))  # type: ignore[arg-type]


async def test_without_shedding_all_requests_are_processed(
    load_shedding: FakeLoadShedding, app: BlockedRoutes, door: FrontDoor
) -> None:
    async with asyncio.TaskGroup() as group:
        requests = [group.create_task(status_of(door, "POST", "/api/orders")) for _ in range(20)]
        await app.wait_for_arrivals(20)
        app.go.set()
    assert {request.result() for request in requests} == {202}


async def test_while_it_is_shedding_few_are_and_the_rest_is_sent_away_at_once(
    load_shedding: FakeLoadShedding, app: BlockedRoutes, door: FrontDoor
) -> None:
    load_shedding.is_shedding = True
    async with asyncio.TaskGroup() as group:
        first = [group.create_task(status_of(door, "POST", "/api/orders")) for _ in range(2)]
        await app.wait_for_arrivals(2)
        assert await status_of(door, "POST", "/api/orders") == 503
        # Reads, cancels and other shops' matters go on.
        others = [
            group.create_task(status_of(door, method, path))
            for method, path in (("GET", "/api/orders"), ("POST", "/api/orders/o-1/cancel"))
        ]
        await app.wait_for_arrivals(2)
        app.go.set()
    assert {request.result() for request in (*first, *others)} == {202}
    assert await status_of(door, "POST", "/api/orders") == 202  # there is room again: it may be a repeat


async def test_a_cancelled_request_makes_room(
    load_shedding: FakeLoadShedding, app: BlockedRoutes, door: FrontDoor
) -> None:
    load_shedding.is_shedding = True
    for _ in range(5):
        request = asyncio.create_task(status_of(door, "POST", "/api/orders"))
        await app.wait_for_arrivals(1)
        request.cancel()
        with pytest.raises(asyncio.CancelledError):
            await request
    assert load_shedding.asked == 0


async def status_of(door: FrontDoor, method: str, path: str) -> int:
    transport = httpx.ASGITransport(door)
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
        return (await client.request(method, path)).status_code
