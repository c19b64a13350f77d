"""Pages of orders, from memory or from the API server, with filters that neither of them has.

Memory has the newest orders, and lists them from the newest on: a page goes on with what is older than the
last order of the one before. The API server lists by name, in chunks that are read and filtered here, and
goes on from its own continue tokens. It is asked for what memory does not have, which is older, and while
there is no memory. Either way an order is shown once, also if others are created or deleted meanwhile, or if
the memory comes and goes.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from orderplane.crds.documents import OrderDocument
from orderplane.gateway.http.cursors import invalid_cursor

CHUNK_SIZE = 250
MAX_CHUNKS = 4
"""The most chunks that one page reads, 1,000 orders in all. So a page may be short without being the last."""

Place = tuple[str, str]
"""Where an order is in the list by time: its creation, as the API server writes it, and its name."""


def place_of(order: OrderDocument) -> Place:
    """Where an Order is in the list by time."""
    return order["metadata"]["creationTimestamp"], order["metadata"]["name"]


@dataclass(frozen=True, slots=True)
class OrderFilter:
    """Which orders to list; a criterion that is None matches all.

    Args:
        since: Placed at this time or later.
        until: Placed before this time.
        sku: With this product among the items.
    """

    since: datetime | None = None
    until: datetime | None = None
    sku: str | None = None

    @property
    def is_selective(self) -> bool:
        """Whether any criterion is set."""
        return self != OrderFilter()

    def matches(self, order: OrderDocument) -> bool:
        """Whether an Order fulfils all criteria."""
        return (
            not self.is_older(order)
            and (self.until is None or _placed_at(order) < self.until)
            and (self.sku is None or any(item["sku"] == self.sku for item in order["spec"]["items"]))
        )

    def is_older(self, order: OrderDocument) -> bool:
        """Whether an Order is too old, so that from there on nothing matches in a list by time."""
        return self.since is not None and _placed_at(order) < self.since


def _placed_at(order: OrderDocument) -> datetime:
    return datetime.fromisoformat(order["metadata"]["creationTimestamp"])


@dataclass(frozen=True, slots=True)
class ListPosition:
    """A position in the list.

    Args:
        before: Orders that come before this place in time follow; None: all.
        after: Of those, by name, the ones after this name. None in the list by time.
        continue_token: Where the API server goes on with its list by name.
    """

    before: Place | None = None
    after: str | None = None
    continue_token: str | None = None

    @property
    def is_by_name(self) -> bool:
        """Whether the walk is in the list by name: there it stays."""
        return self.after is not None or self.continue_token is not None

    def has_passed(self, order: OrderDocument) -> bool:
        """Whether an Order comes before this position, so that it was shown."""
        is_shown_by_time = self.before is not None and place_of(order) >= self.before
        return is_shown_by_time or (self.after is not None and order["metadata"]["name"] <= self.after)


@dataclass(frozen=True, slots=True)
class Chunk:
    """Orders, by time from the newest on or by name, and where the next ones begin; None after the last."""

    orders: list[OrderDocument]
    following: ListPosition | None
    is_by_name: bool = False

    def after(self, order: OrderDocument, start: ListPosition) -> ListPosition:
        """The position after one of its orders; it began at `start`."""
        if self.is_by_name:
            return replace(start, after=order["metadata"]["name"])
        return ListPosition(before=place_of(order))


ReadChunk = Callable[[ListPosition, int], Awaitable[Chunk]]
"""Reads about so many orders from a position on. It may begin with some that come before it."""


async def filtered_page(
    read: ReadChunk, order_filter: OrderFilter, limit: int, start: ListPosition
) -> tuple[list[OrderDocument], ListPosition | None]:
    """A page of at most `limit` orders and the position of the next one; None after the last.

    Raises:
        ApiError: as `read` does.
    """
    found: list[OrderDocument] = []
    position = start
    for _ in range(MAX_CHUNKS):
        chunk = await read(position, CHUNK_SIZE if order_filter.is_selective else limit)
        for order in chunk.orders:
            if not chunk.is_by_name and order_filter.is_older(order):
                return found, None
            if position.has_passed(order) or not order_filter.matches(order):
                continue
            if len(found) == limit:
                return found, chunk.after(found[-1], position)
            found.append(order)
        if chunk.following is None:
            return found, None
        position = chunk.following
        if len(found) == limit:
            break
    return found, position


def cursor_state(position: ListPosition, filters: Mapping[str, str | None]) -> dict[str, str | None]:
    """What a cursor holds: the position, and the filters that it is valid for. What is None is left out."""
    before = " ".join(position.before) if position.before is not None else None
    state = {**filters, "before": before, "after": position.after, "token": position.continue_token}
    return {name: value for name, value in state.items() if value is not None}


def position_of(state: Mapping[str, str | None], filters: Mapping[str, str | None]) -> ListPosition:
    """The position in what a cursor holds, also in one of the version before, whose lists are by name.

    Raises:
        Problem: `invalid_cursor`: it was issued for other filters, or names no position.
    """
    given = {name: value for name, value in state.items() if value is not None}
    before, after, token = (given.pop(name, None) for name in ("before", "after", "token"))
    if given != {name: value for name, value in filters.items() if value is not None}:
        raise invalid_cursor()
    if before is None and after is None and token is None:
        raise invalid_cursor()
    at, _, name = (before or "").partition(" ")
    if before is not None and not (at and name):
        raise invalid_cursor()
    return ListPosition((at, name) if before is not None else None, after, token)
