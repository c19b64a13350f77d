"""What the carrier says of a parcel, and what it answers to a void, with every part real."""

import asyncio
from datetime import UTC, datetime

import pytest

from orderplane.adapters.kubernetes.client import Json
from orderplane.crds.meta import RETRY_ANNOTATION, Kind
from orderplane.ledgers.errors import NothingToSettle
from orderplane.ledgers.postgres.settlement import settle_by_hand
from orderplane.ledgers.states import VoidState

from .conftest import MUG, OPENING, Desk, compensation_steps, conditions_of, phase_is
from .proofs import is_compensated_once

pytestmark = pytest.mark.integration

TROUBLES = {
    "1 Boomerang Close": "Returned",
    "2 Storm Street": "DeliveryFailed",
    "3 Recall Road": "TransportCancelled",
    "4 Static Square": "TrackingUnclear",
    "5 Portal Place": "TrackingUnclear",
}


async def bought(desk: Desk, line1: str) -> Json:
    """An order whose label is bought and whose parcel stays at home: the carrier's clock does not move it."""
    order = await desk.place([(MUG, 2)], line1=line1)
    label = await desk.until_label(order)
    await desk.sandbox(
        "carrier", "scan", {"tracking_code": label.label.tracking_code, "status": "pre_transit"}
    )
    await desk.until(order, phase_is("Shipped"))
    return order


async def scan(desk: Desk, order: Json, status: str) -> None:
    label = await desk.until_label(order)
    await desk.sandbox("carrier", "scan", {"tracking_code": label.label.tracking_code, "status": status})


async def test_each_trouble_of_a_parcel_is_seen_by_kubectl_and_keeps_goods_and_money(desk: Desk) -> None:
    orders = {line1: await desk.place([(MUG, 1)], line1=line1) for line1 in TROUBLES}

    async def is_told(line1: str, order: Json) -> None:
        reason = TROUBLES[line1]
        told = await desk.until(order, lambda o: o["status"].get("reason") == reason)
        assert told["status"]["phase"] == "Shipped"
        assert conditions_of(told)["Delivered"] == ("False", reason)
        shipment = await desk.until_child(Kind.SHIPMENT, order, lambda s: s["status"].get("reason") == reason)
        assert shipment["status"]["phase"] == "InTransit"
        assert reason in await desk.events(order)
        for kind in ("orders", "shipments"):
            assert reason in await desk.kubectl("get", kind)
        # Too late: neither is given back.
        await desk.cancel(order)
        late = await desk.until(order, lambda o: "Cancelled" in conditions_of(o))
        assert conditions_of(late)["Cancelled"] == ("False", "AlreadyInTransit")
        assert await desk.refunds(order) == []

    await asyncio.gather(*(is_told(line1, order) for line1, order in orders.items()))
    assert await desk.stock(MUG) == (OPENING - len(orders), 0)


@pytest.mark.parametrize("word", ["failure", "error", "cancelled", "in_transit", "nowhere to be seen"])
async def test_a_cancel_before_the_first_poll_gives_nothing_back_once_the_parcel_has_left(
    desk: Desk, word: str
) -> None:
    order = await bought(desk, "1 Canal Street")
    await asyncio.gather(scan(desk, order, word), desk.cancel(order))
    ended = await desk.until(order, lambda o: conditions_of(o).get("Cancelled") is not None, seconds=30)
    if conditions_of(ended)["Cancelled"][0] == "True":
        # The void was faster than the scan, which then came for a label that was void.
        await is_compensated_once(desk, order)
        await scan(desk, order, "pre_transit")
        return
    assert conditions_of(ended)["Cancelled"] == ("False", "AlreadyInTransit")
    assert await desk.refunds(order) == []
    assert await desk.stock(MUG) == (OPENING - 2, 0)


async def stalled_on_its_void(desk: Desk, line1: str) -> Json:
    order = await bought(desk, line1)
    await desk.cancel(order)
    stalled = await desk.until(order, lambda o: conditions_of(o).get("Stalled") == ("True", "VoidRejected"))
    assert stalled["status"]["phase"] == "Compensating"
    shipment = await desk.child(Kind.SHIPMENT, order)
    assert conditions_of(shipment)["Voided"] == ("False", "VoidRejected")
    assert shipment["status"]["reason"] == "VoidRejected"
    assert "Stalled" in await desk.events(order)
    # The label is valid: neither money nor goods are given back.
    assert await desk.refunds(order) == []
    assert await desk.stock(MUG) == (OPENING - 2, 0)
    return order


@pytest.mark.parametrize("line1", ["1 Lighthouse Street", "1 Anchor Street"])
async def test_a_void_that_the_carrier_refuses_waits_for_a_person(desk: Desk, line1: str) -> None:
    order = await stalled_on_its_void(desk, line1)
    said = await settle_by_hand(
        desk.pool, desk.name, order["metadata"]["name"], reason="label torn up", reference="TICKET-77"
    )
    (label,) = await desk.labels(order)
    assert said == f"label {label.label.tracking_code} noted as not used"
    ended = await desk.until(order, phase_is("Cancelled"))
    assert compensation_steps(ended) == ["CancelShipment", "RefundPayment", "ReleaseStock"]
    assert "Stalled" not in conditions_of(ended)
    await is_compensated_once(desk, order)
    assert await desk.stock(MUG) == (OPENING, 0)
    (row,) = await desk.rows(
        "SELECT void_state, void_reference FROM shipments WHERE merchant = $1 AND order_uid = $2",
        order["metadata"]["uid"],
    )
    assert tuple(row) == ("SettledByHand", "TICKET-77: label torn up")
    with pytest.raises(NothingToSettle):
        await settle_by_hand(desk.pool, desk.name, order["metadata"]["name"], reason="again", reference="X")


async def test_a_refused_void_is_asked_for_again_when_a_person_wants_it(desk: Desk) -> None:
    order = await stalled_on_its_void(desk, "1 Buoy Street")
    annotation = {"metadata": {"annotations": {RETRY_ANNOTATION: datetime.now(UTC).isoformat()}}}
    await desk.api.merge_patch(Kind.ORDER, desk.name, order["metadata"]["name"], annotation)
    await desk.until(order, phase_is("Cancelled"))
    (label,) = await desk.labels(order)
    assert label.void in (VoidState.SUBMITTED, VoidState.REFUNDED)
    await is_compensated_once(desk, order)
    assert await desk.stock(MUG) == (OPENING, 0)


async def test_a_parcel_that_leaves_after_its_void_was_refused_is_too_late_to_cancel(desk: Desk) -> None:
    order = await stalled_on_its_void(desk, "1 Lighthouse Street")
    await scan(desk, order, "in_transit")
    await desk.until(order, phase_is("Shipped"))
    # The order follows its shipment, which says a moment later that it is not stalled any more.
    ended = await desk.until(order, lambda o: "Stalled" not in conditions_of(o))
    assert conditions_of(ended)["Cancelled"] == ("False", "AlreadyInTransit")
    assert await desk.refunds(order) == []
    assert await desk.stock(MUG) == (OPENING - 2, 0)
