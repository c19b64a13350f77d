"""The price of an order: list prices and a price rule in one currency, as integers in minor units. Pure, but
for `quote_from`.

The gateway and the admission webhook both use it, so an order costs the same either way.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Protocol

from orderplane.crds.money import EXPONENTS, format_minor
from orderplane.crds.order import Amounts, AppliedPriceRule, Item, Quote, QuoteLine
from orderplane.ledgers.price_rules import CountryTax, PriceRule, ShippingZone, tax_on, tax_within

MAX_ITEMS = 50
"""Limit in the schema of an Order."""

PARCEL_GRAMS = 30_000
"""Maximum weight of one parcel."""

MAX_PARCELS = 20
"""Limit in the schema of a Shipment."""

MAX_TOTAL = 999_999_999_999
MAX_UNIT_AMOUNT = 99_999_999_999
"""Limits in the schema of a quote, in minor units."""


class RefusalCode(StrEnum):
    """Why an order cannot be priced; stable, for programs."""

    UNKNOWN_SKU = "unknown_sku"
    INACTIVE_SKU = "inactive_sku"
    DUPLICATE_SKU = "duplicate_sku"
    MIXED_CURRENCY = "mixed_currency"
    NO_PRICE_IN_CURRENCY = "no_price_in_currency"
    UNSUPPORTED_CURRENCY = "unsupported_currency"
    NO_PRICE_RULE = "no_price_rule"
    UNSERVED_COUNTRY = "unserved_country"
    TOO_MANY_ITEMS = "too_many_items"
    TOO_HEAVY = "too_heavy"
    AMOUNT_TOO_LARGE = "amount_too_large"
    AMOUNT_TOO_SMALL = "amount_too_small"
    AMOUNT_NOT_CHARGEABLE = "amount_not_chargeable"


class QuoteRefused(Exception):  # noqa: N818
    """The order cannot be priced; `message` tells the customer what to change.

    Args:
        sku: The product that causes it, if one does.
    """

    def __init__(self, code: RefusalCode, message: str, sku: str | None = None) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.sku = sku


@dataclass(frozen=True, slots=True)
class Product:
    """A product in the price list.

    Args:
        currency: The currency of orders that name none.
        unit_amount: The price of one piece, in minor units of that currency.
        other_prices: The price of one piece in further currencies, in minor units, by currency.
    """

    sku: str
    name: str
    currency: str
    unit_amount: int
    weight_grams: int
    is_active: bool = True
    other_prices: Mapping[str, int] = field(default_factory=dict)

    def amount_in(self, currency: str) -> int | None:
        """The price of one piece in minor units; None if it has no price in that currency."""
        return self.unit_amount if currency == self.currency else self.other_prices.get(currency)


@dataclass(frozen=True, slots=True)
class RuleInForce:
    """The price rule of a currency, in the version that orders are priced by now."""

    version: int
    rule: PriceRule


@dataclass(frozen=True, slots=True)
class ChargeLimits:
    """What the payment provider can charge in one currency, in minor units.

    Args:
        step: Every amount is a multiple of it.
    """

    least: int
    greatest: int
    step: int = 1


@dataclass(frozen=True, slots=True)
class Prices:
    """The prices of an order's SKUs, read in one statement.

    Args:
        products: The existing products, also inactive ones, by SKU.
        rules: By currency. There are no orders in a currency without a rule.
    """

    products: Mapping[str, Product]
    rules: Mapping[str, RuleInForce]


class PriceList(Protocol):
    """Where products and price rules are stored."""

    async def prices(self, merchant: str, skus: Sequence[str]) -> Prices:
        """The prices of these SKUs.

        Raises:
            Transient: it cannot be read.
        """
        ...


async def quote_from(
    price_list: PriceList,
    charge_limits: Mapping[str, ChargeLimits],
    merchant: str,
    items: Sequence[Item],
    country: str,
    currency: str | None = None,
) -> Quote:
    """Read the prices of the items and quote them.

    Args:
        charge_limits: What the payment provider can charge, by currency.
        country: Where the order goes, ISO 3166-1 alpha-2.
        currency: Of the quote; None means the products' own currency.

    Raises:
        QuoteRefused: it cannot be priced.
        Transient: the price list cannot be read.
    """
    prices = await price_list.prices(merchant, [item.sku for item in items])
    return quote(items, prices, country, currency, charge_limits)


def quote(
    items: Sequence[Item],
    prices: Prices,
    country: str,
    currency: str | None = None,
    charge_limits: Mapping[str, ChargeLimits] = MappingProxyType({}),
) -> Quote:
    """Price the items; see `quote_from`.

    Raises:
        QuoteRefused: they cannot be priced, are too heavy, are not delivered to the country, or cost what
            cannot be charged.
    """
    products = prices.products
    currency = currency_of(items, products, currency)
    priced = [(item.quantity, products[item.sku], _price(products[item.sku], currency)) for item in items]
    goods = sum(quantity * unit_amount for quantity, _, unit_amount in priced)
    grams = sum(quantity * product.weight_grams for quantity, product, _ in priced)
    _check_weight(grams, MAX_PARCELS * PARCEL_GRAMS, f"of {MAX_PARCELS} parcels")
    in_force = _rule_of(currency, prices.rules)
    zone, country_tax = _for_country(in_force.rule, country, currency)
    _check_weight(grams, zone.most_grams, "that the shop sends to this country")
    shipping = zone.amount(goods, grams)
    limits = charge_limits.get(currency)
    rate, is_included = country_tax.basis_points, in_force.rule.tax_included
    added_tax = 0 if is_included else tax_on(goods + shipping, rate, limits.step if limits else 1)
    total = goods + shipping + added_tax
    if total > MAX_TOTAL or any(unit_amount > MAX_UNIT_AMOUNT for *_, unit_amount in priced):
        raise QuoteRefused(
            RefusalCode.AMOUNT_TOO_LARGE,
            f"{format_minor(total, currency)} is more than one order may cost (a piece at most "
            f"{format_minor(MAX_UNIT_AMOUNT, currency)}, all of it {format_minor(MAX_TOTAL, currency)}); "
            "split it",
        )
    if limits is not None:
        _check_charge(total, currency, limits)
    return Quote(
        currency=currency,
        lines=tuple(_line(*line) for line in priced),
        amounts=Amounts(
            items=goods,
            shipping=shipping,
            tax=added_tax,
            included_tax=tax_within(goods + shipping, rate) if is_included else 0,
            discount=0,
            total=total,
        ),
        price_rule=AppliedPriceRule(version=in_force.version, tax_basis_points=rate),
    )


def currency_of(items: Sequence[Item], products: Mapping[str, Product], requested: str | None = None) -> str:
    """The currency of the quote: `requested`, or else the common currency of all products.

    Raises:
        QuoteRefused: there is no such currency, or an item is not for sale.
    """
    _check_items(items, products)
    if requested is not None:
        if requested not in EXPONENTS:
            raise QuoteRefused(
                RefusalCode.UNSUPPORTED_CURRENCY,
                "orders cannot be placed in this currency; name one that the products have prices in",
            )
        return requested
    by_currency = {products[item.sku].currency: item.sku for item in items}
    if len(by_currency) > 1:
        listing = ", ".join(f"{sku} in {currency}" for currency, sku in sorted(by_currency.items()))
        raise QuoteRefused(
            RefusalCode.MIXED_CURRENCY,
            f"the items are priced in different currencies ({listing}); make one order per currency, "
            "or name a currency that each of them has a price in",
        )
    (currency,) = by_currency
    if currency not in EXPONENTS:
        raise QuoteRefused(
            RefusalCode.UNSUPPORTED_CURRENCY,
            f"{by_currency[currency]} is priced in {currency}, which is not supported; "
            "ask the merchant to correct the catalogue",
            by_currency[currency],
        )
    return currency


def _check_items(items: Sequence[Item], products: Mapping[str, Product]) -> None:
    if not 1 <= len(items) <= MAX_ITEMS:
        raise QuoteRefused(
            RefusalCode.TOO_MANY_ITEMS, f"an order has 1 to {MAX_ITEMS} items, not {len(items)}; split it"
        )
    seen: set[str] = set()
    for item in items:
        if item.sku in seen:
            raise QuoteRefused(
                RefusalCode.DUPLICATE_SKU,
                f"{item.sku} is there twice; give it once, with the whole quantity",
                item.sku,
            )
        seen.add(item.sku)
        product = products.get(item.sku)
        if product is None:
            raise QuoteRefused(
                RefusalCode.UNKNOWN_SKU, f"the catalogue has no product {item.sku}; check the SKU", item.sku
            )
        if not product.is_active:
            raise QuoteRefused(
                RefusalCode.INACTIVE_SKU, f"{item.sku} is not for sale at present; leave it out", item.sku
            )


def _rule_of(currency: str, rules: Mapping[str, RuleInForce]) -> RuleInForce:
    if (rule := rules.get(currency)) is not None:
        return rule
    others = ", ".join(sorted(rules))
    raise QuoteRefused(
        RefusalCode.NO_PRICE_RULE,
        f"the shop has no price rule for {currency}, which would say what shipping and tax are; "
        + (f"order in {others}" if others else "ask the merchant to set one"),
    )


def _for_country(rule: PriceRule, country: str, currency: str) -> tuple[ShippingZone, CountryTax]:
    zone, tax = rule.zone_of(country), rule.tax_of(country)
    if zone is None or tax is None:
        raise QuoteRefused(
            RefusalCode.UNSERVED_COUNTRY,
            f"the shop's price rule for {currency} has no {'shipping' if zone is None else 'tax'} for this "
            "country; send it to another one, or order in another currency",
        )
    return zone, tax


def _check_weight(grams: int, most: int | None, what: str) -> None:
    if most is not None and grams > most:
        raise QuoteRefused(
            RefusalCode.TOO_HEAVY, f"the order weighs {grams} g, more than the {most} g {what}; split it"
        )


def _check_charge(total: int, currency: str, limits: ChargeLimits) -> None:
    """A total of nothing is not charged, so it is always allowed."""
    price = format_minor(total, currency)
    if total % limits.step:
        raise QuoteRefused(
            RefusalCode.AMOUNT_NOT_CHARGEABLE,
            f"{price} cannot be charged: a total in {currency} has to be a multiple of "
            f"{format_minor(limits.step, currency)}; ask the merchant to round the prices",
        )
    if 0 < total < limits.least:
        raise QuoteRefused(
            RefusalCode.AMOUNT_TOO_SMALL,
            f"{price} is less than the {format_minor(limits.least, currency)} that can be charged at least; "
            "order more",
        )
    if total > limits.greatest:
        raise QuoteRefused(
            RefusalCode.AMOUNT_TOO_LARGE,
            f"{price} is more than the {format_minor(limits.greatest, currency)} that can be charged at "
            "once; split it",
        )


def _price(product: Product, currency: str) -> int:
    amount = product.amount_in(currency)
    if amount is None:
        sold_in = ", ".join(sorted({product.currency, *product.other_prices}))
        raise QuoteRefused(
            RefusalCode.NO_PRICE_IN_CURRENCY,
            f"{product.sku} is not sold in {currency}, only in {sold_in}; leave it out, or name another",
            product.sku,
        )
    return amount


def _line(quantity: int, product: Product, unit_amount: int) -> QuoteLine:
    return QuoteLine(
        sku=product.sku, quantity=quantity, unit_amount=unit_amount, weight_grams=product.weight_grams
    )
