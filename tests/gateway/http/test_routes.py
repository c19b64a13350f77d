"""However a path is spelt: what it is served as is what it is counted as."""

from typing import Any
from urllib.parse import unquote

import pytest
from starlette.responses import Response

from orderplane.adapters.limits.memory import MemoryCounters
from orderplane.gateway.front_door import FrontDoor
from orderplane.gateway.http.calls import Call
from orderplane.gateway.http.routes import Route
from orderplane.gateway.traffic.rate_limits import RateLimits, RouteClass

from .threaded_server import UNLIMITED, app_without_dependencies

CANONICAL = {
    ("POST", "/api/auth/login"): RouteClass.AUTH,
    ("POST", "/api/auth/register"): RouteClass.AUTH,
    ("PUT", "/api/users/me/password"): RouteClass.AUTH,
    ("POST", "/api/orders"): RouteClass.ORDERS,
    ("POST", "/api/orders/o-1/cancel"): RouteClass.WRITES,
    ("PATCH", "/api/users/me"): RouteClass.WRITES,
    ("GET", "/api/orders"): RouteClass.READS,
    ("GET", "/api/products/A.b-c_d"): RouteClass.READS,
    ("HEAD", "/api/products"): RouteClass.READS,
    ("GET", "/.well-known/jwks.json"): RouteClass.READS,
    ("GET", "/openapi.json"): RouteClass.READS,
}
NOT_SERVED = {
    ("BREW", "/api/orders"): RouteClass.WRITES,
    ("GET|HEAD", "/api/orders"): RouteClass.WRITES,
    ("POST", "/api/ordersx"): RouteClass.WRITES,
    ("PUT", "/api/auth/login"): RouteClass.WRITES,
    ("POST", "/api/auth/nothing"): RouteClass.WRITES,
    ("GET", "/nothing"): RouteClass.READS,
    ("OPTIONS", "/api/orders"): RouteClass.READS,
}
ODD = [
    "{}%0A", "{}%0a", "{}%0D%0A", "{}%00", "{}%20", "{}/", "{}//", "/{}", "{}/.", "{}/..", "{}/../login",
    "{};a=b", "{};", "{}%2F", "{}%3Fa", "{}%23", "{}?", "/.{}", "/x/..{}", "/%2e%2e{}", "{}%E2%80%A8",
    "{}\xa0", "{}%C2%85", "{}%", "{}%zz", "{}%0A%0A", "/api/../{}", "\\{}", "{}\\", "{}%5C",
]  # fmt: skip
"""Spellings of a path. An empty query, in `{}?`, is not part of it."""


def spellings(path: str) -> list[str]:
    found = [odd.format(path) for odd in ODD]
    found += [path.upper(), path.title(), path.replace("/", "//"), path.replace("/", "%2F")]
    found += [
        path.replace("/api", "/%61pi"),
        path.replace("/api", "/api;v=1"),
        path[:-1] + f"%{ord(path[-1]):x}",
    ]
    return found


class Spy(FrontDoor):
    """Notes the route that was chosen to answer."""

    chosen: Route | None = None

    async def _admitted(self, call: Call) -> Response:
        self.chosen = call.route
        return await super()._admitted(call)


async def ask(method: str, raw_path: str) -> tuple[int, str, Route | None]:
    """Status, counted class, and the route that was chosen to answer."""
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    path, _, query = raw_path.partition("?")
    scope: Any = {
        "type": "http", "method": method, "path": unquote(path), "raw_path": path.encode("latin-1"),
        "query_string": query.encode(), "root_path": "", "scheme": "http", "server": ("x", 80),
        "client": ("192.0.2.1", 1), "headers": [(b"authorization", b"Bearer x")], "http_version": "1.1",
    }  # fmt: skip
    door = Spy(app_without_dependencies().api, rate_limits=RateLimits(UNLIMITED, MemoryCounters()))
    await door(scope, receive, send)
    start = next(message for message in sent if message["type"] == "http.response.start")
    policy = dict(start["headers"])[b"ratelimit-policy"].decode()
    return start["status"], policy.split("-")[0].strip('"'), door.chosen


@pytest.mark.parametrize(("method", "path"), CANONICAL)
async def test_a_route_has_its_class(method: str, path: str) -> None:
    status, counted, chosen = await ask(method, path)
    assert status not in (404, 405)
    assert counted == CANONICAL[method, path]
    assert chosen is not None


@pytest.mark.parametrize(("method", "path"), NOT_SERVED)
async def test_what_is_not_served_is_counted_by_its_method(method: str, path: str) -> None:
    status, counted, _ = await ask(method, path)
    assert status in (404, 405)
    assert counted == NOT_SERVED[method, path]


@pytest.mark.parametrize(("method", "path"), CANONICAL)
async def test_an_odd_spelling_is_not_served(method: str, path: str) -> None:
    for spelling in spellings(path):
        status, counted, chosen = await ask(method, spelling)
        if spelling.removesuffix("?") == path:
            assert counted == CANONICAL[method, path], spelling
        else:
            assert (status, chosen) == (404, None), spelling
            assert counted in (RouteClass.READS, RouteClass.WRITES), spelling
