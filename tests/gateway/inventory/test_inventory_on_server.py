"""Stock as merchants see and correct it: the gateway, PostgreSQL and the API server are real.

No operator runs here, so nothing is decided but what a test decides through the ledger.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import httpx
import pytest

from orderplane.adapters.kubernetes.client import ApiClient
from orderplane.crds.api_errors import Forbidden
from orderplane.crds.meta import API_VERSION, RELEASE_STOCK_FINALIZER, SHARD_LABEL, Kind
from orderplane.crds.order import Item
from orderplane.gateway.http.cursors import write_cursor
from orderplane.gateway.idempotency import reservation_name
from orderplane.ledgers.postgres.stock import PostgresStockLedger

from ...support.plane import make_namespace
from ..conftest import Behind, Gateway, new_key, order_of
from ..documented import check
from ..shops import Shop, code_of, open_shop

pytestmark = pytest.mark.integration

LEVEL, MOVEMENTS = "/api/inventory/{sku}", "/api/inventory/{sku}/movements"
ADJUST, RECOUNT = "/api/inventory/{sku}/adjustments", "/api/inventory/{sku}/recounts"
RESERVE, RELEASE = "/api/inventory/reserve", "/api/inventory/release"
RESERVATION = "/api/inventory/reservations/{reservation_id}"


@pytest.fixture
async def shop(behind: Behind, gateway: Gateway, namespace: str) -> AsyncIterator[Shop]:
    """A merchant with ten of one product."""
    async with open_shop(behind.plane, behind.pool, gateway.url, namespace) as shop:
        await shop.sell("TEA")
        await shop.recount("TEA", 10)
        yield shop


@pytest.fixture
async def neighbour(behind: Behind, gateway: Gateway) -> AsyncIterator[Shop]:
    """Another merchant behind the same gateway, with three of the same SKU and a reservation."""
    name = await make_namespace(behind.plane)
    async with open_shop(behind.plane, behind.pool, gateway.url, name) as shop:
        await shop.sell("TEA")
        await shop.recount("TEA", 3)
        yield shop


async def hold(
    behind: Behind, shop: Shop, quantity: int, *, holder: str | None = None, name: str = "aside", **more: Any
) -> str:
    """What the reservation controller does; answers the holder."""
    holder = holder or str(uuid4())
    fields = {"order_uid": None, "expires_at": datetime.now(UTC) + timedelta(hours=1), "traceparent": None}
    items = [Item(sku="TEA", quantity=quantity)]
    await PostgresStockLedger(behind.pool).hold(
        shop.merchant, holder, name=name, items=items, **{**fields, **more}
    )
    return holder


async def reservations(behind: Behind, shop: Shop) -> list[Any]:
    page = await behind.admin.list_page(Kind.RESERVATION, shop.merchant)
    return page.items


async def reserve_held(behind: Behind, shop: Shop, quantity: int) -> httpx.Response:
    """Have stock of TEA kept while the controller does its part: the gateway waits in vain for nobody."""

    async def decide() -> None:
        while True:
            if found := await reservations(behind, shop):
                metadata = found[0]["metadata"]
                await hold(behind, shop, quantity, holder=metadata["uid"], name=metadata["name"])
                return
            await asyncio.sleep(0.01)

    answer, _ = await asyncio.gather(shop.reserve(("TEA", quantity)), decide())
    return answer


async def let_go(behind: Behind, shop: Shop, name: str) -> None:
    """What the operator does at the end."""
    await behind.operator.merge_patch(
        Kind.RESERVATION, shop.merchant, name, {"metadata": {"finalizers": None}}
    )


def pointers(problem: Any) -> list[str]:
    return [error["pointer"] for error in problem["errors"]]


# Levels and movements


async def test_a_stock_is_read_and_listed(shop: Shop, behind: Behind) -> None:
    await hold(behind, shop, 3)
    read = await shop.seller.get("/api/inventory/TEA")
    assert check(read, LEVEL) == {"sku": "TEA", "onHand": 10, "reserved": 3, "available": 7}
    tag = {"If-None-Match": read.headers["ETag"]}
    assert (await shop.seller.get("/api/inventory/TEA", headers=tag)).status_code == 304
    await hold(behind, shop, 1, name="more")
    assert (await shop.seller.get("/api/inventory/TEA", headers=tag)).json()["reserved"] == 4
    await shop.sell("MUG")
    await shop.recount("MUG", 0)
    first = check(await shop.seller.get("/api/inventory", params={"limit": 1}), "/api/inventory")
    query = {"limit": 1, "cursor": first["next"]}
    second = check(await shop.seller.get("/api/inventory", params=query), "/api/inventory")
    assert [level["sku"] for level in first["items"] + second["items"]] == ["MUG", "TEA"]
    assert second["next"] is None
    await shop.sell("NEVER-COUNTED")
    missing = await shop.seller.get("/api/inventory/NEVER-COUNTED")
    assert check(missing, LEVEL, status=404)["code"] == "stock_not_found"


async def test_movements_tell_the_whole_story_newest_first(shop: Shop, behind: Behind) -> None:
    await hold(behind, shop, 3, name="aside")
    await shop.adjust("TEA", 5, reason="a delivery")
    await shop.recount("TEA", 2)
    found, query = [], {"limit": 2}
    while True:
        page = check(await shop.seller.get("/api/inventory/TEA/movements", params=query), MOVEMENTS)
        found += page["items"]
        if page["next"] is None:
            break
        query["cursor"] = page["next"]
        # What comes in meanwhile moves no page.
        await shop.adjust("TEA", 1)
    told = [
        (move["kind"], move["onHandDelta"], move["reservedDelta"], move["reason"], move["reservation"])
        for move in found
    ]
    assert told == [
        ("Recount", -13, 0, "counted", None),
        ("Lose", 0, -3, None, "aside"),
        ("Adjust", 5, 0, "a delivery", None),
        ("Hold", 0, 3, None, "aside"),
    ]
    assert [move["actor"] for move in found] == ["user:u-merchant", None, "user:u-merchant", None]
    assert [move["id"] for move in found] == sorted((move["id"] for move in found), reverse=True)
    missing = await shop.seller.get("/api/inventory/NOPE/movements")
    assert check(missing, MOVEMENTS, status=404)["code"] == "stock_not_found"
    forged = (write_cursor("movements", {"before": text}) for text in ("x", "9" * 30, "-1", None, "\0"))
    for cursor in ("abc", *forged, write_cursor("inventory", {"after": "TEA"})):
        bad = await shop.seller.get("/api/inventory/TEA/movements", params={"cursor": cursor})
        assert check(bad, MOVEMENTS, status=400)["code"] == "invalid_cursor"
    bad = await shop.seller.get(
        "/api/inventory", params={"cursor": write_cursor("inventory", {"after": "\0"})}
    )
    assert check(bad, "/api/inventory", status=400)["code"] == "invalid_cursor"


# Corrections


async def test_an_adjustment_is_made_once_per_key(shop: Shop) -> None:
    key = new_key()
    first = await shop.adjust("TEA", 5, key)
    view = check(first, ADJUST, method="post")
    assert view == {"sku": "TEA", "onHand": 15, "reserved": 0, "available": 15, "before": 10, "lost": []}
    assert "Idempotent-Replayed" not in first.headers
    await shop.adjust("TEA", 1)
    again = await shop.adjust("TEA", 5, key)
    assert (again.status_code, again.content) == (200, first.content)
    assert again.headers["Idempotent-Replayed"] == "true"
    assert await shop.level("TEA") == (16, 0)
    for other in (await shop.adjust("TEA", 6, key), await shop.recount("TEA", 5, key)):
        assert code_of(other) == (422, "idempotency_key_reused")
    await shop.sell("MUG")
    await shop.recount("MUG", 1)
    assert code_of(await shop.adjust("MUG", 5, key)) == (422, "idempotency_key_reused")
    order = await shop.keyed("/api/orders", order_of(items=[{"sku": "TEA", "quantity": 1}]), key)
    assert code_of(order) == (422, "idempotency_key_reused")
    assert await shop.level("TEA") == (16, 0)


async def test_twenty_of_one_key_at_once_adjust_once(shop: Shop) -> None:
    key = new_key()
    answers = await asyncio.gather(*(shop.adjust("TEA", 1, key) for _ in range(20)))
    assert {(answer.status_code, answer.content) for answer in answers} == {(200, answers[0].content)}
    assert sum("Idempotent-Replayed" not in answer.headers for answer in answers) == 1
    assert await shop.level("TEA") == (11, 0)


async def test_many_adjustments_and_holds_at_once_lose_nothing(shop: Shop, behind: Behind) -> None:
    adjusting = (shop.adjust("TEA", number % 3 - 1 or 2) for number in range(30))
    holding = (hold(behind, shop, 1, name=f"aside-{number}") for number in range(5))
    answers = [
        done for done in await asyncio.gather(*adjusting, *holding) if isinstance(done, httpx.Response)
    ]
    assert {answer.status_code for answer in answers} <= {200, 409}
    done = sum(answer.json()["onHand"] - answer.json()["before"] for answer in answers if answer.is_success)
    assert await shop.level("TEA") == (10 + done, 5)


async def test_what_is_kept_for_somebody_cannot_be_adjusted_away(shop: Shop, behind: Behind) -> None:
    await hold(behind, shop, 8)
    key = new_key()
    refused = await shop.adjust("TEA", -3, key)
    problem = check(refused, ADJUST, method="post", status=409)
    assert problem["code"] == "stock_reserved"
    assert problem["detail"].startswith("Only 2 are free")
    assert await shop.level("TEA") == (10, 8)
    # A refusal leaves the key unused.
    assert (await shop.adjust("TEA", -2, key)).status_code == 200
    assert await shop.level("TEA") == (8, 8)


async def test_only_what_was_counted_can_be_adjusted(shop: Shop) -> None:
    await shop.sell("MUG")
    for sku in ("MUG", "NOPE"):
        answer = await shop.adjust(sku, 5)
        assert check(answer, ADJUST, method="post", status=404)["code"] == "stock_not_found"
    answer = await shop.recount("NOPE", 5)
    assert check(answer, RECOUNT, method="post", status=404)["code"] == "product_not_found"


async def test_a_recount_takes_what_is_held_newest_first_then_what_is_pinned(
    shop: Shop, behind: Behind
) -> None:
    accepted = await shop.keyed("/api/orders", order_of(items=[{"sku": "TEA", "quantity": 1}]))
    order = await behind.admin.get(Kind.ORDER, shop.merchant, accepted.json()["id"])
    uid = order["metadata"]["uid"]
    await behind.pool.execute(
        "INSERT INTO orders (merchant, uid, name, currency, total) VALUES ($1, $2, $3, 'EUR', 890)",
        shop.merchant, uid, order["metadata"]["name"],
    )  # fmt: skip
    await hold(behind, shop, 3, holder=uid, order_uid=uid, name="of-order")
    await behind.pool.execute(
        "UPDATE reservations SET state = 'Pinned' WHERE merchant = $1 AND holder = $2", shop.merchant, uid
    )
    old = await hold(behind, shop, 3, name="old")
    young = await hold(behind, shop, 3, name="young")
    for count, lost, reserved in ((8, ["young"], 6), (6, [], 6), (4, ["old"], 3), (1, ["of-order"], 0)):
        view = check(await shop.recount("TEA", count), RECOUNT, method="post")
        assert (view["onHand"], view["lost"], view["reserved"]) == (count, lost, reserved)
    for holder, name in ((old, "old"), (young, "young")):
        told = await behind.pool.fetch(
            "SELECT type, seq, data FROM history WHERE merchant = $1 AND subject = $2 ORDER BY seq",
            shop.merchant, holder,
        )  # fmt: skip
        assert [(row["type"], row["seq"]) for row in told] == [
            ("inventory.reserved", 1), ("inventory.released", 2),
        ]  # fmt: skip
        assert told[1]["data"]["reason"] == "Lost"
        assert told[1]["data"]["reservation"] == {"name": name, "uid": holder}


async def test_a_recount_of_yesterday_is_not_made_again(shop: Shop) -> None:
    key = new_key()
    first = await shop.recount("TEA", 7, key)
    await shop.adjust("TEA", -2)
    again = await shop.recount("TEA", 7, key)
    assert (again.content, again.headers["Idempotent-Replayed"]) == (first.content, "true")
    assert await shop.level("TEA") == (5, 0)


async def test_first_counts_at_once_begin_one_stock(shop: Shop) -> None:
    await shop.sell("MUG")
    answers = await asyncio.gather(*(shop.recount("MUG", number) for number in range(8)))
    assert {answer.status_code for answer in answers} == {200}
    movements = (await shop.seller.get("/api/inventory/MUG/movements")).json()["items"]
    on_hand, _ = await shop.level("MUG")
    first = next(answer.json() for answer in answers if answer.json()["before"] == 0)
    assert on_hand in range(8)
    assert len(movements) <= 7
    assert first["onHand"] in range(8)


@pytest.mark.parametrize(
    ("path", "body", "places"),
    [
        ("adjustments", {"reason": "x"}, ["#/delta"]),
        ("adjustments", {"delta": 1}, ["#/reason"]),
        ("adjustments", {"delta": 0, "reason": "x"}, ["#"]),
        ("adjustments", {"delta": 10**9 + 1, "reason": "x"}, ["#/delta"]),
        ("adjustments", {"delta": 1.5, "reason": "x"}, ["#/delta"]),
        ("adjustments", {"delta": "1", "reason": "x"}, ["#/delta"]),
        ("adjustments", {"delta": 1, "reason": ""}, ["#/reason"]),
        ("adjustments", {"delta": 1, "reason": "x" * 201}, ["#/reason"]),
        ("adjustments", {"delta": 1, "reason": "x\n{level: error}"}, ["#/reason"]),
        ("adjustments", {"delta": 1, "reason": "x\u0000"}, ["#/reason"]),
        ("adjustments", {"delta": 1, "reason": "x", "merchant": "other"}, ["#/merchant"]),
        ("adjustments", {"delta": 1, "reason": "x", "kind": "Hold"}, ["#/kind"]),
        ("recounts", {"reason": "x"}, ["#/onHand"]),
        ("recounts", {"onHand": -1, "reason": "x"}, ["#/onHand"]),
        ("recounts", {"onHand": 10**9 + 1, "reason": "x"}, ["#/onHand"]),
        ("recounts", {"onHand": 1}, ["#/reason"]),
        ("recounts", {"onHand": 1, "reason": "x", "reserved": 0}, ["#/reserved"]),
    ],
)
async def test_wrong_corrections_change_nothing(shop: Shop, path: str, body: Any, places: list[str]) -> None:
    answer = await shop.keyed(f"/api/inventory/TEA/{path}", body)
    problem = check(answer, f"/api/inventory/{{sku}}/{path}", method="post", status=422)
    assert pointers(problem) == places
    assert await shop.level("TEA") == (10, 0)


@pytest.mark.parametrize("path", ["TEA/adjustments", "TEA/recounts", "reserve"])
async def test_what_makes_something_needs_a_key(shop: Shop, path: str) -> None:
    answer = await shop.seller.post(f"/api/inventory/{path}", json={})
    assert code_of(answer) == (400, "idempotency_key_missing")
    answer = await shop.keyed(f"/api/inventory/{path}", {}, "a b")
    assert code_of(answer) == (400, "idempotency_key_invalid")


# Reservations


async def test_a_reservation_that_nobody_decides_is_answered_202_for_good(shop: Shop, behind: Behind) -> None:
    key = new_key()
    first = await shop.reserve(("TEA", 2), key=key, ttl=60)
    view = check(first, RESERVE, method="post", status=202)
    assert (view["id"], view["state"]) == (reservation_name(shop.merchant, "u-merchant", key), "Pending")
    assert view["items"] == [{"sku": "TEA", "quantity": 2}]
    left = datetime.fromisoformat(view["expiresAt"]) - datetime.now(UTC)
    assert timedelta(seconds=40) < left <= timedelta(seconds=60)
    assert first.headers["Location"] == f"/api/inventory/reservations/{view['id']}"
    assert check(await shop.seller.get(first.headers["Location"]), RESERVATION) == view
    (made,) = await reservations(behind, shop)
    assert made["metadata"]["finalizers"] == [RELEASE_STOCK_FINALIZER]
    assert SHARD_LABEL in made["metadata"]["labels"]
    assert made["spec"] == {"items": view["items"], "expiresAt": view["expiresAt"]}
    await hold(behind, shop, 2, holder=made["metadata"]["uid"], name=view["id"])
    again = await shop.reserve(("TEA", 2), key=key, ttl=60)
    assert (again.status_code, again.content) == (202, first.content)
    assert again.headers["Idempotent-Replayed"] == "true"
    assert check(await shop.seller.get(first.headers["Location"]), RESERVATION)["state"] == "Held"
    other = await shop.reserve(("TEA", 3), key=key, ttl=60)
    assert code_of(other) == (422, "idempotency_key_reused")
    assert len(await reservations(behind, shop)) == 1


async def test_it_is_answered_as_soon_as_it_is_decided(shop: Shop, behind: Behind) -> None:
    answer = await reserve_held(behind, shop, 2)
    view = check(answer, RESERVE, method="post", status=201)
    assert view["state"] == "Held"
    assert answer.headers["Location"] == f"/api/inventory/reservations/{view['id']}"
    assert await shop.level("TEA") == (10, 2)


async def test_twenty_of_one_key_at_once_reserve_once(shop: Shop, behind: Behind) -> None:
    key = new_key()
    answers = await asyncio.gather(*(shop.reserve(("TEA", 1), key=key) for _ in range(20)))
    assert {answer.status_code for answer in answers} <= {202, 409}
    assert {code_of(a)[1] for a in answers if a.status_code == 409} <= {"request_in_progress"}
    assert sum(a.status_code == 202 and "Idempotent-Replayed" not in a.headers for a in answers) == 1
    assert len(await reservations(behind, shop)) == 1


@pytest.mark.parametrize("is_gone", [False, True])
async def test_a_lost_answer_is_given_from_the_ledger_and_nothing_is_made_again(
    shop: Shop, behind: Behind, is_gone: bool
) -> None:
    key = new_key()
    name = (await shop.reserve(("TEA", 2), key=key)).json()["id"]
    (made,) = await reservations(behind, shop)
    await hold(behind, shop, 2, holder=made["metadata"]["uid"], name=name)
    await behind.unanswered(name)
    await behind.end_claim(name)
    if is_gone:
        await let_go(behind, shop, name)
        await behind.admin.delete(Kind.RESERVATION, shop.merchant, name)
    again = await shop.reserve(("TEA", 2), key=key)
    view = check(again, RESERVE, method="post", status=201)
    assert (view["id"], view["state"]) == (name, "Held")
    assert len(await reservations(behind, shop)) == int(not is_gone)


TOO_MANY = [(f"S{number}", 1) for number in range(51)]


@pytest.mark.parametrize(
    ("items", "ttl", "places"),
    [
        ([], 60, ["#/items"]),
        (TOO_MANY, 60, ["#/items"]),
        ([("TEA", 1), ("TEA", 2)], 60, ["#"]),
        ([("TEA", 0)], 60, ["#/items/0/quantity"]),
        ([("TEA", -1)], 60, ["#/items/0/quantity"]),
        ([("TEA", 10_001)], 60, ["#/items/0/quantity"]),
        ([("TEA'; --", 1)], 60, ["#/items/0/sku"]),
        ([("../x", 1)], 60, ["#/items/0/sku"]),
        ([("TEA", 1)], 0, ["#/ttlSeconds"]),
        ([("TEA", 1)], 604_801, ["#/ttlSeconds"]),
    ],
)
async def test_wrong_reservations_make_nothing(
    shop: Shop, behind: Behind, items: Sequence[tuple[str, int]], ttl: int, places: list[str]
) -> None:
    problem = check(await shop.reserve(*items, ttl=ttl), RESERVE, method="post", status=422)
    assert pointers(problem) == places
    assert await reservations(behind, shop) == []


async def test_nothing_else_can_be_said_of_a_reservation(shop: Shop, behind: Behind) -> None:
    good = {"items": [{"sku": "TEA", "quantity": 1}], "ttlSeconds": 60}
    for more in (
        {"orderRef": {"name": "o", "uid": "u"}},
        {"expiresAt": "2099-01-01T00:00:00Z"},
        {"id": "r-1"},
    ):
        answer = await shop.keyed(RESERVE, {**good, **more})
        problem = check(answer, RESERVE, method="post", status=422)
        assert pointers(problem) == [f"#/{next(iter(more))}"]
    assert await reservations(behind, shop) == []


async def test_the_stock_of_an_order_is_not_released_here(shop: Shop, behind: Behind) -> None:
    uid = str(uuid4())
    child = {
        "apiVersion": API_VERSION,
        "kind": "Reservation",
        "metadata": {
            "name": "an-order-12345678", "namespace": shop.merchant,
            "finalizers": [RELEASE_STOCK_FINALIZER], "labels": {SHARD_LABEL: "1"},
        },
        "spec": {
            "orderRef": {"name": "an-order", "uid": uid}, "items": [{"sku": "TEA", "quantity": 1}],
            "expiresAt": "2099-01-01T00:00:00Z",
        },
    }  # fmt: skip
    await behind.operator.create(Kind.RESERVATION, shop.merchant, child)
    answer = await shop.release("an-order-12345678")
    assert check(answer, RELEASE, method="post", status=409)["code"] == "reservation_of_order"
    (found,) = await reservations(behind, shop)
    assert "deletionTimestamp" not in found["metadata"]
    read = await shop.seller.get("/api/inventory/reservations/an-order-12345678")
    assert check(read, RESERVATION)["order"] == "an-order"


async def test_a_release_that_nobody_carries_out_is_answered_202(shop: Shop, behind: Behind) -> None:
    name = (await reserve_held(behind, shop, 2)).json()["id"]
    (made,) = await reservations(behind, shop)
    uid = made["metadata"]["uid"]
    for _ in range(2):
        assert check(await shop.release(name), RELEASE, method="post", status=202)["state"] == "Held"
    (found,) = await reservations(behind, shop)
    assert found["metadata"]["deletionTimestamp"]
    await PostgresStockLedger(behind.pool).release(shop.merchant, uid)
    await let_go(behind, shop, name)
    for _ in range(2):
        assert check(await shop.release(name), RELEASE, method="post")["state"] == "Released"
    read = await shop.seller.get(f"/api/inventory/reservations/{name}")
    assert check(read, RESERVATION)["state"] == "Released"
    assert await shop.level("TEA") == (10, 0)


async def test_holds_of_nobody_whose_time_is_over_are_found(shop: Shop, behind: Behind) -> None:
    late = datetime.now(UTC) - timedelta(minutes=1)
    await hold(behind, shop, 1, name="late", expires_at=late)
    await hold(behind, shop, 1, name="in-time")
    overdue = await PostgresStockLedger(behind.pool).overdue(1000)
    assert [key for key in overdue if key[0] == shop.merchant] == [(shop.merchant, "late")]


# Who may do what


async def test_nothing_of_another_merchant_can_be_seen_or_changed(
    shop: Shop, neighbour: Shop, behind: Behind
) -> None:
    theirs = (await reserve_held(behind, neighbour, 1)).json()["id"]
    await shop.adjust("TEA", 1)
    assert await shop.level("TEA") == (11, 0)
    assert await neighbour.level("TEA") == (3, 1)
    found = (await shop.seller.get("/api/inventory")).json()["items"]
    assert [(level["sku"], level["onHand"]) for level in found] == [("TEA", 11)]
    moves = (await shop.seller.get("/api/inventory/TEA/movements")).json()["items"]
    assert [move["kind"] for move in moves] == ["Adjust"]
    read = await shop.seller.get(f"/api/inventory/reservations/{theirs}")
    assert check(read, RESERVATION, status=404)["code"] == "reservation_not_found"
    released = await shop.release(theirs)
    assert check(released, RELEASE, method="post", status=404)["code"] == "reservation_not_found"
    (left,) = await reservations(behind, neighbour)
    assert "deletionTimestamp" not in left["metadata"]
    await neighbour.sell("THEIRS")
    assert code_of(await shop.recount("THEIRS", 1)) == (404, "product_not_found")
    assert code_of(await shop.adjust("THEIRS", 1)) == (404, "stock_not_found")
    # The same key is another one there.
    key = new_key()
    assert (await shop.adjust("TEA", 1, key)).json()["onHand"] == 12
    assert (await neighbour.adjust("TEA", 1, key)).json()["onHand"] == 4


async def test_customers_have_no_business_with_the_stock(shop: Shop, behind: Behind) -> None:
    for method, path in (
        ("GET", ""), ("GET", "/TEA"), ("GET", "/TEA/movements"), ("GET", "/reservations/r-1"),
        ("POST", "/TEA/adjustments"), ("POST", "/TEA/recounts"), ("POST", "/reserve"), ("POST", "/release"),
    ):  # fmt: skip
        answer = await shop.customer.request(method, f"/api/inventory{path}")
        assert code_of(answer) == (403, "insufficient_scope"), path
    assert await shop.level("TEA") == (10, 0)
    assert await reservations(behind, shop) == []


@pytest.mark.parametrize(
    "path",
    ["%2e%2e", "..%2f..%2forders", "r-1%00", "r-1%2f..%2fx", "R-1", "%27%20OR%20%271", "x" * 300, "r%20", "*",
     "r-1%3flimit=1", "r-1%23", "%ff"],
)  # fmt: skip
async def test_a_path_reaches_one_reservation_or_none(shop: Shop, path: str) -> None:
    answer = await shop.seller.get(f"/api/inventory/reservations/{path}")
    assert answer.status_code == 404
    assert answer.json()["code"] in ("reservation_not_found", "route_not_found")
    for sku in (path, f"{path}/movements"):
        answer = await shop.seller.get(f"/api/inventory/{sku}")
        assert (answer.status_code, answer.json()["code"]) in (
            (404, "stock_not_found"), (404, "route_not_found"), (404, "reservation_not_found"),
        )  # fmt: skip


@pytest.mark.parametrize("name", ["..", "../orders/x", "", "a/b", "r-1?x", "r-1\u0000", "R", "'", "x" * 254])
async def test_a_release_names_one_reservation_or_none(shop: Shop, behind: Behind, name: str) -> None:
    await reserve_held(behind, shop, 1)
    answer = await shop.release(name)
    assert code_of(answer) in ((404, "reservation_not_found"), (422, "validation_failed"))
    (left,) = await reservations(behind, shop)
    assert "deletionTimestamp" not in left["metadata"]


async def test_the_gateway_may_do_no_more_with_reservations_than_it_does(shop: Shop, behind: Behind) -> None:
    kubeconfig = str(behind.plane.kubeconfig("gateway"))
    await reserve_held(behind, shop, 1)
    (one,) = await reservations(behind, shop)
    name = one["metadata"]["name"]
    for_order = {
        **one,
        "metadata": {**one["metadata"], "name": "forged", "resourceVersion": None, "uid": None},
        "spec": {**one["spec"], "orderRef": {"name": "an-order", "uid": str(uuid4())}},
    }
    bare = {**for_order, "spec": one["spec"], "metadata": {"name": "bare", "namespace": shop.merchant}}
    async with await ApiClient.connect(user_agent="test", kubeconfig=kubeconfig) as api:
        assert (await api.get(Kind.RESERVATION, shop.merchant, name))["metadata"]["name"] == name
        with pytest.raises(Forbidden):
            await api.list_page(Kind.RESERVATION, shop.merchant)
        with pytest.raises(Forbidden):
            await api.merge_patch(Kind.RESERVATION, shop.merchant, name, {"metadata": {"finalizers": None}})
        with pytest.raises(Forbidden):
            await api.put_status(Kind.RESERVATION, shop.merchant, name, "1", {"phase": "Held"})
        with pytest.raises(Forbidden, match="only the operator reserves for an order"):
            await api.create(Kind.RESERVATION, shop.merchant, for_order)
        with pytest.raises(Exception, match="must be created with the finalizer"):
            await api.create(Kind.RESERVATION, shop.merchant, bare)
        for kind in (Kind.PAYMENT, Kind.SHIPMENT):
            with pytest.raises(Forbidden):
                await api.get(kind, shop.merchant, name)
