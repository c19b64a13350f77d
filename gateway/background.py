"""Background work of the gateway, beside the requests."""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager, suppress
from typing import Any

import structlog

log = structlog.get_logger(__name__)


@asynccontextmanager
async def running(name: str, work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Run `work` as a task until the end of the block; then cancel it and wait for its end."""
    task = asyncio.create_task(_run(name, work), name=name)
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def _run(name: str, work: Coroutine[Any, Any, None]) -> None:
    """Log a failure: nothing awaits the task before the block ends."""
    try:
        await work
    except Exception:
        log.exception("background work failed", work=name)
