"""Carry out what an order's plan says, and write its status."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import assert_never

from orderplane.controllers.engine.backoff import FailureState
from orderplane.controllers.engine.cluster import Cluster, KubernetesEvent
from orderplane.controllers.engine.delays import Delay
from orderplane.controllers.engine.queue import Enqueue, Key
from orderplane.controllers.order.children import (
    Children,
    is_as_planned,
    is_controlled_by,
    is_held_by_us,
    is_own,
    manifest_of,
)
from orderplane.controllers.order.leaving import Leaving
from orderplane.controllers.order.milestones import count_milestones
from orderplane.controllers.order.plan import (
    AskForRefund,
    Compensate,
    Create,
    Decision,
    Delete,
    OpenGate,
    Release,
    Seal,
    SettleOrphaned,
    Step,
    VerifyMissing,
    is_unblocked,
    is_under_way,
    plan,
)
from orderplane.controllers.order.rest import Leave
from orderplane.controllers.order.status import events_of, says_something, status_of, unread_status_of
from orderplane.controllers.steps import Wait
from orderplane.crds.api_errors import NamespaceTerminating
from orderplane.crds.meta import (
    COMPENSATE_FINALIZER,
    RETRY_ANNOTATION,
    TRACEPARENT_ANNOTATION,
    Kind,
    Resource,
)
from orderplane.crds.order import Compensation, Order, OrderStatus, RefundSpec, child_name
from orderplane.crds.reasons import Reason, missing
from orderplane.ledgers.errors import GateClosed, Transient
from orderplane.ledgers.gate import Gate, GateLedger
from orderplane.ledgers.pricing import ChargeLimits
from orderplane.ledgers.refunds import RefundLedger, RefundRequest, new_refund
from orderplane.ledgers.states import GateState

LOST_EVENT_SECONDS = 2.0
"""When to look again after a step whose result a watch event brings, in case that event is lost."""

VANISHED_SECONDS = 1.0
"""Between two looks at what is left of an order whose resource is gone."""

STEP_SECONDS = 0.25
"""Of an order that goes forward, the status waits so long for the next step. Where steps take less, one write
and one Kubernetes Event tell several; one that takes longer is seen as it is taken."""

GATE_SECONDS = 5.0
"""A child is created on a gate that was read so long ago, or less: afterwards it is read again."""

CHILD_KINDS = (Kind.SHIPMENT, Kind.PAYMENT, Kind.RESERVATION)


@dataclass(frozen=True, slots=True)
class _Found:
    """What the last reconcile of an order found, for its status."""

    uid: str
    gate: Gate
    compensation: tuple[Compensation, ...]
    refunds: tuple[RefundRequest, ...]


class OrderReconciler:
    """Moves orders through the saga. It has no effect on money, stock or parcels itself: the children have.

    Args:
        enqueue: Has another kind's controller look at a key, where it runs in this process.
        leave: Has an order taken out of the API server, behind all other work.
        elapsed: Seconds since any moment, by a clock that also runs while this process stands still.
        charge_limits: What the payment provider can charge, by currency.
    """

    kind = Kind.ORDER

    def __init__(
        self,
        cluster: Cluster,
        gates: GateLedger,
        refunds: RefundLedger,
        leaving: Leaving,
        enqueue: Enqueue[Gate],
        now: Callable[[], datetime],
        *,
        leave: Callable[[Key], None],
        elapsed: Callable[[], float],
        charge_limits: Mapping[str, ChargeLimits],
    ) -> None:
        self._cluster = cluster
        self._gates = gates
        self._refunds = refunds
        self._leaving = leaving
        self._leave = leave
        self._charge_limits = charge_limits
        self._enqueue = enqueue
        self._now = now
        self._elapsed = elapsed
        self._found: dict[Key, _Found] = {}

    async def reconcile(
        self, key: Key, failure: FailureState | None, hint: Gate | None = None
    ) -> float | None:
        asked_at = self._elapsed()
        order = self._cluster.orders.get(key)
        if order is None:
            self._found.pop(key, None)
            return await self._reconcile_vanished(key)
        gate = await self._gate(key, order, hint)
        refunds = await self._asked_for(order, gate)
        step = self._plan(order, gate, refunds)
        while isinstance(step, Decision):
            if isinstance(step, Seal) and not await self._are_children_gone(order):
                step = Wait(LOST_EVENT_SECONDS)
                break
            gate = await self._decide(order, step, gate)
            refunds = await self._asked_for(order, gate)
            step = self._plan(order, gate, refunds)
        assert gate is not None
        await self._record_retry(order)
        before = self._found.get(key)
        # Before the step, which may fail: the status shows how far the order has come all the same.
        await self._remember(key, order, gate, refunds)
        if before is not None and is_unblocked(before.gate, gate):
            self._wake_deleted(order)
        if isinstance(step, Create) and self._elapsed() - asked_at > GATE_SECONDS:
            raise GateClosed(f"the gate of order {'/'.join(key)} was read too long ago to create a child")
        if step == Wait():
            return await self._carry_out(order, self._leaving.plan(order, gate, refunds), gate)
        return await self._carry_out(order, step, gate)

    async def write_status(self, key: Key, delay: Delay | None) -> None:
        order = self._cluster.orders.get(key)
        if order is None:
            return
        now = self._now()
        status = self._status(order, delay, now)
        if status == order.status or not says_something(status.conditions):
            return
        for event in events_of(order.status, status, cancelled_by=order.cancelled_by):
            await self._cluster.emit_event(Kind.ORDER, order, event, now)
        await self._cluster.write_status(Kind.ORDER, order, status)
        count_milestones(order, order.status, status, now)

    def _status(self, order: Order, delay: Delay | None, now: datetime) -> OrderStatus:
        children, found = Children.of(order, self._cluster), self._found.get(order.key)
        if found is None or found.uid != order.metadata.uid:
            return unread_status_of(order, children, delay, now)
        return status_of(order, found.gate, children, found.compensation, found.refunds, delay, now)

    def order_of(self, key: Key) -> str:
        return key[1]

    def report_pause(self, key: Key) -> float:
        found = self._found.get(key)
        return STEP_SECONDS if found is not None and is_under_way(found.gate) else 0.0

    async def tell_unwritten(self, key: Key, failure: FailureState) -> None:
        order = self._cluster.orders.get(key)
        if order is not None:
            event = KubernetesEvent("Warning", failure.reason, failure.message, can_recur=True)
            await self._cluster.emit_event(Kind.ORDER, order, event, self._now())

    async def refresh(self, key: Key) -> None:
        await self._cluster.get_live(Kind.ORDER, key)

    def priority(self, key: Key) -> int:
        order = self._cluster.orders.get(key)
        return 0 if order is None else -len(Children.of(order, self._cluster).present())

    def traceparent(self, key: Key) -> str | None:
        order = self._cluster.orders.get(key)
        return order.metadata.annotations.get(TRACEPARENT_ANNOTATION) if order else None

    async def _gate(self, key: Key, order: Order, hint: Gate | None) -> Gate | None:
        before = self._found.get(key)
        if before is None and not order.status.conditions:
            # Never reconciled: there is no row yet, or `open` finds it.
            return None
        is_forward = before is not None and before.gate.state is GateState.OPEN
        if hint is not None and hint.uid == order.metadata.uid and is_forward:
            # Only while the last gate was open: a hint may be older than the compensation read since,
            # and the phase must not go back from Compensating.
            return hint
        return await self._gates.read(key[0], order.metadata.uid)

    def _plan(self, order: Order, gate: Gate | None, refunds: Sequence[RefundRequest]) -> Step:
        return plan(order, gate, Children.of(order, self._cluster), refunds)

    async def _asked_for(self, order: Order, gate: Gate | None) -> tuple[RefundRequest, ...]:
        """The refunds after the sale. Only an order that has ended has any."""
        if gate is None or gate.outcome is None or (gate.is_undone and not order.spec.refunds):
            return ()
        return await self._refunds.of_order(gate.merchant, gate.uid)

    async def _decide(self, order: Order, step: Decision, gate: Gate | None) -> Gate:
        """Change the ledgers, and nothing else; answers the gate after it."""
        match step:
            case AskForRefund(wanted):
                assert gate is not None, "an order that was never opened has not ended"
                await self._ask_for_refund(order, wanted)
                return gate
            case OpenGate():
                return await self._gates.open(order)
            case Compensate():
                return await self._compensate(order.metadata.namespace, order.metadata.uid, step)
            case Seal():
                return await self._gates.seal(order.metadata.namespace, order.metadata.uid)

    async def _ask_for_refund(self, order: Order, wanted: RefundSpec) -> None:
        quote = order.spec.quote
        limits = self._charge_limits.get(quote.currency)
        new = new_refund(
            wanted.name,
            wanted.reason,
            quote,
            amount=wanted.amount,
            lines=wanted.lines,
            is_restocked=wanted.restock,
            step=limits.step if limits else 1,
        )
        await self._refunds.request(order.metadata.namespace, order.metadata.uid, new)
        self._enqueue(Kind.PAYMENT, (order.metadata.namespace, order.child_name))

    async def _compensate(self, merchant: str, uid: str, why: Compensate) -> Gate:
        return await self._gates.compensate(
            merchant,
            uid,
            reason=why.reason,
            message=why.message,
            is_cancel=why.is_cancel,
            actor=why.actor,
        )

    async def _record_retry(self, order: Order) -> None:
        request = order.metadata.annotations.get(RETRY_ANNOTATION)
        if request is not None and order.wants_retry:
            await self._gates.record_retry(
                order.metadata.namespace, order.metadata.uid, request=request, actor=order.retried_by
            )

    async def _carry_out(self, order: Order, step: Step | Leave, gate: Gate) -> float | None:
        """Change the cluster, and enqueue what has to act on it; answers when to look again."""
        key = (order.metadata.namespace, order.child_name)
        match step:
            case Create(kind):
                await self._create(order, kind, gate)
                return None
            case VerifyMissing(kind):
                await self._verify_missing(order, kind)
            case Delete(children):
                for kind, child in children:
                    await self._cluster.delete(kind, child)
                    self._enqueue(kind, key)
            case SettleOrphaned(kinds):
                for kind in kinds:
                    self._enqueue(kind, key)
            case Release():
                if await self._are_children_gone(order):
                    await self._leaving.archive(order.key)
                    await self._cluster.release(Kind.ORDER, order, COMPENSATE_FINALIZER)
            case Leave():
                self._leave(order.key)
                return None
            case Wait(seconds):
                return seconds
            case OpenGate() | Compensate() | Seal() | AskForRefund():
                raise AssertionError("decisions are taken before")
            case _:
                assert_never(step)
        return LOST_EVENT_SECONDS

    async def _create(self, order: Order, kind: Kind, gate: Gate) -> None:
        try:
            child = await self._cluster.create(manifest_of(kind, order))
        except NamespaceTerminating as problem:
            why = Compensate(Reason.NAMESPACE_TERMINATING, problem.message, is_cancel=True)
            await self._compensate(order.metadata.namespace, order.metadata.uid, why)
            self._enqueue(Kind.ORDER, order.key)
            return
        if not is_own(child, order) or not is_as_planned(child, order):
            raise Transient(
                Reason.CHILD_CONFLICT,
                f"{kind.value} {child.metadata.namespace}/{child.metadata.name} is there already and is not "
                "this order's; delete it, then run `orderplane retry`, or cancel the order",
                is_final=True,
            )
        self._enqueue(kind, child.key, gate)

    def _wake_deleted(self, order: Order) -> None:
        """Have the children look that somebody else has deleted; a step of the plan wakes the others."""
        for kind, child in Children.of(order, self._cluster).present():
            if child.is_deleting:
                self._enqueue(kind, child.key)

    async def _verify_missing(self, order: Order, kind: Kind) -> None:
        child = await self._cluster.get_live(kind, (order.metadata.namespace, order.child_name))
        if child is None or not is_own(child, order):
            message = f"The order's {kind.value} was begun but is not there any more."
            why = Compensate(missing(kind), message)
            await self._compensate(order.metadata.namespace, order.metadata.uid, why)
        self._enqueue(Kind.ORDER, order.key)

    async def _are_children_gone(self, order: Order) -> bool:
        key = (order.metadata.namespace, order.child_name)
        for kind in CHILD_KINDS:
            child = await self._cluster.get_live(kind, key)
            if child is not None and is_own(child, order):
                return False
        return True

    async def _reconcile_vanished(self, key: Key) -> float | None:
        """The order's resource is gone, perhaps with its finalizer torn off: its ledgers are compensated."""
        gates = [gate for gate in await self._gates.unsealed(*key) if not _has_left(gate)]
        if not gates:
            return None
        order = await self._cluster.get_live(Kind.ORDER, key)
        # None where only finalizers of others are left: a watch event, or the resync, brings the order back.
        seconds: float | None = None
        for gate in gates:
            if order is not None and order.metadata.uid == gate.uid:
                self._enqueue(Kind.ORDER, key)
                continue
            message = "The Order resource vanished before the order was finished."
            after = await self._compensate(gate.merchant, gate.uid, Compensate(Reason.ORDER_MISSING, message))
            orphans = await self._delete_orphans(gate)
            if not after.is_compensated or any(is_held_by_us(kind, child) for kind, child in orphans):
                seconds = VANISHED_SECONDS
            elif not orphans:
                await self._gates.seal(gate.merchant, gate.uid, is_vanished=True)
        return seconds

    async def _delete_orphans(self, gate: Gate) -> list[tuple[Kind, Resource]]:
        """Delete the children of an order that vanished; answers those that were still there."""
        key = (gate.merchant, child_name(gate.name, gate.uid))
        orphans: list[tuple[Kind, Resource]] = []
        for kind in CHILD_KINDS:
            child = await self._cluster.get_live(kind, key)
            if child is not None and is_controlled_by(child, gate.uid):
                orphans.append((kind, child))
                if not child.is_deleting:
                    await self._cluster.delete(kind, child)
            self._enqueue(kind, key)
        return orphans

    async def _remember(self, key: Key, order: Order, gate: Gate, refunds: tuple[RefundRequest, ...]) -> None:
        before = self._found.get(key)
        compensation: tuple[Compensation, ...] = ()
        if gate.reason is not None:
            is_same = before is not None and before.gate == gate and before.uid == gate.uid
            compensation = (
                before.compensation
                if before is not None and is_same
                else await self._gates.compensation(gate.merchant, gate.uid)
            )
        self._found[key] = _Found(order.metadata.uid, gate, compensation, refunds)


def _has_left(gate: Gate) -> bool:
    """Only its parcel moves, and its Order is in the archive: nothing of it vanished."""
    return gate.state is GateState.OPEN and gate.is_leaving
