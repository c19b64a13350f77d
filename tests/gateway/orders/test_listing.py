"""A filtered list shows every matching order once, for all sizes of pages and chunks."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orderplane.crds.order import Compensation, CompensationStep, OrderPhase
from orderplane.events.types import EventType
from orderplane.gateway.http.problems import Problem
from orderplane.gateway.orders import listing
from orderplane.gateway.orders.listing import (
    CHUNK_SIZE,
    MAX_CHUNKS,
    NEWEST,
    Chunk,
    ListPosition,
    OrderFilter,
    cursor_state,
    filtered_page,
    position_of,
)
from orderplane.gateway.orders.timeline import phases_of, timeline_view
from orderplane.ledgers.postgres.history import Timeline, TimelineEvent

NOON = datetime(2026, 1, 31, 12, 0, tzinfo=UTC)


def order(name: str, *, minutes: int = 0, skus: tuple[str, ...] = ("TEA",)) -> dict[str, Any]:
    placed_at = (NOON + timedelta(minutes=minutes)).isoformat().replace("+00:00", "Z")
    return {
        "metadata": {"name": name, "uid": f"uid-{name}", "creationTimestamp": placed_at},
        "spec": {"items": [{"sku": sku, "quantity": 1} for sku in skus]},
    }


class Cluster:
    """Lists its orders by name, a chunk at a time."""

    def __init__(self, orders: list[dict[str, Any]]) -> None:
        self.orders = sorted(orders, key=lambda order: order["metadata"]["name"])
        self.sizes: list[int] = []

    async def read(self, position: ListPosition, size: int) -> Chunk:
        """As the API server does: it goes on after a token, and knows nothing of `after`."""
        self.sizes.append(size)
        token, start = position.continue_token, replace(position, after=position.after or "")
        rest: list[Any] = [one for one in self.orders if token is None or one["metadata"]["name"] > token]
        items = rest[:size]
        if len(rest) <= size:
            return Chunk(items, start, None)
        last = items[-1]["metadata"]["name"]
        return Chunk(items, start, ListPosition(None, max(position.after or "", last), last))


async def walk_all(cluster: Cluster, order_filter: OrderFilter, limit: int) -> tuple[list[str], int]:
    """The names that all pages show, and how many pages there were."""
    names: list[str] = []
    position: ListPosition | None = ListPosition()
    pages = 0
    while position is not None:
        page, position = await filtered_page(cluster.read, order_filter, limit, position)
        assert len(page) <= limit
        names += [order["metadata"]["name"] for order in page]
        pages += 1
    return names, pages


@given(
    wanted=st.lists(st.booleans(), max_size=60),
    limit=st.integers(1, 12),
    chunk=st.integers(1, 9),
    most=st.integers(1, 4),
)
def test_a_walk_shows_all_that_is_wanted_once(wanted: list[bool], limit: int, chunk: int, most: int) -> None:
    cluster = Cluster(
        [order(f"o-{number:03}", skus=("MUG",) if is_it else ("TEA",)) for number, is_it in enumerate(wanted)]
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(listing, "CHUNK_SIZE", chunk)
        patch.setattr(listing, "MAX_CHUNKS", most)
        names, _ = asyncio.run(walk_all(cluster, OrderFilter(sku="MUG"), limit))
    assert names == [f"o-{number:03}" for number, is_it in enumerate(wanted) if is_it]


async def test_without_a_filter_nothing_is_read_twice() -> None:
    cluster = Cluster([order(f"o-{number:03}") for number in range(25)])
    names, pages = await walk_all(cluster, OrderFilter(), 10)
    assert (len(names), pages, cluster.sizes) == (25, 3, [10] * 3)


async def test_one_request_looks_at_so_many_and_no_more() -> None:
    total = CHUNK_SIZE * MAX_CHUNKS + 1
    cluster = Cluster([order(f"o-{number:05}") for number in range(total)])
    page, position = await filtered_page(cluster.read, OrderFilter(sku="MUG"), 50, ListPosition())
    assert (page, cluster.sizes) == ([], [CHUNK_SIZE] * MAX_CHUNKS)
    assert position is not None
    assert await filtered_page(cluster.read, OrderFilter(sku="MUG"), 50, position) == ([], None)


async def test_what_is_placed_meanwhile_hides_nothing_and_doubles_nothing() -> None:
    cluster = Cluster([order(f"o-{number:03}") for number in range(0, 40, 2)])
    order_filter = OrderFilter(sku="TEA")
    first, position = await filtered_page(cluster.read, order_filter, 5, ListPosition())
    cluster.orders = Cluster(
        [*cluster.orders, *(order(f"o-{number:03}") for number in range(1, 40, 2))]
    ).orders
    assert position is not None
    names = [one["metadata"]["name"] for one in first]
    while position is not None:
        page, position = await filtered_page(cluster.read, order_filter, 5, position)
        names += [one["metadata"]["name"] for one in page]
    assert len(names) == len(set(names))
    assert {f"o-{number:03}" for number in range(0, 40, 2)} <= set(names)


FILTERS = {"phase": "Paid", "customer": None}


@pytest.mark.parametrize(
    "position",
    [
        ListPosition(after=""),
        ListPosition(before=("2026-01-31T12:00:00Z", "o-1")),
        ListPosition(before=("2026-01-31T12:00:00Z", "o-1"), after=""),
        ListPosition(("2026-01-31T12:00:00Z", "o-1"), "o-2", "token"),
        ListPosition(("2026-01-31T12:00:00Z", "o-1"), live=("2026-01-31T12:00:01Z", "o-3")),
        ListPosition(after="o-2", archived=("2026-01-31T12:00:00Z", "o-1")),
        ListPosition(archived=NEWEST),
    ],
)
def test_a_cursor_holds_the_position_and_its_filters(position: ListPosition) -> None:
    state = cursor_state(position, FILTERS)
    assert position_of(state, FILTERS) == position
    for others in ({"phase": "Paid", "customer": "c-1"}, {"phase": None, "customer": None}):
        with pytest.raises(Problem, match="invalid_cursor"):
            position_of(state, others)


def test_cursors_of_the_version_before_are_by_name_and_forged_ones_are_refused() -> None:
    of_before = {"phase": "Paid", "since": None, "after": "o-2", "token": "t"}
    assert position_of(of_before, FILTERS) == ListPosition(None, "o-2", "t")
    shown = ("2026-01-31T12:00:00Z", "o-1")
    assert position_of({"phase": "Paid", "before": " ".join(shown)}, FILTERS) == ListPosition(
        shown, live=shown
    )
    for before in ("", " ", "2026-01-31T12:00:00Z", " o-1", "yesterday o-1", "2026-01-31T12:00:00 o-1"):
        with pytest.raises(Problem, match="invalid_cursor"):
            position_of({"phase": "Paid", "before": before}, FILTERS)


@pytest.mark.parametrize(
    ("order_filter", "is_match"),
    [
        (OrderFilter(), True),
        (OrderFilter(since=NOON), True),
        (OrderFilter(since=NOON + timedelta(seconds=1)), False),
        (OrderFilter(until=NOON), False),
        (OrderFilter(until=NOON + timedelta(seconds=1)), True),
        (OrderFilter(since=NOON, until=NOON + timedelta(hours=1), sku="MUG"), True),
        (OrderFilter(sku="MUG"), True),
        (OrderFilter(sku="mug"), False),
        (OrderFilter(sku="POT"), False),
    ],
)
def test_which_orders_match(order_filter: OrderFilter, is_match: bool) -> None:
    assert order_filter.matches(order("o-1", skus=("TEA", "MUG"))) is is_match


# Timeline


def at(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


CREATED = TimelineEvent(1, EventType.ORDER_CREATED, at(0.4), None, None)
RESERVED = TimelineEvent(2, EventType.INVENTORY_RESERVED, at(0.5), None, None)
PAID = TimelineEvent(3, EventType.PAYMENT_SUCCESS, at(0.6), None, None)
RELEASED = TimelineEvent(4, EventType.INVENTORY_RELEASED, at(2), "Lost", "user:u-clerk")
CANCELLED = TimelineEvent(5, EventType.ORDER_CANCELLED, at(3), "CancelRequested", "user:c-1001")


def timeline(*events: TimelineEvent, compensating_at: datetime | None = None) -> Timeline:
    return Timeline(events, compensating_at, "pi_1", ("re_1",), "shp_1", "SandboxPost", "SBX1")


@pytest.mark.parametrize(
    ("told", "phases"),
    [
        (None, ["Pending"]),
        (timeline(CREATED), ["Pending"]),
        (timeline(CREATED, RESERVED, PAID), ["Pending", "Reserved", "Paid"]),
        (
            timeline(CREATED, RESERVED, PAID, RELEASED, CANCELLED, compensating_at=at(1)),
            ["Pending", "Reserved", "Paid", "Compensating", "Cancelled"],
        ),
        # Its creation is known in whole seconds, which may be later than what came next.
        (timeline(replace(RESERVED, at=at(-0.5))), ["Pending", "Reserved"]),
    ],
)
def test_the_phases_that_an_order_came_to(told: Timeline | None, phases: list[str]) -> None:
    assert [phase.value for phase, _ in phases_of(told, NOON)] == phases
    assert phases_of(told, NOON)[0] == (OrderPhase.PENDING, NOON)


def test_a_customer_is_shown_what_others_can_look_up_for_them() -> None:
    told = timeline(CREATED, RELEASED, CANCELLED)
    done = [Compensation(step=CompensationStep.RELEASE_STOCK, reference="r-1", at=at(2))]
    view = timeline_view(order("o-1"), told, done, own_actor=None)
    assert view["references"] == {
        "payment": "pi_1", "refunds": ["re_1"], "shipment": "shp_1", "carrier": "SandboxPost",
        "trackingCode": "SBX1",
    }  # fmt: skip
    assert view["events"][1] == {
        "sequence": 4, "type": "inventory.released", "at": "2026-01-31T12:00:02Z", "reason": "Lost",
        "actor": "user:u-clerk",
    }  # fmt: skip
    assert view["compensation"] == [
        {"step": "ReleaseStock", "reference": "r-1", "at": "2026-01-31T12:00:02Z"}
    ]
    theirs = timeline_view(order("o-1"), told, done, own_actor="user:c-1001")
    assert theirs["references"] == {**view["references"], "payment": None, "shipment": None}
    assert [event["actor"] for event in view["events"]] == [None, "user:u-clerk", "user:c-1001"]
    assert [event["actor"] for event in theirs["events"]] == [None, None, "user:c-1001"]
    assert {**theirs, "references": None, "events": None} == {**view, "references": None, "events": None}
