"""The cluster as controllers see it: caches to read, writes that keep the caches true."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal, Protocol

import structlog

from orderplane.controllers.engine.cache import Cache
from orderplane.controllers.engine.delays import delay_type
from orderplane.controllers.engine.queue import Key
from orderplane.crds.api_errors import AlreadyExists, Forbidden, Invalid, NotFound
from orderplane.crds.meta import API_VERSION, MAX_ORDER_NAME, ApiModel, Kind, Manifest, Resource
from orderplane.crds.order import Order, child_name
from orderplane.crds.payment import Payment
from orderplane.crds.reservation import Reservation
from orderplane.crds.shipment import Shipment

log = structlog.get_logger(__name__)

Json = dict[str, Any]

_NOTE_BYTES = 1024


class Api(Protocol):
    """The verbs of the API server that controllers need.

    Each raises the types of `crds.api_errors`, `Unavailable` where no answer came.
    """

    async def create(self, kind: Kind, namespace: str, body: Json) -> Json:
        """Create one object; answers it as stored."""
        ...

    async def get(self, kind: Kind, namespace: str, name: str) -> Json:
        """Read one object by quorum."""
        ...

    async def put_status(
        self, kind: Kind, namespace: str, name: str, resource_version: str, status: Json
    ) -> Json:
        """Replace the status if nobody wrote since; answers the whole object."""
        ...

    async def merge_patch(self, kind: Kind, namespace: str, name: str, patch: Json) -> Json:
        """RFC 7396; conditional where the patch carries a resourceVersion."""
        ...

    async def delete(
        self,
        kind: Kind,
        namespace: str,
        name: str,
        *,
        uid: str | None = None,
        resource_version: str | None = None,
    ) -> Json:
        """Ask for an object to go; answers it as it waits for its finalizers, or a Status."""
        ...

    async def create_event(self, namespace: str, body: Json) -> Json:
        """Create a v1 Event."""
        ...


@dataclass(frozen=True, slots=True)
class KubernetesEvent:
    """One v1 Event to be created.

    Args:
        note: Its text; the API server takes at most `_NOTE_BYTES`, what is beyond them is cut off.
        step: Its place in the object's story, from 0 to 99.
        can_recur: It may happen to the object again, and is told again then.
    """

    type: Literal["Normal", "Warning"]
    reason: str
    note: str
    step: int = 0
    can_recur: bool = False


MODELS: dict[Kind, type[Resource]] = {
    Kind.ORDER: Order,
    Kind.RESERVATION: Reservation,
    Kind.PAYMENT: Payment,
    Kind.SHIPMENT: Shipment,
}


class Cluster:
    """One cache per kind, and reads and writes whose answers go into it.

    Args:
        on_change: Called with each object that is new or has changed, unless it was our own write.
    """

    def __init__(
        self, api: Api, monotonic: Callable[[], float], on_change: Callable[[Kind, Resource], None]
    ) -> None:
        self._api = api
        self._on_change = on_change
        self._held_back: dict[tuple[Kind, Key], Resource | None] = {}
        self.orders: Cache[Order] = Cache(Order.model_validate, monotonic, delay_type)
        self.reservations: Cache[Reservation] = Cache(Reservation.model_validate, monotonic, delay_type)
        self.payments: Cache[Payment] = Cache(Payment.model_validate, monotonic, delay_type)
        self.shipments: Cache[Shipment] = Cache(Shipment.model_validate, monotonic, delay_type)
        self._caches: dict[Kind, Cache[Resource]] = {
            Kind.ORDER: self.orders,
            Kind.RESERVATION: self.reservations,
            Kind.PAYMENT: self.payments,
            Kind.SHIPMENT: self.shipments,
        }

    def cache(self, kind: Kind) -> Cache[Resource]:
        """The cache of a kind."""
        return self._caches[kind]

    def on_watch_event(self, kind: Kind, document: Json) -> None:
        """Take an ADDED or MODIFIED event in; calls `on_change` where the object is newer than the cache's.

        An event that comes while the same object is being written may be the echo of that write. It is held
        back until the answer to the write shows whether it is.
        """
        newer = self._caches[kind].store(document)
        if newer is None:
            return
        if (kind, newer.key) in self._held_back:
            self._held_back[kind, newer.key] = newer
        else:
            self._on_change(kind, newer)

    async def create(self, manifest: Manifest) -> Resource:
        """Create an object, or read the one that has its name: the caller has to check whose it is."""
        kind, key = manifest.kind, (manifest.metadata.namespace, manifest.metadata.name)
        try:
            document = await self._written(kind, key, self._api.create(kind, key[0], manifest.document()))
        except AlreadyExists:
            return self._read(kind, await self._api.get(kind, *key))
        return self._caches[kind].store(document) or MODELS[kind].model_validate(document)

    async def get_live(self, kind: Kind, key: Key) -> Resource | None:
        """Read past the cache; None where it is really gone."""
        try:
            document = await self._api.get(kind, *key)
        except NotFound:
            return None
        return self._read(kind, document)

    async def get_document(self, kind: Kind, key: Key) -> Json | None:
        """Read all of an object, also what its model leaves out; None where it is gone."""
        try:
            document = await self._api.get(kind, *key)
        except NotFound:
            return None
        self._read(kind, document)
        return document

    async def write_status(self, kind: Kind, resource: Resource, status: ApiModel) -> None:
        """Replace the status; raises Conflict where the cache was behind."""
        body = status.model_dump(mode="json", by_alias=True, exclude_none=True)
        document = await self._written(
            kind,
            resource.key,
            self._api.put_status(kind, *resource.key, resource.metadata.resource_version, body),
        )
        self._caches[kind].store(document)

    async def release(self, kind: Kind, resource: Resource, finalizer: str) -> None:
        """Take one finalizer off.

        The answer is not stored: it can come after the DELETED event that this write causes.
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
            self._read(kind, document)

    async def let_go(self, kind: Kind, resource: Resource, finalizer: str) -> bool:
        """Take our finalizer off this very object and delete it, both only while nobody else writes it.

        Answers False where somebody else has deleted it in the moment between the two.

        Raises:
            Conflict: somebody has changed it.
        """
        version, is_released = resource.metadata.resource_version, False
        if finalizer in resource.metadata.finalizers:
            rest = [name for name in resource.metadata.finalizers if name != finalizer]
            patch = {"metadata": {"finalizers": rest, "resourceVersion": version}}
            released = await self._api.merge_patch(kind, *resource.key, patch)
            version, is_released = released["metadata"]["resourceVersion"], True
        try:
            await self._api.delete(kind, *resource.key, uid=resource.metadata.uid, resource_version=version)
        except NotFound:
            return not is_released
        return True

    async def emit_event(self, kind: Kind, resource: Resource, event: KubernetesEvent, now: datetime) -> None:
        """Create a Kubernetes Event about an object, once for each step and reason of that object; what can
        recur once for each second.

        It is one of the core API: events.k8s.io/v1 refuses the time stamps by which `kubectl describe` sorts.
        They are whole seconds; of the same second, the one whose name sorts first is shown first.

        One that is refused is left out, as in a namespace that is being deleted: nothing waits for an Event.
        """
        about, at = resource.metadata, now.astimezone(UTC)
        name = f"{child_name(about.name[:MAX_ORDER_NAME], about.uid)}.{event.step:02}-{event.reason.lower()}"
        if event.can_recur:
            name += f"-{int(at.timestamp())}"
        seconds = at.strftime("%Y-%m-%dT%H:%M:%SZ")
        body = {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": name, "namespace": about.namespace},
            "eventTime": at.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
            "firstTimestamp": seconds,
            "lastTimestamp": seconds,
            "count": 1,
            "reportingComponent": "orderplane.dev/operator",
            "reportingInstance": "orderplane-operator",
            "action": event.reason,
            "reason": event.reason,
            "involvedObject": {
                "apiVersion": API_VERSION,
                "kind": kind.value,
                "name": about.name,
                "namespace": about.namespace,
                "uid": about.uid,
            },
            "message": event.note.encode()[:_NOTE_BYTES].decode(errors="ignore"),
            "type": event.type,
        }
        try:
            await self._api.create_event(about.namespace, body)
        except AlreadyExists:
            return
        except (Forbidden, Invalid) as refused:
            log.info("event refused", kind=kind.value, key="/".join(resource.key), why=refused.summary)

    async def refresh(self, kind: Kind, key: Key) -> None:
        """Bring one cache entry up to date."""
        await self.get_live(kind, key)

    async def _written(self, kind: Kind, key: Key, request: Awaitable[Json]) -> Json:
        """Await the answer to a write; an event that is no echo of it is passed on afterwards."""
        self._held_back[kind, key] = None
        newest = 0
        try:
            answer = await request
            newest = int(answer["metadata"]["resourceVersion"])
            return answer
        finally:
            held_back = self._held_back.pop((kind, key), None)
            if held_back is not None and int(held_back.metadata.resource_version) > newest:
                self._on_change(kind, held_back)

    def _read(self, kind: Kind, document: Json) -> Resource:
        newer = self._caches[kind].store(document)
        if newer is not None:
            self._on_change(kind, newer)
        return newer or MODELS[kind].model_validate(document)
