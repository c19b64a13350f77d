"""Orders that were sold, and somebody of the shop who gives money back."""

import asyncio
from typing import Any

import httpx

from orderplane.ledgers.payments import ProviderRefundState

from .conftest import MUG, TEA, Desk, phase_is


class Shop:
    """Somebody of the shop, at the gateway, with an order that was sold."""

    def __init__(self, desk: Desk, http: httpx.AsyncClient, order: dict[str, Any]) -> None:
        self.desk, self.http, self.order = desk, http, order
        self.path = f"/api/orders/{order['metadata']['name']}/refunds"
        self.total: int = order["spec"]["quote"]["amounts"]["total"]

    async def ask(self, key: str, **wanted: Any) -> httpx.Response:
        body = {"reason": "Damaged", **wanted}
        return await self.http.post(self.path, json=body, headers={"Idempotency-Key": key})

    async def refund(self, key: str, **wanted: Any) -> dict[str, Any]:
        answer = await self.ask(key, **wanted)
        assert answer.status_code == 201, answer.text
        made: dict[str, Any] = answer.json()
        return made

    async def settled(self) -> list[dict[str, Any]]:
        """The refunds once nothing of them is to be done any more."""
        async with asyncio.timeout(60):
            while True:
                found: list[dict[str, Any]] = (await self.http.get(self.path)).json()["items"]
                if all(refund["phase"] not in ("Requested", "Pending") for refund in found):
                    return found
                await asyncio.sleep(0.1)

    async def back(self) -> list[int]:
        """What the provider has given back, smallest first."""
        refunds = await self.desk.refunds(self.order)
        return sorted(r.amount for r in refunds if r.state is ProviderRefundState.SUCCEEDED)


async def sold(desk: Desk, http: httpx.AsyncClient, **more: Any) -> Shop:
    order = await desk.place([(MUG, 2), (TEA, 1)], **more)
    await desk.until(order, phase_is("Delivered"))
    return Shop(desk, http, await desk.order(order))
