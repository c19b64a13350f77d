"""Put the controllers together: caches, ledgers, providers, queues."""

import time
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

from orderplane.adapters.halves import Beat
from orderplane.adapters.payments.stripe_currencies import charge_limits
from orderplane.controllers.engine.cluster import Api, Cluster
from orderplane.controllers.engine.controller import Controller, Reconciler
from orderplane.controllers.engine.queue import Key
from orderplane.controllers.order.act import OrderReconciler
from orderplane.controllers.order.leaving import Leaving
from orderplane.controllers.order.rest import RestRules
from orderplane.controllers.payment.act import PaymentReconciler
from orderplane.controllers.payment.ports import PaymentProvider
from orderplane.controllers.reservation.act import ReservationReconciler
from orderplane.controllers.shipment.act import ShipmentReconciler
from orderplane.controllers.shipment.polling import PickupScheduler, TrackingPoller, poll
from orderplane.controllers.shipment.ports import Carrier
from orderplane.crds.meta import Kind, Resource
from orderplane.crds.order import Order
from orderplane.crds.payment import Payment
from orderplane.crds.reservation import Reservation
from orderplane.crds.shipment import Shipment
from orderplane.ledgers.gate import Gate, GateLedger
from orderplane.ledgers.postgres.archive import PostgresOrderArchive
from orderplane.ledgers.postgres.gate import PostgresGateLedger
from orderplane.ledgers.postgres.parcels import PostgresParcelLedger
from orderplane.ledgers.postgres.payments import PostgresPaymentLedger
from orderplane.ledgers.postgres.refunds import PostgresRefundLedger
from orderplane.ledgers.postgres.session import Pool
from orderplane.ledgers.postgres.shipments import PostgresShipmentLedger
from orderplane.ledgers.postgres.stock import PostgresStockLedger
from orderplane.ledgers.refunds import RefundLedger
from orderplane.ledgers.shipments import ShipmentLedger
from orderplane.ledgers.stock import StockLedger
from orderplane.operator.leaving import LeavingQueue

WORKERS = {Kind.ORDER: 16, Kind.RESERVATION: 8, Kind.PAYMENT: 16, Kind.SHIPMENT: 16}
WRITERS = 4

CHILD_KINDS = (Kind.RESERVATION, Kind.PAYMENT, Kind.SHIPMENT)


@dataclass(frozen=True, slots=True)
class Operator:
    """Everything that runs, and what feeds it; `polls` are named endless tasks."""

    cluster: Cluster
    gates: GateLedger
    stock: StockLedger
    shipments: ShipmentLedger
    refunds: RefundLedger
    controllers: Mapping[Kind, Controller[Gate]]
    polls: Mapping[str, Callable[[Beat], Coroutine[Any, Any, None]]]

    def enqueue(
        self,
        kind: Kind,
        key: Key,
        hint: Gate | None = None,
        *,
        is_urgent: bool = True,
        is_status_only: bool = False,
    ) -> None:
        """Have a key reconciled, where this process runs its kind; unless urgent, behind all others.

        The hint, an order's gate as it was a moment ago, saves reading it. It decides nothing: every effect
        passes the gate itself. `is_status_only` is as in `Enqueue`.
        """
        controller = self.controllers.get(kind)
        if controller is None:
            return
        if is_status_only:
            controller.report(key)
        else:
            controller.enqueue(key, is_urgent=is_urgent, hint=hint)

    def on_change(self, kind: Kind, resource: Resource) -> None:
        """This object is new, or has changed."""
        reference = None
        match resource:
            case Reservation() | Payment() | Shipment():
                reference = resource.spec.order_ref
        self.enqueue_related(kind, resource.key, reference.name if reference else None)
        if isinstance(resource, Order) and resource.wants_retry:
            for child in CHILD_KINDS:
                self.enqueue(child, (resource.metadata.namespace, resource.child_name))

    def enqueue_related(self, kind: Kind, key: Key, order_name: str | None) -> None:
        """Something of this object changed: it may concern itself and its order."""
        self.enqueue(kind, key)
        if order_name is not None:
            self.enqueue(Kind.ORDER, (key[0], order_name))


def build(
    api: Api,
    pool: Pool,
    payment_provider: PaymentProvider,
    carrier: Carrier,
    *,
    kinds: frozenset[Kind],
    member: str,
    confirm_settle: timedelta,
    settle: timedelta,
    first_poll: timedelta,
    longest_poll: timedelta,
    rest_rules: RestRules,
    live_orders: int,
) -> Operator:
    """Wire the reconcilers of `kinds` to ledgers and providers.

    Args:
        member: The name of this replica.
        confirm_settle: How long a confirm may still take the money after it was begun.
        settle: How long a buying call may still land at the carrier after its client gave up.
        first_poll: How soon the carrier is first asked where a parcel is.
        longest_poll: The pause that the polls of a parcel grow to.
        rest_rules: How long an order stays in the API server after its end.
        live_orders: With more orders, those that are at rest longest leave early.
    """
    # The operator needs the cluster, and the cluster tells the operator what the server's answers show.
    cluster = Cluster(api, time.monotonic, lambda kind, found: operator.on_change(kind, found))  # noqa: PLW0108
    gates, stock = PostgresGateLedger(pool), PostgresStockLedger(pool)
    shipments, parcels = PostgresShipmentLedger(pool), PostgresParcelLedger(pool)
    refunds = PostgresRefundLedger(pool)
    controllers: dict[Kind, Controller[Gate]] = {}
    polls: dict[str, Callable[[Beat], Coroutine[Any, Any, None]]] = {}
    operator = Operator(cluster, gates, stock, shipments, refunds, controllers, polls)
    enqueue = operator.enqueue
    archive = PostgresOrderArchive(pool)
    leaving = Leaving(cluster, gates, refunds, archive, enqueue, _now, rest_rules)
    leaving_queue = LeavingQueue(
        leaving,
        cluster,
        archive,
        most=live_orders,
        is_busy=lambda: any(controller.has_waiting for controller in controllers.values()),
        look_again=lambda key: enqueue(Kind.ORDER, key, is_urgent=False),
        now=_now,
    )
    reconcilers: tuple[Reconciler[Gate], ...] = (
        OrderReconciler(
            cluster,
            gates,
            refunds,
            leaving,
            enqueue,
            _now,
            leave=leaving_queue.add,
            elapsed=_elapsed,
            charge_limits=charge_limits(),
        ),
        ReservationReconciler(cluster, gates, stock, enqueue, _now),
        PaymentReconciler(
            cluster,
            gates,
            PostgresPaymentLedger(pool),
            payment_provider,
            enqueue,
            _now,
            operator=member,
            settle=confirm_settle,
        ),
        ShipmentReconciler(
            cluster,
            gates,
            shipments,
            carrier,
            enqueue,
            _now,
            operator=member,
            elapsed=_elapsed,
            settle=settle,
            first_poll=first_poll,
        ),
    )
    for reconciler in reconcilers:
        if reconciler.kind in kinds:
            controllers[reconciler.kind] = Controller(
                reconciler, workers=WORKERS[reconciler.kind], writers=WRITERS
            )
    if Kind.ORDER in kinds:
        polls["leaving"] = leaving_queue.run
    if Kind.SHIPMENT in kinds:
        poller = TrackingPoller(
            shipments, parcels, carrier, enqueue, first=first_poll, longest=longest_poll, settle=settle
        )
        polls["tracking"] = partial(poll, poller.track, first_poll)
        scheduler = PickupScheduler(parcels, carrier)
        polls["pickups"] = partial(poll, scheduler.create, first_poll)
        polls["pickup-bookings"] = partial(poll, scheduler.book, first_poll)
    return operator


def _now() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)


def _elapsed() -> float:
    # CLOCK_MONOTONIC stands still while the machine is suspended; a purchase gets old in that time, too.
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))
