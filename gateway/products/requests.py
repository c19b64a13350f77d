"""Request bodies for products. Their limits are those of an order's quote."""

from typing import Annotated, Any, Self

from pydantic import AfterValidator, ConfigDict, Field, WithJsonSchema, model_validator

from orderplane.crds.meta import ApiModel, Sku
from orderplane.crds.money import EXPONENTS
from orderplane.crds.order import QuoteLine
from orderplane.crds.text import Line, Lines
from orderplane.gateway.http.body import STRICT
from orderplane.gateway.http.documentation import closed
from orderplane.ledgers.postgres.products import ProductDetails


def _supported(currency: str) -> str:
    if currency not in EXPONENTS:
        raise ValueError("Orders cannot be placed in this currency.")
    return currency


SoldIn = Annotated[
    str,
    AfterValidator(_supported),
    WithJsonSchema(
        {
            "type": "string",
            "description": "ISO 4217.",
            "examples": ["EUR"],
            **closed("Currency", sorted(EXPONENTS)),
        }
    ),
]
UnitAmount = Annotated[int, *QuoteLine.model_fields["unit_amount"].metadata]


class PriceRequest(ApiModel):
    """The price of one piece."""

    model_config = STRICT

    amount: Annotated[UnitAmount, Field(description="In minor units: cents, yen, fils.", examples=[895])]
    currency: SoldIn


def _as_patch(schema: dict[str, Any]) -> None:
    """Turn the schema into that of a merge patch:

    no member is required, and null resets those with a default.
    """
    del schema["required"]
    fields, nothing = schema["properties"], {"type": "null"}
    fields["price"] = {k: v for k, v in PriceRequest.model_json_schema().items() if k != "required"}
    prices = fields["otherPrices"]
    prices["additionalProperties"] = {"anyOf": [prices["additionalProperties"], nothing]}
    for name in ("description", "otherPrices", "archived"):
        fields[name] = {"anyOf": [fields[name], nothing]}
    schema["examples"] = [{"price": {"amount": 950}, "description": None}]


class DetailsRequest(ApiModel):
    """A product's details. A patch changes some of them; null resets those that may be left out."""

    model_config = ConfigDict(**STRICT, title="ProductPatch", json_schema_extra=_as_patch)

    name: Annotated[Line, Field(min_length=1, max_length=200, examples=["Earl Grey, 100 g"])]
    description: Annotated[Lines, Field(max_length=5000, examples=["Black tea with bergamot."])] = ""
    price: Annotated[PriceRequest, Field(description="The price for orders that name no currency.")]
    other_prices: Annotated[
        dict[SoldIn, UnitAmount],
        Field(
            default_factory=dict,
            description="The price of one piece in further currencies, in minor units of each.",
            examples=[{"USD": 990, "JPY": 1450}],
        ),
    ]
    weight_grams: Annotated[
        int,
        *QuoteLine.model_fields["weight_grams"].metadata,
        Field(description="Of one piece.", examples=[120]),
    ]
    archived: Annotated[bool, Field(description="Whether it is no longer for sale.", examples=[False])] = (
        False
    )

    @model_validator(mode="after")
    def _one_price_per_currency(self) -> Self:
        if self.price.currency in self.other_prices:
            raise ValueError("otherPrices has the currency of price; give each currency one price.")
        return self

    def details(self) -> ProductDetails:
        """The details as the store takes them."""
        return ProductDetails(
            name=self.name,
            description=self.description,
            currency=self.price.currency,
            unit_amount=self.price.amount,
            other_prices=self.other_prices,
            weight_grams=self.weight_grams,
            is_archived=self.archived,
        )


def document_of(details: ProductDetails) -> dict[str, Any]:
    """The request body that would set these details: the document that a patch is applied to."""
    return {
        "name": details.name,
        "description": details.description,
        "price": {"amount": details.unit_amount, "currency": details.currency},
        "otherPrices": dict(details.other_prices),
        "weightGrams": details.weight_grams,
        "archived": details.is_archived,
    }


class ProductRequest(DetailsRequest):
    """A new product."""

    model_config = ConfigDict(
        **STRICT,
        title="ProductRequest",
        json_schema_extra={
            "examples": [
                {
                    "sku": "TEA-EARL-GREY-100",
                    "name": "Earl Grey, 100 g",
                    "description": "Black tea with bergamot.",
                    "price": {"amount": 890, "currency": "EUR"},
                    "otherPrices": {"USD": 990},
                    "weightGrams": 120,
                }
            ]
        },
    )

    sku: Annotated[Sku, Field(description="The merchant's own number; it cannot be changed.")]
