"""An order leaves the API server, and everybody who looks for it finds it as before."""

import asyncio
import secrets
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import httpx
import pytest

from orderplane.adapters.kubernetes.client import ApiClient, Json
from orderplane.controllers.engine.cluster import Cluster
from orderplane.controllers.order.leaving import Leaving
from orderplane.controllers.order.rest import RestRules
from orderplane.crds.api_errors import Conflict, NotFound
from orderplane.crds.meta import Kind
from orderplane.crds.order import child_name
from orderplane.gateway.principal import Role
from orderplane.ledgers.errors import GateClosed
from orderplane.ledgers.postgres.archive import PostgresOrderArchive
from orderplane.ledgers.postgres.gate import PostgresGateLedger
from orderplane.ledgers.postgres.refunds import PostgresRefundLedger

from ..support.plane import ORDER
from .conftest import CHILDREN, MUG, TEA, Desk, phase_is
from .proofs import balance

pytestmark = pytest.mark.integration

RACES = 20


@pytest.fixture
async def http(desk: Desk) -> AsyncIterator[httpx.AsyncClient]:
    seller = await desk.merchant.caller(Role.MERCHANT)
    async with httpx.AsyncClient(
        base_url=desk.plane.url("gateway"), headers=seller.headers, timeout=30
    ) as opened:
        yield opened


@dataclass(frozen=True, slots=True)
class Door:
    """What people see of one order by HTTP."""

    http: httpx.AsyncClient
    name: str

    async def get(self) -> Json:
        answer = await self.http.get(f"/api/orders/{self.name}")
        assert answer.status_code == 200, answer.text
        found: Json = answer.json()
        return found

    async def until(self, phase: str) -> Json:
        async with asyncio.timeout(60):
            while True:
                found = await self.get()
                if found["phase"] == phase:
                    return found
                await asyncio.sleep(0.05)

    async def listed(self, **filters: str) -> list[str]:
        answer = await self.http.get("/api/orders", params=filters)
        return [order["id"] for order in answer.json()["items"]]


async def leave_early(desk: Desk, order: Json) -> None:
    """As the operator does where there are too many orders."""
    name = order["metadata"]["name"]
    async with await ApiClient.connect(
        user_agent="tests", kubeconfig=str(desk.plane.kubeconfig("operator"))
    ) as api:
        cluster = Cluster(api, time.monotonic, lambda *_: None)
        for kind in CHILDREN:
            await cluster.get_live(kind, (desk.name, child_name(name, order["metadata"]["uid"])))
        leaving = Leaving(
            cluster, PostgresGateLedger(desk.pool), PostgresRefundLedger(desk.pool),
            PostgresOrderArchive(desk.pool), lambda *_: None, lambda: datetime.now(UTC), RestRules(),
        )  # fmt: skip
        async with asyncio.timeout(30):
            while await exists(desk, order):
                try:
                    await leaving.leave((desk.name, name), is_crowded=True)
                except (Conflict, GateClosed, NotFound):
                    # The operator has seen the note in its gate, and takes it out as well.
                    await asyncio.sleep(0.05)


async def exists(desk: Desk, order: Json) -> bool:
    try:
        await desk.order(order)
    except NotFound:
        return False
    return True


async def test_an_order_leaves_after_its_time_and_is_read_as_before(
    desk: Desk, http: httpx.AsyncClient
) -> None:
    customer = await desk.merchant.caller(Role.CUSTOMER)
    key = {"Idempotency-Key": f'"{secrets.token_hex(8)}"'}
    placed = await http.post(
        "/api/orders", json={**ORDER, "customer": customer.id, "reference": "2026-1"}, headers=key
    )
    assert placed.status_code == 202, placed.text
    door = Door(http, placed.json()["id"])
    before = await door.until("Delivered")
    timeline = (await http.get(f"/api/orders/{door.name}/timeline")).json()
    later = await desk.place([(MUG, 1)])
    await desk.until(later, phase_is("Delivered"))
    order = await desk.api.get(Kind.ORDER, desk.name, door.name)
    await desk.api.merge_patch(Kind.ORDER, desk.name, door.name, {"spec": {"ttlSecondsAfterFinished": 0}})
    await desk.until_gone(order)
    assert door.name not in await desk.kubectl("get", "orders", "-o", "name")
    assert await door.get() == before
    assert (await http.get(f"/api/orders/{door.name}/timeline")).json() == timeline
    for filters in (
        {}, {"customer": customer.id}, {"phase": "Delivered"}, {"reference": "2026-1"},
        {"sku": ORDER["items"][0]["sku"]}, {"createdBefore": "2100-01-01T00:00:00Z"},
    ):  # fmt: skip
        assert door.name in await door.listed(**filters), filters
    assert await door.listed() == [later["metadata"]["name"], door.name], "the newest first"
    assert await door.listed(phase="Failed") == []
    theirs = await http.get(f"/api/orders/{door.name}", headers=customer.headers)
    assert theirs.json() == before
    assert (
        await http.get(f"/api/orders/{door.name}", headers={"If-None-Match": theirs.headers["ETag"]})
    ).status_code == 304
    other = await desk.merchant.caller(Role.CUSTOMER)
    assert (await http.get(f"/api/orders/{door.name}", headers=other.headers)).status_code == 404
    again = await http.post(
        "/api/orders", json={**ORDER, "customer": customer.id, "reference": "2026-1"}, headers=key
    )
    assert (again.status_code, again.content) == (202, placed.content)
    assert (await http.post(f"/api/orders/{door.name}/cancel")).json()["code"] == "too_late_to_cancel"
    whole = (await http.get(f"/api/orders/{door.name}", params={"expand": "address"})).json()
    assert whole["address"]["city"] == ORDER["address"]["city"]


async def test_what_has_left_can_be_refunded(desk: Desk, http: httpx.AsyncClient) -> None:
    order = await desk.place([(MUG, 1)], ttlSecondsAfterFinished=0)
    await desk.until_gone(order)
    path = f"/api/orders/{order['metadata']['name']}/refunds"
    made = await http.post(path, json={"reason": "Damaged"}, headers={"Idempotency-Key": '"once"'})
    assert made.status_code == 201, made.text
    await desk.until_row(
        "SELECT 1 FROM archived_orders WHERE merchant = $1 AND uid = $2 "
        "AND document #>> '{status,refunds,0,phase}' = 'Refunded'",
        order["metadata"]["uid"],
    )
    assert (await http.get(path)).json()["items"][0]["phase"] == "Refunded"
    assert await balance(desk, order) == 0


async def test_an_order_that_somebody_works_on_stays(desk: Desk) -> None:
    order = await desk.place([(TEA, 1)])
    await desk.until(order, phase_is("Delivered"))
    until = (datetime.now(UTC) + timedelta(seconds=4)).isoformat().replace("+00:00", "Z")
    patch = {
        "metadata": {"annotations": {"orderplane.dev/keep-until": until}},
        "spec": {"ttlSecondsAfterFinished": 0},
    }
    await desk.api.merge_patch(Kind.ORDER, desk.name, order["metadata"]["name"], patch)
    await desk.until_gone(order)
    assert datetime.now(UTC) >= datetime.fromisoformat(until)


async def test_a_failed_order_is_archived_before_a_person_deletes_it(
    desk: Desk, http: httpx.AsyncClient
) -> None:
    order = await desk.place([(TEA, 1)], method="pm_card_chargeDeclined")
    await desk.until(order, phase_is("Failed"))
    await desk.delete(order)
    await desk.until_gone(order)
    found = await Door(http, order["metadata"]["name"]).get()
    assert (found["phase"], found["reason"]) == ("Failed", "CardDeclined")


@pytest.mark.usefixtures("parcels_at_home")
async def test_an_order_that_left_before_its_scan_can_be_cancelled(
    desk: Desk, http: httpx.AsyncClient
) -> None:
    order = await desk.place([(TEA, 1)])
    await desk.until(order, phase_is("Shipped"))
    await leave_early(desk, order)
    door = Door(http, order["metadata"]["name"])
    assert (await door.get())["phase"] == "Shipped"
    answer = await http.post(f"/api/orders/{door.name}/cancel")
    assert (answer.status_code, answer.json()["cancelRequested"]) == (202, True)
    found = await door.until("Cancelled")
    assert found["reason"] == "CancelRequested"
    assert {entry["step"] for entry in found["compensation"]} == {
        "CancelShipment", "RefundPayment", "ReleaseStock",
    }  # fmt: skip
    assert await balance(desk, order) == 0
    assert (await http.post(f"/api/orders/{door.name}/cancel")).status_code == 200
    await desk.until_gone(order)


async def test_cancels_of_orders_that_left_race_their_first_scans(
    desk: Desk, http: httpx.AsyncClient
) -> None:
    async def race(number: int) -> str:
        order = await desk.place([(TEA, 1)])
        await desk.until(order, phase_is("Shipped", "Delivered"))
        await leave_early(desk, order)
        await asyncio.sleep(number / RACES)
        door = Door(http, order["metadata"]["name"])
        answer = await http.post(f"/api/orders/{door.name}/cancel")
        await desk.until_row(
            "SELECT 1 FROM orders WHERE merchant = $1 AND uid = $2 AND finished_at IS NOT NULL "
            "AND NOT is_archive_outdated",
            order["metadata"]["uid"],
        )
        found = await door.get()
        is_refused = answer.status_code == 409
        assert found["phase"] in (("Delivered",) if is_refused else ("Delivered", "Cancelled"))
        paid = order["spec"]["quote"]["amounts"]["total"]
        assert await balance(desk, order) == (0 if found["phase"] == "Cancelled" else paid)
        if found["phase"] == "Delivered" and not is_refused:
            states = {c["type"]: (c["status"], c["reason"]) for c in found["conditions"]}
            assert states["Cancelled"] == ("False", "AlreadyInTransit")
        return str(found["phase"])

    for first in range(0, RACES, 5):
        await asyncio.gather(*(race(number) for number in range(first, first + 5)))
