"""Carry an order's plan out, and report where the order stands."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from orderplane.controllers.engine.backoff import FailureState
from orderplane.controllers.engine.cluster import Cluster
from orderplane.controllers.engine.queue import Key, Wake
from orderplane.controllers.order.children import (
    Children,
    is_as_planned,
    is_controlled_by,
    is_own,
    manifest_of,
)
from orderplane.controllers.order.plan import Plan, Undo, plan
from orderplane.controllers.order.status import news, status_of
from orderplane.crds.api_errors import NamespaceTerminating
from orderplane.crds.meta import COMPENSATE_FINALIZER, TRACEPARENT_ANNOTATION, Kind
from orderplane.crds.order import Compensation, Order, child_name
from orderplane.crds.reasons import Reason
from orderplane.ledgers.errors import Transient
from orderplane.ledgers.gate import Gate, GateLedger, GateState

LOST_NEWS_SECONDS = 2.0

CHILD_KINDS = (Kind.SHIPMENT, Kind.PAYMENT, Kind.RESERVATION)


@dataclass(frozen=True, slots=True)
class _Seen:
    """What the last reconcile of an order found, for its report."""

    uid: str
    gate: Gate
    compensation: tuple[Compensation, ...]


class OrderReconciler:
    """The saga's conductor. It has no effect on money, stock or goods itself: the children have.

    Args:
        wake: Asks another kind's controller to look at a key, where it runs in this process.
    """

    kind = Kind.ORDER

    def __init__(
        self,
        cluster: Cluster,
        gates: GateLedger,
        wake: Wake,
        clock: Callable[[], datetime],
    ) -> None:
        self._cluster = cluster
        self._gates = gates
        self._wake = wake
        self._clock = clock
        self._seen: dict[Key, _Seen] = {}

    async def reconcile(
        self, key: Key, trouble: FailureState | None, seen: Gate | None = None
    ) -> float | None:
        order = self._cluster.orders.get(key)
        if order is None:
            self._seen.pop(key, None)
            return await self._reconcile_vanished(key)
        gate = await self._gate(key, order, seen)
        step = self._plan(order, gate)
        while step.is_decision:
            if step.seal and not await self._are_children_gone(order):
                break
            gate = await self._decide(order, step)
            step = self._plan(order, gate)
        assert gate is not None
        # Before the step, which may fail: how far the order has come is told all the same.
        await self._remember(key, order, gate)
        await self._carry_out(order, step, gate)
        if step.verify_missing or step.delete or step.settle_orphaned or step.seal or step.release:
            # Events and pokes bring the answers; this is for those that get lost.
            return LOST_NEWS_SECONDS
        return (step.again_at - self._clock()).total_seconds() if step.again_at else None

    async def report(self, key: Key, trouble: FailureState | None) -> None:
        order, seen = self._cluster.orders.get(key), self._seen.get(key)
        if order is None or seen is None or seen.uid != order.metadata.uid:
            return
        now = self._clock()
        children = Children.of(order, self._cluster)
        status = status_of(order, seen.gate, children, seen.compensation, trouble, now)
        if status == order.status or not status.conditions:
            # Before the first condition there is nothing to tell that the defaults do not say.
            return
        for item in news(order.status, status):
            await self._cluster.tell(order, type_=item.type, reason=item.reason, note=item.note, now=now)
        await self._cluster.report(Kind.ORDER, order, status)

    async def refresh(self, key: Key) -> None:
        await self._cluster.refresh(Kind.ORDER, key)

    def rank(self, key: Key) -> int:
        order = self._cluster.orders.get(key)
        return 0 if order is None else -len(Children.of(order, self._cluster).present())

    def traceparent(self, key: Key) -> str | None:
        order = self._cluster.orders.get(key)
        return order.metadata.annotations.get(TRACEPARENT_ANNOTATION) if order else None

    async def _gate(self, key: Key, order: Order, seen: Gate | None) -> Gate | None:
        before = self._seen.get(key)
        if before is None and not order.status.conditions:
            # Nobody has looked at it yet, so it has no row, or `open` will find it.
            return None
        is_forward = before is not None and before.gate.state is GateState.OPEN
        if seen is not None and seen.uid == order.metadata.uid and is_forward:
            # Nobody is told that an order goes on after having been told that it is undone.
            return seen
        return await self._gates.read(key[0], order.metadata.uid)

    def _plan(self, order: Order, gate: Gate | None) -> Plan:
        return plan(order, gate, Children.of(order, self._cluster), self._clock())

    async def _decide(self, order: Order, step: Plan) -> Gate:
        """Change the gate, and nothing else."""
        if step.undo is not None:
            return await self._undo(order.metadata.namespace, order.metadata.uid, step.undo)
        if step.seal:
            return await self._gates.seal(order.metadata.namespace, order.metadata.uid)
        return await self._gates.open(order)

    async def _undo(self, merchant: str, uid: str, why: Undo) -> Gate:
        return await self._gates.compensate(
            merchant, uid, reason=why.reason, message=why.message, is_cancel=why.is_cancel
        )

    async def _carry_out(self, order: Order, step: Plan, gate: Gate) -> None:
        """Change the cluster, and wake whoever has to act on it."""
        key = (order.metadata.namespace, order.child_name)
        if step.verify_missing is not None:
            await self._look_for(order, step.verify_missing)
        if step.create is not None:
            await self._create(order, step.create, gate)
        for kind, child in step.delete:
            await self._cluster.delete(kind, child)
            self._wake(kind, key)
        for kind in step.settle_orphaned:
            self._wake(kind, key)
        if step.release and COMPENSATE_FINALIZER in order.metadata.finalizers:  # noqa: SIM102
            if await self._are_children_gone(order):
                await self._cluster.release(Kind.ORDER, order, COMPENSATE_FINALIZER)
        if step.delete_order:
            await self._cluster.delete(Kind.ORDER, order)

    async def _create(self, order: Order, kind: Kind, gate: Gate) -> None:
        manifest = manifest_of(kind, order)
        try:
            child = await self._cluster.create(kind, manifest)
        except NamespaceTerminating as problem:
            why = Undo("NamespaceTerminating", problem.message, is_cancel=True)
            await self._undo(*self._ids(order), why)
            self._wake(Kind.ORDER, order.key)
            return
        if not is_own(child, order) or not is_as_planned(child, manifest):
            raise Transient(
                Reason.CHILD_CONFLICT,
                f"{kind.value} {child.metadata.namespace}/{child.metadata.name} is there already and is not "
                "this order's; delete it, then run `orderplane retry`, or cancel the order",
                is_final=True,
            )
        self._wake(kind, child.key, gate)

    async def _look_for(self, order: Order, kind: Kind) -> None:
        child = await self._cluster.look(kind, (order.metadata.namespace, order.child_name))
        if child is None or not is_own(child, order):
            message = f"The order's {kind.value} was begun but is not there any more."
            await self._undo(*self._ids(order), Undo(f"{kind.value}Missing", message))
        self._wake(Kind.ORDER, order.key)

    async def _are_children_gone(self, order: Order) -> bool:
        key = (order.metadata.namespace, order.child_name)
        for kind in CHILD_KINDS:
            child = await self._cluster.look(kind, key)
            if child is not None and is_own(child, order):
                return False
        return True

    async def _reconcile_vanished(self, key: Key) -> float | None:
        """The order's resource is gone, perhaps with its finalizer torn off: its ledgers are still undone."""
        gates = await self._gates.unsealed(*key)
        if not gates:
            return None
        order = await self._cluster.look(Kind.ORDER, key)
        for gate in gates:
            if order is not None and order.metadata.uid == gate.uid:
                self._wake(Kind.ORDER, key)
                continue
            why = Undo("OrderMissing", "The Order resource vanished before the order was finished.")
            after = await self._undo(gate.merchant, gate.uid, why)
            is_left = await self._delete_orphans(gate)
            if after.is_compensated and not is_left:
                await self._gates.seal(gate.merchant, gate.uid)
        return 1.0

    async def _delete_orphans(self, gate: Gate) -> bool:
        """Have the children go whose order vanished; answers whether there are any."""
        key = (gate.merchant, child_name(gate.name, gate.uid))
        is_left = False
        for kind in CHILD_KINDS:
            child = await self._cluster.look(kind, key)
            if child is not None and is_controlled_by(child, gate.uid):
                is_left = True
                if not child.is_deleting:
                    await self._cluster.delete(kind, child)
            self._wake(kind, key)
        return is_left

    async def _remember(self, key: Key, order: Order, gate: Gate) -> None:
        before = self._seen.get(key)
        compensation: tuple[Compensation, ...] = ()
        if gate.reason is not None:
            is_same = before is not None and before.gate == gate and before.uid == gate.uid
            compensation = (
                before.compensation
                if before is not None and is_same
                else await self._gates.compensation(gate.merchant, gate.uid)
            )
        self._seen[key] = _Seen(order.metadata.uid, gate, compensation)

    @staticmethod
    def _ids(order: Order) -> tuple[str, str]:
        return order.metadata.namespace, order.metadata.uid
