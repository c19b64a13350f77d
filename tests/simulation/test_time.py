"""Clocks that differ, and operators that stand still: whatever they wake up to, the ledgers know of it."""

import inspect
import re
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from orderplane.controllers.shipment.act import ShipmentReconciler
from orderplane.crds.meta import RETRY_ANNOTATION, Kind
from orderplane.crds.order import child_name
from orderplane.ledgers.model.archive import InMemoryOrderArchive
from orderplane.ledgers.model.gate import InMemoryGateLedger
from orderplane.ledgers.model.payments import InMemoryPaymentLedger
from orderplane.ledgers.model.refunds import InMemoryRefundLedger
from orderplane.ledgers.model.shipments import InMemoryShipmentLedger
from orderplane.ledgers.model.stock import InMemoryStockLedger
from orderplane.ledgers.shipments import ShipmentEntry
from orderplane.ledgers.states import (
    GateState,
    Outcome,
    RefundState,
    ShipmentState,
    TrackingStatus,
    VoidState,
)

from .world import providers, run
from .world.audited import violations
from .world.invariants import check
from .world.process import Process

SLEEP = 1200.0
"""Seconds: longer than any settle time, deadline or lease."""

SKEW = timedelta(minutes=5)

Meddle = Callable[[run.World, str], None]
"""What somebody does to a world and its order."""


def a_world(seed: int, *, processes: int = 2) -> tuple[run.World, str]:
    """One order, and operators whose clocks are minutes apart."""
    world = run.World(seed)
    for sku in ("A",):
        world.tables.on_hand[sku] = world.tables.opening[sku] = 5
        world.tables.reserved[sku] = world.tables.moved[sku] = 0
    world.processes = [
        Process(world, f"operator-{number}", SKEW * (1 - 2 * number)) for number in range(processes)
    ]
    return world, world.place("order-0", {"A": 1})


def nothing(_: run.World, __: str) -> None:
    """The order goes on."""


def key_of(world: run.World, uid: str) -> tuple[Kind, str, str]:
    return next(key for key, order in world.api.objects.items() if order["metadata"]["uid"] == uid)


def cancel(world: run.World, uid: str) -> None:
    """The customer cancels."""
    world.api.change_spec(key_of(world, uid), cancel=True)
    world.disturbed.add(uid)


def delete(world: run.World, uid: str) -> None:
    """The customer deletes."""
    world.api.mark_deleted(key_of(world, uid))
    world.disturbed.add(uid)


def at(label: str, *meddles: Meddle) -> Meddle:
    """Do this when the first task comes to this point."""

    def arrange(world: run.World, uid: str) -> None:
        def happen(_: Process) -> None:
            for meddle in meddles:
                meddle(world, uid)

        world.when[label, 1] = happen

    return arrange


def decline(world: run.World, uid: str) -> None:
    """The bank declines."""
    world.payment_provider.declined.add(uid)


def refuse_the_address(world: run.World, uid: str) -> None:
    """The carrier does not deliver there."""
    world.carrier.refused_at_create.add(uid)


def refuse_the_label(world: run.World, uid: str) -> None:
    """The carrier sells no label."""
    world.carrier.refused_at_buy.add(uid)


def refund_slowly(world: run.World, uid: str) -> None:
    """A refund is pending at first."""
    world.payment_provider.pending_refunds.add(uid)


def refund_elsewhere(world: run.World, uid: str) -> None:
    """The merchant gives a part back in the provider's dashboard."""
    (intent,) = world.payment_provider.intents_by_id
    world.payment_provider.refund_elsewhere(intent, 40)


def refuse_the_refund(world: run.World, uid: str) -> None:
    """The provider refuses to refund, and does not say why."""
    world.payment_provider.refused_refunds.add(uid)


def refund_all_elsewhere(world: run.World, uid: str) -> None:
    """A person sees that the refund has failed, and pays all of it back in the provider's dashboard."""
    (refund,) = world.tables.payments[uid].refunds
    assert refund.state is RefundState.FAILED
    (intent,) = world.payment_provider.intents_by_id
    world.payment_provider.refund_elsewhere(intent, refund.amount)


def refund_in_parts(world: run.World, uid: str) -> None:
    """The merchant wants a part of the money to go back, and then the piece with the rest."""
    world.api.change_spec(key_of(world, uid), refunds=[
        {"name": "a-part", "reason": "Goodwill", "amount": 30},
        {"name": "the-rest", "reason": "Returned", "restock": True},
        {"name": "too-much", "reason": "Goodwill", "amount": 1},
    ])  # fmt: skip


def pay_by_hand(world: run.World, uid: str) -> None:
    """A person pays back what the provider has refused to."""
    InMemoryPaymentLedger(world.tables).settle_refund_by_hand(uid)


def have_it_tried_again(world: run.World, uid: str) -> None:
    """The cause is corrected at the provider, and somebody asks for another try."""
    world.payment_provider.refused_refunds.discard(uid)
    world.api.annotate(key_of(world, uid), RETRY_ANNOTATION, "again")


def keep_the_parcel(world: run.World, uid: str) -> None:
    """The carrier does not take the label back, and nobody hands the parcel over."""
    world.carrier.voids[uid] = VoidState.REJECTED
    world.kept.add(uid)


def tear_off(world: run.World, uid: str) -> None:
    """Somebody deletes the order, and takes its finalizer off."""
    key = key_of(world, uid)
    world.api.mark_deleted(key)
    world.api.strip_finalizers(key)
    world.disturbed.add(uid)
    world.stripped.add(uid)


def remove_after_its_end(world: run.World, uid: str) -> None:
    """The order is deleted a while after it has finished."""
    world.api.change_spec(key_of(world, uid), ttlSecondsAfterFinished=1)


def block(world: run.World, uid: str) -> None:
    """Somebody else's Payment has the name of the order's own: only a person can help."""
    name = key_of(world, uid)[2]
    spec = {
        "orderRef": {"name": name, "uid": uid}, "amount": 1, "currency": "EUR", "method": "pm_other",
    }  # fmt: skip
    body = {"metadata": {"name": child_name(name, uid), "labels": {}}, "spec": spec}
    world.api.make(Kind.PAYMENT, run.NAMESPACE, body)
    world.disturbed.add(uid)


def stand_still(world: run.World, uid: str) -> None:
    """All operators stand still for longer than the stock is held."""
    for process in world.processes:
        process.sleep(SLEEP)


def lose_answers(*labels: str) -> Meddle:
    """The first four answers to each of these calls are lost: two of each operator."""

    def arrange(world: run.World, uid: str) -> None:
        world.manners.unanswered = dict.fromkeys(labels, 4)

    return arrange


def played(
    seed: int,
    label: str,
    occurrence: int,
    meddle: Meddle,
    *,
    processes: int = 2,
    arrange: Sequence[Meddle] = (),
) -> run.World:
    """A whole run in which the process that comes to this point stands still there."""
    world, uid = a_world(seed, processes=processes)
    for each in arrange:
        each(world, uid)

    def sleep(process: Process) -> None:
        # Holds may run out meanwhile.
        world.disturbed.add(uid)
        process.sleep(SLEEP)
        meddle(world, uid)

    planned = world.when.get((label, occurrence))

    def sleep_after_that(process: Process) -> None:
        if planned is not None:
            planned(process)
        sleep(process)

    world.when[label, occurrence] = sleep_after_that
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


BACK: dict[str, tuple[Meddle, ...]] = {
    "cancelled before the label is bought": (at("buy", cancel),),
    "cancelled after the label was bought": (at("buy done", cancel),),
    "cancelled after the charge": (at("confirm done", cancel),),
    "cancelled after the charge was recorded": (at("after InMemoryPaymentLedger.capture", cancel),),
}
OTHERWISE: dict[str, tuple[Meddle, ...]] = {
    "cancelled before the charge": (at("before InMemoryPaymentLedger.begin_confirm", cancel),),
    "cancelled before there is an intent": (at("create intent", cancel),),
    "declined": (decline,),
    "no carrier for the address": (refuse_the_address,),
    "no label": (refuse_the_label,),
    "a refund that takes its time": (refund_slowly, at("buy done", cancel)),
    "refunded elsewhere": (at("buy done", refund_elsewhere, cancel),),
    "refunded elsewhere at the same moment": (at("buy done", cancel), at("refund", refund_elsewhere)),
    "a refund that is refused": (
        refuse_the_refund, at("buy done", cancel),
        at("after InMemoryPaymentLedger.record_refund", refund_all_elsewhere),
    ),
    "a void that is refused": (keep_the_parcel, at("buy done", cancel)),
    "answers to a charge are lost": (lose_answers("create intent", "confirm"),),
    "answers to a purchase are lost": (lose_answers("create shipment", "buy"),),
    "answers on the way back are lost": (
        lose_answers("void", "refund", "cancel intent"), at("buy done", cancel),
    ),
    "deleted": (at("buy done", delete),),
    "torn off": (at("buy done", tear_off),),
    "removed after its end": (remove_after_its_end,),
    "refunded after the sale": (refund_in_parts,),
    "refunded after the sale, slowly, and elsewhere too": (
        refund_in_parts, refund_slowly, at("refund", refund_elsewhere),
    ),
    "a refund after the sale that is refused": (
        refund_in_parts, refuse_the_refund,
        at("after InMemoryPaymentLedger.record_refund", pay_by_hand),
    ),
    "a refund after the sale that is tried again": (
        refund_in_parts, refuse_the_refund,
        at("after InMemoryPaymentLedger.record_refund", have_it_tried_again),
    ),
    "answers to refunds after the sale are lost": (refund_in_parts, lose_answers("refund", "returns")),
    "refunded and deleted": (refund_in_parts, at("after InMemoryRefundLedger.request", delete)),
    "its hold runs out while nobody works": (at("after InMemoryStockLedger.hold", stand_still),),
    "its hold runs out while a person has to act": (block,),
}  # fmt: skip
SCENARIOS = {"forward": (), **BACK, **OTHERWISE}


@cache
def points(scenario: str = "forward") -> tuple[tuple[str, int], ...]:
    """Every point that an order passes in a scenario, the first two times."""
    found: Counter[str] = Counter()
    for seed in range(2):
        world, uid = a_world(seed)
        for each in SCENARIOS[scenario]:
            each(world, uid)
        run.rest(world)
        found |= world.points
    return tuple((label, number) for label in sorted(found) for number in range(1, min(found[label], 2) + 1))


def is_effect(label: str) -> bool:
    """Whether something is changed here, or a provider is asked.

    Before a read of a ledger is after the effect before it; statuses and events are those of every scenario.
    """
    return not re.match(r"put |event|get [A-Z]", label) and label not in READS


def methods(decorator: str) -> set[str]:
    """Of the ledgers, with this decorator."""
    ledgers = (
        InMemoryGateLedger,
        InMemoryStockLedger,
        InMemoryPaymentLedger,
        InMemoryShipmentLedger,
        InMemoryRefundLedger,
        InMemoryOrderArchive,
    )
    return {
        f"{ledger.__name__}.{name}"
        for ledger in ledgers
        for name in re.findall(rf"@{decorator}\n +def (\w+)", inspect.getsource(ledger))
    }


READS = {f"before {query}" for query in methods("query")}


def every_point() -> set[str]:
    """All that there are: by the methods of the ledgers, and by the calls of the providers."""
    found = READS | {f"{when} {name}" for name in methods("transaction") for when in ("before", "after")}
    calls = re.findall(r'_manners\.call\(\s*"([a-z ]+)"', Path(providers.__file__).read_text())
    found |= {label for call in calls for label in (call, f"{call} done")}
    for kind in Kind:
        found |= {f"{verb} {kind}" for verb in (
            "create", "created", "get", "patch", "patched", "delete", "deleted",
        )} | {f"put {kind} status", f"put {kind} status done"}  # fmt: skip
    return found | {"event"}


def test_the_scenarios_pass_every_point() -> None:
    passed = {label for scenario in SCENARIOS for label, _ in points(scenario)}
    never = {
        # The gateway and kubectl create orders.
        "create Order", "created Order",
        # Nothing is collected in the model.
        *(label for label in every_point() if "pickup" in label),
        # Time passes in steps here, in which the model looks by itself.
        "before InMemoryOrderArchive.outdated_keys",
    }  # fmt: skip
    assert passed == every_point() - never


@pytest.mark.parametrize("meddle", [nothing, cancel, delete])
@pytest.mark.parametrize("processes", [1, 2])
def test_an_operator_stands_still_at_any_point_on_the_way_forward(meddle: Meddle, processes: int) -> None:
    for label, occurrence in points():
        played(occurrence, label, occurrence, meddle, processes=processes)


@pytest.mark.parametrize("scenario", BACK)
def test_an_operator_stands_still_at_any_point_on_the_way_back(scenario: str) -> None:
    for label, occurrence in points(scenario):
        played(0, label, occurrence, nothing, arrange=SCENARIOS[scenario])


@pytest.mark.parametrize("scenario", OTHERWISE)
def test_an_operator_stands_still_at_any_effect_of_whatever_else_can_happen(scenario: str) -> None:
    for label, occurrence in points(scenario):
        if is_effect(label):
            played(0, label, occurrence, nothing, arrange=SCENARIOS[scenario])


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
