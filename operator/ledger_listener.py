"""LISTEN to PostgreSQL for ledgers that another process has changed: a recount, a settlement by hand."""

import asyncio
import contextlib
from typing import TypedDict

import asyncpg
import orjson
import structlog

from orderplane.crds.meta import Kind
from orderplane.operator.wiring import CHILD_KINDS, Operator

log = structlog.get_logger(__name__)

CHANNEL = "ledger"

_LOST = (
    OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError,
)  # fmt: skip


class _Notification(TypedDict):
    """The JSON payload of a NOTIFY; `order` is None for a Reservation without an order."""

    merchant: str
    child: str
    order: str | None


async def listen_to_ledgers(dsn: str, operator: Operator) -> None:
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
            await connection.add_listener(CHANNEL, lambda *args: _on_notify(operator, args[3]))
            await gone.wait()
        except _LOST as problem:
            log.warning("lost the connection that listens to the ledgers", why=str(problem))
            await asyncio.sleep(1)
        finally:
            with contextlib.suppress(Exception):
                await connection.close(timeout=2)


def _on_notify(operator: Operator, payload: str) -> None:
    changed: _Notification = orjson.loads(payload)
    for kind in CHILD_KINDS:
        operator.enqueue(kind, (changed["merchant"], changed["child"]))
    if order := changed.get("order"):
        operator.enqueue(Kind.ORDER, (changed["merchant"], order))
