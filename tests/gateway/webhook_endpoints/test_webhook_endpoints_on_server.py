"""Webhook endpoints as merchants register them: gateway and PostgreSQL are real, and nothing is sent."""

import uuid
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from orderplane.events.standard_webhooks import check_secret, new_secret
from orderplane.events.types import EventType
from orderplane.ledgers.postgres.history import append_event
from orderplane.ledgers.postgres.session import Pool, transaction
from orderplane.ledgers.webhook_endpoints import MOST_ENDPOINTS

from ...support.plane import make_namespace
from ..conftest import Behind, Gateway, new_key, running_gateway
from ..documented import check
from ..shops import Shop, code_of, open_shop

pytestmark = pytest.mark.integration

ALL = "/api/webhook-endpoints"
ONE = f"{ALL}/{{endpoint_id}}"
SECRET, ROTATIONS, TESTS = f"{ONE}/secret", f"{ONE}/secret/rotations", f"{ONE}/tests"
DELIVERIES, REPLAYS = f"{ONE}/deliveries", f"{ONE}/replays"
DELIVERY = f"{DELIVERIES}/{{event_id}}"
REPLAY = f"{DELIVERY}/replay"
URL = "https://erp.example.com/orderplane"


@pytest.fixture(scope="module")
async def gateway(behind: Behind) -> AsyncIterator[Gateway]:
    """One as in production: nothing but the public internet is allowed."""
    async with running_gateway(behind.plane, {"ORDERPLANE_ENDPOINT_NETWORKS": ""}) as gateway:
        yield gateway


@pytest.fixture
async def shop(behind: Behind, gateway: Gateway, namespace: str) -> AsyncIterator[Shop]:
    async with open_shop(behind.plane, behind.pool, gateway.url, namespace) as shop:
        yield shop


async def add(shop: Shop, **body: Any) -> Any:
    answer = await shop.keyed(ALL, {"url": URL, **body})
    return check(answer, ALL, method="post", status=201)


async def happen(
    pool: Pool, shop: Shop, *types: EventType, order: uuid.UUID | None = None, after: int = 0
) -> list[str]:
    """Events of one order, as the ledgers append them; returns their ids."""
    uid = order or uuid.uuid4()
    for seq, type_ in enumerate(types, after + 1):
        async with transaction(pool) as connection:
            await append_event(
                connection, type_=type_, effect=uid, merchant=shop.merchant, subject=uid,
                name=f"o-{uid.hex[:12]}", seq=seq, data={"merchant": shop.merchant}, traceparent=None,
            )  # fmt: skip
    rows = await pool.fetch(
        "SELECT event_id FROM history WHERE subject = $1 AND seq > $2 ORDER BY seq", uid, after
    )
    return [str(row["event_id"]) for row in rows]


async def deliveries(shop: Shop, endpoint: str, **query: Any) -> list[Any]:
    answer = await shop.seller.get(f"{ALL}/{endpoint}/deliveries", params=query)
    items: list[Any] = check(answer, DELIVERIES)["items"]
    return items


async def end(pool: Pool, endpoint: str, state: str) -> None:
    """As the deliverer does."""
    await pool.execute(
        "UPDATE event_deliveries SET state = $2, attempt = 3, ended_at = now(), reason = 'HttpError' "
        "WHERE endpoint_id = $1 AND state = 'Waiting'",
        endpoint, state,
    )  # fmt: skip


async def test_an_endpoint_is_registered_read_changed_and_deleted(shop: Shop) -> None:
    assert check(await shop.seller.get(ALL), ALL) == {"items": []}
    made = await add(shop, description="our ERP", eventTypes=["order.shipped", "order.delivered"])
    path = f"{ALL}/{made['id']}"
    assert (made["enabled"], made["disabledReason"], made["failingSince"]) == (True, None, None)
    assert made["eventTypes"] == ["order.delivered", "order.shipped"]
    assert made["actor"] == "user:u-merchant"
    read = await shop.seller.get(path)
    assert check(read, ONE) == made
    same = await shop.seller.get(path, headers={"If-None-Match": read.headers["ETag"]})
    assert (same.status_code, same.content) == (304, b"")
    changed = await shop.seller.patch(path, json={"eventTypes": None, "enabled": False})
    view = check(changed, ONE, method="patch")
    assert (view["eventTypes"], view["enabled"], view["disabledReason"]) == ([], False, "ByShop")
    assert view["description"] == "our ERP"
    stale = await shop.seller.patch(path, json={"url": f"{URL}/2"}, headers={"If-Match": '"1"'})
    assert check(stale, ONE, method="patch", status=412)["code"] == "precondition_failed"
    current = {"If-Match": changed.headers["ETag"]}
    view = check(await shop.seller.patch(path, json={"enabled": True}, headers=current), ONE, method="patch")
    assert (view["enabled"], view["disabledAt"]) == (True, None)
    assert [each["id"] for each in check(await shop.seller.get(ALL), ALL)["items"]] == [made["id"]]
    assert (await shop.seller.delete(path)).status_code == 204
    for answer in (await shop.seller.delete(path), await shop.seller.get(path)):
        assert code_of(answer) == (404, "endpoint_not_found")


async def test_a_key_registers_once(shop: Shop) -> None:
    key = new_key()
    first = await shop.keyed(ALL, {"url": URL}, key)
    again = await shop.keyed(ALL, {"url": URL}, key)
    assert (first.json(), first.headers["Location"]) == (again.json(), again.headers["Location"])
    assert again.headers["Idempotent-Replayed"] == "true"
    assert first.headers["Location"] == f"{ALL}/{first.json()['id']}"
    assert len((await shop.seller.get(ALL)).json()["items"]) == 1
    other = await shop.keyed(ALL, {"url": f"{URL}/2"}, key)
    assert code_of(other) == (422, "idempotency_key_reused")


async def test_a_merchant_has_a_bounded_number_of_endpoints(shop: Shop) -> None:
    for _ in range(MOST_ENDPOINTS):
        made = await add(shop)
    refused = await shop.keyed(ALL, {"url": URL})
    assert check(refused, ALL, method="post", status=409)["code"] == "too_many_endpoints"
    await shop.seller.delete(f"{ALL}/{made['id']}")
    await add(shop)


@pytest.mark.parametrize(
    "body",
    [
        {"url": "http://erp.example.com/"}, {"url": "https://erp.example.com:8443/"}, {"url": "https://2130706433/"},
        {"url": "https://user:hunter2@erp.example.com/"}, {"url": "https://localhost./"}, {"url": 7}, {},
        {"url": URL, "eventTypes": ["order.eaten"]}, {"url": URL, "eventTypes": ["order.shipped"] * 2},
        {"url": URL, "secret": "hunter2"}, {"url": URL, "secret": "whsec_aGk="}, {"url": URL, "more": 1},
        {"url": URL, "description": "a\nb"},
    ],
)  # fmt: skip
async def test_what_is_wrong_registers_nothing_and_is_not_repeated(shop: Shop, body: Any) -> None:
    answer = await shop.keyed(ALL, body)
    assert check(answer, ALL, method="post", status=422)["code"] == "validation_failed"
    assert "hunter2" not in answer.text
    assert (await shop.seller.get(ALL)).json() == {"items": []}


async def test_the_secret_is_encrypted_at_rest_and_rotated_with_two_valid(shop: Shop, behind: Behind) -> None:
    own = new_secret()
    made = await add(shop, secret=own)
    path = f"{ALL}/{made['id']}"
    assert check(await shop.seller.get(f"{path}/secret"), SECRET) == {
        "secret": own,
        "previousSecretUntil": None,
    }
    key = new_key()
    rotated = await shop.keyed(f"{path}/secret/rotations", {"overlapSeconds": 60}, key)
    view = check(rotated, ROTATIONS, method="post")
    until = datetime.fromisoformat(view["previousSecretUntil"]) - datetime.now(UTC)
    assert timedelta(seconds=30) < until <= timedelta(seconds=61)
    fresh = (await shop.seller.get(f"{path}/secret")).json()["secret"]
    assert check_secret(fresh) != own
    # A repeat changes nothing: else the one before the last would end too early.
    assert (await shop.keyed(f"{path}/secret/rotations", {"overlapSeconds": 60}, key)).json() == view
    assert (await shop.seller.get(f"{path}/secret")).json()["secret"] == fresh
    stored = await behind.pool.fetchrow("SELECT * FROM webhook_endpoints WHERE id = $1", made["id"])
    responses = await behind.pool.fetch("SELECT body FROM idempotency WHERE merchant = $1", shop.merchant)
    everything = f"{dict(stored)}{[row['body'] for row in responses]}"
    for secret in (own, fresh):
        assert secret.removeprefix("whsec_") not in everything
        assert secret not in (await shop.seller.get(path)).text
    assert stored["previous_secret"] is not None
    await shop.seller.delete(path)
    stored = await behind.pool.fetchrow("SELECT * FROM webhook_endpoints WHERE id = $1", made["id"])
    assert (stored["secret"], stored["previous_secret"]) == ("", None)


async def test_each_event_has_a_delivery_for_each_endpoint_that_wants_it(shop: Shop, behind: Behind) -> None:
    before = await happen(behind.pool, shop, EventType.ORDER_CREATED)
    everything, some = await add(shop), await add(shop, eventTypes=["order.shipped"])
    off = await add(shop, enabled=False)
    order = uuid.uuid4()
    types = (EventType.ORDER_CREATED, EventType.ORDER_SHIPPED)
    created, shipped = await happen(behind.pool, shop, *types, order=order)
    found = await deliveries(shop, everything["id"])
    assert [each["eventId"] for each in found] == [shipped, created], f"{before} were before it"
    assert [(each["type"], each["sequence"], each["state"]) for each in found] == [
        ("order.shipped", 2, "Waiting"), ("order.created", 1, "Waiting"),
    ]  # fmt: skip
    assert {each["subject"] for each in found} == {f"o-{order.hex[:12]}"}
    assert [each["eventId"] for each in await deliveries(shop, some["id"])] == [shipped]
    parked = await deliveries(shop, off["id"])
    assert {(each["state"], each["reason"]) for each in parked} == {("Parked", "EndpointDisabled")}
    # Other types from now on, and what was there stays.
    await shop.seller.patch(f"{ALL}/{some['id']}", json={"eventTypes": ["order.failed"]})
    (failed,) = await happen(behind.pool, shop, EventType.ORDER_FAILED, order=order, after=2)
    assert [each["eventId"] for each in await deliveries(shop, some["id"])] == [failed, shipped]
    await shop.seller.delete(f"{ALL}/{some['id']}")
    await happen(behind.pool, shop, EventType.ORDER_FAILED)
    assert (
        await behind.pool.fetchval("SELECT count(*) FROM event_deliveries WHERE endpoint_id = $1", some["id"])
        == 2
    )


async def test_deliveries_have_filters_and_pages(shop: Shop, behind: Behind) -> None:
    endpoint = (await add(shop))["id"]
    ids: list[str] = []
    for _ in range(3):
        ids += await happen(behind.pool, shop, EventType.ORDER_CREATED, EventType.ORDER_SHIPPED)
    seen, query = [], {"limit": 4}
    while True:
        page = check(await shop.seller.get(f"{ALL}/{endpoint}/deliveries", params=query), DELIVERIES)
        seen += [each["eventId"] for each in page["items"]]
        if page["next"] is None:
            break
        query["cursor"] = page["next"]
    assert seen == ids[::-1]
    assert len(await deliveries(shop, endpoint, type="order.shipped")) == 3
    assert await deliveries(shop, endpoint, state="Parked") == []
    for wrong in ({"state": "Lost"}, {"type": "a\0b"}, {"limit": 0}, {"order": "x" * 300}):
        answer = await shop.seller.get(f"{ALL}/{endpoint}/deliveries", params=wrong)
        assert check(answer, DELIVERIES, status=422)["code"] == "validation_failed"
    forged = await shop.seller.get(f"{ALL}/{endpoint}/deliveries", params={"cursor": "abc"})
    assert check(forged, DELIVERIES, status=400)["code"] == "invalid_cursor"


async def test_a_delivery_shows_what_is_sent_and_every_attempt(shop: Shop, behind: Behind) -> None:
    endpoint = (await add(shop))["id"]
    (event,) = await happen(behind.pool, shop, EventType.ORDER_CREATED)
    await behind.pool.executemany(
        "INSERT INTO delivery_attempts VALUES ($1, $2, $3, $4, now(), $5, $6, $7, $8, $9)",
        [(shop.merchant, endpoint, uuid.UUID(event), 1, URL, None, "TimedOut", 15.0, ""),
         (shop.merchant, endpoint, uuid.UUID(event), 2, URL, 500, "HttpError", 0.0874, "<b>no</b>")],
    )  # fmt: skip
    view = check(await shop.seller.get(f"{ALL}/{endpoint}/deliveries/{event}"), DELIVERY)
    assert f'"id":"{event}"' in view["request"]["body"]
    assert [(each["attempt"], each["status"], each["reason"]) for each in view["log"]] == [
        (2, 500, "HttpError"), (1, None, "TimedOut"),
    ]  # fmt: skip
    assert (view["log"][0]["latencyMilliseconds"], view["log"][0]["answer"]) == (87, "<b>no</b>")
    for path in (
        f"{ALL}/{endpoint}/deliveries/{uuid.uuid4()}",
        f"{ALL}/{endpoint}/deliveries/x",
        f"{ALL}/we-x/deliveries/{event}",
    ):
        assert code_of(await shop.seller.get(path)) == (404, "delivery_not_found")


async def test_one_delivery_and_a_time_range_are_sent_again(shop: Shop, behind: Behind) -> None:
    endpoint = (await add(shop))["id"]
    first, second = await happen(behind.pool, shop, EventType.ORDER_CREATED, EventType.ORDER_SHIPPED)
    await end(behind.pool, endpoint, "Delivered")
    (third,) = await happen(behind.pool, shop, EventType.ORDER_FAILED)
    await end(behind.pool, endpoint, "Parked")

    async def states() -> dict[str, str]:
        return {each["eventId"]: each["state"] for each in await deliveries(shop, endpoint)}

    path = f"{ALL}/{endpoint}/deliveries/{first}/replay"
    key = new_key()
    view = check(await shop.keyed(path, None, key), REPLAY, method="post", status=202)
    assert (view["eventId"], view["state"], view["reason"], view["attempts"]) == (
        first,
        "Waiting",
        "Replayed",
        3,
    )
    await end(behind.pool, endpoint, "Delivered")
    await shop.keyed(path, None, key)
    assert (await states())[first] == "Delivered", "a repeat sends nothing again"
    now = datetime.now(UTC)
    body = {"since": (now - timedelta(hours=1)).isoformat(), "until": (now + timedelta(hours=1)).isoformat()}
    answer = await shop.keyed(f"{ALL}/{endpoint}/replays", body)
    assert check(answer, REPLAYS, method="post", status=202) == {"replayed": 1}
    assert await states() == {first: "Delivered", second: "Delivered", third: "Waiting"}
    answer = await shop.keyed(f"{ALL}/{endpoint}/replays", body | {"deliveredToo": True})
    assert answer.json() == {"replayed": 2}
    past = {"since": "2020-01-01T00:00:00Z", "until": "2020-01-02T00:00:00Z"}
    assert (await shop.keyed(f"{ALL}/{endpoint}/replays", past)).json() == {"replayed": 0}
    for wrong in (
        {"since": past["until"], "until": past["since"]},
        {"since": "2020-01-01T00:00:00", "until": past["until"]},
        {"since": "yesterday", "until": past["until"]}, {"since": past["since"]},
    ):  # fmt: skip
        answer = await shop.keyed(f"{ALL}/{endpoint}/replays", wrong)
        assert check(answer, REPLAYS, method="post", status=422)["code"] == "validation_failed"


async def test_a_disabled_endpoint_is_enabled_before_anything_is_replayed(shop: Shop, behind: Behind) -> None:
    endpoint = (await add(shop, enabled=False))["id"]
    (event,) = await happen(behind.pool, shop, EventType.ORDER_CREATED)
    day = {"since": "2026-01-01T00:00:00Z", "until": "2126-01-01T00:00:00Z"}
    for path, body in (
        (f"{ALL}/{endpoint}/deliveries/{event}/replay", None), (f"{ALL}/{endpoint}/replays", day),
    ):  # fmt: skip
        assert code_of(await shop.keyed(path, body)) == (409, "endpoint_disabled")
    test = check(await shop.keyed(f"{ALL}/{endpoint}/tests", None), TESTS, method="post", status=202)
    assert (test["type"], test["state"], test["subject"]) == ("endpoint.test", "Waiting", None)
    await shop.seller.patch(f"{ALL}/{endpoint}", json={"enabled": True})
    assert (await shop.keyed(f"{ALL}/{endpoint}/replays", day)).json() == {"replayed": 1}


async def test_customers_see_nothing_of_it(shop: Shop) -> None:
    endpoint = (await add(shop))["id"]
    for path in (ALL, f"{ALL}/{endpoint}", f"{ALL}/{endpoint}/secret", f"{ALL}/{endpoint}/deliveries"):
        assert code_of(await shop.customer.get(path)) == (403, "insufficient_scope")


async def test_another_merchant_reaches_none_of_it(shop: Shop, behind: Behind, gateway: Gateway) -> None:
    endpoint = (await add(shop))["id"]
    (event,) = await happen(behind.pool, shop, EventType.ORDER_CREATED)
    rival = await make_namespace(behind.plane)
    async with open_shop(behind.plane, behind.pool, gateway.url, rival) as other:
        path = f"{ALL}/{endpoint}"
        answers = [
            await other.seller.get(path), await other.seller.get(f"{path}/secret"),
            await other.seller.get(f"{path}/deliveries"),
            await other.seller.get(f"{path}/deliveries/{event}"),
            await other.seller.patch(path, json={"url": URL}), await other.seller.delete(path),
            await other.keyed(f"{path}/tests", None), await other.keyed(f"{path}/secret/rotations", {}),
            await other.keyed(f"{path}/deliveries/{event}/replay", None),
        ]  # fmt: skip
        assert {answer.status_code for answer in answers} == {404}
        assert (await other.seller.get(ALL)).json() == {"items": []}


@pytest.mark.parametrize("text", ["%00", "we-%00", "..", quote("we-' OR 1=1 --"), "x" * 3000])
async def test_an_id_that_cannot_be_one_is_not_found(shop: Shop, text: str) -> None:
    for path in (f"{ALL}/{text}", f"{ALL}/{text}/secret", f"{ALL}/{text}/deliveries"):
        assert (await shop.seller.get(path)).status_code in (404, 400)


async def test_without_keys_nothing_is_registered(behind: Behind, namespace: str) -> None:
    async with (
        running_gateway(behind.plane, {"ORDERPLANE_ENDPOINT_KEYS": ""}) as gateway,
        open_shop(behind.plane, behind.pool, gateway.url, namespace) as shop,
    ):
        answer: httpx.Response = await shop.keyed(ALL, {"url": URL})
        assert check(answer, ALL, method="post", status=503)["code"] == "unavailable"
        assert "ORDERPLANE_ENDPOINT_KEYS" in answer.json()["detail"]
        assert check(await shop.seller.get(ALL), ALL) == {"items": []}
