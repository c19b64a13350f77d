"""Thousands of interleavings of everything that can happen, each from one number.

`SIMULATION_SEEDS=20000 scripts/test tests/simulation` looks at more of them, `SIMULATION_SEED=1234 ...` plays
one again, exactly as it was. A failure prints its seed and the end of its story.
"""

import os
from typing import Any

import pytest
from hypothesis import given, seed, settings
from hypothesis import strategies as st

from orderplane.controllers.order import act as order_act
from orderplane.controllers.order.plan import Create, Step
from orderplane.controllers.payment import act as payment_act
from orderplane.controllers.payment.plan import CheckIntent, CreateIntent
from orderplane.controllers.payment.plan import Step as PaymentStep
from orderplane.controllers.payment.ports import Returns
from orderplane.controllers.shipment import plan as shipment_plan
from orderplane.controllers.steps import ReleaseFinalizer
from orderplane.crds.meta import Kind
from orderplane.ledgers.gate import Gate
from orderplane.ledgers.model.shipments import InMemoryShipmentLedger
from orderplane.ledgers.states import GateState

from .world import run
from .world.invariants import check

ONE = os.environ.get("SIMULATION_SEED")
SEEDS = [int(ONE)] if ONE else range(int(os.environ.get("SIMULATION_SEEDS", "1500")))


def judge(number: int, *, always_late: str = "") -> None:
    """Play one seed; a broken promise fails with its story."""
    world = run.World(number)
    world.manners.always_late = always_late
    try:
        run.play(world)
        check(world)
    except AssertionError as broken:
        story = "\n".join(world.trace)
        raise AssertionError(f"seed {number}: {broken}\n{story}") from broken


def test_every_order_ends_and_every_promise_is_kept() -> None:
    for number in SEEDS:
        judge(number)


@settings(max_examples=500, deadline=None, database=None)
@seed(20260101)
@given(st.integers(min_value=2**20, max_value=2**63))
def test_so_it_is_for_seeds_that_nobody_chose(number: int) -> None:
    judge(number)


def test_the_same_seed_tells_the_same_story() -> None:
    first, again = run.World(42), run.World(42)
    run.play(first)
    run.play(again)
    assert list(first.trace) == list(again.trace)
    assert first.api.events == again.api.events


def is_caught(within: int, *, always_late: str = "") -> bool:
    """Whether the simulation notices, within so many seeds."""
    for number in range(within):
        try:
            judge(number, always_late=always_late)
        except AssertionError:
            return True
    return False


def test_it_notices_children_made_while_undoing(monkeypatch: pytest.MonkeyPatch) -> None:
    real = order_act.plan

    def careless(order: Any, gate: Gate | None, children: Any, refunds: Any) -> Step:
        if (
            gate
            and gate.state is GateState.COMPENSATING
            and children.payment is None
            and gate.payment is None
        ):
            return Create(Kind.PAYMENT)
        return real(order, gate, children, refunds)

    monkeypatch.setattr(order_act, "plan", careless)
    assert is_caught(300)


def test_it_notices_a_confirm_that_is_repeated_without_looking(monkeypatch: pytest.MonkeyPatch) -> None:
    real = payment_act.plan

    def careless(payment: Any, gate: Any, entry: Any, **facts: Any) -> PaymentStep:
        match step := real(payment, gate, entry, **facts):
            case CheckIntent():
                return CreateIntent(entry, entry.confirm_attempt + 1, is_key_spent=False)
        return step

    monkeypatch.setattr(payment_act, "plan", careless)
    assert is_caught(300)


def test_it_notices_a_finalizer_that_goes_by_the_deletion(monkeypatch: pytest.MonkeyPatch) -> None:
    real = payment_act.plan

    def careless(payment: Any, gate: Any, entry: Any, **facts: Any) -> PaymentStep:
        if payment is not None and payment.is_deleting:
            return ReleaseFinalizer()
        return real(payment, gate, entry, **facts)

    monkeypatch.setattr(payment_act, "plan", careless)
    monkeypatch.setattr(order_act.OrderReconciler, "_reconcile_vanished", _nothing)
    assert is_caught(300)


def test_it_notices_money_given_back_while_the_label_lives(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Gate, "is_shipment_settled", property(lambda _: True))
    assert is_caught(600)


def test_it_notices_a_label_forgotten_too_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    real = shipment_plan.compensate

    def careless(entry: Any, *, settle: Any, **facts: Any) -> Any:
        return real(entry, settle=settle * 0, **facts)

    monkeypatch.setattr(shipment_plan, "compensate", careless)
    # Else the carrier is asked once more, and the label is voided.
    monkeypatch.setattr(InMemoryShipmentLedger, "_look_again", lambda *_: None)
    assert is_caught(1000, always_late="buy")


def test_it_notices_a_refund_without_a_look_at_the_providers_books(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real = payment_act.plan

    def careless(payment: Any, gate: Any, entry: Any, **facts: Any) -> PaymentStep:
        return real(payment, gate, entry, **{**facts, "returns": Returns()})

    monkeypatch.setattr(payment_act, "plan", careless)
    assert is_caught(300)


async def _nothing(*_: Any) -> None:
    return None
