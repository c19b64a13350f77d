"""List everything now and then: Kopf does not, and does not tell what was deleted while no watch was open."""

import asyncio
import random
from collections import deque

import structlog

from orderplane.adapters.halves import Beat
from orderplane.adapters.kubernetes.client import ApiClient
from orderplane.adapters.retry import wait_for_event
from orderplane.controllers.engine.queue import Key
from orderplane.crds.api_errors import ApiError, EtcdRestored, Gone
from orderplane.crds.meta import Kind, Resource
from orderplane.crds.order import FINISHED, Order, OrderPhase
from orderplane.crds.payment import Payment
from orderplane.crds.reservation import Reservation
from orderplane.crds.shipment import Shipment
from orderplane.ledgers.errors import Transient
from orderplane.operator.wiring import Operator

log = structlog.get_logger(__name__)

SECONDS = 60.0
"""Between two lists."""

UNCHANGED_PER_SECOND = 10
"""How fast unchanged objects are reconciled again: 1,000 in 100 s. Faster would slow orders down."""

FIRST_PER_SECOND = 40
"""The same after a start, so that reports which were lost in a crash are told: 1,000 in 25 s."""

_TICK_SECONDS = 0.25
_IDLE_SECONDS = 10.0

_FIRST_PAGE = 500
_PAGE = 100
_PAGE_PAUSE = 0.06
"""Between two pages of a later list: the other requests to the API server go in between."""
_MOST_ORPHANS = 500

_SOLD = frozenset({OrderPhase.SHIPPED, OrderPhase.DELIVERED, OrderPhase.RETURNED})
_AT_REST = FINISHED | _SOLD


class Resync:
    """Lists every kind, and enqueues the keys that need it.

    What the list has changed is enqueued at once; so is, at the first list, everything under way. For the
    rest only a notification of a ledger, a timer or a report can have been lost. It is enqueued bit by bit,
    behind all other work: all of it at once would delay every order that is created in that moment.
    """

    def __init__(self, operator: Operator, api: ApiClient) -> None:
        self._operator = operator
        self._api = api
        self._is_synced = False
        self._requested = asyncio.Event()
        self._unchanged: deque[tuple[Kind, Key]] = deque()
        self._per_second = FIRST_PER_SECOND

    @property
    def is_synced(self) -> bool:
        """Every kind was listed once."""
        return self._is_synced

    def request(self) -> None:
        """Have the next list soon."""
        self._requested.set()

    async def run(self, beat: Beat) -> None:
        """List every minute, and soon after a request, until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + SECONDS * random.uniform(0.8, 1.2)
            while not self._requested.is_set() and loop.time() < due:
                beat()
                self.enqueue_unchanged(round(self._per_second * _TICK_SECONDS))
                pause = _TICK_SECONDS if self._unchanged else min(_IDLE_SECONDS, due - loop.time())
                await wait_for_event(self._requested, pause)
            if self._requested.is_set():
                await asyncio.sleep(1)
            self._requested.clear()
            try:
                await self.resync(beat)
            except (ApiError, Transient) as problem:
                log.warning("resync failed; it is tried again", why=str(problem))
                await asyncio.sleep(random.uniform(1, 3))
                self._requested.set()

    async def resync(self, beat: Beat = lambda: None) -> None:
        """List every kind; `beat` after each page.

        Raises:
            ApiError: a list failed.
            Transient: the ledgers did not answer.
            EtcdRestored: the cluster went back in time.
        """
        for kind in Kind:
            await self._list(kind, beat)
        is_queue_empty = not self._unchanged
        for kind in Kind:
            cache = self._operator.cluster.cache(kind)
            cache.sweep()
            for resource in cache:
                if not self._is_synced and not self._is_settled(resource):
                    self._operator.on_change(kind, resource)
                elif is_queue_empty and not self._is_at_rest(resource):
                    self._unchanged.append((kind, resource.key))
        self._is_synced = True
        await self._enqueue_orphans(beat)

    def enqueue_unchanged(self, most: int) -> None:
        """Enqueue a few more of the objects that the last list did not change."""
        for _ in range(min(most, len(self._unchanged))):
            self._operator.enqueue(*self._unchanged.popleft(), is_urgent=False)
        if not self._unchanged:
            self._per_second = UNCHANGED_PER_SECOND

    async def _list(self, kind: Kind, beat: Beat) -> None:
        cache = self._operator.cluster.cache(kind)
        before = cache.newest
        listed: set[str] = set()
        token: str | None = None
        version = 0
        while True:
            try:
                page = await self._api.list_page(
                    kind, continue_token=token, limit=_PAGE if self._is_synced else _FIRST_PAGE
                )
            except Gone:
                return await self._list(kind, beat)
            beat()
            version = version or page.resource_version
            for document in page.items:
                listed.add(document["metadata"]["uid"])
                newer = cache.store(document)
                if newer is not None and self._is_synced:
                    self._operator.on_change(kind, newer)
            token = page.continue_token
            if token is None:
                break
            if self._is_synced:
                await asyncio.sleep(_PAGE_PAUSE)
        if version < before:
            raise EtcdRestored(f"{kind.plural} are at version {version}, {before} was seen before")
        for resource in cache.missing_from(listed, version):
            self._operator.on_change(kind, resource)
        return None

    def _is_settled(self, resource: Resource) -> bool:
        """Nothing was asked of it that its status does not answer, and it waits for nothing of ours."""
        match resource:
            case Order():
                is_answered = resource.status.observed_generation == resource.metadata.generation
                is_asked = resource.is_deleting or resource.wants_retry or not is_answered
                return resource.status.phase in _AT_REST and not is_asked
        return self._is_at_rest(resource)

    def _is_at_rest(self, resource: Resource) -> bool:
        """A child of an order that is shipped or came further: the look at the order finds what was lost.

        Except one that is being deleted: only its own look takes its finalizer off. And one of an order that
        was undone, which has none: it was made too late, or came back with a backup.
        """
        match resource:
            case Reservation() | Payment() | Shipment() if resource.spec.order_ref is not None:
                key = resource.metadata.namespace, resource.spec.order_ref.name
                order = self._operator.cluster.orders.get(key)
                return order is not None and order.status.phase in _SOLD and not resource.is_deleting
        return False

    async def _enqueue_orphans(self, beat: Beat) -> None:
        """What may have no resource: orders that are not over, overdue reservations without an order,
        labels that were bought for orders without one, and refunds after the sale."""
        for key in await self._operator.stock.overdue(_MOST_ORPHANS):
            self._operator.enqueue(Kind.RESERVATION, key)
        for key in await self._operator.shipments.strays(_MOST_ORPHANS):
            self._operator.enqueue(Kind.SHIPMENT, key)
        for key in await self._operator.refunds.unsettled(_MOST_ORPHANS):
            self._operator.enqueue(Kind.PAYMENT, key)
        after: tuple[str, str] | None = None
        while True:
            gates = await self._operator.gates.unsealed_page(after, 500)
            beat()
            for gate in gates:
                order = self._operator.cluster.orders.get((gate.merchant, gate.name))
                if order is None or order.metadata.uid != gate.uid:
                    self._operator.enqueue(Kind.ORDER, (gate.merchant, gate.name))
            if len(gates) < 500:
                return
            after = (gates[-1].merchant, gates[-1].uid)
