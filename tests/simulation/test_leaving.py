"""An order leaves the API server, and something happens between any two lines of it."""

from collections.abc import Callable
from typing import Any

import pytest

from orderplane.controllers.engine.cluster import Cluster
from orderplane.controllers.order.leaving import Leaving
from orderplane.crds.meta import Kind
from orderplane.ledgers.gate import Gate
from orderplane.ledgers.states import GateState, Outcome, TrackingStatus

from .world import run
from .world.invariants import check

KEY = Kind.ORDER, run.NAMESPACE, "order"
RACES = 1000

MOST_POINTS = 40
"""More than an order needs to leave."""


def a_labelled_order(number: int, processes: int = 1) -> tuple[run.World, str]:
    """Its parcel waits for the carrier, and its status tells so."""
    world = run.World(number)
    world.tables.on_hand["A"] = world.tables.opening["A"] = 5
    world.tables.reserved["A"] = world.tables.moved["A"] = 0
    world.processes = [run.Process(world, f"operator-{n}", run.timedelta()) for n in range(processes)]
    uid = world.place("order", {"A": 1})
    for _ in range(60):
        run.settle(world)
        world.pass_time(1)
    assert world.api.objects[KEY]["status"]["phase"] == "Shipped"
    return world, uid


def scan_and_deliver(world: run.World) -> None:
    try:
        run.rest(world)
    finally:
        for process in world.processes:
            process.crash()
    check(world)


def leave(world: run.World) -> None:
    """All of it, and nothing else happens."""
    world.processes[0].crowd()
    for _ in range(5):
        run.settle(world)
        world.api.collect_garbage()
        world.pass_time(1)
    assert not world.api.objects, list(world.api.objects)


def stop_at(world: run.World, points: int) -> bool:
    """Let the first process begin to take the order out, and stop at a point; False: it was done before."""
    process = world.processes[0]
    process.crowd()
    process.do("leave", KEY[1:])
    name = ("leave", *KEY[:1], KEY[1:])
    for _ in range(points):
        if name not in process.tasks:
            return False
        process.do("advance", name)
        world.spread()
    return name in process.tasks


def crash(world: run.World) -> Outcome:
    world.restart(0)
    return Outcome.DELIVERED


def another_operator(world: run.World) -> Outcome:
    world.processes[1].crowd()
    run.settle(world)
    return Outcome.DELIVERED


def the_carrier(world: run.World) -> Outcome:
    for shipment_id in world.carrier.by_id:
        world.scan(shipment_id)
    return Outcome.DELIVERED


def a_note(world: run.World) -> Outcome:
    if KEY in world.api.objects:
        world.api.annotate(KEY, "example.org/note", "mine")
    return Outcome.DELIVERED


def somebody_who_deletes(world: run.World) -> Outcome:
    """Also in the moment in which it has no finalizer any more."""
    if KEY not in world.api.objects:
        return Outcome.DELIVERED
    world.api.mark_deleted(KEY)
    return Outcome.CANCELLED


def somebody_who_cancels(world: run.World) -> Outcome:
    if KEY not in world.api.objects:
        world.cancel_left(world.orders[0])
    else:
        world.api.change_spec(KEY, cancel=True)
    return Outcome.CANCELLED


@pytest.mark.parametrize(
    "happens",
    [crash, another_operator, the_carrier, a_note, somebody_who_deletes, somebody_who_cancels],
)
def test_whatever_happens_at_any_line_the_order_ends_once_as_it_should(
    happens: Callable[[run.World], Outcome],
) -> None:
    for points in range(MOST_POINTS):
        world, uid = a_labelled_order(points, processes=2)
        is_in_hand = stop_at(world, points)
        expected = happens(world)
        if expected is Outcome.CANCELLED:
            world.disturbed.add(uid)
            # The carrier comes only later.
            for _ in range(60):
                run.settle(world)
                world.api.collect_garbage()
                world.pass_time(1)
        scan_and_deliver(world)
        story = "\n".join([f"{happens.__name__} at point {points}", *world.trace])
        assert world.tables.gates[uid].outcome is expected, story
        if not is_in_hand:
            assert points > 10, "it stops at each line"
            return
    raise AssertionError("it never came to an end")


def test_an_order_that_left_is_told_how_it_ended() -> None:
    world, uid = a_labelled_order(1)
    leave(world)
    assert world.tables.archived[uid][0].phase == "Shipped"
    scan_and_deliver(world)
    row, _ = world.tables.archived[uid]
    assert row.phase == "Delivered"
    assert row.document["status"]["finishedAt"]


def test_an_order_that_was_scanned_and_deleted_is_archived_first() -> None:
    world, uid = a_labelled_order(1)
    the_carrier(world)
    for _ in range(30):
        world.processes[0].begin("track", Kind.SHIPMENT, ("", ""), world.processes[0].parcels.track())
        run.settle(world)
        world.pass_time(1)
    assert world.tables.gates[uid].state is GateState.SEALED
    world.api.mark_deleted(KEY)
    scan_and_deliver(world)
    assert not world.api.objects
    assert uid in world.tables.archived


def test_a_cancel_of_an_order_that_left_and_its_first_scan_never_both_win() -> None:
    outcomes = set()
    for number in range(RACES):
        world, uid = a_labelled_order(number % 20)
        world.rng.seed(number)
        leave(world)
        happenings = [
            lambda world=world, uid=uid: world.cancel_left(uid),
            lambda world=world: the_carrier(world),
        ]
        world.rng.shuffle(happenings)
        for happening in happenings:
            happening()
            world.processes[0].begin("track", Kind.SHIPMENT, ("", ""), world.processes[0].parcels.track())
            for _ in range(world.rng.randrange(40)):
                world.act_once()
        world.disturbed.add(uid)
        scan_and_deliver(world)
        outcome = world.tables.gates[uid].outcome
        is_late = world.tables.shipments[uid].tracking_status is TrackingStatus.DELIVERED
        assert is_late == (outcome is Outcome.DELIVERED), "\n".join(world.trace)
        outcomes.add(outcome)
    assert outcomes == {Outcome.CANCELLED, Outcome.DELIVERED}


@pytest.mark.parametrize("is_scanned", [False, True])
def test_what_a_backup_of_etcd_brings_back_leaves_again_and_is_not_run_again(is_scanned: bool) -> None:
    for number in range(0, 240, 8):
        world = run.World(number)
        world.tables.on_hand["A"] = world.tables.opening["A"] = 5
        world.tables.reserved["A"] = world.tables.moved["A"] = 0
        world.processes = [run.Process(world, "operator-0", run.timedelta())]
        uid = world.place("order", {"A": 1})
        for _ in range(number):
            if not world.act_once():
                world.pass_time(1)
        backup = world.api.snapshot()
        for _ in range(60):
            run.settle(world)
            world.pass_time(1)
        leave(world)
        if is_scanned:
            the_carrier(world)
        history = len(world.tables.history[uid])
        world.spread()
        world.api.restore(backup)
        world.restart(0)
        for _ in range(30):
            run.settle(world)
            world.api.collect_garbage()
            world.pass_time(1)
        story = "\n".join([f"restored from step {number}", *world.trace])
        assert len(world.tables.history[uid]) <= history + 2, story
        scan_and_deliver(world)
        assert world.tables.gates[uid].outcome is Outcome.DELIVERED, story
        assert KEY not in world.api.objects, story


def is_caught(happens: Callable[[run.World], Outcome]) -> bool:
    try:
        test_whatever_happens_at_any_line_the_order_ends_once_as_it_should(happens)
    except AssertionError:
        return True
    return False


def test_it_notices_an_order_that_goes_before_it_is_archived(monkeypatch: pytest.MonkeyPatch) -> None:
    real = Leaving._store

    async def careless(self: Leaving, document: Any, order: Any, gate: Gate, refunds: Any) -> Gate:
        await self._cluster.let_go(Kind.ORDER, order, "orderplane.dev/compensate")
        return await real(self, document, order, gate, refunds)

    monkeypatch.setattr(Leaving, "_store", careless)
    assert is_caught(crash)


def test_it_notices_that_what_is_leaving_is_taken_for_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Gate, "is_leaving", property(lambda _: False))
    assert is_caught(crash)


def test_it_notices_a_delete_that_does_not_mean_cancel(monkeypatch: pytest.MonkeyPatch) -> None:
    real = Cluster.let_go

    async def careless(self: Cluster, *args: Any) -> bool:
        await real(self, *args)
        return True

    monkeypatch.setattr(Cluster, "let_go", careless)
    assert is_caught(somebody_who_deletes)
