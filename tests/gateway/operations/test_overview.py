"""The figures of a merchant's orders, over orders that are held in memory."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from orderplane.gateway.operations.overview import figures, percentile
from orderplane.gateway.orders.held_orders import Criteria, HeldOrders

NOW = datetime(2026, 3, 1, 12, 30, 30, tzinfo=UTC)


def order(name: str, age: timedelta, **status: Any) -> dict[str, Any]:
    return {
        "metadata": {
            "name": name, "namespace": "demo", "uid": f"uid-{name}", "resourceVersion": str(ord(name)),
            "creationTimestamp": written(NOW - age),
        },
        "spec": {"customer": "ada", "items": [], "quote": {}},
        "status": status,
    }  # fmt: skip


def written(at: datetime) -> str:
    return at.isoformat(timespec="seconds").replace("+00:00", "Z")


def since(condition: str, age: timedelta) -> dict[str, str]:
    return {
        "type": condition, "status": "True", "reason": "X", "lastTransitionTime": written(NOW - age),
    }  # fmt: skip


def held(*orders: dict[str, Any]) -> HeldOrders:
    made = HeldOrders(100, lambda: 0.0)
    for document in orders:
        made.store(document)
    return made


MINUTE = timedelta(minutes=1)
DELIVERED = order(
    "a", 10 * MINUTE, phase="Delivered", finishedAt=written(NOW - 8 * MINUTE),
    conditions=[since("Shipped", 9 * MINUTE)],
)  # fmt: skip
STALLED = order("b", 20 * MINUTE, phase="Compensating", stalled=True)
NEW = order("c", 2 * MINUTE)
PAID = order("d", 5 * MINUTE, phase="Paid")
OLD = order("e", timedelta(days=3), phase="Failed", reason="OutOfStock", finishedAt=written(NOW))


def test_what_is_counted() -> None:
    seen = figures(held(DELIVERED, STALLED, NEW, PAID, OLD), "demo", NOW)
    assert {phase: number for phase, number in seen.phases.items() if number} == {
        "Pending": 1, "Paid": 1, "Compensating": 1, "Delivered": 1, "Failed": 1,
    }  # fmt: skip
    assert seen.stalled == 1
    assert seen.waiting_since == NOW - 5 * MINUTE
    assert seen.seconds_to_label == (60.0,)
    assert len(seen.minutes) == 60
    placed = {minute.at.minute: minute.placed for minute in seen.minutes if minute.placed}
    assert placed == {20: 1, 10: 1, 28: 1, 25: 1}
    # One was placed days ago, and ended now.
    assert {minute.at.minute: minute.finished for minute in seen.minutes if minute.finished} == {22: 1, 30: 1}
    assert figures(held(), "demo", NOW).waiting_since is None
    assert figures(held(DELIVERED), "other", NOW).phases["Delivered"] == 0


def test_an_order_that_is_no_longer_stalled_leaves_the_list() -> None:
    orders = held(STALLED)
    later = {**STALLED, "status": {"phase": "Failed", "reason": "StockLost"}}
    later["metadata"] = {**STALLED["metadata"], "resourceVersion": str(10**7)}
    assert [each.key[1] for each in orders.before("demo", Criteria(stalled=True), None)] == ["b"]
    orders.store(later)
    assert orders.count("demo", Criteria(stalled=True)) == 0
    found = orders.before("demo", Criteria(reason="StockLost"), None)
    assert [each.key[1] for each in found] == ["b"]
    assert list(orders.before("demo", Criteria(reason="OutOfStock"), None)) == []
    assert list(orders.before("demo", Criteria(phase="Failed", stalled=True), None)) == []


@pytest.mark.parametrize(
    ("values", "share", "expected"),
    [
        ((), 0.5, None),
        ((3.0,), 0.95, 3.0),
        ((1.0, 2.0), 0.5, 1.0),
        (tuple(map(float, range(1, 101))), 0.95, 95.0),
        (tuple(map(float, range(1, 101))), 0.5, 50.0),
    ],
)
def test_percentiles(values: tuple[float, ...], share: float, expected: float | None) -> None:
    assert percentile(values, share) == expected
