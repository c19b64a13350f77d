"""Put the controllers together: caches, ledgers, providers, queues."""

import time
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

from orderplane.controllers.engine.api import Api
from orderplane.controllers.engine.cluster import Cluster
from orderplane.controllers.engine.controller import Controller, Reconciler
from orderplane.controllers.engine.queue import Key
from orderplane.controllers.order.act import OrderReconciler
from orderplane.controllers.payment.act import PaymentReconciler
from orderplane.controllers.payment.ports import PaymentProvider
from orderplane.controllers.reservation.act import ReservationReconciler
from orderplane.controllers.shipment.act import ShipmentReconciler
from orderplane.controllers.shipment.collection import PickupScheduler
from orderplane.controllers.shipment.ports import Carrier
from orderplane.controllers.shipment.rounds import go_rounds
from orderplane.controllers.shipment.tracking import TrackingPoller
from orderplane.crds.meta import Kind, Resource
from orderplane.crds.order import Order
from orderplane.ledgers.gate import Gate, GateLedger
from orderplane.ledgers.postgres.gate import PostgresGateLedger
from orderplane.ledgers.postgres.payments import PostgresPaymentLedger
from orderplane.ledgers.postgres.session import Pool
from orderplane.ledgers.postgres.shipments import PostgresShipmentLedger
from orderplane.ledgers.postgres.stock import PostgresStockLedger
from orderplane.ledgers.stock import StockLedger

WORKERS = {Kind.ORDER: 16, Kind.RESERVATION: 8, Kind.PAYMENT: 16, Kind.SHIPMENT: 16}
REPORTERS = 4


@dataclass(frozen=True, slots=True)
class Operator:
    """Everything that runs, and what feeds it."""

    cluster: Cluster
    gates: GateLedger
    stock: StockLedger
    controllers: Mapping[Kind, Controller]
    rounds: Mapping[str, Callable[[], Coroutine[Any, Any, None]]]

    def wake(self, kind: Kind, key: Key, seen: Gate | None = None, *, is_urgent: bool = True) -> None:
        """Have a key looked at, where this process runs its kind; unless urgent, behind all others."""
        controller = self.controllers.get(kind)
        if controller is not None:
            controller.wake(key, is_urgent=is_urgent, seen=seen)

    def announce(self, kind: Kind, resource: Resource) -> None:
        """This object is new, or not what it was."""
        reference = getattr(resource.spec, "order_ref", None)  # type: ignore[attr-defined]
        self.wake_related(kind, resource.key, reference.name if reference else None)
        if isinstance(resource, Order) and resource.wants_retry:
            for child in (Kind.RESERVATION, Kind.PAYMENT, Kind.SHIPMENT):
                self.wake(child, (resource.metadata.namespace, resource.child_name))

    def wake_related(self, kind: Kind, key: Key, order_name: str | None) -> None:
        """Something of this object changed: it may concern itself and its order."""
        self.wake(kind, key)
        if order_name is not None:
            self.wake(Kind.ORDER, (key[0], order_name))


def build(
    api: Api,
    pool: Pool,
    payment_provider: PaymentProvider,
    carrier: Carrier,
    *,
    kinds: frozenset[Kind],
    settle: timedelta,
    first_poll: timedelta,
    longest_poll: timedelta,
) -> Operator:
    """Wire the reconcilers of `kinds` to the world.

    Args:
        settle: How long a buying call may still land at the carrier after its client gave up.
        first_poll: How soon a parcel is first asked for.
        longest_poll: The pause that the polls of a parcel grow to.
    """
    # The operator is made of the cluster, and the cluster tells it what answers show.
    cluster = Cluster(api, time.monotonic, lambda kind, found: operator.announce(kind, found))  # noqa: PLW0108
    gates, stock, parcels = PostgresGateLedger(pool), PostgresStockLedger(pool), PostgresShipmentLedger(pool)
    controllers: dict[Kind, Controller] = {}
    rounds: dict[str, Callable[[], Coroutine[Any, Any, None]]] = {}
    operator = Operator(cluster, gates, stock, controllers, rounds)
    wake = operator.wake
    reconcilers: tuple[Reconciler, ...] = (
        OrderReconciler(cluster, gates, wake, _now),
        ReservationReconciler(cluster, gates, stock, wake, _now),
        PaymentReconciler(cluster, gates, PostgresPaymentLedger(pool), payment_provider, wake, _now),
        ShipmentReconciler(
            cluster, gates, parcels, carrier, wake, _now, settle=settle, first_poll=first_poll
        ),
    )
    for reconciler in reconcilers:
        if reconciler.kind in kinds:
            controllers[reconciler.kind] = Controller(
                reconciler, workers=WORKERS[reconciler.kind], reporters=REPORTERS
            )
    if Kind.SHIPMENT in kinds:
        watch = TrackingPoller(parcels, carrier, wake, _now, first=first_poll, longest=longest_poll)
        rounds["tracking"] = partial(go_rounds, watch.track, first_poll)
        rounds["collection"] = partial(go_rounds, PickupScheduler(parcels, carrier, _now).book, first_poll)
    return operator


def _now() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)
