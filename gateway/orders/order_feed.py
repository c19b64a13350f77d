"""From the one watch of orders to all who follow them.

Whoever follows gets each change of the orders that interest them, in order and once, or is told to begin
anew. That is one decision, `OrderFeed._place`, for all cases: a client that comes back with the last position
it has seen, here or from another gateway, and all clients when the watch itself had to begin anew.
"""

import asyncio
import math
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from orderplane.adapters.retry import wait_for_event
from orderplane.gateway.orders.held_orders import Criteria, Group, HeldOrder, HeldOrders
from orderplane.gateway.orders.listing import OrderFilter
from orderplane.gateway.orders.order_changes import Before, Change, OrderChanges, Position

MAX_BYTES = 16_000_000
"""Of the changes that are kept for those who come back: those of a minute at 80 changes a second."""
MAX_WAITING = 512
"""Changes that may wait for one client to read. They are shared; each client has a list of them."""


@dataclass(frozen=True, slots=True)
class Interest:
    """Which orders somebody follows.

    Args:
        name: One order; None: all that match.
    """

    merchant: str
    name: str | None = None
    criteria: Criteria = field(default_factory=Criteria)
    order_filter: OrderFilter = field(default_factory=OrderFilter)

    @property
    def group(self) -> Group:
        """Where changes of these orders are told, with as few others as possible."""
        if self.name is not None:
            return self.merchant, "name", self.name
        # What an order leaves is told where it goes, too.
        return replace(self.criteria, phase=None, stalled=None).group(self.merchant)

    def event(self, change: Change) -> bytes | None:
        """How a change of the group looks from here; None: it does not."""
        order, criteria = change.order, self.criteria
        if (
            self.name not in (None, order.key[1])
            or criteria.customer not in (None, order.customer)
            or criteria.reference not in (None, order.reference)
        ):
            return None
        if self.order_filter.is_selective and not self.order_filter.matches(order.document):
            return None
        if order.matches(criteria):
            return change.gone if change.is_deletion else change.shown
        if change.before is None:
            return change.gone
        phase, is_stalled = change.before
        was_shown = criteria.phase in (None, phase) and criteria.stalled in (None, is_stalled)
        return change.gone if was_shown else None


class Restart(StrEnum):
    """Why a client gets the state of its orders before their changes."""

    STARTED = "started"  # it has seen nothing yet
    TOO_OLD = "too_old"  # what it has missed is not known any more


@dataclass(frozen=True, slots=True)
class Ending:
    """Why a stream ends; the code is for programs, the detail for people."""

    code: str
    detail: str


TOO_SLOW = Ending("too_slow", "The changes were not read as fast as they came.")

Told = tuple[Change, bytes]
"""A change, and the event that tells of it."""


class Follower:
    """What one client has still to get.

    Args:
        seen: The last position that it knows; None if it knows nothing.
    """

    def __init__(self, interest: Interest, seen: Position | None) -> None:
        self.interest = interest
        self.seen = seen
        self.is_placed = False
        self.restart: Restart | None = None
        """Why it needs the state before any change."""
        self.ending: Ending | None = None
        self.cut: Callable[[], None] = lambda: None
        """Called when too much waits, because the client does not read."""
        self._waiting: deque[Told] = deque()
        self._most = MAX_WAITING
        self._wake = asyncio.Event()

    @property
    def has_all(self) -> bool:
        """Whether nothing waits, and it would be told of the next change."""
        return self.is_placed and self.restart is None and not self._waiting

    async def wait(self, seconds: float) -> None:
        """Until there is something to do, but not longer."""
        if not self._waiting and self.restart is None and self.ending is None:
            self._wake.clear()
            await wait_for_event(self._wake, seconds)

    def take(self, most_bytes: int) -> list[Told]:
        """What waits, the oldest first, until it is so many bytes together."""
        taken: list[Told] = []
        size = 0
        while self._waiting and size < most_bytes:
            taken.append(self._waiting.popleft())
            size += len(taken[-1][1])
        return taken

    def end(self, ending: Ending) -> None:
        """Have the stream ended."""
        self.ending = self.ending or ending
        self._wake.set()

    def begin_at(self, position: Position | None) -> None:
        """The client knows everything up to there, or gets to know it: it gets what comes after."""
        self.seen, self.restart = position, None
        self._waiting.clear()
        self._most = MAX_WAITING

    def place(self, missed: Sequence[Told] = (), restart: Restart | None = None) -> None:
        """It gets what it has missed, or the state; and then what comes after."""
        self.is_placed, self.restart = True, restart
        # What was missed is bounded by what is kept.
        self._most = len(missed) + MAX_WAITING
        self._waiting.extend(missed)
        self._wake.set()

    def push(self, change: Change) -> None:
        """There is one more change, which may interest it."""
        if (event := self.interest.event(change)) is None:
            return
        self._waiting.append((change, event))
        self._wake.set()
        if len(self._waiting) > self._most:
            self._waiting.clear()
            self.end(TOO_SLOW)
            self.cut()


class OrderFeed:
    """Told by the watch (`reflector.Recorder`), it tells the followers.

    Args:
        held: The orders as they are before the change that is recorded.
        monotonic: Seconds.
    """

    def __init__(
        self,
        held: HeldOrders,
        changes: OrderChanges | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._held = held
        self._changes = changes or OrderChanges(MAX_BYTES)
        self._monotonic = monotonic
        self._has_begun = False
        self._groups: defaultdict[Group, dict[Follower, None]] = defaultdict(dict)
        self._unplaced: dict[Follower, None] = {}
        self._next_place = math.inf
        """The least version that somebody who is not placed waits for."""

    @property
    def end(self) -> Position | None:
        """After the newest change; None if there was none yet."""
        return self._changes.end

    def position_of(self, follower: Follower) -> Position | None:
        """Up to where a follower knows everything; None while something waits for it."""
        return self.end if follower.has_all else None

    def followers(self) -> list[Follower]:
        """All who follow."""
        return [follower for group in self._groups.values() for follower in group]

    def follow(self, follower: Follower) -> None:
        """Tell a follower from now on, after what it has missed."""
        self._groups[follower.interest.group][follower] = None
        self._unplaced[follower] = None
        self._place([follower])

    def leave(self, follower: Follower) -> None:
        """Tell it no more."""
        group = self._groups.get(follower.interest.group, {})
        group.pop(follower, None)
        if not group:
            self._groups.pop(follower.interest.group, None)
        self._unplaced.pop(follower, None)

    def begin(self, since: int) -> None:
        """The watch begins: all changes after `since` follow, those that are known already again."""
        for follower in self.followers():
            # Who is to get the state anyway gets it as of then.
            if follower.is_placed and follower.restart is None:
                follower.seen, follower.is_placed = self.end, False
                self._unplaced[follower] = None
        self._changes.begin(since)
        self._has_begun = True
        self._place(self._unplaced)

    def record(self, type_: str, document: dict[str, Any]) -> None:
        """The watch shows a change."""
        try:
            order = HeldOrder.of(document)
        except ValueError:
            return  # it is not shown in lists either, and the cache has said so
        change = Change(order, type_ == "DELETED", self._before(order, type_), self._monotonic())
        self._changes.append(change)
        for group in (*order.groups(), (order.key[0], "name", order.key[1])):
            for follower in tuple(self._groups.get(group, ())):
                if follower.is_placed:
                    follower.push(change)
        if self._next_place <= change.position.version:
            self._place(self._unplaced)

    def caught_up(self) -> None:
        """The watch has shown everything: a position that has not come does not exist."""
        for follower in self._unplaced if self._has_begun else ():
            follower.place(restart=Restart.TOO_OLD)
        self._unplaced.clear()

    def _before(self, order: HeldOrder, type_: str) -> Before | None:
        before = self._held.get(order.key)
        if before is not None:
            # What is shown again is older than what is held.
            return (before.phase, before.is_stalled) if before.version < order.version else None
        return ("", False) if type_ == "ADDED" else None

    def _place(self, followers: Iterable[Follower]) -> None:
        """Put followers where they are in the order of changes, if that can be said."""
        if not self._has_begun:
            return
        for follower in tuple(followers):
            if self._is_placed_now(follower):
                del self._unplaced[follower]
        versions = (follower.seen.version for follower in self._unplaced if follower.seen is not None)
        self._next_place = min(versions, default=math.inf)

    def _is_placed_now(self, follower: Follower) -> bool:
        seen = follower.seen
        if seen is None:
            follower.place(restart=Restart.STARTED)
        elif self._changes.is_to_come(seen):
            return False
        elif (missed := self._changes.after(seen)) is None:
            follower.place(restart=Restart.TOO_OLD)
        else:
            events = ((change, follower.interest.event(change)) for change in missed)
            follower.place([(change, event) for change, event in events if event is not None])
        return True
