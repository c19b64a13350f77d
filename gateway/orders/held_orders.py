"""The orders that this process holds in memory: of each what its views need, found by name or in lists.

The newest ones are held, and lists are by time: what is not held is older than what is.
"""

from bisect import bisect_left, insort
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from sys import intern
from typing import Any, cast

import orjson
import structlog
from prometheus_client import Counter

from orderplane.controllers.engine.cache import CACHED_OBJECTS, Cache
from orderplane.crds.documents import OrderDocument
from orderplane.crds.meta import Kind
from orderplane.crds.order import OrderCondition
from orderplane.gateway.orders.listing import Place

log = structlog.get_logger(__name__)

DROPPED = Counter(
    "orderplane_orders_dropped_total",
    "Orders that were dropped from memory, because more exist than are held (ORDERPLANE_HELD_ORDERS).",
)

_METADATA = ("name", "namespace", "uid", "resourceVersion", "creationTimestamp", "deletionTimestamp")
_SPEC = ("customer", "items", "quote", "cancel", "paymentMethod", "reference", "metadata")
_STATUS = ("phase", "reason", "stalled", "conditions", "compensation", "tracking", "finishedAt")

ORDER_BYTES = 4_000
"""What an order may take on average, as JSON. Where a shop keeps much with its orders, fewer are held."""

Key = tuple[str, str]
Age = tuple[str, Key]
Group = tuple[str, str, str]
"""Of which lists are kept: merchant, the name of a criterion, its value. Without one both are empty, for
those that are stalled the value."""


@dataclass(frozen=True, slots=True)
class Criteria:
    """What the orders of a list have in common; None matches all.

    Args:
        stalled: Whether they wait for a person.
    """

    customer: str | None = None
    phase: str | None = None
    reference: str | None = None
    stalled: bool | None = None
    reason: str | None = None

    def group(self, merchant: str) -> Group:
        """The shortest list that has all of them."""
        for name in ("reference", "customer", "phase"):
            if (value := getattr(self, name)) is not None:
                return merchant, name, value
        return (merchant, "stalled", "") if self.stalled else (merchant, "", "")

    def matches(self, order: OrderDocument) -> bool:
        """Whether an Order, as the API server has it, is in a list with these criteria."""
        spec, status = order["spec"], order.get("status") or {}
        return (
            self.customer in (None, spec["customer"])
            and self.phase in (None, status.get("phase", ""))
            and self.reference in (None, spec.get("reference"))
            and self.reason in (None, status.get("reason"))
            and self.stalled in (None, status.get("stalled", False))
        )


@dataclass(frozen=True, slots=True)
class HeldOrder:
    """An Order as JSON without what lists do not show: address, labels, managedFields.

    As objects of Python it would take five times the memory.

    Args:
        place: Where it is in lists.
        is_stalled: Whether it waits for a person.
        shipped_at, finished_at: As the API server writes times; None before.
    """

    key: Key
    uid: str
    version: int
    place: Place
    customer: str
    phase: str
    reference: str | None
    is_stalled: bool
    reason: str | None
    shipped_at: str | None
    finished_at: str | None
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
                place=(intern(metadata["creationTimestamp"]), metadata["name"]),
                customer=intern(spec["customer"]),
                phase=intern(status.get("phase", "")),
                reference=spec.get("reference"),
                is_stalled=status.get("stalled", False),
                reason=intern(status["reason"]) if status.get("reason") else None,
                shipped_at=_shipped_at(status),
                finished_at=status.get("finishedAt"),
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
        yield merchant, "", ""
        yield merchant, "customer", self.customer
        yield merchant, "phase", self.phase
        if self.reference is not None:
            yield merchant, "reference", self.reference
        if self.is_stalled:
            yield merchant, "stalled", ""

    def matches(self, criteria: Criteria) -> bool:
        """Whether it is in a list with these criteria."""
        return (
            criteria.customer in (None, self.customer)
            and criteria.phase in (None, self.phase)
            and criteria.reference in (None, self.reference)
            and criteria.stalled in (None, self.is_stalled)
            and criteria.reason in (None, self.reason)
        )


class HeldOrders:
    """At most so many orders; the oldest go first.

    Args:
        most: How many are held, of `ORDER_BYTES` each.
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
        self._places: defaultdict[Group, list[Place]] = defaultdict(list)
        self._ages: list[Age] = []
        self._newest_dropped: Age | None = None
        self._bytes = 0
        self._partly_held: set[str] = set()

    def sweep(self) -> None:
        """Forget old deletions."""
        self._cache.sweep()

    def store(self, document: dict[str, Any]) -> None:
        """Take an Order in, where it is newer than what is held."""
        key = _key_of(document)
        before = self._cache.get(key)
        stored = self._cache.store(document)
        if stored is None:
            return
        after = self._cache.get(key)
        # A name can be used again: only the younger order is held.
        for other in (before, stored):
            if other is not None and after is not None and other.uid != after.uid:
                self._cache.drop(other.uid, key)
        self._index(key, before)
        while self._is_too_much():
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

    def count(self, merchant: str, criteria: Criteria) -> int:
        """How many orders are held in the shortest list that has all of these criteria."""
        return len(self._places.get(criteria.group(merchant), ()))

    def holds_all_of(self, merchant: str) -> bool:
        """Whether no order of the merchant had to be dropped, so that lists are complete."""
        return merchant not in self._partly_held

    def before(self, merchant: str, criteria: Criteria, place: Place | None) -> Iterator[HeldOrder]:
        """Orders from the newest on, or from the first one that comes after `place`.

        It has to be used up before anything else is done with this object.
        """
        places = self._places.get(criteria.group(merchant), [])
        first = len(places) if place is None else bisect_left(places, place)
        for index in range(first - 1, -1, -1):
            order = self._cache.get((merchant, places[index][1]))
            if order is not None and order.matches(criteria):
                yield order

    def _is_too_much(self) -> bool:
        """Also what is older than something that was dropped: a walk by time would leave that out."""
        return (
            len(self._cache) > self._most
            or self._bytes > self._most * ORDER_BYTES
            or bool(self._newest_dropped and self._ages and self._ages[0] < self._newest_dropped)
        )

    def _drop_oldest(self) -> None:
        self._newest_dropped = max(self._newest_dropped or self._ages[0], self._ages[0])
        key = self._ages[0][1]
        oldest = self._cache.get(key)
        assert oldest is not None, "the ages are those of what is held"
        self._cache.drop(oldest.uid, key)
        DROPPED.inc()
        if not self._partly_held:
            log.warning(
                "there are more orders than are held; the others are read from the API server",
                held=self._most,
            )
        self._partly_held.add(key[0])
        self._index(key, oldest)

    def _index(self, key: Key, before: HeldOrder | None) -> None:
        after = self._cache.get(key)
        old = frozenset(before.groups()) if before is not None else frozenset()
        new = frozenset(after.groups()) if after is not None else frozenset()
        is_same = before is not None and after is not None and before.place == after.place
        if before is not None:
            self._bytes -= len(before.json)
            for group in old - new if is_same else old:
                self._remove(group, before.place)
        if after is not None:
            self._bytes += len(after.json)
            for group in new - old if is_same else new:
                insort(self._places[group], after.place)
        if not is_same:
            if before is not None:
                del self._ages[bisect_left(self._ages, (before.place[0], key))]
            if after is not None:
                insort(self._ages, (after.place[0], key))

    def _remove(self, group: Group, place: Place) -> None:
        places = self._places[group]
        del places[bisect_left(places, place)]
        if not places:
            del self._places[group]


def _shipped_at(status: Mapping[str, Any]) -> str | None:
    """When it got its label; None before."""
    for each in status.get("conditions", ()):
        if each["type"] == OrderCondition.SHIPPED and each["status"] == "True":
            return cast("str", each["lastTransitionTime"])
    return None


def _key_of(document: dict[str, Any]) -> Key:
    metadata = document["metadata"]
    return metadata["namespace"], metadata["name"]
