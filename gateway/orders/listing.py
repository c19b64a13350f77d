"""Pages of orders, from memory or from the API server, with filters that neither of them has.

Memory and the archive list from the newest on, and are merged: a page goes on with what is older than the
last order of the one before, wherever that is. The API server lists by name, in chunks that are read and
filtered here, and goes on from its own continue tokens. It is asked for what memory does not have, which is
older, and while there is no memory; what is left of the archive follows then. Either way an order is shown
once, also if others are created, deleted or archived meanwhile, or if the memory comes and goes.
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


NEWEST: Place = ("~", "")
"""Before every order."""


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
        after: Of the orders in the API server, by name, the ones after this name. None in the list by time.
        continue_token: Where the API server goes on with its list by name.
        live: The last order in the API server that was shown by time; None where none was.
        archived: After the list by name, what is archived and comes before this place follows; without that
            list, nothing else does. None: no more of the archive.
    """

    before: Place | None = None
    after: str | None = None
    continue_token: str | None = None
    live: Place | None = None
    archived: Place | None = None

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
    """Orders, by time from the newest on or by name.

    Args:
        start: Where it begins.
        following: Where the next ones begin; None after the last.
        archived: The uids of those that are in the archive only.
    """

    orders: list[OrderDocument]
    start: ListPosition
    following: ListPosition | None
    archived: frozenset[str] = frozenset()

    def after(self, order: OrderDocument) -> ListPosition:
        """The position after one of its orders."""
        if self.start.is_by_name:
            return replace(self.start, after=order["metadata"]["name"])
        if self.start.archived is not None:
            return ListPosition(archived=place_of(order))
        place = place_of(order)
        live = [
            place_of(shown)
            for shown in self.orders
            if shown["metadata"]["uid"] not in self.archived and place_of(shown) >= place
        ]
        return ListPosition(place, live=min(live, default=self.start.live))


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
            if not chunk.start.is_by_name and order_filter.is_older(order):
                return found, None
            if chunk.start.has_passed(order) or not order_filter.matches(order):
                continue
            if len(found) == limit:
                return found, chunk.after(found[-1])
            found.append(order)
        if chunk.following is None:
            return found, None
        position = chunk.following
        if len(found) == limit:
            break
    return found, position


def cursor_state(position: ListPosition, filters: Mapping[str, str | None]) -> dict[str, str | None]:
    """What a cursor holds: the position, and the filters that it is valid for. What is None is left out."""
    state = {
        **filters,
        "before": _written(position.before),
        "live": _written(position.live) or ("" if position.before is not None else None),
        "after": position.after,
        "token": position.continue_token,
        "archived": _written(position.archived),
    }
    return {name: value for name, value in state.items() if value is not None}


def position_of(state: Mapping[str, str | None], filters: Mapping[str, str | None]) -> ListPosition:
    """The position in what a cursor holds, also in one of the version before, whose lists are by name.

    Raises:
        Problem: `invalid_cursor`: it was issued for other filters, or names no position.
    """
    given = {name: value for name, value in state.items() if value is not None}
    before, live, after, token, archived = (
        given.pop(name, None) for name in ("before", "live", "after", "token", "archived")
    )
    if given != {name: value for name, value in filters.items() if value is not None}:
        raise invalid_cursor()
    if before is None and after is None and token is None and archived is None:
        raise invalid_cursor()
    # The version before knew no archive: what it showed by time was all in the API server.
    shown = before if live is None else live or None
    return ListPosition(_place(before), after, token, _place(shown), _place(archived))


def _written(place: Place | None) -> str | None:
    return " ".join(place) if place is not None else None


def _place(text: str | None) -> Place | None:
    """Of what a cursor holds, which anybody may have made."""
    if text is None:
        return None
    at, _, name = text.partition(" ")
    if (at, name) == NEWEST:
        return NEWEST
    try:
        is_time = datetime.fromisoformat(at).tzinfo is not None
    except ValueError:
        is_time = False
    if not is_time or not name:
        raise invalid_cursor()
    return at, name
