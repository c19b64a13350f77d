"""The price of an order: list prices in one currency, as integers in minor units. Pure, but for `quote_from`.

The gateway and the admission webhook both use it, so an order costs the same either way.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from orderplane.crds.money import EXPONENTS, format_minor
from orderplane.crds.order import Amounts, Item, Quote, QuoteLine

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
class PriceRule:
    """What is added to the goods: shipping in minor units, tax in basis points (hundredths of a percent)."""

    shipping_amount: int = 0
    tax_basis_points: int = 0


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
        rules: By currency. Orders in a currency without a rule have no shipping cost and no tax.
    """

    products: Mapping[str, Product]
    rules: Mapping[str, PriceRule]


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
    currency: str | None = None,
) -> Quote:
    """Read the prices of the items and quote them.

    Args:
        charge_limits: What the payment provider can charge, by currency.
        currency: Of the quote; None means the products' own currency.

    Raises:
        QuoteRefused: it cannot be priced.
        Transient: the price list cannot be read.
    """
    prices = await price_list.prices(merchant, [item.sku for item in items])
    currency = currency_of(items, prices.products, currency)
    return quote(items, prices.products, prices.rules.get(currency), currency, charge_limits.get(currency))


def quote(
    items: Sequence[Item],
    products: Mapping[str, Product],
    rule: PriceRule | None,
    currency: str | None = None,
    limits: ChargeLimits | None = None,
) -> Quote:
    """Price the items in `currency`, or in the products' own. `rule` and `limits` are those of the currency.

    Raises:
        QuoteRefused: they cannot be priced, are too heavy, or cost what cannot be charged.
    """
    currency = currency_of(items, products, currency)
    priced = [(item.quantity, products[item.sku], _price(products[item.sku], currency)) for item in items]
    _check_weight(sum(quantity * product.weight_grams for quantity, product, _ in priced))
    rule = rule or PriceRule()
    goods = sum(quantity * unit_amount for quantity, _, unit_amount in priced)
    tax = _tax(goods + rule.shipping_amount, rule.tax_basis_points, limits.step if limits else 1)
    total = goods + rule.shipping_amount + tax
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
        amounts=Amounts(items=goods, shipping=rule.shipping_amount, tax=tax, discount=0, total=total),
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


def _check_weight(grams: int) -> None:
    most = MAX_PARCELS * PARCEL_GRAMS
    if grams > most:
        raise QuoteRefused(
            RefusalCode.TOO_HEAVY,
            f"the order weighs {grams} g, more than the {most} g of {MAX_PARCELS} parcels; split it",
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


def _tax(amount: int, basis_points: int, step: int) -> int:
    """Round half up to a multiple of `step`, in integers."""
    return (amount * basis_points + 5_000 * step) // (10_000 * step) * step


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
