"""Whether an order can still be cancelled. Pure.

The gate decides, for the resource's status lags behind it. Asking is all that is done here: the operator
passes the gate itself, so a scan that comes between this look and the wish still wins.
"""

from enum import Enum, auto
from typing import Any

from orderplane.crds.order import OrderPhase
from orderplane.gateway.http.problems import Problem
from orderplane.ledgers.gate import Gate, GateState, Outcome, TrackingStatus

Json = dict[str, Any]


class Cancel(Enum):
    """What to do about the wish."""

    ASK = auto()  # write it down
    ASKED = auto()  # it was, or the order is being deleted: the same thing
    DONE = auto()  # it is cancelled


def decide(order: Json, gate: Gate | None) -> Cancel:
    """What to do for an order as read from the API server, and its gate row (None: not opened yet).

    Raises:
        Problem: `too_late_to_cancel`, `already_finished`.
    """
    phase = order.get("status", {}).get("phase")
    outcome = gate.outcome if gate else None
    if outcome is Outcome.CANCELLED or phase == OrderPhase.CANCELLED:
        return Cancel.DONE
    if outcome is Outcome.FAILED or phase == OrderPhase.FAILED:
        raise Problem("already_finished", "The order failed and is undone; there is nothing to cancel.")
    if outcome is not None or phase == OrderPhase.DELIVERED or (gate is not None and _is_travelling(gate)):
        raise Problem(
            "too_late_to_cancel",
            "The carrier has scanned the parcel. It will be delivered; send it back instead.",
        )
    if order["spec"].get("cancel") or order["metadata"].get("deletionTimestamp"):
        return Cancel.ASKED
    return Cancel.ASK


def _is_travelling(gate: Gate) -> bool:
    return gate.state is GateState.OPEN and gate.tracking_status is not TrackingStatus.PRE_TRANSIT
