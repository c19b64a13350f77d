"""What a Shipment's status says. Pure: it follows from the ledger entry alone."""

from datetime import datetime

from orderplane.controllers.engine.conditions import Fact
from orderplane.controllers.engine.delays import Delay, reported
from orderplane.controllers.order.delivery import TROUBLES, delivered_fact
from orderplane.crds.meta import Condition
from orderplane.crds.order import TrackingInfo
from orderplane.crds.reasons import Reason
from orderplane.crds.shipment import Pickup, Shipment, ShipmentPhase, ShipmentStatus
from orderplane.ledgers.shipments import ShipmentEntry
from orderplane.ledgers.states import ShipmentState, TrackingStatus, VoidState

_VOID_REASONS = {
    VoidState.NONE: Reason.VOID_NONE,
    VoidState.SUBMITTED: Reason.VOID_SUBMITTED,
    VoidState.REFUNDED: Reason.VOID_REFUNDED,
    VoidState.REJECTED: Reason.VOID_REJECTED,
    VoidState.NOT_APPLICABLE: Reason.VOID_NOT_APPLICABLE,
    VoidState.SETTLED_BY_HAND: Reason.VOID_SETTLED_BY_HAND,
}


def status_of(
    shipment: Shipment, entry: ShipmentEntry | None, delay: Delay | None, now: datetime
) -> ShipmentStatus:
    """The status as it should be; equal to the old one where nothing is new."""
    label = entry.label if entry else None
    plain = ShipmentStatus(
        observed_generation=shipment.metadata.generation,
        phase=_phase(entry),
        reason=_reason(entry) if entry else None,
        conditions=shipment.status.conditions,
        tracking=(
            TrackingInfo(carrier=label.carrier, code=label.tracking_code, url=label.tracking_url)
            if label
            else None
        ),
        cost=label.cost if label else None,
        cost_currency=label.currency if label else None,
        pickup=Pickup(confirmation=entry.pickup) if entry and entry.pickup else None,
    )
    return reported(
        plain,
        _facts(entry, shipment.status.conditions) if entry else [],
        "Voided" if label else "Scheduled",
        delay,
        now,
        is_under_way=_is_under_way(shipment, entry, delay),
    )


def _is_under_way(shipment: Shipment, entry: ShipmentEntry | None, delay: Delay | None) -> bool:
    if entry is None or entry.state in (ShipmentState.INTENDED, ShipmentState.STRAY):
        return True
    return delay is not None and shipment.is_deleting and entry.state is ShipmentState.BOUGHT


def _reason(entry: ShipmentEntry) -> str | None:
    """Why it is where it is, where somebody may have to act."""
    if entry.state is ShipmentState.STRAY:
        return Reason.STRAY_LABEL
    if entry.state is not ShipmentState.BOUGHT:
        return entry.reason
    if entry.tracking_status in TROUBLES:
        return TROUBLES[entry.tracking_status].reason
    return Reason.VOID_REJECTED if entry.void is VoidState.REJECTED else None


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


def _facts(entry: ShipmentEntry, before: tuple[Condition, ...]) -> list[Fact]:
    match entry.state:
        case ShipmentState.INTENDED:
            return []
        case ShipmentState.BOUGHT:
            facts = [Fact("Scheduled", "True", Reason.LABEL_BOUGHT, "The label is bought.")]
            if entry.void is VoidState.REJECTED:
                facts.append(
                    Fact("Voided", "False", Reason.VOID_REJECTED, "The carrier does not take it back.")
                )
            if delivered := delivered_fact(entry.tracking_status, before):
                facts.append(delivered)
            return facts
        case ShipmentState.REFUSED:
            return [Fact("Scheduled", "False", entry.reason or Reason.SHIPMENT_REFUSED, entry.message or "")]
        case ShipmentState.STRAY:
            return [
                Fact("Scheduled", "False", Reason.STRAY_LABEL, "Its label was bought too late; it is voided.")
            ]
        case ShipmentState.VOIDED | ShipmentState.DISCARDED:
            return [
                Fact("Scheduled", "False", Reason.LABEL_VOIDED, "The label was taken back."),
                Fact(
                    "Voided", "True", _VOID_REASONS[entry.void], "The carrier has answered the wish to void."
                ),
            ]
        case ShipmentState.CANCELLED:
            return [Fact("Scheduled", "False", Reason.SHIPMENT_CANCELLED, "No label was bought.")]
