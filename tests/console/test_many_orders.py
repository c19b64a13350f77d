"""Pages stay quick with 10,000 live orders: what the console and the front door do for one, in CPU time."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import uvicorn

from orderplane.adapters.http_server import Server
from orderplane.dev.localplane.ports import free_port
from orderplane.gateway.app import create_app, declared_api
from orderplane.gateway.operations.overview import figures
from orderplane.gateway.orders.held_orders import HeldOrders
from orderplane.gateway.orders.order_reader import OrderReader
from orderplane.gateway.principal import SCOPES_OF, Principal, Role

from ..support.archive import EmptyArchive
from .desk import desk_before

ORDERS = 10_000
MOST_SECONDS = 0.3

PHASES = ("Pending", "Reserved", "Paid", "Shipped", "Delivered", "Failed", "Compensating", "Cancelled")


def document(number: int) -> dict[str, Any]:
    phase = PHASES[number % len(PHASES)]
    at = f"2026-01-{1 + number // 1440 % 28:02}T{number // 60 % 24:02}:{number % 60:02}:00Z"
    amounts = {"items": 890, "shipping": 490, "tax": 262, "discount": 0, "total": 1642}
    line = {"sku": f"SKU-{number % 7}", "quantity": 1, "unitAmount": 890, "weightGrams": 120}
    return {
        "metadata": {
            "name": f"o-{number:026}", "namespace": "demo", "uid": f"uid-{number}",
            "resourceVersion": str(number + 1), "creationTimestamp": at,
        },
        "spec": {
            "customer": f"c-{number % 90}", "items": [{"sku": line["sku"], "quantity": 1}],
            "paymentMethod": "pm_card_visa",
            "quote": {"currency": "EUR", "lines": [line], "amounts": amounts},
        },
        "status": {
            "phase": phase, **({"reason": "CardDeclined"} if phase == "Failed" else {}),
            "conditions": [
                {"type": kind, "status": "True", "reason": "X", "message": "y" * 80, "lastTransitionTime": at}
                for kind in ("Reserved", "Paid", "Shipped")
            ],
        },
    }  # fmt: skip


class Anybody:
    async def caller(self, _: str) -> Principal:
        return Principal("demo", "u-1", Role.MERCHANT, SCOPES_OF[Role.MERCHANT])


@asynccontextmanager
async def front_door(held: HeldOrders) -> AsyncIterator[str]:
    """A front door whose memory has these orders, and that can ask nobody."""
    nobody: Any = None
    watch: Any = SimpleNamespace(is_current=True, seen=0)
    services: Any = SimpleNamespace(
        orders=OrderReader(nobody, held, watch, EmptyArchive()), authentication=Anybody(), load_shedding=None
    )
    port = free_port()
    server = Server(uvicorn.Config(create_app(declared_api(services)), port=port, log_config=None, ws="none"))
    serving = asyncio.create_task(server.serve())
    try:
        while not server.started:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        await serving


async def test_pages_with_ten_thousand_orders_are_quick() -> None:
    held = HeldOrders(50_000, time.monotonic)
    for number in range(ORDERS):
        held.store(document(number))
    async with front_door(held) as url, desk_before(url) as desk:
        desk.signed_in()
        took: dict[str, float] = {}
        for query in (
            "", "phase=Failed", "reason=CardDeclined", "sku=SKU-3", "customer=c-7", "stalled=yes",
            "phase=Paid&sku=SKU-3", "after=2026-01-05T00:00", "reference=none",
        ):  # fmt: skip
            await desk.http.get(f"/console/orders?{query}")  # the first one compiles templates
            before = time.process_time()
            page = await desk.http.get(f"/console/orders?{query}")
            took[query] = time.process_time() - before
            assert page.status_code == 200, page.text
            assert ("o-0" in page.text) is (query not in ("stalled=yes", "reference=none"))
        assert {query: seconds for query, seconds in took.items() if seconds > MOST_SECONDS} == {}


def test_the_figures_of_ten_thousand_orders_hold_nobody_up() -> None:
    held = HeldOrders(50_000, time.monotonic)
    for number in range(ORDERS):
        held.store(document(number))
    before = time.process_time()
    seen = figures(held, "demo", datetime(2026, 1, 8, tzinfo=UTC))
    assert time.process_time() - before < 0.1
    assert sum(seen.phases.values()) == ORDERS
