"""What a Shipment needs next. Pure."""

from dataclasses import dataclass
from datetime import timedelta

from orderplane.controllers.steps import (
    CompensateOrder,
    DeleteLeftover,
    ReleaseFinalizer,
    SharedStep,
    Wait,
)
from orderplane.crds.reasons import Reason
from orderplane.crds.shipment import Shipment
from orderplane.ledgers.gate import Gate
from orderplane.ledgers.shipments import ShipmentEntry
from orderplane.ledgers.states import LABEL_POSSIBLE, GateState, ShipmentState


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
    """Buy the label: the carrier knows of none, and has not acted on any purchase before `attempt`."""

    provider_id: str
    rate_id: str | None
    attempt: int


@dataclass(frozen=True, slots=True)
class RefuseShipment:
    """The carrier has refused the shipment, and no purchase that was begun before can land any more."""

    entry: ShipmentEntry


@dataclass(frozen=True, slots=True)
class CancelShipment:
    """No label was bought, and none can be any more."""


@dataclass(frozen=True, slots=True)
class VoidLabel:
    """Have the carrier void the label; it may turn out that the parcel is in transit.

    Args:
        is_repeated: Ask again although the carrier has refused: a person wants it.
    """

    provider_id: str
    is_repeated: bool = False


Effect = Begin | CreateShipment | CheckLabel | BuyLabel | RefuseShipment | CancelShipment | VoidLabel
Step = Effect | SharedStep


def plan(
    shipment: Shipment | None,
    gate: Gate | None,
    entry: ShipmentEntry | None,
    *,
    operator: str,
    settle: timedelta,
    is_unlabelled: bool = False,
    is_retry_requested: bool = False,
) -> Step:
    """Decide the next step; `shipment` is None where only the ledger is left of it.

    Args:
        operator: The one that plans.
        settle: How long after a buying call was begun "there is no label" may still turn out wrong: the
            carrier can carry a request out after its client has given up.
        is_unlabelled: The carrier was asked just now and knows of no label.
        is_retry_requested: Somebody asked to try a refused void again, since it was last tried.
    """
    if gate is not None and entry is not None and entry.state is ShipmentState.STRAY:
        # Its label has come home to an order that has settled without it, and is perhaps over.
        return VoidLabel(entry.provider_id or "", is_retry_requested)
    is_deleting = shipment is not None and shipment.is_deleting
    done: Step = ReleaseFinalizer() if is_deleting else Wait()
    if gate is None:
        return done
    if gate.state is GateState.SEALED:
        return DeleteLeftover() if shipment is not None and gate.is_undone and not is_deleting else done
    if gate.state is GateState.COMPENSATING:
        step = compensate(
            entry, settle=settle, is_unlabelled=is_unlabelled, is_retry_requested=is_retry_requested
        )
        return step or done
    if is_deleting:
        return done if gate.is_leaving else CompensateOrder()
    if shipment is None:
        return Wait()
    return ship(shipment, entry, operator=operator, settle=settle, is_unlabelled=is_unlabelled)


def ship(
    shipment: Shipment,
    entry: ShipmentEntry | None,
    *,
    operator: str,
    settle: timedelta,
    is_unlabelled: bool,
) -> Step:
    """Create, then buy; what was begun and not answered is checked first.

    What another operator has begun may be on its way still, and so may what the carrier has not refused of
    several purchases: they are waited for.
    """
    if entry is None:
        return Begin(shipment)
    if entry.state is not ShipmentState.INTENDED:
        return Wait()
    if entry.provider_id is None:
        return CreateShipment(shipment)
    if not is_unlabelled:
        return CheckLabel(entry.provider_id)
    can_land = entry.buy_age is not None and entry.buy_age < settle
    if can_land and (entry.reason is not None or entry.buy_begun_by != operator):
        message = "The carrier knows of no label, but a purchase that was begun may still reach it."
        return Wait(settle.total_seconds() / 4, Reason.LABEL_UNSETTLED, message)
    if entry.reason is not None:
        return RefuseShipment(entry)
    return BuyLabel(entry.provider_id, entry.rate_id, entry.buy_attempt + 1)


def compensate(
    entry: ShipmentEntry | None, *, settle: timedelta, is_unlabelled: bool, is_retry_requested: bool = False
) -> Step | None:
    """Void a label, or make sure that there is none; None where nothing is left to compensate."""
    if entry is None or entry.state not in LABEL_POSSIBLE:
        return None
    if entry.state is not ShipmentState.INTENDED:
        return VoidLabel(entry.provider_id or "", is_retry_requested)
    if entry.provider_id is None or entry.buy_age is None:
        return CancelShipment()
    if not is_unlabelled:
        return CheckLabel(entry.provider_id)
    # The entry was read before the carrier was asked: the purchase was at least so old then.
    if entry.buy_age >= settle:
        return CancelShipment()
    message = "The carrier knows of no label, but the purchase of one may still reach it."
    return Wait(settle.total_seconds() / 4, Reason.LABEL_UNSETTLED, message)
