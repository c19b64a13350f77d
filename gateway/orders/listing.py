"""Walk a list that the API server can only narrow by label and phase, and keep what is asked for.

A page ends with the last order that it shows. The cursor says which chunk that order is in, and its id: the
next page reads this chunk again and goes on behind it. Chunks are by id, so that holds whatever changes.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from orderplane.adapters.kubernetes.client import Page

Json = dict[str, Any]

CHUNK = 250
MOST_CHUNKS = 4
"""So many orders are looked at for one page: 1,000. A page may be short, and still not be the last."""


@dataclass(frozen=True, slots=True)
class OrderFilter:
    """Which orders to keep; None keeps all.

    Args:
        since: Placed then or later.
        until: Placed before.
        sku: Having this product among their items.
    """

    since: datetime | None = None
    until: datetime | None = None
    sku: str | None = None

    @property
    def is_selective(self) -> bool:
        """Whether anything is left out."""
        return self != OrderFilter()

    def keeps(self, order: Json) -> bool:
        """Whether an Order is one of these."""
        placed_at = datetime.fromisoformat(order["metadata"]["creationTimestamp"])
        return (
            (self.since is None or placed_at >= self.since)
            and (self.until is None or placed_at < self.until)
            and (self.sku is None or any(item["sku"] == self.sku for item in order["spec"]["items"]))
        )


@dataclass(frozen=True, slots=True)
class ListPosition:
    """Where a walk is: in the chunk that the token leads to, behind the order `after`."""

    token: str | None = None
    after: str | None = None


ReadChunk = Callable[[str | None, int], Awaitable[Page]]
"""Reads the chunk of a token, of at most so many orders."""


async def walk(
    read: ReadChunk, wish: OrderFilter, limit: int, start: ListPosition
) -> tuple[list[Json], ListPosition | None]:
    """One page of at most `limit` orders, and where the next one begins; None after the last.

    Raises:
        ApiError: as `read` does.
    """
    found: list[Json] = []
    place = start
    for _ in range(MOST_CHUNKS):
        chunk = await read(place.token, CHUNK if wish.is_selective else limit)
        for order in chunk.items:
            name = order["metadata"]["name"]
            if (place.after is not None and name <= place.after) or not wish.keeps(order):
                continue
            if len(found) == limit:
                return found, ListPosition(place.token, found[-1]["metadata"]["name"])
            found.append(order)
        if chunk.continue_token is None:
            return found, None
        place = ListPosition(chunk.continue_token)
        if len(found) == limit:
            break
    return found, place


def state_of(place: ListPosition, filters: Mapping[str, str | None]) -> dict[str, str | None]:
    """What a cursor keeps: the place, and the filters that it is good for."""
    return {**filters, "token": place.token, "after": place.after}
