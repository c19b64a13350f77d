"""Whether an order can still be cancelled. Pure.

The gate decides, because the status of the resource lags behind it. The route only writes the request into
`spec.cancel`; the operator passes the gate itself, so a carrier scan that comes in between still wins.
"""

from enum import Enum, auto

from orderplane.crds.documents import OrderDocument
from orderplane.crds.order import OrderPhase
from orderplane.gateway.http.problems import Problem
from orderplane.ledgers.gate import Gate
from orderplane.ledgers.states import GateState, Outcome, TrackingStatus


class CancelAction(Enum):
    """What to do with a request to cancel."""

    REQUEST = auto()  # write spec.cancel
    ALREADY_REQUESTED = auto()  # spec.cancel is set, or the order is being deleted, which has the same effect
    ALREADY_CANCELLED = auto()


def cancel_action(order: OrderDocument, gate: Gate | None) -> CancelAction:
    """What to do for an order as read from the API server, and its gate row (None: not opened yet).

    Raises:
        Problem: `too_late_to_cancel`, `already_finished`.
    """
    phase = order.get("status", {}).get("phase")
    outcome = gate.outcome if gate else None
    if outcome is Outcome.CANCELLED or phase == OrderPhase.CANCELLED:
        return CancelAction.ALREADY_CANCELLED
    if outcome is Outcome.FAILED or phase == OrderPhase.FAILED:
        raise Problem("already_finished", "The order failed and was compensated; there is nothing to cancel.")
    if outcome is not None or phase == OrderPhase.DELIVERED or (gate is not None and _is_in_transit(gate)):
        raise Problem(
            "too_late_to_cancel",
            "The carrier has scanned the parcel. It will be delivered; send it back instead.",
        )
    if order["spec"].get("cancel") or order["metadata"].get("deletionTimestamp"):
        return CancelAction.ALREADY_REQUESTED
    return CancelAction.REQUEST


def _is_in_transit(gate: Gate) -> bool:
    return gate.state is GateState.OPEN and gate.tracking_status is not TrackingStatus.PRE_TRANSIT


def as_requested(order: OrderDocument) -> OrderDocument:
    """An archived order as it will be: its cancellation is in the ledger."""
    return {**order, "spec": {**order["spec"], "cancel": True}}
