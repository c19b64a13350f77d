"""Have twenty processes on two cores take turns, instead of pushing each other aside."""

import contextlib
import os
import sys


def take_turns() -> None:
    """Run this process, and those that it starts from now on, as batch work (`SCHED_BATCH`).

    Who is woken then waits for whoever works to use up its slice. In a plane everybody wakes somebody with
    each request, some 20,000 times a second, and caches grow cold each time: see `docs/performance.md`. It
    needs no privilege, and does nothing where the system has no such thing or does not allow it.
    Source: https://man7.org/linux/man-pages/man7/sched.7.html
    """
    if sys.platform == "linux":
        with contextlib.suppress(OSError):
            os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
