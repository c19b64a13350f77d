"""One simulated run: a seed chooses what happens next, until everything has come to rest.

Nothing here is concurrent: each task is a coroutine that is advanced by hand from one point to the next,
so the same seed always gives the same run.
"""

from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from random import Random

from orderplane.controllers.order.rest import RestRules
from orderplane.controllers.payment.ports import DisputeState
from orderplane.crds.meta import COMPENSATE_FINALIZER, RETRY_ANNOTATION, SHARD_LABEL, Kind
from orderplane.crds.order import Item, RefundSpec
from orderplane.ledgers.model.gate import InMemoryGateLedger
from orderplane.ledgers.model.payments import InMemoryPaymentLedger
from orderplane.ledgers.model.refunds import InMemoryRefundLedger
from orderplane.ledgers.model.shipments import InMemoryShipmentLedger
from orderplane.ledgers.model.stock import InMemoryStockLedger
from orderplane.ledgers.model.tables import Tables
from orderplane.ledgers.refunds import NewRefund
from orderplane.ledgers.states import (
    NOT_DELIVERED,
    GateState,
    RefundState,
    ShipmentState,
    TrackingStatus,
    VoidState,
)

from .api_server import ApiServer
from .process import Process
from .providers import Carrier, Manners, PaymentProvider
from .steps import point

NAMESPACE = "shop"
START = datetime(2026, 1, 1, tzinfo=UTC)
CHAOS_STEPS = 250
REST_ROUNDS = 400
BUSY_STEPS = 5000

NEVER = RestRules(timedelta(days=3650), timedelta(days=3650))
"""Orders stay."""


@dataclass
class World:
    """Everything outside of the operator, and the hand of fate."""

    seed: int
    rest_rules: RestRules = NEVER
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
        self.kept: set[str] = set()
        self.stripped: set[str] = set()
        self.has_crashed = False
        self.points: Counter[str] = Counter()
        self.when: dict[tuple[str, int], Callable[[Process], None]] = {}
        self._delivered = 0

    def now(self) -> datetime:
        return self._now

    def monotonic(self) -> float:
        return (self._now - START).total_seconds()

    def at_point(self, process: Process, label: str) -> None:
        """A task of this process waits before or after an effect; what was planned for this point happens."""
        self.points[label] += 1
        if happens := self.when.get((label, self.points[label])):
            self.note(f"p{self.processes.index(process)} ! at {label}")
            happens(process)

    def scan(self, shipment_id: str, *, trouble: TrackingStatus | None = None) -> None:
        """The carrier scans a parcel; for an order that is undone, the merchant hands over only what it knew
        of, and does not keep."""
        parcel = self.carrier.by_id[shipment_id]
        uid, entry = parcel.reference, self.tables.shipments.get(parcel.reference)
        is_known = entry is not None and entry.state is ShipmentState.BOUGHT and uid not in self.kept
        has_left = parcel.tracking_status is not TrackingStatus.PRE_TRANSIT
        if has_left or is_known or self.tables.gates[uid].state is GateState.OPEN:
            self.carrier.scan(shipment_id, trouble=trouble)

    def act_as_person(self) -> None:
        """Somebody looks at a label that the carrier does not take back, and whose parcel is at home."""
        for uid in self.kept:
            entry, order = self.tables.shipments.get(uid), self.tables.gates.get(uid)
            if entry is None or order is None or entry.void is not VoidState.REJECTED:
                continue
            key = Kind.ORDER, NAMESPACE, order.name
            if self.rng.random() < 0.5 and key in self.api.objects:
                self.carrier.voids[uid] = VoidState.SUBMITTED
                self.api.annotate(key, RETRY_ANNOTATION, str(self.rng.random()))
            else:
                InMemoryShipmentLedger(self.tables).settle_void_by_hand(uid)
                for process in self.processes:
                    process.ready[Kind.SHIPMENT, (NAMESPACE, f"{order.name}-{uid[-8:]}")] = None

    def act_on_refused_refunds(self) -> None:
        """Somebody pays back what the provider refuses to, there or elsewhere, or has it tried again."""
        for uid, payment in self.tables.payments.items():
            failed = [refund for refund in payment.refunds if refund.state is RefundState.FAILED]
            if not failed or payment.intent_id is None:
                continue
            name = self.tables.gates[uid].name
            match self.rng.choice(("there", "by hand", "again")):
                case "there":
                    self.payment_provider.refund_elsewhere(payment.intent_id, failed[0].amount)
                case "by hand":
                    InMemoryPaymentLedger(self.tables).settle_refund_by_hand(uid)
                case _:
                    self.payment_provider.refused_refunds.discard(uid)
                    if (key := (Kind.ORDER, NAMESPACE, name)) in self.api.objects:
                        self.api.annotate(key, RETRY_ANNOTATION, str(self.rng.random()))
            for process in self.processes:
                process.ready[Kind.PAYMENT, (NAMESPACE, f"{name}-{uid[-8:]}")] = None

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
        before = self.processes[index]
        self.processes[index] = Process(self, before.name, before.skew)

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
             "retry", "expire", "namespace", "look", "elsewhere", "dispute", "decide", "sleep", "trouble",
             "refund", "ask", "crowd", "cancel left"),
            weights=(8, 6, 4, 10, 2, 3, 2, 1, 1, 2, 1, 1, 1, 3, 2, 1, 2, 3, 3, 4, 4, 8, 4),
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
                self.scan(self.rng.choice(list(self.carrier.by_id)))
            case "trouble" if self.carrier.by_id:
                trouble = self.rng.choice(sorted(NOT_DELIVERED))
                self.scan(self.rng.choice(list(self.carrier.by_id)), trouble=trouble)
            case "sleep":
                self.rng.choice(self.processes).sleep(self.rng.uniform(0, 1500))
                # Holds may run out meanwhile.
                self.disturbed.update(self.orders)
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
                self.stripped.add(self.api.objects[key]["metadata"]["uid"])
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
            case "elsewhere" if intents := self._intents_with_money():
                intent = self.rng.choice(intents)
                self.payment_provider.refund_elsewhere(intent, self.rng.choice((50, 100, 1000)))
            case "dispute" if intents := self._intents_with_money():
                intent = self.rng.choice(intents)
                self.payment_provider.dispute(intent, self.rng.choice((50, 1000)))
            case "decide":
                self.decide_disputes()
            case "refund" if live:
                key = self.rng.choice(live)
                before = self.api.objects[key]["spec"].get("refunds", [])
                wanted = self._any_refund(f"r{len(before)}")
                self.api.change_spec(key, refunds=[*before, wanted.model_dump(mode="json", by_alias=True)])
            case "crowd":
                self.rng.choice(self.processes).crowd()
            case "cancel left":
                self.cancel_left(self.rng.choice(self.orders))
            case "ask":
                self.ask_for_refund(self.rng.choice(self.orders))
            case "expire":
                self.pass_time(1000)
                self.disturbed.update(self.orders)
            case "namespace" if self.rng.random() < 0.3:
                self.api.is_terminating = True
                self.disturbed.update(self.orders)
                for key in list(self.api.objects):
                    if key in self.api.objects:
                        self.api.mark_deleted(key)

    def cancel_left(self, uid: str) -> None:
        """The customer cancels an order that is not in the API server any more, as the gateway does."""
        gate = self.tables.gates.get(uid)
        if gate is None or not gate.is_leaving or (Kind.ORDER, NAMESPACE, gate.name) in self.api.objects:
            return
        self.disturbed.add(uid)
        InMemoryGateLedger.compensate.__wrapped__(  # type: ignore[attr-defined]
            InMemoryGateLedger(self.tables), NAMESPACE, uid,
            reason="CancelRequested", message="It was cancelled on request.", is_cancel=True,
        )  # fmt: skip
        for process in self.processes[: self.rng.randrange(2)]:
            # Else the notification is lost.
            process.ready[Kind.ORDER, (NAMESPACE, gate.name)] = None

    def ask_for_refund(self, uid: str) -> None:
        """The merchant asks the ledger, as the gateway does; sometimes twice."""
        gate = self.tables.gates.get(uid)
        if gate is None or gate.state is not GateState.SEALED:
            return
        wanted = self._any_refund(f"a{self.rng.randrange(3)}")
        lines = {item.sku: item.quantity for item in wanted.lines}
        new = NewRefund(wanted.name, wanted.reason, wanted.amount, lines, wanted.restock)
        InMemoryRefundLedger.request.__wrapped__(  # type: ignore[attr-defined]
            InMemoryRefundLedger(self.tables), NAMESPACE, uid, new
        )
        for process in self.processes[: self.rng.randrange(2)]:
            # Else the notification is lost.
            process.ready[Kind.PAYMENT, (NAMESPACE, f"{gate.name}-{uid[-8:]}")] = None

    def _any_refund(self, name: str) -> RefundSpec:
        lines = [Item(sku=self.rng.choice("AB"), quantity=1)] if self.rng.random() < 0.5 else []
        amount = self.rng.choice((None, 1, 50, 100, 1000)) if not lines else self.rng.choice((40, 100))
        is_restocked = self.rng.random() < 0.5
        return RefundSpec(
            name=name, reason="Damaged", amount=amount, lines=tuple(lines), restock=is_restocked
        )

    def _intents_with_money(self) -> list[str]:
        """But for those that were paid back by hand, which the provider does not know: nobody asks twice."""
        by_hand = {
            payment.intent_id
            for payment in self.tables.payments.values()
            if any(refund.state is RefundState.SETTLED_BY_HAND for refund in payment.refunds)
        }
        return [intent for intent in self.payment_provider.intents_by_id if intent not in by_hand]

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
    seconds = rng.choice((0, 20, 10**9))
    world.rest_rules = RestRules(timedelta(seconds=seconds), timedelta(seconds=2 * seconds))
    for sku, count in (("A", 5), ("B", 2)):
        world.tables.on_hand[sku] = world.tables.opening[sku] = count
        world.tables.reserved[sku] = world.tables.moved[sku] = 0
    for number in range(rng.choice((1, 1, 2))):
        skew = timedelta(seconds=rng.choice((0, 0, -300, 300, 60)))
        world.processes.append(Process(world, f"operator-{number}", skew))
    world.manners.share = rng.choice((0.0, 0.1, 0.3))
    for number in range(rng.choice((1, 1, 2, 3))):
        lines = rng.choice(({"A": 1}, {"B": 1}, {"A": 2, "B": 1}, {"B": 3}))
        uid = world.place(f"order-{number}", lines)
        kinds = ("good", "declined", "address", "label", "pending", "refused", "kept", "used")
        match rng.choices(kinds, (6, 1, 1, 1, 1, 1, 1, 1))[0]:
            case "declined":
                world.payment_provider.declined.add(uid)
            case "address":
                world.carrier.refused_at_create.add(uid)
            case "label":
                world.carrier.refused_at_buy.add(uid)
            case "pending":
                world.payment_provider.pending_refunds.add(uid)
            case "refused":
                world.payment_provider.refused_refunds.add(uid)
            case "kept":
                world.carrier.voids[uid] = VoidState.REJECTED
                world.kept.add(uid)
            case "used":
                world.carrier.voids[uid] = VoidState.REJECTED
    share = world.manners.share
    try:
        disturbed_run(world)
        rest(world)
        if rng.random() < 0.3:
            world.note("-- after the sale")
            world.manners.share = share
            for uid in world.orders:
                world.ask_for_refund(uid)
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
            world.scan(shipment_id)
        if number % 5 == 4:
            world.act_as_person()
            world.act_on_refused_refunds()
        for process in world.processes:
            if number % 3 == 0:
                process.begin("track", Kind.SHIPMENT, ("", ""), process.parcels.track())
            process.resync.enqueue_unchanged(3)
            if number % 10 == 0:
                process.begin("resync", Kind.ORDER, ("", ""), process.resync.resync())
        world.pass_time(60 if any(process.is_asleep for process in world.processes) else 5)
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
    is_idle = not any(
        p.ready or p.tasks or p.status_writes or p.leaving or p.is_asleep for p in world.processes
    )
    leaving = any(d["metadata"].get("deletionTimestamp") for d in world.api.objects.values())
    is_stray = any(entry.state is ShipmentState.STRAY for entry in world.tables.shipments.values())
    is_owing = any(payment.unsettled for payment in world.tables.payments.values())
    return is_over and is_idle and not leaving and not is_stray and not is_owing
