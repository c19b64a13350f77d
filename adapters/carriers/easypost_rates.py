"""Reading EasyPost's prices, and choosing one: https://docs.easypost.com/docs/shipments"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any

from orderplane.crds.meta import MOST_MINOR
from orderplane.crds.money import EXPONENTS
from orderplane.crds.shipment import Service


@dataclass(frozen=True, slots=True, order=True)
class Price:
    """`amount` is in minor units of `currency`."""

    amount: int
    currency: str


def read_price(rate: Any) -> Price | None:
    """The price of a Rate; None where it is no amount, or in a currency whose minor units we do not know.

    EasyPost writes major units: `"7.58"` in EUR is 758, `"758"` in JPY is 758.
    """
    currency = getattr(rate, "currency", None)
    if currency not in EXPONENTS:
        return None
    try:
        amount = Decimal(str(getattr(rate, "rate", None)))
    except InvalidOperation:
        return None
    if not amount.is_finite() or not 0 <= amount <= MOST_MINOR:
        return None
    minor = int(amount.scaleb(EXPONENTS[currency]))
    return Price(minor, currency) if minor <= MOST_MINOR else None


def choose_rate(rates: Sequence[Any], service: Service) -> Any:
    """The cheapest rate, or the cheapest of the fastest for EXPRESS; None where no price can be read.

    Amounts of different currencies cannot be compared: only the currency that most rates are in counts, of
    several the one that comes first in the alphabet.
    """
    priced = [(price, rate) for rate in rates if (price := read_price(rate)) is not None]
    if not priced:
        return None
    counts = Counter(price.currency for price, _ in priced)
    currency = min(counts, key=lambda one: (-counts[one], one))
    offers = [(price, rate) for price, rate in priced if price.currency == currency]
    if service is Service.EXPRESS:
        fastest = min(_days(rate) for _, rate in offers)
        offers = [(price, rate) for price, rate in offers if _days(rate) == fastest]
    return min(offers, key=lambda offer: (offer[0], offer[1].id))[1]


def _days(rate: Any) -> int:
    return getattr(rate, "delivery_days", None) or 99
