"""One simulated run: a seed chooses what happens next, until everything has come to rest.

Nothing here is concurrent: each task is a coroutine that is advanced by hand from one point to the next,
so the same seed always gives the same run.
"""

from collections import deque
from collections.abc import Coroutine
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

from orderplane.controllers.engine.backoff import FailureState, after_failure
from orderplane.controllers.engine.cluster import Cluster
from orderplane.controllers.engine.controller import Reconciler
from orderplane.controllers.engine.queue import Key
from orderplane.controllers.order.act import OrderReconciler
from orderplane.controllers.payment.act import PaymentReconciler
from orderplane.controllers.payment.ports import DisputeState
from orderplane.controllers.reservation.act import ReservationReconciler
from orderplane.controllers.shipment.act import ShipmentReconciler
from orderplane.controllers.shipment.polling import TrackingPoller
from orderplane.crds.api_errors import ApiError, Conflict, NotFound
from orderplane.crds.meta import COMPENSATE_FINALIZER, RETRY_ANNOTATION, SHARD_LABEL, Kind
from orderplane.ledgers.errors import GateClosed, Transient
from orderplane.ledgers.gate import Gate
from orderplane.ledgers.model.gate import InMemoryGateLedger
from orderplane.ledgers.model.payments import InMemoryPaymentLedger
from orderplane.ledgers.model.shipments import InMemoryShipmentLedger
from orderplane.ledgers.model.stock import InMemoryStockLedger
from orderplane.ledgers.model.tables import Tables
from orderplane.operator.resync import Resync
from orderplane.operator.watch import Watch
from orderplane.operator.wiring import Operator

from .api_server import ApiServer, Json
from .providers import SETTLE, Carrier, Manners, PaymentProvider
from .steps import point

NAMESPACE = "shop"
START = datetime(2026, 1, 1, tzinfo=UTC)
CHAOS_STEPS = 250
REST_ROUNDS = 400
BUSY_STEPS = 5000


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
        item = self._kind, key
        is_alone = item not in self._process.ready and ("step", *item) not in self._process.tasks
        self._process.ready[item] = hint if is_alone else None


class Process:
    """One operator process with its own caches, queues and watch streams."""

    def __init__(self, world: "World") -> None:
        self.world = world
        self.ready: dict[tuple[Kind, Key], Gate | None] = {}
        self.due: dict[tuple[Kind, Key], datetime] = {}
        self.status_writes: dict[tuple[Kind, Key], None] = {}
        self.failures: dict[tuple[Kind, Key], FailureState] = {}
        self.streams: dict[Kind, deque[tuple[str, Json]]] = {kind: deque() for kind in Kind}
        self.tasks: dict[tuple[str, Kind, Key], Coroutine[Any, Any, Any]] = {}
        cluster = Cluster(world.api, world.monotonic, lambda kind, found: operator.on_change(kind, found))  # noqa: PLW0108
        gates = InMemoryGateLedger(world.tables)
        queues = {kind: Keys(self, kind) for kind in Kind}

        def enqueue(kind: Kind, key: Key, hint: Gate | None = None) -> None:
            queues[kind].enqueue(key, hint=hint)

        stock, tick = InMemoryStockLedger(world.tables), timedelta(seconds=1)
        self.reconcilers: dict[Kind, Reconciler[Gate]] = {
            Kind.ORDER: OrderReconciler(cluster, gates, enqueue, world.now),
            Kind.RESERVATION: ReservationReconciler(cluster, gates, stock, enqueue, world.now),
            Kind.PAYMENT: PaymentReconciler(
                cluster, gates, InMemoryPaymentLedger(world.tables), world.payment_provider, enqueue,
                world.now,
            ),
            Kind.SHIPMENT: ShipmentReconciler(
                cluster, gates, InMemoryShipmentLedger(world.tables), world.carrier, enqueue, world.now,
                settle=SETTLE, first_poll=tick,
            ),
        }  # fmt: skip
        self.parcels = TrackingPoller(
            InMemoryShipmentLedger(world.tables), world.carrier, enqueue, world.now, first=tick, longest=tick
        )
        operator = Operator(cluster, gates, stock, queues, {})  # type: ignore[arg-type]
        self.resync = Resync(operator, Lister(world.api))  # type: ignore[arg-type]
        self.watch = Watch(operator, self.resync)
        self.begin("resync", Kind.ORDER, ("", ""), self.resync.resync())

    def begin(self, what: str, kind: Kind, key: Key, work: Coroutine[Any, Any, Any]) -> None:
        """Have a task advanced from now on; one of a name at a time."""
        if (what, kind, key) in self.tasks:
            work.close()
            return
        self.tasks[what, kind, key] = work

    def choices(self) -> list[tuple[str, Any]]:
        """What this process could do next."""
        found: list[tuple[str, Any]] = [("advance", name) for name in self.tasks]
        found += [("step", item) for item in self.ready if ("step", *item) not in self.tasks]
        found += [
            ("write_status", item) for item in self.status_writes if ("write_status", *item) not in self.tasks
        ]
        found += [("deliver", kind) for kind, stream in self.streams.items() if stream]
        return found

    def do(self, what: str, item: Any) -> None:
        """Do one of the choices."""
        match what:
            case "advance":
                self._advance(item)
            case "step":
                hint = self.ready.pop(item)
                kind, key = item
                work = self.reconcilers[kind].reconcile(key, self.failures.get(item), hint)
                self.begin("step", kind, key, work)
            case "write_status":
                del self.status_writes[item]
                kind, key = item
                self.begin(
                    "write_status", kind, key, self.reconcilers[kind].write_status(key, self._shown(item))
                )
            case _:
                type_, document = self.streams[item].popleft()
                self.watch.on_watch_event(item, type_, document)

    def ring(self) -> None:
        """Timers whose time has come."""
        for item, at in list(self.due.items()):
            if at <= self.world.now():
                del self.due[item]
                self.ready[item] = None

    def crash(self) -> None:
        """Drop everything that is only in memory."""
        for task in self.tasks.values():
            task.close()

    def _advance(self, name: tuple[str, Kind, Key]) -> None:
        what, kind, key = name
        try:
            self.tasks[name].send(None)
        except StopIteration as end:
            del self.tasks[name]
            if what == "step":
                self.failures.pop((kind, key), None)
                if end.value is not None:
                    self._later((kind, key), end.value)
                self.status_writes[kind, key] = None
        except (Conflict, NotFound, GateClosed) as race:
            del self.tasks[name]
            if what == "step" or not isinstance(race, NotFound):
                self.begin("refresh", kind, key, self.reconcilers[kind].refresh(key))
                (self.ready if what == "step" else self.status_writes)[kind, key] = None
        except (Transient, ApiError) as problem:
            del self.tasks[name]
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

    def _shown(self, item: tuple[Kind, Key]) -> FailureState | None:
        failure = self.failures.get(item)
        return failure.as_shown_at(self.world.monotonic()) if failure else None


@dataclass
class World:
    """Everything outside of the operator, and the hand of fate."""

    seed: int
    trace: deque[str] = field(default_factory=lambda: deque(maxlen=80))

    def __post_init__(self) -> None:
        self.rng = Random(self.seed)
        self._now = START
        self.api = ApiServer(self.rng, self.now)
        self.tables = Tables(self.now, pause=point)
        self.manners = Manners(self.rng, self.now)
        self.payment_provider = PaymentProvider(self.manners)
        self.carrier = Carrier(self.manners)
        self.processes: list[Process] = []
        self.disturbed: set[str] = set()
        self.orders: list[str] = []
        self.has_crashed = False
        self._delivered = 0

    def now(self) -> datetime:
        return self._now

    def monotonic(self) -> float:
        return (self._now - START).total_seconds()

    def note(self, text: str) -> None:
        """One line of the story."""
        self.trace.append(f"{self.monotonic():7.1f} {text}")

    def place(self, name: str, lines: dict[str, int]) -> str:
        """A customer orders; answers the uid."""
        total = 100 * sum(lines.values())
        amounts = {"items": total, "shipping": 0, "tax": 0, "discount": 0, "total": total}
        items = [{"sku": sku, "quantity": quantity} for sku, quantity in lines.items()]
        document = self.api.make(
            Kind.ORDER,
            NAMESPACE,
            {
                "metadata": {
                    "name": name, "finalizers": [COMPENSATE_FINALIZER], "labels": {SHARD_LABEL: "1"},
                },
                "spec": {
                    "customer": "c-1",
                    "items": items,
                    "quote": {
                        "currency": "EUR",
                        "lines": [{**item, "unitAmount": 100, "weightGrams": 100} for item in items],
                        "amounts": amounts,
                    },
                    "address": {
                        "name": "A", "line1": "1 Street", "city": "C", "postalCode": "1", "country": "NL",
                    },
                    "paymentMethod": "pm_card_visa",
                    "cancel": False,
                },
            },
        )  # fmt: skip
        uid = str(document["metadata"]["uid"])
        self.orders.append(uid)
        return uid

    def spread(self) -> None:
        """New events reach every watch stream; each is read at its own pace."""
        for kind, type_, document in self.api.events[self._delivered :]:
            for process in self.processes:
                process.streams[kind].append((type_, document))
        self._delivered = len(self.api.events)

    def restart(self, index: int) -> None:
        """Kill one process and start it anew."""
        self.has_crashed = True
        self.processes[index].crash()
        self.processes[index] = Process(self)

    def pass_time(self, seconds: float) -> None:
        """Let time go on: timers ring, late requests land."""
        self._now += timedelta(seconds=seconds)
        self.manners.land()
        for process in self.processes:
            process.ring()

    def act_once(self) -> bool:
        """Let one process do one thing; answers False where nobody has anything to do."""
        self.spread()
        choices = [(p, *choice) for p in self.processes for choice in p.choices()]
        if not choices:
            return False
        process, what, item = self.rng.choice(choices)
        self.note(f"p{self.processes.index(process)} {what} {item}")
        process.do(what, item)
        return True

    def disturb(self) -> None:
        """Something that nobody asked for."""
        live = [key for key in self.api.objects if key[0] is Kind.ORDER]
        children = [key for key in self.api.objects if key[0] is not Kind.ORDER]
        what = self.rng.choices(
            ("crash", "lose", "repeat", "scan", "prune", "cancel", "delete", "child", "strip", "recount",
             "retry", "expire", "namespace", "look", "elsewhere", "dispute", "decide"),
            weights=(8, 6, 4, 10, 2, 3, 2, 1, 1, 2, 1, 1, 1, 3, 2, 1, 2),
        )[0]  # fmt: skip
        self.note(f"! {what}")
        match what:
            case "crash":
                self.restart(self.rng.randrange(len(self.processes)))
            case "lose":
                process = self.rng.choice(self.processes)
                process.streams[self.rng.choice(list(Kind))].clear()
                process.begin("resync", Kind.ORDER, ("", ""), process.resync.resync())
            case "look":
                self.rng.choice(self.processes).resync.enqueue_unchanged(2)
            case "repeat" if self.api.events:
                kind, type_, document = self.rng.choice(self.api.events)
                self.rng.choice(self.processes).streams[kind].append((type_, document))
            case "scan" if self.carrier.by_id:
                self.carrier.scan(self.rng.choice(list(self.carrier.by_id)))
            case "prune":
                self.payment_provider.prune_keys()
            case "cancel" if live:
                self._meddle(key := self.rng.choice(live))
                self.api.change_spec(key, cancel=True)
            case "delete" if live:
                self._meddle(key := self.rng.choice(live))
                self.api.mark_deleted(key)
            case "child" if children:
                self._meddle(key := self.rng.choice(children))
                self.api.mark_deleted(key)
            case "strip" if self.api.objects:
                self._meddle(key := self.rng.choice(list(self.api.objects)))
                self.api.mark_deleted(key)
                if key in self.api.objects:
                    self.api.strip_finalizers(key)
            case "recount":
                sku = self.rng.choice(list(self.tables.on_hand))
                for uid in InMemoryStockLedger(self.tables).recount(sku, self.rng.randrange(4)):
                    self.disturbed.add(uid)
                    for process in self.processes:
                        process.ready[Kind.ORDER, (NAMESPACE, self.tables.gates[uid].name)] = None
            case "retry" if live:
                self.api.annotate(self.rng.choice(live), RETRY_ANNOTATION, str(self.rng.random()))
            case "elsewhere" if self.payment_provider.intents_by_id:
                intent = self.rng.choice(list(self.payment_provider.intents_by_id))
                self.payment_provider.refund_elsewhere(intent, self.rng.choice((50, 100, 1000)))
            case "dispute" if self.payment_provider.intents_by_id:
                intent = self.rng.choice(list(self.payment_provider.intents_by_id))
                self.payment_provider.dispute(intent, self.rng.choice((50, 1000)))
            case "decide":
                self.decide_disputes()
            case "expire":
                self.pass_time(1000)
                self.disturbed.update(self.orders)
            case "namespace" if self.rng.random() < 0.3:
                self.api.is_terminating = True
                self.disturbed.update(self.orders)
                for key in list(self.api.objects):
                    if key in self.api.objects:
                        self.api.mark_deleted(key)

    def decide_disputes(self) -> None:
        """The banks decide."""
        for dispute in list(self.payment_provider.disputes_by_id.values()):
            if dispute.state is DisputeState.OPEN:
                state = self.rng.choice((DisputeState.WON, DisputeState.LOST))
                self.payment_provider.decide(dispute.id, state)

    def _meddle(self, key: tuple[Kind, str, str]) -> None:
        document = self.api.objects[key]
        owners = [owner["uid"] for owner in document["metadata"].get("ownerReferences", ())]
        self.disturbed.update(owners or [document["metadata"]["uid"]])


def play(world: World) -> None:
    """Run a world to its end; AssertionErrors tell what was broken, `World.trace` how."""
    rng = world.rng
    for sku, count in (("A", 5), ("B", 2)):
        world.tables.on_hand[sku] = world.tables.opening[sku] = count
        world.tables.reserved[sku] = world.tables.moved[sku] = 0
    world.processes = [Process(world) for _ in range(rng.choice((1, 1, 2)))]
    world.manners.share = rng.choice((0.0, 0.1, 0.3))
    for number in range(rng.choice((1, 1, 2, 3))):
        lines = rng.choice(({"A": 1}, {"B": 1}, {"A": 2, "B": 1}, {"B": 3}))
        uid = world.place(f"order-{number}", lines)
        match rng.choices(("good", "declined", "address", "label", "pending"), (6, 1, 1, 1, 1))[0]:
            case "declined":
                world.payment_provider.declined.add(uid)
            case "address":
                world.carrier.refused_at_create.add(uid)
            case "label":
                world.carrier.refused_at_buy.add(uid)
            case "pending":
                world.payment_provider.pending_refunds.add(uid)
    try:
        disturbed_run(world)
        rest(world)
    finally:
        for process in world.processes:
            process.crash()


def disturbed_run(world: World) -> None:
    """Everybody works, and everything that can go wrong does."""
    rng, is_quiet = world.rng, world.rng.random() < 0.2
    for _ in range(CHAOS_STEPS):
        roll = rng.random()
        if roll < 0.04 and not is_quiet:
            world.disturb()
        elif roll < 0.08:
            world.api.collect_garbage()
        elif not world.act_once() or roll > 0.97:
            world.pass_time(rng.uniform(0.1, 3))
        if roll > 0.93:
            process = rng.choice(world.processes)
            process.begin("track", Kind.SHIPMENT, ("", ""), process.parcels.track())


def rest(world: World) -> None:
    """No more faults: everything that was begun comes to its end, within a bound."""
    world.note("-- no more faults")
    world.manners.share = 0.0
    world.decide_disputes()
    for number in range(REST_ROUNDS):
        settle(world)
        world.api.collect_garbage()
        for shipment_id in world.carrier.by_id:
            world.carrier.scan(shipment_id)
        for process in world.processes:
            if number % 3 == 0:
                process.begin("track", Kind.SHIPMENT, ("", ""), process.parcels.track())
            process.resync.enqueue_unchanged(3)
            if number % 10 == 0:
                process.begin("resync", Kind.ORDER, ("", ""), process.resync.resync())
        world.pass_time(5)
        if number > 60 and number % 10 == 9 and is_at_rest(world):
            return


def settle(world: World) -> None:
    """Until nobody has anything to do now; who goes on for ever without time passing is in a loop."""
    for _ in range(BUSY_STEPS):
        if not world.act_once():
            return
    raise AssertionError("somebody keeps the others busy for ever")


def is_at_rest(world: World) -> bool:
    """Nothing is left to be done but to look again."""
    gates = world.tables.gates
    is_over = all(uid in gates and gates[uid].finished_at is not None for uid in world.orders)
    is_idle = not any(p.ready or p.tasks or p.status_writes for p in world.processes)
    leaving = any(d["metadata"].get("deletionTimestamp") for d in world.api.objects.values())
    return is_over and is_idle and not leaving
