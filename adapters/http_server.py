"""Uvicorn as part of a process that has signals, halves and a drain of its own."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import uvicorn

_CLOSE = (b"connection", b"close")


class Server(uvicorn.Server):
    """Uvicorn that leaves the signals to `run_process`."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Install no handlers."""
        yield

    async def exit_when(
        self, stopping: asyncio.Event, leave_seconds: float, end_streams: Callable[[], None] = lambda: None
    ) -> None:
        """Take no new connections once the process is to stop, and `leave_seconds` have passed.

        Meanwhile each answer closes its connection, so that the next request of its client goes to another
        replica, and does not meet a connection that is closed under it. Streams end last: their clients
        connect again at once.
        """
        await stopping.wait()
        # uvicorn makes the second from the first, once a second.
        self.config.encoded_headers.append(_CLOSE)
        self.server_state.default_headers.append(_CLOSE)
        await asyncio.sleep(leave_seconds)
        end_streams()
        self.should_exit = True
