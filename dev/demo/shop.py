"""Place orders as customers do, and follow them until they are finished."""

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any

from orderplane.adapters.kubernetes.client import ApiClient, Json
from orderplane.client.client import Client
from orderplane.client.transport import ApiProblem, Transport, connect
from orderplane.crds.api_errors import ApiError
from orderplane.crds.meta import Kind
from orderplane.crds.order import FINISHED
from orderplane.dev.demo.customers import Customer, arrive
from orderplane.dev.demo.mix import Case, Story
from orderplane.dev.demo.products import MERCHANT, RECOUNTED
from orderplane.ledgers.postgres.inventory import recount
from orderplane.ledgers.postgres.session import Pool, session

_SECONDS = 30.0
_PATIENCE = 300.0
"""Seconds for which a request is retried: the chaos tests place orders while processes restart."""

_HAS_PAID = """
SELECT EXISTS (
    SELECT FROM reservation_lines l
    JOIN reservations r ON r.merchant = l.merchant AND r.holder = l.holder AND r.state = 'Pinned'
    JOIN payments p ON p.merchant = l.merchant AND p.order_uid = l.holder AND p.state = 'Captured'
    WHERE l.merchant = $1 AND l.sku = $2
)
"""


@dataclass(slots=True)
class Placed:
    """One order with its current state."""

    case: Case
    name: str = ""
    placed_at: float = 0.0
    accepted_at: float = 0.0
    ended_at: float | None = None
    phase: str = "Pending"
    reason: str | None = None
    was_too_late: bool = False
    problem: str | None = None
    order: Json = field(default_factory=dict)

    @property
    def expected(self) -> str:
        """The phase in which it must end; a cancellation that came too late changes nothing."""
        return "Delivered" if self.was_too_late else self.case.end

    @property
    def is_finished(self) -> bool:
        """It is in a final phase, or was refused."""
        return self.phase in FINISHED or self.problem is not None

    @property
    def is_as_expected(self) -> bool:
        """It ended in the expected phase for the expected reason."""
        if self.problem is not None or self.phase != self.expected:
            return False
        return self.was_too_late or self.case.reason is None or self.reason == self.case.reason


class Shop:
    """The customers of one run and their orders.

    Args:
        gateway: The URL of the gateway.
        rate: Orders per second; None places them as fast as the gateway takes them.
    """

    def __init__(self, gateway: str, api: ApiClient, pool: Pool, *, rate: float | None = 20.0) -> None:
        self._gateway = gateway
        self._api = api
        self._pool = pool
        self._rate = rate
        self._customers: list[Customer] = []
        self.placed: list[Placed] = []

    @property
    def is_finished(self) -> bool:
        """Every order is finished."""
        return all(placed.is_finished for placed in self.placed)

    def phases(self) -> Counter[str]:
        """How many orders are in which phase."""
        return Counter("refused" if placed.problem else placed.phase for placed in self.placed)

    async def open(self) -> None:
        """Log the customers in, once.

        Raises:
            ApiProblem: the gateway refused a login.
        """
        if not self._customers:
            async with self._connect() as transport:
                self._customers = await arrive(transport, self._pool)

    async def place_all(self, cases: Sequence[Case]) -> None:
        """Place every order, cancel those that are to be cancelled, and recount the stock of `RECOUNTED`."""
        await self.open()
        self.placed = [Placed(case) for case in cases]
        async with self._connect() as transport, asyncio.TaskGroup() as group:
            victims = [placed for placed in self.placed if placed.case.story is Story.RECOUNTED]
            group.create_task(self._recount_each(transport, victims))
            started = time.monotonic()
            others = [placed for placed in self.placed if placed.case.story is not Story.RECOUNTED]
            for number, placed in enumerate(others):
                if self._rate:
                    await asyncio.sleep(max(0.0, started + number / self._rate - time.monotonic()))
                group.create_task(self._place(transport, placed))

    async def watch(self, seconds: float, on_look: Callable[[], Awaitable[None] | None]) -> bool:
        """Poll until every order is finished; returns False after `seconds`."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            try:
                await self.look()
            except ApiError:
                # The API server may be restarting.
                await asyncio.sleep(1)
            on_look()
            if self.placed and self.is_finished:
                return True
            await asyncio.sleep(0.4)
        return False

    async def look(self) -> None:
        """Read the status of every order."""
        by_name = {placed.name: placed for placed in self.placed if placed.name}
        token: str | None = None
        while True:
            page = await self._api.list_page(Kind.ORDER, MERCHANT, continue_token=token)
            for order in page.items:
                placed = by_name.get(order["metadata"]["name"])
                if placed is not None:
                    self._note(placed, order)
            token = page.continue_token
            if token is None:
                break

    def _note(self, placed: Placed, order: Json) -> None:
        status: dict[str, Any] = order.get("status", {})
        placed.order = order
        placed.phase = status.get("phase", "Pending")
        placed.reason = status.get("reason")
        conditions = {c["type"]: c for c in status.get("conditions", ())}
        late = conditions.get("Cancelled")
        if late is not None and late["reason"] == "AlreadyInTransit":
            placed.was_too_late = True
        if placed.phase in FINISHED and placed.ended_at is None:
            placed.ended_at = time.monotonic()

    def _connect(self) -> AbstractAsyncContextManager[Transport]:
        return connect(self._gateway, seconds=_SECONDS, retry_seconds=_PATIENCE)

    async def _place(self, transport: Transport, placed: Placed) -> None:
        client = self._customers[placed.case.number % len(self._customers)].client(transport)
        placed.placed_at = time.monotonic()
        try:
            accepted = await client.orders.create(placed.case.body, key=placed.case.key)
        except ApiProblem as problem:
            placed.problem = f"{problem.status} {problem}"
            return
        placed.name = accepted["id"]
        placed.accepted_at = time.monotonic()
        if placed.case.cancel_after is not None:
            await asyncio.sleep(placed.case.cancel_after)
            await self._cancel(client, placed)

    async def _cancel(self, client: Client, placed: Placed) -> None:
        try:
            await client.orders.cancel(placed.name)
        except ApiProblem as problem:
            if problem.status == 409:
                placed.was_too_late = True
            else:
                placed.problem = f"{problem.status} {problem}"

    async def _recount_each(self, transport: Transport, victims: Sequence[Placed]) -> None:
        """One after the other: when an order has paid and waits for its label, a recount finds no stock.

        No other order has this product, so that no other order loses its stock.
        """
        for placed in victims:
            await self._place(transport, placed)
            while not placed.is_finished and not await self._has_paid():  # noqa: ASYNC110
                await asyncio.sleep(0.1)
            await recount(self._pool, MERCHANT, RECOUNTED, 0, note="nothing found")
            await recount(self._pool, MERCHANT, RECOUNTED, len(victims), note="delivery")

    async def _has_paid(self) -> bool:
        async with session(self._pool) as connection:
            return bool(await connection.fetchval(_HAS_PAID, MERCHANT, RECOUNTED))
