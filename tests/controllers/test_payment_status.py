"""What a Payment's status says, row by row of its ledger."""

import pytest

from orderplane.controllers.engine.conditions import find
from orderplane.controllers.engine.delays import Delay
from orderplane.controllers.payment.status import status_of
from orderplane.crds.meta import Kind
from orderplane.crds.reasons import Reason
from orderplane.ledgers.payments import PaymentEntry, Withdrawal, WithdrawalKind
from orderplane.ledgers.states import PaymentState, RefundState

from .builders import NOW, a_child, a_payment_entry, refunds

CHILD = a_child(Kind.PAYMENT)
INTENDED, CAPTURED, REFUNDED = PaymentState.INTENDED, PaymentState.CAPTURED, PaymentState.REFUNDED
PAID = ("Captured", "True", Reason.PAYMENT_CAPTURED)
GOES_ON = ("Reconciling", "True", Reason.PROGRESSING)
DECLINED = {"reason": Reason.CARD_DECLINED, "message": "no"}


@pytest.mark.parametrize(
    ("why", "entry", "phase", "conditions"),
    [
        ("nothing is known yet", None, "Pending", (GOES_ON,)),
        ("the provider has not answered", a_payment_entry(INTENDED), "Pending", (GOES_ON,)),
        ("captured", a_payment_entry(CAPTURED, captured=1000), "Captured", (PAID,)),
        (
            "declined",
            a_payment_entry(PaymentState.DECLINED, **DECLINED),
            "Declined",
            (("Captured", "False", Reason.CARD_DECLINED),),
        ),
        (
            "declined, then cancelled at the provider: what the customer has to know is the first",
            a_payment_entry(PaymentState.CANCELLED, **DECLINED),
            "Declined",
            (("Captured", "False", Reason.CARD_DECLINED),),
        ),
        (
            "cancelled before money was taken",
            a_payment_entry(PaymentState.CANCELLED),
            "Cancelled",
            (("Captured", "False", Reason.PAYMENT_CANCELLED),),
        ),
        (
            "the refund is on its way",
            a_payment_entry(CAPTURED, refunds=refunds(RefundState.PENDING)),
            "Refunding",
            (PAID, GOES_ON),
        ),
        (
            "the refund failed",
            a_payment_entry(CAPTURED, refunds=refunds(RefundState.FAILED, "expired_or_canceled_card")),
            "Refunding",
            (PAID, ("Refunded", "False", Reason.REFUND_FAILED), ("Stalled", "True", Reason.REFUND_FAILED)),
        ),
        (
            "a part was refunded after the sale",
            a_payment_entry(CAPTURED, captured=2000, refunds=refunds(RefundState.SUCCEEDED)),
            "Captured",
            (PAID, ("Refunded", "False", Reason.PARTLY_REFUNDED)),
        ),
        (
            "refunded",
            a_payment_entry(REFUNDED, refunds=refunds(RefundState.SUCCEEDED)),
            "Refunded",
            (PAID, ("Refunded", "True", Reason.REFUNDED)),
        ),
    ],
)
def test_each_state(
    why: str, entry: PaymentEntry | None, phase: str, conditions: tuple[tuple[str, str, Reason], ...]
) -> None:
    status = status_of(CHILD, entry, None, NOW)
    assert status.phase == phase, why
    assert tuple((c.type, c.status, c.reason) for c in status.conditions) == conditions, why
    assert status_of(CHILD.model_copy(update={"status": status}), entry, None, NOW) == status, why


def test_the_amounts_are_the_ledgers() -> None:
    entry = a_payment_entry(CAPTURED, captured=1000, refunds=refunds(RefundState.SUCCEEDED))
    status = status_of(CHILD, entry, None, NOW)
    assert (status.intent_id, status.captured, status.refunded) == ("pi_1", 1000, 1000)
    assert (status.captured_amount, status.refunded_amount) == ("10.00", "10.00")
    untouched = status_of(CHILD, a_payment_entry(INTENDED), None, NOW)
    assert (untouched.captured_amount, untouched.refunded_amount) == (None, None)


def test_what_left_elsewhere_is_told() -> None:
    elsewhere = Withdrawal("re_2", WithdrawalKind.REFUND, 400)
    entry = a_payment_entry(
        REFUNDED, captured=1000, refunds=refunds(RefundState.NOT_NEEDED), withdrawals=(elsewhere,)
    )
    status = status_of(CHILD, entry, None, NOW)
    assert (status.refunded, status.withdrawn) == (0, 400)
    condition = find(status.conditions, "Refunded")
    assert condition is not None
    assert "4.00 EUR of it left at the payment provider without this order (re_2)" in condition.message


def test_what_has_gone_back_is_told_in_the_currency() -> None:
    elsewhere = Withdrawal("re_2", WithdrawalKind.REFUND, 50)
    entry = a_payment_entry(
        CAPTURED, captured=2000, refunds=refunds(RefundState.SUCCEEDED), withdrawals=(elsewhere,)
    )
    condition = find(status_of(CHILD, entry, None, NOW).conditions, "Refunded")
    assert condition is not None
    assert condition.message == "10.50 EUR of 20.00 EUR has gone back."


def test_a_failed_refund_names_the_providers_reason_and_what_to_do() -> None:
    entry = a_payment_entry(CAPTURED, refunds=refunds(RefundState.FAILED, "expired_or_canceled_card"))
    condition = find(status_of(CHILD, entry, None, NOW).conditions, "Refunded")
    assert condition is not None
    assert "expired_or_canceled_card" in condition.message
    assert "orderplane resolve" in condition.message


@pytest.mark.parametrize(
    ("entry", "type_"),
    [
        (None, "Captured"),
        (a_payment_entry(INTENDED), "Captured"),
        (a_payment_entry(CAPTURED, refunds=refunds(RefundState.PENDING)), "Refunded"),
    ],
)
def test_what_it_waits_for_is_the_next_condition(entry: PaymentEntry | None, type_: str) -> None:
    delay = Delay(Reason.PAYMENTS_UNCLEAR, "no answer")
    condition = find(status_of(CHILD, entry, delay, NOW).conditions, type_)
    assert condition is not None
    assert (condition.status, condition.reason) == ("False", Reason.PAYMENTS_UNCLEAR)


def test_the_amount_is_told_as_people_write_it_with_the_first_news() -> None:
    assert status_of(CHILD, a_payment_entry(INTENDED, intent=None), None, NOW).amount is None
    assert status_of(CHILD, a_payment_entry(INTENDED), None, NOW).amount == "10.00"


def test_a_payment_of_which_nothing_is_wanted_waits_for_nobody() -> None:
    """Somebody looks at it now and then; it is no news that the ledger was away in that moment."""
    delay = Delay(Reason.LEDGER_UNAVAILABLE, "no answer")
    entry = a_payment_entry(CAPTURED, captured=1000)
    assert status_of(CHILD, entry, delay, NOW) == status_of(CHILD, entry, None, NOW)
    going = a_child(Kind.PAYMENT, deleting=True)
    assert status_of(going, entry, delay, NOW).reason == Reason.LEDGER_UNAVAILABLE
