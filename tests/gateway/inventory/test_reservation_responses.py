"""The response to a reservation, by the state in the ledger."""

from datetime import UTC, datetime
from typing import Any

import orjson
import pytest

from orderplane.crds.defaults import reservation_manifest
from orderplane.crds.order import Item
from orderplane.gateway.inventory.reservation_routes import is_over, response_for
from orderplane.ledgers.postgres.inventory import ReservationRecord
from orderplane.ledgers.states import ReservationState

UNTIL = datetime(2026, 3, 1, 12, 15, tzinfo=UTC)
MANIFEST = reservation_manifest("demo", "r-1", [Item(sku="TEA", quantity=2)], UNTIL, None, "5")


def kept(state: ReservationState) -> ReservationRecord:
    message = "TEA: 2 wanted, 1 left" if state is ReservationState.REJECTED else None
    return ReservationRecord("r-1", None, state, message, {"TEA": 2}, UNTIL)


def test_one_that_is_not_decided_is_told_as_it_was_asked_for() -> None:
    answer = response_for(MANIFEST, None)
    view: dict[str, Any] = orjson.loads(answer.body)
    assert answer.status == 202
    assert view == {
        "id": "r-1", "state": "Pending", "message": None, "items": [{"sku": "TEA", "quantity": 2}],
        "expiresAt": "2026-03-01T12:15:00Z", "order": None,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("state", "status", "shown", "over"),
    [
        (ReservationState.HELD, 201, "Held", False),
        (ReservationState.PINNED, 201, "Held", False),
        (ReservationState.COMMITTED, 201, "Committed", False),
        # The answer was late: it was made, and this is what became of it.
        (ReservationState.EXPIRED, 201, "Expired", True),
        (ReservationState.LOST, 201, "Lost", True),
        (ReservationState.RELEASED, 201, "Released", True),
        (ReservationState.REJECTED, 409, None, True),
    ],
)
def test_one_that_is_decided(state: ReservationState, status: int, shown: str | None, over: bool) -> None:
    answer = response_for(MANIFEST, kept(state))
    document = orjson.loads(answer.body)
    assert (answer.status, document.get("state")) == (status, shown)
    assert is_over(kept(state)) is over
    if status == 409:
        assert document["code"] == "out_of_stock"
        assert "TEA: 2 wanted, 1 left" in document["detail"]


def test_what_nobody_has_decided_is_not_over() -> None:
    assert not is_over(None)
