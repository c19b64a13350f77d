"""What a Shipment needs next, and what its status says. Pure."""

from datetime import datetime, timedelta
from enum import StrEnum

from orderplane.controllers.engine.backoff import FailureState
from orderplane.controllers.engine.child import child_conditions
from orderplane.controllers.engine.conditions import Fact
from orderplane.crds.order import TrackingInfo
from orderplane.crds.shipment import Pickup, Shipment, ShipmentPhase, ShipmentStatus
from orderplane.ledgers.gate import Gate, GateState, ShipmentState, TrackingStatus
from orderplane.ledgers.shipments import ShipmentEntry


class Action(StrEnum):
    """One step; each ends with a ledger entry from which the next step is planned."""

    INTEND = "Intend"
    CREATE = "Create"
    CHECK = "Check"
    BUY = "Buy"
    CLOSE_GATE = "CloseGate"
    FORGET = "Forget"
    VOID = "Void"
    LET_GO = "LetGo"
    WAIT = "Wait"


def plan(
    shipment: Shipment | None,
    gate: Gate | None,
    entry: ShipmentEntry | None,
    now: datetime,
    *,
    settle: timedelta,
    is_unlabelled: bool = False,
) -> Action:
    """Decide the next step; `shipment` is None where only the ledger is left of it.

    Args:
        settle: How long after a buying call was begun "there is no label" may still turn out wrong: the
            carrier can carry a request out after its client has gone.
        is_unlabelled: The carrier was asked just now and knows of no label.
    """
    is_deleting = shipment is not None and shipment.is_deleting
    let_go = Action.LET_GO if is_deleting else Action.WAIT
    if gate is None or gate.state is GateState.SEALED:
        return let_go
    if gate.state is GateState.COMPENSATING:
        return undo(entry, now, settle=settle, is_unlabelled=is_unlabelled) or let_go
    if is_deleting:
        return Action.CLOSE_GATE
    return Action.WAIT if shipment is None else ship(entry, is_unlabelled=is_unlabelled)


def ship(entry: ShipmentEntry | None, *, is_unlabelled: bool) -> Action:
    """Create, then buy; what was begun and not answered is looked at first."""
    if entry is None:
        return Action.INTEND
    if entry.state is not ShipmentState.INTENDED:
        return Action.WAIT
    if entry.provider_id is None:
        return Action.CREATE
    return Action.BUY if is_unlabelled else Action.CHECK


def undo(
    entry: ShipmentEntry | None, now: datetime, *, settle: timedelta, is_unlabelled: bool
) -> Action | None:
    """Take a label back, or make sure that there is none; None where there is nothing left to undo."""
    if entry is None or entry.state in (ShipmentState.REFUSED, ShipmentState.VOIDED, ShipmentState.CANCELLED):
        return None
    if entry.state is ShipmentState.BOUGHT:
        return Action.VOID
    if entry.provider_id is None or entry.buy_begun_at is None:
        return Action.FORGET
    if not is_unlabelled:
        return Action.CHECK
    return Action.FORGET if now - entry.buy_begun_at >= settle else Action.WAIT


def status_of(
    shipment: Shipment, entry: ShipmentEntry | None, trouble: FailureState | None, now: datetime
) -> ShipmentStatus:
    """The status as it should be."""
    generation = shipment.metadata.generation
    facts = _facts(entry) if entry else []
    label = entry.label if entry else None
    return ShipmentStatus(
        observed_generation=generation,
        phase=_phase(entry),
        reason=entry.reason if entry else None,
        conditions=child_conditions(
            shipment.status.conditions,
            facts,
            "Voided" if label else "Scheduled",
            trouble,
            generation,
            now,
        ),
        tracking=(
            TrackingInfo(carrier=label.carrier, code=label.tracking_code, url=label.tracking_url)
            if label
            else None
        ),
        cost=label.cost if label else None,
        cost_currency=label.currency if label else None,
        pickup=Pickup(confirmation=entry.pickup) if entry and entry.pickup else None,
    )


def _phase(entry: ShipmentEntry | None) -> ShipmentPhase:
    if entry is None or entry.state is ShipmentState.INTENDED:
        return ShipmentPhase.PENDING
    if entry.state is ShipmentState.REFUSED:
        return ShipmentPhase.REJECTED
    if entry.state is not ShipmentState.BOUGHT:
        return ShipmentPhase.CANCELLED
    if entry.tracking_status is TrackingStatus.DELIVERED:
        return ShipmentPhase.DELIVERED
    return (
        ShipmentPhase.SCHEDULED
        if entry.tracking_status is TrackingStatus.PRE_TRANSIT
        else ShipmentPhase.IN_TRANSIT
    )


def _facts(entry: ShipmentEntry) -> list[Fact]:
    match entry.state:
        case ShipmentState.INTENDED:
            return []
        case ShipmentState.BOUGHT:
            facts = [Fact("Scheduled", "True", "LabelBought", "The label is bought.")]
            if entry.tracking_status is TrackingStatus.DELIVERED:
                facts.append(Fact("Delivered", "True", "Delivered", "The carrier has delivered it."))
            return facts
        case ShipmentState.REFUSED:
            return [Fact("Scheduled", "False", entry.reason or "ShipmentRefused", entry.message or "")]
        case ShipmentState.VOIDED:
            return [
                Fact("Scheduled", "False", "LabelVoided", "The label was taken back."),
                Fact("Voided", "True", f"Void{entry.void}", "The carrier has answered the wish to void."),
            ]
        case ShipmentState.CANCELLED:
            return [Fact("Scheduled", "False", "ShipmentCancelled", "No label was bought.")]
