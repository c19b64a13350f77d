"""Price rules as merchants set them and orders meet them: gateway, PostgreSQL and API server are real."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from orderplane.crds.meta import Kind

from ...support.plane import make_namespace
from ..conftest import Behind, Gateway, order_of, running_gateway, until
from ..documented import check
from ..shops import Shop, code_of, open_shop

pytestmark = pytest.mark.integration

ALL, ONE, VERSIONS = "/api/price-rules", "/api/price-rules/{currency}", "/api/price-rules/{currency}/versions"
EURO = "/api/price-rules/EUR"
EXAMPLE = json.loads((Path(__file__).parents[3] / "docs" / "examples" / "price-rule.json").read_text())
FLAT = {
    "shipping": [{"byWeight": [{"amount": 490}]}], "taxIncluded": False, "taxes": [{"basisPoints": 1900}],
}  # fmt: skip
ONE_TEA = [{"sku": "TEA", "quantity": 1}]


@pytest.fixture
async def shop(behind: Behind, gateway: Gateway, namespace: str) -> AsyncIterator[Shop]:
    """A shop that sells tea, and has no price rule."""
    async with open_shop(behind.plane, behind.pool, gateway.url, namespace, rules={}) as shop:
        await shop.sell("TEA", 890, otherPrices={"USD": 990})
        yield shop


async def set_rule(shop: Shop, rule: Any, **headers: str) -> Any:
    answer = await shop.seller.put(EURO, json=rule, headers=headers)
    return check(answer, ONE, method="put")


async def history(shop: Shop) -> list[Any]:
    items: list[Any] = check(await shop.seller.get(f"{EURO}/versions"), VERSIONS)["items"]
    return items


async def quote(shop: Shop, **changes: Any) -> Any:
    body = {"items": ONE_TEA, "country": "DE", **changes}
    return check(await shop.customer.post("/api/quotes", json=body), "/api/quotes", method="post")


async def test_a_rule_is_set_read_replaced_and_deleted(shop: Shop) -> None:
    assert check(await shop.customer.get(ALL), ALL) == {"items": []}
    assert code_of(await shop.customer.get(EURO)) == (404, "price_rule_not_found")
    first = await set_rule(shop, EXAMPLE)
    assert (first["currency"], first["version"]) == ("EUR", 1)
    read = await shop.customer.get(EURO)
    assert check(read, ONE) == first
    same = await shop.customer.get(EURO, headers={"If-None-Match": read.headers["ETag"]})
    assert (same.status_code, same.content) == (304, b"")
    assert (await set_rule(shop, first["rule"])) == first, (
        "what is read can be sent back, and changes nothing"
    )
    assert (await set_rule(shop, FLAT))["version"] == 2
    assert [rule["version"] for rule in check(await shop.customer.get(ALL), ALL)["items"]] == [2]
    for _ in range(2):
        assert (await shop.seller.delete(EURO)).status_code == 204
    assert code_of(await shop.customer.get(EURO)) == (404, "price_rule_not_found")
    assert code_of(await shop.seller.delete("/api/price-rules/JPY")) == (404, "price_rule_not_found")
    assert (await set_rule(shop, EXAMPLE))["version"] == 4
    past = await history(shop)
    assert [version["version"] for version in past] == [4, 3, 2, 1]
    assert [version["rule"] for version in past] == [first["rule"], None, past[2]["rule"], first["rule"]]
    assert {version["actor"] for version in past} == {"user:u-merchant"}
    times = [version["changedAt"] for version in past]
    assert times == sorted(times, reverse=True)


async def test_the_history_has_pages(shop: Shop) -> None:
    for amount in range(5):
        await set_rule(shop, {**FLAT, "shipping": [{"byWeight": [{"amount": amount}]}]})
    seen, query = [], {"limit": 2}
    while True:
        page = check(await shop.seller.get(f"{EURO}/versions", params=query), VERSIONS)
        seen += [version["version"] for version in page["items"]]
        if page["next"] is None:
            break
        query["cursor"] = page["next"]
    assert seen == [5, 4, 3, 2, 1]
    for currency in ("JPY", "XAU", "eur", "EURO"):
        answer = await shop.seller.get(f"/api/price-rules/{currency}/versions")
        assert code_of(answer) == (404, "price_rule_not_found")
    forged = await shop.seller.get(f"{EURO}/versions", params={"cursor": "abc"})
    assert check(forged, VERSIONS, status=400)["code"] == "invalid_cursor"


async def test_customers_read_rules_and_nothing_more(shop: Shop) -> None:
    await set_rule(shop, FLAT)
    for answer in (
        await shop.customer.put(EURO, json=FLAT),
        await shop.customer.delete(EURO),
        await shop.customer.get(f"{EURO}/versions"),
    ):
        assert code_of(answer) == (403, "insufficient_scope")
    assert "u-merchant" not in (await shop.customer.get(EURO)).text + (await shop.customer.get(ALL)).text


async def test_who_has_an_old_version_changes_nothing(shop: Shop) -> None:
    for version in ("*", '"1"'):
        answer = await shop.seller.put(EURO, json=FLAT, headers={"If-Match": version})
        assert check(answer, ONE, method="put", status=412)["code"] == "precondition_failed"
    await set_rule(shop, FLAT)
    await set_rule(shop, EXAMPLE, **{"If-Match": '"1"'})
    for answer in (
        await shop.seller.put(EURO, json=FLAT, headers={"If-Match": '"1"'}),
        await shop.seller.delete(EURO, headers={"If-Match": '"1"'}),
    ):
        assert code_of(answer) == (412, "precondition_failed")
    assert len(await history(shop)) == 2


async def test_many_at_once_make_a_version_each(shop: Shop) -> None:
    rules = [{**FLAT, "shipping": [{"byWeight": [{"amount": amount}]}]} for amount in range(12)]
    await asyncio.gather(*(set_rule(shop, rule) for rule in rules))
    past = await history(shop)
    assert [version["version"] for version in past] == list(range(12, 0, -1))
    assert sorted(version["rule"]["shipping"][0]["byWeight"][0]["amount"] for version in past) == list(
        range(12)
    )


STEP, ZONE = {"amount": 490}, {"byWeight": [{"amount": 490}]}


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"shipping": []}, "#/shipping"),
        ({"taxes": []}, "#/taxes"),
        ({"taxIncluded": None}, "#/taxIncluded"),
        ({"taxIncluded": 1}, "#/taxIncluded"),
        ({"currency": "EUR"}, "#/currency"),
        ({"version": 3}, "#/version"),
        ({"shipping": [ZONE, ZONE]}, "#"),
        ({"shipping": [{**ZONE, "countries": ["DE", "DE"]}]}, "#"),
        ({"shipping": [{**ZONE, "countries": ["DE"]}, {**ZONE, "countries": ["AT", "DE"]}]}, "#"),
        ({"taxes": [{"basisPoints": 1}, {"basisPoints": 2}]}, "#"),
        ({"shipping": [{**ZONE, "countries": []}]}, "#/shipping/0/countries"),
        ({"shipping": [{**ZONE, "countries": ["UK"]}]}, "#/shipping/0/countries/0"),
        ({"shipping": [{"byWeight": []}]}, "#/shipping/0/byWeight"),
        ({"shipping": [{"byWeight": [STEP, STEP]}]}, "#/shipping/0"),
        ({"shipping": [{"byWeight": [{**STEP, "upToGrams": 9}, {**STEP, "upToGrams": 9}]}]}, "#/shipping/0"),
        ({"shipping": [{"byWeight": [{**STEP, "upToGrams": 9}, {**STEP, "upToGrams": 8}]}]}, "#/shipping/0"),
        ({"shipping": [{"byWeight": [{"amount": -1}]}]}, "#/shipping/0/byWeight/0/amount"),
        ({"shipping": [{"byWeight": [{"amount": 4.9}]}]}, "#/shipping/0/byWeight/0/amount"),
        ({"shipping": [{"byWeight": [{"amount": "490"}]}]}, "#/shipping/0/byWeight/0/amount"),
        ({"shipping": [{"byWeight": [{"amount": 10**12}]}]}, "#/shipping/0/byWeight/0/amount"),
        ({"shipping": [{"byWeight": [{**STEP, "upToGrams": 0}]}]}, "#/shipping/0/byWeight/0/upToGrams"),
        ({"shipping": [{**ZONE, "freeFrom": -1}]}, "#/shipping/0/freeFrom"),
        ({"shipping": [{**ZONE, "free": True}]}, "#/shipping/0/free"),
        ({"taxes": [{"basisPoints": 10_001}]}, "#/taxes/0/basisPoints"),
        ({"taxes": [{"basisPoints": 19.0}]}, "#/taxes/0/basisPoints"),
    ],
)
async def test_a_rule_that_is_wrong_changes_nothing(shop: Shop, change: Any, pointer: str) -> None:
    before = await set_rule(shop, FLAT)
    problem = check(await shop.seller.put(EURO, json={**FLAT, **change}), ONE, method="put", status=422)
    assert problem["code"] == "validation_failed"
    assert [error["pointer"] for error in problem["errors"]] == [pointer]
    assert check(await shop.seller.get(EURO), ONE) == before
    assert len(await history(shop)) == 1


async def test_a_currency_that_no_order_can_have_gets_no_rule(shop: Shop) -> None:
    for currency in ("XAU", "eur", "EURO"):
        answer = await shop.seller.put(f"/api/price-rules/{currency}", json=FLAT)
        assert check(answer, ONE, method="put", status=422)["code"] == "unsupported_currency"


async def test_without_a_rule_nothing_is_ordered(shop: Shop, behind: Behind) -> None:
    """Neither in the products' own currency nor in one that the customer picks."""
    refused = await shop.keyed("/api/orders", order_of(items=ONE_TEA))
    problem = check(refused, "/api/orders", method="post", status=422)
    assert problem["code"] == "no_price_rule"
    assert "no price rule for EUR" in problem["detail"]
    await set_rule(shop, FLAT)
    picked = await shop.keyed("/api/orders", order_of(items=ONE_TEA, currency="USD"))
    problem = check(picked, "/api/orders", method="post", status=422)
    assert (problem["code"], problem["errors"][0]["pointer"]) == ("no_price_rule", "#/currency")
    assert "order in EUR" in problem["detail"]
    assert (await behind.admin.list_page(Kind.ORDER, shop.merchant)).items == []
    accepted = await shop.keyed("/api/orders", order_of(items=ONE_TEA))
    assert accepted.json()["quote"]["amounts"]["total"] == 1642
    await shop.seller.delete(EURO)
    assert code_of(await shop.keyed("/api/orders", order_of(items=ONE_TEA))) == (422, "no_price_rule")
    assert len((await behind.admin.list_page(Kind.ORDER, shop.merchant)).items) == 1


async def test_a_country_that_nothing_is_said_about_gets_no_order(shop: Shop) -> None:
    await set_rule(shop, {**FLAT, "shipping": [{**ZONE, "countries": ["AT"]}]})
    refused = await shop.keyed("/api/orders", order_of(items=ONE_TEA))
    problem = check(refused, "/api/orders", method="post", status=422)
    assert (problem["code"], problem["errors"][0]["pointer"]) == ("unserved_country", "#/address/country")
    answer = await shop.customer.post("/api/quotes", json={"items": ONE_TEA, "country": "DE"})
    problem = check(answer, "/api/quotes", method="post", status=422)
    assert (problem["code"], problem["errors"][0]["pointer"]) == ("unserved_country", "#/country")


async def test_a_rule_that_changes_between_quote_and_order(shop: Shop, behind: Behind) -> None:
    """Nobody pays what they were not shown; what was ordered before keeps its price and its version."""
    await set_rule(shop, FLAT)
    shown = await quote(shop)
    assert (shown["amounts"]["total"], shown["priceRule"]) == (1642, {"version": 1, "taxBasisPoints": 1900})
    expected = {"amount": 1642, "currency": "EUR"}
    body = order_of(items=ONE_TEA, expectedTotal=expected)
    early = check(await shop.keyed("/api/orders", body), "/api/orders", method="post", status=202)
    await set_rule(shop, EXAMPLE)
    late = check(await shop.keyed("/api/orders", body), "/api/orders", method="post", status=409)
    assert (late["code"], late["total"]) == ("price_changed", {"amount": 1380, "currency": "EUR"})
    now = await quote(shop)
    # 13.80 / 1.19 * 0.19 = 2.203
    assert now["amounts"] == {
        "items": 890, "shipping": 490, "tax": 0, "includedTax": 220, "discount": 0, "total": 1380,
    }  # fmt: skip
    body["expectedTotal"] = {"amount": 1380, "currency": "EUR"}
    placed = check(await shop.keyed("/api/orders", body), "/api/orders", method="post", status=202)
    assert placed["quote"] == now
    for accepted, version in ((early, 1), (placed, 2)):
        order = await behind.admin.get(Kind.ORDER, shop.merchant, accepted["id"])
        read = (await shop.seller.get(accepted["links"]["self"])).json()
        assert order["spec"]["quote"] == read["quote"] == accepted["quote"]
        assert read["quote"]["priceRule"]["version"] == version


async def test_another_gateway_hears_of_a_new_rule(shop: Shop, behind: Behind, gateway: Gateway) -> None:
    await set_rule(shop, FLAT)
    async with running_gateway(behind.plane) as second:
        other = second.http
        other.headers["Authorization"] = shop.seller.headers["Authorization"]

        async def total() -> int:
            answer = await other.post("/api/quotes", json={"items": ONE_TEA, "country": "DE"})
            return int(answer.json()["amounts"]["total"])

        assert await total() == 1642, "it is not refused for being new"
        for amount in range(5):
            await set_rule(shop, {**FLAT, "shipping": [{"byWeight": [{"amount": amount * 100}]}]})
            expected = round((890 + amount * 100) * 1.19)
            assert (await quote(shop))["amounts"]["total"] == expected, "where it was set, it holds at once"

            async def is_known(expected: int = expected) -> bool:
                return await total() == expected

            await until(is_known)
        # What this one has in memory refuses nobody: a currency that is new.
        answer = await shop.seller.put("/api/price-rules/USD", json=FLAT)
        assert answer.status_code == 200
        body = {"items": ONE_TEA, "country": "DE", "currency": "USD"}
        assert (await other.post("/api/quotes", json=body)).status_code == 200
        await shop.seller.delete("/api/price-rules/USD")

        async def is_refused() -> bool:
            return code_of(await other.post("/api/quotes", json=body)) == (422, "no_price_rule")

        await until(is_refused)


async def test_a_neighbour_has_rules_of_its_own(shop: Shop, behind: Behind, gateway: Gateway) -> None:
    await set_rule(shop, FLAT)
    name = await make_namespace(behind.plane)
    async with open_shop(behind.plane, behind.pool, gateway.url, name, rules={}) as neighbour:
        assert code_of(await neighbour.seller.get(EURO)) == (404, "price_rule_not_found")
        assert code_of(await neighbour.seller.get(f"{EURO}/versions")) == (404, "price_rule_not_found")
        assert code_of(await neighbour.seller.delete(EURO)) == (404, "price_rule_not_found")
        assert (await set_rule(neighbour, EXAMPLE))["version"] == 1
    assert len(await history(shop)) == 1
