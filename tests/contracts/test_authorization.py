"""Every route with every role: who may call it, and that nobody sees the resources of others."""

import asyncio
import json
import uuid
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from argon2 import PasswordHasher

from orderplane.events.account_messages import AccountMessageKind
from orderplane.gateway.identity.confirmations import Confirmations
from orderplane.gateway.identity.user_store import EmailTaken, UserStore, new_user_id
from orderplane.gateway.principal import Role

from ..support.accounts import secret_to
from ..support.plane import PASSWORD, Caller, Merchant

pytestmark = pytest.mark.integration

DOCUMENT = json.loads((Path(__file__).parents[2] / "docs" / "openapi.json").read_text())
OPERATIONS = {
    f"{method.upper()} {path}": operation
    for path, methods in DOCUMENT["paths"].items()
    for method, operation in methods.items()
}

SKU = "TEA-EARL-GREY-100"
"""What every merchant of the tests has, and the document's examples speak of."""

Json = dict[str, Any]

CUSTOMER, MERCHANT, ADMIN, SERVICE = Role.CUSTOMER, Role.MERCHANT, Role.ADMIN, Role.SERVICE
PEOPLE = (CUSTOMER, MERCHANT, ADMIN)
SHOP = (MERCHANT, ADMIN, SERVICE)
ALL = (*PEOPLE, SERVICE)


@dataclass(frozen=True, slots=True)
class Row:
    """What is answered.

    Args:
        status: To those who may.
        roles: Who may; the others get 403, and who shows no token 401. None: everybody, whatever they show.
        stranger: To somebody who may in principle, but asks for what is another customer's or merchant's.
        is_shops: It is the whole merchant's, and none of its customers is a stranger.
        may_take_time: 202 is as good: the controllers are still at it.
    """

    status: int
    roles: tuple[Role, ...] | None
    stranger: int | None = None
    is_shops: bool = False
    may_take_time: bool = False

    def is_done(self, answer: httpx.Response) -> bool:
        return answer.status_code == self.status or (self.may_take_time and answer.status_code == 202)


TABLE = {
    "POST /api/orders": Row(202, ALL),
    "GET /api/orders": Row(200, ALL, stranger=200),
    "GET /api/orders/watch": Row(200, ALL, stranger=200),
    "GET /api/orders/{order_id}": Row(200, ALL, stranger=404),
    "GET /api/orders/{order_id}/watch": Row(200, ALL, stranger=404),
    "GET /api/orders/{order_id}/timeline": Row(200, ALL, stranger=404),
    "POST /api/orders/{order_id}/cancel": Row(202, ALL, stranger=404),
    "POST /api/orders/{order_id}/refunds": Row(201, SHOP, stranger=404),
    "GET /api/orders/{order_id}/refunds": Row(200, ALL, stranger=404),
    "POST /api/orders/{order_id}/retry": Row(202, SHOP, stranger=404),
    # Nothing of the order waits for a person.
    "POST /api/orders/{order_id}/settlements": Row(409, SHOP, stranger=404),
    "GET /api/orders/{order_id}/messages": Row(200, SHOP, stranger=404),
    "GET /api/overview": Row(200, SHOP, stranger=200),
    "GET /api/failed-messages": Row(200, SHOP, stranger=200),
    "POST /api/failed-messages/{message_id}/replay": Row(202, SHOP, stranger=404),
    "GET /api/actions": Row(200, SHOP, stranger=200),
    "GET /api/products": Row(200, ALL, stranger=200, is_shops=True),
    "POST /api/products": Row(201, SHOP),
    "GET /api/products/{sku}": Row(200, ALL, stranger=404, is_shops=True),
    "PATCH /api/products/{sku}": Row(200, SHOP, stranger=404),
    "DELETE /api/products/{sku}": Row(204, SHOP, stranger=404),
    "POST /api/quotes": Row(200, ALL),
    "GET /api/price-rules": Row(200, ALL, stranger=200, is_shops=True),
    "GET /api/price-rules/{currency}": Row(200, ALL, stranger=404, is_shops=True),
    "PUT /api/price-rules/{currency}": Row(200, SHOP),
    "DELETE /api/price-rules/{currency}": Row(204, SHOP, stranger=404),
    "GET /api/price-rules/{currency}/versions": Row(200, SHOP, stranger=404),
    "GET /api/inventory": Row(200, SHOP, stranger=200),
    "GET /api/inventory/{sku}": Row(200, SHOP, stranger=404),
    "GET /api/inventory/{sku}/movements": Row(200, SHOP, stranger=404),
    "POST /api/inventory/{sku}/adjustments": Row(200, SHOP, stranger=404),
    "POST /api/inventory/{sku}/recounts": Row(200, SHOP, stranger=404),
    "POST /api/inventory/reserve": Row(201, SHOP, may_take_time=True),
    "GET /api/inventory/reservations/{reservation_id}": Row(200, SHOP, stranger=404),
    "POST /api/inventory/release": Row(200, SHOP, stranger=404, may_take_time=True),
    "GET /api/webhook-endpoints": Row(200, SHOP, stranger=200),
    "POST /api/webhook-endpoints": Row(201, SHOP),
    "GET /api/webhook-endpoints/{endpoint_id}": Row(200, SHOP, stranger=404),
    "PATCH /api/webhook-endpoints/{endpoint_id}": Row(200, SHOP, stranger=404),
    "DELETE /api/webhook-endpoints/{endpoint_id}": Row(204, SHOP, stranger=404),
    "GET /api/webhook-endpoints/{endpoint_id}/secret": Row(200, SHOP, stranger=404),
    "POST /api/webhook-endpoints/{endpoint_id}/secret/rotations": Row(200, SHOP, stranger=404),
    "POST /api/webhook-endpoints/{endpoint_id}/tests": Row(202, SHOP, stranger=404),
    "GET /api/webhook-endpoints/{endpoint_id}/deliveries": Row(200, SHOP, stranger=404),
    "GET /api/webhook-endpoints/{endpoint_id}/deliveries/{event_id}": Row(200, SHOP, stranger=404),
    "POST /api/webhook-endpoints/{endpoint_id}/deliveries/{event_id}/replay": Row(202, SHOP, stranger=404),
    "POST /api/webhook-endpoints/{endpoint_id}/replays": Row(202, SHOP, stranger=404),
    "POST /api/auth/register": Row(202, None),
    "POST /api/auth/register/confirm": Row(204, None),
    "POST /api/auth/password-reset": Row(202, None),
    "POST /api/auth/password-reset/confirm": Row(204, None),
    "POST /api/auth/login": Row(200, None),
    "POST /api/auth/logout": Row(204, None),
    "GET /.well-known/jwks.json": Row(200, None),
    "GET /api/users/me": Row(200, PEOPLE, stranger=200),
    "PATCH /api/users/me": Row(200, PEOPLE),
    "DELETE /api/users/me": Row(204, PEOPLE),
    "PUT /api/users/me/password": Row(204, PEOPLE),
    "PUT /api/users/me/email": Row(202, PEOPLE),
    "POST /api/users/me/email/confirm": Row(204, PEOPLE, stranger=400),
    "POST /api/users/me/phone/confirm": Row(204, PEOPLE, stranger=400),
    "DELETE /api/users/me/logins": Row(204, PEOPLE),
    "GET /api/users": Row(200, (ADMIN,), stranger=200),
    "POST /api/users": Row(201, (ADMIN,)),
    "GET /api/users/{user_id}": Row(200, (ADMIN,), stranger=404),
    "DELETE /api/users/{user_id}": Row(204, (ADMIN,), stranger=404),
    "GET /api/clients": Row(200, (ADMIN,), stranger=200),
    "POST /api/clients": Row(201, (ADMIN,)),
    "DELETE /api/clients/{client_id}": Row(204, (ADMIN,), stranger=404),
}


@dataclass(frozen=True, slots=True)
class Ask:
    """One request, whoever sends it."""

    method: str
    path: str
    headers: dict[str, str]
    sent: dict[str, Any]


class Door:
    """The gateway of a merchant, and who makes there what is asked for."""

    def __init__(self, merchant: Merchant, seller: Caller, http: httpx.AsyncClient) -> None:
        self.merchant = merchant
        self._seller = seller
        self._http = http

    async def send(self, ask: Ask, caller: Caller | None) -> httpx.Response:
        headers = ask.headers | (caller.headers if caller else {})
        return await self._http.request(ask.method, ask.path, headers=headers, **ask.sent)

    async def ask_for(self, name: str, owner: Caller, role: Role) -> Ask:
        """The document's own example of an operation, about something new of the owner's."""
        operation = OPERATIONS[name]
        method, _, path = name.partition(" ")
        for parameter, make in IN_PATHS.items():
            if parameter in path:
                made = await IN_PATH_OF.get(name, make)(self, owner, role)
                path = path.replace(parameter, made)
        assert "{" not in path, "IN_PATHS does not say how to make this"
        is_keyed = any(part["name"] == "Idempotency-Key" for part in operation.get("parameters", ()))
        headers = {"Idempotency-Key": str(uuid.uuid4())} if is_keyed else {}
        for kind, part in operation.get("requestBody", {}).get("content", {}).items():
            body = part["example"]
            if name in IN_BODIES:
                body = await IN_BODIES[name](self, body, owner, role)
            how = "data" if kind == "application/x-www-form-urlencoded" else "json"
            return Ask(method, path, headers | {"Content-Type": kind}, {how: body})
        sent = {"params": {"timeoutSeconds": 0}} if path.endswith("/watch") else {}
        return Ask(method, path, headers, sent)

    async def order(self, owner: Caller, role: Role) -> str:
        return await self._made("POST /api/orders", owner, role, "id")

    async def sold_order(self, owner: Caller, role: Role) -> str:
        """One that the carrier has."""
        order = await self.order(owner, role)
        async with asyncio.timeout(60):
            while True:
                answer = await self.send(Ask("GET", f"/api/orders/{order}", {}, {}), owner)
                if answer.json().get("phase") == "Delivered":
                    return order
                await asyncio.sleep(0.1)

    async def user(self, _: Caller, __: Role) -> str:
        return (await self.merchant.caller(CUSTOMER)).id

    async def product(self, _: Caller, __: Role) -> str:
        """One that was counted."""
        sku = await self._made("POST /api/products", self._seller, MERCHANT, "sku")
        ask = Ask(
            "POST", f"/api/inventory/{sku}/recounts", {"Idempotency-Key": sku},
            {"json": {"onHand": 5, "reason": "counted"}},
        )  # fmt: skip
        answer = await self.send(ask, self._seller)
        assert answer.status_code == 200, answer.text
        return sku

    async def currency(self, _: Caller, __: Role) -> str:
        """One with a price rule; no order of these tests is in it."""
        body = OPERATIONS["PUT /api/price-rules/{currency}"]["requestBody"]["content"]["application/json"]
        ask = Ask("PUT", "/api/price-rules/CHF", {}, {"json": body["example"]})
        answer = await self.send(ask, self._seller)
        assert answer.status_code == 200, answer.text
        return "CHF"

    async def endpoint(self, _: Caller, __: Role) -> str:
        """The only one: there is a most of them."""
        answer = await self.send(Ask("GET", "/api/webhook-endpoints", {}, {}), self._seller)
        for known in answer.json()["items"]:
            await self.send(Ask("DELETE", f"/api/webhook-endpoints/{known['id']}", {}, {}), self._seller)
        return await self._made("POST /api/webhook-endpoints", self._seller, MERCHANT, "id")

    async def event(self, _: Caller, __: Role) -> str:
        """Of a test of the only endpoint."""
        answer = await self.send(Ask("GET", "/api/webhook-endpoints", {}, {}), self._seller)
        (endpoint,) = answer.json()["items"]
        key = {"Idempotency-Key": str(uuid.uuid4())}
        answer = await self.send(
            Ask("POST", f"/api/webhook-endpoints/{endpoint['id']}/tests", key, {}), self._seller
        )
        event: str = answer.json()["eventId"]
        return event

    async def endpoint_body(self, body: Json, _: Caller, __: Role) -> Json:
        """Nobody listens there: nothing is sent to a real host."""
        return body | {"url": "http://127.0.0.1:9/"}

    async def reservation(self, _: Caller, __: Role) -> str:
        return await self._made("POST /api/inventory/reserve", self._seller, MERCHANT, "id")

    async def service(self, _: Caller, __: Role) -> str:
        admin = await self.merchant.caller(ADMIN)
        return await self._made("POST /api/clients", admin, ADMIN, "id")

    async def failed_message(self, owner: Caller, role: Role) -> str:
        """One to a customer who has no account: a replay sends nothing."""
        order = await self.order(owner, role)
        async with asyncio.timeout(60):
            while True:
                row = await self.merchant.pool.fetchrow(_FAIL_MESSAGE, self.merchant.name, order)
                if row is not None:
                    break
                await asyncio.sleep(0.1)
        return f"{row['event_id']}.{row['channel']}"

    async def _made(self, name: str, owner: Caller, role: Role, member: str) -> str:
        answer = await self.send(await self.ask_for(name, owner, role), owner)
        assert TABLE[name].is_done(answer), answer.text
        made: str = answer.json()[member]
        return made

    async def order_body(self, body: Json, _: Caller, role: Role) -> Json:
        """Customers order for themselves."""
        return {name: value for name, value in body.items() if role is not CUSTOMER or name != "customer"}

    async def product_body(self, body: Json, _: Caller, __: Role) -> Json:
        """A SKU is taken once."""
        return body | {"sku": f"NEW-{uuid.uuid4()}"}

    async def registration_body(self, _: Json, __: Caller, ___: Role) -> Json:
        """What the mail to a new address has."""
        email, pool = f"{uuid.uuid4()}@example.test", self.merchant.pool
        answer = await self._http.post("/api/auth/register", json={"email": email, "password": PASSWORD})
        assert answer.status_code == 202, answer.text
        return {"token": await secret_to(pool, email, AccountMessageKind.REGISTRATION), "password": PASSWORD}

    async def reset_body(self, body: Json, _: Caller, __: Role) -> Json:
        user, pool = await self.user(_, __), self.merchant.pool
        await Confirmations(pool).request_reset(self.merchant.name, f"{user}@example.test")
        token = await secret_to(pool, f"{user}@example.test", AccountMessageKind.PASSWORD_RESET)
        return body | {"token": token}

    async def email_body(self, _: Json, owner: Caller, role: Role) -> Json:
        email, pool = f"{uuid.uuid4()}@example.test", self.merchant.pool
        user = await self._person(owner, role)
        known = await UserStore(pool).password_hash(self.merchant.name, user)
        assert known is not None
        assert await Confirmations(pool).propose_email(self.merchant.name, user, email, checked=known)
        return {"token": await secret_to(pool, email, AccountMessageKind.NEW_EMAIL)}

    async def phone_body(self, _: Json, owner: Caller, role: Role) -> Json:
        phone, pool = f"+3197{uuid.uuid4().int % 10**9:09d}", self.merchant.pool
        await Confirmations(pool).propose_phone(self.merchant.name, await self._person(owner, role), phone)
        return {"code": await secret_to(pool, phone, AccountMessageKind.NEW_PHONE)}

    async def _person(self, owner: Caller, role: Role) -> str:
        """The owner; somebody else for a service, which has no address."""
        return await self.user(owner, role) if role is SERVICE else owner.id

    async def release_body(self, body: Json, owner: Caller, role: Role) -> Json:
        return body | {"reservation": await self.reservation(owner, role)}


_FAIL_MESSAGE = """
INSERT INTO notifications (merchant, event_id, channel, order_uid, seq, type, customer, state, reason,
    pending_since, ended_at, dead_lettered_at)
SELECT merchant, event_id, 'email', subject, seq, type, 'nobody', 'Dead', 'RecipientRefused', at, now(), now()
FROM history WHERE merchant = $1 AND name = $2 AND type = 'order.created'
ON CONFLICT (merchant, event_id, channel) DO UPDATE SET state = 'Dead', reason = 'RecipientRefused',
    customer = 'nobody', ended_at = now(), dead_lettered_at = now()
RETURNING event_id, channel
"""

IN_PATHS: dict[str, Callable[[Door, Caller, Role], Awaitable[str]]] = {
    "{order_id}": Door.order,
    "{user_id}": Door.user,
    "{sku}": Door.product,
    "{reservation_id}": Door.reservation,
    "{currency}": Door.currency,
    "{endpoint_id}": Door.endpoint,
    "{event_id}": Door.event,
    "{message_id}": Door.failed_message,
    "{client_id}": Door.service,
}
"""How to make, for an owner, what a path names."""

IN_PATH_OF = {"POST /api/orders/{order_id}/refunds": Door.sold_order}
"""Where it has to be a particular one."""

IN_BODIES: dict[str, Callable[[Door, Json, Caller, Role], Awaitable[Json]]] = {
    "POST /api/orders": Door.order_body,
    "POST /api/products": Door.product_body,
    "POST /api/webhook-endpoints": Door.endpoint_body,
    "POST /api/inventory/release": Door.release_body,
    "POST /api/auth/register/confirm": Door.registration_body,
    "POST /api/auth/password-reset/confirm": Door.reset_body,
    "POST /api/users/me/email/confirm": Door.email_body,
    "POST /api/users/me/phone/confirm": Door.phone_body,
}
"""Where the example cannot be sent as it is by everybody, and twice."""


def code_of(answer: httpx.Response) -> str | None:
    is_problem = answer.headers.get("Content-Type") == "application/problem+json"
    return answer.json()["code"] if is_problem else None


@pytest.fixture
async def door(merchant: Merchant) -> Any:
    seller = await merchant.caller(MERCHANT)
    async with httpx.AsyncClient(base_url=merchant.plane.url("gateway"), timeout=30) as http:
        door = Door(merchant, seller, http)
        # Ada, whom the document's examples are about.
        ask = await door.ask_for("POST /api/auth/login", seller, MERCHANT)
        form = ask.sent["data"]
        with suppress(EmailTaken):
            await UserStore(merchant.pool).add(
                "demo", new_user_id(), email=form["username"], role="customer", is_confirmed=True,
                password_hash=PasswordHasher().hash(form["password"]),
            )  # fmt: skip
        yield door


def test_the_table_has_every_route() -> None:
    assert TABLE.keys() == OPERATIONS.keys()


@pytest.mark.parametrize("name", TABLE)
async def test_each_role_gets_what_the_table_says(door: Door, name: str) -> None:
    row = TABLE[name]
    for role in ALL:
        caller = await door.merchant.caller(role)
        answer = await door.send(await door.ask_for(name, caller, role), caller)
        is_allowed = row.roles is None or role in row.roles
        assert row.is_done(answer) if is_allowed else answer.status_code == 403, (role, answer.text)
        assert (code_of(answer) == "insufficient_scope") is not is_allowed
        if name.startswith("GET "):
            await check_head(door, await door.ask_for(name, caller, role), caller)
    seller = await door.merchant.caller(MERCHANT)
    nobody = await door.send(await door.ask_for(name, seller, MERCHANT), None)
    if row.roles is None:
        assert row.is_done(nobody), nobody.text
    else:
        assert (nobody.status_code, code_of(nobody)) == (401, "unauthenticated")
        assert nobody.headers["WWW-Authenticate"].startswith("Bearer")
    if name.startswith("GET "):
        await check_head(door, await door.ask_for(name, seller, MERCHANT), None)


async def check_head(door: Door, ask: Ask, caller: Caller | None) -> None:
    """HEAD is answered as GET, to the same people, without the content."""
    for _ in range(10):
        got = await door.send(ask, caller)
        head = await door.send(replace(ask, method="HEAD"), caller)
        # An order goes on meanwhile: the two are compared where nothing has changed between them.
        if (await door.send(ask, caller)).content == got.content:
            break
    assert (head.status_code, head.content) == (got.status_code, b"")
    assert got.headers.get("Content-Length") == head.headers.get("Content-Length")
    assert got.headers.get("ETag") == head.headers.get("ETag")
    assert got.headers.keys() - {"transfer-encoding"} == head.headers.keys()


@pytest.mark.parametrize("name", [name for name, row in TABLE.items() if row.stranger])
async def test_strangers_get_nothing_of_anybody_else(door: Door, name: str) -> None:
    row, merchant = TABLE[name], door.merchant
    assert row.roles is not None
    for role in row.roles:
        owner = await merchant.caller(role)
        strangers = [await merchant.caller(role, of=f"{merchant.name}-rival")]
        if role is CUSTOMER and not row.is_shops:
            strangers.append(await merchant.caller(role))
        ask = await door.ask_for(name, owner, role)
        seen = [owner.id, await door.order(owner, role), f"{owner.id}@example.test", SKU]
        for stranger in strangers:
            answer = await door.send(ask, stranger)
            assert answer.status_code == row.stranger, (role, answer.text)
            assert [mark for mark in seen if mark in answer.text] == []
        # It was there to be seen, and still is.
        own = await door.send(ask, owner)
        assert row.is_done(own), (role, own.text)
