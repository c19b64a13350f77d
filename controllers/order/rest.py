"""When an order leaves the API server, which keeps the working set; the archive keeps all. Pure.

An order is at rest when nothing is due of it here: it has ended, or its label is bought and only its parcel
moves, which the ledger follows. One that has ended leaves after some time; one that travels stays while there
is room.
"""

import heapq
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from orderplane.controllers.engine.conditions import find
from orderplane.controllers.engine.delays import delay_shown
from orderplane.controllers.engine.queue import Key
from orderplane.controllers.order.plan import is_under_way
from orderplane.controllers.steps import Wait
from orderplane.crds.meta import COMPENSATE_FINALIZER, KEEP_UNTIL_ANNOTATION
from orderplane.crds.order import FINISHED, Order, OrderCondition, OrderPhase
from orderplane.ledgers.gate import Gate
from orderplane.ledgers.refunds import RefundRequest
from orderplane.ledgers.states import NOT_DELIVERED, UNSETTLED, GateState, Outcome

MOST_KEPT = timedelta(days=30)
"""How long after it came to rest the annotation `orderplane.dev/keep-until` can keep an order."""

UNTOLD_SECONDS = 1.0
"""Between two looks at an order whose end its status does not tell yet."""


@dataclass(frozen=True, slots=True)
class Leave:
    """Archive the order and take it out of the API server."""


@dataclass(frozen=True, slots=True)
class RestRules:
    """How long an order stays after its end, where its spec does not say.

    Args:
        delivered: One that was delivered.
        undone: One that failed, was cancelled or came back: people look at these.
    """

    delivered: timedelta = timedelta(minutes=15)
    undone: timedelta = timedelta(days=1)

    def after(self, order: Order, gate: Gate) -> timedelta:
        """How long this one stays."""
        seconds = order.spec.ttl_seconds_after_finished
        if seconds is not None:
            return timedelta(seconds=seconds)
        return self.delivered if gate.outcome is Outcome.DELIVERED else self.undone


def rest(
    order: Order,
    gate: Gate,
    refunds: Sequence[RefundRequest],
    rules: RestRules,
    now: datetime,
    *,
    is_crowded: bool = False,
) -> Leave | Wait:
    """Whether an order leaves now, and otherwise when to look again; None seconds where only a change can
    make it leave.

    Args:
        is_crowded: It was chosen to make room.
    """
    if not _is_over(order, gate, refunds):
        return Wait()
    # What has begun to leave goes on: its children are gone already.
    is_due = is_crowded or gate.is_leaving
    if not is_due and gate.finished_at is None:
        return Wait()
    due = now if is_due or gate.finished_at is None else gate.finished_at + rules.after(order, gate)
    kept = _kept_until(order)
    left = (max(due, kept) if kept is not None else due) - now
    if left > timedelta():
        return Wait(left.total_seconds())
    is_told_all = is_told(order) and order.status.finished_at == gate.finished_at
    return Leave() if is_told_all else Wait(UNTOLD_SECONDS)


def make_room(orders: Iterable[Order], most: int, now: datetime, limit: int) -> list[Key]:
    """Which orders are to leave early so that at most `most` are left: those at rest longest, of the merchant
    that has most. At most `limit`.

    As Kubernetes does with finished pods:
    https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/#pod-garbage-collection
    """
    number: Counter[str] = Counter()
    resting: defaultdict[str, list[tuple[datetime, Key]]] = defaultdict(list)
    for order in orders:
        number[order.metadata.namespace] += 1
        since, kept = rested_since(order), _kept_until(order)
        if since is not None and is_told(order) and (kept is None or kept <= now):
            resting[order.metadata.namespace].append((since, order.key))
    for found in resting.values():
        found.sort(reverse=True)
    most_first = [(-number[merchant], merchant) for merchant in resting]
    heapq.heapify(most_first)
    chosen: list[Key] = []
    while most_first and len(chosen) < min(limit, number.total() - most):
        count, merchant = heapq.heappop(most_first)
        chosen.append(resting[merchant].pop()[1])
        if resting[merchant]:
            heapq.heappush(most_first, (count + 1, merchant))
    return chosen


def rested_since(order: Order) -> datetime | None:
    """Since when an order is at rest, as its status shows; None where it is not."""
    status = order.status
    if order.is_deleting or delay_shown(status.conditions) is not None:
        return None
    if status.phase in FINISHED:
        return status.finished_at
    shipped = find(status.conditions, OrderCondition.SHIPPED)
    return shipped.last_transition_time if shipped and status.phase is OrderPhase.SHIPPED else None


def is_told(order: Order) -> bool:
    """Whether the status answers all that was asked, and shows that the order is at rest."""
    is_answered = order.status.observed_generation == order.metadata.generation and not order.wants_retry
    return is_answered and rested_since(order) is not None


def _is_over(order: Order, gate: Gate, refunds: Sequence[RefundRequest]) -> bool:
    """Nothing is due of the order in the API server, whether or not its status tells so yet."""
    if order.is_deleting or delay_shown(order.status.conditions) is not None:
        return False
    if any(asked.refund is not None and asked.refund.state in UNSETTLED for asked in refunds):
        return False
    match gate.state:
        case GateState.COMPENSATING:
            return False
        case GateState.OPEN:
            # With a finalizer of somebody else it would stay as deleted, which means cancel.
            is_ours_alone = set(order.metadata.finalizers) <= {COMPENSATE_FINALIZER}
            return not (is_under_way(gate) or order.spec.cancel or order.spec.refunds) and is_ours_alone
        case GateState.SEALED:
            return gate.finished_at is not None or gate.tracking_status not in NOT_DELIVERED


def _kept_until(order: Order) -> datetime | None:
    since, text = rested_since(order), order.metadata.annotations.get(KEEP_UNTIL_ANNOTATION)
    if since is None or text is None:
        return None
    try:
        until = datetime.fromisoformat(text)
    except ValueError:
        return None
    return min(until, since + MOST_KEPT) if until.tzinfo is not None else None
