"""Whoever deletes an order together with its children waits no longer than who deletes the order alone.

Nothing is lost here and nothing fails: each change wakes whoever waits for it, so that neither the resync nor
a long timer is needed.
"""

from collections.abc import Callable

import pytest

from orderplane.crds.meta import Kind
from orderplane.ledgers.states import GateState

from .world import run

SECONDS = 1.0
"""Less than any timer of a step whose result a watch event brings: the event alone has to do."""

SEEDS = 200


def all_at_once(world: run.World) -> None:
    """`kubectl delete orders,reservations,payments,shipments --all`: one after the other, in any order."""
    keys = list(world.api.objects)
    world.rng.shuffle(keys)
    for key in keys:
        if key in world.api.objects:
            world.api.mark_deleted(key)
        for _ in range(world.rng.randrange(4)):
            world.act_once()


def in_the_foreground(world: run.World) -> None:
    """The collector deletes the children in the foreground, too: it adds its finalizer and takes it off."""
    for kind in (Kind.ORDER, Kind.SHIPMENT, Kind.PAYMENT, Kind.RESERVATION):
        for key in [key for key in world.api.objects if key[0] is kind]:
            world.api.delete_in_foreground(key)
            for _ in range(world.rng.randrange(4)):
                world.act_once()


def the_namespace(world: run.World) -> None:
    """Its controller deletes kind by kind."""
    world.api.is_terminating = True
    all_at_once(world)


@pytest.mark.parametrize("delete", [all_at_once, in_the_foreground, the_namespace])
@pytest.mark.parametrize("is_scanned", [False, True])
def test_deleting_an_order_with_its_children_needs_no_resync(
    delete: Callable[[run.World], None], is_scanned: bool
) -> None:
    for number in range(SEEDS):
        world = run.World(number)
        world.tables.on_hand["A"], world.tables.opening["A"] = 5, 5
        world.tables.reserved["A"] = world.tables.moved["A"] = 0
        world.processes.append(run.Process(world, "operator-0", run.timedelta()))
        uid = world.place("order", {"A": 1})
        try:
            for _ in range(world.rng.randrange(150)):
                world.act_once()
            if is_scanned:
                for shipment_id in world.carrier.by_id:
                    world.scan(shipment_id)
            delete(world)
            begun = world.monotonic()
            while world.api.objects and world.monotonic() - begun < SECONDS:
                run.settle(world)
                world.api.collect_garbage()
                world.pass_time(0.25)
            assert not world.api.objects, "\n".join([f"seed {number}: it still waits", *world.trace])
            gate = world.tables.gates.get(uid)
            assert gate is None or gate.state is GateState.SEALED
        finally:
            for process in world.processes:
                process.crash()
