"""The Retry-After of a 429 of the API server becomes the client's pushback."""

import aiohttp
import pytest
from aiohttp import web

from orderplane.adapters.kubernetes.client import ApiClient
from orderplane.crds.api_errors import NotFound, Overloaded
from orderplane.crds.meta import Kind


@pytest.mark.parametrize(("retry_after", "seconds"), [("7", 7.0), ("3600", 30.0), ("soon", 1.0), (None, 1.0)])
async def test_a_429_sets_the_pushback(retry_after: str | None, seconds: float) -> None:
    answers = [429, 404]

    async def refuse(_: web.Request) -> web.Response:
        headers = {"Retry-After": retry_after} if retry_after else {}
        return web.json_response({"message": "no"}, status=answers.pop(0), headers=headers)

    app = web.Application()
    app.router.add_get("/{path:.*}", refuse)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        host, port = runner.addresses[0]
        async with ApiClient(aiohttp.ClientSession(), f"http://{host}:{port}") as client:
            assert client.pushback == 0.0
            with pytest.raises(Overloaded):
                await client.get(Kind.ORDER, "demo", "o-1")
            assert seconds - 0.5 < client.pushback <= seconds
            with pytest.raises(NotFound):
                await client.get(Kind.ORDER, "demo", "o-1")
            assert client.pushback > 0
    finally:
        await runner.cleanup()
