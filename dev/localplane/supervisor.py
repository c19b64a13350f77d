"""Start programs, restart those that end, stop all of them.

Each program has a session of its own, so that Ctrl-C reaches only the supervisor. The kernel kills it if the
supervisor dies first (PR_SET_PDEATHSIG).
"""

import asyncio
import contextlib
import ctypes
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import structlog

from orderplane.dev.localplane.tools import tail_of

log = structlog.get_logger(__name__)

_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None, use_errno=True)
_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 5.0


class StartFailed(Exception):  # noqa: N818
    """A program did not become ready; the message holds the end of its log."""


@dataclass(frozen=True, slots=True)
class Component:
    """One program.

    Args:
        is_ready: Returns whether it is ready; may raise OSError while it does not listen.
        user: Run as this uid; None means as this process.
        stop_timeout: Seconds between `stop_signal` and SIGKILL.
        start_timeout: Seconds until it must be ready.
        stop_signal: The signal that asks it to end.
    """

    name: str
    command: tuple[str, ...]
    is_ready: Callable[[], Awaitable[bool]]
    env: Mapping[str, str] = field(default_factory=dict)
    user: int | None = None
    stop_timeout: float = 5.0
    start_timeout: float = 60.0
    stop_signal: signal.Signals = signal.SIGTERM


class _Running:
    """One component and its current process."""

    def __init__(self, component: Component) -> None:
        self.component = component
        self.process: asyncio.subprocess.Process | None = None
        self.keeper: asyncio.Task[None] | None = None
        self.should_run = False
        self.was_killed = False
        self.cpu_before = 0.0
        self.cpu_now = 0.0
        self.restarts = 0


class Supervisor:
    """Runs components. An async context manager, which stops them at the end, the last started first.

    Args:
        logs: The folder of the log files, one for each component.
        on_change: Called after a process was started or has ended.
    """

    def __init__(self, logs: Path, on_change: Callable[[], None] = lambda: None) -> None:
        logs.mkdir(parents=True, exist_ok=True)
        self._logs = logs
        self._running: dict[str, _Running] = {}
        self._on_change = on_change

    async def __aenter__(self) -> "Supervisor":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    @property
    def names(self) -> list[str]:
        """All components that were started, in that order."""
        return list(self._running)

    def component(self, name: str) -> Component:
        """What was started by this name."""
        return self._running[name].component

    def log_of(self, name: str) -> Path:
        """The log file of a component."""
        return self._logs / f"{name}.log"

    def pid(self, name: str) -> int | None:
        """The pid of its process; None while it is down."""
        process = self._running[name].process
        return process.pid if process and process.returncode is None else None

    def restarts(self, name: str) -> int:
        """How often it was restarted because it ended by itself."""
        return self._running[name].restarts

    def cpu_seconds(self, name: str) -> float:
        """User and system time of this component, earlier processes included.

        Measured by this call and before `stop` and `kill`. If a process ends by itself, its time since the
        last measurement is lost.
        """
        running = self._running[name]
        self._measure(running)
        return running.cpu_before + running.cpu_now

    async def start(self, component: Component | str) -> None:
        """Start one and wait until it is ready.

        Raises:
            StartFailed: it is not ready after `start_timeout`.
        """
        if isinstance(component, str):
            component = self._running[component].component
        running = self._running.setdefault(component.name, _Running(component))
        running.component = component
        if not running.should_run:
            running.should_run = True
            await self._spawn(running)
            running.keeper = asyncio.create_task(self._keep(running))
        await self.wait_ready(component.name)

    async def wait_ready(self, name: str) -> None:
        """Wait until a component is ready; raises StartFailed as `start` does."""
        component = self._running[name].component
        deadline = time.monotonic() + component.start_timeout
        while time.monotonic() < deadline:
            if self.pid(name) is not None and await self.is_ready(name):
                return
            await asyncio.sleep(0.05)
        raise StartFailed(
            f"{name} is not ready after {component.start_timeout:g} s; the end of {self.log_of(name)}:\n"
            f"{tail_of(self.log_of(name))}"
        )

    async def is_ready(self, name: str) -> bool:
        """Whether it is ready now."""
        try:
            async with asyncio.timeout(3):
                return await self._running[name].component.is_ready()
        except (OSError, TimeoutError):
            return False

    async def kill(self, name: str) -> None:
        """Send SIGKILL, to simulate a crash. The supervisor restarts it at once."""
        running = self._running[name]
        process = running.process
        if process is not None and process.returncode is None:
            self._measure(running)
            running.was_killed = True
            process.kill()
            await process.wait()

    async def stop(self, name: str) -> None:
        """Stop it; it stays down until `start`."""
        running = self._running.get(name)
        if running is None or not running.should_run:
            return
        running.should_run = False
        process = running.process
        if process is not None and process.returncode is None:
            self._measure(running)
            process.send_signal(running.component.stop_signal)
            try:
                await asyncio.wait_for(process.wait(), running.component.stop_timeout)
            except TimeoutError:
                process.kill()
                await process.wait()
        if running.keeper is not None:
            running.keeper.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await running.keeper
        self._record_end(running)

    async def restart(self, name: str) -> None:
        """Stop, start, and wait until it is ready."""
        await self.stop(name)
        await self.start(name)

    async def close(self) -> None:
        """Stop everything, the last started first."""
        for name in reversed(self._running):
            await self.stop(name)

    async def _spawn(self, running: _Running) -> None:
        component = running.component
        with self.log_of(component.name).open("ab") as output:
            running.process = await asyncio.create_subprocess_exec(
                *component.command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={**os.environ, **component.env},
                start_new_session=True,
                user=component.user,
                preexec_fn=_kill_with_parent,
            )
        self._on_change()

    async def _keep(self, running: _Running) -> None:
        pause = _FIRST_PAUSE
        while running.should_run:
            assert running.process is not None
            started = time.monotonic()
            code = await running.process.wait()
            self._record_end(running)
            # Exponential backoff, but only for a program that keeps ending by itself.
            is_old = time.monotonic() - started > 10
            pause = _FIRST_PAUSE if is_old or running.was_killed else min(_LONGEST_PAUSE, pause * 2)
            running.was_killed = False
            if await self._wait_and_check(running, pause):
                log.warning("restarting", component=running.component.name, code=code)
                running.restarts += 1
                await self._spawn(running)

    async def _wait_and_check(self, running: _Running, pause: float) -> bool:
        if running.should_run:
            await asyncio.sleep(pause)
        return running.should_run

    def _record_end(self, running: _Running) -> None:
        running.cpu_before += running.cpu_now
        running.cpu_now = 0.0
        self._on_change()

    def _measure(self, running: _Running) -> None:
        process = running.process
        if process is None or process.returncode is not None:
            return
        with contextlib.suppress(psutil.Error):
            parent = psutil.Process(process.pid)
            total = 0.0
            for member in (parent, *parent.children(recursive=True)):
                with contextlib.suppress(psutil.Error):
                    times = member.cpu_times()
                    total += times.user + times.system
            # children_user and children_system hold the time of children that were waited for.
            ended = parent.cpu_times()
            running.cpu_now = max(running.cpu_now, total + ended.children_user + ended.children_system)


def _kill_with_parent() -> None:
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def use_batch_scheduling() -> None:
    """Run this process, and those that it starts from now on, with the scheduling policy SCHED_BATCH.

    With it, a process that wakes up does not preempt the running one. On a plane, twenty processes on few
    cores wake each other 20,000 times a second, and each preemption evicts CPU caches: see
    `docs/performance-trials.md`. Needs no privilege. Does nothing on other systems, or if not permitted.
    Source: https://man7.org/linux/man-pages/man7/sched.7.html
    """
    if sys.platform == "linux":
        with contextlib.suppress(OSError):
            os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
