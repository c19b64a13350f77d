"""Pages of orders, from memory or from the API server, with filters that neither of them has.

Chunks of a list are read and filtered here. A list is sorted by name, so a page goes on after the last name
of the one before; this also holds if orders are created or deleted meanwhile. The API server goes on from its
own continue tokens only, so a cursor from it holds that, too. Where there is none, because the cursor comes
from memory that cannot be used now, its list is read from the beginning.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime

from orderplane.crds.documents import OrderDocument
from orderplane.gateway.http.cursors import invalid_cursor

CHUNK_SIZE = 250
MAX_CHUNKS = 4
"""The most chunks that one page reads, 1,000 orders in all. So a page may be short without being the last."""


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
        placed_at = datetime.fromisoformat(order["metadata"]["creationTimestamp"])
        return (
            (self.since is None or placed_at >= self.since)
            and (self.until is None or placed_at < self.until)
            and (self.sku is None or any(item["sku"] == self.sku for item in order["spec"]["items"]))
        )


@dataclass(frozen=True, slots=True)
class ListPosition:
    """A position in the list: in the chunk of the continue token, after the order with this id."""

    continue_token: str | None = None
    after: str | None = None


@dataclass(frozen=True, slots=True)
class Chunk:
    """Orders by name, and where the next ones begin; None after the last."""

    orders: list[OrderDocument]
    following: ListPosition | None


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
            name = order["metadata"]["name"]
            if (position.after is not None and name <= position.after) or not order_filter.matches(order):
                continue
            if len(found) == limit:
                return found, ListPosition(position.continue_token, found[-1]["metadata"]["name"])
            found.append(order)
        if chunk.following is None:
            return found, None
        position = chunk.following
        if len(found) == limit:
            break
    return found, position


def cursor_state(position: ListPosition, filters: Mapping[str, str | None]) -> dict[str, str | None]:
    """What a cursor holds: the position, and the filters that it is valid for.

    Without a continue token there is no such member. The version before this one refuses such a cursor
    (400): it would show orders twice.
    """
    token = {"token": position.continue_token} if position.continue_token is not None else {}
    return {**filters, "after": position.after, **token}


def position_of(state: Mapping[str, str | None], filters: Mapping[str, str | None]) -> ListPosition:
    """The position in what a cursor holds, also in one of the version before.

    Raises:
        Problem: `invalid_cursor`: it was issued for other filters.
    """
    if {name: value for name, value in state.items() if name not in ("token", "after")} != filters:
        raise invalid_cursor()
    return ListPosition(state.get("token"), state.get("after"))
