"""Lists with filters, timelines and links, on orders that went through the saga."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from orderplane.crds.order import FINISHED
from orderplane.dev.localplane.plane import Plane
from orderplane.gateway.identity.user_store import UserStore
from orderplane.gateway.principal import SCOPES_OF, Principal, Role

from ...support.plane import Merchant
from ..conftest import Gateway, new_key, order_of, running_gateway, token_of, until
from ..documented import check

pytestmark = pytest.mark.integration

TEA, MUG = "TEA-EARL-GREY-100", "MUG-STONEWARE-BLUE"
TIMELINE = "/api/orders/{order_id}/timeline"


@dataclass
class Caller:
    """A user of one merchant."""

    gateway: Gateway
    headers: dict[str, str]
    orders_for: str

    async def get(self, path: str, **query: str | int) -> httpx.Response:
        return await self.gateway.http.get(path, params=query, headers=self.headers)

    async def place(self, *skus: str, **more: Any) -> str:
        """Place an order; answers its id."""
        items = [{"sku": sku, "quantity": 1} for sku in skus]
        body = order_of(items=items, customer=self.orders_for, **more)
        answer = await self.gateway.post(body, new_key(), **self.headers)
        assert answer.status_code == 202, answer.text
        name: str = answer.json()["id"]
        return name

    async def until_over(self, name: str) -> dict[str, Any]:
        """The order, when nothing more happens to it."""
        order: dict[str, Any] = {}

        async def is_over() -> bool:
            nonlocal order
            order = (await self.get(f"/api/orders/{name}")).json()
            return order["phase"] in FINISHED

        await until(is_over)
        return order

    async def names(self, **query: str | int) -> list[str]:
        """The ids on all pages of a list."""
        names: list[str] = []
        more: dict[str, str | int] = {}
        while True:
            page = check(await self.get("/api/orders", **query, **more), "/api/orders")
            names += [order["id"] for order in page["items"]]
            if page["next"] is None:
                return names
            more = {"cursor": page["next"]}


class Town:
    """One gateway, and who stands before it."""

    def __init__(self, merchant: Merchant, gateway: Gateway) -> None:
        self.merchant = merchant
        self.gateway = gateway

    async def caller(self, name: str, role: Role = Role.CUSTOMER, *, merchant: str | None = None) -> Caller:
        whose = merchant or self.merchant.name
        await UserStore(self.merchant.pool).add(
            whose, name, email=f"{name}@example.test", password_hash="", role=role.value
        )
        token = token_of(self.merchant.plane, Principal(whose, name, role, SCOPES_OF[role]))
        orders_for = name if role is Role.CUSTOMER else "c-1"
        return Caller(self.gateway, {"Authorization": f"Bearer {token}"}, orders_for)


@pytest.fixture(scope="module")
async def own_gateway(running: Plane) -> AsyncIterator[Gateway]:
    async with running_gateway(running) as gateway:
        yield gateway


@pytest.fixture
def town(merchant: Merchant, own_gateway: Gateway) -> Town:
    return Town(merchant, own_gateway)


async def test_the_timeline_of_an_order_that_was_delivered(town: Town) -> None:
    seller = await town.caller("u-seller", Role.MERCHANT)
    name = await seller.place(TEA)
    order = await seller.until_over(name)
    assert order["phase"] == "Delivered"
    assert order["links"]["timeline"] == f"/api/orders/{name}/timeline"
    assert order["links"]["tracking"] == order["tracking"]["url"]

    answer = await seller.get(order["links"]["timeline"])
    view = check(answer, TIMELINE)
    assert [phase["phase"] for phase in view["phases"]] == [
        "Pending", "Reserved", "Paid", "Shipped", "Delivered",
    ]  # fmt: skip
    assert [(event["sequence"], event["type"]) for event in view["events"]] == list(
        enumerate(
            ["order.created", "inventory.reserved", "payment.success", "order.shipped", "order.delivered"], 1
        )
    )
    moments = [datetime.fromisoformat(event["at"]) for event in view["events"]]
    assert moments == sorted(moments)
    assert view["compensation"] == []
    references = view["references"]
    assert references["payment"].startswith("pi_")
    assert references["shipment"].startswith("shp_")
    assert references["refunds"] == []
    assert references["trackingCode"] == order["tracking"]["code"]
    assert "Ada" not in answer.text
    same = await town.gateway.http.get(
        order["links"]["timeline"], headers={**seller.headers, "If-None-Match": answer.headers["ETag"]}
    )
    assert same.status_code == 304


async def test_the_timeline_of_an_order_that_was_undone(town: Town) -> None:
    seller, ada = await town.caller("u-seller", Role.MERCHANT), await town.caller("u-ada")
    # No label is sold for there, and it is paid already when that is found out.
    body = order_of()["address"] | {"line1": "9 Island Walk"}
    name = await ada.place(TEA, address=body)
    order = await ada.until_over(name)
    assert order["phase"] == "Failed"
    assert "tracking" not in order["links"]

    view = check(await seller.get(f"/api/orders/{name}/timeline"), TIMELINE)
    phases = [phase["phase"] for phase in view["phases"]]
    assert phases == ["Pending", "Reserved", "Paid", "Compensating", "Failed"]
    assert {done["step"] for done in view["compensation"]} == {"RefundPayment", "ReleaseStock"}
    last = view["events"][-1]
    assert (last["type"], last["reason"]) == ("order.failed", order["reason"])
    assert len(view["references"]["refunds"]) == 1
    assert view["references"]["trackingCode"] is None

    theirs = check(await ada.get(f"/api/orders/{name}/timeline"), TIMELINE)
    assert theirs["references"] == {**view["references"], "payment": None, "shipment": None}
    assert theirs["events"] == view["events"]


async def test_somebody_elses_order_is_not_there(town: Town) -> None:
    ada, eve = await town.caller("u-ada"), await town.caller("u-eve")
    abroad = await town.caller("u-abroad", Role.ADMIN, merchant="elsewhere")
    name = await ada.place(TEA)
    missing = check(await ada.get("/api/orders/o-missing/timeline"), TIMELINE, status=404)
    for caller in (eve, abroad):
        for path in (f"/api/orders/{name}", f"/api/orders/{name}/timeline"):
            answer = await caller.get(path)
            assert (answer.status_code, answer.json()) == (404, missing), path
        assert name not in await caller.names()
    assert (await ada.get(f"/api/orders/{name}/timeline")).status_code == 200


async def test_lists_are_narrowed_by_product_time_and_phase(town: Town) -> None:
    seller, ada = await town.caller("u-seller", Role.MERCHANT), await town.caller("u-ada")
    teas = {await seller.place(TEA) for _ in range(3)}
    mugs = {await seller.place(MUG) for _ in range(2)}
    both = {await ada.place(TEA, MUG)}
    for name in (*teas, *mugs, *both):
        await seller.until_over(name)
    for limit in (1, 2, 50):
        assert set(await seller.names(limit=limit)) == teas | mugs | both
        assert set(await seller.names(limit=limit, sku=MUG)) == mugs | both
        assert await ada.names(limit=limit, sku=MUG) == sorted(both)
    assert await seller.names(sku="NOPE") == []
    assert set(await seller.names(sku=TEA, phase="Delivered")) == teas | both
    assert await seller.names(sku=TEA, phase="Failed") == []

    placed_at = {name: (await seller.get(f"/api/orders/{name}")).json()["createdAt"] for name in teas | mugs}
    first, last = min(placed_at.values()), max(placed_at.values())
    after = (datetime.fromisoformat(last) + timedelta(seconds=1)).isoformat()
    assert set(placed_at) <= set(await seller.names(createdAfter=first, createdBefore=after))
    assert await seller.names(createdBefore=first) == []
    future = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    assert await seller.names(createdAfter=future) == []


async def test_a_cursor_is_good_for_its_own_filters_alone(town: Town) -> None:
    seller = await town.caller("u-seller", Role.MERCHANT)
    for _ in range(3):
        await seller.place(TEA)
    page = (await seller.get("/api/orders", sku=TEA, limit=1)).json()
    other = await seller.get("/api/orders", sku=MUG, limit=1, cursor=page["next"])
    assert check(other, "/api/orders", status=400)["code"] == "invalid_cursor"
    assert (await seller.get("/api/orders", sku=TEA, limit=1, cursor=page["next"])).status_code == 200
