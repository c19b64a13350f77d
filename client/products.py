"""Products: what is for sale."""

from typing import cast
from urllib.parse import quote

from orderplane.client.answers import Product, ProductPage
from orderplane.client.caller import Caller
from orderplane.client.transport import Request

_PATH = "/api/products"


class Products:
    """The catalogue of the caller's merchant."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller

    async def get(self, sku: str) -> Product:
        """One product, also one that is archived.

        Raises:
            ApiProblem: `product_not_found`.
        """
        request = Request("GET", f"{_PATH}/{quote(sku, safe='')}")
        return cast("Product", (await self._caller.send(request)).document)

    async def list(
        self,
        *,
        q: str | None = None,
        currency: str | None = None,
        min_price: int | None = None,
        max_price: int | None = None,
        in_stock: bool | None = None,
        limit: int | None = None,
        cursor: str | None = None,
    ) -> ProductPage:
        """A page of products; `next` of the last one is the cursor of the following, with the same filters.

        Args:
            q: Words, as in a web search.
            currency: Only those with a price in it.
            min_price: In minor units of `currency`, which it needs; so does `max_price`.

        Raises:
            ApiProblem: `invalid_cursor`, `validation_failed`.
        """
        query = {
            "q": q,
            "currency": currency,
            "minPrice": min_price,
            "maxPrice": max_price,
            "inStock": in_stock,
            "limit": limit,
            "cursor": cursor,
        }
        return cast("ProductPage", (await self._caller.send(Request("GET", _PATH, query))).document)
