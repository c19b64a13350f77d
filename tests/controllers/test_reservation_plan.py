"""What a Reservation's controller does next."""

import pytest

from orderplane.controllers.reservation.act import is_stuck
from orderplane.controllers.reservation.plan import (
    RETAIN,
    DeleteUnused,
    Expire,
    Extend,
    Hold,
    ReleaseStock,
    Step,
    plan,
)
from orderplane.controllers.steps import CompensateOrder, DeleteLeftover, ReleaseFinalizer, Wait
from orderplane.crds.meta import Kind
from orderplane.crds.reasons import Reason
from orderplane.crds.reservation import Reservation
from orderplane.ledgers.gate import Gate
from orderplane.ledgers.states import GateState, Outcome, ReservationState, ShipmentState
from orderplane.ledgers.stock import ReservationEntry

from .builders import NOW, a_child, a_gate, a_reservation_entry, an_order

COMPENSATING, SEALED = GateState.COMPENSATING, GateState.SEALED
UNDONE = a_gate(SEALED, outcome=Outcome.CANCELLED)


def without_order(child: Reservation) -> Reservation:
    return child.model_copy(update={"spec": child.spec.model_copy(update={"order_ref": None})})


CHILD: Reservation = a_child(Kind.RESERVATION)
ALONE = without_order(CHILD)


@pytest.mark.parametrize(
    ("why", "gate", "entry", "deleting", "expect"),
    [
        ("the order is not open yet", None, None, False, Wait()),
        ("open: keep the stock", a_gate(), None, False, Hold(CHILD)),
        ("kept: wait for its time", a_gate(), a_reservation_entry(ReservationState.HELD), False, Wait(60)),
        (
            "its time is over, and nobody has charged: nobody was there",
            a_gate(),
            a_reservation_entry(ReservationState.HELD, expired=True),
            False,
            Extend(),
        ),
        (
            "pinned by a payment: it cannot expire",
            a_gate(),
            a_reservation_entry(ReservationState.PINNED, expired=True),
            False,
            Wait(),
        ),
        (
            "somebody deleted it",
            a_gate(),
            a_reservation_entry(ReservationState.HELD),
            True,
            CompensateOrder(),
        ),
        (
            "a label may be alive",
            a_gate(COMPENSATING, shipment=ShipmentState.INTENDED),
            a_reservation_entry(ReservationState.PINNED),
            True,
            Wait(),
        ),
        (
            "compensate",
            a_gate(COMPENSATING),
            a_reservation_entry(ReservationState.PINNED),
            False,
            ReleaseStock(),
        ),
        (
            "compensated",
            a_gate(COMPENSATING),
            a_reservation_entry(ReservationState.RELEASED),
            True,
            ReleaseFinalizer(),
        ),
        ("over", a_gate(SEALED), a_reservation_entry(ReservationState.COMMITTED), True, ReleaseFinalizer()),
        (
            "over, and nobody deletes it",
            a_gate(SEALED),
            a_reservation_entry(ReservationState.COMMITTED),
            False,
            Wait(),
        ),
        ("undone: it was made after the seal", UNDONE, None, False, DeleteLeftover()),
        ("undone, and it is going", UNDONE, None, True, ReleaseFinalizer()),
    ],
)
def test_the_next_step(
    why: str, gate: Gate | None, entry: ReservationEntry | None, deleting: bool, expect: Step
) -> None:
    child = a_child(Kind.RESERVATION, deleting=deleting)
    assert plan(child, gate, entry, NOW) == expect, why


@pytest.mark.parametrize(
    ("why", "entry", "deleting", "expect"),
    [
        ("keep the stock", None, False, Hold(ALONE)),
        ("kept: wait for its time", a_reservation_entry(ReservationState.HELD), False, Wait(60)),
        ("its time is over", a_reservation_entry(ReservationState.HELD, expired=True), False, Expire()),
        ("not needed any more", a_reservation_entry(ReservationState.HELD), True, ReleaseStock()),
        ("given back", a_reservation_entry(ReservationState.RELEASED), True, ReleaseFinalizer()),
        ("deleted before it was kept", None, True, ReleaseFinalizer()),
        (
            "there was too little: to be looked at",
            a_reservation_entry(ReservationState.REJECTED),
            False,
            Wait(3600),
        ),
        (
            "lost: to be looked at until its time",
            a_reservation_entry(ReservationState.LOST),
            False,
            Wait(3660),
        ),
        (
            "expired a moment ago: to be looked at",
            a_reservation_entry(ReservationState.EXPIRED, expired=True),
            False,
            Wait(3599),
        ),
        (
            "expired long ago",
            a_reservation_entry(ReservationState.EXPIRED, expired=True, ago=RETAIN),
            False,
            DeleteUnused(ALONE),
        ),
        (
            "lost, and its time is long over",
            a_reservation_entry(ReservationState.LOST, expired=True, ago=RETAIN),
            False,
            DeleteUnused(ALONE),
        ),
    ],
)
def test_a_reservation_that_stands_alone(
    why: str, entry: ReservationEntry | None, deleting: bool, expect: Step
) -> None:
    child = a_child(Kind.RESERVATION, deleting=deleting)
    alone = without_order(child)
    assert plan(alone, None, entry, NOW) == expect, why


@pytest.mark.parametrize(
    ("condition", "expect"),
    [
        ({"type": "Stalled", "status": "True", "reason": Reason.CHILD_CONFLICT}, Expire()),
        ({"type": "Stalled", "status": "True", "reason": Reason.INTERNAL_ERROR}, Expire()),
        ({"type": "Stalled", "status": "False", "reason": Reason.RESUMED}, Extend()),
        ({"type": "Stalled", "status": "True", "reason": Reason.LEDGER_UNAVAILABLE}, Extend()),
        ({"type": "Stalled", "status": "True", "reason": Reason.API_SERVER_UNAVAILABLE}, Extend()),
        ({"type": "Reserved", "status": "True", "reason": Reason.STOCK_HELD}, Extend()),
    ],
)
def test_a_hold_ends_where_its_order_was_tried_and_cannot_go_on(
    condition: dict[str, str], expect: Step
) -> None:
    order = an_order(
        status={"conditions": [{**condition, "message": "", "lastTransitionTime": NOW.isoformat()}]}
    )
    over = a_reservation_entry(ReservationState.HELD, expired=True)
    assert plan(CHILD, a_gate(), over, NOW, is_order_stuck=is_stuck(order)) == expect


def test_of_an_order_that_is_not_there_nothing_is_known() -> None:
    assert not is_stuck(None)


def test_a_rejected_one_is_deleted_a_while_after_it_was_made() -> None:
    rejected = a_reservation_entry(ReservationState.REJECTED)
    assert plan(ALONE, None, rejected, NOW) == Wait(RETAIN.total_seconds())
    assert plan(ALONE, None, rejected, NOW + RETAIN) == DeleteUnused(ALONE)


@pytest.mark.parametrize(
    ("why", "entry", "expect"),
    [
        ("held until its time", a_reservation_entry(ReservationState.HELD), Wait(60)),
        ("its time is over", a_reservation_entry(ReservationState.HELD, expired=True), Expire()),
        ("nothing is kept", a_reservation_entry(ReservationState.EXPIRED), Wait()),
        ("it was never there", None, Wait()),
    ],
)
def test_a_hold_whose_resource_was_torn_away_still_ends(
    why: str, entry: ReservationEntry | None, expect: Step
) -> None:
    assert plan(None, None, entry, NOW) == expect, why
