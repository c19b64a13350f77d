"""Stock: how much there is, and to have some of it kept."""

from collections.abc import Mapping
from typing import cast
from urllib.parse import quote

from orderplane.client.answers import Level, Reservation
from orderplane.client.caller import Caller
from orderplane.client.transport import Request

_PATH = "/api/inventory"


class Inventory:
    """The stock of the caller's merchant."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller

    async def get(self, sku: str) -> Level:
        """The stock of one product.

        Raises:
            ApiProblem: `stock_not_found`: it was never counted.
        """
        request = Request("GET", f"{_PATH}/{quote(sku, safe='')}")
        return cast("Level", (await self._caller.send(request)).document)

    async def reserve(self, items: Mapping[str, int], *, ttl_seconds: int, key: str) -> Reservation:
        """Have stock kept, all of it or nothing. Where its state is Pending, look at it again.

        Args:
            items: How many of which SKU.
            ttl_seconds: When it is given back, at the latest.
            key: Makes it one reservation, however often it is sent.

        Raises:
            ApiProblem: `out_of_stock`; with `no_answer` send it again with this key.
        """
        wanted = {
            "items": [{"sku": sku, "quantity": quantity} for sku, quantity in items.items()],
            "ttlSeconds": ttl_seconds,
        }
        request = Request("POST", f"{_PATH}/reserve", json=wanted, headers={"Idempotency-Key": key})
        return cast("Reservation", (await self._caller.send(request)).document)

    async def reservation(self, reservation_id: str) -> Reservation:
        """One reservation, also one that is over.

        Raises:
            ApiProblem: `reservation_not_found`.
        """
        request = Request("GET", f"{_PATH}/reservations/{quote(reservation_id, safe='')}")
        return cast("Reservation", (await self._caller.send(request)).document)

    async def release(self, reservation_id: str) -> Reservation:
        """Have it given back; asking twice is asking once.

        Raises:
            ApiProblem: `reservation_not_found`, `reservation_of_order`.
        """
        wanted = {"reservation": reservation_id}
        request = Request("POST", f"{_PATH}/release", json=wanted, is_harmless=True)
        return cast("Reservation", (await self._caller.send(request)).document)
