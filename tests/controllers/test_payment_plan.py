"""What a Payment's controller does next."""

import pytest

from orderplane.controllers.payment.plan import (
    Begin,
    CancelIntent,
    CancelPayment,
    CaptureNothing,
    CheckIntent,
    CheckRefund,
    ConfirmIntent,
    CreateIntent,
    RequestRefund,
    RetryRefund,
    SendRefund,
    Step,
    plan,
)
from orderplane.controllers.steps import CompensateOrder, ReleaseFinalizer, Wait
from orderplane.crds.meta import Kind
from orderplane.ledgers.gate import Gate
from orderplane.ledgers.payments import PaymentEntry
from orderplane.ledgers.states import GateState, PaymentState, RefundState, ShipmentState

from .builders import a_child, a_gate, a_payment_entry, refunds

COMPENSATING, SEALED = GateState.COMPENSATING, GateState.SEALED
CHILD = a_child(Kind.PAYMENT)


@pytest.mark.parametrize(
    ("why", "gate", "entry", "deleting", "expect"),
    [
        ("open: begin", a_gate(), None, False, Begin(CHILD)),
        (
            "begun: create",
            a_gate(),
            a_payment_entry(PaymentState.INTENDED, None),
            False,
            CreateIntent(a_payment_entry(PaymentState.INTENDED, None), 1, is_key_spent=False),
        ),
        (
            "free of charge",
            a_gate(),
            a_payment_entry(PaymentState.INTENDED, None, amount=0),
            False,
            CaptureNothing(),
        ),
        (
            "a confirm may have landed: look first",
            a_gate(),
            a_payment_entry(PaymentState.INTENDED),
            False,
            CheckIntent("pi_1"),
        ),
        ("taken", a_gate(), a_payment_entry(PaymentState.CAPTURED), False, Wait()),
        ("declined: the order decides", a_gate(), a_payment_entry(PaymentState.DECLINED), False, Wait()),
        ("somebody deleted it", a_gate(), a_payment_entry(PaymentState.CAPTURED), True, CompensateOrder()),
        ("compensate: nothing began", a_gate(COMPENSATING), None, True, ReleaseFinalizer()),
        (
            "compensate: no intent",
            a_gate(COMPENSATING),
            a_payment_entry(PaymentState.INTENDED, None),
            True,
            CancelPayment(),
        ),
        (
            "compensate: an open intent",
            a_gate(COMPENSATING),
            a_payment_entry(PaymentState.INTENDED),
            True,
            CancelIntent("pi_1"),
        ),
        (
            "compensate: a declined intent",
            a_gate(COMPENSATING),
            a_payment_entry(PaymentState.DECLINED),
            True,
            CancelIntent("pi_1"),
        ),
        (
            "compensate: a label may be alive",
            a_gate(COMPENSATING, shipment=ShipmentState.BOUGHT),
            a_payment_entry(PaymentState.CAPTURED),
            True,
            Wait(),
        ),
        (
            "compensate: give it back",
            a_gate(COMPENSATING),
            a_payment_entry(PaymentState.CAPTURED),
            True,
            RequestRefund(),
        ),
        (
            "compensate: send it",
            a_gate(COMPENSATING),
            a_payment_entry(PaymentState.CAPTURED, refunds=refunds(RefundState.REQUESTED)),
            True,
            SendRefund("pi_1", refunds(RefundState.REQUESTED)[0], is_key_spent=False),
        ),
        (
            "compensate: it is pending",
            a_gate(COMPENSATING),
            a_payment_entry(PaymentState.CAPTURED, refunds=refunds(RefundState.PENDING)),
            True,
            CheckRefund(refunds(RefundState.PENDING)[0]),
        ),
        (
            "compensate: it failed, and nobody asks for another try",
            a_gate(COMPENSATING),
            a_payment_entry(PaymentState.CAPTURED, refunds=refunds(RefundState.FAILED)),
            True,
            Wait(),
        ),
        (
            "compensated",
            a_gate(COMPENSATING),
            a_payment_entry(PaymentState.REFUNDED),
            True,
            ReleaseFinalizer(),
        ),
        (
            "over: deleting is cleaning up",
            a_gate(SEALED),
            a_payment_entry(PaymentState.CAPTURED),
            True,
            ReleaseFinalizer(),
        ),
    ],
)
def test_the_next_step(
    why: str, gate: Gate, entry: PaymentEntry | None, deleting: bool, expect: Step
) -> None:
    assert plan(a_child(Kind.PAYMENT, deleting=deleting), gate, entry) == expect, why


def test_a_confirm_follows_only_a_look() -> None:
    entry = a_payment_entry(PaymentState.INTENDED)
    assert plan(CHILD, a_gate(), entry, is_unconfirmed=True) == ConfirmIntent("pi_1", 2)


def test_a_failed_refund_is_tried_again_only_when_somebody_asks() -> None:
    entry = a_payment_entry(PaymentState.CAPTURED, refunds=refunds(RefundState.FAILED))
    assert plan(CHILD, a_gate(COMPENSATING), entry, is_retry_requested=True) == RetryRefund(entry.refunds[0])


@pytest.mark.parametrize(("tries", "is_key_spent"), [(0, False), (1, False), (2, True), (9, True)])
def test_after_two_failures_another_idempotency_key_is_used(tries: int, is_key_spent: bool) -> None:
    entry = a_payment_entry(PaymentState.INTENDED, None)
    create = plan(CHILD, a_gate(), entry, tries=tries)
    assert create == CreateIntent(entry, 1, is_key_spent)
    entry = a_payment_entry(PaymentState.CAPTURED, refunds=refunds(RefundState.REQUESTED))
    send = plan(CHILD, a_gate(COMPENSATING), entry, tries=tries)
    assert send == SendRefund("pi_1", entry.refunds[0], is_key_spent)
