"""Orders: place, read, list, watch, cancel, refund."""

from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from datetime import datetime
from typing import Any, cast
from urllib.parse import quote

from orderplane.client.accounts import Caller
from orderplane.client.operation_responses import OrderMessages
from orderplane.client.order_stream import OrderChange, follow, follow_one
from orderplane.client.responses import Accepted, Order, OrderPage, Refund, Refunds, Timeline
from orderplane.client.transport import Request

FINISHED = frozenset({"Delivered", "Returned", "Failed", "Cancelled"})
"""The final phases."""

_PATH = "/api/orders"


class Orders:
    """The orders that the caller may see."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller

    async def create(self, order: Mapping[str, Any], *, key: str) -> Accepted:
        """Place an order.

        Args:
            order: The body of POST /api/orders.
            key: Idempotency key: with the same key there is at most one order.

        Raises:
            ApiProblem: it was refused and nothing was created; after `no_answer`, repeat it with this key.
        """
        request = Request("POST", _PATH, json=order, headers={"Idempotency-Key": key})
        return cast("Accepted", (await self._caller.send(request)).document)

    async def get(self, order_id: str, *, with_address: bool = False) -> Order:
        """One order.

        Raises:
            ApiProblem: `order_not_found`, also for an order of another customer; `insufficient_scope`: the
                caller may not see addresses.
        """
        query = {"expand": "address"} if with_address else {}
        return cast("Order", (await self._caller.send(Request("GET", _order_path(order_id), query))).document)

    async def timeline(self, order_id: str) -> Timeline:
        """The history of an order.

        Raises:
            ApiProblem: `order_not_found`, also for an order of another customer.
        """
        request = Request("GET", f"{_order_path(order_id)}/timeline")
        return cast("Timeline", (await self._caller.send(request)).document)

    async def list(
        self,
        *,
        phase: str | None = None,
        sku: str | None = None,
        customer: str | None = None,
        reference: str | None = None,
        reason: str | None = None,
        stalled: bool | None = None,
        created_after: datetime | None = None,
        created_before: datetime | None = None,
        limit: int | None = None,
        cursor: str | None = None,
    ) -> OrderPage:
        """A page of orders, the newest first; its `next` is the cursor of the following one, with the same
        filters.

        A page may be empty without being the last: go on until `next` is None.

        Args:
            sku: Only orders with this product.
            customer: Only orders of this customer.
            reference: Only orders with this number of the shop.
            stalled: Only orders that wait for a person, or only those that do not.
            created_after: Only orders placed at this time or later; with a time zone, as `created_before`.

        Raises:
            ApiProblem: `invalid_cursor`, `cursor_expired`, `validation_failed`.
        """
        query = _filters(phase, sku, customer, reference, stalled, created_after, created_before, reason)
        query |= {"limit": limit, "cursor": cursor}
        return cast("OrderPage", (await self._caller.send(Request("GET", _PATH, query))).document)

    async def cancel(self, order_id: str) -> Order:
        """Cancel an order; repeating it has no effect.

        Raises:
            ApiProblem: `too_late_to_cancel`, `already_finished`, `order_not_found`.
        """
        request = Request("POST", f"{_order_path(order_id)}/cancel", is_idempotent=True)
        return cast("Order", (await self._caller.send(request)).document)

    async def retry(self, order_id: str) -> Order:
        """Try an order at once that waits for a person.

        Raises:
            ApiProblem: `already_finished`, `order_not_found`.
        """
        request = Request("POST", f"{_order_path(order_id)}/retry", is_idempotent=True)
        return cast("Order", (await self._caller.send(request)).document)

    async def settle(self, order_id: str, *, reason: str, reference: str) -> str:
        """Record what a person settled outside of the providers; answers what that was.

        Raises:
            ApiProblem: `nothing_to_settle`, `order_not_found`.
        """
        body = {"reason": reason, "reference": reference}
        request = Request("POST", f"{_order_path(order_id)}/settlements", json=body)
        return cast("str", (await self._caller.send(request)).document["settled"])

    async def messages(self, order_id: str) -> OrderMessages:
        """The messages to its customer.

        Raises:
            ApiProblem: `order_not_found`.
        """
        request = Request("GET", f"{_order_path(order_id)}/messages")
        return cast("OrderMessages", (await self._caller.send(request)).document)

    async def refund(self, order_id: str, refund: Mapping[str, Any], *, key: str) -> Refund:
        """Give money back for an order that the carrier has.

        Args:
            refund: The body of POST /api/orders/{id}/refunds.
            key: Idempotency key: with the same key there is at most one refund.

        Raises:
            ApiProblem: `not_shipped`, `refund_refused`, `order_not_found`; after `no_answer`, repeat it with
                this key.
        """
        path = f"{_order_path(order_id)}/refunds"
        request = Request("POST", path, json=refund, headers={"Idempotency-Key": key})
        return cast("Refund", (await self._caller.send(request)).document)

    async def refunds(self, order_id: str) -> Refunds:
        """What was given back after the sale, or is to be.

        Raises:
            ApiProblem: `order_not_found`, also for an order of another customer.
        """
        request = Request("GET", f"{_order_path(order_id)}/refunds")
        return cast("Refunds", (await self._caller.send(request)).document)

    async def watch(self, order_id: str) -> AsyncGenerator[Order, None]:
        """The order, and again after each change, until a final phase.

        Raises:
            ApiProblem: `order_not_found`.
        """
        async with aclosing(follow_one(self._caller, f"{_order_path(order_id)}/watch")) as orders:
            async for order in orders:
                yield order
                if order["phase"] in FINISHED:
                    return

    def watch_all(
        self,
        *,
        phase: str | None = None,
        sku: str | None = None,
        customer: str | None = None,
        reference: str | None = None,
        stalled: bool | None = None,
        reason: str | None = None,
        created_after: datetime | None = None,
        created_before: datetime | None = None,
        limit: int | None = None,
    ) -> AsyncGenerator[OrderChange, None]:
        """The newest orders, and every change of all that match, without end; filters as of `list`.

        Args:
            limit: How many orders are shown before the changes; with 0 there are only changes.

        Raises:
            ApiProblem: `validation_failed`; `too_many_streams` and `overloaded` if they last.
        """
        query = _filters(phase, sku, customer, reference, stalled, created_after, created_before, reason) | {
            "limit": limit
        }
        return follow(self._caller, f"{_PATH}/watch", query)


def _filters(
    phase: str | None,
    sku: str | None,
    customer: str | None,
    reference: str | None,
    stalled: bool | None,
    created_after: datetime | None,
    created_before: datetime | None,
    reason: str | None = None,
) -> dict[str, str | int | None]:
    return {
        "phase": phase,
        "reason": reason,
        "sku": sku,
        "customer": customer,
        "reference": reference,
        "stalled": None if stalled is None else str(stalled).lower(),
        "createdAfter": created_after.isoformat() if created_after else None,
        "createdBefore": created_before.isoformat() if created_before else None,
    }


def _order_path(order_id: str) -> str:
    return f"{_PATH}/{quote(order_id, safe='')}"
