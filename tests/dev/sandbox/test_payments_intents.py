"""The rules of intents and refunds, as tables."""

import re
from dataclasses import replace

import pytest

from orderplane.dev.sandbox.payments import intents
from orderplane.dev.sandbox.payments.intents import (
    METHODS,
    AmountTooLarge,
    Intent,
    PaymentMethod,
    RefundBehaviour,
    RefundStatus,
    Status,
    WrongState,
)

NOW = 1_000.0
INTENT = Intent("pi_1", 500, "eur", "pm_card_visa", 900)


def standing(status, **changes):
    return replace(INTENT, status=status, **changes)


@pytest.mark.parametrize(
    ("method", "status", "received"),
    [
        (PaymentMethod(), Status.SUCCEEDED, 500),
        (PaymentMethod(decline=("card_declined", "generic_decline")), Status.REQUIRES_PAYMENT_METHOD, 0),
        (PaymentMethod(wants_action=True), Status.REQUIRES_ACTION, 0),
        (PaymentMethod(is_processing=True), Status.PROCESSING, 0),
    ],
)
def test_a_confirm_does_what_its_method_says(method, status, received):
    confirmed = intents.confirm(INTENT, method, NOW)
    assert (confirmed.status, confirmed.received, confirmed.confirms) == (status, received, 1)


@pytest.mark.parametrize("status", [Status.SUCCEEDED, Status.CANCELED, Status.REQUIRES_PAYMENT_METHOD])
def test_an_intent_takes_money_at_most_once(status):
    with pytest.raises(WrongState):
        intents.confirm(standing(status), PaymentMethod(), NOW)


@pytest.mark.parametrize("again", [NOW, NOW + intents.PENDING_SECONDS])
def test_what_is_processing_cannot_be_confirmed_or_cancelled(again):
    processing = intents.confirm(INTENT, PaymentMethod(is_processing=True), NOW)
    with pytest.raises(WrongState):
        intents.confirm(processing, PaymentMethod(), again)
    with pytest.raises(WrongState):
        intents.cancel(processing, again)


def test_processing_succeeds_by_the_clock():
    processing = intents.confirm(INTENT, PaymentMethod(is_processing=True), NOW)
    assert intents.as_of(processing, NOW + intents.PENDING_SECONDS - 0.01).received == 0
    assert intents.as_of(processing, NOW + intents.PENDING_SECONDS).received == 500


@pytest.mark.parametrize(
    "status", [Status.REQUIRES_CONFIRMATION, Status.REQUIRES_PAYMENT_METHOD, Status.REQUIRES_ACTION]
)
def test_what_took_no_money_can_be_cancelled(status):
    assert intents.cancel(standing(status), NOW).status is Status.CANCELED


@pytest.mark.parametrize("status", [Status.SUCCEEDED, Status.CANCELED])
def test_what_is_over_cannot_be_cancelled(status):
    with pytest.raises(WrongState):
        intents.cancel(standing(status), NOW)


def refund(intent=None, earlier=(), amount=None, refund_behaviour=RefundBehaviour.AT_ONCE, now=NOW):
    method = PaymentMethod(refund_behaviour=refund_behaviour)
    return intents.refund(
        "re_1", intent or standing(Status.SUCCEEDED), method, earlier,
        amount=amount, metadata={}, now=now,
    )  # fmt: skip


@pytest.mark.parametrize("status", [status for status in Status if status is not Status.SUCCEEDED])
def test_only_taken_money_is_given_back(status):
    with pytest.raises(WrongState):
        refund(standing(status))


@pytest.mark.parametrize(
    ("refund_behaviour", "at_first", "later"),
    [
        (RefundBehaviour.AT_ONCE, RefundStatus.SUCCEEDED, RefundStatus.SUCCEEDED),
        (RefundBehaviour.PENDING, RefundStatus.PENDING, RefundStatus.SUCCEEDED),
        (RefundBehaviour.FAILS, RefundStatus.PENDING, RefundStatus.FAILED),
    ],
)
def test_a_refund_settles_by_the_clock(refund_behaviour, at_first, later):
    given = refund(refund_behaviour=refund_behaviour)
    assert given.status(NOW) is at_first
    assert given.status(NOW + intents.PENDING_SECONDS) is later


def test_no_more_is_given_back_than_was_taken():
    first = refund(amount=300)
    assert refund(earlier=[first]).amount == 200
    with pytest.raises(AmountTooLarge) as problem:
        refund(earlier=[first], amount=201)
    assert problem.value.left == 200
    with pytest.raises(AmountTooLarge):
        refund(amount=0)


def test_a_pending_refund_holds_its_amount_and_a_failed_one_does_not():
    failing = refund(refund_behaviour=RefundBehaviour.FAILS)
    with pytest.raises(AmountTooLarge):
        refund(earlier=[failing])
    assert refund(earlier=[failing], now=NOW + intents.PENDING_SECONDS).amount == 500


def test_every_magic_method_is_a_token_the_contract_admits():
    assert all(re.fullmatch(r"pm_[A-Za-z0-9_]{1,64}", name) for name in METHODS)
