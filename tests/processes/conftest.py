"""The product's processes as subprocesses, with nothing but what a test gives them."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from orderplane.adapters.settings import ProcessSettings
from orderplane.console.settings import ConsoleSettings
from orderplane.dev.localplane.components import MODULES
from orderplane.dev.localplane.ports import free_port
from orderplane.gateway.settings import GatewaySettings
from orderplane.operator.settings import OperatorSettings
from orderplane.webhook.settings import WebhookSettings
from orderplane.workers.settings import DelivererSettings, NotifierSettings, RelaySettings

SETTINGS: dict[str, type[ProcessSettings]] = {
    "gateway": GatewaySettings,
    "console": ConsoleSettings,
    "operator": OperatorSettings,
    "webhook": WebhookSettings,
    "relay": RelaySettings,
    "notifier": NotifierSettings,
    "deliverer": DelivererSettings,
}


@dataclass
class Ended:
    """What a process left behind."""

    code: int
    out: str
    log: str


@dataclass
class Running:
    """A process; its log lines are read as they come."""

    process: asyncio.subprocess.Process
    host: str
    port: int
    lines: list[dict[str, Any]] = field(default_factory=list)

    async def logged(self, event: str, **facts: Any) -> dict[str, Any]:
        """Wait for a log line."""
        async with asyncio.timeout(30):
            while True:
                for line in self.lines:
                    if {"event": event, **facts}.items() <= line.items():
                        return line
                assert self.process.returncode is None, self.lines
                await asyncio.sleep(0.02)

    async def answer(self, path: str) -> tuple[int, str]:
        url = f"http://{self.host}:{self.port}{path}"
        async with aiohttp.ClientSession() as session, session.get(url) as response:
            return response.status, await response.text()

    async def status(self, path: str) -> int:
        return (await self.answer(path))[0]

    async def ends(self, *, seconds: float) -> int:
        """Ask it to stop; returns its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return await asyncio.wait_for(self.process.wait(), seconds)

    async def read(self) -> None:
        assert self.process.stderr is not None
        async for line in self.process.stderr:
            self.lines.append(json.loads(line) if line.startswith(b"{") else {"event": line.decode()})


def command(name: str) -> tuple[str, ...]:
    return sys.executable, "-W", "error", "-m", MODULES[name]


async def run_to_end(name: str, *arguments: str, env: Mapping[str, str]) -> Ended:
    process = await asyncio.create_subprocess_exec(
        *command(name),
        *arguments,
        env=clean(env),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, log = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode is not None
    return Ended(process.returncode, out.decode(), log.decode())


@asynccontextmanager
async def running(name: str, env: Mapping[str, str], *, host: str = "127.0.0.1") -> AsyncIterator[Running]:
    """A process until the end of the block."""
    port = free_port()
    own = {
        "ORDERPLANE_METRICS_HOST": host,
        "ORDERPLANE_METRICS_PORT": str(port),
        "ORDERPLANE_HTTP_PORT": "0",
        "ORDERPLANE_LOG_FORMAT": "json",
    }
    process = await asyncio.create_subprocess_exec(
        *command(name), env=clean({**env, **own}), stderr=asyncio.subprocess.PIPE
    )
    started = Running(process, host, port)
    reading = asyncio.create_task(started.read())
    try:
        yield started
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
        await reading


def clean(env: Mapping[str, str]) -> dict[str, str]:
    """Only what Python needs, and `env`."""
    kept = {name: os.environ[name] for name in ("PATH", "PYTHONPATH", "HOME") if name in os.environ}
    return {**kept, **env}
