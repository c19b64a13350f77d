"""What Stripe refuses, we refuse before the 202: every currency of the CRD, through both doors."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from orderplane.adapters.payments.stripe_currencies import (
    LEAST_CHARGES,
    charge_limits,
    from_stripe,
    to_stripe,
)
from orderplane.crds.money import EXPONENTS
from orderplane.crds.order import Address
from orderplane.dev.sandbox.payments.currencies import refuse_charge
from orderplane.gateway.http.problems import PROBLEM_TYPES, Problem
from orderplane.gateway.orders.requests import OrderItemRequest, OrderRequest, build_order
from orderplane.ledgers.price_rules import PriceRule
from orderplane.ledgers.pricing import MAX_TOTAL, ChargeLimits, Prices, Product
from orderplane.webhook.review import Denied, review_order

from ...support.price_rules import flat, in_force

LIMITS = charge_limits()

# https://docs.stripe.com/currencies: the least charges in major units, as they are printed there.
DOCUMENTED_LEAST = {
    "USD": "0.50", "AUD": "0.50", "BRL": "0.50", "CAD": "0.50", "CHF": "0.50", "CZK": "15.00", "DKK": "2.50",
    "EUR": "0.50", "GBP": "0.30", "HKD": "4.00", "HUF": "175.00", "INR": "0.50", "JPY": "50", "MXN": "10.00",
    "MYR": "2.00", "NOK": "3.00", "NZD": "0.50", "PLN": "2.00", "RON": "2.00", "SEK": "3.00", "SGD": "0.50",
    "THB": "10.00",
}  # fmt: skip
# The greatest `amount`, in Stripe's units: 99999999 but for these; HUF and JPY have 10 digits for cards.
DOCUMENTED_GREATEST = {
    "IDR": 999_999_999_999, "INR": 999_999_999, "HUF": 9_999_999_999, "JPY": 9_999_999_999,
}  # fmt: skip
# How Stripe writes one of our minor units.
UNITS = {**dict.fromkeys(EXPONENTS, 1), "ISK": 100, "UGX": 100}


FREE = flat()


class Shelf:
    """One product, at the price that a test asks for."""

    def __init__(self, currency: str, amount: int, rule: PriceRule = FREE) -> None:
        self._prices = Prices(
            {"TEA": Product("TEA", "Tea", currency, amount, 100)}, in_force(**{currency: rule})
        )

    async def prices(self, merchant: str, skus: Sequence[str]) -> Prices:
        return self._prices


def by_rest(shelf: Shelf, limits: Mapping[str, ChargeLimits] = LIMITS) -> str | None:
    """The code of the refusal; None where the order is accepted."""
    request = OrderRequest(
        customer="c-1",
        items=(OrderItemRequest(sku="TEA", quantity=1),),
        address=Address(name="A", line1="B", city="C", postal_code="1", country="DE").model_dump(),
        payment_method="pm_card_visa",
    )
    try:
        asyncio.run(build_order(shelf, shelf, limits, "demo", "o-1", request))
    except Problem as problem:
        assert problem.type.status == 422
        return problem.type.code
    return None


def by_kubectl(shelf: Shelf, limits: Mapping[str, ChargeLimits] = LIMITS) -> str | None:
    """The reason of the denial; None where the order is admitted."""
    spec: dict[str, Any] = {
        "customer": "c-1",
        "items": [{"sku": "TEA", "quantity": 1}],
        "address": {"name": "A", "line1": "B", "city": "C", "postalCode": "1", "country": "DE"},
        "paymentMethod": "pm_card_visa",
        "cancel": False,
    }
    try:
        asyncio.run(review_order("demo", {"spec": spec}, shelf, limits, shard="1", traceparent=None))
    except Denied as denied:
        assert denied.code == 422
        return denied.reason
    return None


def edges(currency: str) -> set[int]:
    """Amounts on both sides of every limit, and fractions, in our minor units."""
    limits = LIMITS[currency]
    found = {1, 5, limits.least - 1, limits.least, limits.least + 1, limits.least + limits.step}
    found |= {limits.greatest - limits.step, limits.greatest - 1, limits.greatest, limits.greatest + 1}
    found |= {limits.greatest + limits.step, 12_345, 12_350, 12_300}
    # A piece may cost no more than this; a greater total has several pieces.
    return {amount for amount in found if 0 < amount <= 99_999_999_999}


@pytest.mark.parametrize("currency", sorted(EXPONENTS))
def test_what_stripe_refuses_we_refuse_before_the_202(currency: str) -> None:
    for amount in edges(currency):
        theirs = refuse_charge(amount * UNITS[currency], currency.lower())
        rest, kubectl = by_rest(Shelf(currency, amount)), by_kubectl(Shelf(currency, amount))
        assert rest == kubectl, f"{amount} {currency}: {rest} by REST, {kubectl} by kubectl"
        if theirs is not None:
            assert rest is not None, f"{amount} {currency}: accepted, and then {theirs.code}"
        elif currency in DOCUMENTED_LEAST or amount >= LEAST_CHARGES[currency]:
            assert rest is None, f"{amount} {currency}: {rest}, but Stripe takes it"


@pytest.mark.parametrize("currency", sorted(EXPONENTS))
def test_every_limit_is_the_documented_one(currency: str) -> None:
    limits = LIMITS[currency]
    if currency in DOCUMENTED_LEAST:
        assert limits.least == int(DOCUMENTED_LEAST[currency].replace(".", ""))
    greatest = DOCUMENTED_GREATEST.get(currency, 99_999_999) // UNITS[currency]
    assert limits.greatest == greatest // limits.step * limits.step
    assert limits.greatest <= MAX_TOTAL
    assert limits.step == (10 if currency in ("BHD", "JOD", "KWD", "OMR", "TND") else 1)


@pytest.mark.parametrize(
    ("currency", "amount", "stripe"),
    [
        ("ISK", 1990, 199_000), ("UGX", 5, 500), ("HUF", 1045, 1045), ("TWD", 80045, 80045),
        ("KWD", 5120, 5120), ("JPY", 500, 500), ("EUR", 1099, 1099),
    ],
)  # fmt: skip
def test_an_amount_is_written_as_stripe_counts(currency: str, amount: int, stripe: int) -> None:
    assert to_stripe(amount, currency) == stripe
    assert from_stripe(stripe, currency) == amount


def test_a_fraction_that_stripe_cannot_write_is_refused() -> None:
    with pytest.raises(ValueError, match="KWD"):
        to_stripe(1235, "KWD")


def test_a_disputed_fraction_counts_as_a_whole_unit() -> None:
    assert from_stripe(199_050, "ISK") == 1991


def test_a_currency_that_orders_cannot_have_is_left_as_it_is() -> None:
    assert from_stripe(1234, "XAF") == 1234
    assert from_stripe(1234, "PHP") == 1234


@pytest.mark.parametrize(
    ("currency", "amount", "code"),
    [
        ("KWD", 1235, "amount_not_chargeable"),
        ("EUR", 49, "amount_too_small"),
        ("USD", 100_000_000, "amount_too_large"),
        ("ISK", 1_000_000, "amount_too_large"),
    ],
)
def test_the_reason_is_named(currency: str, amount: int, code: str) -> None:
    assert by_rest(Shelf(currency, amount)) == by_kubectl(Shelf(currency, amount)) == code
    assert code in PROBLEM_TYPES


def test_what_costs_nothing_is_not_charged() -> None:
    assert by_rest(Shelf("EUR", 0)) is by_kubectl(Shelf("EUR", 0)) is None


def test_the_tax_is_rounded_to_what_can_be_charged() -> None:
    taxed = Shelf("KWD", 1230, flat(basis_points=1500))
    assert by_rest(taxed) is None
    manifest = asyncio.run(
        build_order(
            taxed,
            taxed,
            LIMITS,
            "demo",
            "o-1",
            OrderRequest(
                customer="c-1",
                items=(OrderItemRequest(sku="TEA", quantity=1),),
                address=Address(name="A", line1="B", city="C", postal_code="1", country="DE").model_dump(),
                payment_method="pm_card_visa",
            ),
        )
    )
    assert manifest["spec"]["quote"]["amounts"]["tax"] == 180


def test_the_least_charge_is_the_accounts_own() -> None:
    limits = charge_limits({**LEAST_CHARGES, "JPY": 80})
    assert by_rest(Shelf("JPY", 79), limits) == "amount_too_small"
    assert by_rest(Shelf("JPY", 80), limits) is None
