"""Threads for one synchronous SDK: a slow provider takes those, and nothing else."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Generic, Self, TypeVar

from orderplane.controllers.errors import Transient

C = TypeVar("C")
T = TypeVar("T")


class SdkThreads(Generic[C]):
    """Runs calls of an SDK whose clients are not made to be shared; an async context manager.

    Args:
        provider: For messages and reasons: `carrier`.
        make: Makes a client, one for each thread.
        close: Closes its connections.
        threads: How many calls are under way at once.
        line: How many more may wait for a thread; the next is turned away.
    """

    def __init__(
        self,
        provider: str,
        *,
        make: Callable[[], C],
        close: Callable[[C], None],
        threads: int,
        line: int,
    ) -> None:
        self._provider = provider
        self._make = make
        self._close = close
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix=provider)
        self._places = threads + line
        self._local = threading.local()
        self._clients: list[C] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        # What is under way ends within its time-out; its connections can be closed only then.
        await asyncio.to_thread(self._threads.shutdown, wait=True, cancel_futures=True)
        for client in self._clients:
            self._close(client)

    @contextmanager
    def place(self) -> Iterator[None]:
        """Take a place; outside of a breaker, because that we are busy says nothing about the provider.

        Raises:
            Transient: all are taken (`CarrierBusy`).
        """
        if self._places == 0:
            raise Transient(
                f"{self._provider.capitalize()}Busy",
                f"too many calls to the {self._provider} are under way",
                retry_after=0.2,
            )
        self._places -= 1
        try:
            yield
        finally:
            self._places += 1

    async def run(self, call: Callable[[C], T]) -> T:
        """Make one call; raises what the SDK raises."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, lambda: call(self._client()))

    def _client(self) -> C:
        client: C | None = getattr(self._local, "client", None)
        if client is None:
            client = self._local.client = self._make()
            self._clients.append(client)
        return client
