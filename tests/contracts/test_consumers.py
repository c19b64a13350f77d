"""The consumers: what clients of each kind of resource rely on at the gateway."""

from datetime import UTC, datetime
from typing import Any

from pact import match

from orderplane.client.accounts import Login, Password

from ..support.plane import ORDER
from .pacts import Wanted, logged_in, problem, refused, tell

ADA = Password("ada@example.test", "correct horse battery")
QUOTE = {
    "currency": "EUR",
    "lines": match.each_like({"sku": "TEA-EARL-GREY-100", "quantity": 1, "unitAmount": 890}, min=1),
    "amounts": {"items": 890, "shipping": 490, "tax": 262, "includedTax": 0, "discount": 0, "total": 1642},
    "priceRule": {"version": match.int(1), "taxBasisPoints": 1900},
}
PHASES = "Pending|Reserved|Paid|Shipped|Delivered|Returned|Compensating|Failed|Cancelled"
SOME_TIME = match.regex("2026-03-01T12:15:00Z", regex=r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")
PRODUCT = {
    "sku": "TEA-EARL-GREY-100", "name": "Earl Grey, 100 g", "description": "", "available": 37,
    "price": {"amount": 890, "currency": "EUR", "formatted": "8.90 EUR"}, "otherPrices": {},
    "archived": False,
}  # fmt: skip


def an_order(order_id: str, **more: Any) -> dict[str, Any]:
    return {
        "id": order_id,
        "phase": match.regex("Paid", regex=PHASES),
        "quote": match.like(QUOTE),
        "createdAt": SOME_TIME,
        "cancelRequested": False,
        **more,
    }


ORDERS = (
    Wanted(
        "a login with the password",
        ("a customer has an account", {"email": ADA.email, "password": ADA.password}),
        lambda transport: Login(transport, ADA).token(),
        "POST", "/api/auth/login", 200,
        {"access_token": match.like("eyJ"), "expires_in": match.int(900), "refresh_token": match.like("r")},
        body="grant_type=password&username=ada%40example.test&password=correct+horse+battery",
        is_public=True,
    ),
    Wanted(
        "an order",
        ("the products are for sale", {}),
        lambda transport: logged_in(transport).orders.create(ORDER, key="k-1"),
        "POST", "/api/orders", 202,
        {"id": match.like("o-1"), "phase": "Pending", "quote": match.like(QUOTE)},
        headers={"Idempotency-Key": "k-1"},
        body=ORDER,
    ),
    Wanted(
        "an order without items",
        None,
        lambda transport: refused(
            logged_in(transport).orders.create(ORDER | {"items": []}, key="k-2"), "validation_failed"
        ),
        "POST", "/api/orders", 422,
        problem("validation_failed", 422)
        | {"errors": match.each_like({"pointer": "#/items", "detail": "Too few."}, min=1)},
        headers={"Idempotency-Key": "k-2"},
        body=ORDER | {"items": []},
    ),
    Wanted(
        "a look at an order",
        ("an order is under way", {"id": "o-under-way"}),
        lambda transport: logged_in(transport).orders.get("o-under-way"),
        "GET", "/api/orders/o-under-way", 200,
        an_order("o-under-way"),
        answer_headers={"ETag": match.regex('W/"1"', regex=r'W/"[^"]+"')},
    ),
    Wanted(
        "a look at an order that came",
        ("an order was delivered", {"id": "o-delivered"}),
        lambda transport: logged_in(transport).orders.get("o-delivered"),
        "GET", "/api/orders/o-delivered", 200,
        an_order("o-delivered", phase="Delivered", reason=None, compensation=[])
        | {
            "conditions": match.each_like(
                {"type": "Paid", "status": "True", "reason": "Captured", "message": "Taken.",
                 "lastTransitionTime": "2026-03-01T12:15:00Z"}, min=1,
            ),
            "tracking": match.like({"carrier": "Post", "code": "P1", "url": "https://post.example/P1"}),
        },
    ),
    Wanted(
        "a look at where an order goes",
        ("an order is under way", {"id": "o-under-way"}),
        lambda transport: logged_in(transport).orders.get("o-under-way", with_address=True),
        "GET", "/api/orders/o-under-way", 200,
        an_order("o-under-way") | {
            "customer": match.like("c-1"), "paymentMethod": match.like("pm_card_visa"), "finishedAt": None,
            "reference": None, "metadata": {},
            "address": match.like(
                {"name": "Ada Example", "line1": "1 Sample Street", "line2": None, "city": "Berlin",
                 "region": None, "postalCode": "10115", "country": "DE"}
            ),
        },
        query={"expand": "address"},
    ),
    Wanted(
        "the orders with a number of the shop",
        ("an order was delivered", {"id": "o-delivered"}),
        lambda transport: logged_in(transport).orders.list(reference="2026-1"),
        "GET", "/api/orders", 200,
        {"items": [], "next": None},
        query={"reference": "2026-1"},
    ),
    Wanted(
        "the orders that wait for a person",
        ("an order was delivered", {"id": "o-delivered"}),
        lambda transport: logged_in(transport).orders.list(stalled=True),
        "GET", "/api/orders", 200,
        {"items": [], "next": None},
        query={"stalled": "true"},
    ),
    Wanted(
        "a look at an order that is not there",
        None,
        lambda transport: refused(logged_in(transport).orders.get("o-absent"), "order_not_found"),
        "GET", "/api/orders/o-absent", 404,
        problem("order_not_found", 404),
    ),
    Wanted(
        "the orders in one phase",
        ("an order was delivered", {"id": "o-delivered"}),
        lambda transport: logged_in(transport).orders.list(phase="Delivered", limit=2),
        "GET", "/api/orders", 200,
        {"items": match.each_like(an_order("o-delivered", id=match.like("o-1"), phase="Delivered"), min=1)},
        query={"phase": "Delivered", "limit": "2"},
    ),
    Wanted(
        "the orders of a product and a time",
        ("an order was delivered", {"id": "o-delivered"}),
        lambda transport: logged_in(transport).orders.list(
            sku="TEA-EARL-GREY-100",
            created_after=datetime(2026, 1, 1, tzinfo=UTC),
            created_before=datetime(2096, 1, 1, tzinfo=UTC),
        ),
        "GET", "/api/orders", 200,
        {"items": match.each_like(an_order("o-delivered", id=match.like("o-1")), min=1)},
        query={
            "sku": "TEA-EARL-GREY-100",
            "createdAfter": "2026-01-01T00:00:00+00:00",
            "createdBefore": "2096-01-01T00:00:00+00:00",
        },
    ),
    Wanted(
        "what happened to an order that came",
        ("an order was delivered", {"id": "o-delivered"}),
        lambda transport: logged_in(transport).orders.timeline("o-delivered"),
        "GET", "/api/orders/o-delivered/timeline", 200,
        {
            "id": "o-delivered",
            "phases": match.each_like({"phase": match.regex("Paid", regex=PHASES), "at": SOME_TIME}, min=5),
            "events": match.each_like(
                {"sequence": match.int(1), "type": match.like("order.created"), "at": SOME_TIME,
                 "reason": None}, min=5,
            ),
            "compensation": [],
            # The ids of the shop's own dealings are not told to customers.
            "references": {
                "payment": None, "refunds": [], "shipment": None, "carrier": match.like("Post"),
                "trackingCode": match.like("P1"),
            },
        },
    ),
    Wanted(
        "a cancel",
        ("an order is under way", {"id": "o-unwanted"}),
        lambda transport: logged_in(transport).orders.cancel("o-unwanted"),
        "POST", "/api/orders/o-unwanted/cancel", 202,
        an_order("o-unwanted", cancelRequested=True),
    ),
    Wanted(
        "a cancel that comes too late",
        ("an order was delivered", {"id": "o-delivered"}),
        lambda transport: refused(logged_in(transport).orders.cancel("o-delivered"), "too_late_to_cancel"),
        "POST", "/api/orders/o-delivered/cancel", 409,
        problem("too_late_to_cancel", 409),
    ),
)  # fmt: skip

REFUND = {
    "id": match.like("rf-1"),
    "phase": match.regex("Requested", regex="Requested|Pending|Refunded|Failed|NotNeeded|Refused"),
    "currency": "EUR",
    "reason": "Damaged",
    "items": [{"sku": "TEA-EARL-GREY-100", "quantity": 1}],
    "restocked": False,
    "message": match.like("1.00 EUR is to be given back."),
    "requestedAt": SOME_TIME,
}
GREEDY = {"reason": "Goodwill", "amount": 99_999_999}
PIECE = {
    "reason": "Damaged", "amount": 100, "items": [{"sku": "TEA-EARL-GREY-100", "quantity": 1}],
    "restock": False,
}  # fmt: skip
REFUNDS = (
    Wanted(
        "a refund of a piece",
        ("an order was delivered", {"id": "o-delivered"}),
        lambda transport: logged_in(transport).orders.refund("o-delivered", PIECE, key="k-r1"),
        "POST", "/api/orders/o-delivered/refunds", 201,
        REFUND | {"amount": 100, "reference": None},
        headers={"Idempotency-Key": "k-r1"},
        body=PIECE,
    ),
    Wanted(
        "a refund of more than there is",
        ("an order was delivered", {"id": "o-delivered"}),
        lambda transport: refused(
            logged_in(transport).orders.refund("o-delivered", GREEDY, key="k-r2"), "refund_refused"
        ),
        "POST", "/api/orders/o-delivered/refunds", 409,
        problem("refund_refused", 409) | {"reason": "RefundTooLarge"},
        headers={"Idempotency-Key": "k-r2"},
        body=GREEDY,
    ),
    Wanted(
        "a refund of what has not left",
        ("an order is under way", {"id": "o-under-way"}),
        lambda transport: refused(
            logged_in(transport).orders.refund("o-under-way", PIECE, key="k-r3"), "not_shipped"
        ),
        "POST", "/api/orders/o-under-way/refunds", 409,
        problem("not_shipped", 409),
        headers={"Idempotency-Key": "k-r3"},
        body=PIECE,
    ),
    Wanted(
        "what was refunded",
        ("a piece was refunded", {"id": "o-refunded"}),
        lambda transport: logged_in(transport).orders.refunds("o-refunded"),
        "GET", "/api/orders/o-refunded/refunds", 200,
        {"items": match.each_like(REFUND | {"amount": match.int(100)}, min=1)},
    ),
)  # fmt: skip

PRODUCTS = (
    Wanted(
        "the products",
        ("the products are for sale", {}),
        lambda transport: logged_in(transport).products.list(limit=2),
        "GET", "/api/products", 200,
        {"items": match.each_like(PRODUCT, min=2), "next": match.like("cursor")},
        query={"limit": "2"},
    ),
    Wanted(
        "a search",
        ("the products are for sale", {}),
        lambda transport: logged_in(transport).products.list(
            q="mug -green", currency="EUR", min_price=1000, max_price=2000, in_stock=True
        ),
        "GET", "/api/products", 200,
        {"items": [match.like(PRODUCT | {"sku": "MUG-STONEWARE-BLUE"})], "next": None},
        query={
            "q": "mug -green", "currency": "EUR", "minPrice": "1000", "maxPrice": "2000", "inStock": "true",
        },
    ),
    Wanted(
        "a look at a product",
        ("the products are for sale", {}),
        lambda transport: logged_in(transport).products.get("TEA-EARL-GREY-100"),
        "GET", "/api/products/TEA-EARL-GREY-100", 200,
        match.like(PRODUCT),
        answer_headers={"ETag": match.regex('"1-37"', regex=r'"[^"]+"')},
    ),
    Wanted(
        "a look at a product that is not there",
        None,
        lambda transport: refused(logged_in(transport).products.get("ABSENT"), "product_not_found"),
        "GET", "/api/products/ABSENT", 404,
        problem("product_not_found", 404),
    ),
    Wanted(
        "a page that no cursor leads to",
        None,
        lambda transport: refused(logged_in(transport).products.list(cursor="abc"), "invalid_cursor"),
        "GET", "/api/products", 400,
        problem("invalid_cursor", 400),
        query={"cursor": "abc"},
    ),
)  # fmt: skip


RULE = {
    "shipping": [{"countries": ["DE"], "byWeight": [{"upToGrams": 2000, "amount": 490}, {"amount": 990}]}],
    "taxIncluded": True,
    "taxes": [{"basisPoints": 1900}],
}


def a_price_rule(currency: str, rule: Any) -> dict[str, Any]:
    return {"currency": currency, "version": match.int(1), "changedAt": SOME_TIME, "rule": rule}


PRICE_RULES = (
    Wanted(
        "the price rules",
        ("the products are for sale", {}),
        lambda transport: logged_in(transport).price_rules.list(),
        "GET", "/api/price-rules", 200,
        {"items": match.each_like(a_price_rule("EUR", match.like({"taxIncluded": False})), min=1)},
    ),
    Wanted(
        "a price rule",
        ("the products are for sale", {}),
        lambda transport: logged_in(transport).price_rules.get("EUR"),
        "GET", "/api/price-rules/EUR", 200,
        a_price_rule("EUR", match.like({"taxIncluded": False})),
    ),
    Wanted(
        "a price rule that is not there",
        None,
        lambda transport: refused(logged_in(transport).price_rules.get("UGX"), "price_rule_not_found"),
        "GET", "/api/price-rules/UGX", 404,
        problem("price_rule_not_found", 404),
    ),
    Wanted(
        "a new price rule",
        None,
        lambda transport: logged_in(transport).price_rules.set("CHF", RULE),
        "PUT", "/api/price-rules/CHF", 200,
        a_price_rule("CHF", match.like({"taxIncluded": True})),
        body=RULE,
    ),
    Wanted(
        "a price rule instead of an old version",
        ("the products are for sale", {}),
        lambda transport: refused(
            logged_in(transport).price_rules.set("EUR", RULE, version=99), "precondition_failed"
        ),
        "PUT", "/api/price-rules/EUR", 412,
        problem("precondition_failed", 412),
        headers={"If-Match": '"99"'},
        body=RULE,
    ),
    Wanted(
        "no price rule any more",
        ("the products are for sale", {}),
        lambda transport: logged_in(transport).price_rules.delete("JPY"),
        "DELETE", "/api/price-rules/JPY", 204,
        None,
    ),
    Wanted(
        "the history of a price rule",
        ("the products are for sale", {}),
        lambda transport: logged_in(transport).price_rules.versions("EUR", limit=5),
        "GET", "/api/price-rules/EUR/versions", 200,
        {
            "items": match.each_like(
                {
                    "version": match.int(1), "changedAt": SOME_TIME, "actor": match.like("user:u-1"),
                    "rule": match.like({"taxIncluded": False}),
                },
                min=1,
            ),
            "next": None,
        },
        query={"limit": "5"},
    ),
    Wanted(
        "a quote",
        ("the products are for sale", {}),
        lambda transport: logged_in(transport).price_rules.quote(
            [{"sku": "TEA-EARL-GREY-100", "quantity": 1}], country="NL"
        ),
        "POST", "/api/quotes", 200,
        match.like(QUOTE),
        body={"items": [{"sku": "TEA-EARL-GREY-100", "quantity": 1}], "country": "NL"},
    ),
)  # fmt: skip


EVENT = "6f1c2f0e-6f0b-4f4e-9d0f-0f2b4a1c7e11"
REGISTERED = ("an endpoint was registered and tested", {"id": "we-1", "event": EVENT})
ENDPOINT = {"url": "http://127.0.0.1:9/", "eventTypes": ["order.shipped"]}
AN_ENDPOINT = {
    "id": match.like("we-1"), "url": match.like("http://127.0.0.1:9/"), "eventTypes": ["order.shipped"],
    "enabled": True, "disabledReason": None, "createdAt": SOME_TIME,
}  # fmt: skip
A_DELIVERY = {
    "eventId": EVENT, "type": "endpoint.test", "subject": None, "sequence": None, "attempts": match.int(0),
    "state": match.regex("Waiting", regex="Waiting|Delivered|Parked"), "createdAt": SOME_TIME,
}  # fmt: skip
A_LOG = {**A_DELIVERY, "request": {"contentType": "application/cloudevents+json", "body": match.like("{}")}}
KEYED = {"Idempotency-Key": "k-1"}
_ENDPOINTS = "/api/webhook-endpoints"

WEBHOOK_ENDPOINTS = (
    Wanted(
        "the webhook endpoints", REGISTERED,
        lambda transport: logged_in(transport).webhook_endpoints.list(),
        "GET", _ENDPOINTS, 200,
        {"items": match.each_like(AN_ENDPOINT, min=1)},
    ),
    Wanted(
        "a new webhook endpoint", None,
        lambda transport: logged_in(transport).webhook_endpoints.add(ENDPOINT, key="k-1"),
        "POST", _ENDPOINTS, 201,
        AN_ENDPOINT,
        headers=KEYED, body=ENDPOINT,
    ),
    Wanted(
        "a webhook endpoint", REGISTERED,
        lambda transport: logged_in(transport).webhook_endpoints.get("we-1"),
        "GET", f"{_ENDPOINTS}/we-1", 200,
        AN_ENDPOINT,
    ),
    Wanted(
        "a webhook endpoint that is not there", None,
        lambda transport: refused(logged_in(transport).webhook_endpoints.get("we-0"), "endpoint_not_found"),
        "GET", f"{_ENDPOINTS}/we-0", 404,
        problem("endpoint_not_found", 404),
    ),
    Wanted(
        "another description of a webhook endpoint", REGISTERED,
        lambda transport: logged_in(transport).webhook_endpoints.change("we-1", {"description": "ERP"}),
        "PATCH", f"{_ENDPOINTS}/we-1", 200,
        AN_ENDPOINT,
        body={"description": "ERP"},
    ),
    Wanted(
        "the secret of a webhook endpoint", REGISTERED,
        lambda transport: logged_in(transport).webhook_endpoints.secret("we-1"),
        "GET", f"{_ENDPOINTS}/we-1/secret", 200,
        {"secret": match.regex("whsec_AAAA", regex="whsec_[A-Za-z0-9+/=]+")},
    ),
    Wanted(
        "another secret of a webhook endpoint", REGISTERED,
        lambda transport: logged_in(transport).webhook_endpoints.rotate_secret(
            "we-1", key="k-2", overlap_seconds=60
        ),
        "POST", f"{_ENDPOINTS}/we-1/secret/rotations", 200,
        {"previousSecretUntil": SOME_TIME},
        headers={"Idempotency-Key": "k-2"}, body={"overlapSeconds": 60},
    ),
    Wanted(
        "a test of a webhook endpoint", REGISTERED,
        lambda transport: logged_in(transport).webhook_endpoints.test("we-1", key="k-3"),
        "POST", f"{_ENDPOINTS}/we-1/tests", 202,
        A_LOG | {"eventId": match.like(EVENT)},
        headers={"Idempotency-Key": "k-3"},
    ),
    Wanted(
        "the deliveries of a webhook endpoint", REGISTERED,
        lambda transport: logged_in(transport).webhook_endpoints.deliveries(
            "we-1", type_="endpoint.test", limit=5
        ),
        "GET", f"{_ENDPOINTS}/we-1/deliveries", 200,
        {"items": match.each_like(A_DELIVERY | {"eventId": match.like(EVENT)}, min=1), "next": None},
        query={"type": "endpoint.test", "limit": "5"},
    ),
    Wanted(
        "a delivery", REGISTERED,
        lambda transport: logged_in(transport).webhook_endpoints.delivery("we-1", EVENT),
        "GET", f"{_ENDPOINTS}/we-1/deliveries/{EVENT}", 200,
        A_LOG,
    ),
    Wanted(
        "a delivery again", REGISTERED,
        lambda transport: logged_in(transport).webhook_endpoints.replay("we-1", EVENT, key="k-4"),
        "POST", f"{_ENDPOINTS}/we-1/deliveries/{EVENT}/replay", 202,
        A_LOG,
        headers={"Idempotency-Key": "k-4"},
    ),
    Wanted(
        "the deliveries of a day again", REGISTERED,
        lambda transport: logged_in(transport).webhook_endpoints.replay_range(
            "we-1", datetime(2026, 3, 1, tzinfo=UTC), datetime(2026, 3, 2, tzinfo=UTC), key="k-5"
        ),
        "POST", f"{_ENDPOINTS}/we-1/replays", 202,
        {"replayed": 0},
        headers={"Idempotency-Key": "k-5"},
        body={
            "since": "2026-03-01T00:00:00+00:00", "until": "2026-03-02T00:00:00+00:00", "deliveredToo": False,
        },
    ),
    Wanted(
        "no webhook endpoint any more", ("an endpoint was registered and tested", {"id": "we-2"}),
        lambda transport: logged_in(transport).webhook_endpoints.delete("we-2"),
        "DELETE", f"{_ENDPOINTS}/we-2", 204,
        None,
    ),
)  # fmt: skip


def a_reservation(**more: Any) -> dict[str, Any]:
    items = match.each_like({"sku": "TEA-EARL-GREY-100", "quantity": 2}, min=1)
    return {"message": None, "items": items, "expiresAt": SOME_TIME, "order": None, **more}


def reserve_body(sku: str, quantity: int) -> dict[str, Any]:
    return {"items": [{"sku": sku, "quantity": quantity}], "ttlSeconds": 60}


INVENTORY = (
    Wanted(
        "a look at a stock",
        ("the products are for sale", {}),
        lambda transport: logged_in(transport).inventory.get("TEA-EARL-GREY-100"),
        "GET", "/api/inventory/TEA-EARL-GREY-100", 200,
        {"sku": "TEA-EARL-GREY-100"} | {name: match.int(40) for name in ("onHand", "reserved", "available")},
    ),
    Wanted(
        "a look at a stock that nobody counted",
        None,
        lambda transport: refused(logged_in(transport).inventory.get("ABSENT"), "stock_not_found"),
        "GET", "/api/inventory/ABSENT", 404,
        problem("stock_not_found", 404),
    ),
    Wanted(
        "stock to be kept",
        ("stock is kept", {"id": "r-before"}),
        lambda transport: logged_in(transport).inventory.reserve(
            {"TEA-EARL-GREY-100": 2}, ttl_seconds=60, key="k-1"
        ),
        "POST", "/api/inventory/reserve", 201,
        a_reservation(id=match.like("r-1"), state="Held"),
        headers={"Idempotency-Key": "k-1"},
        body=reserve_body("TEA-EARL-GREY-100", 2),
    ),
    Wanted(
        "more stock than there is",
        ("stock is kept", {"id": "r-before"}),
        lambda transport: refused(
            logged_in(transport).inventory.reserve({"VASE-RAKU-ONE-OFF": 100}, ttl_seconds=60, key="k-2"),
            "out_of_stock",
        ),
        "POST", "/api/inventory/reserve", 409,
        problem("out_of_stock", 409),
        headers={"Idempotency-Key": "k-2"},
        body=reserve_body("VASE-RAKU-ONE-OFF", 100),
    ),
    Wanted(
        "a look at a reservation",
        ("stock is kept", {"id": "r-kept"}),
        lambda transport: logged_in(transport).inventory.reservation("r-kept"),
        "GET", "/api/inventory/reservations/r-kept", 200,
        a_reservation(id="r-kept", state="Held"),
    ),
    Wanted(
        "a look at a reservation that is not there",
        None,
        lambda transport: refused(
            logged_in(transport).inventory.reservation("r-absent"), "reservation_not_found"
        ),
        "GET", "/api/inventory/reservations/r-absent", 404,
        problem("reservation_not_found", 404),
    ),
    Wanted(
        "a release",
        ("stock is kept", {"id": "r-unwanted"}),
        lambda transport: logged_in(transport).inventory.release("r-unwanted"),
        "POST", "/api/inventory/release", 200,
        a_reservation(id="r-unwanted", state="Released"),
        body={"reservation": "r-unwanted"},
    ),
)  # fmt: skip


async def test_what_the_order_client_relies_on() -> None:
    await tell("order-client", ORDERS)


async def test_what_the_refund_client_relies_on() -> None:
    await tell("refund-client", REFUNDS)


async def test_what_the_product_client_relies_on() -> None:
    await tell("product-client", PRODUCTS)


async def test_what_the_price_rule_client_relies_on() -> None:
    await tell("price-rule-client", PRICE_RULES)


async def test_what_the_webhook_endpoint_client_relies_on() -> None:
    await tell("webhook-endpoint-client", WEBHOOK_ENDPOINTS)


async def test_what_the_inventory_client_relies_on() -> None:
    await tell("inventory-client", INVENTORY)
