"""Nobody is there for twenty minutes, or something that we need is not: no order fails because of us."""

from collections.abc import Callable, Coroutine
from datetime import timedelta
from typing import Any

import pytest

from orderplane.crds.api_errors import Unavailable
from orderplane.crds.meta import Kind
from orderplane.crds.order import child_name
from orderplane.ledgers.states import Outcome, ReservationState

from .world import run
from .world.invariants import check

SLEEP_SECONDS = 1200.0
STEPS = 240
"""More than two orders need from the first look to the scan of their parcels."""


def a_world(number: int, processes: int = 1) -> run.World:
    world = run.World(number)
    world.tables.on_hand["A"] = world.tables.opening["A"] = 5
    world.tables.reserved["A"] = world.tables.moved["A"] = 0
    world.processes = [
        run.Process(world, f"operator-{index}", timedelta(minutes=3 * index)) for index in range(processes)
    ]
    return world


def work(world: run.World, steps: int) -> None:
    """Let the operators do so many things; time goes on where nothing is to be done."""
    for _ in range(steps):
        if not world.act_once():
            world.pass_time(1)


def come_to_rest(world: run.World) -> None:
    try:
        run.rest(world)
    finally:
        for process in world.processes:
            process.crash()


@pytest.mark.parametrize("processes", [1, 2])
def test_operators_that_sleep_at_any_moment_fail_no_order(processes: int) -> None:
    for number in range(0, STEPS, processes):
        world = a_world(number, processes)
        uids = [world.place("first", {"A": 1}), world.place("second", {"A": 2})]
        work(world, number)
        world.note("-- stopped")
        world.pass_time(SLEEP_SECONDS)
        world.note("-- continued")
        come_to_rest(world)
        outcomes = {world.tables.gates[uid].outcome for uid in uids}
        assert outcomes == {Outcome.DELIVERED}, "\n".join([f"asleep after {number} steps", *world.trace])
        check(world)


def test_operators_that_sleep_again_and_again_fail_no_order() -> None:
    for number in range(40):
        world = a_world(number)
        uid = world.place("only", {"A": 1})
        for _ in range(12):
            work(world, 7)
            world.pass_time(SLEEP_SECONDS)
        come_to_rest(world)
        assert world.tables.gates[uid].outcome is Outcome.DELIVERED, "\n".join(world.trace)
        check(world)


def test_an_api_server_that_is_away_for_twenty_minutes_fails_no_order(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for number in range(20):
        world = a_world(number)
        real, until = world.api.create, world.monotonic() + SLEEP_SECONDS

        async def create(
            kind: Kind,
            namespace: str,
            body: Any,
            real: Callable[..., Coroutine[Any, Any, Any]] = real,
            until: float = until,
            world: run.World = world,
        ) -> Any:
            if kind is Kind.PAYMENT and world.monotonic() < until:
                raise Unavailable(0, "NoAnswer", "it is away")
            return await real(kind, namespace, body)

        monkeypatch.setattr(world.api, "create", create)
        uid = world.place("only", {"A": 1})
        was_stalled = False
        while world.monotonic() < until:
            run.settle(world)
            world.pass_time(10)
            shown = next(d for (kind, _, _), d in world.api.objects.items() if kind is Kind.ORDER)
            was_stalled |= any(each["type"] == "Stalled" for each in shown["status"].get("conditions", ()))
        assert was_stalled, "a quarter of an hour of trying is shown"
        come_to_rest(world)
        assert world.tables.gates[uid].outcome is Outcome.DELIVERED, "\n".join(world.trace)
        check(world)


def test_the_hold_of_an_order_that_only_a_person_can_help_ends() -> None:
    world = a_world(7)
    uid = world.place("only", {"A": 1})
    world.disturbed.add(uid)
    foreign = {"metadata": {"name": child_name("only", uid), "labels": {}}, "spec": {
        "orderRef": {"name": "only", "uid": uid}, "amount": 1, "currency": "EUR", "method": "pm_other",
    }}  # fmt: skip
    world.api.make(Kind.PAYMENT, run.NAMESPACE, foreign)
    come_to_rest(world)
    gate = world.tables.gates[uid]
    assert (gate.outcome, gate.reason) == (Outcome.FAILED, "ReservationExpired")
    assert world.tables.reservations[uid].state is ReservationState.EXPIRED
    check(world)
