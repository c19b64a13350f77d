"""Orders: place, read, list, follow, cancel."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from datetime import datetime
from typing import Any, cast
from urllib.parse import quote

from orderplane.client.accounts import Caller
from orderplane.client.responses import Accepted, Order, OrderPage, Timeline
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

    async def timeline(self, order_id: str) -> Timeline:
        """What happened to an order.

        Raises:
            ApiProblem: `order_not_found`, also for one of somebody else.
        """
        request = Request("GET", f"{_of(order_id)}/timeline")
        return cast("Timeline", (await self._caller.send(request)).document)

    async def list(
        self,
        *,
        phase: str | None = None,
        sku: str | None = None,
        created_after: datetime | None = None,
        created_before: datetime | None = None,
        limit: int | None = None,
        cursor: str | None = None,
    ) -> OrderPage:
        """A page of orders; `next` of the last one is the cursor of the following, with the same filters.

        A page may have none and not be the last: go on until `next` is None.

        Args:
            sku: Only those that have this product.
            created_after: Only those of then or later; with a time zone, as `created_before`.

        Raises:
            ApiProblem: `invalid_cursor`, `cursor_expired`, `validation_failed`.
        """
        query = {
            "phase": phase,
            "sku": sku,
            "createdAfter": created_after.isoformat() if created_after else None,
            "createdBefore": created_before.isoformat() if created_before else None,
            "limit": limit,
            "cursor": cursor,
        }
        return cast("OrderPage", (await self._caller.send(Request("GET", _PATH, query))).document)

    async def cancel(self, order_id: str) -> Order:
        """Have it undone; asking twice is asking once.

        Raises:
            ApiProblem: `too_late_to_cancel`, `already_finished`, `order_not_found`.
        """
        request = Request("POST", f"{_of(order_id)}/cancel", is_idempotent=True)
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
