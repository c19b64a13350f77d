"""When it is believed that there is no label."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from orderplane.controllers.engine.cluster import Cluster
from orderplane.controllers.shipment.act import ShipmentReconciler
from orderplane.controllers.shipment.ports import CarrierShipment
from orderplane.crds.meta import RETRY_ANNOTATION
from orderplane.ledgers.errors import Transient
from orderplane.ledgers.gate import Gate
from orderplane.ledgers.model.gate import InMemoryGateLedger
from orderplane.ledgers.model.shipments import InMemoryShipmentLedger
from orderplane.ledgers.model.tables import Tables
from orderplane.ledgers.shipments import ShipmentEntry
from orderplane.ledgers.states import GateState, ShipmentState, TrackingStatus, VoidState

from .builders import LABEL, UID, a_shipment_entry, an_order

NOW = datetime(2026, 3, 1, tzinfo=UTC)
SETTLE = timedelta(seconds=40)
SHOP, NAME = "shop", f"tea-{UID[-8:]}"


class Unlabelled:
    """A carrier that knows of no label."""

    async def get(self, shipment_id: str) -> CarrierShipment:
        return CarrierShipment(shipment_id, UID, "rate", None, VoidState.NONE, TrackingStatus.PRE_TRANSIT)


async def no_pause(_: str) -> None:
    """Nothing else runs here."""


class Unwilling(Unlabelled):
    """A carrier that refuses to take its label back."""

    def __init__(self) -> None:
        self.asked = 0

    async def get(self, shipment_id: str) -> CarrierShipment:
        void = VoidState.REJECTED if self.asked else VoidState.NONE
        return CarrierShipment(shipment_id, UID, "rate", LABEL, void, TrackingStatus.PRE_TRANSIT)

    async def void(self, shipment_id: str) -> CarrierShipment:
        self.asked += 1
        return await self.get(shipment_id)


def undone(state: ShipmentState) -> Tables:
    """The ledgers of an order that is compensated."""
    tables = Tables(now=lambda: NOW, pause=no_pause)
    tables.gates[UID] = Gate(SHOP, UID, "tea", GateState.COMPENSATING, shipment=state)
    tables.names[NAME] = UID
    tables.shipments[UID] = a_shipment_entry(state)
    return tables


def reconciler_of(tables: Tables, carrier: Any, cluster: Cluster) -> ShipmentReconciler:
    return ShipmentReconciler(
        cluster,
        InMemoryGateLedger(tables),
        InMemoryShipmentLedger(tables),
        carrier,
        lambda *_: None,
        lambda: NOW,
        operator="operator-0",
        elapsed=lambda: 0.0,
        settle=SETTLE,
        first_poll=timedelta(seconds=60),
    )


def a_cluster() -> Cluster:
    return Cluster(None, lambda: 0.0, lambda *_: None)  # type: ignore[arg-type]


async def compensated(age: timedelta) -> ShipmentEntry:
    """An order is undone whose purchase was begun so long ago; what becomes of its shipment."""
    tables = undone(ShipmentState.INTENDED)
    tables.buys[UID] = NOW - age
    await reconciler_of(tables, Unlabelled(), a_cluster()).reconcile((SHOP, NAME), None)
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


async def test_a_retry_is_heard_that_the_order_has_noted_before_the_shipment_looks_again() -> None:
    carrier, cluster = Unwilling(), a_cluster()
    reconciler = reconciler_of(undone(ShipmentState.BOUGHT), carrier, cluster)
    order = an_order().model_dump(mode="json", by_alias=True)
    order = {**order, "metadata": {**order["metadata"], "name": NAME[:-9]}}
    cluster.orders.store(order)
    with pytest.raises(Transient):
        await reconciler.reconcile((SHOP, NAME), None)
    assert carrier.asked == 1
    metadata = {**order["metadata"], "resourceVersion": "8", "annotations": {RETRY_ANNOTATION: "now"}}
    cluster.orders.store({**order, "metadata": metadata, "status": {"handledRetry": "now"}})
    with pytest.raises(Transient):
        await reconciler.reconcile((SHOP, NAME), None)
    assert carrier.asked == 2
    with pytest.raises(Transient):
        await reconciler.reconcile((SHOP, NAME), None)
    assert carrier.asked == 2
