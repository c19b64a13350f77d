"""Start programs in order, keep them running, stop them all.

Every program gets a session of its own, so that Ctrl-C reaches the supervisor alone, and is killed by
the kernel should the supervisor die first.
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
    """A program did not become ready; the message has the end of its log."""


@dataclass(frozen=True, slots=True)
class Component:
    """One program.

    Args:
        is_ready: Asks it; may raise OSError while it is not there yet.
        user: The numeric user it runs as, where that is not ours.
        grace: Seconds between SIGTERM and SIGKILL.
        patience: Seconds it may take to become ready.
        stop_signal: What asks it to end.
    """

    name: str
    command: tuple[str, ...]
    is_ready: Callable[[], Awaitable[bool]]
    env: Mapping[str, str] = field(default_factory=dict)
    user: int | None = None
    grace: float = 5.0
    patience: float = 60.0
    stop_signal: signal.Signals = signal.SIGTERM


class _Running:
    """One component with the process that it is now."""

    def __init__(self, component: Component) -> None:
        self.component = component
        self.process: asyncio.subprocess.Process | None = None
        self.keeper: asyncio.Task[None] | None = None
        self.is_wanted = False
        self.is_killed = False
        self.cpu_before = 0.0
        self.cpu_now = 0.0
        self.restarts = 0


class Supervisor:
    """Runs components; an async context manager whose end stops them, the last started first.

    Args:
        logs: A folder for one log file each.
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
        """What was ever started, in that order."""
        return list(self._running)

    def log_of(self, name: str) -> Path:
        """Where a component's output goes."""
        return self._logs / f"{name}.log"

    def pid(self, name: str) -> int | None:
        """The process it is now; None while it is down."""
        process = self._running[name].process
        return process.pid if process and process.returncode is None else None

    def restarts(self, name: str) -> int:
        """How often it had to be started again without being asked."""
        return self._running[name].restarts

    def cpu_seconds(self, name: str) -> float:
        """User and system time of this component so far, earlier processes of it included.

        A process is measured when it is asked for and before it is ended here; what one that ended by itself
        has used since then is lost. To look every other second would cost more than it tells.
        """
        running = self._running[name]
        self._measure(running)
        return running.cpu_before + running.cpu_now

    async def start(self, component: Component | str) -> None:
        """Start one and wait until it is ready.

        Raises:
            StartFailed: it ended again and again, or took too long.
        """
        if isinstance(component, str):
            component = self._running[component].component
        running = self._running.setdefault(component.name, _Running(component))
        running.component = component
        if not running.is_wanted:
            running.is_wanted = True
            await self._spawn(running)
            running.keeper = asyncio.create_task(self._keep(running))
        await self.wait_ready(component.name)

    async def wait_ready(self, name: str) -> None:
        """Wait until a component answers; raises StartFailed as `start` does."""
        component = self._running[name].component
        deadline = time.monotonic() + component.patience
        while time.monotonic() < deadline:
            if self.pid(name) is not None and await self.is_ready(name):
                return
            await asyncio.sleep(0.05)
        raise StartFailed(
            f"{name} is not ready after {component.patience:g} s; the end of {self.log_of(name)}:\n"
            f"{tail_of(self.log_of(name))}"
        )

    async def is_ready(self, name: str) -> bool:
        """Ask it now."""
        try:
            async with asyncio.timeout(3):
                return await self._running[name].component.is_ready()
        except (OSError, TimeoutError):
            return False

    async def kill(self, name: str) -> None:
        """SIGKILL, as a crash would; it is started again by itself, and at once."""
        running = self._running[name]
        process = running.process
        if process is not None and process.returncode is None:
            self._measure(running)
            running.is_killed = True
            process.kill()
            await process.wait()

    async def stop(self, name: str) -> None:
        """Have it end, and stay down until `start`."""
        running = self._running.get(name)
        if running is None or not running.is_wanted:
            return
        running.is_wanted = False
        process = running.process
        if process is not None and process.returncode is None:
            self._measure(running)
            process.send_signal(running.component.stop_signal)
            try:
                await asyncio.wait_for(process.wait(), running.component.grace)
            except TimeoutError:
                process.kill()
                await process.wait()
        if running.keeper is not None:
            running.keeper.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await running.keeper
        self._retire(running)

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
                preexec_fn=_die_with_parent,
            )
        self._on_change()

    async def _keep(self, running: _Running) -> None:
        pause = _FIRST_PAUSE
        while running.is_wanted:
            assert running.process is not None
            started = time.monotonic()
            code = await running.process.wait()
            self._retire(running)
            # Only who ends again and again by itself is started ever more slowly.
            is_old = time.monotonic() - started > 10
            pause = _FIRST_PAUSE if is_old or running.is_killed else min(_LONGEST_PAUSE, pause * 2)
            running.is_killed = False
            if await self._still_wanted(running, pause):
                log.warning("restarting", component=running.component.name, code=code)
                running.restarts += 1
                await self._spawn(running)

    async def _still_wanted(self, running: _Running, pause: float) -> bool:
        if running.is_wanted:
            await asyncio.sleep(pause)
        return running.is_wanted

    def _retire(self, running: _Running) -> None:
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
            # Children that ended are counted by the kernel once they are waited for.
            ended = parent.cpu_times()
            running.cpu_now = max(running.cpu_now, total + ended.children_user + ended.children_system)


def _die_with_parent() -> None:
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def use_batch_scheduling() -> None:
    """Run this process, and those that it starts from now on, as batch work (`SCHED_BATCH`).

    Who is woken then waits for whoever works to use up its slice. In a plane everybody wakes somebody with
    each request, some 20,000 times a second, and caches grow cold each time: see `docs/performance.md`. It
    needs no privilege, and does nothing where the system has no such thing or does not allow it.
    Source: https://man7.org/linux/man-pages/man7/sched.7.html
    """
    if sys.platform == "linux":
        with contextlib.suppress(OSError):
            os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
