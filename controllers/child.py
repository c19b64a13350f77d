"""What the controllers of an order's three children share; what is special of each is in its own room."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import ClassVar, Generic, Protocol, TypeAlias, TypeVar

import structlog

from orderplane.controllers.engine.backoff import FailureState
from orderplane.controllers.engine.cache import Cache
from orderplane.controllers.engine.cluster import Cluster, KubernetesEvent
from orderplane.controllers.engine.delays import Delay, delay_shown, with_delay
from orderplane.controllers.engine.queue import Enqueue, Key
from orderplane.controllers.order.children import FINALIZERS, Child, is_as_planned, is_held_by_us, is_own
from orderplane.controllers.steps import (
    CompensateOrder,
    DeleteLeftover,
    ReleaseFinalizer,
    SharedStep,
    Wait,
)
from orderplane.crds.meta import RETRY_ANNOTATION, TRACEPARENT_ANNOTATION, Kind
from orderplane.crds.order import Order
from orderplane.crds.payment import PaymentStatus
from orderplane.crds.reasons import Reason, deleted
from orderplane.crds.reservation import ReservationStatus
from orderplane.crds.shipment import ShipmentStatus
from orderplane.ledgers.errors import Transient
from orderplane.ledgers.gate import Gate, GateLedger

log = structlog.get_logger(__name__)

C = TypeVar("C", bound=Child)
E = TypeVar("E")
E_co = TypeVar("E_co", covariant=True)
S = TypeVar("S")

ChildStatus: TypeAlias = ReservationStatus | PaymentStatus | ShipmentStatus

MOST_STEPS = 8
"""In one reconcile; a plan that asks for more is stuck, and is looked at again later."""

_SUFFIX = 9
"""A child's name is its order's plus a dash and eight characters."""


class ChildLedger(Protocol[E_co]):
    """What the ledgers of all three kinds have."""

    async def uid_of(self, merchant: str, name: str, /) -> str | None:
        """The uid that the newest entry for a resource of that name is kept under."""
        ...

    async def read(self, merchant: str, uid: str, /) -> E_co | None:
        """The entry; None where nothing was ever begun."""
        ...


@dataclass(slots=True)
class Turn(Generic[C, E]):
    """One reconcile of one child: what is known, brought up to date by each step.

    Args:
        uid: What the ledger knows the child by: its order's uid, or its own where it has no order.
        child: None where only the ledger is left of it.
        gate: None where the order was never opened, or where there is no order.
        failure: The failures in a row that came before.
        is_untouched: The provider was asked in this reconcile, and has carried out nothing of what was begun.
    """

    key: Key
    uid: str
    child: C | None
    gate: Gate | None
    entry: E | None
    failure: FailureState | None
    is_untouched: bool = False

    @property
    def merchant(self) -> str:
        """The namespace."""
        return self.key[0]


class ChildReconciler(ABC, Generic[C, E, S]):
    """Plans and carries out one step after the other until the plan says to wait.

    Args:
        ledger: Where this kind's entries are.
        enqueue: Has another kind's controller look at a key, where it runs in this process.
    """

    kind: ClassVar[Kind]
    poll_seconds: ClassVar[float] = 1.0
    """When to look again after a reconcile of more than `MOST_STEPS`."""

    def __init__(
        self,
        cluster: Cluster,
        cache: Cache[C],
        gates: GateLedger,
        ledger: ChildLedger[E],
        enqueue: Enqueue[Gate],
        now: Callable[[], datetime],
    ) -> None:
        self._cluster = cluster
        self._cache = cache
        self._gates = gates
        self._entries_of = ledger
        self._enqueue = enqueue
        self._now = now
        self._entries: dict[Key, E | None] = {}
        self._delays: dict[Key, Delay] = {}
        self._handled_retries: dict[Key, str | None] = {}

    @abstractmethod
    def _is_begun(self, gate: Gate | None) -> bool:
        """Whether the ledger may have an entry, so that it is worth reading."""

    @abstractmethod
    def _plan(self, turn: Turn[C, E]) -> SharedStep | S:
        """The next step."""

    @abstractmethod
    async def _carry_out(self, step: S, turn: Turn[C, E]) -> Wait | None:
        """Take one step, and note in `turn` what has changed; None to plan the next one at once."""

    @abstractmethod
    def _status_of(self, child: C, entry: E | None, delay: Delay | None) -> ChildStatus:
        """The status as it should be."""

    def _gate_after(self, turn: Turn[C, E]) -> Gate | None:
        """The gate as the ledger has just moved it, as a hint for the order; None: let the order read it."""
        return None

    def _is_news(self, turn: Turn[C, E], before: E | None) -> bool:
        """Whether the order has something to do."""
        return turn.entry != before

    def _can_wait(self, child: C, entry: E | None) -> bool:
        """Whether what is new is for nobody: the next status that has to be written tells it too."""
        return False

    async def reconcile(
        self, key: Key, failure: FailureState | None, hint: Gate | None = None
    ) -> float | None:
        child = self._cache.get(key)
        uid = await self._uid(key, child)
        if uid is None:
            self._forget(key)
            return None
        gate = hint if hint is not None and hint.uid == uid else await self._gates.read(key[0], uid)
        before = await self._entries_of.read(key[0], uid) if self._is_begun(gate) else None
        # Before the steps: one that fails has a status, too.
        self._entries[key] = before
        turn = Turn(key, uid, child, gate, before, failure)
        self._delays.pop(key, None)
        try:
            wait = await self._take_steps(turn)
        except BaseException:
            # What the steps before the one that failed have changed is not seen again: it is told now.
            if turn.entry != before:
                self._notify(turn)
            raise
        finally:
            self._entries[key] = turn.entry
        if self._is_news(turn, before):
            self._notify(turn)
        if wait.reason is not None:
            self._delays[key] = Delay(wait.reason, wait.message)
        return wait.seconds

    async def write_status(self, key: Key, delay: Delay | None) -> None:
        child = self._cache.get(key)
        if child is None:
            return
        delay = delay or self._delays.get(key)
        entry = self._entries.get(key)
        if entry is None and (delay.is_quiet if delay is not None else key not in self._entries):
            return
        status = self._status(child, delay)
        before, after = delay_shown(child.status.conditions), delay_shown(status.conditions)
        if status == child.status or (before is None and after is None and self._can_wait(child, entry)):
            return
        await self._cluster.write_status(self.kind, child, status)
        if before != after and child.spec.order_ref is not None:
            # The order shows what its child waits for, and no watch event tells this process of its write. It
            # shall not wait for its ledgers: they may be what does not answer.
            self._enqueue(Kind.ORDER, (key[0], child.spec.order_ref.name), is_status_only=True)

    def _status(self, child: C, delay: Delay | None) -> ChildStatus:
        if child.key in self._entries:
            return self._status_of(child, self._entries[child.key], delay)
        # The ledger could not be read yet.
        return with_delay(child.status, delay, child.metadata.generation, self._now(), is_under_way=True)

    def order_of(self, key: Key) -> str:
        return key[1][:-_SUFFIX]

    def report_pause(self, key: Key) -> float:
        return 0.0

    async def tell_unwritten(self, key: Key, failure: FailureState) -> None:
        child = self._cache.get(key)
        if child is not None:
            event = KubernetesEvent("Warning", failure.reason, failure.message, can_recur=True)
            await self._cluster.emit_event(self.kind, child, event, self._now())

    async def refresh(self, key: Key) -> None:
        await self._cluster.get_live(self.kind, key)

    def priority(self, key: Key) -> int:
        """Children of orders that are further along go first."""
        return 0 if self._cluster.payments.get(key) is None else -1

    def traceparent(self, key: Key) -> str | None:
        child = self._cache.get(key)
        return child.metadata.annotations.get(TRACEPARENT_ANNOTATION) if child else None

    async def _take_steps(self, turn: Turn[C, E]) -> Wait:
        for _ in range(MOST_STEPS):
            step = self._plan(turn)
            match step:
                case Wait():
                    return step
                case ReleaseFinalizer():
                    await self._release(turn.child)
                    return Wait()
                case DeleteLeftover():
                    assert turn.child is not None
                    log.info("deleting a leftover", kind=self.kind.value, key="/".join(turn.key))
                    await self._cluster.delete(self.kind, turn.child)
                    return Wait()
                case CompensateOrder():
                    await self._compensate_order(turn)
                case _:
                    wait = await self._carry_out(step, turn)
                    if wait is not None:
                        return wait
            self._entries[turn.key] = turn.entry
        return Wait(self.poll_seconds)

    async def _uid(self, key: Key, child: C | None) -> str | None:
        if child is None:
            return await self._entries_of.uid_of(*key)
        return child.spec.order_ref.uid if child.spec.order_ref else child.metadata.uid

    async def _compensate_order(self, turn: Turn[C, E]) -> None:
        order = self._order(turn.key)
        await self._gates.compensate(
            turn.merchant,
            turn.uid,
            reason=deleted(self.kind),
            message=f"The order's {self.kind} was deleted before the order was finished.",
            is_cancel=order is not None and (order.is_deleting or order.spec.cancel),
            actor=order.cancelled_by if order is not None else None,
        )
        await self._reread_gate(turn)

    async def _reread_gate(self, turn: Turn[C, E]) -> None:
        turn.gate = await self._gates.read(turn.merchant, turn.uid)

    async def _release(self, child: C | None) -> None:
        if child is not None and is_held_by_us(self.kind, child):
            await self._cluster.release(self.kind, child, FINALIZERS[self.kind])

    def _notify(self, turn: Turn[C, E]) -> None:
        """The ledger moved: have the order look."""
        reference = turn.child.spec.order_ref if turn.child else None
        name = turn.gate.name if turn.gate else reference.name if reference else None
        if name is not None:
            self._enqueue(Kind.ORDER, (turn.merchant, name), self._gate_after(turn))

    def _forget(self, key: Key) -> None:
        self._entries.pop(key, None)
        self._delays.pop(key, None)
        self._handled_retries.pop(key, None)

    def _check_planned(self, child: C) -> None:
        """See that the order really asks for this child, before anything is done for it.

        Raises:
            Transient: it does not, or the order is not in the cache yet.
        """
        order = self._order(child.key)
        if order is None or child.spec.order_ref is None or order.metadata.uid != child.spec.order_ref.uid:
            raise Transient(
                Reason.ORDER_UNKNOWN, f"the order of {self.kind} {'/'.join(child.key)} is not here"
            )
        if not is_own(child, order) or not is_as_planned(child, order):
            raise Transient(
                Reason.NOT_AS_PLANNED,
                f"{self.kind} {'/'.join(child.key)} is not what its order asks for; nothing is done "
                "for it. Delete it.",
                is_final=True,
            )

    def _is_retry_requested(self, key: Key) -> bool:
        """Whether a retry was requested since this key was first seen to need one, or last tried."""
        self._await_retry(key)
        return self._handled_retries[key] != self._requested_retry(key)

    def _await_retry(self, key: Key) -> None:
        """From now on this key needs a retry: what its order has handled so far was for something else.

        To be called in that moment: soon after, the order's status has the next request as handled.
        """
        order = self._order(key)
        self._handled_retries.setdefault(key, order.status.handled_retry if order else None)

    def _handle_retry(self, key: Key) -> None:
        """The requested retry is being made."""
        self._handled_retries[key] = self._requested_retry(key)

    def _requested_retry(self, key: Key) -> str | None:
        """The value of the order's retry annotation: it changes when somebody asks for a retry."""
        order = self._order(key)
        return order.metadata.annotations.get(RETRY_ANNOTATION) if order else None

    def _order(self, key: Key) -> Order | None:
        return self._cluster.orders.get((key[0], self.order_of(key)))
