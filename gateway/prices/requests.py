"""The request body of a price rule: what `ledgers.price_rules` reads, checked."""

from collections.abc import Iterable
from typing import Annotated, Self

from pydantic import ConfigDict, Field, model_validator

from orderplane.crds.countries import Country
from orderplane.crds.meta import Minor
from orderplane.gateway.http.body import STRICT
from orderplane.ledgers.price_rules import BasisPoints, CountryTax, PriceRule, ShippingZone, WeightStep

Countries = Annotated[
    tuple[Country, ...] | None,
    Field(
        min_length=1,
        description="ISO 3166-1 alpha-2. Without it: every country that nothing else in this list names.",
        examples=[["AT", "DE"]],
    ),
]
MAX_ZONES = 50
MAX_STEPS = 20


class WeightStepRequest(WeightStep):
    """The price of a delivery up to a weight."""

    model_config = STRICT

    up_to_grams: Annotated[
        int | None,
        Field(
            ge=1,
            le=1_000_000,
            description="The heaviest order at this price. Without it: any weight; the last step only.",
            examples=[2000],
        ),
    ] = None
    amount: Annotated[Minor, Field(description="In minor units of the rule's currency.", examples=[490])]


class ShippingZoneRequest(ShippingZone):
    """What the delivery to some countries costs."""

    model_config = STRICT

    countries: Countries = None
    by_weight: Annotated[
        tuple[WeightStepRequest, ...],
        Field(
            min_length=1,
            max_length=MAX_STEPS,
            description="The lightest step first. Heavier orders than the last one's are refused.",
        ),
    ]
    free_from: Annotated[
        Minor | None,
        Field(
            description="Goods of this amount, as listed, are delivered for nothing. In minor units.",
            examples=[5000],
        ),
    ] = None

    @model_validator(mode="after")
    def _steps_rise(self) -> Self:
        limits = [step.up_to_grams for step in self.by_weight]
        if None in limits[:-1]:
            raise ValueError("Only the last step of byWeight may be without upToGrams.")
        known = [limit for limit in limits if limit is not None]
        if known != sorted(set(known)):
            raise ValueError("upToGrams has to rise from step to step of byWeight.")
        return self


class CountryTaxRequest(CountryTax):
    """The tax of an order to some countries, on the goods and their delivery."""

    model_config = STRICT

    countries: Countries = None
    basis_points: Annotated[
        BasisPoints, Field(description="Hundredths of a percent: 1900 is 19 %.", examples=[1900])
    ]


class PriceRuleRequest(PriceRule):
    """What is added to the goods of an order. Orders to a country that nothing is said about are refused."""

    model_config = ConfigDict(
        **STRICT,
        json_schema_extra={
            "examples": [
                {
                    "shipping": [
                        {
                            "countries": ["AT", "DE"],
                            "byWeight": [{"upToGrams": 2000, "amount": 490}, {"amount": 990}],
                            "freeFrom": 5000,
                        },
                        {"byWeight": [{"upToGrams": 10000, "amount": 1990}]},
                    ],
                    "taxIncluded": True,
                    "taxes": [
                        {"countries": ["DE"], "basisPoints": 1900},
                        {"countries": ["AT"], "basisPoints": 2000},
                        {"basisPoints": 0},
                    ],
                }
            ]
        },
    )

    shipping: Annotated[
        tuple[ShippingZoneRequest, ...],
        Field(min_length=1, max_length=MAX_ZONES, description="Each country in one zone at most."),
    ]
    tax_included: Annotated[
        bool,
        Field(
            description="Whether prices of products and delivery have the tax in them; if not, it is added.",
            examples=[True],
        ),
    ]
    taxes: Annotated[
        tuple[CountryTaxRequest, ...],
        Field(min_length=1, max_length=MAX_ZONES, description="Each country in one of them at most."),
    ]

    @model_validator(mode="after")
    def _each_country_once(self) -> Self:
        for name, parts in (("shipping", self.shipping), ("taxes", self.taxes)):
            _check_countries(name, [part.countries for part in parts])
        return self

    def rule(self) -> PriceRule:
        """The rule as the store takes it."""
        return PriceRule.model_validate(self.model_dump())


def _check_countries(name: str, named: Iterable[tuple[str, ...] | None]) -> None:
    seen: set[str | None] = set()
    for country in (country for countries in named for country in countries or (None,)):
        if country is None and country in seen:
            raise ValueError(f"Only one part of {name} can be for all other countries.")
        if country in seen:
            raise ValueError(f"A country is named twice in {name}. Name it once.")
        seen.add(country)
