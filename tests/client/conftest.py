"""A gateway that answers by a script, over a real socket."""

from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from aiohttp import web

from orderplane.client.transport import Transport, connect

PROBLEM = {"title": "No", "detail": "Because.", "code": "overloaded"}


@dataclass(frozen=True, slots=True)
class Asked:
    """One request as it came in."""

    method: str
    path: str
    headers: dict[str, str]
    form: dict[str, Any]


@dataclass
class Script:
    """What is answered next, and what was asked. An exception closes the connection without an answer."""

    answers: deque[web.Response | Exception] = field(default_factory=deque)
    asked: list[Asked] = field(default_factory=list)
    url: str = ""

    def then(self, status: int, document: Any = None, **headers: str) -> "Script":
        told = {name.replace("_", "-"): value for name, value in headers.items()}
        response = web.Response(status=status, headers=told) if document is None else None
        self.answers.append(response or web.json_response(document, status=status, headers=told))
        return self

    def stream(self, *events: str) -> "Script":
        """A stream that ends after these events."""
        text = "".join(f"{event}\n\n" for event in events)
        self.answers.append(web.Response(text=text, content_type="text/event-stream"))
        return self

    def hang_up(self) -> "Script":
        self.answers.append(ConnectionError())
        return self

    async def answer(self, request: web.Request) -> web.Response:
        is_form = request.content_type == "application/x-www-form-urlencoded"
        form = dict(await request.post()) if is_form else {}
        self.asked.append(Asked(request.method, request.path_qs, dict(request.headers), form))
        answer = self.answers.popleft()
        if isinstance(answer, Exception):
            assert request.transport is not None
            request.transport.abort()
            return web.Response()
        return answer


@pytest.fixture
async def script() -> AsyncIterator[Script]:
    script = Script()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", script.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    script.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield script
    await runner.cleanup()
    assert not script.answers, "more was scripted than asked for"


@pytest.fixture
async def transport(script: Script) -> AsyncIterator[Transport]:
    async with connect(script.url, seconds=5, retry_seconds=5) as transport:
        yield transport
