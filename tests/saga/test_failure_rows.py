"""Each way in which an order can fail, all parts real: it is compensated, and says so."""

import asyncio
import json
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import psutil
import pytest

from orderplane.adapters.kubernetes.client import ApiClient
from orderplane.controllers.payment.ports import IntentState
from orderplane.crds.meta import (
    API_VERSION,
    REFUND_PAYMENT_FINALIZER,
    RELEASE_STOCK_FINALIZER,
    RETRY_ANNOTATION,
    SHARD_LABEL,
    Kind,
)
from orderplane.crds.order import child_name
from orderplane.dev.demo.products import RECOUNTED, SCARCE
from orderplane.ledgers.errors import NothingToSettle
from orderplane.ledgers.payments import ProviderRefundState
from orderplane.ledgers.postgres.inventory import recount
from orderplane.ledgers.postgres.settlement import settle_refund_by_hand

from ..support.plane import TEMPO
from .conftest import MUG, OPENING, POT, TEA, Desk, compensation_steps, conditions_of, phase_is

pytestmark = pytest.mark.integration

SLOW_ADDRESS = "7 Fog Street"
"""The first label is never answered and not bought: the order stays Paid for some seconds."""


async def refunded_once(desk: Desk, order: dict) -> None:
    (intent,) = await desk.intents(order)
    assert intent.received == order["spec"]["quote"]["amounts"]["total"]
    (refund,) = await desk.refunds(order)
    assert (refund.state, refund.amount) == (ProviderRefundState.SUCCEEDED, intent.received)


async def test_out_of_stock(desk: Desk) -> None:
    order = await desk.place([(SCARCE, 4), (TEA, 1)])
    ended = await desk.until(order, phase_is("Failed"))
    assert ended["status"]["reason"] == "OutOfStock"
    conditions = conditions_of(ended)
    assert conditions["Failed"] == ("True", "OutOfStock")
    assert conditions["Undone"] == ("True", "OutOfStock")
    assert conditions["Reserved"] == ("False", "OutOfStock")
    assert f"{SCARCE}: 4 wanted, 3 left" in str(ended["status"]["conditions"])
    assert compensation_steps(ended) == []
    # Compensating nothing takes no time: whether it gets a status write of its own depends on the load.
    assert {"Failed"} <= set(await desk.events(order)) <= {"Compensating", "Failed"}
    assert await desk.history(order) == ["order.created", "order.failed"]
    assert await desk.intents(order) == []
    assert await desk.stock(SCARCE) == (3, 0)
    assert await desk.stock(TEA) == (OPENING, 0)


@pytest.mark.parametrize(
    ("method", "reason", "is_confirmed"),
    [
        ("pm_card_chargeDeclined", "CardDeclined", True),
        ("pm_card_authenticationRequired", "AuthenticationRequired", True),
    ],
)
async def test_a_refused_card_gives_the_stock_back(
    desk: Desk, method: str, reason: str, is_confirmed: bool
) -> None:
    order = await desk.place([(MUG, 2)], method=method)
    ended = await desk.until(order, phase_is("Failed"))
    assert ended["status"]["reason"] == reason
    conditions = conditions_of(ended)
    assert conditions["Failed"] == ("True", reason)
    assert conditions["Paid"] == ("False", reason)
    assert conditions["Reserved"][0] == "False"
    assert compensation_steps(ended) == ["CancelPayment", "ReleaseStock"]
    events = await desk.events(order)
    assert "Failed" in events
    for step in ("CancelPayment", "ReleaseStock"):
        assert f"{step} is done" in " ".join(events.values())
    events = await desk.history(order)
    assert events[:3] == ["order.created", "inventory.reserved", "payment.failed"]
    assert sorted(events[3:5]) == ["inventory.released", "payment.cancelled"]
    assert events[5:] == ["order.failed"]
    # An intent that wants the customer to act could still take money: it has to be cancelled.
    (intent,) = await desk.intents(order)
    assert (intent.state, intent.received) == (IntentState.CANCELLED, 0)
    assert await desk.stock(MUG) == (OPENING, 0)


@pytest.mark.parametrize(
    ("line1", "reason"), [("1 Nowhere Lane", "AddressRejected"), ("9 Island Walk", "ShipmentRejected")]
)
async def test_a_carrier_that_refuses_brings_money_and_stock_back(
    desk: Desk, line1: str, reason: str
) -> None:
    order = await desk.place([(POT, 1)], line1=line1)
    ended = await desk.until(order, phase_is("Failed"))
    assert ended["status"]["reason"] == reason
    conditions = conditions_of(ended)
    assert conditions["Failed"] == ("True", reason)
    assert conditions["Shipped"] == ("False", reason)
    assert conditions["Paid"] == ("False", "Refunded")
    assert compensation_steps(ended) == ["RefundPayment", "ReleaseStock"]
    events = await desk.events(order)
    assert "Failed" in events
    for step in ("RefundPayment", "ReleaseStock"):
        assert f"{step} is done" in " ".join(events.values())
    events = await desk.history(order)
    assert events[:3] == ["order.created", "inventory.reserved", "payment.success"]
    assert sorted(events[3:5]) == ["inventory.released", "payment.refunded"]
    assert events[5:] == ["order.failed"]
    await refunded_once(desk, order)
    assert await desk.labels(order) == []
    assert await desk.stock(POT) == (OPENING, 0)


async def test_a_reservation_alone_expires_and_one_that_is_being_paid_for_does_not(desk: Desk) -> None:
    soon = (datetime.now(UTC) + timedelta(seconds=3)).strftime("%Y-%m-%dT%H:%M:%SZ")
    alone = {
        "apiVersion": API_VERSION,
        "kind": "Reservation",
        "metadata": {
            "name": "set-aside", "finalizers": [RELEASE_STOCK_FINALIZER], "labels": {SHARD_LABEL: "1"},
        },
        "spec": {"items": [{"sku": MUG, "quantity": 5}], "expiresAt": soon},
    }  # fmt: skip
    await desk.api.create(Kind.RESERVATION, desk.name, alone)
    held = await desk.until_row(
        "SELECT * FROM reservations WHERE merchant = $1 AND name = 'set-aside' AND state = 'Held'"
    )
    order = await desk.place([(MUG, 2)], line1=SLOW_ADDRESS)
    # Its time is over the moment after it is pinned; the controller looks again and again, and lets it be.
    await desk.until_row(
        "UPDATE reservations SET expires_at = now() - interval '1 minute' "
        "WHERE merchant = $1 AND holder = $2 AND state = 'Pinned' RETURNING 1",
        order["metadata"]["uid"],
    )
    await desk.until_row(
        "SELECT 1 FROM reservations WHERE merchant = $1 AND holder = $2 AND state = 'Expired'", held["holder"]
    )
    expired = await desk.api.get(Kind.RESERVATION, desk.name, "set-aside")
    while expired["status"]["phase"] != "Expired":
        await asyncio.sleep(0.05)
        expired = await desk.api.get(Kind.RESERVATION, desk.name, "set-aside")
    assert conditions_of(expired)["Held"] == ("False", "StockExpired")
    shipped = await desk.until(order, phase_is("Shipped", "Delivered"))
    assert conditions_of(shipped)["Reserved"][0] == "True"
    assert await desk.stock(MUG) == (OPENING - 2, 0)


async def test_a_hold_that_ran_out_while_nobody_could_charge_gets_another_time(desk: Desk) -> None:
    """The operator is stopped by SIGSTOP; the time in the ledger is shortened, so that nobody has to wait."""
    await desk.plane.supervisor.stop("operator")
    order = await desk.place([(MUG, 3)])
    # An operator that does everything but payments: the order waits where its time can run out.
    await desk.plane.start_process(
        "operator", {**TEMPO["operator"], "ORDERPLANE_CONTROLLERS": "order,reservation"}
    )
    try:
        await desk.until(order, phase_is("Reserved"))
        operator = psutil.Process(desk.plane.supervisor.pid("operator"))
        operator.suspend()
        await desk.until_row(
            "UPDATE reservations SET expires_at = now() - interval '5 minutes' "
            "WHERE merchant = $1 AND holder = $2 AND state = 'Held' RETURNING 1",
            order["metadata"]["uid"],
        )
        operator.resume()
        # The ledger was changed from outside: its timer is set to the old time.
        news = {
            "merchant": desk.name, "order": order["metadata"]["name"],
            "child": child_name(order["metadata"]["name"], order["metadata"]["uid"]),
        }  # fmt: skip
        await desk.rows("SELECT pg_notify('ledger', $2) WHERE $1 <> ''", json.dumps(news))
        await desk.until_row(
            "SELECT 1 FROM reservations WHERE merchant = $1 AND holder = $2 AND state = 'Held' "
            "AND expires_at > now() + interval '10 minutes'",
            order["metadata"]["uid"],
        )
        assert await desk.stock(MUG) == (OPENING, 3)
    finally:
        await desk.plane.supervisor.stop("operator")
        await desk.plane.start_process("operator", TEMPO["operator"])
    await desk.until(order, phase_is("Shipped", "Delivered"))
    assert "inventory.released" not in await desk.history(order)
    assert await desk.stock(MUG) == (OPENING - 3, 0)


async def test_a_hold_ends_where_only_a_person_can_help_its_order(desk: Desk) -> None:
    await desk.plane.supervisor.stop("operator")
    order = await desk.place([(MUG, 3)])
    name = child_name(order["metadata"]["name"], order["metadata"]["uid"])
    stranger = {
        "apiVersion": API_VERSION,
        "kind": "Payment",
        "metadata": {
            "name": name, "finalizers": [REFUND_PAYMENT_FINALIZER], "labels": {SHARD_LABEL: "1"},
        },
        "spec": {
            "orderRef": {"name": "somebody-elses", "uid": str(uuid4())},
            "amount": 1, "currency": "EUR", "method": "pm_card_visa",
        },
    }  # fmt: skip
    kubeconfig = str(desk.plane.kubeconfig("operator"))
    async with await ApiClient.connect(user_agent="stranger", kubeconfig=kubeconfig) as api:
        await api.create(Kind.PAYMENT, desk.name, stranger)
    await desk.plane.start_process("operator", TEMPO["operator"])
    await desk.until(order, lambda it: conditions_of(it).get("Stalled") == ("True", "ChildConflict"))
    await desk.until_row(
        "UPDATE reservations SET expires_at = now() WHERE merchant = $1 AND holder = $2 RETURNING 1",
        order["metadata"]["uid"],
    )
    # A restart reads the ledger's time anew.
    await desk.plane.supervisor.kill("operator")
    ended = await desk.until(order, phase_is("Failed"))
    assert ended["status"]["reason"] == "ReservationExpired"
    assert await desk.history(order) == [
        "order.created", "inventory.reserved", "inventory.released", "order.failed",
    ]  # fmt: skip
    assert compensation_steps(ended) == ["ReleaseStock"]
    assert await desk.stock(MUG) == (OPENING, 0)
    await desk.api.delete(Kind.PAYMENT, desk.name, name)


async def test_stock_that_a_recount_finds_missing_after_payment_is_refunded(desk: Desk) -> None:
    order = await desk.place([(RECOUNTED, 1), (TEA, 1)], line1=SLOW_ADDRESS)
    await desk.until(order, phase_is("Paid"))
    done = await recount(desk.pool, desk.name, RECOUNTED, 0, note="the shelf is empty")
    assert len(done.lost) == 1
    ended = await desk.until(order, phase_is("Failed"))
    assert ended["status"]["reason"] == "StockLost"
    conditions = conditions_of(ended)
    assert conditions["Reserved"] == ("False", "StockLost")
    assert conditions["Paid"] == ("False", "Refunded")
    assert compensation_steps(ended) == ["RefundPayment", "ReleaseStock"]
    assert await desk.history(order) == [
        "order.created", "inventory.reserved", "payment.success", "inventory.released", "payment.refunded",
        "order.failed",
    ]  # fmt: skip
    await refunded_once(desk, order)
    assert await desk.labels(order) == []
    assert await desk.stock(RECOUNTED) == (0, 0)
    assert await desk.stock(TEA) == (OPENING, 0)


async def test_a_customer_cancels_at_once(desk: Desk) -> None:
    order = await desk.place([(MUG, 2)], method="pm_sandbox_slowCharge")
    await desk.cancel(order)
    ended = await desk.until(order, phase_is("Cancelled"))
    assert conditions_of(ended)["Cancelled"] == ("True", "CancelRequested")
    assert (await desk.history(order))[-1] == "order.cancelled"
    assert "Cancelled" in await desk.events(order)
    assert await desk.stock(MUG) == (OPENING, 0)


async def test_a_customer_cancels_while_stock_is_held(desk: Desk) -> None:
    order = await desk.place([(MUG, 2)], method="pm_sandbox_timeoutBeforeCharge")
    await desk.until_row(
        "SELECT 1 FROM payments WHERE merchant = $1 AND order_uid = $2", order["metadata"]["uid"]
    )
    await desk.cancel(order)
    ended = await desk.until(order, phase_is("Cancelled"))
    assert compensation_steps(ended) == ["CancelPayment", "ReleaseStock"]
    (intent,) = await desk.intents(order)
    assert (intent.state, intent.received) == (IntentState.CANCELLED, 0)
    assert await desk.refunds(order) == []
    assert await desk.stock(MUG) == (OPENING, 0)


async def test_a_customer_cancels_after_payment(desk: Desk) -> None:
    order = await desk.place([(MUG, 2)], line1=SLOW_ADDRESS)
    await desk.until(order, phase_is("Paid"))
    await desk.cancel(order)
    await desk.until(order, phase_is("Compensating"))
    ended = await desk.until(order, phase_is("Cancelled"))
    assert compensation_steps(ended) == ["RefundPayment", "ReleaseStock"]
    await refunded_once(desk, order)
    assert await desk.labels(order) == []
    assert await desk.stock(MUG) == (OPENING, 0)


@pytest.mark.parametrize("line1", ["1 Canal Street", "5 Harbour View"])
async def test_a_customer_cancels_with_the_label_bought(desk: Desk, line1: str) -> None:
    order = await desk.place([(MUG, 2)], line1=line1)
    await desk.until(order, phase_is("Shipped"))
    assert await desk.stock(MUG) == (OPENING - 2, 0)
    await desk.cancel(order)
    ended = await desk.until(order, phase_is("Cancelled"))
    assert compensation_steps(ended) == ["CancelShipment", "RefundPayment", "ReleaseStock"]
    conditions = conditions_of(ended)
    assert conditions["Shipped"] == ("False", "LabelVoided")
    assert conditions["Paid"] == ("False", "Refunded")
    events = await desk.history(order)
    assert events[:4] == ["order.created", "inventory.reserved", "payment.success", "order.shipped"]
    assert events[4] == "shipment.cancelled"
    assert sorted(events[5:7]) == ["inventory.released", "payment.refunded"]
    assert events[7:] == ["order.cancelled"]
    await refunded_once(desk, order)
    assert len(await desk.labels(order)) == 1
    assert await desk.stock(MUG) == (OPENING, 0)


@pytest.mark.parametrize(
    "method",
    [
        "pm_sandbox_timeoutAfterCharge",
        "pm_sandbox_timeoutBeforeCharge",
        "pm_sandbox_errorOnceAfterCharge",
        "pm_sandbox_createError",
        "pm_sandbox_processing",
    ],
)
async def test_an_unclear_charge_is_cleared_up_and_taken_once(desk: Desk, method: str) -> None:
    order = await desk.place([(MUG, 1)], method=method)
    shipped = await desk.until(order, phase_is("Shipped", "Delivered"))
    assert conditions_of(shipped)["Paid"] == ("True", "PaymentCaptured")
    received = [intent.received for intent in await desk.intents(order)]
    assert sum(received) == order["spec"]["quote"]["amounts"]["total"]
    assert sum(amount > 0 for amount in received) == 1
    assert await desk.refunds(order) == []
    events = await desk.history(order)
    assert events[:4] == ["order.created", "inventory.reserved", "payment.success", "order.shipped"]


async def test_a_refund_that_takes_its_time_is_waited_for(desk: Desk) -> None:
    order = await desk.place([(MUG, 1)], method="pm_sandbox_refundPending", line1="9 Island Walk")
    await desk.until_row(
        "SELECT 1 FROM refunds WHERE merchant = $1 AND order_uid = $2 AND state = 'Pending'",
        order["metadata"]["uid"],
    )
    assert "order.failed" not in await desk.history(order)
    ended = await desk.until(order, phase_is("Failed"))
    assert compensation_steps(ended) == ["RefundPayment", "ReleaseStock"]
    await refunded_once(desk, order)


async def stalled_on_its_refund(desk: Desk) -> dict:
    order = await desk.place([(MUG, 1)], method="pm_sandbox_refundFails", line1="9 Island Walk")
    stalled = await desk.until(order, lambda o: conditions_of(o).get("Stalled") == ("True", "RefundFailed"))
    assert stalled["status"]["phase"] == "Compensating"
    payment = await desk.child(Kind.PAYMENT, order)
    assert conditions_of(payment)["Refunded"] == ("False", "RefundFailed")
    assert payment["status"]["phase"] == "Refunding"
    assert "Stalled" in await desk.events(order)
    # A card outage never holds stock.
    assert await desk.stock(MUG) == (OPENING, 0)
    return order


async def test_a_refund_that_failed_is_settled_by_hand(desk: Desk) -> None:
    order = await stalled_on_its_refund(desk)
    total = order["spec"]["quote"]["amounts"]["total"]
    said = await settle_refund_by_hand(
        desk.pool, desk.name, order["metadata"]["name"], reason="card closed", reference="SEPA-2026-118"
    )
    assert said == f"{total // 100}.{total % 100:02} EUR"
    ended = await desk.until(order, phase_is("Failed"))
    assert "Stalled" not in conditions_of(ended) or conditions_of(ended)["Stalled"][0] == "False"
    assert compensation_steps(ended) == ["RefundPayment", "ReleaseStock"]
    (row,) = await desk.rows(
        "SELECT * FROM refunds WHERE merchant = $1 AND order_uid = $2", order["metadata"]["uid"]
    )
    assert (row["state"], row["reference"], row["reason"]) == (
        "SettledByHand",
        "SEPA-2026-118",
        "card closed",
    )
    with pytest.raises(NothingToSettle, match="its money is back already"):
        await settle_refund_by_hand(
            desk.pool, desk.name, order["metadata"]["name"], reason="again", reference="X"
        )


async def test_a_refund_that_failed_is_tried_again_only_when_asked(desk: Desk) -> None:
    order = await stalled_on_its_refund(desk)
    assert len(await desk.refunds(order)) == 1
    annotation = {"metadata": {"annotations": {RETRY_ANNOTATION: datetime.now(UTC).isoformat()}}}
    await desk.api.merge_patch(Kind.ORDER, desk.name, order["metadata"]["name"], annotation)
    await desk.until_row(
        "SELECT 1 FROM refunds WHERE merchant = $1 AND order_uid = $2 AND attempt = 2 AND state = 'Failed'",
        order["metadata"]["uid"],
    )
    assert [refund.state for refund in await desk.refunds(order)] == [ProviderRefundState.FAILED] * 2
    await settle_refund_by_hand(
        desk.pool, desk.name, order["metadata"]["name"], reason="twice no", reference="CASH-1"
    )
    await desk.until(order, phase_is("Failed"))
    assert (await desk.history(order)).count("payment.refunded") == 1
