"""Which refunds after the sale are admitted, and what pieces are worth."""

from collections import Counter
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orderplane.crds.order import Amounts, Item, Quote, QuoteLine
from orderplane.ledgers.payments import (
    PaymentEntry,
    RefundEntry,
    Withdrawal,
    WithdrawalKind,
    amounts_after,
)
from orderplane.ledgers.refunds import (
    MOST_REFUNDS,
    NewRefund,
    RefundRequest,
    decide,
    is_return_settled,
    new_refund,
    share_of,
)
from orderplane.ledgers.states import Outcome, PaymentState, RefundState, TrackingStatus

NOW = datetime(2026, 3, 1, tzinfo=UTC)
ORDERED = {"TEA": 2, "CUP": 1}
TOTAL = 2000


def a_payment(*refunds: RefundEntry, withdrawn: int = 0) -> PaymentEntry:
    withdrawals = (Withdrawal("re_x", WithdrawalKind.REFUND, withdrawn),) if withdrawn else ()
    return PaymentEntry(
        "uid", TOTAL, "EUR", "pm_card_visa", PaymentState.CAPTURED, "pi_1", 1, 1, TOTAL, None, None,
        refunds, withdrawals,
    )  # fmt: skip


def a_refund(id_: str, amount: int, state: RefundState = RefundState.REQUESTED) -> RefundEntry:
    return RefundEntry(id_, amount, state, None, 1, None)


def asked(new: NewRefund, refund: RefundEntry | None = None, **lines: int) -> RefundRequest:
    refusal = None if refund else "RefundTooLarge"
    return RefundRequest(
        new.name, new.reason, new.amount or 0, lines, new.is_restocked, refusal, None, refund, NOW
    )


def wanted(amount: int | None = None, lines: dict[str, int] | None = None, **more: Any) -> NewRefund:
    return NewRefund("n", "Damaged", amount, lines or {}, **more)


HALF = a_refund("half", 1000)
BEFORE = [asked(wanted(1000), HALF, TEA=1)]


@pytest.mark.parametrize(
    ("why", "new", "payment", "before", "expect"),
    [
        ("a part", wanted(500), a_payment(), [], (500, {}, None)),
        ("all of it by its amount", wanted(TOTAL), a_payment(), [], (TOTAL, {}, None)),
        ("a cent beyond", wanted(TOTAL + 1), a_payment(), [], (TOTAL + 1, {}, "RefundTooLarge")),
        ("all that is left", wanted(), a_payment(), [], (TOTAL, {}, None)),
        ("all, and all is back", wanted(is_restocked=True), a_payment(), [], (TOTAL, ORDERED, None)),
        ("pieces", wanted(800, {"TEA": 2}), a_payment(), [], (800, {"TEA": 2}, None)),
        ("too many pieces", wanted(800, {"TEA": 3}), a_payment(), [], (800, {"TEA": 3}, "NotOrdered")),
        ("not ordered", wanted(800, {"POT": 1}), a_payment(), [], (800, {"POT": 1}, "NotOrdered")),
        ("the rest", wanted(1000), a_payment(HALF), BEFORE, (1000, {}, None)),
        ("a cent beyond the rest", wanted(1001), a_payment(HALF), BEFORE, (1001, {}, "RefundTooLarge")),
        ("the rest of the pieces", wanted(9, {"TEA": 1}), a_payment(HALF), BEFORE, (9, {"TEA": 1}, None)),
        ("a piece again", wanted(9, {"TEA": 2}), a_payment(HALF), BEFORE, (9, {"TEA": 2}, "NotOrdered")),
        (
            "all that is left, and the rest of the pieces",
            wanted(is_restocked=True), a_payment(HALF), BEFORE, (1000, {"TEA": 1, "CUP": 1}, None),
        ),
        ("a refused one takes nothing", wanted(), a_payment(), [asked(wanted(9999))], (TOTAL, {}, None)),
        (
            "one that was paid back at the provider takes nothing",
            wanted(), a_payment(a_refund("r", 700, RefundState.NOT_NEEDED), withdrawn=700), [],
            (1300, {}, None),
        ),
        ("one that failed still takes its part", wanted(1001),
         a_payment(a_refund("half", 1000, RefundState.FAILED)), BEFORE, (1001, {}, "RefundTooLarge")),
        ("nothing is left", wanted(), a_payment(a_refund("r", TOTAL)), [], (0, {}, "NothingToRefund")),
        ("goods, and not which", wanted(500, is_restocked=True), a_payment(), [], (500, {}, "LinesMissing")),
        ("half a step", wanted(505, step=10), a_payment(), [], (505, {}, "NotCountedSo")),
        (
            "one too many", wanted(1), a_payment(), [asked(wanted(1), a_refund("r", 1))] * MOST_REFUNDS,
            (1, {}, "TooManyRefunds"),
        ),
    ],
)  # fmt: skip
def test_what_is_admitted(
    why: str, new: NewRefund, payment: PaymentEntry, before: list[RefundRequest], expect: tuple[Any, ...]
) -> None:
    found = decide(new, Outcome.SHIPPED, payment, ORDERED, before)
    assert (found.amount, found.lines, found.refusal) == expect, why
    assert (found.refusal is None) == (found.message is None)


@pytest.mark.parametrize("outcome", [None, Outcome.FAILED, Outcome.CANCELLED])
def test_only_what_the_carrier_has_is_refunded(outcome: Outcome | None) -> None:
    assert decide(wanted(1), outcome, a_payment(), ORDERED, []).refusal == "NotShipped"


@given(
    st.lists(
        st.tuples(
            st.one_of(st.none(), st.integers(0, TOTAL)),
            st.dictionaries(st.sampled_from(["TEA", "CUP", "POT"]), st.integers(1, 3)),
            st.booleans(),
        ),
        max_size=8,
    )
)
def test_however_it_is_asked_no_more_goes_back_than_came(
    wishes: list[tuple[Any, dict[str, int], bool]],
) -> None:
    payment, before = a_payment(), []
    for number, (amount, lines, is_restocked) in enumerate(wishes):
        new = NewRefund(f"r{number}", "Damaged", amount, lines, is_restocked)
        found = decide(new, Outcome.DELIVERED, payment, ORDERED, before)
        refund = a_refund(new.name, found.amount) if found.refusal is None else None
        before.append(asked(new, refund, **found.lines))
        if refund is not None:
            payment = a_payment(*payment.refunds, refund)
    back: Counter[str] = Counter()
    for request in before:
        if request.refund is not None:
            back.update(request.lines)
    assert sum(refund.amount for refund in payment.refunds) <= TOTAL
    assert payment.free >= 0
    assert all(quantity <= ORDERED.get(sku, 0) for sku, quantity in back.items())


def a_quote(shipping: int, tax: int) -> Quote:
    lines = (
        QuoteLine(sku="TEA", quantity=2, unit_amount=400, weight_grams=100),
        QuoteLine(sku="CUP", quantity=1, unit_amount=1000, weight_grams=300),
    )
    amounts = Amounts(items=1800, shipping=shipping, tax=tax, discount=0, total=1800 + shipping + tax)
    return Quote(currency="EUR", lines=lines, amounts=amounts)


@pytest.mark.parametrize(
    ("shipping", "tax", "lines", "step", "expect"),
    [
        # Without tax a piece is worth its price, and shipping is nobody's.
        (0, 0, {"TEA": 1}, 1, 400),
        (490, 0, {"TEA": 1}, 1, 400),
        (490, 0, {"TEA": 2, "CUP": 1}, 1, 1800),
        # 19 % on goods and shipping: 2725 were paid for 2290 of both.
        (490, 435, {"TEA": 1}, 1, 475),
        (490, 435, {"CUP": 1}, 1, 1189),
        (490, 435, {"TEA": 2, "CUP": 1}, 1, 2141),
        (490, 435, {"TEA": 1}, 10, 470),
        (0, 0, {"POT": 1}, 1, 0),
    ],
)
def test_what_pieces_are_worth(
    shipping: int, tax: int, lines: dict[str, int], step: int, expect: int
) -> None:
    assert share_of(a_quote(shipping, tax), lines, step) == expect


def test_pieces_without_an_amount_are_worth_their_share() -> None:
    lines = [Item(sku="TEA", quantity=1), Item(sku="TEA", quantity=1)]
    assert new_refund("n", "Damaged", a_quote(0, 0), lines=lines).amount == 800
    assert new_refund("n", "Damaged", a_quote(0, 0), lines=lines, amount=500).amount == 500
    assert new_refund("n", "Damaged", a_quote(0, 0)).amount is None


REQUESTED, FAILED, PENDING = RefundState.REQUESTED, RefundState.FAILED, RefundState.PENDING


@pytest.mark.parametrize(
    ("why", "refunds", "elsewhere", "expect"),
    [
        ("enough is left", [(REQUESTED, 500)], 1500, [500]),
        ("less is left", [(REQUESTED, 500)], 1800, [200]),
        ("nothing is left", [(REQUESTED, 500)], 2000, [0]),
        ("the first come first", [(REQUESTED, 1200), (REQUESTED, 800)], 500, [1200, 300]),
        ("what failed was paid back there", [(FAILED, 500)], 500, [0]),
        ("a part of what failed was", [(FAILED, 500)], 200, [300]),
        ("what failed was, and not what was not tried", [(REQUESTED, 300), (FAILED, 500)], 500, [300, 0]),
        ("what is under way is not there any more", [(PENDING, 1500), (REQUESTED, 500)], 100, [400]),
    ],
)  # fmt: skip
def test_what_refunds_are_for_when_money_has_left_elsewhere(
    why: str, refunds: list[tuple[RefundState, int]], elsewhere: int, expect: list[int]
) -> None:
    entry = a_payment(*(a_refund(f"r{n}", amount, state) for n, (state, amount) in enumerate(refunds)))
    new = [Withdrawal("re_x", WithdrawalKind.REFUND, elsewhere)]
    assert list(amounts_after(entry, new).values()) == expect, why


WHOLE, PIECES = asked(wanted(), a_refund("r", TOTAL)), asked(wanted(10), a_refund("r", 10), TEA=2, CUP=1)


@pytest.mark.parametrize(
    ("why", "payment", "requests", "is_settled"),
    [
        ("nobody has decided", a_payment(), [], False),
        ("all of its money goes back", a_payment(WHOLE.refund), [WHOLE], True),
        ("every piece is accounted for", a_payment(PIECES.refund), [PIECES], True),
        ("a part went back for the trouble", a_payment(HALF), BEFORE, False),
        ("what was refused settles nothing", a_payment(), [asked(wanted(9999))], False),
    ],
)
def test_when_a_parcel_that_comes_back_is_settled(
    why: str, payment: PaymentEntry, requests: list[RefundRequest], is_settled: bool
) -> None:
    for tracking in TrackingStatus:
        expected = is_settled and tracking is TrackingStatus.RETURNED
        assert is_return_settled(tracking, payment, ORDERED, requests) == expected, why
