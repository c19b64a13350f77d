"""A sandbox as a process: settings from the environment, one file of state, SIGTERM."""

import asyncio
import logging
import os
import signal
import sqlite3
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import structlog
import uvloop
from aiohttp import web

from orderplane.adapters.telemetry.logs import set_up_logs
from orderplane.dev.sandbox.exchange import Surface
from orderplane.dev.sandbox.store import Store

log = structlog.get_logger(__name__)

DRAIN_SECONDS = 5.0
"""Requests in flight get so much time to finish after SIGTERM."""

_IDLE_SECONDS = 75.0
"""Longer than clients keep idle connections, so that no request meets a closed one."""


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings of a sandbox."""

    host: str
    port: int
    state: Path
    key: str

    @classmethod
    def from_env(cls, key_name: str, env: Mapping[str, str] = os.environ) -> "Settings":
        """Read `ORDERPLANE_HTTP_HOST`, `ORDERPLANE_HTTP_PORT`, `ORDERPLANE_STATE_DIR` and the API key.

        Raises:
            ValueError: a variable is missing or wrong.
        """
        missing = [
            name for name in ("ORDERPLANE_HTTP_PORT", "ORDERPLANE_STATE_DIR", key_name) if not env.get(name)
        ]
        if missing:
            raise ValueError(f"{', '.join(missing)} not set; set it before the sandbox is started")
        return cls(
            host=env.get("ORDERPLANE_HTTP_HOST") or "127.0.0.1",
            port=int(env["ORDERPLANE_HTTP_PORT"]),
            state=Path(env["ORDERPLANE_STATE_DIR"]),
            key=env[key_name],
        )


def seconds(name: str, default: float, env: Mapping[str, str] = os.environ) -> float:
    """A duration from the environment. Raises ValueError if it is not a number of 0 or more."""
    value = float(env.get(name) or default)
    if value < 0:
        raise ValueError(f"{name} is {value}; set it to 0 or more seconds")
    return value


def run(name: str, key_name: str, build: Callable[[str, Store], Surface]) -> int:
    """Serve until SIGTERM or SIGINT; returns 1 if the state cannot be written, 2 for wrong settings."""
    set_up_logs(name, "json")
    logging.getLogger("aiohttp.server").setLevel(logging.ERROR)
    try:
        uvloop.run(_serve(Settings.from_env(key_name), build))
    except ValueError as problem:
        log.error("wrong settings", why=str(problem))
        return 2
    except (sqlite3.Error, OSError) as problem:
        log.error("the sandbox has to stop", why=str(problem))
        return 1
    return 0


async def _serve(settings: Settings, build: Callable[[str, Store], Surface]) -> None:
    store = Store(settings.state / "sandbox.sqlite")
    surface = build(settings.key, store)
    runner = web.AppRunner(
        surface.app, access_log=None, keepalive_timeout=_IDLE_SECONDS, shutdown_timeout=DRAIN_SECONDS
    )
    await runner.setup()
    writer = asyncio.create_task(store.run(), name="store")
    stop = asyncio.create_task(_signalled(), name="signals")
    try:
        await web.TCPSite(runner, settings.host, settings.port).start()
        log.info("ready", host=settings.host, port=settings.port)
        await asyncio.wait({writer, stop}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        surface.exchange.stopping.set()
        await runner.cleanup()
        for task in (stop, writer):
            task.cancel()
        with suppress(asyncio.CancelledError):
            await stop
        with suppress(asyncio.CancelledError):
            await writer
        store.close()


async def _signalled() -> None:
    loop = asyncio.get_running_loop()
    came = asyncio.Event()
    for sign in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(sign, came.set)
    await came.wait()
