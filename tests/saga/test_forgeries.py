"""Forgeries: whoever lies about a resource or tears it out, money and goods go by the ledger."""

import asyncio
from datetime import UTC, datetime
from uuid import uuid4

import pytest

from orderplane.adapters.kubernetes.client import ApiClient, Json
from orderplane.crds.api_errors import Forbidden, NotFound
from orderplane.crds.meta import (
    API_VERSION,
    CANCEL_SHIPMENT_FINALIZER,
    RETRY_ANNOTATION,
    SHARD_LABEL,
    Kind,
)
from orderplane.crds.order import child_name
from orderplane.ledgers.states import VoidState

from .conftest import MUG, OPENING, Desk, conditions_of, phase_is
from .proofs import SLOW_ADDRESS, is_compensated_once

pytestmark = pytest.mark.integration


async def a_stranger(desk: Desk, order: Json) -> Json:
    """Somebody with the operator's rights takes the name that the order's Shipment will want."""
    stranger = {
        "apiVersion": API_VERSION,
        "kind": "Shipment",
        "metadata": {
            "name": child_name(order["metadata"]["name"], order["metadata"]["uid"]),
            "labels": {SHARD_LABEL: "7"},
            "finalizers": [CANCEL_SHIPMENT_FINALIZER],
        },
        "spec": {
            "orderRef": {"name": "somebody-elses", "uid": str(uuid4())},
            "address": {**order["spec"]["address"], "line1": "66 Thief Lane"},
            "parcels": [
                {"weightGrams": 10, "lengthMillimetres": 10, "widthMillimetres": 10, "heightMillimetres": 10}
            ],
            "service": "Standard",
        },
    }
    async with await as_operator(desk) as api:
        return await api.create(Kind.SHIPMENT, desk.name, stranger)


async def as_operator(desk: Desk) -> ApiClient:
    return await ApiClient.connect(
        user_agent="forger", kubeconfig=str(desk.plane.kubeconfig("operator")), timeout_seconds=10
    )


async def stalled_by_a_stranger(desk: Desk) -> tuple[Json, Json]:
    order = await desk.place([(MUG, 1)], method="pm_sandbox_processing")
    stranger = await a_stranger(desk, order)
    stalled = await desk.until(order, lambda o: conditions_of(o).get("Stalled") == ("True", "ChildConflict"))
    assert stalled["status"]["phase"] == "Paid"
    assert "Stalled" in await desk.events(order)
    assert await desk.labels(order) == []
    return order, stranger


async def test_a_child_of_somebody_else_stalls_the_order_until_it_is_cancelled(desk: Desk) -> None:
    order, stranger = await stalled_by_a_stranger(desk)
    await desk.cancel(order)
    await desk.until(order, phase_is("Cancelled"))
    await is_compensated_once(desk, order)
    assert await desk.labels(order) == []
    still_there = await desk.api.get(Kind.SHIPMENT, desk.name, stranger["metadata"]["name"])
    assert still_there["metadata"]["uid"] == stranger["metadata"]["uid"]
    await desk.api.delete(Kind.SHIPMENT, desk.name, stranger["metadata"]["name"])
    await until_absent(desk, Kind.SHIPMENT, stranger["metadata"]["name"])


async def test_a_child_of_somebody_else_is_deleted_and_the_order_tried_again(desk: Desk) -> None:
    order, stranger = await stalled_by_a_stranger(desk)
    await desk.api.delete(Kind.SHIPMENT, desk.name, stranger["metadata"]["name"])
    await until_absent(desk, Kind.SHIPMENT, stranger["metadata"]["name"])
    annotation = {"metadata": {"annotations": {RETRY_ANNOTATION: datetime.now(UTC).isoformat()}}}
    await desk.api.merge_patch(Kind.ORDER, desk.name, order["metadata"]["name"], annotation)
    ended = await desk.until(order, phase_is("Shipped", "Delivered"))
    assert conditions_of(ended).get("Stalled", ("False", ""))[0] == "False"
    assert len(await desk.labels(order)) == 1


async def until_absent(desk: Desk, kind: Kind, name: str) -> None:
    async with asyncio.timeout(60):
        while True:
            try:
                await desk.api.get(kind, desk.name, name)
            except NotFound:
                return
            await asyncio.sleep(0.1)


async def test_nobody_but_the_operator_may_forge_a_status(desk: Desk) -> None:
    order = await desk.place([(MUG, 1)], method="pm_sandbox_timeoutBeforeCharge")
    payment = await desk.until_child(Kind.PAYMENT, order, lambda _: True)
    with pytest.raises(Forbidden, match="only the operator"):
        await forge_capture(desk.api, payment)


async def forge_capture(api: ApiClient, payment: Json) -> None:
    await api.put_status(
        Kind.PAYMENT, payment["metadata"]["namespace"], payment["metadata"]["name"],
        payment["metadata"]["resourceVersion"],
        {
            "phase": "Captured", "captured": payment["spec"]["amount"], "intentId": "pi_forged",
            "conditions": [{
                "type": "Captured", "status": "True", "reason": "PaymentCaptured", "message": "trust me",
                "observedGeneration": 1, "lastTransitionTime": "2030-01-01T00:00:00Z",
            }],
        },
    )  # fmt: skip


async def test_a_forged_capture_buys_no_label(desk: Desk) -> None:
    """Even with the operator's own rights: the ledger decides, not the resource."""
    order = await desk.place([(MUG, 1)], method="pm_card_authenticationRequired")
    await desk.sandbox("payments", "faults", {"mode": "hang", "seconds": 3, "share": 1.0})
    async with await as_operator(desk) as forger:
        payment = await desk.until_child(Kind.PAYMENT, order, lambda _: True)
        await forge_capture(forger, payment)
    ended = await desk.until(order, phase_is("Failed"))
    assert ended["status"]["reason"] == "AuthenticationRequired"
    assert await desk.labels(order) == []
    events = await desk.history(order)
    assert "payment.success" not in events
    assert "order.shipped" not in events
    assert [
        s async for s in desk.backends.carrier.shipments() if s.reference == order["metadata"]["uid"]
    ] == []
    assert await desk.stock(MUG) == (OPENING, 0)


async def test_no_finalizer_is_taken_off_by_hand(desk: Desk) -> None:
    order = await desk.place([(MUG, 1)])
    with pytest.raises(Forbidden, match="only the operator takes off the finalizer"):
        await tear_off(desk.api, Kind.ORDER, desk.name, order["metadata"]["name"])


async def tear_off(api: ApiClient, kind: Kind, namespace: str, name: str) -> None:
    await api.merge_patch(kind, namespace, name, {"metadata": {"finalizers": None}})


@pytest.mark.parametrize("kind", [Kind.RESERVATION, Kind.PAYMENT])
async def test_a_child_torn_out_is_compensated_once(desk: Desk, kind: Kind) -> None:
    """Its finalizer goes with the operator's rights, then it is deleted: its controller never sees it go."""
    order = await desk.place([(MUG, 1)], line1=SLOW_ADDRESS)
    await desk.until(order, phase_is("Paid"))
    name = child_name(order["metadata"]["name"], order["metadata"]["uid"])
    await desk.plane.supervisor.kill("operator")
    async with await as_operator(desk) as forger:
        await tear_off(forger, kind, desk.name, name)
        await forger.delete(kind, desk.name, name)
    ended = await desk.until(order, phase_is("Failed"))
    assert ended["status"]["reason"] in (f"{kind.value}Missing", f"{kind.value}Deleted")
    await is_compensated_once(desk, order)
    # The carrier may have carried out a buy whose caller was killed; such a label is dead, too.
    assert VoidState.NONE not in {parcel.void for parcel in await desk.labels(order)}
    assert await desk.stock(MUG) == (OPENING, 0)


async def test_an_order_torn_out_is_compensated_once(desk: Desk) -> None:
    order = await desk.place([(MUG, 1)], line1=SLOW_ADDRESS)
    await desk.until(order, phase_is("Paid"))
    async with await as_operator(desk) as forger:
        await tear_off(forger, Kind.ORDER, desk.name, order["metadata"]["name"])
        await forger.delete(Kind.ORDER, desk.name, order["metadata"]["name"])
    gate = await desk.until_sealed(order)
    assert gate["outcome"] in ("Failed", "Cancelled")
    await is_compensated_once(desk, order)
    await desk.until_gone(order)
    assert await desk.stock(MUG) == (OPENING, 0)
