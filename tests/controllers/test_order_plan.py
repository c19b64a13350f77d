"""The saga on paper: each row says why."""

from dataclasses import dataclass, field
from typing import Any

import pytest

from orderplane.controllers.order.children import Children
from orderplane.controllers.order.plan import (
    AskForRefund,
    Compensate,
    Create,
    Delete,
    OpenGate,
    Release,
    Seal,
    SettleOrphaned,
    Step,
    VerifyMissing,
    plan,
)
from orderplane.controllers.steps import Wait
from orderplane.crds.meta import Kind
from orderplane.crds.order import Order
from orderplane.ledgers.gate import Gate
from orderplane.ledgers.refunds import RefundRequest
from orderplane.ledgers.states import GateState, Outcome, PaymentState, ReservationState, ShipmentState

from .builders import NOW, a_gate, an_order, children

R, P, S = Kind.RESERVATION, Kind.PAYMENT, Kind.SHIPMENT
COMPENSATING, SEALED = GateState.COMPENSATING, GateState.SEALED
HELD, PINNED, COMMITTED = ReservationState.HELD, ReservationState.PINNED, ReservationState.COMMITTED


@dataclass
class Case:
    why: str
    gate: Gate | None
    expect: Step | set[Kind]
    """The step; for a `Delete` the kinds of its children."""
    order: Order = field(default_factory=an_order)
    children: Children = field(default_factory=Children)


FORWARD = [
    Case("the row comes before anything else", None, OpenGate()),
    Case("nothing was begun: keep the stock", a_gate(), Create(R)),
    Case("the stock is being asked for: wait", a_gate(), Wait(), children=children(R)),
    Case("stock held: charge", a_gate(reservation=HELD), Create(P), children=children(R)),
    Case(
        "the payment's answer is not known: wait, make nothing",
        a_gate(reservation=PINNED, payment=PaymentState.INTENDED),
        Wait(),
        children=children(R, P),
    ),
    Case(
        "paid: ship",
        a_gate(reservation=PINNED, payment=PaymentState.CAPTURED),
        Create(S),
        children=children(R, P),
    ),
    Case(
        "labelled: wait for the carrier",
        a_gate(reservation=COMMITTED, payment=PaymentState.CAPTURED, shipment=ShipmentState.BOUGHT),
        Wait(),
        children=children(R, P, S),
    ),
    Case("begun, but its resource is not in the cache: look", a_gate(reservation=HELD), VerifyMissing(R)),
    Case(
        "leaving: its children are not missing",
        a_gate(
            reservation=COMMITTED,
            payment=PaymentState.CAPTURED,
            shipment=ShipmentState.BOUGHT,
            archived_version=7,
        ),
        Wait(),
        children=children(deleting=(S,)),
    ),
]

DECISIONS = [
    ("out of stock",
     a_gate(reservation=ReservationState.REJECTED, reservation_message="TEA: 2 wanted"), {}, "OutOfStock"),
    ("held too long", a_gate(reservation=ReservationState.EXPIRED), {}, "ReservationExpired"),
    (
        "a recount took what was paid for",
        a_gate(reservation=ReservationState.LOST, payment=PaymentState.CAPTURED),
        {},
        "StockLost",
    ),
    (
        "card declined",
        a_gate(reservation=PINNED, payment=PaymentState.DECLINED, payment_reason="CardDeclined",
               payment_message="no"),
        {},
        "CardDeclined",
    ),
    (
        "carrier refuses after payment",
        a_gate(
            reservation=PINNED,
            payment=PaymentState.CAPTURED,
            shipment=ShipmentState.REFUSED,
            shipment_reason="AddressRejected",
            shipment_message="no",
        ),
        {},
        "AddressRejected",
    ),
    ("cancelled before anything", a_gate(), {"cancel": True}, "CancelRequested"),
    ("cancelled while charging", a_gate(reservation=PINNED, payment=PaymentState.INTENDED), {"cancel": True},
     "CancelRequested"),
    ("cancelled after the label", a_gate(reservation=COMMITTED, payment=PaymentState.CAPTURED,
                                         shipment=ShipmentState.BOUGHT), {"cancel": True}, "CancelRequested"),
    ("deleted while open", a_gate(reservation=HELD), {"deleting": True}, "Deleted"),
]  # fmt: skip

COMPENSATE = [
    Case(
        "the label first",
        a_gate(
            COMPENSATING, reservation=COMMITTED, payment=PaymentState.CAPTURED, shipment=ShipmentState.BOUGHT
        ),
        {S},
        children=children(R, P, S),
    ),
    Case(
        "the label is being taken back: wait for that",
        a_gate(
            COMPENSATING, reservation=COMMITTED, payment=PaymentState.CAPTURED, shipment=ShipmentState.BOUGHT
        ),
        Wait(),
        children=children(R, P, deleting=(S,)),
    ),
    Case(
        "then money and stock side by side",
        a_gate(
            COMPENSATING, reservation=PINNED, payment=PaymentState.CAPTURED, shipment=ShipmentState.VOIDED
        ),
        {R, P, S},
        children=children(R, P, S),
    ),
    Case(
        "nobody makes anything any more",
        a_gate(COMPENSATING, reservation=ReservationState.RELEASED),
        Seal(),
    ),
    Case(
        "the payment's resource was torn off: its ledger is settled all the same",
        a_gate(COMPENSATING, reservation=ReservationState.RELEASED, payment=PaymentState.CAPTURED),
        SettleOrphaned((P,)),
    ),
    Case(
        "a label whose resource was torn off",
        a_gate(
            COMPENSATING, reservation=PINNED, payment=PaymentState.CAPTURED, shipment=ShipmentState.INTENDED
        ),
        SettleOrphaned((S,)),
        children=children(R, P),
    ),
    Case(
        "compensated, but children are still going: wait",
        a_gate(COMPENSATING, reservation=ReservationState.RELEASED, payment=PaymentState.REFUNDED),
        Wait(),
        children=children(deleting=(R, P)),
    ),
]

RETIRE = [
    Case("over, and kept", a_gate(SEALED, outcome=Outcome.DELIVERED, finished_at=NOW), Wait()),
    Case(
        "over and deleted: clean up",
        a_gate(SEALED, outcome=Outcome.DELIVERED, finished_at=NOW),
        {R, P, S},
        an_order(deleting=True),
        children(R, P, S),
    ),
    Case(
        "nothing is left: let it go",
        a_gate(SEALED, outcome=Outcome.FAILED, finished_at=NOW),
        Release(),
        an_order(deleting=True),
    ),
    Case(
        "only others' finalizers are left: their removal is a watch event",
        a_gate(SEALED, outcome=Outcome.FAILED, finished_at=NOW),
        Wait(),
        an_order(deleting=True, finalizers=("example.org/mine",)),
    ),
    Case(
        "too late to cancel: money and goods stay",
        a_gate(SEALED, reservation=COMMITTED, payment=PaymentState.CAPTURED, outcome=Outcome.SHIPPED),
        Wait(),
        an_order(cancel=True),
        children(R, P, S),
    ),
]


@pytest.mark.parametrize("case", [*FORWARD, *COMPENSATE, *RETIRE], ids=lambda case: case.why)
def test_the_next_step(case: Case) -> None:
    found = plan(case.order, case.gate, case.children)
    if isinstance(case.expect, set):
        assert isinstance(found, Delete)
        assert {kind for kind, _ in found.children} == case.expect
    else:
        assert found == case.expect


@pytest.mark.parametrize(("why", "gate", "wish", "reason"), DECISIONS, ids=[row[0] for row in DECISIONS])
def test_why_an_order_is_compensated(why: str, gate: Gate, wish: dict[str, Any], reason: str) -> None:
    found = plan(an_order(**wish), gate, children(R, P, S))
    assert isinstance(found, Compensate), "the decision alone; deletes come once it is committed"
    assert found.reason == reason
    assert found.is_cancel == (reason in ("CancelRequested", "Deleted"))


@pytest.mark.parametrize("kind", [R, P, S])
def test_a_child_that_somebody_deletes_stops_the_saga(kind: Kind) -> None:
    found = plan(an_order(), a_gate(reservation=HELD), children(*({R, P, S} - {kind}), deleting=(kind,)))
    assert isinstance(found, Compensate)
    assert found.reason == f"{kind}Deleted"


def test_planning_twice_plans_the_same() -> None:
    for case in (*FORWARD, *COMPENSATE, *RETIRE):
        first = plan(case.order, case.gate, case.children)
        assert first == plan(case.order, case.gate, case.children)


def test_each_refund_of_the_spec_is_asked_for_once_the_order_has_ended() -> None:
    wishes = [{"name": name, "reason": "Damaged"} for name in ("cup", "pot")]
    order = an_order(refunds=wishes)
    asked = [
        RefundRequest(name, "Damaged", 1, {}, False, "RefundTooLarge", "", None, NOW)
        for name in ("cup", "pot")
    ]
    for gate in (
        a_gate(GateState.SEALED, outcome=Outcome.SHIPPED),
        a_gate(GateState.SEALED, outcome=Outcome.CANCELLED),
    ):
        assert plan(order, gate, children()) == AskForRefund(order.spec.refunds[0])
        assert plan(order, gate, children(), asked[:1]) == AskForRefund(order.spec.refunds[1])
        assert plan(order, gate, children(), asked) == Wait()
    going = an_order(deleting=True, refunds=wishes)
    gate = a_gate(GateState.SEALED, outcome=Outcome.SHIPPED)
    assert plan(going, gate, children(R)) == AskForRefund(going.spec.refunds[0])


@pytest.mark.parametrize("state", [GateState.OPEN, GateState.COMPENSATING])
def test_no_refund_is_asked_for_before(state: GateState) -> None:
    order = an_order(refunds=[{"name": "cup", "reason": "Damaged"}])
    assert not isinstance(plan(order, a_gate(state), children(R)), AskForRefund)
