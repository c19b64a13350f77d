"""Products and their stock."""

from collections.abc import Mapping
from typing import Any, cast
from urllib.parse import quote

from orderplane.client.accounts import Caller
from orderplane.client.responses import (
    MovementPage,
    Product,
    ProductPage,
    Reservation,
    StockCount,
    StockLevel,
    StockPage,
)
from orderplane.client.transport import Request

_PRODUCTS, _INVENTORY = "/api/products", "/api/inventory"


class Products:
    """The products of the caller's merchant."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller

    async def get(self, sku: str) -> Product:
        """One product, also an archived one.

        Raises:
            ApiProblem: `product_not_found`.
        """
        request = Request("GET", f"{_PRODUCTS}/{quote(sku, safe='')}")
        return cast("Product", (await self._caller.send(request)).document)

    async def list(
        self,
        *,
        q: str | None = None,
        currency: str | None = None,
        min_price: int | None = None,
        max_price: int | None = None,
        in_stock: bool | None = None,
        with_archived: bool | None = None,
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
            "includeArchived": with_archived,
            "limit": limit,
            "cursor": cursor,
        }
        return cast("ProductPage", (await self._caller.send(Request("GET", _PRODUCTS, query))).document)

    async def create(self, product: Mapping[str, Any]) -> Product:
        """Make a product.

        Args:
            product: The body of POST /api/products.

        Raises:
            ApiProblem: `sku_taken`, `validation_failed`.
        """
        return cast("Product", (await self._caller.send(Request("POST", _PRODUCTS, json=product))).document)

    async def change(self, sku: str, changes: Mapping[str, Any]) -> Product:
        """Change a product; existing orders keep their prices.

        Args:
            changes: A JSON merge patch (RFC 7396).

        Raises:
            ApiProblem: `product_not_found`, `validation_failed`.
        """
        request = Request("PATCH", f"{_PRODUCTS}/{quote(sku, safe='')}", json=changes)
        return cast("Product", (await self._caller.send(request)).document)

    async def archive(self, sku: str) -> None:
        """Stop selling a product.

        Raises:
            ApiProblem: `product_not_found`.
        """
        await self._caller.send(Request("DELETE", f"{_PRODUCTS}/{quote(sku, safe='')}"))


class Inventory:
    """The stock of the caller's merchant."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller

    async def get(self, sku: str) -> StockLevel:
        """The stock of one product.

        Raises:
            ApiProblem: `stock_not_found`: the product was never counted.
        """
        request = Request("GET", f"{_INVENTORY}/{quote(sku, safe='')}")
        return cast("StockLevel", (await self._caller.send(request)).document)

    async def list(self, *, limit: int | None = None, cursor: str | None = None) -> StockPage:
        """A page of stocks, by SKU.

        Raises:
            ApiProblem: `invalid_cursor`.
        """
        query = {"limit": limit, "cursor": cursor}
        return cast("StockPage", (await self._caller.send(Request("GET", _INVENTORY, query))).document)

    async def movements(
        self, sku: str, *, limit: int | None = None, cursor: str | None = None
    ) -> MovementPage:
        """A page of the movements of one stock, the newest first.

        Raises:
            ApiProblem: `stock_not_found`, `invalid_cursor`.
        """
        query = {"limit": limit, "cursor": cursor}
        request = Request("GET", f"{_INVENTORY}/{quote(sku, safe='')}/movements", query)
        return cast("MovementPage", (await self._caller.send(request)).document)

    async def adjust(self, sku: str, delta: int, *, reason: str, key: str) -> StockCount:
        """Add a delivery, or take away what is gone, but never reserved stock.

        Args:
            key: Idempotency key.

        Raises:
            ApiProblem: `stock_not_found`, `stock_reserved`, `validation_failed`.
        """
        return await self._correct(f"{sku}/adjustments", {"delta": delta, "reason": reason}, key)

    async def recount(self, sku: str, on_hand: int, *, reason: str, key: str) -> StockCount:
        """Set the counted quantity. Orders that lose their stock by that are compensated.

        Args:
            key: Idempotency key.

        Raises:
            ApiProblem: `product_not_found`, `stock_raced`, `validation_failed`.
        """
        return await self._correct(f"{sku}/recounts", {"onHand": on_hand, "reason": reason}, key)

    async def _correct(self, path: str, body: Mapping[str, Any], key: str) -> StockCount:
        request = Request("POST", f"{_INVENTORY}/{quote(path)}", json=body, headers={"Idempotency-Key": key})
        return cast("StockCount", (await self._caller.send(request)).document)

    async def reserve(self, items: Mapping[str, int], *, ttl_seconds: int, key: str) -> Reservation:
        """Reserve stock, all of it or nothing. If the state is Pending, read the reservation later.

        Args:
            items: Quantities by SKU.
            ttl_seconds: The stock is released after this time at the latest.
            key: Idempotency key: with the same key there is at most one reservation.

        Raises:
            ApiProblem: `out_of_stock`; after `no_answer`, repeat it with this key.
        """
        body = {
            "items": [{"sku": sku, "quantity": quantity} for sku, quantity in items.items()],
            "ttlSeconds": ttl_seconds,
        }
        request = Request("POST", f"{_INVENTORY}/reserve", json=body, headers={"Idempotency-Key": key})
        return cast("Reservation", (await self._caller.send(request)).document)

    async def reservation(self, reservation_id: str) -> Reservation:
        """One reservation, also one that is over.

        Raises:
            ApiProblem: `reservation_not_found`.
        """
        request = Request("GET", f"{_INVENTORY}/reservations/{quote(reservation_id, safe='')}")
        return cast("Reservation", (await self._caller.send(request)).document)

    async def release(self, reservation_id: str) -> Reservation:
        """Release reserved stock; repeating it has no effect.

        Raises:
            ApiProblem: `reservation_not_found`, `reservation_of_order`.
        """
        body = {"reservation": reservation_id}
        request = Request("POST", f"{_INVENTORY}/release", json=body, is_idempotent=True)
        return cast("Reservation", (await self._caller.send(request)).document)
