"""Feed the caches: Kopf's watch streams, and a resync of our own behind them."""

import asyncio
import random
from typing import Any

import kopf
import structlog

from orderplane.adapters.kubernetes.client import ApiClient
from orderplane.controllers.engine.metrics import CACHED_OBJECTS
from orderplane.crds.api_errors import ApiError, Gone
from orderplane.crds.meta import GROUP, RETRY_ANNOTATION, VERSION, Kind, Resource
from orderplane.crds.order import Order
from orderplane.operator.wiring import Operator

log = structlog.get_logger(__name__)

RESYNC_SECONDS = 60.0
"""Kopf has no resync, and does not tell of what vanished while its watch was down."""


class EtcdRestored(Exception):  # noqa: N818
    """The server's newest version is older than what was seen: start afresh with empty caches."""


class Watch:
    """Takes events in and wakes whoever they concern."""

    def __init__(self, operator: Operator, api: ApiClient) -> None:
        self._operator = operator
        self._api = api
        self._is_synced = False
        self._resync_now = asyncio.Event()

    @property
    def is_synced(self) -> bool:
        """Every kind was listed once."""
        return self._is_synced

    def register(self, registry: kopf.OperatorRegistry) -> None:
        """Have Kopf call us for every event of every kind, and do nothing else."""
        for kind in Kind:
            CACHED_OBJECTS.labels(kind.value).set_function(self._operator.cluster.cache(kind).__len__)

            async def take(event: Any, kind: Kind = kind, **_: Any) -> None:
                self.take(kind, event["type"], dict(event["object"]))

            kopf.on.event(GROUP, VERSION, kind.plural, registry=registry, id=kind.plural)(take)

    def take(self, kind: Kind, type_: str | None, document: dict[str, Any]) -> None:
        """One watch event."""
        cache = self._operator.cluster.cache(kind)
        if type_ == "DELETED":
            key = cache.bury(document)
            owner = (document["spec"].get("orderRef") or {}).get("name") if kind is not Kind.ORDER else None
            self._operator.wake_related(kind, key, owner)
            return
        if type_ is None and self._is_synced:
            # A watch was opened anew: what was deleted meanwhile is not told.
            self._resync_now.set()
        news = cache.store(document)
        if news is not None:
            self._announce(kind, news)

    async def resync_forever(self) -> None:
        """Every minute, and soon after a watch was opened anew."""
        while True:
            try:
                async with asyncio.timeout(RESYNC_SECONDS * random.uniform(0.8, 1.2)):
                    await self._resync_now.wait()
                await asyncio.sleep(1)
            except TimeoutError:
                pass
            self._resync_now.clear()
            try:
                await self.resync()
            except ApiError as problem:
                log.warning("resync failed; it is tried again", why=str(problem))
                await asyncio.sleep(random.uniform(1, 3))
                self._resync_now.set()

    async def resync(self) -> None:
        """List every kind, and look again at everything that is not over.

        Raises:
            ApiError: a list failed.
            EtcdRestored: the cluster went back in time.
        """
        for kind in Kind:
            await self._list(kind)
        self._is_synced = True
        for cached in Kind:
            self._operator.cluster.cache(cached).sweep()
            for resource in self._operator.cluster.cache(cached):
                self._announce(cached, resource)
        await self._wake_orphans()

    async def _list(self, kind: Kind) -> None:
        cache = self._operator.cluster.cache(kind)
        before = cache.newest
        listed: set[str] = set()
        token: str | None = None
        version = 0
        while True:
            try:
                page = await self._api.list_page(kind, continue_token=token)
            except Gone:
                return await self._list(kind)
            version = version or page.resource_version
            for document in page.items:
                listed.add(document["metadata"]["uid"])
                cache.store(document)
            token = page.continue_token
            if token is None:
                break
        if version < before:
            raise EtcdRestored(f"{kind.plural} are at version {version}, {before} was seen before")
        for resource in cache.missing_from(listed, version):
            self._announce(kind, resource)
        return None

    async def _wake_orphans(self) -> None:
        """Rows of orders that are not over, whose resource nobody knows any more."""
        after: tuple[str, str] | None = None
        while True:
            gates = await self._operator.gates.unsealed_page(after, 500)
            for gate in gates:
                order = self._operator.cluster.orders.get((gate.merchant, gate.name))
                if order is None or order.metadata.uid != gate.uid:
                    self._operator.wake(Kind.ORDER, (gate.merchant, gate.name))
            if len(gates) < 500:
                return
            after = (gates[-1].merchant, gates[-1].uid)

    def _announce(self, kind: Kind, resource: Resource) -> None:
        reference = getattr(resource.spec, "order_ref", None)  # type: ignore[attr-defined]
        self._operator.wake_related(kind, resource.key, reference.name if reference else None)
        if isinstance(resource, Order) and _wants_retry(resource):
            for child in (Kind.RESERVATION, Kind.PAYMENT, Kind.SHIPMENT):
                self._operator.wake(child, (resource.metadata.namespace, resource.child_name))


def _wants_retry(order: Order) -> bool:
    return order.metadata.annotations.get(RETRY_ANNOTATION) != order.status.handled_retry
