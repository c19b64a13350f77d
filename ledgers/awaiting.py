"""Answers that were asked for and have not come: who has to give them, and since when.

Whoever calls another system says so around the call. So a call that hangs is seen while it hangs, and not
only when its time-out is over.
"""

import itertools
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

TELL_SECONDS = 3.0
"""A call that has no answer after so long is told. Payment providers take up to two seconds for a charge."""


@dataclass(frozen=True, slots=True)
class Awaited:
    """One call that was begun.

    Args:
        whom: Who has to answer: postgres, kubernetes, kafka, or a provider as in its metrics.
        what: The operation.
        since: Monotonic seconds.
    """

    whom: str
    what: str
    since: float


@dataclass(slots=True)
class Caller:
    """One piece of work: the call that it waits for now, and the one before."""

    awaited: Awaited | None = None
    last: Awaited | None = None


_caller: ContextVar[Caller | None] = ContextVar("caller", default=None)
_open: dict[int, Awaited] = {}
_numbers = itertools.count()


@contextmanager
def awaiting(whom: str, what: str) -> Iterator[None]:
    """Say that an answer is awaited until the end of the block."""
    caller, number = _caller.get(), next(_numbers)
    awaited = _open[number] = Awaited(whom, what, time.monotonic())
    outer = caller.awaited if caller is not None else None
    if caller is not None:
        caller.awaited = awaited
    try:
        yield
    finally:
        del _open[number]
        if caller is not None:
            caller.awaited, caller.last = outer, awaited


@contextmanager
def calling(caller: Caller) -> Iterator[None]:
    """Have `caller` know what the work in the block waits for."""
    token = _caller.set(caller)
    try:
        yield
    finally:
        _caller.reset(token)


def oldest_awaited() -> dict[str, Awaited]:
    """By who has to answer, the call of this process that waits for longest."""
    found: dict[str, Awaited] = {}
    for awaited in _open.values():
        found.setdefault(awaited.whom, awaited)
    return found
