"""Pages of orders with filters that the API server does not have.

The API server filters by label and phase only, so chunks of its list are read and filtered here. A page ends
with the last order that it shows. Its cursor holds the continue token of the chunk with that order and the
order's id; the next page reads that chunk again and goes on after the id. A list is sorted by name, so this
also holds if orders are created or deleted meanwhile.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import cast

from orderplane.adapters.kubernetes.client import Page
from orderplane.crds.documents import OrderDocument

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


ReadChunk = Callable[[str | None, int], Awaitable[Page]]
"""Reads the chunk of a continue token, with at most so many orders."""


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
        chunk = await read(position.continue_token, CHUNK_SIZE if order_filter.is_selective else limit)
        for order in cast("list[OrderDocument]", chunk.items):
            name = order["metadata"]["name"]
            if (position.after is not None and name <= position.after) or not order_filter.matches(order):
                continue
            if len(found) == limit:
                return found, ListPosition(position.continue_token, found[-1]["metadata"]["name"])
            found.append(order)
        if chunk.continue_token is None:
            return found, None
        position = ListPosition(chunk.continue_token)
        if len(found) == limit:
            break
    return found, position


def cursor_state(position: ListPosition, filters: Mapping[str, str | None]) -> dict[str, str | None]:
    """What a cursor holds: the position, and the filters that it is valid for."""
    return {**filters, "token": position.continue_token, "after": position.after}
