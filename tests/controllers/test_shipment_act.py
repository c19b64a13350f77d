"""When it is believed that there is no label."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from orderplane.controllers.engine.cluster import Cluster
from orderplane.controllers.shipment.act import ShipmentReconciler
from orderplane.controllers.shipment.ports import CarrierShipment
from orderplane.ledgers.gate import Gate
from orderplane.ledgers.model.gate import InMemoryGateLedger
from orderplane.ledgers.model.shipments import InMemoryShipmentLedger
from orderplane.ledgers.model.tables import Tables
from orderplane.ledgers.shipments import ShipmentEntry
from orderplane.ledgers.states import GateState, ShipmentState, TrackingStatus, VoidState

from .builders import UID, a_shipment_entry

NOW = datetime(2026, 3, 1, tzinfo=UTC)
SETTLE = timedelta(seconds=40)
SHOP, NAME = "shop", f"tea-{UID[-8:]}"


class Unlabelled:
    """A carrier that knows of no label."""

    async def get(self, shipment_id: str) -> CarrierShipment:
        return CarrierShipment(shipment_id, UID, "rate", None, VoidState.NONE, TrackingStatus.PRE_TRANSIT)


async def no_pause(_: str) -> None:
    """Nothing else runs here."""


async def compensated(age: timedelta) -> ShipmentEntry:
    """An order is undone whose purchase was begun so long ago; what becomes of its shipment."""
    tables = Tables(now=lambda: NOW, pause=no_pause)
    tables.gates[UID] = Gate(SHOP, UID, "tea", GateState.COMPENSATING, shipment=ShipmentState.INTENDED)
    tables.names[NAME] = UID
    tables.shipments[UID] = a_shipment_entry(ShipmentState.INTENDED)
    tables.buys[UID] = NOW - age
    cluster: Any = Cluster(None, lambda: 0.0, lambda *_: None)  # type: ignore[arg-type]
    reconciler = ShipmentReconciler(
        cluster,
        InMemoryGateLedger(tables),
        InMemoryShipmentLedger(tables),
        Unlabelled(),  # type: ignore[arg-type]
        lambda *_: None,
        lambda: NOW,
        elapsed=lambda: 0.0,
        settle=SETTLE,
        first_poll=timedelta(seconds=60),
    )
    await reconciler.reconcile((SHOP, NAME), None)
    return tables.shipments[UID]


@pytest.mark.parametrize(
    ("age", "state"),
    [
        (SETTLE, ShipmentState.INTENDED),
        (SETTLE * 1.25 - timedelta(seconds=1), ShipmentState.INTENDED),
        (SETTLE * 1.25, ShipmentState.CANCELLED),
    ],
    ids=str,
)
async def test_it_is_believed_after_the_settle_time_and_a_quarter(
    age: timedelta, state: ShipmentState
) -> None:
    # A purchase may be sent within that quarter after it was begun, and land within the settle time after.
    assert (await compensated(age)).state is state
