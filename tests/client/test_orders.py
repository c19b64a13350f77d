"""How orders are asked for."""

from orderplane.client.client import Client
from orderplane.client.login import Memory, Tokens
from orderplane.client.transport import Transport

from .conftest import Script


async def test_watching_asks_whether_anything_has_changed(script: Script, transport: Transport) -> None:
    client = Client(transport, keep=Memory(Tokens("t", 1e12)))
    script.then(200, {"phase": "Pending"}, ETag='W/"1"').then(304, ETag='W/"1"')
    script.then(200, {"phase": "Paid"}, ETag='W/"2"').then(200, {"phase": "Delivered"}, ETag='W/"3"')
    seen = [order["phase"] async for order in client.orders.watch("o-1", every=0.001)]
    assert seen == ["Pending", "Paid", "Delivered"]
    assert [asked.headers.get("If-None-Match") for asked in script.asked] == [
        None, 'W/"1"', 'W/"1"', 'W/"2"',
    ]  # fmt: skip


async def test_an_id_stays_one_part_of_the_path(script: Script, transport: Transport) -> None:
    client = Client(transport, keep=Memory(Tokens("t", 1e12)))
    script.then(200, {})
    await client.orders.get("../users/me?x=#é")
    assert script.asked[0].path == "/api/orders/..%2Fusers%2Fme%3Fx=%23%C3%A9"


async def test_what_is_not_asked_for_is_not_sent(script: Script, transport: Transport) -> None:
    client = Client(transport, keep=Memory(Tokens("t", 1e12)))
    script.then(200, {}).then(200, {})
    await client.orders.list(phase="Paid", limit=5)
    await client.products.list()
    assert [asked.path for asked in script.asked] == ["/api/orders?phase=Paid&limit=5", "/api/products"]
