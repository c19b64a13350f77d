"""Two operators that work on the same order, as after a freeze: no call of one is sent while one of the
other's may still be on its way."""

import contextlib
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest

from orderplane.controllers.payment import act as payment_act
from orderplane.controllers.shipment import act as shipment_act
from orderplane.ledgers.model.payments import InMemoryPaymentLedger
from orderplane.ledgers.model.shipments import InMemoryShipmentLedger
from orderplane.ledgers.shipments import ShipmentEntry
from orderplane.ledgers.states import ShipmentState

from .world import run
from .world.invariants import check
from .world.providers import SETTLE

SEEDS = range(200)


@pytest.fixture
def overlaps(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The calls that one operator has begun while one of another operator's could still land."""
    ledger, name = request.param
    begin: Callable[..., Any] = getattr(ledger, name)
    found: list[str] = []
    begun: dict[tuple[int, str], tuple[str, datetime]] = {}

    async def watched(self: Any, merchant: str, uid: str, *args: Any, operator: str, **more: Any) -> Any:
        entry = await begin(self, merchant, uid, *args, operator=operator, **more)
        key, now = (id(self._tables), uid), self._tables.now()
        by, at = begun.get(key, (operator, now))
        if by != operator and now - at < SETTLE:
            found.append(f"{operator} at {now}, {by} at {at}")
        begun[key] = operator, now
        return entry

    monkeypatch.setattr(ledger, name, watched)
    return found


def played(seed: int) -> run.World:
    world = run.World(seed)
    run.play(world)
    check(world)
    return world


@pytest.mark.parametrize(
    "overlaps",
    [
        pytest.param((InMemoryPaymentLedger, "begin_confirm"), id="confirm"),
        pytest.param((InMemoryShipmentLedger, "begin_buy"), id="buy"),
    ],
    indirect=True,
)
def test_what_another_operator_has_begun_is_begun_again_only_when_it_cannot_land(overlaps: list[str]) -> None:
    for seed in SEEDS:
        played(seed)
        assert not overlaps, f"seed {seed}"


@pytest.mark.parametrize(
    ("overlaps", "act"),
    [
        pytest.param((InMemoryPaymentLedger, "begin_confirm"), payment_act, id="confirm"),
        pytest.param((InMemoryShipmentLedger, "begin_buy"), shipment_act, id="buy"),
    ],
    indirect=["overlaps"],
)
def test_it_notices_operators_that_do_not_wait(
    overlaps: list[str], act: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = act.plan

    def careless(child: Any, gate: Any, entry: Any, *, settle: timedelta, **more: Any) -> Any:
        return plan(child, gate, entry, settle=timedelta(), **more)

    monkeypatch.setattr(act, "plan", careless)
    for seed in SEEDS:
        with contextlib.suppress(AssertionError):
            played(seed)
        if overlaps:
            return
    pytest.fail("no call of two operators at once")


def test_a_refusal_does_not_end_a_shipment_whose_older_purchase_may_land(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of a purchase without an answer and one that was refused after it, the first may have been made."""
    late: list[ShipmentEntry] = []
    real = InMemoryShipmentLedger.refuse

    async def watched(self: Any, merchant: str, uid: str, *args: Any, **more: Any) -> Any:
        begun = self._tables.buys.get(uid)
        entry = await real(self, merchant, uid, *args, **more)
        is_young = begun is not None and self._tables.now() - begun < SETTLE
        if entry.state is ShipmentState.REFUSED and entry.buy_attempt > 1 and is_young:
            late.append(entry)
        return entry

    monkeypatch.setattr(InMemoryShipmentLedger, "refuse", watched)
    for seed in SEEDS:
        played(seed)
    assert not late
