"""The front door against the running saga."""

import asyncio
import secrets
from typing import Any

import aiohttp
import pytest

from orderplane.cli.world import open_world
from orderplane.demo.catalogue import MERCHANT, seed
from orderplane.demo.customers import arrive
from orderplane.localplane.plane import Plane

from .conftest import MUG, TEA, Desk, conditions_of, phase_is
from .proofs import balance, moved

pytestmark = pytest.mark.integration


@pytest.fixture
async def front_door(running: Plane) -> Any:
    """The demo merchant's: the front door serves one."""
    async with open_world(running.env("admin")) as world:
        await seed(world.pool, MERCHANT)
    timeout = aiohttp.ClientTimeout(total=30)
    async with aiohttp.ClientSession(running.url("gateway"), timeout=timeout) as http:
        (customer,) = await arrive(http, 1)
    async with aiohttp.ClientSession(
        running.url("gateway"), timeout=timeout, headers=customer.headers
    ) as http:
        yield http


BODY = {
    "items": [{"sku": TEA, "quantity": 1}],
    "address": {
        "name": "Ada Example", "line1": "1 Canal Street", "city": "Rotterdam", "postalCode": "3011",
        "country": "NL",
    },
    "paymentMethod": "pm_card_visa",
}  # fmt: skip


async def post_order(http: aiohttp.ClientSession) -> str:
    headers = {"Idempotency-Key": secrets.token_hex(16)}
    async with http.post("/api/orders", json=BODY, headers=headers) as answer:
        assert answer.status == 202, await answer.text()
        location: str = answer.headers["Location"]
        return location


async def test_a_read_right_after_the_202_finds_it(front_door: aiohttp.ClientSession) -> None:
    async def place_and_read() -> int:
        location = await post_order(front_door)
        async with front_door.get(location) as answer:
            return answer.status

    for _ in range(5):
        assert set(await asyncio.gather(*(place_and_read() for _ in range(8)))) == {200}


async def test_too_late_to_cancel(desk: Desk, front_door: aiohttp.ClientSession) -> None:
    location, order = await post_order(front_door), await desk.place([(MUG, 1)])
    async with asyncio.timeout(60):
        while True:
            async with front_door.get(location) as answer:
                if (await answer.json())["phase"] == "Delivered":
                    break
            await asyncio.sleep(0.1)
    async with front_door.post(f"{location}/cancel") as answer:
        assert (answer.status, (await answer.json())["code"]) == (409, "too_late_to_cancel")
    # The same wish by kubectl cannot be answered with a number: the resource says it.
    await desk.until(order, phase_is("Delivered"))
    before = await moved(desk)
    await desk.cancel(order)
    told = await desk.until(
        order, lambda o: conditions_of(o).get("Cancelled") == ("False", "AlreadyInTransit")
    )
    assert told["status"]["phase"] == "Delivered"
    assert "TooLateToCancel" in await desk.events(order)
    assert await moved(desk) == before
    assert await balance(desk, order) == order["spec"]["quote"]["amounts"]["total"]
