"""Drop idempotency keys whose time is over, a batch at a time."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import structlog

from orderplane.adapters.postgres.idempotency import PostgresIdempotency
from orderplane.controllers.errors import Transient

PERIOD_SECONDS = 600.0

log = structlog.get_logger(__name__)


@asynccontextmanager
async def purging(keys: PostgresIdempotency) -> AsyncIterator[None]:
    """Purge now and then while the block runs."""
    task = asyncio.create_task(_purge(keys), name="purge-idempotency")
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def _purge(keys: PostgresIdempotency) -> None:
    while True:
        await asyncio.sleep(PERIOD_SECONDS)
        try:
            dropped = await keys.purge()
        except Transient as problem:
            log.warning("idempotency keys not purged, it is tried again", detail=problem.message)
        else:
            log.info("idempotency keys purged", dropped=dropped)
