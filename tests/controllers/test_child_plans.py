"""What each child's controller does next."""

from datetime import timedelta
from typing import Any

import pytest

from orderplane.controllers.payment.plan import Action as Pay
from orderplane.controllers.payment.plan import plan as plan_payment
from orderplane.controllers.reservation.plan import RETAIN
from orderplane.controllers.reservation.plan import Action as Hold
from orderplane.controllers.reservation.plan import plan as plan_reservation
from orderplane.controllers.shipment.plan import Action as Ship
from orderplane.controllers.shipment.plan import plan as plan_shipment
from orderplane.crds.meta import Kind
from orderplane.ledgers.gate import (
    Gate,
    GateState,
    PaymentState,
    ReservationState,
    ShipmentState,
    TrackingStatus,
)
from orderplane.ledgers.payments import PaymentEntry, RefundEntry, RefundState
from orderplane.ledgers.shipments import ShipmentEntry, VoidState
from orderplane.ledgers.stock import ReservationEntry

from .builders import NOW, UID, a_child, a_gate

OPEN, COMPENSATING, SEALED = GateState.OPEN, GateState.COMPENSATING, GateState.SEALED
SETTLE = timedelta(seconds=30)


def stock(
    state: ReservationState, *, expired: bool = False, ago: timedelta = timedelta()
) -> ReservationEntry:
    return ReservationEntry(state, None, NOW - ago + timedelta(seconds=-1 if expired else 60))


def money(state: PaymentState, intent: str | None = "pi_1", **more: Any) -> PaymentEntry:
    amount = more.pop("amount", 1000)
    return PaymentEntry(
        UID, amount, "EUR", "pm_card_visa", state, intent, 1, int(intent is not None), 0, None, None, **more
    )


def refund(state: RefundState) -> tuple[RefundEntry, ...]:
    return (RefundEntry("r1", 1000, state, None, 1, None),)


def parcel(state: ShipmentState, provider: str | None = "shp_1", *, begun_ago: float = 5) -> ShipmentEntry:
    begun = NOW - timedelta(seconds=begun_ago) if provider else None
    return ShipmentEntry(
        UID,
        state,
        provider,
        "rate",
        begun,
        None,
        VoidState.NONE,
        TrackingStatus.PRE_TRANSIT,
        None,
        None,
        None,
    )


@pytest.mark.parametrize(
    ("why", "gate", "entry", "deleting", "expect"),
    [
        ("the order is not open yet", None, None, False, Hold.WAIT),
        ("open: keep the stock", a_gate(), None, False, Hold.HOLD),
        ("kept: wait for its time", a_gate(), stock(ReservationState.HELD), False, Hold.WAIT),
        ("its time is over", a_gate(), stock(ReservationState.HELD, expired=True), False, Hold.EXPIRE),
        ("pinned by a payment: it cannot expire", a_gate(), stock(ReservationState.PINNED, expired=True),
         False, Hold.WAIT),
        ("somebody deleted it", a_gate(), stock(ReservationState.HELD), True, Hold.CLOSE_GATE),
        ("a label may be alive", a_gate(COMPENSATING, shipment=ShipmentState.INTENDED),
         stock(ReservationState.PINNED), True, Hold.WAIT),
        ("undo", a_gate(COMPENSATING), stock(ReservationState.PINNED), False, Hold.RELEASE),
        ("undone", a_gate(COMPENSATING), stock(ReservationState.RELEASED), True, Hold.LET_GO),
        ("over", a_gate(SEALED), stock(ReservationState.COMMITTED), True, Hold.LET_GO),
        ("over, and nobody deletes it", a_gate(SEALED), stock(ReservationState.COMMITTED), False, Hold.WAIT),
    ],
)  # fmt: skip
def test_reservation(
    why: str, gate: Gate | None, entry: ReservationEntry | None, deleting: bool, expect: Hold
) -> None:
    child = a_child(Kind.RESERVATION, deleting=deleting)
    assert plan_reservation(child, gate, entry, NOW).action is expect, why


@pytest.mark.parametrize(
    ("why", "entry", "deleting", "expect"),
    [
        ("keep the stock", None, False, Hold.HOLD),
        ("kept: wait for its time", stock(ReservationState.HELD), False, Hold.WAIT),
        ("its time is over", stock(ReservationState.HELD, expired=True), False, Hold.EXPIRE),
        ("not needed any more", stock(ReservationState.HELD), True, Hold.RELEASE),
        ("given back", stock(ReservationState.RELEASED), True, Hold.LET_GO),
        ("deleted before it was kept", None, True, Hold.LET_GO),
        ("there was too little: to be looked at", stock(ReservationState.REJECTED), False, Hold.WAIT),
        ("lost: to be looked at until its time", stock(ReservationState.LOST), False, Hold.WAIT),
        ("expired a moment ago: to be looked at",
         stock(ReservationState.EXPIRED, expired=True), False, Hold.WAIT),
        ("expired long ago", stock(ReservationState.EXPIRED, expired=True, ago=RETAIN), False, Hold.RETIRE),
        ("lost, and its time is long over", stock(ReservationState.LOST, expired=True, ago=RETAIN), False,
         Hold.RETIRE),
    ],
)  # fmt: skip
def test_a_reservation_that_stands_alone(
    why: str, entry: ReservationEntry | None, deleting: bool, expect: Hold
) -> None:
    child = a_child(Kind.RESERVATION, deleting=deleting)
    alone = child.model_copy(update={"spec": child.spec.model_copy(update={"order_ref": None})})
    assert plan_reservation(alone, None, entry, NOW).action is expect, why


def test_a_rejected_one_is_retired_a_while_after_it_was_made() -> None:
    child = a_child(Kind.RESERVATION)
    alone = child.model_copy(update={"spec": child.spec.model_copy(update={"order_ref": None})})
    rejected = stock(ReservationState.REJECTED)
    assert plan_reservation(alone, None, rejected, NOW).until == NOW + RETAIN
    assert plan_reservation(alone, None, rejected, NOW + RETAIN).action is Hold.RETIRE


@pytest.mark.parametrize(
    ("why", "entry", "expect"),
    [
        ("held until its time", stock(ReservationState.HELD), Hold.WAIT),
        ("its time is over", stock(ReservationState.HELD, expired=True), Hold.EXPIRE),
        ("nothing is kept", stock(ReservationState.EXPIRED), Hold.WAIT),
        ("it was never there", None, Hold.WAIT),
    ],
)
def test_a_hold_whose_resource_was_torn_away_still_ends(
    why: str, entry: ReservationEntry | None, expect: Hold
) -> None:
    assert plan_reservation(None, None, entry, NOW).action is expect, why


@pytest.mark.parametrize(
    ("why", "gate", "entry", "deleting", "expect"),
    [
        ("open: begin", a_gate(), None, False, Pay.INTEND),
        ("begun: create", a_gate(), money(PaymentState.INTENDED, None), False, Pay.CREATE),
        ("free of charge", a_gate(), money(PaymentState.INTENDED, None, amount=0),
         False, Pay.CAPTURE_NOTHING),
        ("a confirm may have landed: look first", a_gate(), money(PaymentState.INTENDED), False, Pay.CHECK),
        ("taken", a_gate(), money(PaymentState.CAPTURED), False, Pay.WAIT),
        ("declined: the order decides", a_gate(), money(PaymentState.DECLINED), False, Pay.WAIT),
        ("somebody deleted it", a_gate(), money(PaymentState.CAPTURED), True, Pay.CLOSE_GATE),
        ("undo: nothing began", a_gate(COMPENSATING), None, True, Pay.LET_GO),
        ("undo: no intent", a_gate(COMPENSATING), money(PaymentState.INTENDED, None), True, Pay.FORGET),
        ("undo: an open intent", a_gate(COMPENSATING), money(PaymentState.INTENDED), True, Pay.CANCEL),
        ("undo: a declined intent", a_gate(COMPENSATING), money(PaymentState.DECLINED), True, Pay.CANCEL),
        ("undo: a label may be alive", a_gate(COMPENSATING, shipment=ShipmentState.BOUGHT),
         money(PaymentState.CAPTURED), True, Pay.WAIT),
        ("undo: give it back", a_gate(COMPENSATING), money(PaymentState.CAPTURED), True, Pay.REQUEST_REFUND),
        ("undo: send it", a_gate(COMPENSATING),
         money(PaymentState.CAPTURED, refunds=refund(RefundState.REQUESTED)), True, Pay.SEND_REFUND),
        ("undo: it is pending", a_gate(COMPENSATING),
         money(PaymentState.CAPTURED, refunds=refund(RefundState.PENDING)), True, Pay.CHECK_REFUND),
        ("undo: it failed", a_gate(COMPENSATING),
         money(PaymentState.CAPTURED, refunds=refund(RefundState.FAILED)), True, Pay.RETRY_REFUND),
        ("undone", a_gate(COMPENSATING), money(PaymentState.REFUNDED), True, Pay.LET_GO),
        ("over: deleting is cleaning up", a_gate(SEALED), money(PaymentState.CAPTURED), True, Pay.LET_GO),
    ],
)  # fmt: skip
def test_payment(why: str, gate: Gate, entry: PaymentEntry | None, deleting: bool, expect: Pay) -> None:
    assert plan_payment(a_child(Kind.PAYMENT, deleting=deleting), gate, entry) is expect, why


def test_a_confirm_follows_only_a_look() -> None:
    child = a_child(Kind.PAYMENT)
    entry = money(PaymentState.INTENDED)
    assert plan_payment(child, a_gate(), entry, is_unconfirmed=True) is Pay.CONFIRM


@pytest.mark.parametrize(
    ("why", "gate", "entry", "deleting", "unlabelled", "expect"),
    [
        ("open: begin", a_gate(), None, False, False, Ship.INTEND),
        ("begun: create", a_gate(), parcel(ShipmentState.INTENDED, None), False, False, Ship.CREATE),
        ("maybe bought: look first", a_gate(), parcel(ShipmentState.INTENDED), False, False, Ship.CHECK),
        ("there is none: buy", a_gate(), parcel(ShipmentState.INTENDED), False, True, Ship.BUY),
        ("bought", a_gate(), parcel(ShipmentState.BOUGHT), False, False, Ship.WAIT),
        ("somebody deleted it", a_gate(), parcel(ShipmentState.BOUGHT), True, False, Ship.CLOSE_GATE),
        ("undo: nothing was sent", a_gate(COMPENSATING), parcel(ShipmentState.INTENDED, None), True, False,
         Ship.FORGET),
        ("undo: look", a_gate(COMPENSATING), parcel(ShipmentState.INTENDED), True, False, Ship.CHECK),
        ("undo: it may still land", a_gate(COMPENSATING), parcel(ShipmentState.INTENDED), True, True,
         Ship.WAIT),
        ("undo: it cannot land any more", a_gate(COMPENSATING), parcel(ShipmentState.INTENDED, begun_ago=31),
         True, True, Ship.FORGET),
        ("undo: take the label back", a_gate(COMPENSATING), parcel(ShipmentState.BOUGHT), True, False,
         Ship.VOID),
        ("undone", a_gate(COMPENSATING), parcel(ShipmentState.VOIDED), True, False, Ship.LET_GO),
        ("over", a_gate(SEALED), parcel(ShipmentState.BOUGHT), True, False, Ship.LET_GO),
    ],
)  # fmt: skip
def test_shipment(
    why: str, gate: Gate, entry: ShipmentEntry | None, deleting: bool, unlabelled: bool, expect: Ship
) -> None:
    child = a_child(Kind.SHIPMENT, deleting=deleting)
    found = plan_shipment(child, gate, entry, NOW, settle=SETTLE, is_unlabelled=unlabelled)
    assert found is expect, why
