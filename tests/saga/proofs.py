"""What every compensated order must show, and the address that leaves time to compensate it."""

from orderplane.adapters.kubernetes.client import Json

from .conftest import Desk

SLOW_ADDRESS = "7 Fog Street"
"""The first label is never answered and not bought: the order stays Paid for some seconds."""


async def balance(desk: Desk, order: Json) -> int:
    """What the provider has kept of an order's money."""
    taken = sum(intent.received for intent in await desk.intents(order))
    back = sum(r.amount for r in await desk.refunds(order) if r.state != "Failed")
    assert taken in (0, order["spec"]["quote"]["amounts"]["total"])
    return taken - back


async def is_compensated_once(desk: Desk, order: Json) -> None:
    """Nothing is kept, and each step back was taken at most once."""
    assert await balance(desk, order) == 0
    assert len(await desk.refunds(order)) <= 1
    events = await desk.history(order)
    for type_ in ("inventory.released", "payment.refunded", "payment.cancelled", "shipment.cancelled"):
        assert events.count(type_) <= 1
    assert events.count("inventory.released") == events.count("inventory.reserved")
    assert events[-1] in ("order.cancelled", "order.failed")


async def moved(desk: Desk) -> tuple[int, int, int]:
    """How many refunds, movements and history rows there are."""
    (row,) = await desk.rows(
        "SELECT (SELECT count(*) FROM refunds WHERE merchant = $1) AS refunds, "
        "(SELECT count(*) FROM stock_movements WHERE merchant = $1) AS movements, "
        "(SELECT count(*) FROM history WHERE merchant = $1) AS history"
    )
    return row["refunds"], row["movements"], row["history"]
