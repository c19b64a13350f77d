"""One merchant's orders that cannot get on take no turn of another merchant's."""

import pytest

from orderplane.dev.localplane.plane import Plane

from ..support.plane import merchant_on
from .conftest import TEA, Desk, phase_is

pytestmark = pytest.mark.integration

MANY = 48
"""Three times as many as the payment controller has workers."""


async def test_an_order_does_not_wait_for_the_slow_charges_of_another_merchant(
    desk: Desk, running: Plane
) -> None:
    slow = [await desk.place([(TEA, 1)], method="pm_sandbox_slowCharge") for _ in range(MANY)]
    await desk.until_row("SELECT 1 FROM payments WHERE merchant = $1 HAVING count(*) >= 16")
    async with merchant_on(running) as neighbour:
        other = Desk(neighbour)
        order = await other.place([(TEA, 1)])
        await other.until_row("SELECT 1 FROM payments WHERE merchant = $1 AND state = 'Captured'")
        (row,) = await desk.rows(
            "SELECT count(*) AS captured FROM payments WHERE merchant = $1 AND state = 'Captured'"
        )
        # In the order of their coming, it would have been the last.
        assert row["captured"] <= MANY - 16
        await other.until(order, phase_is("Delivered"))
    for each in slow:
        await desk.until(each, phase_is("Delivered"))
