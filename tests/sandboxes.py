"""Fixtures: sandboxes of the providers as processes, and adapters that call them."""

import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, TypeVar

import aiohttp
import pytest

from orderplane.adapters.carriers.easypost import EasyPostCarrier
from orderplane.adapters.payments.stripe import StripeProvider
from orderplane.dev.localplane.ports import free_port

T = TypeVar("T")

KEY = "sk_test_providers"


class Sandbox:
    """One sandbox process with its folder; it can be killed and started again."""

    def __init__(self, name: str, port: int, folder: Path, env: dict[str, str]) -> None:
        self.name = name
        self.port = port
        self.url = f"http://127.0.0.1:{port}"
        self._folder = folder
        self._env = env
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        env = {
            **os.environ,
            "ORDERPLANE_HTTP_PORT": str(self.port),
            "ORDERPLANE_STATE_DIR": str(self._folder),
            "ORDERPLANE_PAYMENTS_KEY": KEY,
            "ORDERPLANE_CARRIER_KEY": KEY,
            **self._env,
        }
        with (self._folder / "log").open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", f"orderplane.dev.sandbox.{self.name}", env=env, stdout=log, stderr=log
            )
        await eventually(self._is_ready, lambda ready: ready)

    async def kill(self) -> None:
        assert self._process is not None
        self._process.kill()
        await self._process.wait()

    async def stop(self) -> int:
        assert self._process is not None
        if self._process.returncode is None:
            self._process.terminate()
        return await self._process.wait()

    async def call(
        self,
        verb: str,
        path: str,
        *,
        form: dict[str, str] | None = None,
        json: Any = None,
        key: str | None = None,
        auth: str = f"Bearer {KEY}",
    ) -> tuple[int, dict[str, Any], dict[str, str]]:
        """Without any SDK: status, document, headers."""
        headers = {"Authorization": auth} | ({"Idempotency-Key": key} if key else {})
        async with (
            aiohttp.ClientSession(headers=headers) as session,
            session.request(verb, f"{self.url}{path}", data=form, json=json) as response,
        ):
            return response.status, await response.json(), dict(response.headers)

    async def faults(self, mode: str, **how: Any) -> None:
        status, document, _ = await self.call("POST", "/_sandbox/faults", json={"mode": mode, **how})
        assert status == 200, document

    async def _is_ready(self) -> bool:
        assert self._process is not None
        assert self._process.returncode is None, (self._folder / "log").read_text()
        try:
            async with (
                aiohttp.ClientSession() as session,
                session.get(f"{self.url}/_sandbox/health") as response,
            ):
                return response.status == 200
        except aiohttp.ClientConnectionError:
            return False


async def eventually(ask: Callable[[], Awaitable[T]], is_it: Callable[[T], bool], seconds: float = 20.0) -> T:
    """Ask until the answer is the wanted one."""
    deadline = time.monotonic() + seconds
    while True:
        answer = await ask()
        if is_it(answer):
            return answer
        assert time.monotonic() < deadline, f"still {answer}"
        await asyncio.sleep(0.02)


@pytest.fixture(scope="session", name="eventually")
def eventually_fixture() -> Callable[..., Awaitable[Any]]:
    return eventually


Start = Callable[..., Awaitable[Sandbox]]


@pytest.fixture(scope="session")
async def start_sandbox(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Start]:
    async with AsyncExitStack() as stack:

        async def start(name: str, **env: str) -> Sandbox:
            sandbox = Sandbox(name, free_port(), tmp_path_factory.mktemp(name), env)
            await sandbox.start()
            stack.push_async_callback(sandbox.stop)
            return sandbox

        yield start


@pytest.fixture(scope="session")
async def payments(start_sandbox: Start) -> Sandbox:
    return await start_sandbox("payments")


@pytest.fixture(scope="session")
async def carrier_sandbox(start_sandbox: Start) -> Sandbox:
    return await start_sandbox(
        "carrier", ORDERPLANE_SANDBOX_TRANSIT_SECONDS="3", ORDERPLANE_SANDBOX_DELIVERY_SECONDS="0.5",
        ORDERPLANE_SANDBOX_REFUND_SECONDS="0.3",
    )  # fmt: skip


@pytest.fixture
async def provider(payments: Sandbox) -> AsyncIterator[StripeProvider]:
    async with StripeProvider(KEY, payments.url) as provider:
        yield provider


@pytest.fixture
async def hasty_provider(payments: Sandbox) -> AsyncIterator[StripeProvider]:
    """Gives up soon."""
    async with StripeProvider(KEY, payments.url, timeout_seconds=1.0) as provider:
        yield provider


@pytest.fixture
async def carrier(carrier_sandbox: Sandbox) -> AsyncIterator[EasyPostCarrier]:
    async with EasyPostCarrier(KEY, carrier_sandbox.url) as carrier:
        yield carrier


@pytest.fixture
async def hasty_carrier(carrier_sandbox: Sandbox) -> AsyncIterator[EasyPostCarrier]:
    async with EasyPostCarrier(KEY, carrier_sandbox.url, timeout_seconds=1.0) as carrier:
        yield carrier


@pytest.fixture(scope="session")
def key() -> str:
    return KEY


@pytest.fixture
async def calm(payments: Sandbox, carrier_sandbox: Sandbox) -> AsyncIterator[None]:
    """Whatever trouble a test made is over after it."""
    yield
    for sandbox in (payments, carrier_sandbox):
        await sandbox.faults("ok")
