"""The consumers: what a client of orders, and one of products, relies on at the front door."""

from typing import Any

from pact import match

from orderplane.client.login import Login, Password

from ..conftest import ORDER
from .pacts import Wanted, logged_in, problem, refused, tell

ADA = Password("ada@example.test", "correct horse battery")
QUOTE = {
    "currency": "EUR",
    "lines": match.each_like({"sku": "TEA-EARL-GREY-100", "quantity": 1, "unitAmount": 890}, min=1),
    "amounts": {"items": 890, "shipping": 490, "tax": 262, "discount": 0, "total": 1642},
}
PHASES = "Pending|Reserved|Paid|Shipped|Delivered|Compensating|Failed|Cancelled"


def an_order(order_id: str, **more: Any) -> dict[str, Any]:
    return {
        "id": order_id,
        "phase": match.regex("Paid", regex=PHASES),
        "quote": match.like(QUOTE),
        "createdAt": match.regex("2026-03-01T12:15:00Z", regex=r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ"),
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

PRODUCTS = (
    Wanted(
        "the products",
        ("the products are for sale", {}),
        lambda transport: logged_in(transport).products.list(limit=2),
        "GET", "/api/products", 200,
        {
            "items": match.each_like(
                {"sku": "TEA-EARL-GREY-100", "name": "Earl Grey, 100 g", "available": 37,
                 "price": {"amount": 890, "currency": "EUR", "formatted": "8.90 EUR"}}, min=2,
            ),
            "next": match.like("cursor"),
        },
        query={"limit": "2"},
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


async def test_what_the_order_client_relies_on() -> None:
    await tell("order-client", ORDERS)


async def test_what_the_product_client_relies_on() -> None:
    await tell("product-client", PRODUCTS)
