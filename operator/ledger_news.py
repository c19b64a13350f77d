"""Hear from PostgreSQL when somebody else changed a ledger: a recount, a settlement by hand."""

import asyncio
import contextlib

import asyncpg
import orjson
import structlog

from orderplane.crds.meta import Kind
from orderplane.operator.wiring import Operator

log = structlog.get_logger(__name__)

CHANNEL = "ledger"
"""The payload is JSON: `{"merchant", "order", "child"}`; `order` is missing for a Reservation alone."""

_LOST = (
    OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError,
)  # fmt: skip


async def follow_ledgers(dsn: str, operator: Operator) -> None:
    """LISTEN until cancelled; what is missed while disconnected is found by the resync."""
    while True:
        try:
            connection = await asyncpg.connect(dsn, timeout=10)
        except _LOST as problem:
            log.warning("cannot listen to the ledgers", why=str(problem))
            await asyncio.sleep(1)
            continue
        gone = asyncio.Event()
        connection.add_termination_listener(lambda *_: gone.set())  # noqa: B023
        try:
            await connection.add_listener(CHANNEL, lambda *args: _take(operator, args[3]))
            await gone.wait()
        except _LOST as problem:
            log.warning("lost the ledgers' news", why=str(problem))
            await asyncio.sleep(1)
        finally:
            with contextlib.suppress(Exception):
                await connection.close(timeout=2)


def _take(operator: Operator, payload: str) -> None:
    news = orjson.loads(payload)
    key = (news["merchant"], news["child"])
    for kind in (Kind.RESERVATION, Kind.PAYMENT, Kind.SHIPMENT):
        operator.wake(kind, key)
    if order := news.get("order"):
        operator.wake(Kind.ORDER, (news["merchant"], order))
