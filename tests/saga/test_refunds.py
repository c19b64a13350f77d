"""Refunds after the sale, by HTTP and by kubectl, with the provider's sandbox and the real ledgers."""

import asyncio
from typing import Any

import httpx
import pytest

from orderplane.crds.api_errors import Invalid
from orderplane.crds.meta import API_VERSION, Kind
from orderplane.events.notifications import Channel
from orderplane.gateway.principal import Role

from ..cli.terminal import orderplane
from .conftest import MUG, OPENING, TEA, Desk, conditions_of, phase_is
from .sales import Shop, sold

pytestmark = pytest.mark.integration


@pytest.fixture
async def http(desk: Desk) -> Any:
    seller = await desk.merchant.caller(Role.MERCHANT)
    url = desk.plane.url("gateway")
    async with httpx.AsyncClient(base_url=url, headers=seller.headers, timeout=30) as opened:
        yield opened


async def test_all_of_it_goes_back_with_the_goods_and_the_customer_is_told_once(
    desk: Desk, http: httpx.AsyncClient
) -> None:
    customer = await desk.merchant.caller(Role.CUSTOMER)
    shop = await sold(desk, http, customer=customer.id)
    assert await desk.stock(MUG) == (OPENING - 2, 0)
    made = await shop.refund("whole", restock=True)
    assert (made["phase"], made["amount"], made["currency"]) == ("Requested", shop.total, "EUR")
    assert made["items"] == [{"sku": MUG, "quantity": 2}, {"sku": TEA, "quantity": 1}]
    assert (await desk.stock(MUG), await desk.stock(TEA)) == ((OPENING, 0), (OPENING, 0))
    (refund,) = await shop.settled()
    (there,) = await desk.refunds(shop.order)
    assert (refund["phase"], refund["reference"]) == ("Refunded", there.id)
    assert there.amount == shop.total
    order = await desk.until(shop.order, lambda o: conditions_of(o)["Paid"] == ("False", "Refunded"))
    assert order["status"]["phase"] == "Delivered"
    assert [(r["name"], r["phase"]) for r in order["status"]["refunds"]] == [(made["id"], "Refunded")]
    assert (await desk.events(shop.order))["RefundMade"].endswith("was given back.")
    timeline = (await http.get(f"/api/orders/{order['metadata']['name']}/timeline")).json()
    asked = next(event for event in timeline["events"] if event["type"] == "refund.requested")
    assert (asked["reason"], asked["actor"].partition(":")[0]) == ("Damaged", "user")
    history = await desk.history(shop.order)
    assert history[-2:] == ["refund.requested", "payment.refunded"]
    await desk.until_row(
        "SELECT 1 FROM notifications WHERE merchant = $1 AND order_uid = $2 AND type = 'payment.refunded' "
        "AND channel = 'email' AND state = 'Sent'",
        shop.order["metadata"]["uid"],
    )
    (told,) = await desk.rows(
        "SELECT event_id FROM history WHERE merchant = $1 AND subject = $2 AND type = 'payment.refunded'",
        shop.order["metadata"]["uid"],
    )
    mailbox = desk.backends.channels[Channel.EMAIL]
    assert [mail async for mail in mailbox.references()].count(str(told["event_id"])) == 1
    assert (await http.get(shop.path, headers=customer.headers)).json()["items"] == [refund]


async def test_several_parts_up_to_the_total_and_a_cent_beyond(desk: Desk, http: httpx.AsyncClient) -> None:
    shop = await sold(desk, http)
    await shop.refund("one", amount=100)
    await shop.refund("two", amount=250)
    beyond = await shop.ask("three", amount=shop.total - 349)
    assert (beyond.status_code, beyond.json()["code"]) == (409, "refund_refused")
    assert beyond.json()["reason"] == "RefundTooLarge"
    # A refused request leaves its key unused.
    await shop.refund("three", amount=shop.total - 350)
    nothing = await shop.ask("four", amount=1)
    assert nothing.json()["reason"] == "RefundTooLarge"
    assert [refund["phase"] for refund in await shop.settled()] == ["Refunded"] * 3
    assert await shop.back() == sorted([100, 250, shop.total - 350])
    payment = await desk.until_child(Kind.PAYMENT, shop.order, lambda p: p["status"]["phase"] == "Refunded")
    assert payment["status"]["refunded"] == shop.total


async def test_pieces_go_back_with_and_without_their_goods(desk: Desk, http: httpx.AsyncClient) -> None:
    shop = await sold(desk, http)
    piece = [{"sku": MUG, "quantity": 1}]
    broken = await shop.refund("broken", items=piece)
    kept = await shop.refund("unwanted", items=piece, amount=200, restock=True)
    assert broken["amount"] > kept["amount"] == 200
    assert await desk.stock(MUG) == (OPENING - 1, 0)
    third = await shop.ask("third", items=piece)
    assert third.json()["reason"] == "NotOrdered"
    odd = await shop.ask("odd", items=[{"sku": "ABSENT", "quantity": 1}])
    assert odd.json()["reason"] == "NotOrdered"
    await shop.settled()
    assert await shop.back() == sorted([broken["amount"], 200])
    movements = (await http.get(f"/api/inventory/{MUG}/movements")).json()["items"]
    assert (movements[0]["kind"], movements[0]["onHandDelta"], movements[0]["order"]) == (
        "Return", 1, shop.order["metadata"]["name"],
    )  # fmt: skip


async def test_one_key_refunds_once_and_two_at_once_share_what_there_is(
    desk: Desk, http: httpx.AsyncClient
) -> None:
    shop = await sold(desk, http)
    same = await asyncio.gather(*(shop.ask("same", amount=100) for _ in range(4)))
    assert {answer.status_code for answer in same} == {201}
    assert len({answer.text for answer in same}) == 1
    other = await shop.ask("same", amount=101)
    assert other.json()["code"] == "idempotency_key_reused"
    rest = await asyncio.gather(*(shop.ask(f"rest-{n}", amount=shop.total - 100) for n in range(4)))
    assert sorted(answer.status_code for answer in rest) == [201, 409, 409, 409]
    await shop.settled()
    assert await shop.back() == sorted([100, shop.total - 100])


async def test_what_has_not_left_is_cancelled_and_not_refunded(desk: Desk, http: httpx.AsyncClient) -> None:
    order = await desk.place([(MUG, 1)], line1="7 Fog Street")
    await desk.until(order, phase_is("Paid"))
    shop = Shop(desk, http, await desk.order(order))
    assert (await shop.ask("early")).json()["code"] == "not_shipped"
    await desk.cancel(order)
    await desk.until(order, phase_is("Cancelled"))
    assert (await shop.ask("late")).json()["code"] == "not_shipped"
    assert (await http.get(shop.path)).json() == {"items": []}


async def test_a_refund_that_the_provider_refuses_is_shown_and_settled_by_hand(
    desk: Desk, http: httpx.AsyncClient
) -> None:
    shop = await sold(desk, http, method="pm_sandbox_refundRefused")
    await shop.refund("refused", amount=100)
    (refund,) = await shop.settled()
    assert refund["phase"] == "Failed"
    assert "balance_insufficient" in refund["message"]
    order = await desk.until(
        shop.order, lambda o: conditions_of(o).get("Stalled") == ("True", "RefundFailed")
    )
    assert order["status"]["phase"] == "Delivered"
    answer = await orderplane(
        "resolve", order["metadata"]["name"], "-n", desk.name, "--reason", "paid by hand",
        "--reference", "S-1", env=desk.plane.env("admin"),
    )  # fmt: skip
    assert (answer.code, "1.00 EUR" in answer.out) == (0, True), answer.err
    (refund,) = await shop.settled()
    assert (refund["phase"], refund["message"]) == ("Refunded", "1.00 EUR was paid back by hand.")
    await desk.until(shop.order, lambda o: "Stalled" not in conditions_of(o))
    assert await shop.back() == []


async def test_kubectl_asks_by_an_entry_that_stays(desk: Desk, http: httpx.AsyncClient) -> None:
    order = await desk.place([(MUG, 2)])
    name = order["metadata"]["name"]
    wishes = [
        {"name": "sorry", "reason": "Goodwill", "amount": 100},
        {"name": "one-back", "reason": "Returned", "lines": [{"sku": MUG, "quantity": 1}], "restock": True},
        {"name": "too-much", "reason": "Goodwill", "amount": 10_000_000},
    ]

    async def apply(refunds: list[dict[str, Any]]) -> None:
        wanted = {
            "apiVersion": API_VERSION,
            "kind": "Order",
            "metadata": {"name": name},
            "spec": {"refunds": refunds},
        }
        path = f"/apis/{API_VERSION}/namespaces/{desk.name}/orders/{name}"
        await desk.api.apply_path(path, wanted, manager="refunds")

    # Before it has left: they wait.
    await apply(wishes)
    done = await desk.until(
        order,
        lambda o: [r["phase"] for r in o["status"].get("refunds", ())] == ["Refunded", "Refunded", "Refused"],
    )
    assert done["status"]["refunds"][2]["reason"] == "RefundTooLarge"
    assert (await desk.events(order))["RefundRefused"].startswith("Refund too-much: ")
    assert await desk.stock(MUG) == (OPENING - 1, 0)
    for changed in (wishes[1:], [{**wishes[0], "amount": 99}, *wishes[1:]]):
        with pytest.raises(Invalid):
            await apply(changed)
    await apply(wishes)
    back = await Shop(desk, http, await desk.order(order)).back()
    assert len(back) == 2
    assert back[0] == 100


async def test_a_deleted_order_goes_once_its_refunds_are_made(desk: Desk, http: httpx.AsyncClient) -> None:
    shop = await sold(desk, http)
    await shop.refund("late", amount=100)
    await desk.delete(shop.order)
    await desk.until_gone(shop.order)
    assert await shop.back() == [100]


async def came_back(desk: Desk, http: httpx.AsyncClient) -> Shop:
    """An order whose parcel the carrier brings back."""
    order = await desk.place([(MUG, 1)], line1="1 Boomerang Close")
    await desk.until(order, lambda o: o["status"].get("reason") == "Returned")
    return Shop(desk, http, await desk.order(order))


async def test_a_parcel_that_comes_back_ends_with_its_refund(desk: Desk, http: httpx.AsyncClient) -> None:
    shop = await came_back(desk, http)
    assert shop.order["status"]["phase"] == "Shipped"
    await shop.refund("returned", restock=True)
    order = await desk.until(shop.order, phase_is("Returned"))
    assert order["status"]["finishedAt"]
    assert await desk.stock(MUG) == (OPENING, 0)
    await shop.settled()
    assert await shop.back() == [shop.total]
    assert set((await desk.history(shop.order))[-3:]) == {
        "refund.requested", "order.returned", "payment.refunded",
    }  # fmt: skip


async def test_a_parcel_that_comes_back_is_settled_by_a_person(desk: Desk, http: httpx.AsyncClient) -> None:
    shop = await came_back(desk, http)
    answer = await orderplane(
        "resolve", shop.order["metadata"]["name"], "-n", desk.name, "--reason", "a new parcel",
        "--reference", "TICKET-77", env=desk.plane.env("admin"),
    )  # fmt: skip
    assert answer.code == 0, answer.err
    await desk.until(shop.order, phase_is("Returned"))
    assert (await shop.back(), await desk.stock(MUG)) == ([], (OPENING - 1, 0))
