"""LISTEN to PostgreSQL, for as long as a process runs."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from functools import partial

import asyncpg
import structlog

from orderplane.adapters.halves import Beat
from orderplane.adapters.retry import retry, wait_for_event
from orderplane.adapters.retryable import POSTGRES

log = structlog.get_logger(__name__)

LONGEST_PAUSE = 1.0
CHECK_SECONDS = 15.0
"""A connection whose other end is gone says nothing, for hours. So it is asked now and then."""


async def listen(dsn: Callable[[], str], channel: str, on_payload: Callable[[str], None], beat: Beat) -> None:
    """Call `on_payload` with each notification, until cancelled.

    What is sent while the connection is lost is missed: the caller has to find it in another way.

    Args:
        dsn: Where to connect to; asked whenever that is done, and a new one is changed over to.
    """

    def note(problem: Exception) -> None:
        beat()
        log.warning("cannot listen to PostgreSQL; retrying", channel=channel, why=type(problem).__name__)

    await retry(
        partial(_listen, dsn, channel, on_payload, beat),
        on=POSTGRES,
        on_failure=note,
        longest_pause=LONGEST_PAUSE,
    )


async def _listen(
    dsn: Callable[[], str], channel: str, on_payload: Callable[[str], None], beat: Beat
) -> None:
    used = dsn()
    connection = await asyncpg.connect(used, timeout=10, command_timeout=10)
    closed = asyncio.Event()
    connection.add_termination_listener(lambda *_: closed.set())
    try:
        await connection.add_listener(channel, lambda *args: on_payload(str(args[3])))
        while not await wait_for_event(closed, CHECK_SECONDS):
            beat()
            if dsn() != used:
                raise ConnectionError("the DSN has changed")
            await connection.execute("SELECT 1")
    finally:
        with suppress(Exception):
            await connection.close(timeout=2)
    raise ConnectionError("PostgreSQL has closed the connection")
