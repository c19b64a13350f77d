"""A starting API server forbids everything until its RBAC informers are synced; the client waits for it."""

from collections.abc import AsyncIterator

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from orderplane.adapters.kubernetes import client
from orderplane.adapters.kubernetes.client import ApiClient
from orderplane.crds.api_errors import Forbidden, Unauthorized, Unavailable
from orderplane.crds.meta import Kind

RBAC_FORBIDS = (
    'orders.orderplane.dev is forbidden: User "orderplane:gateway" cannot create resource "orders" in API '
    'group "orderplane.dev" in the namespace "demo"'
)
POLICY_DENIES = (
    'orders.orderplane.dev "x" is forbidden: ValidatingAdmissionPolicy "orderplane-presets" with binding '
    '"orderplane-presets" denied request: no'
)


class StartingServer:
    """Refuses the first `refusals` requests."""

    def __init__(self) -> None:
        self.is_down = False
        self.refusals = 0
        self.message = RBAC_FORBIDS
        self.asked = 0

    async def answer(self, request: web.Request) -> web.Response:
        if self.is_down:
            assert request.transport is not None
            request.transport.close()
        self.asked += 1
        if self.asked <= self.refusals:
            status = {"kind": "Status", "reason": "Forbidden", "message": self.message}
            return web.json_response(status, status=403)
        return web.json_response({"kind": "Order"}, status=201)


@pytest.fixture
def server() -> StartingServer:
    return StartingServer()


@pytest.fixture
async def api(server: StartingServer) -> AsyncIterator[ApiClient]:
    app = web.Application()
    app.router.add_post("/{path:.*}", server.answer)
    async with TestServer(app) as running, aiohttp.ClientSession() as http:
        yield ApiClient(http, str(running.make_url("")))


async def after_no_answer(server: StartingServer, api: ApiClient) -> None:
    server.is_down = True
    with pytest.raises(Unavailable):
        await api.create(Kind.ORDER, "demo", {})
    server.is_down, server.asked = False, 0


async def test_after_no_answer_a_request_that_rbac_forbids_is_repeated(
    server: StartingServer, api: ApiClient
) -> None:
    await after_no_answer(server, api)
    server.refusals = 3
    assert await api.create(Kind.ORDER, "demo", {}) == {"kind": "Order"}
    assert server.asked == 4


async def test_a_refusal_that_lasts_is_raised(
    server: StartingServer, api: ApiClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "RBAC_WARM_UP_SECONDS", 0.3)
    await after_no_answer(server, api)
    server.refusals = 1_000
    with pytest.raises(Unauthorized, match="cannot create"):
        await api.create(Kind.ORDER, "demo", {})
    assert 1 < server.asked < 10


async def test_a_client_that_has_just_started_too_waits_for_the_roles(
    server: StartingServer, api: ApiClient
) -> None:
    server.refusals = 3
    assert await api.create(Kind.ORDER, "demo", {}) == {"kind": "Order"}
    assert server.asked == 4


async def test_a_server_that_let_us_work_is_believed_at_once(server: StartingServer, api: ApiClient) -> None:
    await api.create(Kind.ORDER, "demo", {})
    server.asked, server.refusals = 0, 1_000
    with pytest.raises(Unauthorized, match="cannot create"):
        await api.create(Kind.ORDER, "demo", {})
    assert server.asked == 1


async def test_what_a_policy_denies_is_raised_at_once(server: StartingServer, api: ApiClient) -> None:
    await after_no_answer(server, api)
    server.refusals, server.message = 1_000, POLICY_DENIES
    with pytest.raises(Forbidden, match="denied request"):
        await api.create(Kind.ORDER, "demo", {})
    assert server.asked == 1
