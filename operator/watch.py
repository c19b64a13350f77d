"""Feed the caches with Kopf's watch streams."""

from functools import partial
from typing import Any

import kopf
from prometheus_client import Gauge

from orderplane.controllers.engine.cache import CACHED_OBJECTS
from orderplane.controllers.engine.delays import RECONCILING, STALLED
from orderplane.controllers.engine.queue import Key
from orderplane.crds.meta import GROUP, VERSION, Kind
from orderplane.operator.resync import Resync
from orderplane.operator.wiring import Operator

WAITING = Gauge(
    "orderplane_waiting_objects",
    "Objects whose status says what they wait for. Each operator exports the same: take the maximum.",
    ["kind"],
)
STALLED_OBJECTS = Gauge(
    "orderplane_stalled_objects",
    "Objects whose status says that they wait for a person. Each operator exports the same.",
    ["kind"],
)


class Watch:
    """Takes watch events in, and enqueues the keys that they concern."""

    def __init__(self, operator: Operator, resync: Resync) -> None:
        self._operator = operator
        self._resync = resync
        self._first_list: dict[Kind, set[Key]] = {kind: set() for kind in Kind}

    def register(self, registry: kopf.OperatorRegistry) -> None:
        """Have Kopf call us for every event of every kind, and do nothing else."""
        for kind in Kind:
            cache = self._operator.cluster.cache(kind)
            CACHED_OBJECTS.labels(kind.value).set_function(cache.__len__)
            WAITING.labels(kind.value).set_function(partial(cache.count, RECONCILING))
            STALLED_OBJECTS.labels(kind.value).set_function(partial(cache.count, STALLED))

            async def take(event: Any, kind: Kind = kind, **_: Any) -> None:
                self.on_watch_event(kind, event["type"], dict(event["object"]))

            kopf.on.event(GROUP, VERSION, kind.plural, registry=registry, id=kind.plural)(take)

    def on_watch_event(self, kind: Kind, type_: str | None, document: dict[str, Any]) -> None:
        """One event; `type_` is None for the objects that a new watch begins with."""
        if type_ == "DELETED":
            key = self._operator.cluster.cache(kind).record_deletion(document)
            owner = (document["spec"].get("orderRef") or {}).get("name") if kind is not Kind.ORDER else None
            self._operator.enqueue_related(kind, key, owner)
            return
        if type_ is None and self._is_opened_anew(kind, document) and self._resync.is_synced:
            # The watch does not show what was deleted while none was open.
            self._resync.request()
        self._operator.cluster.on_watch_event(kind, document)

    def _is_opened_anew(self, kind: Kind, document: dict[str, Any]) -> bool:
        """Whether the watch that begins with this object is not the first one, which a resync precedes."""
        seen = self._first_list.get(kind)
        key = document["metadata"]["namespace"], document["metadata"]["name"]
        if seen is None or key in seen:
            self._first_list.pop(kind, None)
            return True
        seen.add(key)
        return False
