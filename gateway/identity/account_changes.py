"""Tell every gateway at once of an account that has changed: NOTIFY in the transaction of the change.

What is missed while a gateway does not listen is found by `AccountCache.refresh`.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from functools import partial

import asyncpg
import orjson
import structlog

from orderplane.adapters.dependencies import NO_DATABASE
from orderplane.adapters.retry import retry
from orderplane.ledgers.postgres.session import Connection

log = structlog.get_logger(__name__)

CHANNEL = "account"
LONGEST_PAUSE = 1.0

OnChange = Callable[[str, str], None]
"""Gets the merchant and the id of a user or service."""


async def announce(connection: Connection, merchant: str, name: str) -> None:
    """Tell of a change of a user or service; it is sent when the transaction is committed."""
    await connection.execute("SELECT pg_notify($1, $2)", CHANNEL, orjson.dumps([merchant, name]).decode())


async def listen_for_changes(dsn: str, on_change: OnChange) -> None:
    """LISTEN until cancelled."""
    await retry(
        partial(_listen, dsn, on_change),
        on=NO_DATABASE,
        on_failure=lambda problem: log.warning(
            "cannot listen for changed accounts; retrying", why=type(problem).__name__
        ),
        longest_pause=LONGEST_PAUSE,
    )


async def _listen(dsn: str, on_change: OnChange) -> None:
    connection = await asyncpg.connect(dsn, timeout=10)
    closed = asyncio.Event()
    connection.add_termination_listener(lambda *_: closed.set())
    try:
        await connection.add_listener(CHANNEL, lambda *args: on_change(*orjson.loads(str(args[3]))))
        await closed.wait()
    finally:
        with suppress(Exception):
            await connection.close(timeout=2)
    raise ConnectionError("PostgreSQL has closed the connection")
