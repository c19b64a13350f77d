"""Rate limits: the classes of routes, the quotas, and the responses."""

import time
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from orderplane.adapters.kubernetes.reflector import Reflector
from orderplane.adapters.limits.counters import Limit, LimitStatus
from orderplane.adapters.limits.memory import MemoryCounters
from orderplane.crds.meta import Kind
from orderplane.gateway.app import create_app, declared_api
from orderplane.gateway.http.client_address import networks, subscriber
from orderplane.gateway.orders.held_orders import HeldOrders
from orderplane.gateway.orders.order_reader import OrderReader
from orderplane.gateway.principal import SCOPES_OF, Principal, Role
from orderplane.gateway.traffic.rate_limits import (
    DEFAULTS,
    Quota,
    Quotas,
    RouteClass,
    class_of,
    headers_of,
    quotas_from,
)

from ...support.archive import EmptyArchive


@pytest.mark.parametrize(
    ("method", "route", "route_class"),
    [
        ("POST", "/api/auth/login", RouteClass.AUTH),
        ("POST", "/api/auth/register", RouteClass.AUTH),
        ("PUT", "/api/users/me/email", RouteClass.AUTH),
        ("POST", "/api/users/me/phone/confirm", RouteClass.AUTH),
        ("PUT", "/api/users/me/password", RouteClass.AUTH),
        ("POST", "/api/orders", RouteClass.ORDERS),
        ("POST", "/api/orders/{order_id}/cancel", RouteClass.WRITES),
        ("PATCH", "/api/users/me", RouteClass.WRITES),
        ("POST", None, RouteClass.WRITES),
        ("BREW", None, RouteClass.WRITES),
        ("GET|HEAD", None, RouteClass.WRITES),
        ("GET", "/api/orders", RouteClass.READS),
        ("HEAD", "/api/products", RouteClass.READS),
        ("GET", None, RouteClass.READS),
        ("GET", "/.well-known/jwks.json", RouteClass.READS),
    ],
)
def test_what_kind_of_request_it_is(method: str, route: str | None, route_class: RouteClass) -> None:
    assert class_of(method, route) is route_class


def test_quotas_are_told_by_what_is_different() -> None:
    assert quotas_from("") == DEFAULTS
    told = quotas_from("reads=1/2, orders=3/4")
    assert told == {**DEFAULTS, RouteClass.READS: Quota(1, 2), RouteClass.ORDERS: Quota(3, 4)}
    assert quotas_from(" off ") is None


@pytest.mark.parametrize(
    "text", ["reads", "reads=1", "reads=0/1", "reads=1/x", "all=1/1", "reads=1/1 orders=1/1"]
)
def test_quotas_that_cannot_be_read(text: str) -> None:
    with pytest.raises(ValueError, match="is no quota"):
        quotas_from(text)


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:ffff::", "2001:db8:1:2::/64"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("unknown", "unknown"),
    ],
)
def test_whom_an_address_stands_for(address: str, expected: str) -> None:
    assert subscriber(address) == expected


def test_the_fields_name_every_policy() -> None:
    standings = [
        ("reads-address", Limit(6000, 60), LimitStatus(True, 5999, 59.2)),
        ("reads-user", Limit(600, 60), LimitStatus(False, 0, 3.0)),
    ]
    assert headers_of(standings) == [
        (b"ratelimit-policy", b'"reads-address";q=6000;w=60, "reads-user";q=600;w=60'),
        (b"ratelimit", b'"reads-address";r=5999;t=60, "reads-user";r=0;t=3'),
    ]
    assert headers_of([]) == []


class ByName:
    """Takes a token for whoever it names, as `merchant/name/role`."""

    async def caller(self, token: str) -> Principal:
        merchant, name, role = token.split("/")
        return Principal(merchant, name, Role(role), SCOPES_OF[Role(role)])


class NoOrders:
    """An API server that has none."""

    async def list_page(self, *_: Any, **__: Any) -> Any:
        return SimpleNamespace(items=[], continue_token=None)


class Door:
    """The gateway with a proxy before it, and nothing behind."""

    def __init__(self, quotas: Quotas | None) -> None:
        api: Any = NoOrders()
        held = HeldOrders(10, time.monotonic)
        services: Any = SimpleNamespace(
            load_shedding=None,
            api=api,
            orders=OrderReader(api, held, Reflector(api, Kind.ORDER, held), EmptyArchive()),
            authentication=ByName(),
            counters=MemoryCounters(),
        )
        app = create_app(declared_api(services), rate_limits=quotas, trusted_proxies=networks("127.0.0.1"))
        transport = httpx.ASGITransport(app, client=("127.0.0.1", 1))
        self.http = httpx.AsyncClient(transport=transport, base_url="http://door.test")

    async def ask(
        self, user: str | None = "demo/u-1/customer", address: str = "192.0.2.1", *, method: str = "GET"
    ) -> httpx.Response:
        headers = {"X-Forwarded-For": address} | ({"Authorization": f"Bearer {user}"} if user else {})
        return await self.http.request(method, "/api/orders", headers=headers)


SMALL = {**DEFAULTS, RouteClass.READS: Quota(user=3, address=5)}


async def codes(door: Door, count: int, **more: Any) -> list[int]:
    return [(await door.ask(**more)).status_code for _ in range(count)]


async def test_a_user_is_stopped_whatever_address_they_come_from() -> None:
    door = Door(SMALL)
    answers = [await door.ask(address=f"192.0.2.{number}") for number in range(5)]
    assert [answer.status_code for answer in answers] == [200] * 3 + [429] * 2
    assert await codes(door, 1, user="demo/u-2/customer") == [200]
    # The same name at another merchant is somebody else.
    assert await codes(door, 1, user="other/u-1/customer", address="192.0.2.9") == [200]


async def test_an_address_is_stopped_whoever_is_there_and_without_a_token_too() -> None:
    door = Door(SMALL)
    answers = [(await door.ask(user=f"demo/u-{number}/customer")).status_code for number in range(4)]
    answers += await codes(door, 3, user=None)
    assert answers == [200] * 4 + [401] + [429] * 2
    assert await codes(door, 1, address="192.0.2.2") == [200]


async def test_who_acts_for_a_shop_is_allowed_what_an_address_is() -> None:
    for role in (Role.MERCHANT, Role.ADMIN, Role.SERVICE):
        door = Door(SMALL)
        user = f"demo/shop/{role.value}"
        answers = [(await door.ask(user, f"192.0.2.{number}")).status_code for number in range(7)]
        assert answers == [200] * 5 + [429] * 2


async def test_each_class_has_quotas_of_its_own() -> None:
    door = Door(SMALL)
    assert await codes(door, 4) == [200] * 3 + [429]
    assert (await door.ask(method="POST")).status_code == 400  # it lacks a key, and is not one too many


async def test_every_answer_says_what_is_left() -> None:
    door = Door(SMALL)
    answer = await door.ask()
    assert answer.headers["RateLimit-Policy"] == '"reads-address";q=5;w=60, "reads-user";q=3;w=60'
    assert answer.headers["RateLimit"].startswith('"reads-address";r=4;t=')
    assert '"reads-user";r=2;t=' in answer.headers["RateLimit"]
    refused = await door.ask(user=None)
    assert refused.status_code == 401
    assert refused.headers["RateLimit"].startswith('"reads-address";r=3;t=')


async def test_a_refusal_is_a_problem_that_says_when_to_come_back() -> None:
    door = Door(SMALL)
    await codes(door, 3)
    refused = await door.ask()
    document = refused.json()
    assert (refused.status_code, document["code"]) == (429, "rate_limited")
    assert refused.headers["Content-Type"] == "application/problem+json"
    assert 1 <= int(refused.headers["Retry-After"]) <= 60
    assert '"reads-user";r=0;t=' in refused.headers["RateLimit"]
    assert "u-1" not in refused.text
    assert "192.0.2" not in refused.text


async def test_nothing_is_limited_where_that_is_wished() -> None:
    door = Door(None)
    answers = [await door.ask() for _ in range(1000)]
    assert {answer.status_code for answer in answers} == {200}
    assert "RateLimit" not in answers[0].headers


async def test_the_defaults_let_a_busy_shop_in_and_stop_one_who_asks_too_often() -> None:
    """Ten thousand new orders in a minute, of 500 people behind one proxy: each has 20."""
    counters = MemoryCounters()
    quota = DEFAULTS[RouteClass.ORDERS]
    for number in range(10_000):
        who = str(number % 500)
        assert (await counters.hit(Limit(quota.address, 60), "address", who)).is_within
        assert (await counters.hit(Limit(quota.user, 60), "user", who)).is_within
    alone = [(await counters.hit(Limit(quota.user, 60), "user", "one")).is_within for _ in range(100)]
    assert alone.count(True) == quota.user == 60
