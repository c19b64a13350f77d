"""A way to a server on which answers take time."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass


@dataclass
class Slowed:
    """Connect to `port`. Each answer comes `seconds` late; `delayed` are on their way."""

    port: int = 0
    seconds: float = 0.0
    delayed: int = 0


@asynccontextmanager
async def slowed(server_port: int) -> AsyncIterator[Slowed]:
    """Pass bytes on in both directions until the end of the block."""
    way = Slowed()
    connections: set[asyncio.Task[None]] = set()

    async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, is_late: bool) -> None:
        with contextlib.suppress(OSError):
            while chunk := await reader.read(65_536):
                if is_late and way.seconds:
                    way.delayed += 1
                    await asyncio.sleep(way.seconds)
                    way.delayed -= 1
                writer.write(chunk)
                await writer.drain()
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        connections.add(task)
        try:
            server_reader, server_writer = await asyncio.open_connection("127.0.0.1", server_port)
        except OSError:
            writer.close()
        else:
            await asyncio.gather(
                copy(reader, server_writer, is_late=False), copy(server_reader, writer, is_late=True)
            )
        finally:
            connections.discard(task)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    way.port = server.sockets[0].getsockname()[1]
    try:
        yield way
    finally:
        server.close()
        for task in tuple(connections):
            task.cancel()
        await asyncio.gather(*connections, return_exceptions=True)
