"""Take an order out of the API server, once it is at rest, and keep what the archive has of it up to date.

A process may crash between any two lines, and beginning again is right. The order is archived first, which
also notes in its gate that it is leaving: from then on, nothing of it that is missing is a reason to
compensate it. Then its children are deleted; then its finalizer is taken off, and only then is the order
itself deleted. So an order that is being deleted and has our finalizer was deleted by somebody else, who
wants it cancelled.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

from prometheus_client import Counter

from orderplane.controllers.engine.cluster import Cluster
from orderplane.controllers.engine.queue import Enqueue, Key
from orderplane.controllers.order.children import Children
from orderplane.controllers.order.rest import Leave, RestRules, rest
from orderplane.controllers.order.status import status_of
from orderplane.controllers.steps import Wait
from orderplane.crds.meta import COMPENSATE_FINALIZER, Kind
from orderplane.crds.order import Compensation, Order
from orderplane.crds.reasons import Reason
from orderplane.ledgers.archive import ArchivedOrder, OrderArchive, archived_order
from orderplane.ledgers.gate import Gate, GateLedger
from orderplane.ledgers.refunds import RefundLedger, RefundRequest

LEFT = Counter("orderplane_orders_left_total", "Orders that left the API server for the archive.", ["why"])
_RESTED, _CROWDED = LEFT.labels("rested"), LEFT.labels("crowded")


class Leaving:
    """See the module. It has no effect on money, stock or parcels."""

    def __init__(
        self,
        cluster: Cluster,
        gates: GateLedger,
        refunds: RefundLedger,
        archive: OrderArchive,
        enqueue: Enqueue[Gate],
        now: Callable[[], datetime],
        rules: RestRules,
    ) -> None:
        self._cluster = cluster
        self._gates = gates
        self._refunds = refunds
        self._archive = archive
        self._enqueue = enqueue
        self._now = now
        self._rules = rules

    def plan(self, order: Order, gate: Gate, refunds: Sequence[RefundRequest]) -> Leave | Wait:
        """As `rest`."""
        return rest(order, gate, refunds, self._rules, self._now())

    async def leave(self, key: Key, *, is_crowded: bool = False) -> None:
        """Take an order out, if it is at rest now.

        Raises:
            Conflict, NotFound, GateClosed: something of it has changed, or it has gone meanwhile.
            ApiError, Transient: it could not be done now.
        """
        document = await self._cluster.get_document(Kind.ORDER, key)
        if document is None:
            return
        order = Order.model_validate(document)
        gate = await self._gates.read(key[0], order.metadata.uid)
        if gate is None:
            return
        refunds = await self._refunds.of_order(key[0], order.metadata.uid)
        step = rest(order, gate, refunds, self._rules, self._now(), is_crowded=is_crowded)
        if not isinstance(step, Leave):
            return
        gate = await self._store(document, order, gate, refunds)
        for kind, child in Children.of(order, self._cluster).present():
            await self._cluster.delete(kind, child)
            self._enqueue(kind, child.key)
        if not await self._cluster.let_go(Kind.ORDER, order, COMPENSATE_FINALIZER):
            await self._undo_deleted(order)
        (_CROWDED if is_crowded else _RESTED).inc()

    async def archive(self, key: Key) -> None:
        """Archive an order that somebody has deleted, whatever its status tells yet.

        Raises:
            GateClosed: its ledgers have moved meanwhile.
            ApiError, Transient: it could not be done now.
        """
        document = await self._cluster.get_document(Kind.ORDER, key)
        if document is None:
            return
        order = Order.model_validate(document)
        gate = await self._gates.read(key[0], order.metadata.uid)
        if gate is not None:
            refunds = await self._refunds.of_order(key[0], order.metadata.uid)
            await self._store(document, order, gate, refunds)

    async def update(self, key: Key) -> None:
        """Write anew what the archive has of the orders of this name, where their ledgers have moved since.

        Raises:
            GateClosed: they have moved once more meanwhile.
            Transient: it could not be done now.
        """
        for document in await self._archive.outdated(*key):
            order = Order.model_validate(document)
            gate = await self._gates.read(key[0], order.metadata.uid)
            assert gate is not None, "only an order with a gate is archived"
            refunds = await self._refunds.of_order(key[0], order.metadata.uid)
            await self._store(document, order, gate, refunds)

    async def _store(
        self, document: Mapping[str, Any], order: Order, gate: Gate, refunds: Sequence[RefundRequest]
    ) -> Gate:
        return await self._archive.store(await self._row(document, order, gate, refunds), gate)

    async def _row(
        self, document: Mapping[str, Any], order: Order, gate: Gate, refunds: Sequence[RefundRequest]
    ) -> ArchivedOrder:
        compensation: tuple[Compensation, ...] = ()
        if gate.reason is not None:
            compensation = await self._gates.compensation(gate.merchant, gate.uid)
        status = status_of(order, gate, Children(), compensation, refunds, None, self._now())
        body = status.model_dump(mode="json", by_alias=True, exclude_none=True)
        if gate.is_cancel:
            document = {**document, "spec": {**document["spec"], "cancel": True}}
        return archived_order(document, body)

    async def _undo_deleted(self, order: Order) -> None:
        """Somebody deleted the order after its finalizer was off: as any other delete, this means cancel.

        Unless another operator began to take it out after us, and has archived a later version: then it was
        that one.
        """
        merchant, uid = order.metadata.namespace, order.metadata.uid
        gate = await self._gates.read(merchant, uid)
        if gate is not None and gate.archived_version == order.version:
            message = "The order was deleted before it was handed to the carrier."
            await self._gates.compensate(
                merchant, uid, reason=Reason.DELETED, message=message, is_cancel=True
            )
            self._enqueue(Kind.ORDER, order.key)
