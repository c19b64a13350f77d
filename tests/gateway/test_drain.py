"""What the gateway's server does from SIGTERM to its end."""

import asyncio
from typing import Any

import aiohttp
import pytest
import uvicorn

from orderplane.adapters.http_server import Server
from orderplane.dev.localplane.ports import free_port
from orderplane.gateway.http.connections import protocol_for


async def _app(scope: Any, _: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
    await send({"type": "http.response.body", "body": b""})


async def test_it_takes_new_connections_while_load_balancers_hear_of_its_end() -> None:
    port, stopping = free_port(), asyncio.Event()
    config = uvicorn.Config(
        _app, host="127.0.0.1", port=port, http=protocol_for(()), ws="none", lifespan="off", log_config=None
    )
    server = Server(config)
    async with asyncio.timeout(20), aiohttp.ClientSession(f"http://127.0.0.1:{port}") as client:
        serving = asyncio.create_task(server.serve())
        leaving = asyncio.create_task(server.exit_when(stopping, leave_seconds=2))
        while not server.started:  # noqa: ASYNC110 - uvicorn tells it in no other way
            await asyncio.sleep(0.01)
        async with client.get("/") as answer:
            assert "Connection" not in answer.headers
        stopping.set()
        await asyncio.sleep(0)
        for _ in ("on the old connection", "on a new one"):
            async with client.get("/") as answer:
                assert answer.headers["Connection"] == "close"
        await asyncio.gather(leaving, serving)
        with pytest.raises(aiohttp.ClientConnectorError):
            await client.get("/")
