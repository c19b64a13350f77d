"""How a merchant's orders go, counted over those that this process holds in memory. Pure."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice

from orderplane.crds.order import FINISHED, OrderPhase
from orderplane.gateway.orders.held_orders import Criteria, HeldOrder, HeldOrders

MOST_ORDERS = 20_000
"""How many of the newest orders are looked at for the last hour: about 20 ms."""

MINUTES = 60

WAITING = (OrderPhase.PENDING, OrderPhase.RESERVED, OrderPhase.PAID)
"""The phases of an order that has no label yet, and is to get one."""


@dataclass(frozen=True, slots=True)
class Minute:
    """Orders placed, and orders that came to an end, in the minute that begins at `at`."""

    at: datetime
    placed: int
    finished: int


@dataclass(frozen=True, slots=True)
class Figures:
    """How the orders go at one moment.

    Args:
        phases: How many orders are in each phase.
        stalled: How many wait for a person.
        minutes: The last hour, oldest first.
        seconds_to_label: From placing to the label, of the orders of the last hour that have one; sorted.
        waiting_since: When the oldest order was placed that has no label yet; None where none waits.
    """

    at: datetime
    phases: dict[str, int]
    stalled: int
    minutes: tuple[Minute, ...]
    seconds_to_label: tuple[float, ...]
    waiting_since: datetime | None


def figures(held: HeldOrders, merchant: str, now: datetime) -> Figures:
    """The figures of a merchant's orders that are held."""
    counts = {phase.value: held.count(merchant, Criteria(phase=phase.value)) for phase in OrderPhase}
    # An order has no phase until the operator has seen it.
    counts[OrderPhase.PENDING.value] += held.count(merchant, Criteria(phase=""))
    first = now.replace(second=0, microsecond=0) - timedelta(minutes=MINUTES - 1)
    newest = list(islice(held.before(merchant, Criteria(), None), MOST_ORDERS))
    waiting = [
        _time(order.place[0]) for order in newest if order.phase in ("", *WAITING) and not order.is_stalled
    ]
    return Figures(
        at=now,
        phases=counts,
        stalled=held.count(merchant, Criteria(stalled=True)),
        minutes=_minutes(newest, first),
        seconds_to_label=tuple(sorted(_seconds_to_label(newest, first))),
        waiting_since=min(waiting, default=None),
    )


def percentile(values: tuple[float, ...], share: float) -> float | None:
    """The smallest of the sorted values that `share` of them do not exceed; None where there are none."""
    return values[max(0, -int(-share * len(values) // 1) - 1)] if values else None


def _minutes(orders: Iterable[HeldOrder], first: datetime) -> tuple[Minute, ...]:
    placed: Counter[int] = Counter()
    finished: Counter[int] = Counter()
    for order in orders:
        placed[_minute_after(first, order.place[0])] += 1
        if order.finished_at is not None and order.phase in FINISHED:
            finished[_minute_after(first, order.finished_at)] += 1
    return tuple(
        Minute(first + timedelta(minutes=index), placed[index], finished[index]) for index in range(MINUTES)
    )


def _minute_after(first: datetime, at: str) -> int:
    return int((_time(at) - first).total_seconds() // 60)


def _seconds_to_label(orders: Iterable[HeldOrder], first: datetime) -> Iterable[float]:
    for order in orders:
        if order.shipped_at is not None and (shipped := _time(order.shipped_at)) >= first:
            yield max(0.0, (shipped - _time(order.place[0])).total_seconds())


def _time(at: str) -> datetime:
    return datetime.fromisoformat(at)
