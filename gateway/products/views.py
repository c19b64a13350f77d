"""Products as this API shows them. OpenAPI documents the types; the functions fill them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import orjson
from pydantic import Field
from typing_extensions import TypedDict

from orderplane.crds.money import format_minor
from orderplane.gateway.http.documentation import Currency, Next, Sku
from orderplane.ledgers.postgres.products import StoredProduct


class PriceView(TypedDict):
    """The price of one piece."""

    amount: Annotated[int, Field(description="In minor units.", examples=[890])]
    currency: Currency
    formatted: Annotated[str, Field(examples=["8.90 EUR"])]


class ProductView(TypedDict):
    """One product."""

    sku: Sku
    name: Annotated[str, Field(examples=["Earl Grey, 100 g"])]
    description: Annotated[str, Field(examples=["Black tea with bergamot."])]
    price: Annotated[PriceView, Field(description="The price for orders that name no currency.")]
    otherPrices: Annotated[
        dict[str, int],
        Field(
            description="The price of one piece in further currencies, in minor units of each.",
            examples=[{"USD": 990, "JPY": 1450}],
        ),
    ]
    weightGrams: Annotated[int, Field(description="Of one piece.", examples=[120])]
    available: Annotated[int, Field(description="On hand and not reserved.", examples=[37])]
    archived: Annotated[
        bool, Field(description="Not for sale any more, but still readable for old orders.", examples=[False])
    ]


class ProductListView(TypedDict):
    """A page of products, by SKU."""

    items: list[ProductView]
    next: Next


def product_view(product: StoredProduct) -> ProductView:
    """One product.

    Raises:
        KeyError: its currency is not supported.
    """
    details = product.details
    return {
        "sku": product.sku,
        "name": details.name,
        "description": details.description,
        "price": {
            "amount": details.unit_amount,
            "currency": details.currency,
            "formatted": format_minor(details.unit_amount, details.currency),
        },
        "otherPrices": dict(details.other_prices),
        "weightGrams": details.weight_grams,
        "available": product.available,
        "archived": details.is_archived,
    }


@dataclass(frozen=True, slots=True)
class WrittenProduct:
    """The document of a product, written but for its available stock.

    Args:
        version: Of its details.
        before, after: What comes before and after the stock.
    """

    version: int
    before: bytes
    after: bytes

    def body(self, available: int) -> bytes:
        """The document, byte for byte what `product_view` gives as JSON."""
        return b"%b%d%b" % (self.before, available, self.after)

    def etag(self, available: int) -> str:
        """A strong entity tag of the details' version and the available stock."""
        return f'"{self.version}-{available}"'


_STOCK = b'"available":'


def write_product(product: StoredProduct) -> WrittenProduct:
    """Write the document of a product; raises as `product_view` does."""
    # No text of the product has these bytes: in JSON its quotes are escaped.
    before, stock, after = orjson.dumps(product_view(product)).rpartition(_STOCK)
    return WrittenProduct(product.version, before + stock, after[len(str(product.available)) :])


def write_page(bodies: Sequence[bytes], following: str | None) -> bytes:
    """The document of a page, byte for byte that of a `ProductListView`."""
    return b'{"items":[%b],"next":%b}' % (b",".join(bodies), orjson.dumps(following))
