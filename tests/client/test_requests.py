"""Paths and parameters of requests."""

from datetime import datetime, timedelta, timezone

from orderplane.client.accounts import MemoryTokenStore, Tokens
from orderplane.client.client import Client
from orderplane.client.transport import Transport

from .conftest import Script


async def test_an_id_stays_one_part_of_the_path(script: Script, transport: Transport) -> None:
    client = Client(transport, token_store=MemoryTokenStore(Tokens("t", 1e12)))
    strange, sent = "../users/me?x=#é", "..%2Fusers%2Fme%3Fx=%23%C3%A9"
    for ask, path in (
        (client.orders.get, "/api/orders/{}"),
        (client.orders.timeline, "/api/orders/{}/timeline"),
        (client.products.get, "/api/products/{}"),
        (client.price_rules.get, "/api/price-rules/{}"),
        (client.price_rules.versions, "/api/price-rules/{}/versions"),
        (client.inventory.get, "/api/inventory/{}"),
        (client.inventory.reservation, "/api/inventory/reservations/{}"),
    ):
        script.then(200, {})
        await ask(strange)
        assert script.asked[-1].path == path.format(sent)


async def test_what_is_not_asked_for_is_not_sent(script: Script, transport: Transport) -> None:
    client = Client(transport, token_store=MemoryTokenStore(Tokens("t", 1e12)))
    script.then(200, {}).then(200, {}).then(200, {})
    noon = datetime(2026, 3, 1, 12, tzinfo=timezone(timedelta(hours=1)))
    await client.orders.list(phase="Paid", created_after=noon, limit=5)
    await client.products.list()
    await client.products.list(q="a cup & -saucer", in_stock=True, min_price=0, currency="EUR")
    assert [asked.path for asked in script.asked] == [
        "/api/orders?phase=Paid&createdAfter=2026-03-01T12:00:00%2B01:00&limit=5",
        "/api/products",
        "/api/products?q=a+cup+%26+-saucer&currency=EUR&minPrice=0&inStock=true",
    ]
