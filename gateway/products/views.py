"""Products as this API shows them. The types are the documentation; the functions fill them."""

from typing import Annotated

from pydantic import Field
from typing_extensions import TypedDict

from orderplane.crds.money import format_minor


class PriceView(TypedDict):
    """The price of one piece."""

    amount: Annotated[int, Field(description="In minor units.", examples=[890])]
    currency: Annotated[str, Field(description="ISO 4217.", examples=["EUR"])]
    formatted: Annotated[str, Field(examples=["8.90 EUR"])]


class ProductView(TypedDict):
    """One product that can be ordered now."""

    sku: Annotated[str, Field(examples=["TEA-EARL-GREY-100"])]
    name: Annotated[str, Field(examples=["Earl Grey, 100 g"])]
    description: Annotated[str, Field(examples=["Black tea with bergamot."])]
    price: PriceView
    weightGrams: Annotated[int, Field(description="Of one piece.", examples=[120])]
    available: Annotated[
        int, Field(description="On hand and not reserved, when this page was read.", examples=[37])
    ]


class ProductListView(TypedDict):
    """A page of products, by SKU. `next` is the cursor of the following page, null on the last."""

    items: list[ProductView]
    next: Annotated[str | None, Field(examples=[None])]


def price_view(amount: int, currency: str) -> PriceView:
    """A price, also as people read it.

    Raises:
        KeyError: the currency is not one that can be ordered in.
    """
    return {"amount": amount, "currency": currency, "formatted": format_minor(amount, currency)}
