"""Price rules: what a merchant adds to the goods of an order, one rule for each currency. Pure.

These models read what is stored, which may be older than a check of `gateway.prices.requests`.
"""

from collections.abc import Iterable
from typing import Annotated, Protocol, TypeVar

from pydantic import Field

from orderplane.crds.meta import ApiModel, Minor

BasisPoints = Annotated[int, Field(ge=0, le=10_000)]
"""Hundredths of a percent."""


class WeightStep(ApiModel):
    """What the delivery of an order costs that weighs at most `up_to_grams`; None: whatever it weighs."""

    up_to_grams: int | None = None
    amount: Minor


class ShippingZone(ApiModel):
    """What the delivery to some countries costs.

    Args:
        countries: ISO 3166-1 alpha-2; None: every country that no other zone names.
        by_weight: The lightest step first. An order heavier than the last one is not delivered.
        free_from: Goods of this amount, as listed, are delivered for nothing; None: no goods are.
    """

    countries: tuple[str, ...] | None = None
    by_weight: tuple[WeightStep, ...]
    free_from: Minor | None = None

    def amount(self, goods: int, grams: int) -> int:
        """What the delivery costs.

        Args:
            goods: What the goods cost, in minor units.
            grams: At most `most_grams`.
        """
        if self.free_from is not None and goods >= self.free_from:
            return 0
        return next(
            step.amount for step in self.by_weight if step.up_to_grams is None or grams <= step.up_to_grams
        )

    @property
    def most_grams(self) -> int | None:
        """The heaviest order that is delivered; None: there is no limit."""
        return self.by_weight[-1].up_to_grams


class CountryTax(ApiModel):
    """The tax of an order to some countries, on the goods and their delivery.

    Args:
        countries: As in `ShippingZone`.
    """

    countries: tuple[str, ...] | None = None
    basis_points: BasisPoints


class PriceRule(ApiModel):
    """What is added to the goods. A country that nothing is said about gets no order.

    Args:
        tax_included: Whether the prices of products and delivery have the tax in them already.
    """

    shipping: tuple[ShippingZone, ...]
    tax_included: bool
    taxes: tuple[CountryTax, ...]

    def zone_of(self, country: str) -> ShippingZone | None:
        """The zone of a country."""
        return _of_country(self.shipping, country)

    def tax_of(self, country: str) -> CountryTax | None:
        """The tax of a country."""
        return _of_country(self.taxes, country)


def tax_on(amount: int, basis_points: int, step: int = 1) -> int:
    """The tax that is added to an amount: rounded half up to a multiple of `step`, in integers."""
    return (amount * basis_points + 5_000 * step) // (10_000 * step) * step


def tax_within(amount: int, basis_points: int) -> int:
    """The tax that an amount has in it, rounded half up to one minor unit."""
    whole = 10_000 + basis_points
    return (2 * amount * basis_points + whole) // (2 * whole)


class _ForCountries(Protocol):
    @property
    def countries(self) -> tuple[str, ...] | None: ...


_T = TypeVar("_T", bound=_ForCountries)


def _of_country(parts: Iterable[_T], country: str) -> _T | None:
    """The part that names the country, else the one for all others."""
    others = None
    for part in parts:
        if part.countries is None:
            others = part
        elif country in part.countries:
            return part
    return others
