"""What a Shipment's status says, row by row of its ledger."""

import pytest

from orderplane.controllers.engine.conditions import find
from orderplane.controllers.engine.delays import Delay
from orderplane.controllers.shipment.status import status_of
from orderplane.crds.meta import Kind
from orderplane.crds.reasons import Reason
from orderplane.ledgers.shipments import ShipmentEntry
from orderplane.ledgers.states import ShipmentState, TrackingStatus, VoidState

from .builders import LABEL, NOW, a_child, a_shipment_entry

CHILD = a_child(Kind.SHIPMENT)
BOUGHT, VOIDED = ShipmentState.BOUGHT, ShipmentState.VOIDED
GOES_ON = ("Reconciling", "True", Reason.PROGRESSING)
SCHEDULED = ("Scheduled", "True", Reason.LABEL_BOUGHT)


def at(status: TrackingStatus) -> ShipmentEntry:
    return a_shipment_entry(BOUGHT, label=LABEL, tracking_status=status)


@pytest.mark.parametrize(
    ("why", "entry", "phase", "conditions"),
    [
        ("nothing is known yet", None, "Pending", (GOES_ON,)),
        ("the carrier has not answered", a_shipment_entry(ShipmentState.INTENDED), "Pending", (GOES_ON,)),
        ("bought, not scanned yet", at(TrackingStatus.PRE_TRANSIT), "Scheduled", (SCHEDULED,)),
        ("the carrier has it", at(TrackingStatus.IN_TRANSIT), "InTransit", (SCHEDULED,)),
        (
            "on its way back",
            at(TrackingStatus.RETURNED),
            "InTransit",
            (SCHEDULED, ("Delivered", "False", Reason.RETURNED)),
        ),
        (
            "lost, or not delivered",
            at(TrackingStatus.FAILED),
            "InTransit",
            (SCHEDULED, ("Delivered", "False", Reason.DELIVERY_FAILED)),
        ),
        (
            "the carrier does not take the label back",
            a_shipment_entry(BOUGHT, label=LABEL, void=VoidState.REJECTED),
            "Scheduled",
            (SCHEDULED, ("Voided", "False", Reason.VOID_REJECTED)),
        ),
        (
            "a label came home too late",
            a_shipment_entry(ShipmentState.STRAY, label=LABEL),
            "Cancelled",
            (("Scheduled", "False", Reason.STRAY_LABEL), GOES_ON),
        ),
        (
            "delivered",
            at(TrackingStatus.DELIVERED),
            "Delivered",
            (SCHEDULED, ("Delivered", "True", Reason.DELIVERED)),
        ),
        (
            "refused, and the carrier says why",
            a_shipment_entry(ShipmentState.REFUSED, reason=Reason.ADDRESS_REJECTED, message="no"),
            "Rejected",
            (("Scheduled", "False", Reason.ADDRESS_REJECTED),),
        ),
        (
            "refused without a reason",
            a_shipment_entry(ShipmentState.REFUSED),
            "Rejected",
            (("Scheduled", "False", Reason.SHIPMENT_REFUSED),),
        ),
        (
            "voided",
            a_shipment_entry(VOIDED, label=LABEL, void=VoidState.SUBMITTED),
            "Cancelled",
            (("Scheduled", "False", Reason.LABEL_VOIDED), ("Voided", "True", Reason.VOID_SUBMITTED)),
        ),
        (
            "never bought",
            a_shipment_entry(ShipmentState.CANCELLED),
            "Cancelled",
            (("Scheduled", "False", Reason.SHIPMENT_CANCELLED),),
        ),
    ],
)
def test_each_state(
    why: str, entry: ShipmentEntry | None, phase: str, conditions: tuple[tuple[str, str, Reason], ...]
) -> None:
    status = status_of(CHILD, entry, None, NOW)
    assert status.phase == phase, why
    assert tuple((c.type, c.status, c.reason) for c in status.conditions) == conditions, why
    assert status_of(CHILD.model_copy(update={"status": status}), entry, None, NOW) == status, why


@pytest.mark.parametrize("void", VoidState)
def test_every_answer_to_a_void_has_its_reason(void: VoidState) -> None:
    condition = find(status_of(CHILD, a_shipment_entry(VOIDED, void=void), None, NOW).conditions, "Voided")
    assert condition is not None
    assert condition.reason == f"Void{void}"


def test_the_label_and_the_pickup_are_the_ledgers() -> None:
    status = status_of(CHILD, a_shipment_entry(BOUGHT, label=LABEL, pickup="PU-1"), None, NOW)
    assert status.tracking is not None
    assert (status.tracking.code, status.tracking.carrier) == ("1Z999", "SandboxPost")
    assert (status.cost, status.cost_currency) == (758, "EUR")
    assert status.pickup is not None
    assert status.pickup.confirmation == "PU-1"


@pytest.mark.parametrize(
    ("entry", "type_"), [(None, "Scheduled"), (a_shipment_entry(BOUGHT, label=LABEL), "Voided")]
)
def test_what_it_waits_for_is_the_next_condition(entry: ShipmentEntry | None, type_: str) -> None:
    delay = Delay(Reason.CARRIER_BUSY, "asks to wait")
    going = a_child(Kind.SHIPMENT, deleting=entry is not None)
    condition = find(status_of(going, entry, delay, NOW).conditions, type_)
    assert condition is not None
    assert (condition.status, condition.reason) == ("False", Reason.CARRIER_BUSY)
