"""What a Shipment needs next. Pure."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from orderplane.controllers.steps import CompensateOrder, ReleaseFinalizer, SharedStep, Wait
from orderplane.crds.shipment import Shipment
from orderplane.ledgers.gate import Gate
from orderplane.ledgers.shipments import ShipmentEntry
from orderplane.ledgers.states import GateState, ShipmentState


@dataclass(frozen=True, slots=True)
class Begin:
    """Write the entry, if the order is paid and its stock is pinned."""

    shipment: Shipment


@dataclass(frozen=True, slots=True)
class CreateShipment:
    """Create it at the carrier, which costs nothing yet, and buy its label."""

    shipment: Shipment


@dataclass(frozen=True, slots=True)
class CheckLabel:
    """A buying call was begun and may have landed: ask the carrier, and record the answer."""

    provider_id: str


@dataclass(frozen=True, slots=True)
class BuyLabel:
    """Buy the label: the carrier knows of none."""

    provider_id: str
    rate_id: str | None


@dataclass(frozen=True, slots=True)
class CancelShipment:
    """No label was bought, and none can be any more."""


@dataclass(frozen=True, slots=True)
class VoidLabel:
    """Have the carrier void the label; it may turn out that the parcel is in transit."""

    provider_id: str


Effect = Begin | CreateShipment | CheckLabel | BuyLabel | CancelShipment | VoidLabel
Step = Effect | SharedStep


def plan(
    shipment: Shipment | None,
    gate: Gate | None,
    entry: ShipmentEntry | None,
    now: datetime,
    *,
    settle: timedelta,
    is_unlabelled: bool = False,
) -> Step:
    """Decide the next step; `shipment` is None where only the ledger is left of it.

    Args:
        settle: How long after a buying call was begun "there is no label" may still turn out wrong: the
            carrier can carry a request out after its client has given up.
        is_unlabelled: The carrier was asked just now and knows of no label.
    """
    is_deleting = shipment is not None and shipment.is_deleting
    done: Step = ReleaseFinalizer() if is_deleting else Wait()
    if gate is None or gate.state is GateState.SEALED:
        return done
    if gate.state is GateState.COMPENSATING:
        return compensate(entry, now, settle=settle, is_unlabelled=is_unlabelled) or done
    if is_deleting:
        return CompensateOrder()
    return Wait() if shipment is None else ship(shipment, entry, is_unlabelled=is_unlabelled)


def ship(shipment: Shipment, entry: ShipmentEntry | None, *, is_unlabelled: bool) -> Step:
    """Create, then buy; what was begun and not answered is checked first."""
    if entry is None:
        return Begin(shipment)
    if entry.state is not ShipmentState.INTENDED:
        return Wait()
    if entry.provider_id is None:
        return CreateShipment(shipment)
    return BuyLabel(entry.provider_id, entry.rate_id) if is_unlabelled else CheckLabel(entry.provider_id)


def compensate(
    entry: ShipmentEntry | None, now: datetime, *, settle: timedelta, is_unlabelled: bool
) -> Step | None:
    """Void a label, or make sure that there is none; None where nothing is left to compensate."""
    if entry is None or entry.state in (ShipmentState.REFUSED, ShipmentState.VOIDED, ShipmentState.CANCELLED):
        return None
    if entry.state is ShipmentState.BOUGHT:
        return VoidLabel(entry.provider_id or "")
    if entry.provider_id is None or entry.buy_begun_at is None:
        return CancelShipment()
    if not is_unlabelled:
        return CheckLabel(entry.provider_id)
    is_settled = now - entry.buy_begun_at >= settle
    return CancelShipment() if is_settled else Wait(settle.total_seconds() / 4)
