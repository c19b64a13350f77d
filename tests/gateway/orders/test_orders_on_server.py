"""Placing, reading, listing and cancelling, with everything behind the gateway real."""

import asyncio
import base64
import json
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from orderplane.crds.meta import CANCELLED_BY_ANNOTATION, COMPENSATE_FINALIZER, TRACEPARENT_ANNOTATION, Kind
from orderplane.gateway.http.cursors import read_cursor, write_cursor
from orderplane.gateway.idempotency import order_name
from orderplane.gateway.principal import SCOPES_OF, Principal, Role, Scope

from ..conftest import (
    EARL,
    FILS,
    GOLD,
    HEAVY,
    MERCHANT,
    MUG,
    OLD,
    SELLER,
    SEN,
    YEN,
    Behind,
    Gateway,
    new_key,
    order_of,
    running_gateway,
    token_of,
    until,
)
from ..documented import DOCUMENT, check

pytestmark = pytest.mark.integration


def refused(response: httpx.Response, status: int, code: str) -> Any:
    assert (response.status_code, response.json()["code"]) == (status, code), response.text
    return check(response, "/api/orders", method="post", status=status)


async def placed(gateway: Gateway, **changes: Any) -> str:
    name: str = check(await gateway.post(order_of(**changes)), "/api/orders", method="post", status=202)["id"]
    return name


async def test_an_order_is_priced_and_made(gateway: Gateway, behind: Behind) -> None:
    key = new_key()
    trace_id = "0af7651916cd43dd8448eb211c80319c"
    response = await gateway.post(key=f'"{key}"', traceparent=f"00-{trace_id}-b7ad6b7169203331-01")
    body = check(response, "/api/orders", method="post", status=202)
    assert body["id"] == order_name(MERCHANT, SELLER, key)
    assert body["phase"] == "Pending"
    # (2 * 895 + 1490 + 490) * 1.19, rounded half up
    assert body["quote"]["amounts"] == {
        "items": 3280, "shipping": 490, "tax": 716, "includedTax": 0, "discount": 0, "total": 4486,
    }  # fmt: skip
    assert response.headers["Location"] == body["links"]["self"] == f"/api/orders/{body['id']}"
    assert "Idempotent-Replayed" not in response.headers
    order = await behind.admin.get(Kind.ORDER, MERCHANT, body["id"])
    assert order["metadata"]["uid"] == body["uid"]
    assert order["metadata"]["finalizers"] == [COMPENSATE_FINALIZER]
    assert order["metadata"]["annotations"][TRACEPARENT_ANNOTATION].split("-")[1] == trace_id
    assert order["spec"]["cancel"] is False
    assert "expectedTotal" not in order["spec"]


async def test_the_expected_total_must_be_the_total(gateway: Gateway, behind: Behind) -> None:
    key = new_key()
    before = len(await behind.orders())
    changed = await gateway.post(order_of(expectedTotal={"amount": 4485, "currency": "EUR"}), key)
    assert refused(changed, 409, "price_changed")["total"] == {"amount": 4486, "currency": "EUR"}
    other = await gateway.post(order_of(expectedTotal={"amount": 4486, "currency": "USD"}), key)
    refused(other, 409, "price_changed")
    assert len(await behind.orders()) == before
    right = await gateway.post(order_of(expectedTotal={"amount": 4486, "currency": "EUR"}), key)
    check(right, "/api/orders", method="post", status=202)


async def test_a_read_right_after_the_202_finds_the_order(gateway: Gateway) -> None:
    for _ in range(200):
        accepted = (await gateway.post()).json()
        read = await gateway.http.get(accepted["links"]["self"])
        assert read.status_code == 200
        assert read.json()["uid"] == accepted["uid"]


async def test_an_order_is_shown_without_its_address(gateway: Gateway, behind: Behind) -> None:
    name = await placed(gateway)
    moment = "2026-01-02T03:04:05Z"
    await behind.report(
        name,
        phase="Failed",
        reason="CardDeclined",
        conditions=[
            {"type": "Paid", "status": "False", "reason": "CardDeclined", "message": "No.",
             "lastTransitionTime": moment}
        ],
        compensation=[{"step": "ReleaseStock", "reference": "r-1", "at": moment}],
        tracking={"carrier": "DHL", "code": "T1", "url": "https://example.com/T1"},
        finishedAt=moment,
    )  # fmt: skip
    response = await gateway.http.get(f"/api/orders/{name}")
    while response.json()["phase"] == "Pending":  # the watch is a moment behind
        response = await gateway.http.get(f"/api/orders/{name}")
    view = check(response, "/api/orders/{order_id}")
    assert (view["phase"], view["reason"]) == ("Failed", "CardDeclined")
    assert view["conditions"][0]["message"] == "No."
    assert view["compensation"] == [{"step": "ReleaseStock", "reference": "r-1", "at": moment}]
    assert view["tracking"]["code"] == "T1"
    assert view["finishedAt"] == moment
    assert "Ada" not in response.text


async def test_an_order_has_a_tag_that_changes_with_it(gateway: Gateway, behind: Behind) -> None:
    name = await placed(gateway)
    address = f"/api/orders/{name}"
    tag = (await gateway.http.get(address)).headers["ETag"]
    assert tag.startswith('W/"')
    same = await gateway.http.get(address, headers={"If-None-Match": tag})
    assert (same.status_code, same.content, same.headers["ETag"]) == (304, b"", tag)
    await behind.report(name, phase="Reserved")
    async with asyncio.timeout(10):
        while (await gateway.http.get(address, headers={"If-None-Match": tag})).status_code == 304:
            pass


async def test_an_unknown_order(gateway: Gateway) -> None:
    missing = await gateway.http.get("/api/orders/o-missing")
    check(missing, "/api/orders/{order_id}", status=404)
    cancel = await gateway.http.post("/api/orders/o-missing/cancel")
    check(cancel, "/api/orders/{order_id}/cancel", method="post", status=404)


async def test_a_list_is_walked_page_by_page(gateway: Gateway, behind: Behind) -> None:
    for _ in range(7):
        await placed(gateway)
    wanted = list(await behind.orders())
    found: list[str] = []
    query: dict[str, Any] = {"limit": 200}
    query["limit"] = max(1, len(wanted) // 4)
    while True:
        page = check(await gateway.http.get("/api/orders", params=query), "/api/orders")
        assert len(page["items"]) <= query["limit"]
        found += [order["id"] for order in page["items"]]
        if page["next"] is None:
            break
        query["cursor"] = page["next"]
    ages = {name: order["metadata"]["creationTimestamp"] for name, order in (await behind.orders()).items()}
    assert found == sorted(wanted, key=lambda name: (ages[name], name), reverse=True)


async def test_a_list_of_one_phase(gateway: Gateway, behind: Behind) -> None:
    names = {await placed(gateway) for _ in range(3)}
    for name in names:
        await behind.report(name, phase="Compensating")
    query = {"phase": "Compensating", "limit": "2"}

    async def is_shown() -> bool:
        shown = await gateway.http.get("/api/orders", params={"phase": "Compensating"})
        return len(shown.json()["items"]) == len(names)

    await until(is_shown)
    first = check(await gateway.http.get("/api/orders", params=query), "/api/orders")
    second = check(
        await gateway.http.get("/api/orders", params={**query, "cursor": first["next"]}), "/api/orders"
    )
    assert {order["id"] for order in first["items"] + second["items"]} == names
    other = await gateway.http.get("/api/orders", params={"cursor": first["next"], "phase": "Paid"})
    assert check(other, "/api/orders", status=400)["code"] == "invalid_cursor"


async def test_a_cursor_that_is_none(gateway: Gateway) -> None:
    await placed(gateway)
    await placed(gateway)
    good = (await gateway.http.get("/api/orders", params={"limit": 1})).json()["next"]
    forged = write_cursor(
        "orders", {**read_cursor("orders", good), "after": None, "token": "bm90IGEgdG9rZW4"}
    )
    for cursor in ("abc", forged, write_cursor("products", {"after": "x"})):
        response = await gateway.http.get("/api/orders", params={"cursor": cursor})
        assert check(response, "/api/orders", status=400)["code"] == "invalid_cursor"


async def test_a_walk_at_the_api_server_that_was_left_too_long_begins_anew(
    gateway: Gateway, behind: Behind
) -> None:
    for _ in range(2):
        await placed(gateway)
    page = (await gateway.http.get("/api/orders", params={"limit": 1})).json()
    state = read_cursor("orders", page["next"])
    token = (await behind.admin.list_page(Kind.ORDER, MERCHANT, limit=1)).continue_token
    assert token
    await _compact(behind)
    # The server's cache would still serve the newest snapshots, so the token is made to look older.
    raw = json.loads(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
    aged = base64.urlsafe_b64encode(json.dumps({**raw, "rv": 2}).encode()).decode().rstrip("=")
    cursor = write_cursor("orders", {**state, "after": None, "token": aged})
    response = await gateway.http.get("/api/orders", params={"limit": 1, "cursor": cursor})
    assert check(response, "/api/orders", status=410)["code"] == "cursor_expired"


async def _compact(behind: Behind) -> None:
    """What the API server does every five minutes."""
    ports = json.loads((behind.plane.state / "ports.json").read_text())
    etcd = f"http://127.0.0.1:{ports['etcd']}/v3/kv"
    async with httpx.AsyncClient() as http:
        now = (await http.post(f"{etcd}/range", json={"key": "AA=="})).json()["header"]["revision"]
        assert (await http.post(f"{etcd}/compaction", json={"revision": now})).status_code == 200


async def test_the_shop_sees_what_it_keeps_with_an_order(gateway: Gateway) -> None:
    kept = {"reference": new_key(), "metadata": {"channel": "newsletter", "note": ""}}
    name = await placed(gateway, **kept)
    plain = await placed(gateway, customer="c-2002")
    path, address = "/api/orders/{order_id}", f"/api/orders/{name}"
    view = check(await gateway.http.get(address), path)
    assert {"reference": view["reference"], "metadata": view["metadata"]} == kept
    assert (view["customer"], view["paymentMethod"], view["finishedAt"]) == ("c-1001", "pm_card_visa", None)
    assert "address" not in view
    whole = check(await gateway.http.get(address, params={"expand": "address"}), path)
    assert whole["address"] == {**order_of()["address"], "line2": None, "region": None}
    other = check(await gateway.http.get(f"/api/orders/{plain}"), path)
    assert (other["reference"], other["metadata"]) == (None, {})

    async def ids(**query: str) -> list[str]:
        page = check(await gateway.http.get("/api/orders", params=query), "/api/orders")
        return [order["id"] for order in page["items"]]

    async def is_listed() -> bool:
        return {name, plain} <= {*await ids(reference=kept["reference"]), *await ids(customer="c-2002")}

    await until(is_listed)
    assert await ids(reference=kept["reference"]) == [name]
    assert await ids(reference=kept["reference"], customer="c-2002") == []
    assert name not in await ids(customer="c-2002")
    assert plain not in await ids(customer="c-1001")
    for query in ({"customer": "no customer!"}, {"reference": ""}, {"reference": "x" * 201}):
        check(await gateway.http.get("/api/orders", params=query), "/api/orders", status=422)
    check(await gateway.http.get(address, params={"expand": "all"}), path, status=422)


async def test_an_address_is_shown_to_those_who_may_see_it(gateway: Gateway, behind: Behind) -> None:
    name = await placed(gateway, customer="u-ada")
    seller = Principal(MERCHANT, SELLER, Role.MERCHANT, SCOPES_OF[Role.MERCHANT] - {Scope.ORDERS_ADDRESS})
    ada = Principal(MERCHANT, "u-ada", Role.CUSTOMER, SCOPES_OF[Role.CUSTOMER])
    eve = Principal(MERCHANT, "u-eve", Role.CUSTOMER, SCOPES_OF[Role.CUSTOMER])
    async with behind.pool.acquire() as connection:
        for customer in (ada, eve):
            await connection.execute(
                "INSERT INTO users (merchant, id, email, password_hash) VALUES ($1, $2, $3, '') "
                "ON CONFLICT DO NOTHING",
                MERCHANT, customer.name, f"{customer.name}@example.test",
            )  # fmt: skip
    for caller, status, code in ((seller, 403, "insufficient_scope"), (eve, 404, "order_not_found")):
        headers = {"Authorization": f"Bearer {token_of(behind.plane, caller)}"}
        answer = await gateway.http.get(f"/api/orders/{name}", params={"expand": "address"}, headers=headers)
        assert check(answer, "/api/orders/{order_id}", status=status)["code"] == code
    headers = {"Authorization": f"Bearer {token_of(behind.plane, ada)}"}
    answer = await gateway.http.get(f"/api/orders/{name}", params={"expand": "address"}, headers=headers)
    assert check(answer, "/api/orders/{order_id}")["address"]["city"] == "Berlin"
    for customer, status in (("u-ada", 200), ("u-eve", 422)):
        page = await gateway.http.get("/api/orders", params={"customer": customer}, headers=headers)
        check(page, "/api/orders", status=status)


@pytest.mark.parametrize(
    "kept",
    [
        {"reference": ""},
        {"reference": "x" * 201},
        {"reference": "a\u0000b"},
        {"metadata": {f"k{number}": "v" for number in range(51)}},
        {"metadata": {"k" * 41: "v"}},
        {"metadata": {"": "v"}},
        {"metadata": {"k": "v" * 501}},
        {"metadata": {"k": 1}},
        {"metadata": {"k": "a\u001b[31m"}},
        {"metadata": ["k"]},
    ],
)
async def test_what_a_shop_keeps_is_bounded_text(gateway: Gateway, kept: dict[str, Any]) -> None:
    body = refused(await gateway.post(order_of(**kept)), 422, "validation_failed")
    assert body["errors"][0]["pointer"].startswith(f"#/{next(iter(kept))}")


async def test_a_cancel_is_written_down_once(gateway: Gateway, behind: Behind) -> None:
    name = await placed(gateway)
    path = "/api/orders/{order_id}/cancel"
    for _ in range(2):
        response = await gateway.http.post(f"/api/orders/{name}/cancel")
        view = check(response, path, method="post", status=202)
        assert view["cancelRequested"] is True
    order = await behind.admin.get(Kind.ORDER, MERCHANT, name)
    assert order["spec"]["cancel"] is True
    assert order["metadata"]["generation"] == 2
    assert order["metadata"]["annotations"][CANCELLED_BY_ANNOTATION] == f"user:{SELLER}"
    await behind.report(name, phase="Cancelled")
    response = await gateway.http.post(f"/api/orders/{name}/cancel")
    assert check(response, path, method="post", status=200)["phase"] == "Cancelled"


@pytest.mark.parametrize(
    ("outcome", "code"),
    [
        ("Shipped", "too_late_to_cancel"),
        ("Delivered", "too_late_to_cancel"),
        ("Failed", "already_finished"),
    ],
)
async def test_a_cancel_that_comes_too_late(
    gateway: Gateway, behind: Behind, outcome: str, code: str
) -> None:
    name = await placed(gateway)
    order = await behind.open_gate(name)
    await behind.pool.execute(
        "UPDATE orders SET state = 'Sealed', outcome = $2 WHERE uid = $1", order.metadata.uid, outcome
    )
    response = await gateway.http.post(f"/api/orders/{name}/cancel")
    assert check(response, "/api/orders/{order_id}/cancel", method="post", status=409)["code"] == code
    assert (await behind.admin.get(Kind.ORDER, MERCHANT, name))["spec"]["cancel"] is False


async def test_products_are_listed_with_prices_and_what_is_left(gateway: Gateway) -> None:
    path = "/api/products"
    first = check(await gateway.http.get(path, params={"limit": 4}), path)
    second = check(await gateway.http.get(path, params={"limit": 4, "cursor": first["next"]}), path)
    assert second["next"] is None
    products = {product["sku"]: product for product in first["items"] + second["items"]}
    assert list(products) == sorted([EARL, MUG, YEN, HEAVY, FILS, SEN, GOLD])
    assert products[EARL]["available"] == 7
    assert products[MUG]["available"] == 0
    assert products[EARL]["price"] == {"amount": 895, "currency": "EUR", "formatted": "8.95 EUR"}
    assert products[YEN]["price"]["formatted"] == "900 JPY"
    whole = await gateway.http.get(path)
    again = await gateway.http.get(path, headers={"If-None-Match": whole.headers["ETag"]})
    assert again.status_code == 304
    assert OLD not in whole.text


async def test_requests_are_counted_by_route(gateway: Gateway) -> None:
    await placed(gateway)
    await gateway.http.get("/nope/planted-path")
    text = (await gateway.http.get(f"{gateway.metrics_url}/metrics")).text
    samples = {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    assert samples[
        "orderplane_http_requests_total", ("code", "202"), ("method", "POST"), ("route", "/api/orders")
    ]
    assert samples["orderplane_http_requests_total", ("code", "404"), ("method", "GET"), ("route", "none")]
    assert samples[
        "orderplane_http_request_duration_seconds_count", ("method", "POST"), ("route", "/api/orders")
    ]
    assert samples["orderplane_http_requests_in_flight",] == 0
    assert "planted-path" not in text


async def test_the_document_is_served(gateway: Gateway) -> None:
    assert (await gateway.http.get("/openapi.json")).json() == DOCUMENT


def items(*wanted: tuple[str, int], **more: Any) -> dict[str, Any]:
    return order_of(items=[{"sku": sku, "quantity": quantity, **more} for sku, quantity in wanted])


QUANTITY = "#/items/0/quantity"
BAD = {
    "unknown SKU": (items(("NOPE", 1)), 422, "unknown_sku", "#/items/0/sku"),
    "inactive SKU": (items((OLD, 1)), 422, "inactive_sku", "#/items/0/sku"),
    "zero": (items((EARL, 0)), 422, "validation_failed", QUANTITY),
    "negative": (items((EARL, -1)), 422, "validation_failed", QUANTITY),
    "huge": (items((EARL, 10**30)), 422, "validation_failed", QUANTITY),
    "too heavy": (items((HEAVY, 100)), 422, "too_heavy", None),
    "twice": (items((EARL, 1), (EARL, 1)), 422, "duplicate_sku", "#/items/1/sku"),
    "mixed currency": (items((EARL, 1), (YEN, 1)), 422, "mixed_currency", None),
    "a fraction": (items((FILS, 1)), 422, "amount_not_chargeable", None),
    "too cheap": (items((SEN, 1)), 422, "amount_too_small", None),
    "too dear": (items((GOLD, 1)), 422, "amount_too_large", None),
    "empty": (items(), 422, "validation_failed", "#/items"),
    "own price": (items((EARL, 1), unitAmount=1), 422, "validation_failed", "#/items/0/unitAmount"),
    "card number": (order_of(paymentMethod="4242424242424242"), 422, "validation_failed", "#/paymentMethod"),
    "bad JSON": (b'{"customer": ', 400, "invalid_json", None),
    "too deep": (b'{"a":' * 50 + b"1" + b"}" * 50, 400, "invalid_json", None),
    "1 MB": (b" " * 1_000_000, 413, "body_too_large", None),
}


@pytest.mark.parametrize("name", BAD)
async def test_bad_input_is_refused_clearly_and_makes_nothing(
    gateway: Gateway, behind: Behind, name: str
) -> None:
    body, status, code, pointer = BAD[name]
    key = new_key()
    before = len(await behind.orders()), await behind.rows()
    response = await gateway.post(body, key)
    problem = refused(response, status, code)
    assert [error["pointer"] for error in problem.get("errors", [])] == ([pointer] if pointer else [])
    assert "4242" not in response.text
    assert (len(await behind.orders()), await behind.rows()) == before
    # The key was not used up.
    check(await gateway.post(key=key), "/api/orders", method="post", status=202)


@pytest.mark.parametrize("key", ["", "a b", '"a', "x" * 256, '""'])
async def test_a_bad_key_makes_nothing(gateway: Gateway, behind: Behind, key: str) -> None:
    before = len(await behind.orders())
    response = await gateway.http.post("/api/orders", json=order_of(), headers=[("Idempotency-Key", key)])
    refused(response, 400, "idempotency_key_invalid")
    refused(await gateway.http.post("/api/orders", json=order_of()), 400, "idempotency_key_missing")
    assert len(await behind.orders()) == before


async def test_a_megabyte_is_refused_before_it_was_sent(gateway: Gateway) -> None:
    host, _, port = gateway.url.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        writer.write(
            b"POST /api/orders HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            b"Idempotency-Key: k\r\nContent-Length: 1000000\r\n\r\n{"
        )
        async with asyncio.timeout(5):
            assert (await reader.readline()).startswith(b"HTTP/1.1 413 ")
    finally:
        writer.close()
        await writer.wait_closed()


async def test_a_merchant_without_a_namespace_gets_a_reason_everywhere(
    gateway: Gateway, behind: Behind
) -> None:
    nowhere = "shop-of-nowhere"
    await behind.pool.execute(
        "INSERT INTO users (merchant, id, email, role, password_hash) "
        "VALUES ($1, 'u-nowhere', 'nowhere@example.test', 'merchant', '')",
        nowhere,
    )
    token = token_of(behind.plane, Principal(nowhere, "u-nowhere", Role.MERCHANT, SCOPES_OF[Role.MERCHANT]))
    headers = {"Authorization": f"Bearer {token}"}
    stock = {"items": [{"sku": EARL, "quantity": 1}]}
    for _ in range(2):
        answer = await gateway.http.post(
            "/api/inventory/reserve", json=stock, headers=headers | {"Idempotency-Key": "k"}
        )
        assert (answer.status_code, answer.json()["code"]) == (409, "no_namespace")
    assert (await gateway.post(**headers)).json()["code"] == "unknown_sku"
    for path, status in (
        ("/api/orders", 200), ("/api/orders/o-1", 404), ("/api/orders/o-1/timeline", 404),
        ("/api/inventory", 200), ("/api/inventory/reservations/r-1", 404), ("/api/products", 200),
    ):  # fmt: skip
        assert (await gateway.http.get(path, headers=headers)).status_code == status, path
    assert (await gateway.http.post("/api/orders/o-1/cancel", headers=headers)).status_code == 404


async def test_an_accepted_order_is_found_at_once_on_every_replica(gateway: Gateway, behind: Behind) -> None:
    async with running_gateway(behind.plane) as other:
        for _ in range(10):
            name = await placed(gateway)
            for replica in (other, gateway):
                assert (await replica.http.get(f"/api/orders/{name}")).status_code == 200
            cancelled = await other.http.post(f"/api/orders/{name}/cancel")
            assert cancelled.status_code == 202
            assert (await other.http.get(f"/api/orders/{name}")).json()["cancelRequested"] is True
