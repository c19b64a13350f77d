"""One merchant's orders that cannot get on take no turn of another merchant's."""

import asyncio

import pytest

from orderplane.crds.meta import Kind
from orderplane.dev.localplane.plane import Plane
from orderplane.operator.wiring import WORKERS

from ..support.plane import merchant_on
from .conftest import TEA, Desk, phase_is

pytestmark = pytest.mark.integration

IN_HAND = WORKERS[Kind.PAYMENT]
ROUNDS = 10
MANY = ROUNDS * IN_HAND


@pytest.mark.timeout(300)
async def test_an_order_does_not_wait_for_the_slow_charges_of_another_merchant(
    desk: Desk, running: Plane
) -> None:
    async with merchant_on(running) as neighbour:
        other = Desk(neighbour)
        slow = []
        for _ in range(ROUNDS):
            slow += await asyncio.gather(
                *(desk.place([(TEA, 1)], method="pm_sandbox_slowCharge") for _ in range(IN_HAND))
            )
        await desk.until_row("SELECT 1 FROM payments WHERE merchant = $1 HAVING count(*) >= $2", IN_HAND)
        order = await other.place([(TEA, 1)])
        await other.until_row("SELECT 1 FROM payments WHERE merchant = $1 AND state = 'Captured'")
        (row,) = await desk.rows(
            "SELECT count(*) AS charged FROM payments WHERE merchant = $1 AND state = 'Captured'"
        )
        # In the order of their coming it would have been the last: no more would be left than are in hand.
        assert MANY - row["charged"] > IN_HAND
        await other.until(order, phase_is("Delivered"))
    for each in slow:
        await desk.until(each, phase_is("Delivered"))
