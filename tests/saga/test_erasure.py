"""A customer is erased: nobody has their name any more, wherever their orders are."""

import asyncio
import json
import secrets
from typing import Any

import httpx
import pytest

from orderplane.adapters.kubernetes.client import Json
from orderplane.crds.meta import Kind
from orderplane.gateway.identity.user_store import UserStore
from orderplane.gateway.principal import Role
from orderplane.ledgers.postgres.session import session

from ..cli.terminal import orderplane
from ..support.plane import ORDER
from .conftest import Desk

pytestmark = pytest.mark.integration


async def in_the_database(desk: Desk, words: list[str]) -> list[str]:
    """The tables with a row that contains one of the words."""
    likes = [f"%{word}%" for word in words]
    async with session(desk.pool) as connection:
        tables = await connection.fetch(
            "SELECT oid::regclass::text AS name FROM pg_class "
            "WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace"
        )
        return [
            name
            for (name,) in tables
            if await connection.fetchval(
                f"SELECT EXISTS (SELECT FROM {name} t WHERE t::text ILIKE ANY ($1))",  # noqa: S608
                likes,
            )
        ]


async def in_the_api_server(desk: Desk, words: list[str]) -> list[str]:
    """The kinds with an object that contains one of the words."""
    texts = {kind.value: json.dumps((await desk.api.list_page(kind, desk.name)).items) for kind in Kind}
    texts["Event"] = json.dumps(await desk.api.read_path(f"/api/v1/namespaces/{desk.name}/events"))
    return [name for name, text in texts.items() if any(word in text for word in words)]


async def erase(desk: Desk, customer: str) -> Json:
    answer = await orderplane(
        "erase", customer, "--merchant", desk.name, "--json", env=desk.plane.env("admin")
    )
    assert answer.code == 0, answer.err
    told: Json = json.loads(answer.out)
    return told


async def test_nothing_has_the_name_of_an_erased_customer(desk: Desk) -> None:
    mark = secrets.token_hex(4)
    name, city, mail, gift = f"Zoe-{mark}", f"Town-{mark}", f"zoe-{mark}@example.test", f"for-{mark}"
    words = [name, city, mail, gift]
    customer = await desk.merchant.caller(Role.CUSTOMER)
    async with session(desk.pool) as connection:
        await connection.execute(
            "UPDATE users SET email = $3, name = $4 WHERE merchant = $1 AND id = $2",
            desk.name, customer.id, mail, name,
        )  # fmt: skip
    body = {**ORDER, "address": {**ORDER["address"], "name": name, "city": city}, "metadata": {"gift": gift}}
    async with httpx.AsyncClient(
        base_url=desk.plane.url("gateway"), headers=customer.headers, timeout=30
    ) as http:

        async def place(**more: Any) -> str:
            key = {"Idempotency-Key": secrets.token_hex(8)}
            answer = await http.post("/api/orders", json={**body, **more}, headers=key)
            assert answer.status_code == 202, answer.text
            return str(answer.json()["id"])

        left, stays, fails = await place(), await place(), await place(paymentMethod="pm_card_chargeDeclined")
        await until(http, left, "Delivered")
        await desk.api.merge_patch(Kind.ORDER, desk.name, left, {"spec": {"ttlSecondsAfterFinished": 0}})
        await until(http, stays, "Delivered")
        await until(http, fails, "Failed")
        running = await place()
    await desk.until_row("SELECT 1 FROM archived_orders WHERE merchant = $1 AND name = $2", left)
    async with session(desk.pool) as connection:
        # A request that nobody has finished.
        await connection.execute(
            "INSERT INTO idempotency (merchant, principal, key_hash, fingerprint, kind, name, manifest) "
            "VALUES ($1, 'p', 'k', 'f', 'Order', 'o-unfinished', $2)",
            desk.name, {"spec": {"customer": customer.id, "address": {"name": name}}},
        )  # fmt: skip
    # The search can find something.
    assert {"users", "idempotency"} <= set(await in_the_database(desk, words))
    assert "Order" in await in_the_api_server(desk, words)

    told = await erase(desk, customer.id)
    assert (told["account"], told["requests"]) == (True, 1)
    assert told["archived"] >= 1
    assert told["live"] >= 1
    async with asyncio.timeout(90):
        while told["live"]:
            await asyncio.sleep(0.2)
            told = await erase(desk, customer.id)
    assert told["account"] is False
    assert await in_the_database(desk, words) == []
    assert await in_the_api_server(desk, words) == []
    rows = await desk.rows(
        "SELECT name, phase, document FROM archived_orders WHERE merchant = $1 AND customer = $2",
        customer.id,
    )
    assert {row["name"]: row["phase"] for row in rows} == {
        left: "Delivered", stays: "Delivered", fails: "Failed", running: "Delivered",
    }  # fmt: skip
    for row in rows:
        spec = row["document"]["spec"]
        assert spec["quote"]["amounts"]["total"] > 0
        assert spec["address"]["country"] == ORDER["address"]["country"]
    assert await UserStore(desk.pool).role_of(desk.name, customer.id) is None


async def until(http: httpx.AsyncClient, order: str, phase: str) -> None:
    async with asyncio.timeout(60):
        while True:
            if (await http.get(f"/api/orders/{order}")).json()["phase"] == phase:
                return
            await asyncio.sleep(0.05)
