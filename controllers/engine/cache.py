"""What this process knows of the cluster's objects of one kind.

Watch events and the answers to our own writes arrive in any order; the newest resourceVersion wins.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, Generic, Protocol, TypeVar

import structlog
from prometheus_client import Counter as CounterMetric
from prometheus_client import Gauge
from pydantic import ValidationError

from orderplane.controllers.engine.fair_queue import Key

log = structlog.get_logger(__name__)

CACHED_OBJECTS = Gauge("orderplane_cached_objects", "Objects in this process's caches.", ["kind"])
UNREADABLE = CounterMetric(
    "orderplane_unreadable_objects_total", "Objects whose form is not known here.", ["kind"]
)

TOMBSTONE_SECONDS = 600.0
"""How long a deletion is remembered: longer than any answer or watch event can be late."""


class Cached(Protocol):
    """What is kept of an object: a model, or the part of it that this process needs."""

    @property
    def uid(self) -> str: ...
    @property
    def key(self) -> Key: ...
    @property
    def version(self) -> int: ...


R_co = TypeVar("R_co", bound=Cached, covariant=True)


class Cache(Generic[R_co]):
    """Objects by uid, found by key; as many as the cluster has, or as the caller keeps.

    Args:
        parse: Makes what is kept of an object. One that it cannot read (ValueError) is logged and left out:
            it must not stop what is done for all others.
        clock: Monotonic seconds.
        group_of: What an object is counted under, if anything: see `count`.
    """

    def __init__(
        self,
        parse: Callable[[dict[str, Any]], R_co],
        clock: Callable[[], float],
        group_of: Callable[[Any], str | None] = lambda _: None,
    ) -> None:
        self._parse = parse
        self._clock = clock
        self._objects: dict[str, R_co] = {}
        self._uids: dict[Key, str] = {}
        self._tombstones: dict[str, float] = {}
        self._group_of = group_of
        self._groups: dict[str, str] = {}
        self._counts: Counter[str] = Counter()
        self.newest = 0

    def __len__(self) -> int:
        return len(self._objects)

    def __iter__(self) -> Iterator[R_co]:
        return iter(tuple(self._objects.values()))

    def count(self, group: str) -> int:
        """How many objects are in a group. It is kept, not counted now."""
        return self._counts[group]

    def get(self, key: Key) -> R_co | None:
        """The object of that name, as far as this process knows."""
        uid = self._uids.get(key)
        return self._objects.get(uid) if uid else None

    def store(self, document: dict[str, Any]) -> R_co | None:
        """Take an object in; answers it where it is newer than what was known, else None."""
        metadata = document["metadata"]
        uid, version = metadata["uid"], int(metadata["resourceVersion"])
        self.newest = max(self.newest, version)
        if uid in self._tombstones:
            return None
        known = self._objects.get(uid)
        if known is not None and known.version >= version:
            return None
        try:
            resource = self._parse(document)
        except ValueError as problem:
            kind = str(document.get("kind"))
            UNREADABLE.labels(kind).inc()
            key = f"{metadata['namespace']}/{metadata['name']}"
            log.error("unreadable", kind=kind, key=key, fields=_fields(problem))
            return None
        self._objects[uid] = resource
        self._regroup(uid, self._group_of(resource))
        indexed = self._objects.get(self._uids.get(resource.key, uid))
        # A name can be used again: the index follows the younger object.
        if indexed is None or indexed.version <= version:
            self._uids[resource.key] = uid
        return resource

    def record_deletion(self, document: dict[str, Any]) -> Key:
        """Take a DELETED event in.

        With a deletionTimestamp the object is gone for good, and a tombstone keeps late answers out. Without
        one it may only have left the watch's selector, and can come back.
        """
        metadata = document["metadata"]
        uid, key = metadata["uid"], (metadata["namespace"], metadata["name"])
        self.newest = max(self.newest, int(metadata["resourceVersion"]))
        if metadata.get("deletionTimestamp"):
            self._tombstones[uid] = self._clock()
        self.drop(uid, key)
        return key

    def missing_from(self, listed: set[str], list_version: int) -> list[R_co]:
        """Drop what a complete list, as of `list_version`, does not have; answers what was dropped."""
        gone = [
            resource
            for uid, resource in self._objects.items()
            if uid not in listed and resource.version <= list_version
        ]
        for resource in gone:
            self.drop(resource.uid, resource.key)
        return gone

    def drop(self, uid: str, key: Key) -> None:
        """Hold an object no longer. It comes back with its next event."""
        self._objects.pop(uid, None)
        self._regroup(uid, None)
        if self._uids.get(key) == uid:
            del self._uids[key]

    def sweep(self) -> None:
        """Drop old tombstones."""
        horizon = self._clock() - TOMBSTONE_SECONDS
        self._tombstones = {uid: at for uid, at in self._tombstones.items() if at > horizon}

    def _regroup(self, uid: str, group: str | None) -> None:
        before = self._groups.pop(uid, None)
        if before is not None:
            self._counts[before] -= 1
        if group is not None:
            self._groups[uid] = group
            self._counts[group] += 1


def _fields(problem: ValueError) -> list[str]:
    if not isinstance(problem, ValidationError):
        return [str(problem)]
    return [".".join(map(str, error["loc"])) for error in problem.errors(include_input=False)]
