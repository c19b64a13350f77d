"""Orders: place, read, list, follow, cancel."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Any, cast
from urllib.parse import quote

from orderplane.client.answers import Accepted, Order, OrderPage
from orderplane.client.caller import Caller
from orderplane.client.transport import Request

FINISHED = frozenset({"Delivered", "Failed", "Cancelled"})
"""The phases in which nothing more will happen."""

_PATH = "/api/orders"


class Orders:
    """The orders that the caller may see."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller

    async def create(self, order: Mapping[str, Any], *, key: str) -> Accepted:
        """Place an order.

        Args:
            order: What is to be ordered, as the front door takes it.
            key: Makes it one order, however often it is sent.

        Raises:
            ApiProblem: it was refused, and nothing was made; with `no_answer` send it again with this key.
        """
        request = Request("POST", _PATH, json=order, headers={"Idempotency-Key": key})
        return cast("Accepted", (await self._caller.send(request)).document)

    async def get(self, order_id: str) -> Order:
        """One order.

        Raises:
            ApiProblem: `order_not_found`, also for one of somebody else.
        """
        return cast("Order", (await self._caller.send(Request("GET", _of(order_id)))).document)

    async def list(
        self, *, phase: str | None = None, limit: int | None = None, cursor: str | None = None
    ) -> OrderPage:
        """A page of orders; `next` of the last one is the cursor of the following.

        Raises:
            ApiProblem: `invalid_cursor`, `cursor_expired`, `validation_failed`.
        """
        wanted = {"phase": phase, "limit": limit, "cursor": cursor}
        query = {name: value for name, value in wanted.items() if value is not None}
        return cast("OrderPage", (await self._caller.send(Request("GET", _PATH, query))).document)

    async def cancel(self, order_id: str) -> Order:
        """Have it undone; asking twice is asking once.

        Raises:
            ApiProblem: `too_late_to_cancel`, `already_finished`, `order_not_found`.
        """
        request = Request("POST", f"{_of(order_id)}/cancel", is_harmless=True)
        return cast("Order", (await self._caller.send(request)).document)

    async def watch(self, order_id: str, *, every: float = 1.0) -> AsyncIterator[Order]:
        """The order as it is, and again whenever it has changed, until nothing more will happen.

        Args:
            every: How many seconds lie between two looks.

        Raises:
            ApiProblem: `order_not_found`.
        """
        headers: dict[str, str] = {}
        while True:
            answer = await self._caller.send(Request("GET", _of(order_id), headers=headers))
            if answer.status != 304:
                order = cast("Order", answer.document)
                yield order
                if order["phase"] in FINISHED:
                    return
                headers = {"If-None-Match": answer.headers["ETag"]}
            await asyncio.sleep(every)


def _of(order_id: str) -> str:
    return f"{_PATH}/{quote(order_id, safe='')}"
