"""Carts, currencies, countries and price rules, with the totals as somebody computed them on paper."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orderplane.crds.countries import COUNTRIES
from orderplane.crds.order import Item
from orderplane.ledgers.price_rules import CountryTax, PriceRule, ShippingZone, WeightStep
from orderplane.ledgers.pricing import (
    ChargeLimits,
    Prices,
    Product,
    QuoteRefused,
    RefusalCode,
    RuleInForce,
    quote,
)

from ..support.price_rules import flat

EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "price-rule.json"

PRODUCTS = {
    product.sku: product
    for product in (
        Product(
            "TEA", "Tea", "EUR", 650, 120,
            other_prices={"USD": 700, "JPY": 905, "KWD": 2500, "BHD": 2500, "CHF": 690, "GBP": 600},
        ),
        Product("MUG", "Mug", "EUR", 1490, 400, other_prices={"USD": 1600}),
        Product("GIFT", "Gift", "EUR", 5000, 10),
        Product("BOOK", "Book", "EUR", 4999, 10),
        Product("STONE", "Stone", "EUR", 100, 1000),
    )
}  # fmt: skip

RULES = {
    # To Germany 4.90 up to 2 kg, 9.90 up to 30 kg, free from 50.00; to Austria and the Netherlands 8.90 up to
    # 5 kg; to all others 19.90 up to 5 kg. Prices have the tax in them: 19 %, 20 %, 21 %, and none elsewhere.
    "EUR": PriceRule.model_validate(json.loads(EXAMPLE.read_text(encoding="utf-8"))),
    # To the United States only: 7.95, free from 75.00, and 7.25 % tax on top.
    "USD": PriceRule(
        shipping=(ShippingZone(countries=("US",), by_weight=(WeightStep(amount=795),), free_from=7500),),
        tax_included=False,
        taxes=(CountryTax(countries=("US",), basis_points=725),),
    ),
    "JPY": flat(800, 1000),
    "KWD": flat(1200, 1500),
    "BHD": flat(1200, 500, is_included=True),
    # To everywhere, but what the tax is is known for Switzerland only.
    "CHF": PriceRule(
        shipping=(ShippingZone(by_weight=(WeightStep(amount=700),)),),
        tax_included=False,
        taxes=(CountryTax(countries=("CH",), basis_points=810),),
    ),
}
LIMITS = {"KWD": ChargeLimits(10, 10**9, step=10), "BHD": ChargeLimits(10, 10**9, step=10)}

TOO_HEAVY, UNSERVED, NO_RULE = (
    RefusalCode.TOO_HEAVY, RefusalCode.UNSERVED_COUNTRY, RefusalCode.NO_PRICE_RULE
)  # fmt: skip

# cart, currency, country: goods, shipping, tax on top, tax within, total; or why there is none.
TABLE: list[tuple[dict[str, int], str, str, tuple[int, int, int, int, int] | RefusalCode]] = [
    # 17.90 / 1.19 * 0.19 = 2.858
    ({"TEA": 2}, "EUR", "DE", (1300, 490, 0, 286, 1790)),
    # 49.60 / 1.19 * 0.19 = 7.919
    ({"MUG": 3}, "EUR", "DE", (4470, 490, 0, 792, 4960)),
    # More than 50.00, so it is sent for nothing: 51.20 / 1.19 * 0.19 = 8.175
    ({"MUG": 3, "TEA": 1}, "EUR", "DE", (5120, 0, 0, 817, 5120)),
    # Exactly 50.00, and a cent less: 50.00 / 1.19 * 0.19 = 7.983, 54.89 / 1.19 * 0.19 = 8.764
    ({"GIFT": 1}, "EUR", "DE", (5000, 0, 0, 798, 5000)),
    ({"BOOK": 1}, "EUR", "DE", (4999, 490, 0, 876, 5489)),
    # Exactly 2 kg, then more, exactly 30 kg, then more: 1.102, 2.060, 6.371
    ({"STONE": 2}, "EUR", "DE", (200, 490, 0, 110, 690)),
    ({"STONE": 3}, "EUR", "DE", (300, 990, 0, 206, 1290)),
    ({"STONE": 30}, "EUR", "DE", (3000, 990, 0, 637, 3990)),
    ({"STONE": 31}, "EUR", "DE", TOO_HEAVY),
    # Free of charge is no reason to send what is too heavy.
    ({"GIFT": 1, "STONE": 30}, "EUR", "DE", TOO_HEAVY),
    # 21.90 / 1.20 * 0.20 = 3.65, 157.90 / 1.20 * 0.20 = 26.317; nothing is free in Austria.
    ({"TEA": 2}, "EUR", "AT", (1300, 890, 0, 365, 2190)),
    ({"MUG": 10}, "EUR", "AT", (14900, 890, 0, 2632, 15790)),
    ({"MUG": 13}, "EUR", "AT", TOO_HEAVY),
    # 15.40 / 1.21 * 0.21 = 2.673
    ({"TEA": 1}, "EUR", "NL", (650, 890, 0, 267, 1540)),
    ({"TEA": 1}, "EUR", "US", (650, 1990, 0, 0, 2640)),
    # 14.95 * 0.0725 = 1.084, 80.00 * 0.0725 = 5.80, 30.95 * 0.0725 = 2.244
    ({"TEA": 1}, "USD", "US", (700, 795, 108, 0, 1603)),
    ({"MUG": 5}, "USD", "US", (8000, 0, 580, 0, 8580)),
    ({"TEA": 1, "MUG": 1}, "USD", "US", (2300, 795, 224, 0, 3319)),
    ({"TEA": 1}, "USD", "DE", UNSERVED),
    # 1705 * 0.10 = 170.5, half up.
    ({"TEA": 1}, "JPY", "JP", (905, 800, 171, 0, 1876)),
    # 3.700 * 0.15 = 0.555: the provider charges multiples of 0.010 only.
    ({"TEA": 1}, "KWD", "KW", (2500, 1200, 560, 0, 4260)),
    # 3.700 / 1.05 * 0.05 = 0.176: nobody charges what is in the price already.
    ({"TEA": 1}, "BHD", "BH", (2500, 1200, 0, 176, 3700)),
    # 13.90 * 0.081 = 1.126
    ({"TEA": 1}, "CHF", "CH", (690, 700, 113, 0, 1503)),
    ({"TEA": 1}, "CHF", "LI", UNSERVED),
    ({"TEA": 1}, "GBP", "GB", NO_RULE),
]  # fmt: skip


@pytest.mark.parametrize(("cart", "currency", "country", "expected"), TABLE)
def test_what_a_cart_costs(cart: dict[str, int], currency: str, country: str, expected: Any) -> None:
    prices = Prices(PRODUCTS, {name: RuleInForce(7, rule) for name, rule in RULES.items()})
    items = [Item(sku=sku, quantity=quantity) for sku, quantity in cart.items()]
    if isinstance(expected, RefusalCode):
        with pytest.raises(QuoteRefused) as refused:
            quote(items, prices, country, currency, LIMITS)
        assert refused.value.code is expected
        return
    found = quote(items, prices, country, currency, LIMITS)
    amounts = found.amounts
    sums = (amounts.items, amounts.shipping, amounts.tax, amounts.included_tax, amounts.total)
    assert sums == expected
    assert found.price_rule is not None
    tax = RULES[currency].tax_of(country)
    assert tax is not None
    assert (found.price_rule.version, found.price_rule.tax_basis_points) == (7, tax.basis_points)


@given(st.sets(st.sampled_from(COUNTRIES)), st.booleans(), st.sampled_from(COUNTRIES))
def test_a_country_has_the_zone_that_names_it_and_else_the_one_for_all_others(
    named: set[str], has_others: bool, country: str
) -> None:
    one = ShippingZone(countries=tuple(sorted(named)), by_weight=(WeightStep(amount=1),))
    others = ShippingZone(by_weight=(WeightStep(amount=2),))
    # Whichever comes first.
    for zones in ((one, others), (others, one)) if has_others else ((one,),):
        rule = PriceRule(shipping=zones, tax_included=False, taxes=(CountryTax(basis_points=0),))
        expected = one if country in named else others if has_others else None
        assert rule.zone_of(country) is expected


@given(st.integers(0, 10**6), st.integers(1, 10**6))
def test_who_orders_more_pays_at_most_the_next_step(goods: int, grams: int) -> None:
    zone = RULES["EUR"].zone_of("DE")
    assert zone is not None
    assert zone.most_grams == 30_000
    if grams <= zone.most_grams:
        assert zone.amount(goods, grams) == (0 if goods >= 5000 else 490 if grams <= 2000 else 990)
