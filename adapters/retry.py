"""Wait for an event, and try again what failed."""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import TypeVar

T = TypeVar("T")

FIRST_PAUSE, LONGEST_PAUSE = 0.2, 5.0
"""Seconds between two attempts; the pause doubles after each failure."""


class LeakedCancellation(Exception):  # noqa: N818
    """A library ended the attempt with a CancelledError, although nobody had cancelled it."""


def is_being_cancelled() -> bool:
    """Whether somebody has asked for the end of this task: only then a CancelledError in it is meant."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


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


async def retry(
    attempt: Callable[[], Awaitable[T]],
    *,
    on: tuple[type[Exception], ...],
    on_failure: Callable[[Exception], None],
    stopping: asyncio.Event | None = None,
    longest_pause: float = LONGEST_PAUSE,
) -> T:
    """Run `attempt` until it succeeds, with growing pauses between failures.

    An attempt may also be a session that lasts: after one that ran longer than the longest pause, the pauses
    begin anew. A `LeakedCancellation` is tried again too.

    Args:
        on: Exceptions that are worth another attempt; all others are raised.
        on_failure: Called with each of these exceptions, to log or count it.
        stopping: When it is set, no further attempt is made. A running attempt is not cancelled.
        longest_pause: Seconds.

    Raises:
        Stopped: `stopping` was set before an attempt succeeded.
    """
    stopping = stopping or asyncio.Event()
    delays = pauses(longest=longest_pause)
    while not stopping.is_set():
        began = time.monotonic()
        try:
            return await attempt()
        except on as problem:
            on_failure(problem)
        except asyncio.CancelledError:
            if is_being_cancelled():
                raise
            on_failure(LeakedCancellation("a library cancelled its caller"))
        if time.monotonic() - began > longest_pause:
            delays = pauses(longest=longest_pause)
        await wait_for_event(stopping, next(delays))
    raise Stopped
