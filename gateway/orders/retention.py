"""Drop idempotency keys whose time is over, a batch at a time."""

import asyncio

import structlog

from orderplane.ledgers.errors import Transient
from orderplane.ledgers.postgres.idempotency import PostgresIdempotency

PERIOD_SECONDS = 600.0

log = structlog.get_logger(__name__)


async def purge(keys: PostgresIdempotency) -> None:
    """Purge now and then, until cancelled."""
    while True:
        await asyncio.sleep(PERIOD_SECONDS)
        try:
            dropped = await keys.purge()
        except Transient as problem:
            log.warning("idempotency keys not purged, it is tried again", detail=problem.message)
        else:
            log.info("idempotency keys purged", dropped=dropped)
