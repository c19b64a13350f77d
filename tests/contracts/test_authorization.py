"""Every route, by everybody: who may, who may not, and whose things nobody else gets to see."""

import json
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from orderplane.gateway.principal import Role

from ..conftest import Caller, Merchant

pytestmark = pytest.mark.integration

DOCUMENT = json.loads((Path(__file__).parents[2] / "docs" / "openapi.json").read_text())
OPERATIONS = {
    f"{method.upper()} {path}": operation
    for path, methods in DOCUMENT["paths"].items()
    for method, operation in methods.items()
}

CUSTOMER, MERCHANT, ADMIN, SERVICE = Role.CUSTOMER, Role.MERCHANT, Role.ADMIN, Role.SERVICE
PEOPLE = (CUSTOMER, MERCHANT, ADMIN)
ALL = (*PEOPLE, SERVICE)


@dataclass(frozen=True, slots=True)
class Row:
    """What is answered.

    Args:
        status: To those who may.
        roles: Who may; the others get 403, and who shows no token 401. None: everybody, whatever they show.
        stranger: To somebody who may in principle, but asks for what is another customer's or merchant's.
    """

    status: int
    roles: tuple[Role, ...] | None
    stranger: int | None = None


TABLE = {
    "POST /api/orders": Row(202, ALL),
    "GET /api/orders": Row(200, ALL, stranger=200),
    "GET /api/orders/{order_id}": Row(200, ALL, stranger=404),
    "POST /api/orders/{order_id}/cancel": Row(202, ALL, stranger=404),
    "GET /api/products": Row(200, ALL, stranger=200),
    "POST /api/auth/register": Row(202, None),
    "POST /api/auth/login": Row(200, None),
    "POST /api/auth/logout": Row(204, None),
    "GET /.well-known/jwks.json": Row(200, None),
    "GET /api/users/me": Row(200, PEOPLE, stranger=200),
    "PATCH /api/users/me": Row(200, PEOPLE),
    "DELETE /api/users/me": Row(204, PEOPLE),
    "PUT /api/users/me/password": Row(204, PEOPLE),
    "GET /api/users": Row(200, (ADMIN,), stranger=200),
    "POST /api/users": Row(201, (ADMIN,)),
    "GET /api/users/{user_id}": Row(200, (ADMIN,), stranger=404),
    "DELETE /api/users/{user_id}": Row(204, (ADMIN,), stranger=404),
}


class Door:
    """The front door, asked by whomever."""

    def __init__(self, merchant: Merchant, http: httpx.AsyncClient) -> None:
        self.merchant = merchant
        self._http = http

    async def ask(self, name: str, caller: Caller | None, role: Role | None, path: str) -> httpx.Response:
        """One operation with the document's own example; `path` has its ids."""
        headers = caller.headers if caller else {}
        operation = OPERATIONS[name]
        if any(parameter["name"] == "Idempotency-Key" for parameter in operation.get("parameters", ())):
            headers = headers | {"Idempotency-Key": str(uuid.uuid4())}
        content = operation.get("requestBody", {}).get("content", {})
        kind, body = next(((kind, part["example"]) for kind, part in content.items()), (None, None))
        if name == "POST /api/orders" and role is CUSTOMER:
            body = {key: value for key, value in body.items() if key != "customer"}
        sent: dict[str, Any] = {}
        if kind is not None:
            sent = {"json": body} if kind == "application/json" else {"data": body}
        return await self._http.request(name.partition(" ")[0], path, headers=headers, **sent)

    async def order(self, owner: Caller, role: Role) -> str:
        answer = await self.ask("POST /api/orders", owner, role, "/api/orders")
        assert answer.status_code == 202, answer.text
        order_id: str = answer.json()["id"]
        return order_id

    async def user(self, _: Caller, __: Role) -> str:
        return (await self.merchant.caller(CUSTOMER)).id


OBJECTS: dict[str, Callable[[Door, Caller, Role], Awaitable[str]]] = {
    "{order_id}": Door.order,
    "{user_id}": Door.user,
}
"""How to make, for an owner, what a path names."""


async def path_of(door: Door, name: str, owner: Caller, role: Role) -> str:
    """The operation's path with something new of the owner's in it."""
    path = name.partition(" ")[2]
    for parameter, make in OBJECTS.items():
        if parameter in path:
            path = path.replace(parameter, await make(door, owner, role))
    assert "{" not in path, "OBJECTS does not say how to make this"
    return path


def code_of(answer: httpx.Response) -> str | None:
    is_problem = answer.headers.get("Content-Type") == "application/problem+json"
    return answer.json()["code"] if is_problem else None


@pytest.fixture
async def door(merchant: Merchant) -> Any:
    async with httpx.AsyncClient(base_url=merchant.plane.url("gateway"), timeout=30) as http:
        door = Door(merchant, http)
        # Ada, whom the document's examples are about.
        assert (
            await door.ask("POST /api/auth/register", None, None, "/api/auth/register")
        ).status_code == 202
        yield door


def test_the_table_has_every_route() -> None:
    assert TABLE.keys() == OPERATIONS.keys()


@pytest.mark.parametrize("name", TABLE)
async def test_each_role_gets_what_the_table_says(door: Door, name: str) -> None:
    row = TABLE[name]
    for role in ALL:
        caller = await door.merchant.caller(role)
        answer = await door.ask(name, caller, role, await path_of(door, name, caller, role))
        is_allowed = row.roles is None or role in row.roles
        assert answer.status_code == (row.status if is_allowed else 403), (role, answer.text)
        assert (code_of(answer) == "insufficient_scope") is not is_allowed
    seller = await door.merchant.caller(MERCHANT)
    nobody = await door.ask(name, None, None, await path_of(door, name, seller, MERCHANT))
    if row.roles is None:
        assert nobody.status_code == row.status, nobody.text
    else:
        assert (nobody.status_code, code_of(nobody)) == (401, "unauthenticated")
        assert nobody.headers["WWW-Authenticate"].startswith("Bearer")


@pytest.mark.parametrize("name", [name for name, row in TABLE.items() if row.stranger])
async def test_strangers_get_nothing_of_anybody_else(door: Door, name: str) -> None:
    row, merchant = TABLE[name], door.merchant
    assert row.roles is not None
    for role in row.roles:
        owner = await merchant.caller(role)
        strangers = [await merchant.caller(role, of=f"{merchant.name}-rival")]
        if role is CUSTOMER:
            strangers.append(await merchant.caller(role))
        path = await path_of(door, name, owner, role)
        seen = [owner.id, await door.order(owner, role), f"{owner.id}@example.test"]
        for stranger in strangers:
            answer = await door.ask(name, stranger, role, path)
            assert answer.status_code == row.stranger, (role, answer.text)
            assert [mark for mark in seen if mark in answer.text] == []
        # It was there to be seen, and still is.
        own = await door.ask(name, owner, role, path)
        assert own.status_code == row.status, (role, own.text)


async def test_another_merchants_products_are_not_shown(door: Door) -> None:
    stranger = await door.merchant.caller(MERCHANT, of=f"{door.merchant.name}-rival")
    answer = await door.ask("GET /api/products", stranger, MERCHANT, "/api/products")
    assert answer.json()["items"] == []
