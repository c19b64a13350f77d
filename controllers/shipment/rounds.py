"""Go the carrier's rounds: what is done for many parcels at a time, apart from any one Shipment."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta

import structlog

from orderplane.ledgers.errors import GateClosed, Refused, Transient

log = structlog.get_logger(__name__)


async def go_rounds(step: Callable[[], Awaitable[bool]], pause: timedelta) -> None:
    """Repeat `step` until cancelled, at once while it answers True, else after `pause`."""
    while True:
        try:
            is_busy = await step()
        except (Transient, Refused, GateClosed) as problem:
            log.warning("the carrier's round failed", why=str(problem))
            is_busy = False
        except Exception:
            # One bad answer must not stop the rounds for every other parcel.
            log.exception("the carrier's round failed")
            is_busy = False
        if not is_busy:
            await asyncio.sleep(pause.total_seconds())
