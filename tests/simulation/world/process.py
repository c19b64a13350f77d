"""One operator process, advanced by hand from one point to the next."""

from collections import deque
from collections.abc import Coroutine
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from orderplane.controllers.engine.backoff import FailureState, after_failure
from orderplane.controllers.engine.cluster import Cluster
from orderplane.controllers.engine.controller import Reconciler
from orderplane.controllers.engine.delays import Delay, delay_of
from orderplane.controllers.engine.queue import HINT_SECONDS, Key
from orderplane.controllers.order.act import OrderReconciler
from orderplane.controllers.order.leaving import Leaving
from orderplane.controllers.order.rest import make_room
from orderplane.controllers.payment.act import PaymentReconciler
from orderplane.controllers.reservation.act import ReservationReconciler
from orderplane.controllers.shipment.act import ShipmentReconciler
from orderplane.controllers.shipment.polling import TrackingPoller
from orderplane.crds.api_errors import ApiError, Conflict, NotFound
from orderplane.crds.meta import Kind
from orderplane.ledgers.errors import GateClosed, Transient
from orderplane.ledgers.gate import Gate
from orderplane.ledgers.model.archive import InMemoryOrderArchive
from orderplane.ledgers.model.gate import InMemoryGateLedger
from orderplane.ledgers.model.payments import InMemoryPaymentLedger
from orderplane.ledgers.model.refunds import InMemoryRefundLedger
from orderplane.ledgers.model.shipments import InMemoryShipmentLedger
from orderplane.ledgers.model.stock import InMemoryStockLedger
from orderplane.operator.resync import Resync
from orderplane.operator.watch import Watch
from orderplane.operator.wiring import Operator

from .api_server import ApiServer, Json
from .providers import SETTLE

if TYPE_CHECKING:
    from .run import World


@dataclass
class Page:
    """One list, whole."""

    items: list[Json]
    resource_version: int
    continue_token: None = None


class Lister:
    """The part of the API client that the resync uses."""

    def __init__(self, api: ApiServer) -> None:
        self._api = api

    async def list_page(self, kind: Kind, **_: Any) -> Page:
        return Page(*self._api.listed(kind))


class Keys:
    """Stands in for a Controller: takes keys."""

    def __init__(self, process: "Process", kind: Kind) -> None:
        self._process, self._kind = process, kind

    def enqueue(self, key: Key, *, is_urgent: bool = True, hint: Gate | None = None) -> None:
        item, process = (self._kind, key), self._process
        is_alone = item not in process.ready and ("step", *item) not in process.tasks
        process.ready[item] = (process.world.monotonic(), hint) if hint is not None and is_alone else None


class Process:
    """One operator process with its own caches, queues and watch streams.

    Args:
        name: That it has in common with the process that it was started instead of.
        skew: How far its clock is ahead of the one of the ledgers.
    """

    def __init__(self, world: "World", name: str, skew: timedelta) -> None:
        self.world = world
        self.name = name
        self.skew = skew
        self.sleeps_until = world.now()
        self.ready: dict[tuple[Kind, Key], tuple[float, Gate] | None] = {}
        self.due: dict[tuple[Kind, Key], datetime] = {}
        self.status_writes: dict[tuple[Kind, Key], None] = {}
        self.failures: dict[tuple[Kind, Key], FailureState] = {}
        self.streams: dict[Kind, deque[tuple[str, Json]]] = {kind: deque() for kind in Kind}
        self.leaving: dict[Key, bool] = {}
        self.tasks: dict[tuple[str, Kind, Key], Coroutine[Any, Any, Any]] = {}
        cluster = Cluster(world.api, world.monotonic, lambda kind, found: operator.on_change(kind, found))  # noqa: PLW0108
        gates = InMemoryGateLedger(world.tables)
        queues = {kind: Keys(self, kind) for kind in Kind}

        def enqueue(kind: Kind, key: Key, hint: Gate | None = None, *, is_status_only: bool = False) -> None:
            if is_status_only:
                self.status_writes[kind, key] = None
            else:
                queues[kind].enqueue(key, hint=hint)

        stock, shipments = InMemoryStockLedger(world.tables), InMemoryShipmentLedger(world.tables)
        refunds = InMemoryRefundLedger(world.tables)
        self.cluster = cluster
        self.archive = InMemoryOrderArchive(world.tables)
        self.leaver = Leaving(cluster, gates, refunds, self.archive, enqueue, self.now, world.rest_rules)
        tick = timedelta(seconds=1)
        self.reconcilers: dict[Kind, Reconciler[Gate]] = {
            Kind.ORDER: OrderReconciler(
                cluster, gates, refunds, self.leaver, enqueue, self.now,
                leave=lambda key: self.leaving.setdefault(key, False),
                elapsed=world.monotonic, charge_limits={},
            ),
            Kind.RESERVATION: ReservationReconciler(cluster, gates, stock, enqueue, self.now),
            Kind.PAYMENT: PaymentReconciler(
                cluster, gates, InMemoryPaymentLedger(world.tables), world.payment_provider, enqueue,
                self.now, operator=name, settle=SETTLE,
            ),
            Kind.SHIPMENT: ShipmentReconciler(
                cluster, gates, shipments, world.carrier, enqueue, self.now,
                operator=name, elapsed=world.monotonic, settle=SETTLE, first_poll=tick,
            ),
        }  # fmt: skip
        self.parcels = TrackingPoller(
            shipments, shipments, world.carrier, enqueue, first=tick, longest=tick, settle=SETTLE
        )
        operator = Operator(cluster, gates, stock, shipments, refunds, queues, {})  # type: ignore[arg-type]
        self.resync = Resync(operator, Lister(world.api))  # type: ignore[arg-type]
        self.watch = Watch(operator, self.resync)
        self.begin("resync", Kind.ORDER, ("", ""), self.resync.resync())

    def now(self) -> datetime:
        """The time, as this process believes."""
        return self.world.now() + self.skew

    @property
    def is_asleep(self) -> bool:
        """It stands still: a SIGSTOP, a suspended machine."""
        return self.world.now() < self.sleeps_until

    def sleep(self, seconds: float) -> None:
        """Do nothing for a while; what it has sent goes on, and what is sent to it waits."""
        self.sleeps_until = self.world.now() + timedelta(seconds=seconds)

    def begin(self, what: str, kind: Kind, key: Key, work: Coroutine[Any, Any, Any]) -> None:
        """Have a task advanced from now on; one of a name at a time."""
        if (what, kind, key) in self.tasks:
            work.close()
            return
        self.tasks[what, kind, key] = work

    def choices(self) -> list[tuple[str, Any]]:
        """What this process could do next."""
        if self.is_asleep:
            return []
        found: list[tuple[str, Any]] = [("advance", name) for name in self.tasks]
        found += [("step", item) for item in self.ready if ("step", *item) not in self.tasks]
        found += [
            ("write_status", item) for item in self.status_writes if ("write_status", *item) not in self.tasks
        ]
        found += [("leave", key) for key in self.leaving if ("leave", Kind.ORDER, key) not in self.tasks]
        found += [("deliver", kind) for kind, stream in self.streams.items() if stream]
        return found

    def do(self, what: str, item: Any) -> None:
        """Do one of the choices."""
        match what:
            case "advance":
                self._advance(item)
            case "step":
                at, hint = self.ready.pop(item) or (0.0, None)
                if self.world.monotonic() - at > HINT_SECONDS:
                    hint = None
                kind, key = item
                work = self.reconcilers[kind].reconcile(key, self.failures.get(item), hint)
                self.begin("step", kind, key, work)
            case "write_status":
                del self.status_writes[item]
                kind, key = item
                self.begin(
                    "write_status", kind, key, self.reconcilers[kind].write_status(key, self._delay(item))
                )
            case "leave":
                is_crowded = self.leaving.pop(item)
                self.begin("leave", Kind.ORDER, item, self.leaver.leave(item, is_crowded=is_crowded))
            case _:
                type_, document = self.streams[item].popleft()
                self.watch.on_watch_event(item, type_, document)

    def ring(self) -> None:
        """Timers whose time has come."""
        if self.is_asleep:
            return
        for key in self.archive.outdated_now():
            self.begin("update", Kind.ORDER, key, self.leaver.update(key))
        for item, at in list(self.due.items()):
            if at <= self.world.now():
                del self.due[item]
                self.ready[item] = None

    def crowd(self) -> None:
        """There are too many orders: the one that is at rest longest has to leave."""
        for key in make_room(self.cluster.orders, 0, self.now(), 1):
            self.leaving[key] = True

    def crash(self) -> None:
        """Drop everything that is only in memory."""
        for task in self.tasks.values():
            task.close()

    def _advance(self, name: tuple[str, Kind, Key]) -> None:
        what, kind, key = name
        try:
            self.world.at_point(self, self.tasks[name].send(None))
        except StopIteration as end:
            del self.tasks[name]
            if what == "step":
                self.failures.pop((kind, key), None)
                if end.value is not None:
                    self._later((kind, key), end.value)
                self.status_writes[kind, key] = None
        except (Conflict, NotFound, GateClosed) as race:
            del self.tasks[name]
            if what in ("leave", "update"):
                self.ready[kind, key] = None
            elif what == "step" or not isinstance(race, NotFound):
                self.begin("refresh", kind, key, self.reconcilers[kind].refresh(key))
                (self.ready if what == "step" else self.status_writes)[kind, key] = None
        except (Transient, ApiError) as problem:
            del self.tasks[name]
            if what == "leave":
                self.ready[kind, key] = None
            if what == "step":
                if isinstance(problem, ApiError):
                    problem = Transient("ApiServerUnavailable", problem.message)
                self.failures[kind, key] = after_failure(
                    self.failures.get((kind, key)), problem, self.world.monotonic()
                )
                self._later((kind, key), 1.0)
                self.status_writes[kind, key] = None

    def _later(self, item: tuple[Kind, Key], seconds: float) -> None:
        at = self.world.now() + timedelta(seconds=seconds)
        self.due[item] = min(at, self.due.get(item, at))

    def _delay(self, item: tuple[Kind, Key]) -> Delay | None:
        return delay_of(self.failures.get(item), None, self.world.monotonic())
