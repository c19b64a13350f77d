"""The newest changes of all orders, in the order in which they happened.

The version of an Order is a revision of etcd: the same for every gateway, and greater with each change. So a
position in the changes that one gateway gave out is known to every other one, and to the next process.
"""

import re
from bisect import bisect_left
from dataclasses import dataclass, field
from hashlib import blake2b
from operator import attrgetter
from typing import Self

import orjson

from orderplane.gateway.http.event_stream import event
from orderplane.gateway.orders.held_orders import HeldOrder
from orderplane.gateway.orders.views import order_view

_POSITION = re.compile(r"([0-9]{1,19})-([0-9a-f]{8})")


@dataclass(frozen=True, slots=True)
class Position:
    """After a change, and all before it.

    Args:
        version: Of the change.
        mark: Of the order that changed. In another history, that of an etcd that was restored, the same
            version is of another order, or of none.
    """

    version: int
    mark: str

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """The position that was written so; None if it is none."""
        found = _POSITION.fullmatch(text)
        return cls(int(found[1]), found[2]) if found is not None else None

    def __str__(self) -> str:
        return f"{self.version}-{self.mark}"


Before = tuple[str, bool]
"""The phase of an order, empty if there was no order, and whether it was stalled."""


@dataclass(eq=False)
class Change:
    """One change of an order.

    Args:
        order: As it is from then on; of a deletion, as it was last.
        before: What was so before; None if that is not known.
        at: Monotonic seconds at which this process was told.
    """

    order: HeldOrder
    is_deletion: bool = False
    before: Before | None = None
    at: float = 0.0
    position: Position = field(init=False)
    _shown: bytes | None = field(default=None, init=False)
    _gone: bytes | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        mark = blake2b(self.order.uid.encode(), digest_size=4).hexdigest()
        self.position = Position(self.order.version, mark)

    @property
    def size(self) -> int:
        """About how many bytes it takes, once it was sent to somebody."""
        return 2 * len(self.order.json) + 500

    @property
    def shown(self) -> bytes:
        """The event that shows the order. It is written once, for all who get it."""
        if self._shown is None:
            self._shown = order_event(orjson.dumps(order_view(self.order.document)), self.position)
        return self._shown

    @property
    def gone(self) -> bytes:
        """The event that says that the order is not there any more, or does not match the filters."""
        if self._gone is None:
            self._gone = event("gone", orjson.dumps({"id": self.order.key[1]}), id_=str(self.position))
        return self._gone


def order_event(view: bytes, position: Position | None = None) -> bytes:
    """The event that shows an order; without a position if it is part of a state and no change."""
    return event("order", view, id_=str(position) if position is not None else None)


_version = attrgetter("position.version")


class OrderChanges:
    """At most so many bytes of changes; the oldest go first."""

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self.begin(0)

    def begin(self, since: int) -> None:
        """Forget everything; all changes after the version `since` follow."""
        self._changes: list[Change] = []
        self._bytes = 0
        self._since = since
        self._dropped: Position | None = None

    @property
    def end(self) -> Position | None:
        """After the newest change; None if there was none yet."""
        return self._changes[-1].position if self._changes else self._dropped

    def append(self, change: Change) -> None:
        """Take the next change in."""
        self._changes.append(change)
        self._bytes += change.size
        while self._bytes > self._most_bytes:
            oldest = self._changes.pop(0)
            self._bytes -= oldest.size
            self._dropped = oldest.position

    def is_to_come(self, position: Position) -> bool:
        """Whether the change of a position may still follow."""
        return position.version > (self.end.version if self.end is not None else self._since)

    def after(self, position: Position) -> list[Change] | None:
        """All changes after a position; None if it is not known (any more), or is of another history."""
        following = bisect_left(self._changes, position.version + 1, key=_version)
        before = self._changes[following - 1].position if following else self._dropped
        return self._changes[following:] if before == position else None
