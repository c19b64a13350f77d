"""What a Shipment's controller does next."""

from datetime import timedelta

import pytest

from orderplane.controllers.shipment.plan import (
    Begin,
    BuyLabel,
    CancelShipment,
    CheckLabel,
    CreateShipment,
    RefuseShipment,
    Step,
    VoidLabel,
    plan,
)
from orderplane.controllers.steps import CompensateOrder, DeleteLeftover, ReleaseFinalizer, Wait
from orderplane.crds.meta import Kind
from orderplane.crds.reasons import Reason
from orderplane.ledgers.gate import Gate
from orderplane.ledgers.shipments import ShipmentEntry
from orderplane.ledgers.states import GateState, Outcome, ShipmentState

from .builders import a_child, a_gate, a_shipment_entry

COMPENSATING, SEALED = GateState.COMPENSATING, GateState.SEALED
UNDONE = a_gate(SEALED, outcome=Outcome.CANCELLED)
SETTLE = timedelta(seconds=30)
CHILD = a_child(Kind.SHIPMENT)


UNSETTLED = Wait(
    7.5,
    Reason.LABEL_UNSETTLED,
    "The carrier knows of no label, but a purchase that was begun may still reach it.",
)
LATE_REFUSAL = a_shipment_entry(ShipmentState.INTENDED, reason="AddressRejected", begun_ago=31)


@pytest.mark.parametrize(
    ("why", "gate", "entry", "deleting", "unlabelled", "expect"),
    [
        ("open: begin", a_gate(), None, False, False, Begin(CHILD)),
        (
            "begun: create",
            a_gate(),
            a_shipment_entry(ShipmentState.INTENDED, None),
            False,
            False,
            CreateShipment(CHILD),
        ),
        (
            "maybe bought: look first",
            a_gate(),
            a_shipment_entry(ShipmentState.INTENDED),
            False,
            False,
            CheckLabel("shp_1"),
        ),
        (
            "there is none: buy",
            a_gate(),
            a_shipment_entry(ShipmentState.INTENDED),
            False,
            True,
            BuyLabel("shp_1", "rate", 2),
        ),
        (
            "there is none, and another operator's purchase may still land",
            a_gate(),
            a_shipment_entry(ShipmentState.INTENDED, buy_begun_by="operator-1"),
            False,
            True,
            UNSETTLED,
        ),
        (
            "there is none, and another operator's purchase cannot land any more",
            a_gate(),
            a_shipment_entry(ShipmentState.INTENDED, buy_begun_by="operator-1", begun_ago=31),
            False,
            True,
            BuyLabel("shp_1", "rate", 2),
        ),
        (
            "refused, and an older purchase may still land",
            a_gate(),
            a_shipment_entry(ShipmentState.INTENDED, reason="AddressRejected"),
            False,
            True,
            UNSETTLED,
        ),
        ("refused: look once more", a_gate(), LATE_REFUSAL, False, False, CheckLabel("shp_1")),
        ("refused for good", a_gate(), LATE_REFUSAL, False, True, RefuseShipment(LATE_REFUSAL)),
        ("bought", a_gate(), a_shipment_entry(ShipmentState.BOUGHT), False, False, Wait()),
        (
            "somebody deleted it",
            a_gate(),
            a_shipment_entry(ShipmentState.BOUGHT),
            True,
            False,
            CompensateOrder(),
        ),
        (
            "compensate: nothing was sent",
            a_gate(COMPENSATING),
            a_shipment_entry(ShipmentState.INTENDED, None),
            True,
            False,
            CancelShipment(),
        ),
        (
            "compensate: look",
            a_gate(COMPENSATING),
            a_shipment_entry(ShipmentState.INTENDED),
            True,
            False,
            CheckLabel("shp_1"),
        ),
        (
            "compensate: it may still land",
            a_gate(COMPENSATING),
            a_shipment_entry(ShipmentState.INTENDED),
            True,
            True,
            Wait(
                7.5,
                Reason.LABEL_UNSETTLED,
                "The carrier knows of no label, but the purchase of one may still reach it.",
            ),
        ),
        (
            "compensate: it cannot land any more",
            a_gate(COMPENSATING),
            a_shipment_entry(ShipmentState.INTENDED, begun_ago=31),
            True,
            True,
            CancelShipment(),
        ),
        (
            "compensate: take the label back",
            a_gate(COMPENSATING),
            a_shipment_entry(ShipmentState.BOUGHT),
            True,
            False,
            VoidLabel("shp_1"),
        ),
        (
            "compensated",
            a_gate(COMPENSATING),
            a_shipment_entry(ShipmentState.VOIDED),
            True,
            False,
            ReleaseFinalizer(),
        ),
        ("over", a_gate(SEALED), a_shipment_entry(ShipmentState.BOUGHT), True, False, ReleaseFinalizer()),
        (
            "over, nobody deletes it",
            a_gate(SEALED),
            a_shipment_entry(ShipmentState.BOUGHT),
            False,
            False,
            Wait(),
        ),
        ("undone: it was made after the seal", UNDONE, None, False, False, DeleteLeftover()),
        ("undone, and it is going", UNDONE, None, True, False, ReleaseFinalizer()),
        (
            "undone: its label has come home",
            UNDONE,
            a_shipment_entry(ShipmentState.STRAY),
            False,
            False,
            VoidLabel("shp_1"),
        ),
    ],
)
def test_the_next_step(
    why: str, gate: Gate, entry: ShipmentEntry | None, deleting: bool, unlabelled: bool, expect: Step
) -> None:
    child = a_child(Kind.SHIPMENT, deleting=deleting)
    found = plan(child, gate, entry, operator="operator-0", settle=SETTLE, is_unlabelled=unlabelled)
    assert found == expect, why
