"""When an order leaves the API server: each row says why."""

from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orderplane.controllers.order.rest import MOST_KEPT, UNTOLD_SECONDS, Leave, RestRules, make_room, rest
from orderplane.controllers.steps import Wait
from orderplane.crds.order import Order
from orderplane.ledgers.gate import Gate
from orderplane.ledgers.payments import RefundEntry
from orderplane.ledgers.refunds import RefundRequest
from orderplane.ledgers.states import (
    GateState,
    Outcome,
    PaymentState,
    RefundState,
    ReservationState,
    ShipmentState,
    TrackingStatus,
)

from .builders import NOW, a_gate, an_order

RULES = RestRules(timedelta(seconds=60), timedelta(seconds=600))
AGO = timedelta(seconds=100)
LABELLED = {
    "reservation": ReservationState.COMMITTED,
    "payment": PaymentState.CAPTURED,
    "shipment": ShipmentState.BOUGHT,
}
SHIPPED = {
    "type": "Shipped",
    "status": "True",
    "reason": "LabelBought",
    "lastTransitionTime": NOW.isoformat(),
}
STALLED = {**SHIPPED, "type": "Stalled", "reason": "RefundFailed"}


def told(
    phase: str, *conditions: dict[str, Any], ago: timedelta | None = AGO, **status: Any
) -> dict[str, Any]:
    """A status; `ago` is when the order has ended."""
    ended = {"finishedAt": (NOW - ago).isoformat()} if ago is not None else {}
    return {"phase": phase, "observedGeneration": 1, "conditions": [*conditions], **ended, **status}


def delivered(ago: timedelta = AGO, **more: Any) -> Gate:
    return a_gate(
        GateState.SEALED, outcome=Outcome.DELIVERED, finished_at=NOW - ago,
        tracking_status=TrackingStatus.DELIVERED, **{**LABELLED, **more},
    )  # fmt: skip


def travelling(state: GateState = GateState.OPEN, **more: Any) -> Gate:
    return a_gate(state, **{**LABELLED, **more})


def on_its_way(**more: Any) -> Order:
    return an_order(status=told("Shipped", SHIPPED, ago=None), **more)


def kept(until: str, **more: Any) -> Order:
    return an_order(status=told("Delivered"), annotations={"orderplane.dev/keep-until": until}, **more)


def a_refund(state: RefundState) -> RefundRequest:
    entry = RefundEntry("r1", 100, state, None, 1, None)
    return RefundRequest("cup", "Damaged", 100, {}, False, None, None, entry, NOW)


@dataclass
class Case:
    why: str
    order: Order
    gate: Gate
    expect: Leave | Wait
    is_crowded: bool = False
    refunds: tuple[RefundRequest, ...] = field(default=())


CASES = [
    Case("delivered long enough ago", an_order(status=told("Delivered")), delivered(), Leave()),
    Case(
        "delivered a moment ago",
        an_order(status=told("Delivered", ago=timedelta(seconds=20))),
        delivered(timedelta(seconds=20)),
        Wait(40),
    ),
    Case(
        "failed: people look at these for longer",
        an_order(status=told("Failed")),
        a_gate(GateState.SEALED, outcome=Outcome.FAILED, finished_at=NOW - AGO, reason="CardDeclined"),
        Wait(500),
    ),
    Case(
        "its own time, at once",
        an_order(status=told("Delivered", ago=timedelta()), ttlSecondsAfterFinished=0),
        delivered(timedelta()),
        Leave(),
    ),
    Case(
        "its own time, later",
        an_order(status=told("Delivered"), ttlSecondsAfterFinished=150),
        delivered(),
        Wait(50),
    ),
    Case("its end is not told yet", on_its_way(), delivered(), Wait(UNTOLD_SECONDS)),
    Case(
        "an earlier end is told",
        an_order(status=told("Delivered", ago=timedelta(seconds=500))),
        delivered(),
        Wait(UNTOLD_SECONDS),
    ),
    Case(
        "a retry waits",
        an_order(status=told("Delivered"), annotations={"orderplane.dev/retry": "1"}),
        delivered(),
        Wait(UNTOLD_SECONDS),
    ),
    Case("its label is bought: it stays while there is room", on_its_way(), travelling(), Wait()),
    Case("... and leaves to make room", on_its_way(), travelling(), Leave(), is_crowded=True),
    Case(
        "scanned, and travelling", on_its_way(), travelling(GateState.SEALED, outcome=Outcome.SHIPPED), Wait()
    ),
    Case(
        "... and leaves to make room",
        on_its_way(),
        travelling(GateState.SEALED, outcome=Outcome.SHIPPED),
        Leave(),
        is_crowded=True,
    ),
    Case(
        "its parcel is in trouble: somebody has to look",
        on_its_way(),
        travelling(GateState.SEALED, outcome=Outcome.SHIPPED, tracking_status=TrackingStatus.RETURNED),
        Wait(),
        is_crowded=True,
    ),
    Case(
        "paid is not at rest",
        an_order(status=told("Paid", ago=None)),
        travelling(shipment=ShipmentState.INTENDED),
        Wait(),
        is_crowded=True,
    ),
    Case(
        "it is being compensated",
        an_order(status=told("Compensating", ago=None)),
        travelling(GateState.COMPENSATING),
        Wait(),
        is_crowded=True,
    ),
    Case("a cancel waits", on_its_way(cancel=True), travelling(), Wait(), is_crowded=True),
    Case(
        "a refund waits for the scan",
        on_its_way(refunds=[{"name": "cup", "reason": "Damaged"}]),
        travelling(),
        Wait(),
        is_crowded=True,
    ),
    Case("a delete is no leaving", on_its_way(deleting=True), travelling(), Wait(), is_crowded=True),
    Case(
        "with a finalizer of others it would stay, deleted, which means cancel",
        on_its_way(finalizers=("orderplane.dev/compensate", "example.org/mine")),
        travelling(),
        Wait(),
        is_crowded=True,
    ),
    Case(
        "a refund is under way",
        an_order(status=told("Delivered")),
        delivered(),
        Wait(),
        refunds=(a_refund(RefundState.PENDING),),
    ),
    Case(
        "a refund has failed",
        an_order(status=told("Delivered")),
        delivered(),
        Wait(),
        refunds=(a_refund(RefundState.FAILED),),
    ),
    Case(
        "a refund was made",
        an_order(status=told("Delivered")),
        delivered(),
        Leave(),
        refunds=(a_refund(RefundState.SUCCEEDED),),
    ),
    Case("it is stalled", an_order(status=told("Delivered", STALLED)), delivered(), Wait()),
    Case(
        "it has begun to leave: it goes on",
        on_its_way(finalizers=()),
        travelling(archived_version=7),
        Leave(),
    ),
    Case(
        "... also before its time",
        an_order(status=told("Delivered", ago=timedelta())),
        delivered(timedelta(), archived_version=7),
        Leave(),
    ),
    Case("somebody works on it", kept((NOW + timedelta(seconds=30)).isoformat()), delivered(), Wait(30)),
    Case(
        "... also where there is no room",
        kept((NOW + timedelta(seconds=30)).isoformat()),
        delivered(),
        Wait(30),
        is_crowded=True,
    ),
    Case("... until then", kept((NOW - timedelta(seconds=1)).isoformat()), delivered(), Leave()),
    Case(
        "nobody keeps it for ever",
        kept("2999-01-01T00:00:00Z"),
        delivered(),
        Wait((MOST_KEPT - AGO).total_seconds()),
    ),
    Case("what is no time keeps nothing", kept("for a while"), delivered(), Leave()),
    Case("a time without a zone keeps nothing", kept("2999-01-01T00:00:00"), delivered(), Leave()),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.why)
def test_whether_it_leaves(case: Case) -> None:
    assert rest(case.order, case.gate, case.refunds, RULES, NOW, is_crowded=case.is_crowded) == case.expect


@given(
    seconds=st.integers(0, 10_000),
    ttl=st.none() | st.integers(0, 10_000),
    outcome=st.sampled_from([Outcome.DELIVERED, Outcome.FAILED, Outcome.CANCELLED]),
    is_crowded=st.booleans(),
)
def test_who_waits_as_long_as_it_says_leaves_then(
    seconds: int, ttl: int | None, outcome: Outcome, is_crowded: bool
) -> None:
    ago = timedelta(seconds=seconds)
    more = {} if ttl is None else {"ttlSecondsAfterFinished": ttl}
    order = an_order(status=told(outcome.value, ago=ago), **more)
    gate = a_gate(GateState.SEALED, outcome=outcome, finished_at=NOW - ago)
    step = rest(order, gate, (), RULES, NOW, is_crowded=is_crowded)
    if isinstance(step, Wait):
        assert step.seconds is not None
        assert not is_crowded
        assert rest(order, gate, (), RULES, NOW + timedelta(seconds=step.seconds)) == Leave()
    else:
        stays = ttl if ttl is not None else (RULES.after(order, gate)).total_seconds()
        assert is_crowded or seconds >= stays


def named(merchant: str, name: str, status: dict[str, Any]) -> Order:
    order = an_order(status=status)
    return order.model_copy(
        update={"metadata": order.metadata.model_copy(update={"namespace": merchant, "name": name})}
    )


def resting(merchant: str, number: int) -> Order:
    return named(merchant, f"o-{number:03}", told("Delivered", ago=timedelta(seconds=1000 - number)))


@given(st.lists(st.sampled_from("abc"), max_size=40), st.integers(0, 30), st.integers(0, 10))
def test_room_is_made_by_the_merchant_that_has_most(merchants: list[str], most: int, limit: int) -> None:
    orders = [resting(merchant, number) for number, merchant in enumerate(merchants)]
    chosen = make_room(orders, most, NOW, limit)
    assert len(chosen) == min(limit, max(0, len(orders) - most)) == len(set(chosen))
    left = [order for order in orders if order.key not in chosen]
    for merchant, name in chosen:
        assert all(name < order.metadata.name for order in left if order.metadata.namespace == merchant)
        mine = sum(order.metadata.namespace == merchant for order in left)
        # It had at least as many as any other when it gave its last one.
        for other in "abc":
            assert sum(order.metadata.namespace == other for order in left) <= mine + 1


def test_what_is_under_way_makes_no_room() -> None:
    under_way = [named("a", f"u-{number}", told("Paid", ago=None)) for number in range(5)]
    assert make_room([*under_way, resting("b", 1)], 1, NOW, 10) == [("b", "o-001")]
