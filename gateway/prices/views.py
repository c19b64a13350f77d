"""Price rules as this API shows them. OpenAPI documents the types; the functions fill them."""

from datetime import UTC
from typing import Annotated, Any

from pydantic import Field
from typing_extensions import TypedDict

from orderplane.gateway.http.documentation import Actor, Currency, Next, Time
from orderplane.ledgers.postgres.price_rules import PriceRuleVersion

Version = Annotated[int, Field(description="1, 2, 3... for each change of the rule.", examples=[3])]
_Countries = Annotated[
    list[str] | None,
    Field(
        description="ISO 3166-1 alpha-2; null: every country that nothing else in this list names.",
        examples=[["AT", "DE"]],
    ),
]


class WeightStepView(TypedDict):
    """The price of a delivery up to a weight."""

    upToGrams: Annotated[int | None, Field(description="null: any weight.", examples=[2000])]
    amount: Annotated[int, Field(description="In minor units.", examples=[490])]


class ShippingZoneView(TypedDict):
    """What the delivery to some countries costs."""

    countries: _Countries
    byWeight: list[WeightStepView]
    freeFrom: Annotated[
        int | None,
        Field(
            description="Goods of this amount, in minor units, are delivered for nothing; null: none are.",
            examples=[5000],
        ),
    ]


class CountryTaxView(TypedDict):
    """The tax of an order to some countries."""

    countries: _Countries
    basisPoints: Annotated[int, Field(description="Hundredths of a percent.", examples=[1900])]


class PriceRuleView(TypedDict):
    """What is added to the goods of an order; it can be sent back as it is."""

    shipping: list[ShippingZoneView]
    taxIncluded: Annotated[
        bool, Field(description="Whether prices have the tax in them already.", examples=[True])
    ]
    taxes: list[CountryTaxView]


class CurrentPriceRuleView(TypedDict):
    """The price rule of a currency, as it is now."""

    currency: Currency
    version: Version
    changedAt: Time
    rule: PriceRuleView


class PriceRuleListView(TypedDict):
    """The price rules of the merchant, by currency."""

    items: list[CurrentPriceRuleView]


class PriceRuleVersionView(TypedDict):
    """One version of a price rule."""

    version: Version
    changedAt: Time
    actor: Actor
    rule: Annotated[
        PriceRuleView | None,
        Field(description="null: this version deleted the rule, so that no order was taken after it."),
    ]


class PriceRuleVersionListView(TypedDict):
    """A page of versions, the newest first."""

    items: list[PriceRuleVersionView]
    next: Next


def current_view(version: PriceRuleVersion) -> CurrentPriceRuleView:
    """A rule that is in force."""
    rule = _rule_view(version)
    assert rule is not None
    return {
        "currency": version.currency,
        "version": version.version,
        "changedAt": _time(version),
        "rule": rule,
    }


def version_view(version: PriceRuleVersion) -> PriceRuleVersionView:
    """One version of a rule, with who made it."""
    return {
        "version": version.version,
        "changedAt": _time(version),
        "actor": version.actor,
        "rule": _rule_view(version),
    }


def _rule_view(version: PriceRuleVersion) -> Any:
    return version.rule.model_dump(mode="json", by_alias=True) if version.rule else None


def _time(version: PriceRuleVersion) -> str:
    return version.changed_at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
