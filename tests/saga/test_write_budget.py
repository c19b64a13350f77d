"""What one happy order costs the API server, counted by the API server."""

import asyncio
import time
from collections import Counter

import pytest

from orderplane.adapters.kubernetes.client import ApiClient
from orderplane.crds.meta import Kind
from orderplane.dev.bench.api_writes import count_writes

from .conftest import MUG, TEA, Desk, phase_is

pytestmark = pytest.mark.integration

TO_SHIPPED, TO_DELIVERED = 11, 15
QUIET_SECONDS = 1.0


async def settled_count(api: ApiClient) -> Counter[str]:
    """The counts once nothing was written for a while."""
    counted, since = await count_writes(api), time.monotonic()
    while time.monotonic() - since < QUIET_SECONDS:
        await asyncio.sleep(0.1)
        now = await count_writes(api)
        if now != counted:
            counted, since = now, time.monotonic()
    return counted


def cost(before: Counter[str], after: Counter[str]) -> Counter[str]:
    return +Counter({name: count - before[name] for name, count in after.items()})


async def test_one_happy_order_keeps_to_the_budget(desk: Desk) -> None:
    # Status writes of earlier orders that are still waiting are not this one's.
    await start_afresh(desk)
    before = await settled_count(desk.api)
    order = await desk.place([(TEA, 2), (MUG, 1)])
    # Between the label and the first scan the carrier takes seconds: time enough for every status write.
    await desk.until(order, phase_is("Shipped"))
    shipped = cost(before, await settled_count(desk.api))
    seen = await desk.order(order)
    assert seen["status"]["phase"] == "Shipped", "the carrier was faster than the counting"
    assert not any(c["type"] == "Delivered" for c in seen["status"]["conditions"])
    assert shipped.total() <= TO_SHIPPED, dict(sorted(shipped.items()))
    await desk.until(order, phase_is("Delivered"))
    delivered = cost(before, await settled_count(desk.api))
    assert delivered.total() <= TO_DELIVERED, dict(sorted(delivered.items()))
    # The counting itself is right: what has to be there was seen.
    assert delivered["POST orders"] == 1
    assert delivered["POST reservations"] == delivered["POST payments"] == delivered["POST shipments"] == 1
    assert delivered["PUT orders/status"] >= 2


async def test_a_finished_order_costs_nothing_more(desk: Desk) -> None:
    order = await desk.place([(TEA, 1)])
    await desk.until(order, phase_is("Delivered"))
    before = await settled_count(desk.api)
    # A new process reads everything anew, and finds nothing to say.
    await start_afresh(desk)
    assert cost(before, await settled_count(desk.api)) == {}
    # Not even that the goods have left the stock: nobody waits to read it.
    assert (await desk.child(Kind.RESERVATION, order))["status"]["phase"] == "Held"


async def start_afresh(desk: Desk) -> None:
    await desk.plane.supervisor.kill("operator")
    await desk.plane.supervisor.wait_ready("operator")
