"""What a child's controller needs to know of the order it belongs to."""

from orderplane.controllers.engine.cluster import Cluster
from orderplane.controllers.engine.queue import Key, Wake
from orderplane.controllers.order.children import is_as_planned, is_own, manifest_of
from orderplane.crds.meta import RETRY_ANNOTATION, TRACEPARENT_ANNOTATION, Kind
from orderplane.crds.order import Order
from orderplane.crds.payment import Payment
from orderplane.crds.reasons import Reason
from orderplane.crds.reservation import Reservation
from orderplane.crds.shipment import Shipment
from orderplane.ledgers.errors import Transient
from orderplane.ledgers.gate import Gate, GateLedger

Child = Reservation | Payment | Shipment

_SUFFIX = 9
"""A child's name is its order's plus a dash and eight characters."""


class ParentOrder:
    """One child kind's view of its orders.

    Args:
        finalizer: What this kind's controller takes off when there is nothing left to undo.
    """

    def __init__(
        self,
        kind: Kind,
        finalizer: str,
        cluster: Cluster,
        gates: GateLedger,
        wake: Wake,
    ) -> None:
        self._kind = kind
        self._finalizer = finalizer
        self._cluster = cluster
        self._gates = gates
        self._wake = wake

    async def gate(self, key: Key, order_uid: str, seen: Gate | None = None) -> Gate | None:
        """The order's row now, or as it was `seen`; None where it was never opened, or there is no order."""
        if seen is not None and seen.uid == order_uid:
            return seen
        return await self._gates.read(key[0], order_uid)

    async def close_gate(self, key: Key, order_uid: str) -> None:
        """Somebody deleted this child of an order that is still open: undo the order."""
        kind = self._kind.value
        await self._gates.compensate(
            key[0],
            order_uid,
            reason=f"{kind}Deleted",
            message=f"The order's {kind} was deleted before the order was finished.",
            is_cancel=self._is_order_deleting(key),
        )

    async def let_go(self, child: Child) -> None:
        """Nothing is left to undo: take the finalizer off."""
        if self._finalizer in child.metadata.finalizers:
            await self._cluster.release(self._kind, child, self._finalizer)

    def check_planned(self, child: Child) -> None:
        """See that the order really asked for this child, before anything is done for it.

        Raises:
            Transient: it did not, or the order is not known here yet.
        """
        order = self._order(child.key)
        if order is None or child.spec.order_ref is None or order.metadata.uid != child.spec.order_ref.uid:
            raise Transient(
                Reason.ORDER_UNKNOWN, f"the order of {self._kind.value} {'/'.join(child.key)} is not here"
            )
        if not is_own(child, order) or not is_as_planned(child, manifest_of(self._kind, order)):
            raise Transient(
                Reason.NOT_AS_PLANNED,
                f"{self._kind.value} {'/'.join(child.key)} is not what its order asks for; nothing is done "
                "for it. Delete it.",
                is_final=True,
            )

    def wake_order(self, key: Key, child: Child | None, gate: Gate | None, seen: Gate | None = None) -> None:
        """The ledger moved: the order has something to do.

        Args:
            gate: As it was before.
            seen: As it is now, where that is known.
        """
        name = gate.name if gate else (child.spec.order_ref.name if child and child.spec.order_ref else None)
        if name is not None:
            self._wake(Kind.ORDER, (key[0], name), seen)

    def wake_siblings(self, key: Key) -> None:
        """The shipment is settled: money and stock can be given back."""
        for kind in (Kind.PAYMENT, Kind.RESERVATION):
            self._wake(kind, key)

    def rank(self, key: Key) -> int:
        """Children of orders that are further along go first."""
        return 0 if self._cluster.payments.get(key) is None else -1

    def retry_wish(self, key: Key) -> str | None:
        """Changes when somebody asks that this order be tried again."""
        order = self._order(key)
        return order.metadata.annotations.get(RETRY_ANNOTATION) if order else None

    def handled_retry(self, key: Key) -> str | None:
        """The last such wish that the order's status says was heard."""
        order = self._order(key)
        return order.status.handled_retry if order else None

    def traceparent(self, key: Key) -> str | None:
        """The trace that the child was born with."""
        child = self._cluster.cache(self._kind).get(key)
        return child.metadata.annotations.get(TRACEPARENT_ANNOTATION) if child else None

    def _order(self, key: Key) -> Order | None:
        return self._cluster.orders.get((key[0], key[1][:-_SUFFIX]))

    def _is_order_deleting(self, key: Key) -> bool:
        order = self._order(key)
        return order is not None and (order.is_deleting or order.spec.cancel)
