"""Count the orders that came and ended, and how long their saga took; log those that go wrong.

A milestone is counted once its status is written: the API server takes a status from one writer only, so an
order is not counted twice, by whichever operator and however often it is reconciled. An order or two are lost
when a process is killed between the write and the count.
"""

from datetime import datetime

import structlog
from prometheus_client import Counter, Histogram

from orderplane.controllers.engine.conditions import is_true
from orderplane.crds.meta import TRACEPARENT_ANNOTATION
from orderplane.crds.order import FINISHED, Order, OrderCondition, OrderPhase, OrderStatus
from orderplane.crds.reasons import Reason

log = structlog.get_logger(__name__)

PLACED = Counter("orderplane_orders_placed_total", "Orders that the operator has taken up.")
FINISHED_ORDERS = Counter(
    "orderplane_orders_finished_total",
    "Orders that are delivered, or compensated for the reason; it is empty where there is none.",
    ["phase", "reason"],
)
SAGA_SECONDS = Histogram(
    "orderplane_saga_duration_seconds",
    "From the creation of an order to its label, or to the end of its compensation; in whole seconds.",
    ["outcome"],
    buckets=(1, 2, 3, 5, 7.5, 10, 15, 20, 30, 60, 120, 300, 900, 3_600, 21_600),
)

_LOGGED = frozenset({OrderPhase.COMPENSATING, OrderPhase.FAILED, OrderPhase.CANCELLED})

_ENDS_OF_THE_SAGA = (OrderCondition.SHIPPED, OrderCondition.FAILED, OrderCondition.CANCELLED)


def count_milestones(order: Order, before: OrderStatus, after: OrderStatus, now: datetime) -> None:
    """Count what a status says that the one before it did not say."""
    if after.conditions and not before.conditions:
        PLACED.inc()
    for condition in _ENDS_OF_THE_SAGA:
        if is_true(after.conditions, condition) and not is_true(before.conditions, condition):
            seconds = max(0.0, (now - order.metadata.creation_timestamp).total_seconds())
            SAGA_SECONDS.labels(condition.value).observe(seconds, _exemplar(order))
    if after.phase in FINISHED and before.phase not in FINISHED:
        reason = after.reason if after.reason in set(Reason) else ""
        FINISHED_ORDERS.labels(after.phase.value, reason).inc()
    if after.phase in _LOGGED and before.phase is not after.phase:
        log.info("order", key="/".join(order.key), phase=after.phase.value, reason=after.reason)


def _exemplar(order: Order) -> dict[str, str] | None:
    """The trace of an order, for the exemplar of a bucket.

    Source of the label: https://grafana.com/docs/grafana/latest/fundamentals/exemplars/
    """
    traceparent = order.metadata.annotations.get(TRACEPARENT_ANNOTATION)
    parts = traceparent.split("-") if traceparent else []
    return {"trace_id": parts[1]} if len(parts) == 4 and len(parts[1]) == 32 else None
