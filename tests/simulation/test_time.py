"""Clocks that differ, and operators that stand still: whatever they wake up to, the ledgers know of it."""

from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from functools import cache
from typing import Any

import pytest

from orderplane.controllers.shipment.act import ShipmentReconciler
from orderplane.crds.meta import Kind
from orderplane.ledgers.model.shipments import InMemoryShipmentLedger
from orderplane.ledgers.shipments import ShipmentEntry
from orderplane.ledgers.states import GateState, Outcome, ShipmentState, TrackingStatus

from .world import run
from .world.audited import violations
from .world.invariants import check
from .world.process import Process

SLEEP = 1200.0
"""Seconds: longer than any settle time, deadline or lease."""

SKEW = timedelta(minutes=5)

Meddle = Callable[[run.World, str], None]


def a_world(seed: int, *, processes: int = 2) -> tuple[run.World, str]:
    """One order, and operators whose clocks are minutes apart."""
    world = run.World(seed)
    for sku in ("A",):
        world.tables.on_hand[sku] = world.tables.opening[sku] = 5
        world.tables.reserved[sku] = world.tables.moved[sku] = 0
    world.processes = [Process(world, SKEW * (1 - 2 * number)) for number in range(processes)]
    return world, world.place("order-0", {"A": 1})


def nothing(_: run.World, __: str) -> None:
    """The order goes on."""


def cancel(world: run.World, uid: str) -> None:
    """The customer cancels."""
    key = next(key for key, order in world.api.objects.items() if order["metadata"]["uid"] == uid)
    world.api.change_spec(key, cancel=True)
    world.disturbed.add(uid)


def delete(world: run.World, uid: str) -> None:
    """The customer deletes."""
    key = next(key for key, order in world.api.objects.items() if order["metadata"]["uid"] == uid)
    world.api.mark_deleted(key)
    world.disturbed.add(uid)


def played(
    seed: int, label: str, occurrence: int, meddle: Meddle, *, processes: int = 2, cancel_at: str = ""
) -> run.World:
    """A whole run in which the process that comes to this point stands still there."""
    world, uid = a_world(seed, processes=processes)

    def sleep(process: Process) -> None:
        # Holds may run out meanwhile.
        world.disturbed.add(uid)
        process.sleep(SLEEP)
        meddle(world, uid)

    if cancel_at:
        world.when[cancel_at, 1] = lambda _: cancel(world, uid)
    world.when[label, occurrence] = sleep
    try:
        run.rest(world)
        check(world)
    except AssertionError as broken:
        story = "\n".join(world.trace)
        raise AssertionError(
            f"seed {seed}, {meddle.__name__} at {label} ({occurrence}): {broken}\n{story}"
        ) from broken
    finally:
        for process in world.processes:
            process.crash()
    return world


@cache
def points(cancel_at: str = "") -> tuple[tuple[str, int], ...]:
    """Every point that an order passes: forward, or also back where it is cancelled at one of them."""
    found: Counter[str] = Counter()
    for seed in range(2):
        world, uid = a_world(seed)
        if cancel_at:
            world.when[cancel_at, 1] = lambda _, world=world, uid=uid: cancel(world, uid)  # type: ignore[misc]
        run.rest(world)
        found |= world.points
    return tuple((label, number) for label in sorted(found) for number in range(1, min(found[label], 2) + 1))


CANCEL_AT = ("buy done", "confirm done", "buy", "after InMemoryPaymentLedger.capture")


def test_the_points_are_those_of_every_effect() -> None:
    passed = {label for at in ("", *CANCEL_AT) for label, _ in points(at)}
    assert {
        "buy", "buy done", "void", "void done", "confirm", "confirm done", "refund", "refund done",
        "before InMemoryShipmentLedger.begin_buy", "after InMemoryShipmentLedger.begin_buy",
        "before InMemoryShipmentLedger.record_label", "after InMemoryShipmentLedger.record_label",
        "before InMemoryShipmentLedger.record_void", "after InMemoryPaymentLedger.begin_confirm",
        "before InMemoryPaymentLedger.capture", "create Reservation", "create Payment", "create Shipment",
    } <= passed  # fmt: skip


@pytest.mark.parametrize("meddle", [nothing, cancel, delete])
@pytest.mark.parametrize("processes", [1, 2])
def test_an_operator_stands_still_at_any_point_on_the_way_forward(meddle: Meddle, processes: int) -> None:
    for label, occurrence in points():
        played(occurrence, label, occurrence, meddle, processes=processes)


@pytest.mark.parametrize("cancel_at", CANCEL_AT)
def test_an_operator_stands_still_at_any_point_on_the_way_back(cancel_at: str) -> None:
    for label, occurrence in points(cancel_at):
        played(0, label, occurrence, nothing, cancel_at=cancel_at)


def strays(world: run.World) -> list[ShipmentEntry]:
    return [e for e in world.tables.shipments.values() if e.state is ShipmentState.DISCARDED]


def test_a_label_that_was_bought_after_the_seal_is_known_and_voided() -> None:
    """The process stood still with its request on the way out: later than its look at the clock."""
    found = [world for seed in range(5) for world in (played(seed, "buy", 1, cancel),) if strays(world)]
    assert found
    for world in found:
        (gate,) = world.tables.gates.values()
        assert (gate.state, gate.outcome) == (GateState.SEALED, Outcome.CANCELLED)


def test_it_is_known_too_where_its_answer_is_lost() -> None:
    found = 0
    for seed in range(5):
        world, uid = a_world(seed)

        def sleep(process: Process, world: run.World = world, uid: str = uid) -> None:
            process.sleep(SLEEP)
            cancel(world, uid)

        def die(process: Process, world: run.World = world) -> None:
            world.restart(world.processes.index(process))

        world.when["buy", 1], world.when["buy done", 1] = sleep, die
        run.rest(world)
        check(world)
        found += len(strays(world))
    assert found


def test_a_purchase_that_was_begun_long_ago_is_not_sent() -> None:
    """The look at the clock, just before."""
    world = played(0, "after InMemoryShipmentLedger.begin_buy", 1, cancel)
    assert world.points["buy"] == 0


def test_it_notices_a_purchase_that_is_sent_without_a_look_at_the_clock(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real = ShipmentReconciler.__init__

    def careless(self: ShipmentReconciler, *args: Any, **how: Any) -> None:
        real(self, *args, **how)
        self._send_within = timedelta(days=1)

    monkeypatch.setattr(ShipmentReconciler, "__init__", careless)
    assert is_caught(monkeypatch)


def test_it_notices_a_settle_time_by_the_clock_of_a_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(InMemoryShipmentLedger, "read", _aged_by_a_wrong_clock)
    assert is_caught(monkeypatch)


def is_caught(monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether the simulation notices, where what comes home too late is dropped."""
    monkeypatch.setattr(InMemoryShipmentLedger, "record_label", _dropped_after_the_seal)
    monkeypatch.setattr(InMemoryShipmentLedger, "_look_again", lambda *_: None)
    for label, occurrence in points():
        if "buy" in label:
            for seed in range(5):
                try:
                    played(seed, label, occurrence, cancel)
                except AssertionError:
                    return True
    return False


_record_label = InMemoryShipmentLedger.record_label
_read = InMemoryShipmentLedger.read


async def _dropped_after_the_seal(ledger: Any, merchant: str, uid: str, label: Any, **how: Any) -> Any:
    ledger._tables.gate(uid, GateState.OPEN, GateState.COMPENSATING)
    if ledger._tables.shipments[uid].state is not ShipmentState.INTENDED:
        return ledger._tables.shipments[uid]
    return await _record_label(ledger, merchant, uid, label, **how)


async def _aged_by_a_wrong_clock(ledger: Any, merchant: str, uid: str) -> Any:
    entry = await _read(ledger, merchant, uid)
    if entry is not None and entry.buy_age is not None:
        object.__setattr__(entry, "buy_age", entry.buy_age + SKEW)
    return entry


def handed_over_after_the_end(seed: int) -> tuple[run.World, str]:
    """A label that is bought after the seal, and scanned before anybody knows of it."""
    world, uid = a_world(seed)

    def sleep(process: Process) -> None:
        process.sleep(SLEEP)
        cancel(world, uid)

    def hand_over(_: Process) -> None:
        for shipment_id in world.carrier.by_id:
            world.carrier.scan(shipment_id)

    world.when["buy", 1], world.when["buy done", 1] = sleep, hand_over
    run.rest(world)
    return world, uid


def test_a_parcel_that_travels_for_an_order_that_was_undone_is_named_until_a_person_acts() -> None:
    worlds = (handed_over_after_the_end(seed) for seed in range(10))
    world, uid = next(
        (world, uid) for world, uid in worlds if world.tables.shipments[uid].state is ShipmentState.STRAY
    )
    assert world.tables.shipments[uid].tracking_status is not TrackingStatus.PRE_TRANSIT
    assert {found.invariant for found in violations(world)} == {"no-label", "parcel-travels"}
    failures = {f.reason for p in world.processes for f in p.failures.values() if f.is_stalled}
    assert failures == {"StrayParcel"}
    assert InMemoryShipmentLedger(world.tables).settle_void_by_hand(uid) is not None
    run.rest(world)
    assert world.tables.shipments[uid].state is ShipmentState.DISCARDED


def test_what_a_stopped_operator_had_in_its_queue_is_told_by_the_next() -> None:
    """Reconciled to the end, not one status written: then it is gone for good."""
    for seed in range(10):
        world, uid = a_world(seed, processes=1)
        (first,) = world.processes
        for _ in range(run.BUSY_STEPS):
            first.status_writes.clear()
            if uid in world.tables.shipped:
                break
            if not world.act_once():
                world.pass_time(1)
        assert uid in world.tables.shipped
        order = next(d for (kind, _, _), d in world.api.objects.items() if kind is Kind.ORDER)
        assert order["status"]["phase"] == "Pending"
        world.restart(0)
        for _ in range(20):
            run.settle(world)
            world.pass_time(1)
        shown = {kind: d["status"]["phase"] for (kind, _, _), d in world.api.objects.items()}
        assert shown == {
            Kind.ORDER: "Shipped", Kind.RESERVATION: "Committed", Kind.PAYMENT: "Captured",
            Kind.SHIPMENT: "Scheduled",
        }  # fmt: skip
        for process in world.processes:
            process.crash()
