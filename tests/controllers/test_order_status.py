"""What an Order's status says, and which Kubernetes Events a change of it is worth."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from orderplane.controllers.engine.conditions import Fact, find, with_facts
from orderplane.controllers.engine.delays import Delay
from orderplane.controllers.order.children import Children
from orderplane.controllers.order.status import events_of, status_of
from orderplane.crds.meta import Kind
from orderplane.crds.order import Compensation, CompensationStep, Order, OrderStatus
from orderplane.crds.reasons import Reason
from orderplane.ledgers.gate import Gate
from orderplane.ledgers.payments import RefundEntry
from orderplane.ledgers.refunds import RefundRequest
from orderplane.ledgers.states import (
    GateState,
    Outcome,
    PaymentState,
    RefundState,
    ReservationState,
    ShipmentState,
    TrackingStatus,
)

from .builders import NOW, a_child, a_gate, an_order

COMPENSATING, SEALED = GateState.COMPENSATING, GateState.SEALED
HELD, PINNED, COMMITTED = ReservationState.HELD, ReservationState.PINNED, ReservationState.COMMITTED
CAPTURED, BOUGHT = PaymentState.CAPTURED, ShipmentState.BOUGHT
GOES_ON = {"Reconciling": ("True", Reason.PROGRESSING)}
RELEASE = Compensation(step=CompensationStep.RELEASE_STOCK, reference="r1", at=NOW)


def status(
    gate: Gate,
    *,
    order: Order | None = None,
    children: Children | None = None,
    compensation: tuple[Compensation, ...] = (),
    refunds: tuple[RefundRequest, ...] = (),
    delay: Delay | None = None,
) -> OrderStatus:
    return status_of(order or an_order(), gate, children or Children(), compensation, refunds, delay, NOW)


def with_condition(type_: str, status: Any, reason: str = Reason.PAYMENTS_UNCLEAR) -> Children:
    """An order whose Payment says so."""
    payment = a_child(Kind.PAYMENT)
    conditions = with_facts((), [Fact(type_, status, reason, "x")], 1, NOW)
    status_ = payment.status.model_copy(update={"conditions": conditions})
    return Children(a_child(Kind.RESERVATION), payment.model_copy(update={"status": status_}))


def shipped(**facts: Any) -> Gate:
    label = {"carrier": "SandboxPost", "tracking_code": "1Z9", "tracking_url": "https://track/1Z9"}
    return a_gate(**{"reservation": COMMITTED, "payment": CAPTURED, "shipment": BOUGHT, **label, **facts})


@pytest.mark.parametrize(
    ("currency", "minor", "total"), [("EUR", 15482, "154.82"), ("JPY", 1990, "1990"), ("BHD", 5, "0.005")]
)
def test_the_total_is_written_for_people(currency: str, minor: int, total: str) -> None:
    amounts = {"items": minor, "shipping": 0, "tax": 0, "discount": 0, "total": minor}
    lines = [{"sku": "TEA", "quantity": 1, "unitAmount": minor, "weightGrams": 1}]
    order = an_order(quote={"currency": currency, "lines": lines, "amounts": amounts})
    assert status(a_gate(), order=order).total == total


@pytest.mark.parametrize(
    ("why", "gate", "phase", "conditions"),
    [
        ("nothing was begun", a_gate(), "Pending", GOES_ON),
        ("held", a_gate(reservation=HELD), "Reserved", {"Reserved": ("True", Reason.STOCK_HELD), **GOES_ON}),
        (
            "the payment's answer is not known: it stays reserved",
            a_gate(reservation=PINNED, payment=PaymentState.INTENDED),
            "Reserved",
            {"Reserved": ("True", Reason.STOCK_HELD), **GOES_ON},
        ),
        (
            "paid",
            a_gate(reservation=PINNED, payment=CAPTURED),
            "Paid",
            {"Reserved": ("True", Reason.STOCK_HELD), "Paid": ("True", Reason.PAYMENT_CAPTURED), **GOES_ON},
        ),
        (
            "labelled",
            shipped(),
            "Shipped",
            {
                "Reserved": ("True", Reason.STOCK_HELD),
                "Paid": ("True", Reason.PAYMENT_CAPTURED),
                "Shipped": ("True", Reason.LABEL_BOUGHT),
            },
        ),
        (
            "card declined, not compensated yet",
            a_gate(
                COMPENSATING,
                reservation=PINNED,
                payment=PaymentState.DECLINED,
                payment_reason=Reason.CARD_DECLINED,
            ),
            "Compensating",
            {
                "Reserved": ("True", Reason.STOCK_HELD),
                "Paid": ("False", Reason.CARD_DECLINED),
                "Undone": ("False", Reason.CARD_DECLINED),
                **GOES_ON,
            },
        ),
        (
            "out of stock, and over",
            a_gate(
                SEALED,
                outcome=Outcome.FAILED,
                reason=Reason.OUT_OF_STOCK,
                reservation=ReservationState.REJECTED,
            ),
            "Failed",
            {
                "Reserved": ("False", Reason.OUT_OF_STOCK),
                "Undone": ("True", Reason.OUT_OF_STOCK),
                "Failed": ("True", Reason.OUT_OF_STOCK),
            },
        ),
        (
            "cancelled after it was paid",
            a_gate(
                SEALED,
                outcome=Outcome.CANCELLED,
                reason=Reason.CANCEL_REQUESTED,
                reservation=ReservationState.RELEASED,
                payment=PaymentState.REFUNDED,
                shipment=ShipmentState.VOIDED,
            ),
            "Cancelled",
            {
                "Reserved": ("False", Reason.STOCK_RELEASED),
                "Paid": ("False", Reason.REFUNDED),
                "Shipped": ("False", Reason.LABEL_VOIDED),
                "Undone": ("True", Reason.CANCEL_REQUESTED),
                "Cancelled": ("True", Reason.CANCEL_REQUESTED),
            },
        ),
    ],
)
def test_each_place_in_the_saga(
    why: str, gate: Gate, phase: str, conditions: dict[str, tuple[str, str]]
) -> None:
    found = status(gate)
    assert found.phase == phase, why
    assert {c.type: (c.status, c.reason) for c in found.conditions} == conditions, why
    assert status(gate, order=an_order().model_copy(update={"status": found})) == found, why


@pytest.mark.parametrize(
    ("tracking", "outcome", "phase", "delivered"),
    [
        (TrackingStatus.IN_TRANSIT, Outcome.SHIPPED, "Shipped", None),
        (TrackingStatus.RETURNED, Outcome.SHIPPED, "Shipped", ("False", Reason.RETURNED)),
        (TrackingStatus.FAILED, Outcome.SHIPPED, "Shipped", ("False", Reason.DELIVERY_FAILED)),
        (TrackingStatus.CANCELLED, Outcome.SHIPPED, "Shipped", ("False", Reason.TRANSPORT_CANCELLED)),
        (TrackingStatus.UNCLEAR, Outcome.SHIPPED, "Shipped", ("False", Reason.TRACKING_UNCLEAR)),
        (TrackingStatus.DELIVERED, Outcome.DELIVERED, "Delivered", ("True", Reason.DELIVERED)),
    ],
)
def test_a_parcel_on_its_way(
    tracking: TrackingStatus, outcome: Outcome, phase: str, delivered: tuple[str, str] | None
) -> None:
    found = status(shipped(state=SEALED, outcome=outcome, tracking_status=tracking))
    condition = find(found.conditions, "Delivered")
    trouble = delivered[1] if delivered and delivered[0] == "False" else None
    assert (found.phase, found.reason) == (phase, trouble)
    assert (condition and (condition.status, condition.reason)) == delivered
    assert found.tracking is not None
    assert found.tracking.code == "1Z9"


def test_each_trouble_of_a_parcel_is_told_once_and_is_over_when_it_moves_again() -> None:
    def at(tracking: TrackingStatus, before: OrderStatus) -> tuple[OrderStatus, list[str]]:
        gate = shipped(state=SEALED, outcome=Outcome.SHIPPED, tracking_status=tracking)
        after = status(gate, order=an_order().model_copy(update={"status": before}))
        return after, [event.reason for event in events_of(before, after) if event.type == "Warning"]

    moving, told = at(TrackingStatus.IN_TRANSIT, OrderStatus())
    assert (find(moving.conditions, "Delivered"), told) == (None, [])
    failed, told = at(TrackingStatus.FAILED, moving)
    assert (failed.reason, told) == (Reason.DELIVERY_FAILED, [Reason.DELIVERY_FAILED])
    assert at(TrackingStatus.FAILED, failed) == (failed, [])
    unclear, told = at(TrackingStatus.UNCLEAR, failed)
    assert (unclear.reason, told) == (Reason.TRACKING_UNCLEAR, [Reason.TRACKING_UNCLEAR])
    again, told = at(TrackingStatus.IN_TRANSIT, unclear)
    condition = find(again.conditions, "Delivered")
    assert condition is not None
    assert (again.reason, condition.reason, told) == (None, Reason.RESUMED, [])


@pytest.mark.parametrize(
    ("shipment", "reason"),
    [(ShipmentState.STRAY, Reason.STRAY_LABEL), (ShipmentState.DISCARDED, Reason.LABEL_VOIDED)],
)
def test_a_label_that_comes_home_after_the_end_is_shown(shipment: ShipmentState, reason: Reason) -> None:
    gate = a_gate(
        SEALED, outcome=Outcome.CANCELLED, reason=Reason.CANCEL_REQUESTED, shipment=shipment,
        tracking_status=TrackingStatus.IN_TRANSIT,
    )  # fmt: skip
    found = status(gate)
    condition = find(found.conditions, "Shipped")
    assert condition is not None
    assert (found.phase, condition.status, condition.reason) == ("Cancelled", "False", reason)
    assert find(found.conditions, "Delivered") is None


def test_a_cancel_after_the_first_scan_comes_too_late() -> None:
    gate = shipped(state=SEALED, outcome=Outcome.SHIPPED, tracking_status=TrackingStatus.IN_TRANSIT)
    found = status(gate, order=an_order(cancel=True))
    cancelled = find(found.conditions, "Cancelled")
    assert cancelled is not None
    assert (found.phase, cancelled.status, cancelled.reason) == ("Shipped", "False", "AlreadyInTransit")


@pytest.mark.parametrize(
    ("gate", "is_shown"),
    [
        (a_gate(reservation=HELD), True),
        (a_gate(reservation=PINNED, payment=PaymentState.INTENDED), True),
        (a_gate(reservation=PINNED, payment=CAPTURED), False),
    ],
)
def test_why_a_child_waits_is_shown_until_its_ledger_has_the_answer(gate: Gate, is_shown: bool) -> None:
    found = find(status(gate, children=with_condition("Captured", "False")).conditions, "Paid")
    assert (found is not None and found.reason == Reason.PAYMENTS_UNCLEAR) == is_shown


@pytest.mark.parametrize(
    ("why", "children", "delay", "is_stalled"),
    [
        ("nothing failed", Children(), None, False),
        ("it fails, but goes on trying", Children(), Delay("Down", "x"), False),
        ("it is stalled itself", Children(), Delay("Down", "x", is_stalled=True), True),
        ("a child is stalled", with_condition("Stalled", "True", Reason.REFUND_FAILED), None, True),
        ("a child waits", with_condition("Reconciling", "True", Reason.PAYMENTS_UNCLEAR), None, False),
    ],
)
def test_it_is_stalled_when_itself_or_a_child_is(
    why: str, children: Children, delay: Delay | None, is_stalled: bool
) -> None:
    found = status(a_gate(reservation=HELD), children=children, delay=delay)
    assert (find(found.conditions, "Stalled") is not None) == is_stalled, why
    assert (find(found.conditions, "Reconciling") is None) == is_stalled, why
    assert found.stalled is (True if is_stalled else None), why


def test_a_stall_is_told_each_time_and_takes_no_place_in_the_story() -> None:
    delay = Delay("Down", "x", is_stalled=True)
    order, told = an_order(), []
    for gate, problem in (
        (a_gate(reservation=HELD), None),
        (a_gate(reservation=HELD), delay),
        (a_gate(reservation=HELD), None),
        (a_gate(reservation=HELD), delay),
        (a_gate(reservation=PINNED, payment=CAPTURED), None),
    ):
        after = status(gate, order=order, delay=problem)
        told += events_of(order.status, after)
        order = order.model_copy(update={"status": after})
    assert [event.reason for event in told] == ["Reserved", "Stalled", "Stalled", "Paid"]
    assert [event.can_recur for event in told] == [False, True, True, False]
    steps = [event.step for event in told if not event.can_recur]
    assert steps == sorted(set(steps))


def test_a_stall_that_is_over_is_not_shown_any_more() -> None:
    gate = a_gate(reservation=HELD)
    stalled = status(gate, delay=Delay("Down", "x", is_stalled=True))
    order = an_order().model_copy(update={"status": stalled})
    quiet = Delay("Down", "x", is_quiet=True)
    assert find(status(gate, order=order, delay=quiet).conditions, "Stalled") is not None
    assert find(status(gate, order=order).conditions, "Stalled") is None


@pytest.mark.parametrize(
    ("gate", "reasons"),
    [
        (a_gate(), []),
        (a_gate(reservation=HELD), ["Reserved"]),
        (a_gate(reservation=PINNED, payment=CAPTURED), ["Paid"]),
        (a_gate(COMPENSATING), [Reason.COMPENSATING]),
        (a_gate(SEALED, outcome=Outcome.FAILED, reason=Reason.OUT_OF_STOCK), ["Failed"]),
    ],
)
def test_a_report_is_one_event_for_its_last_step(gate: Gate, reasons: list[str]) -> None:
    after = status(gate)
    assert [event.reason for event in events_of(OrderStatus(), after)] == reasons
    assert events_of(after, after) == []


def test_the_event_of_a_report_names_each_step() -> None:
    (event,) = events_of(OrderStatus(), status(shipped()))
    assert (event.type, event.reason) == ("Normal", "Shipped")
    assert event.note == (
        "Every item is kept for this order. The whole amount was taken. SandboxPost carries it as 1Z9."
    )


def test_warnings_stay_events_of_their_own_and_all_are_in_the_order_of_the_story() -> None:
    refund = Compensation(step=CompensationStep.REFUND_PAYMENT, reference="re_1", at=NOW)
    gate = a_gate(COMPENSATING, reservation=PINNED, payment=CAPTURED)
    compensating = status(gate, compensation=(refund, RELEASE))
    assert [(event.type, event.reason) for event in events_of(OrderStatus(), compensating)] == [
        ("Normal", "Paid"), ("Warning", Reason.COMPENSATING), ("Normal", "ReleaseStockDone"),
    ]  # fmt: skip
    failed = status(
        a_gate(SEALED, outcome=Outcome.FAILED, reason=Reason.OUT_OF_STOCK), compensation=(RELEASE,)
    )
    assert [event.reason for event in events_of(OrderStatus(), failed)] == ["ReleaseStockDone", "Failed"]


def test_the_event_of_a_cancellation_names_who_asked_for_it() -> None:
    cancelled = status(a_gate(COMPENSATING, reason=Reason.CANCEL_REQUESTED, message="On request."))
    (event,) = events_of(OrderStatus(), cancelled, cancelled_by="kubernetes:ada")
    assert event.note == "CancelRequested: On request. By kubernetes:ada."
    failed = status(a_gate(COMPENSATING, reason=Reason.OUT_OF_STOCK, message="Too late."))
    (event,) = events_of(OrderStatus(), failed, cancelled_by="kubernetes:ada")
    assert event.note == "OutOfStock: Too late."


def test_later_events_have_later_places_in_the_story() -> None:
    gates = [
        a_gate(reservation=HELD),
        a_gate(reservation=PINNED, payment=CAPTURED),
        a_gate(COMPENSATING, reservation=PINNED, payment=CAPTURED),
    ]
    order, steps = an_order(), []
    for gate in gates:
        after = status(gate, order=order)
        steps += [event.step for event in events_of(order.status, after)]
        order = order.model_copy(update={"status": after})
    compensated = status(gates[-1], order=order, compensation=(RELEASE,))
    steps += [event.step for event in events_of(order.status, compensated)]
    assert steps == sorted(set(steps))


def test_a_parcel_that_was_faster_than_the_cancel_is_worth_one_event() -> None:
    cancel = {"reason": Reason.CANCEL_REQUESTED, "is_cancel": True}
    before = status(shipped(state=COMPENSATING, **cancel))
    after = status(shipped(state=SEALED, outcome=Outcome.SHIPPED, **cancel))
    assert [event.reason for event in events_of(before, after)] == [Reason.TOO_LATE_TO_CANCEL]


def test_each_step_of_the_compensation_is_worth_one_event() -> None:
    before = status(a_gate(COMPENSATING))
    after = status(a_gate(COMPENSATING), compensation=(RELEASE,))
    (event,) = events_of(before, after)
    assert (event.type, event.reason, event.note) == (
        "Normal", "ReleaseStockDone", "ReleaseStock is done, reference r1.",
    )  # fmt: skip


def test_conditions_keep_their_time_while_their_status_stays() -> None:
    first = status(a_gate(reservation=HELD))
    order = an_order().model_copy(update={"status": first})
    gate = a_gate(reservation=PINNED, payment=CAPTURED)
    later = status_of(order, gate, Children(), (), (), None, NOW + timedelta(minutes=5))
    reserved, paid = find(later.conditions, "Reserved"), find(later.conditions, "Paid")
    assert reserved is not None
    assert paid is not None
    assert reserved.last_transition_time == NOW
    assert paid.last_transition_time == NOW + timedelta(minutes=5)


def test_a_compensated_order_says_whose_finalizers_it_waits_for() -> None:
    gate = a_gate(COMPENSATING, reservation=ReservationState.RELEASED, payment=PaymentState.REFUNDED)
    payment = a_child(Kind.PAYMENT, deleting=True, finalizers=("example.org/mine",))
    undone = find(status(gate, children=Children(payment=payment)).conditions, "Undone")
    assert undone is not None
    assert undone.message.endswith(
        f"It ends when these finalizers are taken off: Payment {payment.metadata.name} (example.org/mine)."
    )
    ours = status(gate, children=Children(payment=a_child(Kind.PAYMENT, deleting=True)))
    undone = find(ours.conditions, "Undone")
    assert undone is not None
    assert "finalizers" not in undone.message


# Refunds after the sale


def a_request(state: RefundState | None, reason: str | None = None) -> RefundRequest:
    refund = RefundEntry("id", 450, state, "re_1", 1, reason) if state else None
    refusal = (None, None) if refund else ("RefundTooLarge", "9.00 EUR was asked for, and 4.50 EUR is left.")
    return RefundRequest("cup", "Damaged", 500, {}, False, *refusal, refund, NOW)


@pytest.mark.parametrize(
    ("state", "phase", "message"),
    [
        (RefundState.REQUESTED, "Requested", "4.50 EUR is to be given back."),
        (RefundState.PENDING, "Pending", "The payment provider is giving 4.50 EUR back."),
        (RefundState.SUCCEEDED, "Refunded", "4.50 EUR was given back."),
        (RefundState.SETTLED_BY_HAND, "Refunded", "4.50 EUR was paid back by hand."),
        (RefundState.FAILED, "Failed", "The payment provider does not give 4.50 EUR back: card expired."),
        (RefundState.NOT_NEEDED, "NotNeeded", "The money had left the payment before."),
        (None, "Refused", "9.00 EUR was asked for, and 4.50 EUR is left."),
    ],
)
def test_an_order_shows_each_refund(state: RefundState | None, phase: str, message: str) -> None:
    gate = shipped(state=SEALED, outcome=Outcome.SHIPPED)
    found = status(gate, refunds=(a_request(state, "card expired."),))
    (refund,) = found.refunds
    assert (refund.name, refund.phase, refund.message) == ("cup", phase, message)
    assert found.phase == "Shipped"


def test_a_refund_that_is_asked_for_too_soon_waits() -> None:
    order = an_order(refunds=[{"name": "cup", "reason": "Damaged", "amount": 450}])
    (refund,) = status(shipped(), order=order).refunds
    assert (refund.name, refund.phase, refund.amount) == ("cup", "Waiting", 450)


@pytest.mark.parametrize(
    ("state", "told"),
    [
        (RefundState.REQUESTED, []),
        (RefundState.FAILED, []),
        (RefundState.SUCCEEDED, [("Normal", "RefundMade", "Refund cup: 4.50 EUR was given back.")]),
        (None, [("Warning", "RefundRefused", "Refund cup: 9.00 EUR was asked for, and 4.50 EUR is left.")]),
    ],
)
def test_what_became_of_a_refund_is_told_once(
    state: RefundState | None, told: list[tuple[str, str, str]]
) -> None:
    gate = shipped(state=SEALED, outcome=Outcome.SHIPPED)
    before = status(gate)
    after = status(gate, refunds=(a_request(state),))
    assert [(event.type, event.reason, event.note) for event in events_of(before, after)] == told
    assert events_of(after, after) == []


def test_an_order_whose_return_is_settled_is_over() -> None:
    gate = shipped(state=SEALED, outcome=Outcome.SHIPPED, tracking_status=TrackingStatus.RETURNED)
    assert status(gate).phase == "Shipped"
    over = status(replace(gate, finished_at=NOW))
    assert (over.phase, over.reason, over.finished_at) == ("Returned", Reason.RETURNED, NOW)
