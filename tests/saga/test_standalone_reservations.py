"""Stock kept for nobody's order, from the request to its end: the same controllers do the work."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import httpx
import pytest

from orderplane.adapters.kafka.topics import read_all
from orderplane.adapters.kubernetes.client import ApiClient, Json
from orderplane.crds.api_errors import NotFound
from orderplane.crds.meta import Kind
from orderplane.crds.order import Item
from orderplane.ledgers.postgres.gate import PostgresGateLedger
from orderplane.ledgers.postgres.inventory import recount
from orderplane.ledgers.postgres.stock import PostgresStockLedger

from ..gateway.shops import Shop, code_of, open_shop
from ..ledgers.sides import order_of
from .conftest import OPENING, PATIENCE, POT, TEA, Desk, conditions_of, manifest, phase_is

pytestmark = pytest.mark.integration


@pytest.fixture
async def shop(desk: Desk) -> AsyncIterator[Shop]:
    url = desk.plane.url("gateway")
    async with open_shop(desk.plane, desk.pool, url, desk.name, issuer=url) as shop:
        yield shop


async def until_state(shop: Shop, name: str, *states: str) -> Any:
    """Look by HTTP until it is in one of the states."""
    async with asyncio.timeout(PATIENCE):
        while True:
            view = (await shop.seller.get(f"/api/inventory/reservations/{name}")).json()
            if view["state"] in states:
                return view
            await asyncio.sleep(0.05)


async def until_phase(desk: Desk, name: str, phase: str) -> Json:
    """Look by kubectl's means until it is so."""
    async with asyncio.timeout(PATIENCE):
        while True:
            found = await desk.api.get(Kind.RESERVATION, desk.name, name)
            if found["status"]["phase"] == phase:
                return found
            await asyncio.sleep(0.05)


async def until_gone(desk: Desk, name: str) -> None:
    async with asyncio.timeout(PATIENCE):
        while True:
            try:
                await desk.api.get(Kind.RESERVATION, desk.name, name)
            except NotFound:
                return
            await asyncio.sleep(0.05)


async def held(shop: Shop, *items: tuple[str, int], ttl: int = 900) -> httpx.Response:
    """A reservation that is answered; a busy operator may take longer than a request waits."""
    answer = await shop.reserve(*items, ttl=ttl)
    assert answer.status_code in (201, 202), answer.text
    await until_state(shop, answer.json()["id"], "Held")
    return answer


async def events(desk: Desk, uid: str) -> list[tuple[str, str, int]]:
    """The messages about one reservation, once both are in their topics."""
    async with asyncio.timeout(PATIENCE):
        while True:
            found = []
            async for record in read_all(desk.backends.kafka):
                if (record.key or b"").decode() == uid:
                    headers = {name: value.decode() for name, value in record.headers}
                    found.append((record.topic, headers["ce_subject"], int(headers["ce_sequence"])))
            if len(found) == 2:
                return sorted(found, key=lambda message: message[2])
            await asyncio.sleep(0.2)


async def test_held_seen_and_released(desk: Desk, shop: Shop) -> None:
    name = (await held(shop, (TEA, 3), (POT, 1))).json()["id"]
    assert await shop.level(TEA) == await desk.stock(TEA) == (OPENING, 3)
    found = await until_phase(desk, name, "Held")
    assert conditions_of(found)["Held"] == ("True", "StockHeld")
    seen = await desk.kubectl("get", "reservations", "--field-selector", "status.phase=Held")
    assert name in seen
    uid = found["metadata"]["uid"]
    released = await shop.release(name)
    assert released.status_code in (200, 202)
    await until_state(shop, name, "Released")
    await until_gone(desk, name)
    assert (await shop.release(name)).status_code == 200
    assert await desk.stock(TEA) == await desk.stock(POT) == (OPENING, 0)
    assert await events(desk, uid) == [("inventory.reserved", name, 1), ("inventory.released", name, 2)]


async def test_given_back_when_its_time_is_over(desk: Desk, shop: Shop) -> None:
    answer = await shop.reserve((TEA, 2), ttl=2)
    name = answer.json()["id"]
    await until_state(shop, name, "Expired")
    found = await until_phase(desk, name, "Expired")
    assert conditions_of(found)["Held"] == ("False", "StockExpired")
    assert await desk.stock(TEA) == (OPENING, 0)
    assert await events(desk, found["metadata"]["uid"]) == [
        ("inventory.reserved", name, 1), ("inventory.released", name, 2),
    ]  # fmt: skip
    # Releasing what is over cleans it up.
    assert (await shop.release(name)).json()["state"] == "Expired"
    await until_gone(desk, name)


async def test_released_by_kubectl(desk: Desk, shop: Shop) -> None:
    name = (await held(shop, (TEA, 2))).json()["id"]
    await desk.kubectl("delete", "reservation", name)
    assert (await until_state(shop, name, "Released"))["items"] == [{"sku": TEA, "quantity": 2}]
    assert await desk.stock(TEA) == (OPENING, 0)


async def test_it_becomes_an_order_and_nobody_gets_it_in_between(desk: Desk, shop: Shop) -> None:
    await shop.recount(POT, 2)
    name = (await held(shop, (POT, 2))).json()["id"]
    assert await desk.stock(POT) == (2, 2)
    body = {
        "customer": "c-1001",
        "items": [{"sku": POT, "quantity": 2}],
        "address": manifest("x")["spec"]["address"],
        "paymentMethod": "pm_card_visa",
    }
    others = [await shop.keyed("/api/orders", body) for _ in range(2)]
    answer = await shop.keyed("/api/orders", {**body, "reservation": name}, "with-it")
    assert answer.status_code == 202, answer.text
    order = await desk.api.get(Kind.ORDER, desk.name, answer.json()["id"])
    await desk.until(order, phase_is("Delivered"))
    for other in others:
        its = await desk.api.get(Kind.ORDER, desk.name, other.json()["id"])
        assert (await desk.until(its, phase_is("Failed")))["status"]["reason"] == "OutOfStock"
    assert await desk.stock(POT) == (0, 0)
    found = await until_phase(desk, name, "Released")
    (told,) = await desk.rows(
        "SELECT data FROM history WHERE merchant = $1 AND subject = $2 AND type = 'inventory.released'",
        found["metadata"]["uid"],
    )
    assert told["data"]["passedTo"] == {
        "name": order["metadata"]["name"], "uid": order["metadata"]["uid"],
    }  # fmt: skip
    # The same request has the same answer; another one finds that it is taken.
    again = await shop.keyed("/api/orders", {**body, "reservation": name}, "with-it")
    assert (again.status_code, again.content) == (202, answer.content)
    for wrong in (name, "r-missing"):
        refused = await shop.keyed("/api/orders", {**body, "reservation": wrong})
        assert code_of(refused) == (409, "reservation_not_held")


async def test_an_order_takes_exactly_what_is_held(desk: Desk, shop: Shop) -> None:
    name = (await held(shop, (TEA, 2))).json()["id"]
    body = {
        "items": [{"sku": TEA, "quantity": 1}],
        "address": manifest("x")["spec"]["address"],
        "paymentMethod": "pm_card_visa",
        "reservation": name,
    }
    refused = await shop.keyed("/api/orders", {**body, "customer": "c-1001"})
    assert code_of(refused) == (409, "reservation_differs")
    theirs = await shop.customer.post("/api/orders", json=body, headers={"Idempotency-Key": "theirs"})
    assert code_of(theirs) == (403, "insufficient_scope")
    # By kubectl it is the operator that finds out: the order is served from what is free.
    order = await desk.place([(TEA, 1)], reservation=name)
    await desk.until(order, phase_is("Delivered"))
    assert (await until_state(shop, name, "Held"))["state"] == "Held"
    assert await desk.stock(TEA) == (OPENING - 1, 2)
    assert (await shop.release(name)).status_code in (200, 202)


async def test_two_orders_cannot_take_one_reservation(desk: Desk) -> None:
    """Nor one order twice."""
    ledger, gates = PostgresStockLedger(desk.pool), PostgresGateLedger(desk.pool)
    items = [Item(sku=POT, quantity=2)]
    await recount(desk.pool, desk.name, POT, 3, note="counted")
    alone, until = str(uuid4()), datetime.now(UTC) + timedelta(minutes=5)
    await ledger.hold(
        desk.name, alone, order_uid=None, name="alone", items=items, expires_at=until, traceparent=None
    )
    orders = [order_of(desk.name, str(uuid4())) for _ in range(2)]
    for order in orders:
        await gates.open(order)
    takes = [
        ledger.hold(
            desk.name, order.uid, order_uid=order.uid, name=f"of-{order.metadata.name}", items=items,
            expires_at=None, traceparent=None, taking="alone",
        )
        for order in (*orders, *orders)
    ]  # fmt: skip
    entries = await asyncio.gather(*takes)
    assert entries[:2] == entries[2:]
    assert sorted(entry.state for entry in entries[:2]) == ["Held", "Rejected"]
    assert await desk.stock(POT) == (3, 2)
    rows = await desk.rows("SELECT state FROM reservations WHERE merchant = $1 AND name = 'alone'")
    assert [row["state"] for row in rows] == ["Released"]
    for order in orders:
        await gates.compensate(desk.name, order.uid, reason="OutOfStock", message="over", is_cancel=False)
        await ledger.release(desk.name, order.uid)
        await gates.seal(desk.name, order.uid, is_vanished=True)
    assert await desk.stock(POT) == (3, 0)


async def test_too_little_is_refused_for_good(desk: Desk, shop: Shop) -> None:
    await shop.recount(POT, 2)
    key = "too-little"
    async with asyncio.timeout(PATIENCE):
        answer = await shop.reserve((TEA, 1), (POT, 3), key=key)
        # A busy operator may not have decided in time; then the answer is 202, and the state tells.
        name = answer.headers.get("Location", "").rpartition("/")[2]
        if answer.status_code == 202:
            view = await until_state(shop, name, "Rejected")
            assert view["message"] == f"{POT}: 3 wanted, 2 left"
        else:
            assert (answer.status_code, answer.json()["code"]) == (409, "out_of_stock")
            assert f"{POT}: 3 wanted, 2 left" in answer.json()["detail"]
    await shop.recount(POT, 10)
    again = await shop.reserve((TEA, 1), (POT, 3), key=key)
    assert (again.status_code, again.content) == (answer.status_code, answer.content)
    assert again.headers["Content-Type"] == answer.headers["Content-Type"]
    assert await desk.stock(TEA) == (OPENING, 0)


async def test_lost_by_a_recount(desk: Desk, shop: Shop) -> None:
    name = (await held(shop, (POT, 5))).json()["id"]
    counted = await shop.recount(POT, 3)
    assert counted.json()["lost"] == [name]
    found = await until_phase(desk, name, "Lost")
    assert conditions_of(found)["Held"] == ("False", "StockLost")
    assert (await until_state(shop, name, "Lost"))["id"] == name
    assert await desk.stock(POT) == (3, 0)
    assert await events(desk, found["metadata"]["uid"]) == [
        ("inventory.reserved", name, 1), ("inventory.released", name, 2),
    ]  # fmt: skip


async def test_a_hold_whose_resource_is_torn_away_ends_in_time(desk: Desk, shop: Shop) -> None:
    name = (await held(shop, (TEA, 4), ttl=4)).json()["id"]
    kubeconfig = str(desk.plane.kubeconfig("operator"))
    async with await ApiClient.connect(user_agent="test", kubeconfig=kubeconfig) as operator:
        await operator.merge_patch(Kind.RESERVATION, desk.name, name, {"metadata": {"finalizers": None}})
        await operator.delete(Kind.RESERVATION, desk.name, name)
    await until_gone(desk, name)
    await until_state(shop, name, "Expired")
    assert await desk.stock(TEA) == (OPENING, 0)


async def test_many_at_once_are_never_more_than_there_is(desk: Desk, shop: Shop) -> None:
    await shop.recount(POT, 7)
    answers = await asyncio.gather(*(shop.reserve((POT, 2)) for _ in range(10)))
    states = []
    for answer in answers:
        if answer.status_code == 409:
            states.append("Rejected")
            continue
        view = await until_state(shop, answer.json()["id"], "Held", "Rejected")
        states.append(view["state"])
    assert sorted(states) == ["Held"] * 3 + ["Rejected"] * 7
    assert await desk.stock(POT) == (7, 6)
