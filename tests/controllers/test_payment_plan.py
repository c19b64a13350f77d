"""What a Payment's controller does next."""

from datetime import timedelta
from functools import partial

import pytest

from orderplane.controllers.payment import plan as payment_plan
from orderplane.controllers.payment.plan import (
    RECHECK_SECONDS,
    AwaitDispute,
    AwaitOtherRefund,
    Begin,
    CancelIntent,
    CancelPayment,
    CaptureNothing,
    CheckIntent,
    CheckRefund,
    CheckReturns,
    ConfirmIntent,
    CreateIntent,
    RecordRefund,
    RequestRefund,
    RetryRefunds,
    SendRefund,
    Step,
)
from orderplane.controllers.payment.ports import Dispute, DisputeState, Refund, Returns
from orderplane.controllers.steps import CompensateOrder, DeleteLeftover, ReleaseFinalizer, Wait
from orderplane.crds.meta import Kind
from orderplane.crds.reasons import Reason
from orderplane.ledgers.gate import Gate
from orderplane.ledgers.payments import (
    PaymentEntry,
    ProviderRefundState,
    RefundEntry,
    Withdrawal,
    WithdrawalKind,
    new_withdrawals,
)
from orderplane.ledgers.states import GateState, Outcome, PaymentState, RefundState, ShipmentState

from .builders import a_child, a_gate, a_payment_entry, refunds

COMPENSATING, SEALED = GateState.COMPENSATING, GateState.SEALED
UNDONE = a_gate(SEALED, outcome=Outcome.CANCELLED)
CHILD = a_child(Kind.PAYMENT)

SETTLE = timedelta(seconds=20)
PROCESSING = Wait(
    5,
    Reason.PAYMENT_PROCESSING,
    "Another operator has begun to take the money, and its request may still be on its way.",
)
plan = partial(payment_plan.plan, operator="operator-0", settle=SETTLE)


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
            "compensate: look at what has left already",
            a_gate(COMPENSATING),
            a_payment_entry(PaymentState.CAPTURED, refunds=refunds(RefundState.REQUESTED)),
            True,
            CheckReturns("pi_1"),
        ),
        (
            "compensate: it is pending",
            a_gate(COMPENSATING),
            a_payment_entry(PaymentState.CAPTURED, refunds=refunds(RefundState.PENDING)),
            True,
            CheckRefund(refunds(RefundState.PENDING)[0]),
        ),
        (
            "compensate: it failed; somebody may have paid it back at the provider",
            a_gate(COMPENSATING),
            a_payment_entry(PaymentState.CAPTURED, refunds=refunds(RefundState.FAILED)),
            True,
            CheckReturns("pi_1"),
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
        (
            "over, and nobody deletes it",
            a_gate(SEALED),
            a_payment_entry(PaymentState.CAPTURED),
            False,
            Wait(),
        ),
        ("undone: it was made after the seal", UNDONE, None, False, DeleteLeftover()),
        ("undone, and it is going", UNDONE, None, True, ReleaseFinalizer()),
    ],
)
def test_the_next_step(
    why: str, gate: Gate, entry: PaymentEntry | None, deleting: bool, expect: Step
) -> None:
    assert plan(a_child(Kind.PAYMENT, deleting=deleting), gate, entry) == expect, why


def test_a_confirm_follows_only_a_look() -> None:
    entry = a_payment_entry(PaymentState.INTENDED)
    assert plan(CHILD, a_gate(), entry, is_unconfirmed=True) == ConfirmIntent("pi_1", 2)


@pytest.mark.parametrize(
    ("why", "age", "expect"),
    [
        ("it may still take the money", timedelta(seconds=19), PROCESSING),
        ("it cannot any more", SETTLE, ConfirmIntent("pi_1", 2)),
        ("an older version did not write down when it was begun", None, ConfirmIntent("pi_1", 2)),
    ],
)
def test_the_confirm_of_another_operator_is_waited_for(why: str, age: timedelta | None, expect: Step) -> None:
    entry = a_payment_entry(PaymentState.INTENDED, confirm_begun_by="operator-1", confirm_age=age)
    assert plan(CHILD, a_gate(), entry) == CheckIntent("pi_1"), "what became of it is seen at once"
    assert plan(CHILD, a_gate(), entry, is_unconfirmed=True) == expect, why


def test_a_failed_refund_is_tried_again_only_when_somebody_asks() -> None:
    entry = a_payment_entry(PaymentState.CAPTURED, refunds=refunds(RefundState.FAILED))
    gate = a_gate(COMPENSATING)
    assert plan(CHILD, gate, entry, is_retry_requested=True) == CheckReturns("pi_1")
    step = plan(CHILD, gate, entry, is_retry_requested=True, returns=Returns())
    assert step == RetryRefunds(entry.refunds)


@pytest.mark.parametrize(("tries", "is_key_spent"), [(0, False), (1, False), (2, True), (9, True)])
def test_after_two_failures_another_idempotency_key_is_used(tries: int, is_key_spent: bool) -> None:
    entry = a_payment_entry(PaymentState.INTENDED, None)
    create = plan(CHILD, a_gate(), entry, tries=tries)
    assert create == CreateIntent(entry, 1, is_key_spent)
    entry = a_payment_entry(PaymentState.CAPTURED, refunds=refunds(RefundState.REQUESTED))
    send = plan(CHILD, a_gate(COMPENSATING), entry, tries=tries, returns=Returns())
    assert send == SendRefund("pi_1", entry.refunds[0], is_key_spent)


PENDING, SUCCEEDED, FAILED = ProviderRefundState


def a_refund(id_: str, state: ProviderRefundState, amount: int = 1000, reference: str = "") -> Refund:
    return Refund(id_, "pi_1", state, amount, "EUR", reference)


def a_dispute(state: DisputeState, amount: int = 1000) -> Dispute:
    return Dispute("du_1", "pi_1", state, amount, "EUR")


REQUESTED_REFUND, FAILED_REFUND = refunds(RefundState.REQUESTED)[0], refunds(RefundState.FAILED)[0]
OURS, OTHER = a_refund("re_1", SUCCEEDED, reference="r1"), a_refund("re_2", SUCCEEDED, 400)
SEND = SendRefund("pi_1", REQUESTED_REFUND, is_key_spent=False)


@pytest.mark.parametrize(
    ("why", "state", "returns", "expect"),
    [
        ("nothing has left: send it", RefundState.REQUESTED, Returns(), SEND),
        (
            "ours has landed",
            RefundState.REQUESTED,
            Returns((OTHER, OURS)),
            RecordRefund(REQUESTED_REFUND, OURS),
        ),
        (
            "ours landed after it failed",
            RefundState.FAILED,
            Returns((OURS,)),
            RecordRefund(FAILED_REFUND, OURS),
        ),
        (
            "a try of ours that failed does not count",
            RefundState.REQUESTED,
            Returns((a_refund("re_1", FAILED, reference="r1"),)),
            SEND,
        ),
        ("what others refunded is recorded; send the rest", RefundState.REQUESTED, Returns((OTHER,)), SEND),
        (
            "another refund may still fail",
            RefundState.REQUESTED,
            Returns((a_refund("re_2", PENDING),)),
            AwaitOtherRefund(a_refund("re_2", PENDING)),
        ),
        (
            "the bank has the money",
            RefundState.REQUESTED,
            Returns(disputes=(a_dispute(DisputeState.OPEN),)),
            AwaitDispute(a_dispute(DisputeState.OPEN)),
        ),
        (
            "ours was faster than the bank",
            RefundState.REQUESTED,
            Returns((OURS,), (a_dispute(DisputeState.OPEN),)),
            RecordRefund(REQUESTED_REFUND, OURS),
        ),
        *(
            (f"{state}: send it", RefundState.REQUESTED, Returns(disputes=(a_dispute(state),)), SEND)
            for state in (DisputeState.INQUIRY, DisputeState.WON, DisputeState.LOST)
        ),
        ("refused: a person pays, or asks", RefundState.FAILED, Returns(), Wait(RECHECK_SECONDS)),
        (
            "refused, and disputed: a person may settle it",
            RefundState.FAILED,
            Returns(disputes=(a_dispute(DisputeState.OPEN),)),
            Wait(RECHECK_SECONDS),
        ),
    ],
)
def test_what_has_left_the_payment_decides_the_refund(
    why: str, state: RefundState, returns: Returns, expect: Step
) -> None:
    entry = a_payment_entry(PaymentState.CAPTURED, captured=1000, refunds=refunds(state))
    assert plan(CHILD, a_gate(COMPENSATING), entry, returns=returns) == expect, why


@pytest.mark.parametrize(
    ("returns", "expect"),
    [
        (Returns(), []),
        (Returns((OURS,)), []),
        (Returns((OTHER,)), [("re_2", 400)]),
        (Returns((OTHER, a_refund("re_3", SUCCEEDED, 100))), [("re_2", 400), ("re_3", 100)]),
        (Returns((a_refund("re_2", PENDING), a_refund("re_3", FAILED))), []),
        (Returns(disputes=(a_dispute(DisputeState.LOST),)), [("du_1", 1000)]),
        # A dispute is for more than the charge where currencies have moved.
        (Returns((OTHER,), (a_dispute(DisputeState.LOST, 1010),)), [("re_2", 400), ("du_1", 600)]),
        (Returns((OURS,), (a_dispute(DisputeState.OPEN), a_dispute(DisputeState.WON))), []),
    ],
)
def test_only_what_left_for_good_without_us_is_withdrawn(
    returns: Returns, expect: list[tuple[str, int]]
) -> None:
    entry = a_payment_entry(PaymentState.CAPTURED, captured=1000, refunds=refunds(RefundState.REQUESTED))
    found = new_withdrawals(entry, returns.withdrawals({"r1"}))
    assert [(withdrawal.provider_id, withdrawal.amount) for withdrawal in found] == expect


def test_a_withdrawal_is_recorded_once() -> None:
    known = Withdrawal("re_2", WithdrawalKind.REFUND, 400)
    entry = a_payment_entry(
        PaymentState.CAPTURED, captured=1000, refunds=refunds(RefundState.REQUESTED), withdrawals=(known,)
    )
    assert entry.left == 600
    assert new_withdrawals(entry, Returns((OTHER,)).withdrawals({"r1"})) == ()


# After the sale


SOLD = a_gate(SEALED, outcome=Outcome.DELIVERED)


def several(*states: RefundState, amount: int = 100) -> tuple[RefundEntry, ...]:
    return tuple(RefundEntry(f"r{n}", amount, state, f"re_{n}", 1, None) for n, state in enumerate(states, 1))


def sold(*refunds: RefundEntry) -> PaymentEntry:
    return a_payment_entry(PaymentState.CAPTURED, captured=1000, refunds=refunds)


MADE, WANTED, UNDER_WAY, NO = (
    RefundState.SUCCEEDED,
    RefundState.REQUESTED,
    RefundState.PENDING,
    RefundState.FAILED,
)


@pytest.mark.parametrize(
    ("why", "states", "returns", "retry", "expect"),
    [
        ("all are made", (MADE, MADE), None, False, Wait()),
        ("the books first", (MADE, WANTED), None, False, CheckReturns("pi_1")),
        (
            "the one that is not made",
            (MADE, WANTED),
            Returns(),
            False,
            SendRefund("pi_1", several(MADE, WANTED)[1], is_key_spent=False),
        ),
        (
            "ours are no other's",
            (UNDER_WAY, WANTED),
            Returns((a_refund("re_1", PENDING, 100, "r1"),)),
            False,
            SendRefund("pi_1", several(UNDER_WAY, WANTED)[1], is_key_spent=False),
        ),
        (
            "what waits for a person keeps none waiting",
            (NO, WANTED),
            Returns(),
            False,
            SendRefund("pi_1", several(NO, WANTED)[1], is_key_spent=False),
        ),
        ("one is under way", (NO, UNDER_WAY), None, False, CheckRefund(several(NO, UNDER_WAY)[1])),
        ("one failed: look whether somebody paid it there", (NO, MADE), None, False, CheckReturns("pi_1")),
        ("and wait for a person", (NO, MADE), Returns(), False, Wait(RECHECK_SECONDS)),
        ("all that failed are tried again", (NO, NO), Returns(), True, RetryRefunds(several(NO, NO))),
    ],
)
def test_the_refunds_after_the_sale_are_made_one_by_one(
    why: str, states: tuple[RefundState, ...], returns: Returns | None, retry: bool, expect: Step
) -> None:
    entry = sold(*several(*states))
    assert plan(CHILD, SOLD, entry, returns=returns, is_retry_requested=retry) == expect, why


def test_those_under_way_are_asked_about_in_turns() -> None:
    entry = sold(*several(UNDER_WAY, UNDER_WAY))
    asked = [plan(CHILD, SOLD, entry, tries=tries) for tries in range(3)]
    assert asked == [
        CheckRefund(entry.refunds[0]),
        CheckRefund(entry.refunds[1]),
        CheckRefund(entry.refunds[0]),
    ]


@pytest.mark.parametrize("states", [(WANTED,), (UNDER_WAY,), (NO,)])
def test_a_payment_that_is_deleted_stays_until_its_refunds_are_settled(
    states: tuple[RefundState, ...],
) -> None:
    child = a_child(Kind.PAYMENT, deleting=True)
    assert plan(child, SOLD, sold(*several(*states))) != ReleaseFinalizer()
    assert plan(child, SOLD, sold(*several(MADE))) == ReleaseFinalizer()
    assert plan(None, SOLD, sold(*several(*states))) == plan(CHILD, SOLD, sold(*several(*states)))


@pytest.mark.parametrize(("amount", "is_key_spent"), [(400, False), (500, False), (501, True), (1000, True)])
def test_a_refund_that_would_fit_twice_keeps_its_key(amount: int, is_key_spent: bool) -> None:
    """A request whose client gave up may still land."""
    entry = sold(*several(WANTED, amount=amount))
    step = plan(CHILD, SOLD, entry, tries=9, returns=Returns())
    assert step == SendRefund("pi_1", entry.refunds[0], is_key_spent)
