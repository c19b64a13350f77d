"""What is counted when the status of an order is written: once, whatever came in between."""

from datetime import timedelta
from itertools import pairwise

import pytest
from prometheus_client import REGISTRY
from prometheus_client.openmetrics.exposition import generate_latest

from orderplane.controllers.order.milestones import count_milestones
from orderplane.crds.meta import TRACEPARENT_ANNOTATION, Condition
from orderplane.crds.order import OrderPhase, OrderStatus

from .builders import NOW, an_order

TRACE = "0af7651916cd43dd8448eb211c80319c"


def a_status(*true: str, phase: OrderPhase = OrderPhase.PENDING, reason: str | None = None) -> OrderStatus:
    conditions = tuple(
        Condition(
            type=type_, status="True", reason="R", message="", last_transition_time=NOW, observed_generation=1
        )
        for type_ in true
    )
    return OrderStatus(phase=phase, reason=reason, conditions=conditions)


def value(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0


def count(before: OrderStatus, after: OrderStatus, seconds: float = 12) -> None:
    count_milestones(an_order(), before, after, NOW + timedelta(seconds=seconds))


RESERVED = a_status("Reserved", phase=OrderPhase.RESERVED)
SHIPPED = a_status("Reserved", "Paid", "Shipped", phase=OrderPhase.SHIPPED)
DELIVERED = a_status("Reserved", "Paid", "Shipped", "Delivered", phase=OrderPhase.DELIVERED)
FAILED = a_status("Undone", "Failed", phase=OrderPhase.FAILED, reason="CardDeclined")


def test_an_order_is_placed_with_its_first_status() -> None:
    before = value("orderplane_orders_placed_total")
    count(a_status(), RESERVED)
    count(RESERVED, SHIPPED)
    assert value("orderplane_orders_placed_total") == before + 1


@pytest.mark.parametrize(
    ("path", "outcomes", "finished"),
    [
        ([RESERVED, SHIPPED, DELIVERED, DELIVERED], {"Shipped": 1}, {("Delivered", ""): 1}),
        # Both in one write: the label is not forgotten.
        ([RESERVED, DELIVERED], {"Shipped": 1}, {("Delivered", ""): 1}),
        ([RESERVED, FAILED, FAILED], {"Failed": 1}, {("Failed", "CardDeclined"): 1}),
        ([RESERVED, RESERVED], {}, {}),
    ],
)
def test_each_end_is_counted_once(
    path: list[OrderStatus], outcomes: dict[str, int], finished: dict[tuple[str, str], int]
) -> None:
    def now() -> dict[object, float]:
        return {
            **{
                outcome: value("orderplane_saga_duration_seconds_count", outcome=outcome)
                for outcome in ("Shipped", "Failed", "Cancelled")
            },
            **{
                (phase, reason): value("orderplane_orders_finished_total", phase=phase, reason=reason)
                for phase, reason in (("Delivered", ""), ("Failed", "CardDeclined"))
            },
        }

    before = now()
    for old, new in pairwise(path):
        count(old, new)
    assert {key: now()[key] - seen for key, seen in before.items() if now()[key] != seen} == {
        **outcomes,
        **finished,
    }


def test_the_saga_is_measured_from_the_creation_of_the_order() -> None:
    before = value("orderplane_saga_duration_seconds_sum", outcome="Shipped")
    count(RESERVED, SHIPPED, seconds=7)
    assert value("orderplane_saga_duration_seconds_sum", outcome="Shipped") == before + 7


def test_a_reason_that_is_not_ours_makes_no_label() -> None:
    count(RESERVED, a_status("Failed", phase=OrderPhase.FAILED, reason="anything a provider may say"))
    assert value("orderplane_orders_finished_total", phase="Failed", reason="") == 1


def test_a_bucket_names_the_trace_of_an_order() -> None:
    order = an_order()
    order.metadata.annotations[TRACEPARENT_ANNOTATION] = f"00-{TRACE}-b7ad6b7169203331-01"
    count_milestones(order, RESERVED, SHIPPED, NOW + timedelta(seconds=9_999))
    assert f'# {{trace_id="{TRACE}"}} 9999.0'.encode() in generate_latest(REGISTRY)
    order.metadata.annotations[TRACEPARENT_ANNOTATION] = "nonsense"
    count_milestones(order, RESERVED, SHIPPED, NOW)
