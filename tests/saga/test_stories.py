"""`kubectl describe` tells what happened to an order in the order in which it happened."""

import asyncio
import re
import time

import pytest

from orderplane.adapters.kubernetes.client import Json
from orderplane.ledgers.postgres.settlement import settle_refund_by_hand

from .conftest import MUG, Desk, conditions_of, phase_is
from .proofs import SLOW_ADDRESS

pytestmark = pytest.mark.integration

IN_HISTORY = {
    "Reserved": "inventory.reserved",
    "Paid": "payment.success",
    "Shipped": "order.shipped",
    "CancelShipmentDone": "shipment.cancelled",
    "CancelPaymentDone": "payment.cancelled",
    "RefundPaymentDone": "payment.refunded",
    "ReleaseStockDone": "inventory.released",
    "Failed": "order.failed",
    "Cancelled": "order.cancelled",
}
"""What an Event of that reason tells; of several steps that one Event tells, it has the last one's reason."""

FORWARD = ("Reserved", "Paid", "Shipped")


async def told(desk: Desk, order: Json) -> list[str]:
    """The reasons of the Events, as the real kubectl prints them, from above."""
    described = await desk.kubectl("describe", "order", order["metadata"]["name"])
    lines = described.split("Events:", 1)[1].splitlines()
    return [found[1] for line in lines if (found := re.match(r"\s+(?:Normal|Warning)\s+(\w+)\s", line))]


async def story_of(desk: Desk, order: Json) -> list[str]:
    """The same, after a look at the history: no Event comes before what happened before it."""
    reasons, history = await told(desk, order), await desk.history(order)
    places = [history.index(IN_HISTORY[reason]) for reason in reasons if reason in IN_HISTORY]
    assert places == sorted(places), f"{reasons} for {history}"
    # That it goes backward is decided after every step forward, and before every step backward.
    turn = reasons.index("Compensating")
    assert {*FORWARD} & {*reasons[turn:]} == set(), reasons
    assert {*reasons[:turn]} <= {*FORWARD, "Waiting"}, reasons
    return reasons


async def test_a_declined_order(desk: Desk) -> None:
    order = await desk.place([(MUG, 1)], method="pm_card_visa_chargeDeclined")
    await desk.until(order, phase_is("Failed"))
    reasons = await story_of(desk, order)
    assert reasons[-1] == "Failed"
    assert {"ReleaseStockDone", "CancelPaymentDone"} & {*reasons}


async def test_a_cancelled_order(desk: Desk) -> None:
    order = await desk.place([(MUG, 1)], line1=SLOW_ADDRESS)
    await desk.until(order, phase_is("Paid"))
    await desk.cancel(order)
    await desk.until(order, phase_is("Cancelled"))
    reasons = await story_of(desk, order)
    assert reasons[0] == "Paid" or reasons[:2] == ["Reserved", "Paid"]
    assert reasons[-1] == "Cancelled"
    assert {"RefundPaymentDone", "ReleaseStockDone"} & {*reasons}


async def test_a_stalled_order(desk: Desk) -> None:
    order = await desk.place([(MUG, 1)], method="pm_sandbox_refundFails", line1="9 Island Walk")
    await desk.until(order, lambda found: conditions_of(found).get("Stalled") == ("True", "RefundFailed"))
    assert (await story_of(desk, order))[-1] == "Stalled"
    printed = await desk.kubectl("get", "orders", "--field-selector", "status.stalled=true")
    header, line = (row.split() for row in printed.splitlines())
    assert dict(zip(header, line, strict=False))["STALLED"] == "true"
    assert line[:3] == [order["metadata"]["name"], "Compensating", "RefundFailed"]
    # Events have whole seconds: of one second, kubectl shows them by their names.
    await asyncio.sleep(1 - time.time() % 1)
    await settle_refund_by_hand(
        desk.pool, desk.name, order["metadata"]["name"], reason="card closed", reference="SEPA-1"
    )
    await desk.until(order, phase_is("Failed"))
    reasons = await story_of(desk, order)
    assert reasons.index("Stalled") < reasons.index("RefundPaymentDone") < reasons.index("Failed")
    assert await desk.kubectl("get", "orders", "--field-selector", "status.stalled=true") == ""
