"""What a Reservation's status says, row by row of its ledger."""

import pytest

from orderplane.controllers.engine.conditions import find
from orderplane.controllers.engine.delays import Delay
from orderplane.controllers.reservation.status import status_of
from orderplane.crds.meta import Kind
from orderplane.crds.reasons import Reason
from orderplane.ledgers.states import ReservationState

from .builders import NOW, a_child, a_reservation_entry

CHILD = a_child(Kind.RESERVATION)


@pytest.mark.parametrize(
    ("state", "phase", "held", "why"),
    [
        (ReservationState.HELD, "Held", "True", Reason.STOCK_HELD),
        (ReservationState.PINNED, "Held", "True", Reason.STOCK_HELD),
        (ReservationState.COMMITTED, "Committed", "True", Reason.STOCK_COMMITTED),
        (ReservationState.REJECTED, "Rejected", "False", Reason.OUT_OF_STOCK),
        (ReservationState.EXPIRED, "Expired", "False", Reason.STOCK_EXPIRED),
        (ReservationState.LOST, "Lost", "False", Reason.STOCK_LOST),
        (ReservationState.RELEASED, "Released", "False", Reason.STOCK_RELEASED),
    ],
)
def test_each_state(state: ReservationState, phase: str, held: str, why: Reason) -> None:
    status = status_of(CHILD, a_reservation_entry(state), None, NOW)
    condition = find(status.conditions, "Held")
    assert condition is not None
    assert (status.phase, condition.status, condition.reason) == (phase, held, why)
    assert status.reason == (why if held == "False" else None), "a phase that is good news needs no reason"
    again = status_of(CHILD.model_copy(update={"status": status}), a_reservation_entry(state), None, NOW)
    assert again == status


def test_before_the_ledger_has_an_entry_it_says_why_it_waits() -> None:
    plain = status_of(CHILD, None, None, NOW).conditions
    assert [(each.type, each.reason) for each in plain] == [("Reconciling", Reason.PROGRESSING)]
    delay = Delay(Reason.LEDGER_UNAVAILABLE, "no answer")
    status = status_of(CHILD, None, delay, NOW)
    condition = find(status.conditions, "Held")
    assert condition is not None
    assert (status.phase, condition.status, condition.reason) == ("Pending", "False", "LedgerUnavailable")
