"""Orders at a steady rate through the Service, each request sent once: a failed one counts."""

import asyncio
import random
import time
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field

import aiohttp

from orderplane.client.transport import ApiProblem, Transport
from orderplane.dev.demo.customers import Customer, arrive
from orderplane.dev.demo.mix import Story, mix
from orderplane.dev.demo.products import MERCHANT
from orderplane.ledgers.postgres.session import Pool, session

_SECONDS = 30.0
_ONCE = 0.001
"""Seconds for which a request is retried: a second attempt would hide that the first one failed."""

_SHIPPED = """
SELECT name, extract(epoch FROM at)::float8 AS at FROM history WHERE merchant = $1 AND type = 'order.shipped'
"""


@dataclass(slots=True)
class Answers:
    """What became of the requests.

    Args:
        sent: How many there were.
        failed: Why each of those that failed did.
        seconds: How long each POST took.
        accepted: When each order was accepted, as Unix time.
    """

    sent: int = 0
    failed: list[str] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    accepted: dict[str, float] = field(default_factory=dict)


class SteadyLoad:
    """An async context manager: places `rate` orders a second until its end, and reads each `reads` times.

    Half of the customers use a new connection for every request, the other half keep theirs.
    """

    def __init__(self, gateway: str, pool: Pool, rate: float, reads: int = 1) -> None:
        self._gateway, self._pool, self._rate, self._reads = gateway, pool, rate, reads
        self._stack = AsyncExitStack()
        self._stop = asyncio.Event()
        self.answers = Answers()

    async def __aenter__(self) -> "SteadyLoad":
        transports = [await self._stack.enter_async_context(self._http(closes)) for closes in (False, True)]
        connections = [Transport(http, retry_seconds=_ONCE) for http in transports]
        customers = await arrive(connections[0], self._pool)
        self._work = asyncio.create_task(self._place(connections, customers), name="load")
        return self

    async def __aexit__(self, *_: object) -> None:
        self._stop.set()
        try:
            await self._work
        finally:
            await self._stack.aclose()

    def _http(self, closes: bool) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            self._gateway,
            timeout=aiohttp.ClientTimeout(total=_SECONDS),
            connector=aiohttp.TCPConnector(limit=256, force_close=closes),
        )

    async def _place(self, connections: list[Transport], customers: list[Customer]) -> None:
        seed, number, started = random.getrandbits(32), 0, time.monotonic()
        async with asyncio.TaskGroup() as group:
            while not self._stop.is_set():
                [case] = mix(1, seed + number, stories={Story.GOOD: 1})
                transport, customer = connections[number % 2], customers[number % len(customers)]
                group.create_task(self._one(transport, customer, case.key, case.body))
                number += 1
                await asyncio.sleep(max(0.0, started + number / self._rate - time.monotonic()))

    async def _one(self, transport: Transport, customer: Customer, key: str, body: dict[str, object]) -> None:
        orders = customer.client(transport).orders
        try:
            started = time.monotonic()
            self.answers.sent += 1
            accepted = await orders.create(body, key=key)
            self.answers.seconds.append(time.monotonic() - started)
            self.answers.accepted[accepted["id"]] = time.time()
            for _ in range(self._reads):
                self.answers.sent += 1
                await orders.get(accepted["id"])
        except ApiProblem as problem:
            self.answers.failed.append(f"{problem.status} {problem}")


async def seconds_to_ship(pool: Pool, accepted: Mapping[str, float]) -> dict[str, float]:
    """Seconds from its answer to its label, of each order that has one."""
    async with session(pool) as connection:
        rows = await connection.fetch(_SHIPPED, MERCHANT)
    return {row["name"]: row["at"] - accepted[row["name"]] for row in rows if row["name"] in accepted}
