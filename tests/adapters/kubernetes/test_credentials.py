"""A pod's token is replaced every hour: the client reads it again, and keeps the last one if it cannot."""

import asyncio
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from kubernetes import config

from orderplane.adapters.kubernetes import configuration
from orderplane.adapters.kubernetes.client import ApiClient
from orderplane.adapters.kubernetes.configuration import Credentials
from orderplane.crds.meta import Kind


async def test_a_token_that_was_replaced_is_sent_with_the_next_request(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(configuration, "TOKEN_SECONDS", 0.0)
    seen: list[str | None] = []

    async def answer(request: web.Request) -> web.Response:
        seen.append(request.headers.get("Authorization"))
        return web.json_response({"metadata": {}})

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    tokens = iter(["Bearer first", "Bearer second"])
    async with TestServer(app) as server:
        http = aiohttp.ClientSession()
        async with ApiClient(http, str(server.make_url("")), Credentials(lambda: next(tokens))) as client:
            await client.get(Kind.ORDER, "ns", "a")
            await client.create(Kind.ORDER, "ns", {})
    assert seen == ["Bearer first", "Bearer second"]


async def test_a_token_that_cannot_be_read_again_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(configuration, "TOKEN_SECONDS", 0.0)
    answers: list[str | Exception] = [
        "Bearer first", FileNotFoundError("token"), config.ConfigException("empty"), "Bearer second",
    ]  # fmt: skip

    def read() -> str:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    credentials = Credentials(read)
    headers = [await credentials.header() for _ in range(4)]
    assert headers == ["Bearer first", "Bearer first", "Bearer first", "Bearer second"]


async def test_it_is_not_read_for_each_request() -> None:
    reads = 0

    def read() -> str:
        nonlocal reads
        reads += 1
        return "Bearer one"

    credentials = Credentials(read)
    assert await credentials.header() == "Bearer one"
    assert set(await asyncio.gather(*(credentials.header() for _ in range(20)))) == {"Bearer one"}
    assert reads == 1


@pytest.mark.parametrize(
    ("user", "header"), [({"token": "secret"}, "Bearer secret"), ({}, None)], ids=["token", "none"]
)
async def test_the_token_of_a_kubeconfig_is_used(
    tmp_path: Path, user: dict[str, str], header: str | None
) -> None:
    seen: list[str | None] = []

    async def answer(request: web.Request) -> web.Response:
        seen.append(request.headers.get("Authorization"))
        return web.Response(text="")

    app = web.Application()
    app.router.add_get("/metrics", answer)
    async with TestServer(app) as server:
        path = tmp_path / "kubeconfig"
        path.write_text(
            "apiVersion: v1\nkind: Config\ncurrent-context: c\n"
            f"clusters: [{{name: c, cluster: {{server: '{server.make_url('')}'}}}}]\n"
            "contexts: [{name: c, context: {cluster: c, user: u}}]\n"
            f"users: [{{name: u, user: {user}}}]\n"
        )
        async with await ApiClient.connect(user_agent="tests", kubeconfig=str(path)) as client:
            await client.metrics()
    assert seen == [header]
