"""A watch as a stream: whole events, its end, and every way in which it does not come to one."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import orjson
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from orderplane.adapters.kubernetes import client as client_module
from orderplane.adapters.kubernetes.client import ApiClient
from orderplane.crds.api_errors import ApiError, Gone, Unauthorized, Unavailable
from orderplane.crds.meta import Kind

Write = Callable[[web.StreamResponse], Awaitable[None]]


def line(type_: str, **thing: Any) -> bytes:
    return orjson.dumps({"type": type_, "object": thing}) + b"\n"


ADDED = line("ADDED", metadata={"name": "o-ä"})
BOOKMARK = line("BOOKMARK", metadata={"resourceVersion": "7"})


@asynccontextmanager
async def streaming(write: Write, queries: list[dict[str, str]] | None = None) -> AsyncIterator[ApiClient]:
    async def answer(request: web.Request) -> web.StreamResponse:
        if queries is not None:
            queries.append(dict(request.query))
        response = web.StreamResponse()
        await response.prepare(request)
        await write(response)
        return response

    app = web.Application()
    app.router.add_get("/{path:.*}", answer)
    async with TestServer(app) as server, ApiClient(aiohttp.ClientSession(), str(server.make_url(""))) as api:
        yield api


async def events_of(api: ApiClient) -> list[dict[str, Any]]:
    async with api.watch(Kind.ORDER, since=5, seconds=1) as events:
        return [event async for event in events]


async def test_events_are_whole_however_they_are_cut_into_packets() -> None:
    async def write(response: web.StreamResponse) -> None:
        for start in range(0, len(ADDED + BOOKMARK), 7):
            await response.write((ADDED + BOOKMARK)[start : start + 7])
            await asyncio.sleep(0)

    queries: list[dict[str, str]] = []
    async with streaming(write, queries) as api:
        assert await events_of(api) == [orjson.loads(ADDED), orjson.loads(BOOKMARK)]
    assert queries == [
        {"watch": "true", "allowWatchBookmarks": "true", "resourceVersion": "5", "timeoutSeconds": "1"}
    ]


async def _end_too_old(response: web.StreamResponse) -> None:
    await response.write(ADDED + line("ERROR", code=410, reason="Expired", message="too old"))


async def _cut(response: web.StreamResponse) -> None:
    await response.write(ADDED)
    transport = response._req and response._req.transport
    assert transport is not None
    transport.close()


async def _say_nothing_more(response: web.StreamResponse) -> None:
    await response.write(ADDED)
    await asyncio.sleep(30)


async def _send_no_json(response: web.StreamResponse) -> None:
    await response.write(b"<html>\n")


async def _never_end_the_line(response: web.StreamResponse) -> None:
    await response.write(b"x" * 3000)


@pytest.mark.parametrize(
    ("write", "error"),
    [
        (_end_too_old, Gone),
        (_cut, Unavailable),
        (_say_nothing_more, Unavailable),
        (_send_no_json, Unavailable),
        (_never_end_the_line, Unavailable),
    ],
)
async def test_a_watch_that_does_not_come_to_its_end_says_so(
    write: Write, error: type[ApiError], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_module, "WATCH_GRACE_SECONDS", 0.1)
    monkeypatch.setattr(client_module, "_MAX_EVENT_BYTES", 2000)
    async with streaming(write) as api:
        with pytest.raises(error):
            await asyncio.wait_for(events_of(api), 10)


async def test_a_watch_that_is_refused_says_why() -> None:
    async def refuse(_: web.Request) -> web.Response:
        message = 'orders is forbidden: User "g" cannot watch resource'
        return web.json_response({"message": message}, status=403)

    app = web.Application()
    app.router.add_get("/{path:.*}", refuse)
    async with TestServer(app) as server, ApiClient(aiohttp.ClientSession(), str(server.make_url(""))) as api:
        with pytest.raises(Unauthorized):
            await events_of(api)
