"""Input is only data: never SQL, a path, a log line, a role or a price."""

import base64
import hashlib
import json
import secrets
from typing import Any
from urllib.parse import quote

import orjson
import pytest

from orderplane.crds.meta import Kind
from orderplane.gateway.http.cursors import VERSION
from orderplane.gateway.principal import Role
from orderplane.ledgers.postgres.session import session

from ..support.plane import ORDER, PASSWORD
from .conftest import Target, code_of

pytestmark = pytest.mark.integration

SQL = (
    "'", "''", "' OR '1'='1", "'; DROP TABLE users; --", "x' UNION SELECT password_hash FROM users --",
    "\\'; SELECT pg_sleep(20); --", "$1", "%", "_", "1; TRUNCATE orders",
    "\0", "a\0b",
)  # fmt: skip


async def contents(target: Target) -> dict[str, int]:
    """How much there is of everything."""
    async with session(target.merchant.pool) as connection:
        tables = await connection.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
        return {
            row["tablename"]: await connection.fetchval(f'SELECT count(*) FROM "{row["tablename"]}"')  # noqa: S608
            for row in tables
            # These grow by themselves.
            if row["tablename"] not in ("history", "idempotency", "event_deliveries", "delivery_attempts")
        }


@pytest.mark.parametrize("text", SQL)
async def test_sql_is_text(target: Target, text: str) -> None:
    boss = await target.merchant.caller(Role.ADMIN)
    before = await contents(target)
    part = quote(text, safe="")
    for path in (f"/api/orders/{part}", f"/api/users/{part}", f"/api/orders?cursor={part}",
                 f"/api/users?cursor={part}", f"/api/products?cursor={part}", f"/api/orders?phase={part}",
                 f"/api/products?limit={part}", f"/api/orders?sku={part}", f"/api/orders?createdAfter={part}",
                 f"/api/orders/{part}/timeline", f"/api/products?currency={part}",
                 f"/api/products?currency=EUR&minPrice={part}", f"/api/products/{part}",
                 f"/api/inventory?cursor={part}", f"/api/inventory/{part}",
                 f"/api/inventory/{part}/movements", f"/api/inventory/reservations/{part}"):  # fmt: skip
        answer = await target.http.get(path, headers=boss.headers)
        assert answer.status_code in (400, 404, 422), (path, answer.text)
    for form in (
        {"grant_type": "password", "username": text, "password": text, "merchant": target.merchant.name},
        {"grant_type": "password", "username": "a@example.test", "password": "x", "merchant": text},
        {"grant_type": "client_credentials", "client_id": text, "client_secret": text},
        {"grant_type": "refresh_token", "refresh_token": text},
    ):
        refused = await target.http.post("/api/auth/login", data=form)
        assert code_of(refused)[1] in ("invalid_request", "invalid_grant", "invalid_client"), form
    answer = await target.http.post(
        "/api/auth/login", data={"grant_type": "client_credentials"}, auth=(text, text)
    )
    assert code_of(answer)[1] in ("invalid_request", "invalid_client")
    answer = await target.http.post("/api/auth/logout", data={"refresh_token": text})
    assert answer.status_code in (204, 422), "what is no token is none that is good"
    items = {"items": [{"sku": text, "quantity": 1}]}
    assert (await target.post("/api/orders", ORDER | items)).status_code == 422
    assert (await target.send("POST", "/api/inventory/reserve", items, boss)).status_code == 422
    release = {"reservation": text}
    assert (await target.send("POST", "/api/inventory/release", release, boss)).status_code == 404
    found = await target.http.get("/api/products", params={"q": text}, headers=boss.headers)
    assert (found.status_code, found.json()["items"]) == (200, [])
    assert await contents(target) == before


@pytest.mark.parametrize(
    "state",
    [
        {},
        {"after": 5},
        {"after": "\0"},
        {"after": ["a"]},
        {"token": {"a": 1}, "phase": None},
        {"token": "\0"},
    ],
    ids=repr,
)  # fmt: skip
async def test_a_cursor_that_somebody_made_up_is_refused(target: Target, state: Any) -> None:
    """Its checksum is no secret."""
    boss = await target.merchant.caller(Role.ADMIN)
    for kind in ("orders", "products", "users"):
        document = orjson.dumps({"v": VERSION, "k": kind, "s": state})
        checksum = hashlib.sha256(document).digest()[:8]
        cursor = base64.urlsafe_b64encode(checksum + document).decode().rstrip("=")
        answer = await target.http.get(f"/api/{kind}", params={"cursor": cursor}, headers=boss.headers)
        assert code_of(answer) == (400, "invalid_cursor"), kind


@pytest.mark.parametrize("text", SQL)
async def test_a_reason_and_a_description_stay_as_they_are(target: Target, text: str) -> None:
    tea = "TEA-EARL-GREY-100"
    told = {"name": text, "description": text}
    changed = await target.send("PATCH", f"/api/products/{tea}", told, target.seller)
    if "\0" in text:
        # PostgreSQL has no text with a zero in it.
        assert code_of(changed) == (422, "validation_failed")
        return
    assert changed.json().items() >= told.items()
    level = {"delta": 1, "reason": text}
    adjusted = await target.send("POST", f"/api/inventory/{tea}/adjustments", level, target.seller)
    assert adjusted.status_code == 200, adjusted.text
    movements = await target.http.get(f"/api/inventory/{tea}/movements", headers=target.seller.headers)
    assert movements.json()["items"][0]["reason"] == text
    others = await target.http.get("/api/products/TEA-SENCHA-100", headers=target.seller.headers)
    assert others.json()["name"] == "Sencha, 100 g"


async def test_a_name_may_look_like_sql_and_stays_as_it_is(target: Target) -> None:
    name = "Robert'); DROP TABLE users; --"
    headers = target.customer.headers
    assert (await target.http.patch("/api/users/me", json={"name": name}, headers=headers)).json()[
        "name"
    ] == name
    assert (await target.http.get("/api/users/me", headers=headers)).json()["name"] == name


@pytest.mark.parametrize(
    "trick",
    [
        "..", "../users", "..%2Fusers%2Fme", "%2e%2e%2fusers%2fme", "..%252fusers", "..%5Cusers", "o-1%00",
        "o-1%2F..%2F..", ";/users", "./o-1", "o-1%0d%0aX-Evil:%201", "%c0%ae%c0%ae%c0%af", "*", "o-1/status",
        "o-1?fieldManager=x", "o-1%3Fwatch%3Dtrue", "%F0%9F%92%A9",
    ],
)  # fmt: skip
async def test_an_id_leads_nowhere_else(target: Target, trick: str) -> None:
    boss = (await target.merchant.caller(Role.ADMIN)).token
    for method, path, token in (
        ("GET", f"/api/orders/{trick}", target.customer.token),
        ("GET", f"/api/orders/{trick}/timeline", target.customer.token),
        ("POST", f"/api/orders/{trick}/cancel", target.customer.token),
        ("GET", f"/api/users/{trick}", boss),
        ("DELETE", f"/api/products/{trick}", boss),
        ("GET", f"/api/inventory/{trick}/movements", boss),
        ("GET", f"/api/inventory/reservations/{trick}", boss),
    ):
        reader, writer = await target.connect()
        # By hand: a client library would tidy the path up.
        request = (
            f"{method} {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n"
            "Content-Length: 0\r\nConnection: close\r\n\r\n"
        )
        writer.write(request.encode())
        answer = (await reader.read()).decode()
        writer.close()
        await writer.wait_closed()
        status = int(answer.split(" ", 2)[1])
        # 422: an unknown parameter of the query.
        assert status in (400, 404, 405, 422), answer
        assert "X-Evil" not in answer.partition("\r\n\r\n")[0]


@pytest.mark.parametrize(
    "more",
    [
        {"quote": {"currency": "EUR"}}, {"total": 1}, {"amounts": {"total": 1}}, {"phase": "Delivered"},
        {"status": {"phase": "Paid"}}, {"metadata": {"labels": {"a": "b"}}}, {"merchant": "demo"},
        {"cancel": False}, {"id": "o-1"}, {"uid": "x"}, {"customer": "u-somebody-else"}, {"role": "admin"},
        {"__proto__": {}},
        {"items": [{"sku": "TEA-EARL-GREY-100", "quantity": 1, "unitAmount": 1}]},
        {"items": [{"sku": "TEA-EARL-GREY-100", "quantity": 1, "weightGrams": 1}]},
        {"address": {**ORDER["address"], "email": "ada@example.test"}},
    ],
    ids=lambda more: next(iter(more)),
)  # fmt: skip
async def test_an_order_takes_nothing_that_is_not_the_customers_to_say(
    target: Target, more: dict[str, Any]
) -> None:
    answer = await target.post("/api/orders", ORDER | more)
    assert code_of(answer) == (422, "validation_failed")
    assert (await target.merchant.api.list_page(Kind.ORDER, target.merchant.name)).items == []


@pytest.mark.parametrize(
    "more",
    [
        {"merchant": "demo"}, {"available": 5}, {"version": 7}, {"search": "x"}, {"isActive": True},
        {"unitAmount": 1}, {"price": {"amount": 1, "currency": "EUR", "formatted": "free"}},
        {"__proto__": {}},
    ],
    ids=lambda more: next(iter(more)),
)  # fmt: skip
async def test_a_product_takes_nothing_that_is_not_the_shops_to_say(
    target: Target, more: dict[str, Any]
) -> None:
    product = {
        "sku": "NEW", "name": "New", "price": {"amount": 1, "currency": "EUR"}, "weightGrams": 1, **more,
    }  # fmt: skip
    answer = await target.send("POST", "/api/products", product, target.seller)
    assert code_of(answer) == (422, "validation_failed")
    absent = await target.http.get("/api/products/NEW", headers=target.seller.headers)
    assert code_of(absent) == (404, "product_not_found")


@pytest.mark.parametrize(
    "more",
    [
        {"role": "admin"}, {"merchant": "demo"}, {"id": "u-1"}, {"scopes": ["users:admin"]},
        {"email": "a@b.example"},
    ],
    ids=lambda more: next(iter(more)),
)  # fmt: skip
async def test_nobody_makes_themselves_more_than_they_are(target: Target, more: dict[str, Any]) -> None:
    headers = target.customer.headers
    before = (await target.http.get("/api/users/me", headers=headers)).json()
    answer = await target.http.patch("/api/users/me", json=more, headers=headers)
    assert code_of(answer) == (422, "validation_failed")
    assert (await target.http.get("/api/users/me", headers=headers)).json() == before
    if "email" not in more:
        account = {"email": f"{secrets.token_hex(6)}@example.test", "password": PASSWORD} | more
        answer = await target.http.post("/api/auth/register", json=account)
        if "merchant" in more:
            assert answer.status_code == 202, "whose shop it is, is the customer's to say"
        else:
            assert code_of(answer) == (422, "validation_failed")


async def test_a_scope_is_asked_for_and_not_taken(target: Target) -> None:
    email = f"{target.customer.id}@example.test"
    form = {
        "grant_type": "password", "username": email, "password": PASSWORD, "merchant": target.merchant.name,
        "scope": "users:admin inventory:write orders:read", "role": "admin",
    }  # fmt: skip
    granted = await target.http.post("/api/auth/login", data=form)
    assert granted.json()["scope"] == "orders:read"


async def test_a_log_line_cannot_be_planted(target: Target) -> None:
    """Whatever is sent, each line of the log stays one JSON object of ours, and repeats nothing of it."""
    mark = f"planted-{secrets.token_hex(6)}"
    line = f'\r\n{{"event": "{mark}", "level": "info"}}\r\n'
    part = quote(line, safe="")
    for path in (
        f"/api/orders/{part}",
        f"/{part}",
        f"/api/products?cursor={part}",
        f"/api/orders?phase={part}",
        f"/api/orders?sku={part}",
        f"/api/orders?createdAfter={part}",
        f"/api/orders/{part}/timeline",
        f"/api/products?q={part}",
        f"/api/products/{part}",
        f"/api/inventory/{part}/movements",
        f"/api/inventory/reservations/{part}",
    ):
        for caller in (target.customer, target.seller):
            answer = await target.http.get(path, headers=caller.headers)
            assert answer.status_code < 500, path
            assert mark not in answer.text
    tea = "TEA-EARL-GREY-100"
    for method, path, body in (
        ("POST", f"/api/inventory/{tea}/adjustments", {"delta": 1, "reason": mark}),
        ("POST", f"/api/inventory/{tea}/adjustments", {"delta": 1, "reason": line}),
        ("POST", f"/api/inventory/{tea}/recounts", {"onHand": 1, "reason": line}),
        ("POST", "/api/inventory/reserve", {"items": [{"sku": line, "quantity": 1}]}),
        ("POST", "/api/inventory/release", {"reservation": line}),
        ("PATCH", f"/api/products/{tea}", {"description": f"{mark}\n{mark}"}),
        ("PATCH", f"/api/products/{tea}", {"name": line}),
        ("PATCH", f"/api/products/{tea}", {mark: line}),
        ("PATCH", f"/api/products/{tea}", {"otherPrices": {line: 1}}),
    ):
        await target.send(method, path, body, target.seller)
    await target.post("/api/orders", ORDER | {"paymentMethod": line})
    await target.post("/api/orders", ORDER | {mark: line})
    await target.post("/api/orders", line.encode())
    await target.post("/api/orders", ORDER, traceparent=mark, **{"Idempotency-Key": mark})
    form = {"grant_type": "password", "username": line, "password": line, "merchant": line[:60]}
    await target.http.post("/api/auth/login", data=form)
    await target.http.get("/api/orders", headers={"Authorization": f"Bearer {mark}", "User-Agent": mark})
    for name in ("gateway", "operator"):
        text = (target.merchant.plane.state / "logs" / f"{name}.log").read_text()
        assert mark not in text
        for written in text.splitlines():
            assert isinstance(json.loads(written), dict), written
