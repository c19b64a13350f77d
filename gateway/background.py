"""Work that goes on beside the requests, for as long as the front door is open."""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager, suppress
from typing import Any

import structlog

log = structlog.get_logger(__name__)


@asynccontextmanager
async def running(name: str, work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Have `work` done while the block runs; then it is cancelled, and its end waited for."""
    task = asyncio.create_task(_told(name, work), name=name)
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def _told(name: str, work: Coroutine[Any, Any, None]) -> None:
    """Nobody waits for it, so nobody else would see it fail."""
    try:
        await work
    except Exception:
        log.exception("background work has ended", work=name)
