"""The halves of a process: its long-running tasks. None of them ends, or stands still, without a word.

`asyncio.TaskGroup` ignores a child that ends as cancelled, and a library can cancel its caller by mistake
(aiokafka's `stop()` does). So each half is watched here: one that ends before it was told to ends the
process, and one that makes no progress is named by /healthz.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import structlog
from prometheus_client import Gauge

log = structlog.get_logger(__name__)

SILENT = Gauge(
    "orderplane_half_silent_seconds", "Time since a half of this process last made progress.", ["half"]
)

PATIENCE_SECONDS = 120.0
"""Longer than every time-out of one round of a half together."""

Beat = Callable[[], None]
"""To be called by a half after each step, also when it waits for work or for a dependency that is away."""


@dataclass(frozen=True, slots=True)
class Half:
    """One long-running task of a process.

    Args:
        name: In logs, probes and metrics.
        work: Runs until it is told to finish, or else until it is cancelled.
        finish: Tells it to finish what is in hand; a half without it is cancelled.
        silence: Seconds for which it has been busy with one thing, for a half that does many at a time and
            does not beat.
        patience: Seconds of silence after which it counts as stuck.
    """

    name: str
    work: Callable[[Beat], Coroutine[Any, Any, None]]
    finish: Callable[[], None] | None = None
    silence: Callable[[], float] | None = None
    patience: float = PATIENCE_SECONDS


class Halves:
    """The halves that run now.

    Args:
        stopping: Set when the process is to stop. It is set here when a half ends before that.
    """

    def __init__(self, stopping: asyncio.Event) -> None:
        self._stopping = stopping
        self._running: dict[str, Half] = {}
        self._beats: dict[str, float] = {}
        self.has_failed = False

    @property
    def stuck(self) -> dict[str, float]:
        """The halves that make no progress, and their seconds of silence."""
        silences = {name: self._silence(name) for name in self._running}
        return {name: seconds for name, seconds in silences.items() if seconds > self._running[name].patience}

    @asynccontextmanager
    async def running(self, *halves: Half, drain_seconds: float = 0.0) -> AsyncIterator[None]:
        """Run halves beside the block; at its end they are told to finish, and later they are cancelled.

        A half that ends before is logged and sets `stopping`. A failure is logged whenever it comes.
        """
        # No half runs before all tasks exist: Kopf leaves alone what it finds at its own start.
        tasks = {self._start(half): half for half in halves}
        try:
            yield
        finally:
            for task, half in tasks.items():
                if task.done():
                    continue
                task.remove_done_callback(self._report_end)
                task.add_done_callback(self._report_failure)
                if half.finish is None:
                    task.cancel()
                else:
                    half.finish()
            late = set(tasks)
            if drain_seconds and late:
                _, late = await asyncio.wait(late, timeout=drain_seconds)
            for task in late:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            for half in halves:
                self._forget(half)

    def _start(self, half: Half) -> asyncio.Task[None]:
        self._running[half.name] = half
        beat = partial(self._beat, half.name)
        beat()
        SILENT.labels(half.name).set_function(partial(self._silence, half.name))
        task = asyncio.create_task(half.work(beat), name=half.name)
        task.add_done_callback(self._report_end)
        return task

    def _beat(self, name: str) -> None:
        self._beats[name] = time.monotonic()

    def _silence(self, name: str) -> float:
        half = self._running.get(name)
        if half is None:
            return 0.0
        return half.silence() if half.silence is not None else time.monotonic() - self._beats[name]

    def _forget(self, half: Half) -> None:
        self._running.pop(half.name, None)
        self._beats.pop(half.name, None)
        SILENT.remove(half.name)

    def _report_end(self, task: asyncio.Task[None]) -> None:
        problem = None if task.cancelled() else task.exception()
        if self._stopping.is_set() and problem is None:
            return
        how = "cancelled by a library" if task.cancelled() else repr(problem) if problem else "returned"
        log.error(
            "a half ended before it was told to; the process ends",
            half=task.get_name(),
            why=how,
            exc_info=problem,
        )
        self.has_failed = True
        self._stopping.set()

    def _report_failure(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (problem := task.exception()) is not None:
            log.error("a half failed while it finished", half=task.get_name(), exc_info=problem)
            self.has_failed = True
