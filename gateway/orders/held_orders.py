"""The orders that this process holds in memory: of each what its views need, found by name or in lists."""

from bisect import bisect_right, insort
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from sys import intern
from typing import Any, cast

import orjson
import structlog
from prometheus_client import Counter

from orderplane.controllers.engine.cache import CACHED_OBJECTS, Cache
from orderplane.crds.documents import OrderDocument
from orderplane.crds.meta import Kind

log = structlog.get_logger(__name__)

DROPPED = Counter(
    "orderplane_orders_dropped_total",
    "Orders that were dropped from memory, because more exist than are held (ORDERPLANE_HELD_ORDERS).",
)

_METADATA = ("name", "namespace", "uid", "resourceVersion", "creationTimestamp", "deletionTimestamp")
_SPEC = ("customer", "items", "quote", "cancel")
_STATUS = ("phase", "reason", "conditions", "compensation", "tracking")

Key = tuple[str, str]
Group = tuple[str, str | None, str | None]
"""Merchant, customer, phase; of the last two one at most: that is how lists are asked for."""


@dataclass(frozen=True, slots=True)
class HeldOrder:
    """An Order as JSON without what no view shows: address, means of payment, labels, managedFields.

    As objects of Python it would take five times the memory.
    """

    key: Key
    uid: str
    version: int
    customer: str
    phase: str
    json: bytes

    @classmethod
    def of(cls, document: dict[str, Any]) -> "HeldOrder":
        """What is held of an Order.

        Raises:
            ValueError: it is none that this version can read.
        """
        try:
            metadata, spec, status = document["metadata"], document["spec"], document.get("status") or {}
            shown = {
                "metadata": {name: metadata[name] for name in _METADATA if name in metadata},
                "spec": {name: spec[name] for name in _SPEC if name in spec},
                "status": {name: status[name] for name in _STATUS if name in status},
            }
            return cls(
                key=(intern(metadata["namespace"]), metadata["name"]),
                uid=metadata["uid"],
                version=int(metadata["resourceVersion"]),
                customer=intern(spec["customer"]),
                phase=intern(status.get("phase", "")),
                # A copy: orjson's own bytes keep the memory of its buffer, more than twice as much.
                json=bytes(memoryview(orjson.dumps(shown))),
            )
        except (KeyError, TypeError, AttributeError) as problem:
            raise ValueError(f"no Order: {type(problem).__name__}") from problem

    @property
    def document(self) -> OrderDocument:
        """As the API server sends it, without what is not held."""
        return cast("OrderDocument", orjson.loads(self.json))

    def groups(self) -> Iterator[Group]:
        """The lists that it is in."""
        merchant = self.key[0]
        yield merchant, None, None
        yield merchant, self.customer, None
        yield merchant, None, self.phase


class HeldOrders:
    """At most so many orders; those taken in first go first.

    Args:
        most: How many are held.
        monotonic: Seconds.
    """

    def __init__(self, most: int, monotonic: Callable[[], float]) -> None:
        self._most = most
        self._monotonic = monotonic
        self.clear()
        CACHED_OBJECTS.labels(Kind.ORDER.value).set_function(self.__len__)

    def __len__(self) -> int:
        return len(self._cache)

    @property
    def newest(self) -> int:
        """The newest version that was taken in."""
        return self._cache.newest

    def clear(self) -> None:
        """Forget everything."""
        self._cache: Cache[HeldOrder] = Cache(HeldOrder.of, self._monotonic)
        self._names: defaultdict[Group, list[str]] = defaultdict(list)
        self._partly_held: set[str] = set()

    def sweep(self) -> None:
        """Forget old deletions."""
        self._cache.sweep()

    def store(self, document: dict[str, Any]) -> None:
        """Take an Order in, where it is newer than what is held."""
        key = _key_of(document)
        before = self._cache.get(key)
        if self._cache.store(document) is None:
            return
        self._index(key, before)
        while len(self._cache) > self._most:
            self._drop_oldest()

    def record_deletion(self, document: dict[str, Any]) -> None:
        """An Order is gone."""
        key = _key_of(document)
        before = self._cache.get(key)
        self._cache.record_deletion(document)
        self._index(key, before)

    def get(self, key: Key) -> HeldOrder | None:
        """The Order of that merchant and name, if it is held."""
        return self._cache.get(key)

    def holds_all_of(self, merchant: str) -> bool:
        """Whether no order of the merchant had to be dropped, so that lists are complete."""
        return merchant not in self._partly_held

    def after(
        self, merchant: str, customer: str | None, phase: str | None, name: str | None
    ) -> Iterator[HeldOrder]:
        """Orders by name, from the first one after `name` on; None as a criterion means all.

        It has to be used up before anything else is done with this object.
        """
        names = self._names.get((merchant, customer, phase if customer is None else None), [])
        for index in range(bisect_right(names, name) if name is not None else 0, len(names)):
            order = self._cache.get((merchant, names[index]))
            if order is not None and phase in (None, order.phase):
                yield order

    def _drop_oldest(self) -> None:
        oldest = self._cache.oldest
        before = self._cache.get(oldest.key)
        self._cache.drop(oldest.uid, oldest.key)
        DROPPED.inc()
        if not self._partly_held:
            log.warning(
                "there are more orders than are held; the others are read from the API server",
                held=self._most,
            )
        self._partly_held.add(oldest.key[0])
        self._index(oldest.key, before)

    def _index(self, key: Key, before: HeldOrder | None) -> None:
        after = self._cache.get(key)
        old = frozenset(before.groups()) if before is not None else frozenset()
        new = frozenset(after.groups()) if after is not None else frozenset()
        name = key[1]
        for group in old - new:
            names = self._names[group]
            del names[bisect_right(names, name) - 1]
            if not names:
                del self._names[group]
        for group in new - old:
            insort(self._names[group], name)


def _key_of(document: dict[str, Any]) -> Key:
    metadata = document["metadata"]
    return metadata["namespace"], metadata["name"]
