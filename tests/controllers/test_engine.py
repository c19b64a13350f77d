"""Queue, cache, back-off, conditions: what the controllers stand on."""

import asyncio
import contextlib
import random
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orderplane.controllers.engine.backoff import (
    LONGEST_SECONDS,
    PATIENCE_SECONDS,
    FailureState,
    after_failure,
    pause_after,
)
from orderplane.controllers.engine.cache import TOMBSTONE_SECONDS, Cache
from orderplane.controllers.engine.cluster import Cluster, KubernetesEvent
from orderplane.controllers.engine.conditions import Fact, find, with_facts
from orderplane.controllers.engine.queue import KeyedQueue
from orderplane.controllers.order.children import is_as_planned
from orderplane.crds.api_errors import AlreadyExists, ApiError, Conflict, NamespaceTerminating, Unavailable
from orderplane.crds.meta import Kind, Manifest, ManifestMeta
from orderplane.crds.order import Order
from orderplane.ledgers.errors import Transient

from .builders import NOW, a_child, an_order

ORDER = Manifest(
    kind=Kind.ORDER,
    metadata=ManifestMeta(
        namespace="shop", name="tea", labels={}, annotations={}, finalizers=(), owner_references=()
    ),
    spec=an_order().spec,
)

A, B, C = ("ns", "a"), ("ns", "b"), ("ns", "c")


async def test_a_key_waits_once_and_the_lowest_priority_goes_first() -> None:
    queue = KeyedQueue[object]()
    queue.add(A, 0)
    queue.add(B, -1)
    queue.add(A, 0)
    queue.add(C, 0)
    queue.add(C, -2)
    assert len(queue) == 3
    assert [await queue.take() for _ in range(3)] == [C, B, A]


async def test_a_key_that_is_worked_on_is_worked_on_once_more() -> None:
    queue = KeyedQueue[object]()
    queue.add(A)
    assert await queue.take() == A
    for _ in range(5):
        queue.add(A)
    assert len(queue) == 0
    queue.done(A)
    assert len(queue) == 1
    assert await queue.take() == A
    queue.done(A)
    assert queue.is_idle


async def test_of_two_timers_of_a_key_the_earlier_counts() -> None:
    queue = KeyedQueue[object]()
    queue.add_after(A, 60)
    queue.add_after(A, 0.01)
    queue.add_after(A, 60)
    assert await asyncio.wait_for(queue.take(), 5) == A
    queue.close()


async def test_a_key_that_is_taken_does_not_come_again_by_its_timer() -> None:
    queue: KeyedQueue[str] = KeyedQueue()
    queue.add_after(("shop", "slow"), 0.01)
    queue.add(("shop", "slow"))
    queue.add_after(("shop", "other"), 0.02)
    assert await queue.take() == ("shop", "slow")
    queue.done(("shop", "slow"))
    assert await queue.take() == ("shop", "other")
    assert queue.is_idle is False
    queue.done(("shop", "other"))
    assert queue.is_idle


async def test_a_closed_queue_hands_nothing_out() -> None:
    queue = KeyedQueue[object]()
    waiting = [asyncio.create_task(queue.take()) for _ in range(3)]
    await asyncio.sleep(0)
    queue.close()
    assert await asyncio.wait_for(asyncio.gather(*waiting), 5) == [None, None, None]


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def document(version: int, *, uid: str = "u1", name: str = "tea", deleting: bool = False) -> dict[str, Any]:
    order = an_order(deleting=deleting).model_dump(mode="json", by_alias=True)
    order["metadata"] |= {"resourceVersion": str(version), "uid": uid, "name": name}
    return order


def a_cache() -> tuple[Cache[Order], Clock]:
    clock = Clock()
    return Cache(Order.model_validate, clock), clock


@given(st.permutations(range(1, 7)))
def test_the_newest_version_wins_in_whatever_order_they_come(order: list[int]) -> None:
    cache, _ = a_cache()
    for version in order:
        cache.store(document(version))
    found = cache.get(("shop", "tea"))
    assert found is not None
    assert found.metadata.resource_version == "6"


def test_a_deleted_object_stays_deleted_while_its_tombstone_lasts() -> None:
    cache, clock = a_cache()
    cache.store(document(1))
    cache.record_deletion(document(3, deleting=True))
    assert cache.store(document(2)) is None
    assert cache.get(("shop", "tea")) is None
    clock.now = TOMBSTONE_SECONDS + 1
    cache.sweep()
    assert cache.store(document(2)) is not None


class OneOrder:
    """An API server with one order in it, which somebody else has just changed."""

    async def get(self, *_: Any) -> dict[str, Any]:
        return document(7)

    async def create(self, *_: Any) -> dict[str, Any]:
        raise AlreadyExists(409, "AlreadyExists", "it is there")

    async def delete(self, *_: Any, uid: str) -> dict[str, Any]:
        return {**document(7, uid=uid, deleting=True), "kind": "Order"}

    async def put_status(self, *_: Any) -> dict[str, Any]:
        return document(7)


@pytest.mark.parametrize("answer", ["get_live", "create", "delete"])
async def test_a_change_by_others_that_an_answer_shows_is_passed_on(answer: str) -> None:
    """The watch event comes too late to be newer: a cancel was lost that way for a minute."""
    heard: list[Any] = []
    cluster = Cluster(OneOrder(), Clock(), lambda kind, order: heard.append((kind, order.key)))  # type: ignore[arg-type]
    cluster.orders.store(document(6))
    known = cluster.orders.get(("shop", "tea"))
    assert known is not None
    match answer:
        case "get_live":
            await cluster.get_live(Kind.ORDER, known.key)
        case "create":
            await cluster.create(ORDER)
        case _:
            await cluster.delete(Kind.ORDER, known)
    assert heard == [(Kind.ORDER, ("shop", "tea"))]
    assert cluster.orders.store(document(7)) is None
    await cluster.get_live(Kind.ORDER, known.key)
    assert len(heard) == 1


async def test_our_own_status_write_is_no_change() -> None:
    heard: list[Any] = []
    cluster = Cluster(OneOrder(), Clock(), lambda kind, order: heard.append(order))  # type: ignore[arg-type]
    cluster.orders.store(document(6))
    known = cluster.orders.get(("shop", "tea"))
    assert known is not None
    await cluster.write_status(Kind.ORDER, known, known.status)
    assert heard == []


class Unwilling(OneOrder):
    """An API server that takes no Events."""

    def __init__(self, problem: ApiError) -> None:
        self._problem = problem

    async def create_event(self, *_: Any) -> dict[str, Any]:
        raise self._problem


class Listening(OneOrder):
    """Keeps the names of the Events that it is given."""

    def __init__(self) -> None:
        self.names: list[str] = []

    async def create_event(self, _: str, body: dict[str, Any]) -> dict[str, Any]:
        self.names.append(body["metadata"]["name"])
        return body


@pytest.mark.parametrize("can_recur", [False, True])
async def test_what_can_recur_is_another_event_each_time(can_recur: bool) -> None:
    """A second stall was not told: its Event had the name of the first."""
    api = Listening()
    cluster = Cluster(api, Clock(), lambda *_: None)  # type: ignore[arg-type]
    event = KubernetesEvent("Warning", "Stalled", "x", step=3, can_recur=can_recur)
    for seconds in (0, 0, 60):
        await cluster.emit_event(Kind.ORDER, an_order(), event, NOW + timedelta(seconds=seconds))
    assert len(set(api.names)) == 1 + can_recur


async def test_an_event_that_is_refused_is_left_out_and_one_without_an_answer_is_tried_again() -> None:
    """In a namespace that was being deleted no status was written any more."""

    async def emit(problem: ApiError) -> None:
        cluster = Cluster(Unwilling(problem), Clock(), lambda *_: None)  # type: ignore[arg-type]
        await cluster.emit_event(Kind.ORDER, an_order(), KubernetesEvent("Normal", "Paid", "x"), NOW)

    await emit(NamespaceTerminating(403, "Forbidden", "it is being terminated"))
    with pytest.raises(Unavailable):
        await emit(Unavailable(503, "ServiceUnavailable", "etcd is away"))


@pytest.mark.parametrize(
    ("early", "answer", "passed_on"),
    [
        ([7], 7, []),  # our echo was faster than our answer
        ([7, 8], 7, ["8"]),  # somebody wrote after us
        ([7], None, ["7"]),  # somebody wrote before us: the write failed
        ([], None, []),
    ],
)
async def test_an_event_during_a_write_is_passed_on_unless_it_is_the_echo(
    early: list[int], answer: int | None, passed_on: list[str]
) -> None:
    heard: list[str] = []

    class Busy(OneOrder):
        async def put_status(self, *_: Any) -> dict[str, Any]:
            for version in early:
                cluster.on_watch_event(Kind.ORDER, document(version))
            if answer is None:
                raise Conflict(409, "Conflict", "somebody was faster")
            return document(answer)

    cluster = Cluster(Busy(), Clock(), lambda _, order: heard.append(order.metadata.resource_version))  # type: ignore[arg-type]
    cluster.orders.store(document(6))
    known = cluster.orders.get(("shop", "tea"))
    assert known is not None
    with contextlib.suppress(Conflict):
        await cluster.write_status(Kind.ORDER, known, known.status)
    assert heard == passed_on
    cluster.on_watch_event(Kind.ORDER, document(9))
    assert heard == [*passed_on, "9"]


async def test_a_hint_is_kept_only_while_the_key_is_added_once() -> None:
    queue, hint = KeyedQueue[object](), object()
    queue.add(A, 0, hint)
    assert await queue.take() == A
    assert queue.take_hint(A) is hint
    assert queue.take_hint(A) is None
    queue.add(A, 0, hint)  # it is being worked on, which may change the gate
    queue.done(A)
    assert await queue.take() == A
    assert queue.take_hint(A) is None
    queue.done(A)
    queue.add(A, 0, hint)
    queue.add(A, 0)  # who asks now may know of something later
    assert await queue.take() == A
    assert queue.take_hint(A) is None
    queue.done(A)
    queue.add(A)
    queue.add(A, 0, hint)  # who asked before may, too
    assert await queue.take() == A
    assert queue.take_hint(A) is None


def test_an_object_that_cannot_be_read_stops_nobody() -> None:
    """It ended the resync, and with it the operator."""
    cache, _ = a_cache()
    bad = document(2, uid="bad", name="bad")
    bad["spec"]["items"] = "many"
    assert cache.store(bad) is None
    assert cache.store(document(1)) is not None
    assert [order.metadata.uid for order in cache] == ["u1"]


async def test_a_hint_that_waited_long_is_dropped() -> None:
    """The process may have stood still, and the gate gone on."""
    now = 0.0
    queue = KeyedQueue[object](lambda: now)
    queue.add(A, 0, object())
    now = 1200.0
    assert await queue.take() == A
    assert queue.take_hint(A) is None


def test_what_only_left_the_view_may_come_back() -> None:
    cache, _ = a_cache()
    cache.store(document(1))
    cache.record_deletion(document(2))
    assert cache.get(("shop", "tea")) is None
    assert cache.store(document(3)) is not None


def test_a_name_that_is_used_again_means_the_younger() -> None:
    cache, _ = a_cache()
    cache.store(document(5, uid="new"))
    cache.store(document(2, uid="old"))
    found = cache.get(("shop", "tea"))
    assert found is not None
    assert found.metadata.uid == "new"
    cache.record_deletion(document(6, uid="old", deleting=True))
    assert cache.get(("shop", "tea")) is not None


def test_a_list_drops_only_what_it_could_have_seen() -> None:
    cache, _ = a_cache()
    cache.store(document(5, uid="seen", name="a"))
    cache.store(document(6, uid="gone", name="b"))
    cache.store(document(9, uid="young", name="c"))
    assert [order.metadata.uid for order in cache.missing_from({"seen"}, 8)] == ["gone"]
    assert len(cache) == 2


def test_the_first_message_of_a_reason_stays_while_it_goes_on() -> None:
    first = after_failure(None, Transient("Down", "at 1"), 1.0)
    second = after_failure(first, Transient("Down", "at 2"), 2.0)
    assert (second.message, second.since, second.tries) == ("at 1", 1.0, 2)
    assert not second.is_stalled


def test_a_key_is_stalled_after_it_was_really_tried_for_a_quarter_of_an_hour() -> None:
    failure, now = after_failure(None, Transient("Down", "x"), 0.0), 0.0
    while now < PATIENCE_SECONDS:
        assert not failure.is_stalled
        now += LONGEST_SECONDS
        failure = after_failure(failure, Transient("Down", "x"), now)
    assert not failure.is_stalled
    assert after_failure(failure, Transient("Down", "x"), now + 1.0).is_stalled


def test_time_in_which_the_process_slept_is_no_trying() -> None:
    failure = after_failure(None, Transient("Down", "x"), 0.0)
    for night in range(1, 6):
        failure = after_failure(failure, Transient("Down", "x"), night * 50_000.0)
        assert not failure.is_stalled


def test_what_only_a_person_can_help_is_stalled_at_once() -> None:
    assert after_failure(None, Transient("ChildConflict", "x", is_final=True), 0.0).is_stalled


@given(st.integers(min_value=1, max_value=10_000), st.integers())
def test_pauses_grow_to_a_bound(tries: int, seed: int) -> None:
    failure = FailureState("Down", "", 0.0, tries)
    assert 0 < pause_after(failure, Transient("Down", ""), random.Random(seed)) <= LONGEST_SECONDS
    assert pause_after(failure, Transient("Down", "", retry_after=99.0), random.Random(seed)) >= 99.0


def test_a_condition_moves_its_time_only_with_its_status() -> None:
    once = with_facts((), [Fact("Paid", "False", "Down", "a")], 1, NOW)
    later = NOW + timedelta(seconds=9)
    changed = with_facts(once, [Fact("Paid", "False", "Slow", "b")], 1, later)
    found = find(changed, "Paid")
    assert found is not None
    assert (found.reason, found.last_transition_time) == ("Slow", NOW)
    turned = find(with_facts(changed, [Fact("Paid", "True", "Done")], 1, later), "Paid")
    assert turned is not None
    assert turned.last_transition_time == later


def test_the_same_facts_change_nothing() -> None:
    facts = [Fact("Paid", "True", "Done", "x"), Fact("Shipped", "False", "No", "y")]
    once = with_facts((), facts, 1, NOW)
    assert with_facts(once, facts, 1, NOW + timedelta(hours=1)) == once


def test_a_child_is_as_planned_only_if_all_of_its_spec_is() -> None:
    order = an_order()
    for kind in (Kind.RESERVATION, Kind.PAYMENT, Kind.SHIPMENT):
        assert is_as_planned(a_child(kind), order)
        assert not is_as_planned(a_child(kind, deleting=True), order)
    other = an_order(paymentMethod="pm_other")
    assert not is_as_planned(a_child(Kind.PAYMENT), other)
