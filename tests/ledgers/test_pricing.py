"""Pricing: tables for every refusal, properties for every sum."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orderplane.controllers.order.children import PARCEL_GRAMS as CHILD_PARCEL_GRAMS
from orderplane.crds.meta import Minor
from orderplane.crds.order import Item, OrderSpec, Quote, QuoteLine
from orderplane.crds.shipment import ShipmentSpec
from orderplane.ledgers.pricing import (
    MAX_ITEMS,
    MAX_PARCELS,
    MAX_TOTAL,
    MAX_UNIT_AMOUNT,
    PARCEL_GRAMS,
    ChargeLimits,
    Prices,
    Product,
    QuoteRefused,
    RefusalCode,
    RuleInForce,
    quote,
    quote_from,
)

from ..support.price_rules import flat, in_force

NO_LIMITS: Mapping[str, ChargeLimits] = {}

TEA = Product("TEA", "Tea", "EUR", 650, 120)
MUG = Product("MUG", "Mug", "EUR", 1490, 400)
PRODUCTS = {
    "TEA": TEA,
    "MUG": MUG,
    "GONE": replace(TEA, sku="GONE", is_active=False),
    "DOLLAR": replace(TEA, sku="DOLLAR", currency="USD"),
    "GOLD": replace(TEA, sku="GOLD", currency="XAU"),
    "ANVIL": replace(TEA, sku="ANVIL", weight_grams=30_000),
    "METEOR": replace(TEA, sku="METEOR", weight_grams=2_000_000),
    "RING": replace(TEA, sku="RING", unit_amount=MAX_UNIT_AMOUNT),
    "CROWN": replace(TEA, sku="CROWN", unit_amount=MAX_UNIT_AMOUNT + 1),
}
WORLDWIDE = {
    "TEA": replace(TEA, other_prices={"USD": 700}),
    "BOTH": replace(TEA, sku="BOTH", currency="USD", other_prices={"EUR": 600}),
    "CROWN": replace(TEA, sku="CROWN", other_prices={"USD": MAX_UNIT_AMOUNT + 1}),
}


RULES = in_force(EUR=flat(), USD=flat())


def priced(
    wanted: Sequence[Item],
    products: Mapping[str, Product],
    rules: Mapping[str, RuleInForce] = RULES,
    currency: str | None = None,
    *,
    country: str = "DE",
    charge_limits: Mapping[str, ChargeLimits] = NO_LIMITS,
) -> Quote:
    return quote(wanted, Prices(products, rules), country, currency, charge_limits)


def items(**quantities: int) -> list[Item]:
    return [Item(sku=sku, quantity=quantity) for sku, quantity in quantities.items()]


def test_an_order_of_two_things() -> None:
    found = priced(items(TEA=2, MUG=1), PRODUCTS, in_force(EUR=flat(490, 1900)))
    assert found.model_dump(mode="json", by_alias=True) == {
        "currency": "EUR",
        "lines": [
            {"sku": "TEA", "quantity": 2, "unitAmount": 650, "weightGrams": 120},
            {"sku": "MUG", "quantity": 1, "unitAmount": 1490, "weightGrams": 400},
        ],
        # 19 % of 32.80 is 6.232.
        "amounts": {
            "items": 2790, "shipping": 490, "tax": 623, "includedTax": 0, "discount": 0, "total": 3903,
        },
        "priceRule": {"version": 1, "taxBasisPoints": 1900},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("rules", "says"),
    [
        ({}, "the shop has no price rule for EUR, .*; ask the merchant to set one"),
        (in_force(USD=flat(), JPY=flat()), "order in JPY, USD"),
    ],
)
@pytest.mark.parametrize("currency", [None, "EUR"])
def test_without_a_rule_there_is_no_order(
    rules: Mapping[str, RuleInForce], says: str, currency: str | None
) -> None:
    with pytest.raises(QuoteRefused, match=says) as refused:
        priced(items(TEA=1), PRODUCTS, rules, currency)
    assert refused.value.code is RefusalCode.NO_PRICE_RULE


def test_an_order_in_another_currency_than_the_products_own() -> None:
    found = priced(items(TEA=2, BOTH=1), PRODUCTS | WORLDWIDE, in_force(USD=flat(490, 0)), "USD")
    assert found.currency == "USD"
    assert [line.unit_amount for line in found.lines] == [700, 650]
    assert found.amounts.total == 2 * 700 + 650 + 490


def test_without_a_currency_the_own_ones_decide_whatever_else_they_are_sold_in() -> None:
    assert priced(items(TEA=1), PRODUCTS | WORLDWIDE).amounts.total == 650
    with pytest.raises(QuoteRefused, match="name a currency that each of them has a price in") as refused:
        priced(items(TEA=1, BOTH=1), PRODUCTS | WORLDWIDE)
    assert refused.value.code is RefusalCode.MIXED_CURRENCY


@pytest.mark.parametrize(
    ("wanted", "currency", "code", "sku"),
    [
        (items(TEA=1, MUG=1), "USD", RefusalCode.NO_PRICE_IN_CURRENCY, "MUG"),
        (items(TEA=1), "XAU", RefusalCode.UNSUPPORTED_CURRENCY, None),
        (items(CROWN=1), "USD", RefusalCode.AMOUNT_TOO_LARGE, None),
        (items(GONE=1), "EUR", RefusalCode.INACTIVE_SKU, "GONE"),
    ],
)
def test_what_cannot_be_priced_in_a_currency(
    wanted: list[Item], currency: str, code: RefusalCode, sku: str | None
) -> None:
    with pytest.raises(QuoteRefused) as refused:
        priced(wanted, PRODUCTS | WORLDWIDE, currency=currency)
    assert (refused.value.code, refused.value.sku) == (code, sku)


@pytest.mark.parametrize(
    ("wanted", "code", "sku"),
    [
        ([], RefusalCode.TOO_MANY_ITEMS, None),
        ([Item(sku=f"S{n}", quantity=1) for n in range(51)], RefusalCode.TOO_MANY_ITEMS, None),
        (items(NOPE=1), RefusalCode.UNKNOWN_SKU, "NOPE"),
        (items(TEA=1, GONE=1), RefusalCode.INACTIVE_SKU, "GONE"),
        (items(TEA=1) + items(TEA=2), RefusalCode.DUPLICATE_SKU, "TEA"),
        (items(TEA=1, DOLLAR=1), RefusalCode.MIXED_CURRENCY, None),
        (items(GOLD=1), RefusalCode.UNSUPPORTED_CURRENCY, "GOLD"),
        (items(ANVIL=21), RefusalCode.TOO_HEAVY, None),
        (items(METEOR=1), RefusalCode.TOO_HEAVY, None),
        (items(RING=11), RefusalCode.AMOUNT_TOO_LARGE, None),
        (items(CROWN=1), RefusalCode.AMOUNT_TOO_LARGE, None),
    ],
)
def test_refusals(wanted: list[Item], code: RefusalCode, sku: str | None) -> None:
    with pytest.raises(QuoteRefused) as refused:
        priced(wanted, PRODUCTS)
    assert (refused.value.code, refused.value.sku) == (code, sku)
    assert sku is None or sku in refused.value.message


def test_the_heaviest_order_that_can_be_carried() -> None:
    assert priced(items(ANVIL=20), PRODUCTS).lines[0].weight_grams == 30_000


def test_the_limits_are_those_of_the_schemas() -> None:
    assert PARCEL_GRAMS == CHILD_PARCEL_GRAMS
    assert _most(ShipmentSpec.model_fields["parcels"].metadata, "max_length") == MAX_PARCELS
    assert _most(OrderSpec.model_fields["items"].metadata, "max_length") == MAX_ITEMS
    assert _most(QuoteLine.model_fields["unit_amount"].metadata, "le") == MAX_UNIT_AMOUNT
    assert _most(get_args(Minor)[1].metadata, "le") == MAX_TOTAL


def _most(metadata: list[object], name: str) -> object:
    return next(getattr(part, name) for part in metadata if hasattr(part, name))


CATALOGUES = st.lists(
    st.builds(
        Product,
        sku=st.from_regex(r"[A-Z0-9]{1,8}", fullmatch=True),
        name=st.just(""),
        currency=st.sampled_from(["EUR", "JPY", "KWD"]),
        unit_amount=st.integers(0, MAX_UNIT_AMOUNT),
        weight_grams=st.integers(1, 60_000),
    ),
    min_size=1,
    max_size=8,
    unique_by=lambda product: product.sku,
)
SHIPPING, RATES = st.integers(0, 100_000), st.integers(0, 10_000)
RULES_OF = st.builds(flat, SHIPPING, RATES, is_included=st.booleans()).map(
    lambda rule: in_force(EUR=rule, JPY=rule)
)


@given(CATALOGUES, RULES_OF, st.data())
def test_sums_hold_or_it_is_refused(
    catalogue: list[Product], rules: Mapping[str, RuleInForce], data: st.DataObject
) -> None:
    products = {product.sku: product for product in catalogue}
    wanted = [Item(sku=sku, quantity=data.draw(st.integers(1, 10_000))) for sku in products]
    try:
        found = priced(wanted, products, rules)
    except QuoteRefused as refused:
        assert refused.code in {
            RefusalCode.MIXED_CURRENCY, RefusalCode.TOO_HEAVY, RefusalCode.AMOUNT_TOO_LARGE,
            RefusalCode.NO_PRICE_RULE,
        }  # fmt: skip
        return
    amounts = found.amounts
    assert found.currency in rules
    assert amounts.tax == 0 or amounts.included_tax == 0
    assert amounts.included_tax is not None
    assert amounts.included_tax <= amounts.items + amounts.shipping
    assert amounts.items == sum(line.quantity * line.unit_amount for line in found.lines)
    assert amounts.total == amounts.items + amounts.shipping + amounts.tax - amounts.discount
    assert [(line.sku, line.quantity) for line in found.lines] == [(i.sku, i.quantity) for i in wanted]
    assert all(type(value) is int for value in amounts.model_dump().values())
    # Nothing that the schema would refuse comes out.
    assert Quote.model_validate_json(found.model_dump_json(by_alias=True), strict=True) == found


@given(st.integers(0, 10**11), st.integers(0, 10_000))
def test_tax_is_rounded_half_up(price: int, basis_points: int) -> None:
    product = replace(TEA, unit_amount=min(price, MAX_UNIT_AMOUNT))
    rules = {is_included: flat(0, basis_points, is_included=is_included) for is_included in (False, True)}
    added, within = (
        priced(items(TEA=1), {"TEA": product}, in_force(EUR=rule)).amounts for rule in rules.values()
    )
    exact = Fraction(product.unit_amount * basis_points, 10_000)
    assert Fraction(-1, 2) < added.tax - exact <= Fraction(1, 2)
    assert (added.included_tax, within.tax, within.total) == (0, 0, product.unit_amount)
    exact = Fraction(product.unit_amount * basis_points, 10_000 + basis_points)
    assert Fraction(-1, 2) < within.included_tax - exact <= Fraction(1, 2)


@pytest.mark.parametrize(("price", "tax"), [(5, 1), (4, 0), (15, 2), (14, 1), (25, 3)])
def test_tax_of_ten_percent(price: int, tax: int) -> None:
    product = replace(TEA, unit_amount=price)
    assert priced(items(TEA=1), {"TEA": product}, in_force(EUR=flat(0, 1000))).amounts.tax == tax


class TwoRules:
    async def prices(self, merchant: str, skus: Sequence[str]) -> Prices:
        assert merchant == "demo"
        rules = in_force(EUR=flat(100), USD=flat(30))
        return Prices({sku: PRODUCTS[sku] for sku in skus if sku in PRODUCTS}, rules)


def test_the_rule_of_the_currency_is_taken() -> None:
    assert asyncio.run(quote_from(TwoRules(), {}, "demo", items(TEA=1), "DE")).amounts.total == 750
    assert asyncio.run(quote_from(TwoRules(), {}, "demo", items(DOLLAR=1), "DE")).amounts.total == 680
    assert asyncio.run(quote_from(TwoRules(), {}, "demo", items(DOLLAR=1), "DE", "USD")).amounts.total == 680
