"""The gateway against the running saga."""

import asyncio
import secrets
from collections.abc import AsyncIterator
from itertools import pairwise

import pytest

from orderplane.cli.backends import open_backends
from orderplane.client.client import Client
from orderplane.client.transport import ApiProblem, connect
from orderplane.dev.demo.customers import arrive
from orderplane.dev.demo.products import MERCHANT, seed
from orderplane.dev.localplane.plane import Plane

from ..support.plane import ORDER
from .conftest import MUG, Desk, conditions_of, phase_is
from .proofs import balance, moved

pytestmark = pytest.mark.integration


@pytest.fixture
async def customer(running: Plane) -> AsyncIterator[Client]:
    """One of the demo merchant's: the gateway serves them without a hint whose they are."""
    async with open_backends(running.env("admin")) as backends:
        await seed(backends.pool, MERCHANT)
        async with connect(running.url("gateway")) as transport:
            (arrived,) = await arrive(transport, backends.pool, 1)
            yield arrived.client(transport)


async def test_a_read_right_after_the_202_finds_it(customer: Client) -> None:
    async def place_and_read() -> bool:
        accepted = await customer.orders.create(ORDER, key=secrets.token_hex(16))
        return (await customer.orders.get(accepted["id"]))["id"] == accepted["id"]

    for _ in range(5):
        assert all(await asyncio.gather(*(place_and_read() for _ in range(8))))


async def test_an_order_is_followed_to_its_end(customer: Client) -> None:
    accepted = await customer.orders.create(ORDER, key=secrets.token_hex(16))
    async with asyncio.timeout(60):
        seen = [order async for order in customer.orders.watch(accepted["id"])]
    assert seen[-1]["phase"] == "Delivered"
    assert seen[-1]["tracking"] is not None
    assert all(one != other for one, other in pairwise(seen)), "nothing is sent twice"


async def test_too_late_to_cancel(desk: Desk, customer: Client) -> None:
    accepted = await customer.orders.create(ORDER, key=secrets.token_hex(16))
    order = await desk.place([(MUG, 1)])
    async with asyncio.timeout(60):
        async for seen in customer.orders.watch(accepted["id"]):
            assert seen["phase"] not in ("Failed", "Cancelled")
    with pytest.raises(ApiProblem) as refusal:
        await customer.orders.cancel(accepted["id"])
    assert (refusal.value.status, refusal.value.code) == (409, "too_late_to_cancel")
    # The same wish by kubectl cannot be answered with a number: the resource says it.
    await desk.until(order, phase_is("Delivered"))
    before = await moved(desk)
    await desk.cancel(order)
    delivered = await desk.until(
        order, lambda o: conditions_of(o).get("Cancelled") == ("False", "AlreadyInTransit")
    )
    assert delivered["status"]["phase"] == "Delivered"
    assert "TooLateToCancel" in await desk.events(order)
    assert await moved(desk) == before
    assert await balance(desk, order) == order["spec"]["quote"]["amounts"]["total"]
