"""etcd is restored from a backup, PostgreSQL is not: what becomes of the orders (docs/backup.md)."""

import pytest

from orderplane.crds.meta import Kind
from orderplane.ledgers.states import GateState, Outcome

from .world import run
from .world.api_server import Backup
from .world.invariants import check

STEPS = 240
"""More than two orders need from the first look to the scan of their parcels."""

LOST_STEPS = (1, 20, 60, 240)
"""What was done between the backup and its restore."""


def a_world(number: int) -> run.World:
    world = run.World(number)
    world.tables.on_hand["A"] = world.tables.opening["A"] = 5
    world.tables.reserved["A"] = world.tables.moved["A"] = 0
    world.processes = [run.Process(world, "operator-0", run.timedelta())]
    return world


def work(world: run.World, steps: int) -> None:
    for _ in range(steps):
        if not world.act_once():
            world.pass_time(1)


def restore(world: run.World, backup: Backup) -> None:
    """Go back, and come to rest. An operator ends when the version went back, and is started again."""
    world.note("-- restored")
    world.spread()
    world.api.restore(backup)
    world.restart(0)
    try:
        run.rest(world)
    finally:
        for process in world.processes:
            process.crash()


@pytest.mark.parametrize("lost", LOST_STEPS)
def test_no_money_and_no_goods_are_lost_whenever_the_backup_was_made(lost: int) -> None:
    for number in range(0, STEPS, 12):
        world = a_world(number)
        world.place("before", {"A": 1})
        work(world, number)
        backup = world.api.snapshot()
        after = world.place("after", {"A": 2})
        work(world, lost)
        # Orders that were under way may be compensated; whether rightly is what the invariants say.
        world.disturbed.update(world.orders)
        restore(world, backup)
        check(world)
        gate = world.tables.gates.get(after)
        # It is gone from the API server. What the ledgers know of it is ended.
        assert gate is None or gate.state is GateState.SEALED, "\n".join(world.trace)


def test_an_order_that_has_ended_keeps_its_end() -> None:
    """Its Order comes back as it was in the backup, and its status is written anew."""
    for number in range(0, STEPS, 16):
        world = a_world(number)
        uid = world.place("before", {"A": 1})
        work(world, number)
        backup = world.api.snapshot()
        run.rest(world)
        assert world.tables.gates[uid].outcome is Outcome.DELIVERED
        restore(world, backup)
        check(world)
        assert world.tables.gates[uid].outcome is Outcome.DELIVERED
        order = world.api.objects[Kind.ORDER, run.NAMESPACE, "before"]
        assert order["status"]["phase"] == "Delivered", "\n".join(world.trace)
