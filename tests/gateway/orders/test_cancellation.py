"""Whether an order can still be cancelled."""

from typing import Any

import pytest

from orderplane.gateway.http.problems import Problem
from orderplane.gateway.orders.cancellation import CancelAction, cancel_action
from orderplane.ledgers.gate import Gate
from orderplane.ledgers.states import GateState, Outcome, TrackingStatus


def order(phase: str = "Pending", *, cancel: bool = False, deleting: bool = False) -> dict[str, Any]:
    metadata = {"deletionTimestamp": "2026-01-01T00:00:00Z"} if deleting else {}
    return {"metadata": metadata, "spec": {"cancel": cancel}, "status": {"phase": phase}}


def gate(state: str = "Open", outcome: str | None = None, tracking_status: str = "PreTransit") -> Gate:
    return Gate(
        "demo", "uid", "o-1", GateState(state), Outcome(outcome) if outcome else None,
        tracking_status=TrackingStatus(tracking_status),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("resource", "row", "expected"),
    [
        (order(), None, CancelAction.REQUEST),
        (order("Paid"), gate(), CancelAction.REQUEST),
        (order("Shipped"), gate(), CancelAction.REQUEST),  # a label, and no scan yet
        (order("Paid", cancel=True), gate(), CancelAction.ALREADY_REQUESTED),
        (order("Paid", deleting=True), gate(), CancelAction.ALREADY_REQUESTED),
        (
            order("Compensating"),
            gate("Compensating"),
            CancelAction.REQUEST,
        ),  # it also revives a parked undoing
        (order("Compensating", cancel=True), gate("Compensating"), CancelAction.ALREADY_REQUESTED),
        (order("Cancelled"), None, CancelAction.ALREADY_CANCELLED),
        (order("Compensating", cancel=True), gate("Sealed", "Cancelled"), CancelAction.ALREADY_CANCELLED),
    ],
)
def test_what_is_done_about_the_wish(
    resource: dict[str, Any], row: Gate | None, expected: CancelAction
) -> None:
    assert cancel_action(resource, row) is expected


@pytest.mark.parametrize(
    ("resource", "row", "code"),
    [
        (order("Delivered"), None, "too_late_to_cancel"),
        (order("Paid"), gate("Sealed", "Shipped"), "too_late_to_cancel"),
        (order("Shipped"), gate("Sealed", "Delivered", "Delivered"), "too_late_to_cancel"),
        (order("Shipped"), gate("Open", None, "InTransit"), "too_late_to_cancel"),
        (order("Shipped", cancel=True), gate("Sealed", "Shipped", "InTransit"), "too_late_to_cancel"),
        (order("Failed"), None, "already_finished"),
        (order("Compensating"), gate("Sealed", "Failed"), "already_finished"),
    ],
)
def test_what_is_refused(resource: dict[str, Any], row: Gate | None, code: str) -> None:
    with pytest.raises(Problem) as refusal:
        cancel_action(resource, row)
    assert refusal.value.type.code == code
