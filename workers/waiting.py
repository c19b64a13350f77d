"""How workers wait: for news, for their end, and for what failed to come back."""

import asyncio
import contextlib

FIRST_PAUSE, LONGEST_PAUSE = 0.2, 5.0
"""Seconds between the tries to get back something that was lost: doubled each time."""


async def happens(event: asyncio.Event, *, within: float) -> None:
    """Wait for an event, but not longer than `within` seconds."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(within):
            await event.wait()
