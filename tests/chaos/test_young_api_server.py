"""An API server that has just started refuses everybody until it has read its roles; nobody may notice."""

from collections.abc import AsyncIterator

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from orderplane.adapters.kubernetes import client
from orderplane.adapters.kubernetes.client import ApiClient
from orderplane.crds.api_errors import Forbidden, Unavailable
from orderplane.crds.meta import Kind

WANT_OF_A_ROLE = (
    'orders.orderplane.dev is forbidden: User "orderplane:gateway" cannot create resource "orders" in API '
    'group "orderplane.dev" in the namespace "demo"'
)
A_POLICY = (
    'orders.orderplane.dev "x" is forbidden: ValidatingAdmissionPolicy "orderplane-presets" with binding '
    '"orderplane-presets" denied request: no'
)


class Young:
    """Refuses the first `refusals` requests."""

    def __init__(self) -> None:
        self.is_down = False
        self.refusals = 0
        self.message = WANT_OF_A_ROLE
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
def young() -> Young:
    return Young()


@pytest.fixture
async def api(young: Young) -> AsyncIterator[ApiClient]:
    app = web.Application()
    app.router.add_post("/{path:.*}", young.answer)
    async with TestServer(app) as server, aiohttp.ClientSession() as http:
        yield ApiClient(http, str(server.make_url("")))


async def after_silence(young: Young, api: ApiClient) -> None:
    young.is_down = True
    with pytest.raises(Unavailable):
        await api.create(Kind.ORDER, "demo", {})
    young.is_down, young.asked = False, 0


async def test_after_silence_a_refusal_for_want_of_a_role_is_not_believed(
    young: Young, api: ApiClient
) -> None:
    await after_silence(young, api)
    young.refusals = 3
    assert await api.create(Kind.ORDER, "demo", {}) == {"kind": "Order"}
    assert young.asked == 4


async def test_one_that_lasts_is_believed(
    young: Young, api: ApiClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "RBAC_WARM_UP_SECONDS", 0.3)
    await after_silence(young, api)
    young.refusals = 1_000
    with pytest.raises(Forbidden, match="cannot create"):
        await api.create(Kind.ORDER, "demo", {})
    assert 1 < young.asked < 10


async def test_without_silence_it_is_believed_at_once(young: Young, api: ApiClient) -> None:
    young.refusals = 1_000
    with pytest.raises(Forbidden, match="cannot create"):
        await api.create(Kind.ORDER, "demo", {})
    assert young.asked == 1


async def test_what_a_policy_refuses_is_refused_at_once(young: Young, api: ApiClient) -> None:
    await after_silence(young, api)
    young.refusals, young.message = 1_000, A_POLICY
    with pytest.raises(Forbidden, match="denied request"):
        await api.create(Kind.ORDER, "demo", {})
    assert young.asked == 1
