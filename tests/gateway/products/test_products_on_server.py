"""Products as merchants and customers use them: the gateway, PostgreSQL and the API server are real."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from orderplane.crds.meta import Kind

from ...support.plane import make_namespace
from ..conftest import Behind, Gateway, new_key, order_of
from ..documented import check
from ..shops import Shop, code_of, open_shop, product_of

pytestmark = pytest.mark.integration

ONE = "/api/products/{sku}"


@pytest.fixture
async def shop(behind: Behind, gateway: Gateway, namespace: str) -> AsyncIterator[Shop]:
    async with open_shop(behind.plane, behind.pool, gateway.url, namespace) as shop:
        yield shop


@pytest.fixture
async def neighbour(behind: Behind, gateway: Gateway) -> AsyncIterator[Shop]:
    """Another merchant behind the same gateway."""
    name = await make_namespace(behind.plane)
    async with open_shop(behind.plane, behind.pool, gateway.url, name) as shop:
        yield shop


async def listed(shop: Shop, **query: Any) -> list[str]:
    """The SKUs that a seller finds."""
    page = check(await shop.seller.get("/api/products", params=query), "/api/products")
    return [product["sku"] for product in page["items"]]


async def test_a_product_is_made_read_and_listed(shop: Shop) -> None:
    made = await shop.sell("TEA", 890, description="Black.\nWith bergamot.", otherPrices={"USD": 990})
    view = check(made, "/api/products", method="post", status=201)
    assert view == {
        "sku": "TEA", "name": "Something", "description": "Black.\nWith bergamot.", "weightGrams": 120,
        "price": {"amount": 890, "currency": "EUR", "formatted": "8.90 EUR"}, "otherPrices": {"USD": 990},
        "available": 0, "archived": False,
    }  # fmt: skip
    assert made.headers["Location"] == "/api/products/TEA"
    read = await shop.customer.get(made.headers["Location"])
    assert check(read, ONE) == view
    assert read.headers["ETag"] == made.headers["ETag"]
    same = await shop.customer.get("/api/products/TEA", headers={"If-None-Match": read.headers["ETag"]})
    assert (same.status_code, same.content) == (304, b"")
    assert await listed(shop) == ["TEA"]


async def test_there_is_one_product_of_a_sku(shop: Shop) -> None:
    await shop.sell("TEA", 890)
    again = await shop.sell("TEA", 1)
    assert check(again, "/api/products", method="post", status=409)["code"] == "sku_taken"
    await shop.seller.delete("/api/products/TEA")
    assert code_of(await shop.sell("TEA", 1)) == (409, "sku_taken")
    assert (await shop.customer.get("/api/products/TEA")).json()["price"]["amount"] == 890


@pytest.mark.parametrize(
    ("patch", "changed"),
    [
        ({"name": "Earl"}, {"name": "Earl"}),
        ({"description": None}, {"description": ""}),
        ({"price": {"amount": 5}}, {"price": {"amount": 5, "currency": "EUR", "formatted": "0.05 EUR"}}),
        ({"otherPrices": {"JPY": 1450, "USD": None}}, {"otherPrices": {"JPY": 1450, "GBP": 800}}),
        ({"otherPrices": None}, {"otherPrices": {}}),
        ({"archived": True}, {"archived": True}),
        ({}, {}),
    ],
)
async def test_a_merge_patch_changes_what_it_names(
    shop: Shop, patch: dict[str, Any], changed: dict[str, Any]
) -> None:
    before = (await shop.sell("TEA", description="x", otherPrices={"USD": 990, "GBP": 800})).json()
    headers = {"Content-Type": "application/merge-patch+json"}
    answer = await shop.seller.request("PATCH", "/api/products/TEA", json=patch, headers=headers)
    assert check(answer, ONE, method="patch") == {**before, **changed}
    assert (await shop.seller.get("/api/products/TEA")).json() == {**before, **changed}


@pytest.mark.parametrize(
    ("patch", "pointer"),
    [
        ({"sku": "OTHER"}, "#/sku"),
        ({"merchant": "other"}, "#/merchant"),
        ({"version": 1}, "#/version"),
        ({"available": 100}, "#/available"),
        ({"name": None}, "#/name"),
        ({"price": None}, "#/price"),
        ({"price": {"amount": -1}}, "#/price/amount"),
        ({"price": {"amount": 10**11}}, "#/price/amount"),
        ({"price": {"amount": 1.5}}, "#/price/amount"),
        ({"price": {"amount": "5"}}, "#/price/amount"),
        ({"price": {"currency": "XAU"}}, "#/price/currency"),
        ({"price": {"formatted": "free"}}, "#/price/formatted"),
        ({"otherPrices": {"EUR": 1}}, "#"),
        ({"otherPrices": {"XAU": 1}}, "#/otherPrices/XAU"),
        ({"weightGrams": 0}, "#/weightGrams"),
        ({"weightGrams": 1_000_001}, "#/weightGrams"),
        ({"name": ""}, "#/name"),
        ({"name": "a\u0000b"}, "#/name"),
        ({"description": "x" * 5001}, "#/description"),
        ([], "#"),
        ("TEA", "#"),
    ],
)
async def test_a_patch_that_is_wrong_changes_nothing(shop: Shop, patch: Any, pointer: str) -> None:
    before = (await shop.sell("TEA")).json()
    for version in ("*", '"of-yesterday"'):
        answer = await shop.seller.patch("/api/products/TEA", json=patch, headers={"If-Match": version})
        problem = check(answer, ONE, method="patch", status=422)
        assert [error["pointer"] for error in problem["errors"]] == [pointer]
    assert (await shop.seller.get("/api/products/TEA")).json() == before


@pytest.mark.parametrize("sku", ["", "../x", "a/b", "-TEA", "x" * 64, "TEA'; DROP TABLE products; --", "Tée"])
async def test_a_sku_that_the_cluster_would_not_take_is_not_made(shop: Shop, sku: str) -> None:
    problem = check(await shop.sell(sku), "/api/products", method="post", status=422)
    assert [error["pointer"] for error in problem["errors"]] == ["#/sku"]
    assert await listed(shop) == []


async def test_bodies_of_another_kind_are_refused(shop: Shop) -> None:
    await shop.sell("TEA")
    headers = {"Content-Type": "application/json-patch+json"}
    answer = await shop.seller.request("PATCH", "/api/products/TEA", content=b"[]", headers=headers)
    assert check(answer, ONE, method="patch", status=415)["code"] == "unsupported_media_type"
    headers = {"Content-Type": "application/merge-patch+json"}
    answer = await shop.seller.request("POST", "/api/products", content=b"{}", headers=headers)
    assert check(answer, "/api/products", method="post", status=415)["code"] == "unsupported_media_type"
    headers = {"Content-Type": "application/json"}
    answer = await shop.seller.request("PATCH", "/api/products/TEA", content=b'{"name": ', headers=headers)
    assert check(answer, ONE, method="patch", status=400)["code"] == "invalid_json"


async def test_two_who_change_the_same_product_do_not_overwrite_each_other(shop: Shop) -> None:
    tag = (await shop.sell("TEA")).headers["ETag"]
    first = await shop.seller.patch("/api/products/TEA", json={"name": "A"}, headers={"If-Match": tag})
    assert first.status_code == 200
    assert first.headers["ETag"] != tag
    for stale in (tag, f"W/{first.headers['ETag']}", '"nonsense"', "nonsense"):
        answer = await shop.seller.patch("/api/products/TEA", json={"name": "B"}, headers={"If-Match": stale})
        assert check(answer, ONE, method="patch", status=412)["code"] == "precondition_failed"
    for good in (first.headers["ETag"], f'"x", {first.headers["ETag"]}', "*"):
        answer = await shop.seller.patch("/api/products/TEA", json={"name": "A"}, headers={"If-Match": good})
        assert (answer.status_code, answer.headers["ETag"]) == (200, first.headers["ETag"])


async def test_a_sale_makes_a_new_tag_but_no_conflict(shop: Shop) -> None:
    tag = (await shop.sell("TEA")).headers["ETag"]
    assert (await shop.recount("TEA", 7)).status_code == 200
    read = await shop.customer.get("/api/products/TEA", headers={"If-None-Match": tag})
    assert (read.status_code, read.json()["available"]) == (200, 7)
    answer = await shop.seller.patch("/api/products/TEA", json={"name": "A"}, headers={"If-Match": tag})
    assert answer.status_code == 200


async def test_an_archived_product_stays_readable_and_is_not_sold(shop: Shop) -> None:
    await shop.sell("TEA")
    for _ in range(2):
        assert (await shop.seller.delete("/api/products/TEA")).status_code == 204
    assert await listed(shop) == []
    assert await listed(shop, includeArchived=True) == ["TEA"]
    assert (await shop.customer.get("/api/products/TEA")).json()["archived"] is True
    refused = await shop.customer.get("/api/products", params={"includeArchived": True})
    assert check(refused, "/api/products", status=403)["code"] == "insufficient_scope"
    order = order_of(items=[{"sku": "TEA", "quantity": 1}])
    assert code_of(await shop.keyed("/api/orders", order)) == (422, "inactive_sku")
    assert (await shop.seller.patch("/api/products/TEA", json={"archived": False})).status_code == 200
    assert (await shop.keyed("/api/orders", order)).status_code == 202


async def test_words_are_searched_for(shop: Shop) -> None:
    await shop.sell("TEA-EARL-GREY", name="Earl Grey", description="Black tea with bergamot")
    await shop.sell("TEA-SENCHA", name="Sencha", description="Green tea")
    await shop.sell("MUG", name="Mug", description="Holds tea, black or green")
    for q, found in {
        "tea": ["MUG", "TEA-EARL-GREY", "TEA-SENCHA"],
        "GREEN tea": ["MUG", "TEA-SENCHA"],
        '"green tea"': ["TEA-SENCHA"],
        "tea -green": ["TEA-EARL-GREY"],
        "sencha or bergamot": ["TEA-EARL-GREY", "TEA-SENCHA"],
        "TEA-EARL-GREY": ["TEA-EARL-GREY"],
        "coffee": [],
    }.items():
        assert await listed(shop, q=q) == found, q


@pytest.mark.parametrize(
    "q",
    ["'", '"', "' OR 1=1 --", "'; DROP TABLE products; --", "tea:*", "!!!", "a & | b", "(((", "\\", "%", "_",
     "\x00", "tea\x00", "\u2603", "<->", "-", "or or or", "x" * 200, "$1", "tea' @@ 'x"],
)  # fmt: skip
async def test_nothing_that_is_searched_for_is_an_error(shop: Shop, neighbour: Shop, q: str) -> None:
    await neighbour.sell("TEA", name=f"Tea {q}"[:200] if q.isprintable() else "Tea")
    assert await listed(shop, q=q) == []
    assert (await neighbour.customer.get("/api/products/TEA")).status_code == 200


async def test_filters(shop: Shop) -> None:
    await shop.sell("A", 100, otherPrices={"USD": 500})
    await shop.sell("B", 300)
    await shop.sell("C", 900, "USD")
    await shop.recount("B", 1)
    await shop.recount("C", 0)
    for query, found in (
        ({"currency": "USD"}, ["A", "C"]),
        ({"currency": "EUR", "minPrice": 100, "maxPrice": 299}, ["A"]),
        ({"currency": "USD", "minPrice": 501}, ["C"]),
        ({"currency": "USD", "maxPrice": 500}, ["A"]),
        ({"currency": "JPY"}, []),
        ({"inStock": True}, ["B"]),
        ({"inStock": True, "currency": "USD"}, []),
        ({"q": "b", "currency": "EUR", "inStock": True}, ["B"]),
    ):
        assert await listed(shop, **query) == found, query


@pytest.mark.parametrize(
    "query",
    [{"minPrice": 1}, {"maxPrice": 1}, {"currency": "XAU"}, {"currency": "EUR", "minPrice": -1},
     {"currency": "EUR", "minPrice": "1.5"}, {"currency": "EUR", "maxPrice": 10**30}, {"q": ""},
     {"q": "x" * 201}, {"inStock": "maybe"}, {"limit": 0}],
)  # fmt: skip
async def test_filters_that_mean_nothing(shop: Shop, query: dict[str, Any]) -> None:
    answer = await shop.customer.get("/api/products", params=query)
    assert check(answer, "/api/products", status=422)["code"] == "validation_failed"


async def test_a_filtered_list_is_walked_page_by_page(shop: Shop) -> None:
    for number in range(5):
        await shop.sell(f"TEA-{number}")
        await shop.sell(f"MUG-{number}")
    found, query = [], {"q": "tea or mug-3", "limit": 2}
    while True:
        page = check(await shop.customer.get("/api/products", params=query), "/api/products")
        found += [product["sku"] for product in page["items"]]
        if page["next"] is None:
            break
        query["cursor"] = page["next"]
    assert found == ["MUG-3", *(f"TEA-{number}" for number in range(5))]


async def test_a_new_price_is_for_new_orders_alone(shop: Shop, behind: Behind) -> None:
    await shop.sell("TEA", 890)
    body, key = order_of(items=[{"sku": "TEA", "quantity": 2}]), new_key()
    first = await shop.keyed("/api/orders", body, key)
    assert first.json()["quote"]["amounts"]["total"] == 1780
    name = first.json()["id"]
    await shop.seller.patch("/api/products/TEA", json={"price": {"amount": 1000}, "weightGrams": 500})
    await shop.seller.delete("/api/products/TEA")
    read = (await shop.seller.get(f"/api/orders/{name}")).json()
    assert read["quote"] == first.json()["quote"]
    again = await shop.keyed("/api/orders", body, key)
    assert (again.content, again.headers["Idempotent-Replayed"]) == (first.content, "true")
    # Also where the order never came to be: the row has the price that the client was promised.
    await behind.unanswered(name)
    await behind.end_claim(name)
    finished = await shop.keyed("/api/orders", body, key)
    assert (finished.status_code, finished.content) == (202, first.content)
    await shop.seller.patch("/api/products/TEA", json={"archived": False})
    new = await shop.keyed("/api/orders", body)
    assert new.json()["quote"]["amounts"]["total"] == 2000


async def test_an_order_in_a_currency_of_the_customers(shop: Shop, behind: Behind) -> None:
    await shop.sell("TEA", 890, otherPrices={"USD": 990, "JPY": 1450})
    await shop.sell("WHISK", 1800, "JPY")
    two = [{"sku": "TEA", "quantity": 1}, {"sku": "WHISK", "quantity": 1}]
    assert code_of(await shop.keyed("/api/orders", order_of(items=two))) == (422, "mixed_currency")
    yen = await shop.keyed("/api/orders", order_of(items=two, currency="JPY"))
    accepted = check(yen, "/api/orders", method="post", status=202)
    assert (accepted["quote"]["currency"], accepted["quote"]["amounts"]["total"]) == ("JPY", 3250)
    order = await behind.admin.get(Kind.ORDER, shop.merchant, accepted["id"])
    assert "currency" not in order["spec"]
    expected = {"amount": 3250, "currency": "JPY"}
    shown = await shop.keyed("/api/orders", order_of(items=two, currency="JPY", expectedTotal=expected))
    assert shown.status_code == 202
    dollars = await shop.keyed("/api/orders", order_of(items=two, currency="USD"))
    problem = check(dollars, "/api/orders", method="post", status=422)
    assert problem["code"] == "no_price_in_currency"
    assert [error["pointer"] for error in problem["errors"]] == ["#/items/1/sku"]
    gold = await shop.keyed("/api/orders", order_of(items=two, currency="XAU"))
    problem = check(gold, "/api/orders", method="post", status=422)
    assert problem["code"] == "unsupported_currency"
    assert [error["pointer"] for error in problem["errors"]] == ["#/currency"]


async def test_nothing_of_another_merchant_can_be_seen_or_changed(shop: Shop, neighbour: Shop) -> None:
    before = (await neighbour.sell("TEA", otherPrices={"USD": 990})).json()
    for answer in (
        await shop.seller.get("/api/products/TEA"),
        await shop.customer.get("/api/products/TEA"),
        await shop.seller.patch("/api/products/TEA", json={"name": "Mine"}),
        await shop.seller.delete("/api/products/TEA"),
    ):
        assert code_of(answer) == (404, "product_not_found")
    assert await listed(shop, includeArchived=True, q="tea", currency="USD") == []
    # The same SKU is another product here.
    assert (await shop.sell("TEA", 1)).status_code == 201
    assert (await neighbour.customer.get("/api/products/TEA")).json() == before


async def test_customers_change_nothing(shop: Shop) -> None:
    before = (await shop.sell("TEA")).json()
    for answer in (
        await shop.customer.post("/api/products", json=product_of("MINE")),
        await shop.customer.patch("/api/products/TEA", json={"price": {"amount": 0}}),
        await shop.customer.delete("/api/products/TEA"),
    ):
        assert code_of(answer) == (403, "insufficient_scope")
    assert (await shop.customer.get("/api/products/TEA")).json() == before
    assert await listed(shop, includeArchived=True) == ["TEA"]


@pytest.mark.parametrize(
    "path",
    ["%2e%2e", "%2e%2e%2f%2e%2e%2fusers%2fme", "..%2forders", "TEA%00", "TEA%0a", "TEA%2f..%2fMUG",
     "%27%20OR%20%271", "TEA;--", "x" * 500, "%ff", "TEA%20", "*"],
)  # fmt: skip
async def test_a_path_reaches_one_product_or_none(shop: Shop, path: str) -> None:
    before = (await shop.sell("TEA")).json()
    for method, body in (("GET", None), ("PATCH", {"name": "Other"}), ("DELETE", None)):
        answer = await shop.seller.request(method, f"/api/products/{path}", json=body)
        assert answer.status_code == 404
        assert answer.json()["code"] in ("product_not_found", "route_not_found")
        assert "OR" not in answer.text
    assert (await shop.seller.get("/api/products/TEA")).json() == before
