"""Wait for an event, and try again what failed."""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import TypeVar

T = TypeVar("T")

FIRST_PAUSE, LONGEST_PAUSE = 0.2, 5.0
"""Seconds between two attempts; the pause doubles after each failure."""


class Stopped(Exception):  # noqa: N818
    """The process was asked to stop before an attempt succeeded."""


def pauses(first: float = FIRST_PAUSE, longest: float = LONGEST_PAUSE) -> Iterator[float]:
    """Pauses in seconds, each twice the one before, up to `longest`. Without end."""
    pause = first
    while True:
        yield pause
        pause = min(longest, pause * 2)


async def wait_for_event(event: asyncio.Event, timeout: float) -> bool:  # noqa: ASYNC109
    """Wait for an event, but not longer than `timeout` seconds. Returns whether it is set."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(timeout):
            await event.wait()
    return event.is_set()


async def retry_until_stopped(
    attempt: Callable[[], Awaitable[T]],
    *,
    on: tuple[type[Exception], ...],
    stopping: asyncio.Event,
    on_failure: Callable[[Exception], None],
) -> T:
    """Run `attempt` until it succeeds, with growing pauses between failures.

    An attempt may also be a session that lasts: after one that ran longer than the longest pause, the pauses
    begin anew. A running attempt is not cancelled when `stopping` is set.

    Args:
        on: Exceptions that are worth another attempt; all others are raised.
        on_failure: Called with each of these exceptions, to log or count it.

    Raises:
        Stopped: `stopping` was set before an attempt succeeded.
    """
    delays = pauses()
    while not stopping.is_set():
        began = time.monotonic()
        try:
            return await attempt()
        except on as problem:
            on_failure(problem)
        if time.monotonic() - began > LONGEST_PAUSE:
            delays = pauses()
        await wait_for_event(stopping, next(delays))
    raise Stopped
