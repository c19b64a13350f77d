"""How every process runs: settings, logs, traces, probes, signals, patience at start-up, exit code."""

import asyncio
import gc
import signal
import sys
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, TypeVar

import structlog
import uvloop
from prometheus_client import Gauge

from orderplane import __version__
from orderplane.adapters.halves import Half, Halves
from orderplane.adapters.retry import Stopped, retry
from orderplane.adapters.secrets import Secrets
from orderplane.adapters.settings import ProcessSettings, SettingsError, read_settings, usage
from orderplane.adapters.silence import tell_silences
from orderplane.adapters.telemetry.http import serve_telemetry
from orderplane.adapters.telemetry.logs import set_up_logs
from orderplane.adapters.telemetry.traces import set_up_traces

STOPPED, FAILED, WRONG_SETTINGS = 0, 1, 2
"""Exit codes."""

WAITING_LOG_SECONDS = 5.0
"""How often a process that waits at start-up says for what."""

BUILD = Gauge("orderplane_build_info", "What runs here; the value is always 1.", ["process", "version"])

S = TypeVar("S", bound=ProcessSettings)
T = TypeVar("T")

log = structlog.get_logger(__name__)


class Process:
    """What `run_process` hands to the work of a process.

    `stopping` is set by SIGTERM and SIGINT, and when a half has ended early: finish what is in hand, then
    return. Every long-running task is one of `halves`. `secrets` are those of the settings, as they are now.
    """

    def __init__(self, name: str, settings: ProcessSettings) -> None:
        self.name = name
        self.secrets = Secrets(settings)
        self.stopping = asyncio.Event()
        self.halves = Halves(self.stopping)
        self._waits_for = ""
        self._is_ready: Callable[[], bool] = lambda: False

    @property
    def why_not_ready(self) -> str | None:
        """What /readyz answers; None where work can be sent here."""
        if self.stopping.is_set():
            return "stopping"
        return None if self._is_ready() else self._waits_for or "starting"

    def serving(self, is_ready: Callable[[], bool] = lambda: True, **facts: object) -> None:
        """Say that start-up is over; `facts` go into the log line.

        Call it when everything exists that stays for the life of the process: none of it is garbage, so the
        collector is told to leave it out. A full collection over the few hundred thousand objects of the
        modules and frameworks takes a tenth of a second, during which nothing is answered.
        """
        gc.collect()
        gc.freeze()
        self._waits_for, self._is_ready = "not serving yet", is_ready
        log.info("serving", **facts)

    async def wait_for(
        self, dependency: str, attempt: Callable[[], Coroutine[Any, Any, T]], on: tuple[type[Exception], ...]
    ) -> T:
        """Try until a dependency is there; log what is waited for every few seconds, and say it in /readyz.

        Args:
            on: Exceptions that say that it is not there yet.

        Raises:
            Stopped: the process was asked to stop meanwhile.
        """
        problems = ["no answer"]

        def note(problem: Exception) -> None:
            if problems == ["no answer"]:
                log.warning("waiting", dependency=dependency, why=_short(problem))
            problems[:] = [_short(problem)]
            self._waits_for = f"waiting for {dependency}: {problems[0]}"

        trying = asyncio.create_task(retry(attempt, on=on, stopping=self.stopping, on_failure=note))
        stopped = asyncio.create_task(self.stopping.wait())
        try:
            while not (trying.done() or stopped.done()):
                await asyncio.wait(
                    {trying, stopped}, timeout=WAITING_LOG_SECONDS, return_when=asyncio.FIRST_COMPLETED
                )
                if not (trying.done() or stopped.done()):
                    log.warning("waiting", dependency=dependency, why=problems[0])
            if trying.done():
                return trying.result()
            raise Stopped
        finally:
            self._waits_for = ""
            for task in (trying, stopped):
                task.cancel()
            await asyncio.gather(trying, stopped, return_exceptions=True)

    def handle_signals(self) -> None:
        """Have SIGTERM and SIGINT set `stopping`. To be repeated after a framework has taken them over."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stopping.set)


def run_process(
    name: str,
    settings_class: type[S],
    serve: Callable[[S, Process], Awaitable[None]],
    arguments: Sequence[str] | None = None,
) -> int:
    """Run a process from its settings to its exit code: 0 stopped, 1 failed, 2 wrong settings.

    Args:
        name: In logs and traces.
        serve: Waits for what it needs, calls `Process.serving`, and returns once `Process.stopping` is set
            and what was in hand is done.
        arguments: Of the command line; there is only `--help`.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments:
        is_help = list(arguments) in (["--help"], ["-h"])
        print(usage(serve.__module__, settings_class), file=sys.stdout if is_help else sys.stderr)
        return STOPPED if is_help else WRONG_SETTINGS
    try:
        settings = read_settings(settings_class)
        set_up_logs(name, settings.log_format, settings.log_level)
        set_up_traces(name, settings.otlp_endpoint, settings.trace_ratio)
        BUILD.labels(name, __version__).set(1)
        # What is made for one request is mostly gone without the collector: looking for cycles after every
        # 700 new objects, as by default, finds nothing.
        gc.set_threshold(10_000, 20, 20)
        return uvloop.run(_run(name, settings, serve))
    except SettingsError as error:
        print(f"orderplane {name} cannot start:", *error.problems, sep="\n  ", file=sys.stderr)  # noqa: T201
        return WRONG_SETTINGS
    except Exception:
        log.exception("failed")
        return FAILED


async def _run(name: str, settings: S, serve: Callable[[S, Process], Awaitable[None]]) -> int:
    process = Process(name, settings)
    process.handle_signals()
    async with serve_telemetry(
        settings.metrics_host,
        settings.metrics_port,
        why_not_ready=lambda: process.why_not_ready,
        stuck=lambda: process.halves.stuck,
    ):
        try:
            halves = Half("secrets", process.secrets.follow), Half("silence", tell_silences)
            async with process.halves.running(*halves):
                await serve(settings, process)
        except Stopped:
            log.info("stopped during start-up")
            return STOPPED
    if process.halves.has_failed:
        return FAILED
    if not process.stopping.is_set():
        log.error("ended without having been asked to")
        return FAILED
    log.info("stopped")
    return STOPPED


def _short(problem: Exception) -> str:
    return f"{type(problem).__name__}: {problem}"
