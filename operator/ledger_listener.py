"""LISTEN to PostgreSQL for ledgers that another process has changed: a recount, a settlement by hand."""

import asyncio
import contextlib
from functools import partial
from typing import TypedDict

import asyncpg
import orjson
import structlog

from orderplane.adapters.dependencies import NO_DATABASE
from orderplane.adapters.retry import retry
from orderplane.crds.meta import Kind
from orderplane.operator.wiring import CHILD_KINDS, Operator

log = structlog.get_logger(__name__)

CHANNEL = "ledger"
LONGEST_PAUSE = 1.0


class _Notification(TypedDict):
    """The JSON payload of a NOTIFY; `order` is None for a Reservation without an order."""

    merchant: str
    child: str
    order: str | None


async def listen_to_ledgers(dsn: str, operator: Operator) -> None:
    """LISTEN until cancelled; what is missed while disconnected is found by the resync."""
    await retry(
        partial(_listen, dsn, operator),
        on=NO_DATABASE,
        on_failure=lambda problem: log.warning("cannot listen to the ledgers; retrying", why=str(problem)),
        longest_pause=LONGEST_PAUSE,
    )


async def _listen(dsn: str, operator: Operator) -> None:
    connection = await asyncpg.connect(dsn, timeout=10)
    closed = asyncio.Event()
    connection.add_termination_listener(lambda *_: closed.set())
    try:
        await connection.add_listener(CHANNEL, lambda *args: _on_notify(operator, args[3]))
        await closed.wait()
    finally:
        with contextlib.suppress(Exception):
            await connection.close(timeout=2)
    raise ConnectionError("PostgreSQL has closed the connection")


def _on_notify(operator: Operator, payload: str) -> None:
    changed: _Notification = orjson.loads(payload)
    for kind in CHILD_KINDS:
        operator.enqueue(kind, (changed["merchant"], changed["child"]))
    if order := changed.get("order"):
        operator.enqueue(Kind.ORDER, (changed["merchant"], order))
