"""The cluster as controllers see it: caches to read, writes that keep the caches true."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any, TypeVar

from orderplane.controllers.engine.api import Api, Json
from orderplane.controllers.engine.cache import Cache
from orderplane.controllers.engine.queue import Key
from orderplane.crds.api_errors import AlreadyExists, NotFound
from orderplane.crds.meta import Kind, Resource
from orderplane.crds.order import Order
from orderplane.crds.payment import Payment
from orderplane.crds.reservation import Reservation
from orderplane.crds.shipment import Shipment

R = TypeVar("R", bound=Resource)

MODELS: dict[Kind, type[Resource]] = {
    Kind.ORDER: Order,
    Kind.RESERVATION: Reservation,
    Kind.PAYMENT: Payment,
    Kind.SHIPMENT: Shipment,
}


class Cluster:
    """One cache per kind, and reads and writes whose answers go into it.

    Args:
        announce: Told of each object that is new or not what it was, but for what we wrote ourselves.
    """

    def __init__(
        self, api: Api, clock: Callable[[], float], announce: Callable[[Kind, Resource], None]
    ) -> None:
        self._api = api
        self._announce = announce
        self._early: dict[tuple[Kind, Key], Resource | None] = {}
        self.orders: Cache[Order] = Cache(Order.model_validate, clock)
        self.reservations: Cache[Reservation] = Cache(Reservation.model_validate, clock)
        self.payments: Cache[Payment] = Cache(Payment.model_validate, clock)
        self.shipments: Cache[Shipment] = Cache(Shipment.model_validate, clock)
        self._caches: dict[Kind, Cache[Any]] = {
            Kind.ORDER: self.orders,
            Kind.RESERVATION: self.reservations,
            Kind.PAYMENT: self.payments,
            Kind.SHIPMENT: self.shipments,
        }

    def cache(self, kind: Kind) -> Cache[Any]:
        """The cache of a kind."""
        return self._caches[kind]

    def hear(self, kind: Kind, document: Json) -> None:
        """Take a watch event in, and tell of it where it is news.

        What comes while the same object is being written may be the echo of that, sooner than the answer. It
        is kept until the answer is there.
        """
        news: Resource | None = self._caches[kind].store(document)
        if news is None:
            return
        if (kind, news.key) in self._early:
            self._early[kind, news.key] = news
        else:
            self._announce(kind, news)

    async def create(self, kind: Kind, manifest: Json) -> Resource:
        """Create an object, or find that it is there already: whoever asks must look whose it is."""
        namespace, name = manifest["metadata"]["namespace"], manifest["metadata"]["name"]
        try:
            document = await self._written(
                kind, (namespace, name), self._api.create(kind, namespace, manifest)
            )
        except AlreadyExists:
            return self._found(kind, await self._api.get(kind, namespace, name))
        made: Resource | None = self._caches[kind].store(document)
        return made or MODELS[kind].model_validate(document)

    async def look(self, kind: Kind, key: Key) -> Resource | None:
        """Read past the cache; None where it is really gone."""
        try:
            document = await self._api.get(kind, *key)
        except NotFound:
            return None
        return self._found(kind, document)

    async def report(self, kind: Kind, resource: R, status: Any) -> R:
        """Write a status; raises Conflict where the cache was behind."""
        body = status.model_dump(mode="json", by_alias=True, exclude_none=True)
        document = await self._written(
            kind,
            resource.key,
            self._api.put_status(kind, *resource.key, resource.metadata.resource_version, body),
        )
        written: R | None = self._caches[kind].store(document)
        return written or type(resource).model_validate(document)

    async def release(self, kind: Kind, resource: Resource, finalizer: str) -> None:
        """Take one finalizer off.

        The answer is not stored: it can come after the DELETED event that it causes.
        """
        rest = [name for name in resource.metadata.finalizers if name != finalizer]
        patch = {"metadata": {"finalizers": rest, "resourceVersion": resource.metadata.resource_version}}
        try:
            await self._api.merge_patch(kind, *resource.key, patch)
        except NotFound:
            return

    async def delete(self, kind: Kind, resource: Resource) -> None:
        """Ask for this very object, by uid, to go."""
        try:
            document = await self._api.delete(kind, *resource.key, uid=resource.metadata.uid)
        except NotFound:
            return
        if document.get("kind") == kind.value:
            self._found(kind, document)

    async def tell(self, order: Order, *, type_: str, reason: str, note: str, now: datetime) -> None:
        """Make a Kubernetes Event about an order; the same reason of the same order is told once."""
        name = f"{order.child_name}.{reason.lower()}"
        reference = {
            "apiVersion": "orderplane.dev/v1alpha1",
            "kind": "Order",
            "name": order.metadata.name,
            "namespace": order.metadata.namespace,
            "uid": order.metadata.uid,
        }
        body = {
            "apiVersion": "events.k8s.io/v1",
            "kind": "Event",
            "metadata": {"name": name, "namespace": order.metadata.namespace},
            "eventTime": now.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
            "reportingController": "orderplane.dev/operator",
            "reportingInstance": "orderplane-operator",
            "action": reason,
            "reason": reason,
            "regarding": reference,
            "note": note[:1024],
            "type": type_,
        }
        try:
            await self._api.create_event(order.metadata.namespace, body)
        except AlreadyExists:
            return

    async def refresh(self, kind: Kind, key: Key) -> None:
        """Bring one cache entry up to date."""
        await self.look(kind, key)

    async def _written(self, kind: Kind, key: Key, request: Awaitable[Json]) -> Json:
        """Await the answer to a write that fails where somebody else wrote before it."""
        self._early[kind, key] = None
        newest = 0
        try:
            answer = await request
            newest = int(answer["metadata"]["resourceVersion"])
            return answer
        finally:
            early = self._early.pop((kind, key), None)
            if early is not None and int(early.metadata.resource_version) > newest:
                self._announce(kind, early)

    def _found(self, kind: Kind, document: Json) -> Resource:
        news: Resource | None = self._caches[kind].store(document)
        if news is not None:
            self._announce(kind, news)
        return news or MODELS[kind].model_validate(document)
