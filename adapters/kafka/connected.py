"""Start a client of the brokers and stop it again, neither of which may take for ever."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Protocol, TypeVar

import structlog
from aiokafka.errors import KafkaTimeoutError

log = structlog.get_logger(__name__)


class Client(Protocol):
    """A consumer or a producer."""

    async def start(self) -> None: ...
    async def stop(self) -> None: ...


C = TypeVar("C", bound=Client)


@asynccontextmanager
async def connected(
    client: C, bootstrap: str, *, start_seconds: float, stop_seconds: float
) -> AsyncIterator[C]:
    """The client while it is connected. What hangs while it is stopped is left behind, and logged.

    Raises:
        aiokafka.errors.KafkaError: the brokers cannot be reached within `start_seconds`.
    """
    try:
        try:
            async with asyncio.timeout(start_seconds):
                await client.start()
        except TimeoutError as problem:
            raise KafkaTimeoutError(f"{bootstrap} let nobody in within {start_seconds:g} s") from problem
        yield client
    finally:
        try:
            async with asyncio.timeout(stop_seconds):
                await client.stop()
        except TimeoutError:
            log.warning("did not close in time", client=type(client).__name__, bootstrap=bootstrap)
