"""Available stock, read through a cache that is a fraction of a second deep.

It changes with every order, so nothing tells of its changes (docs/decisions/0024-catalogue-in-memory.md).
Many who look at the same product at once share one read of it.
"""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, Protocol

MAX_AGE_SECONDS = 0.25
MAX_LEVELS = 50_000
"""Of all merchants. One more, and all are forgotten: in a moment they would be too old anyway."""


class StockSource(Protocol):
    """Where available stock is read."""

    async def available(self, merchant: str, skus: Sequence[str]) -> Mapping[str, int]:
        """How many pieces of each product can be ordered.

        Raises:
            Transient: it cannot be read.
        """
        ...


class _Level(NamedTuple):
    begun_at: float
    available: int


class _Read(NamedTuple):
    begun_at: float
    task: asyncio.Task[Mapping[str, int]]


class Availability:
    """Available stock, at most `MAX_AGE_SECONDS` older than the question.

    Args:
        monotonic: Monotonic seconds.
    """

    def __init__(self, source: StockSource, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._source = source
        self._monotonic = monotonic
        self._levels: dict[str, dict[str, _Level]] = {}
        self._reads: dict[str, dict[str, _Read]] = {}
        self._kept = 0
        self._expired_at = float("-inf")

    def known(self, merchant: str, sku: str) -> int | None:
        """The available stock of a product; None unless it was just read."""
        level = self._levels.get(merchant, {}).get(sku)
        return level.available if level is not None and self._is_new(level.begun_at) else None

    async def read(self, merchant: str, skus: Sequence[str]) -> Mapping[str, int]:
        """The available stock of these products.

        Raises:
            Transient: PostgreSQL cannot be read.
        """
        found: dict[str, int] = {}
        shared, unread = set(), []
        reads = self._reads.get(merchant, {})
        for sku in skus:
            if (available := self.known(merchant, sku)) is not None:
                found[sku] = available
            elif sku in reads and self._is_new(reads[sku].begun_at):
                shared.add(reads[sku].task)
            else:
                unread.append(sku)
        if unread:
            shared.add(self._begin(merchant, unread))
        for task in shared:
            # Who leaves does not end the read of the others.
            found |= await asyncio.shield(task)
        return found

    def keep(self, merchant: str, available: Mapping[str, int], begun_at: float) -> None:
        """Keep what PostgreSQL has read.

        Args:
            begun_at: When the read was begun.
        """
        if begun_at <= self._expired_at:
            return  # it may be older than what made it expire
        self._kept += len(available)
        if self._kept > MAX_LEVELS:
            self._levels.clear()
            self._kept = len(available)
        levels = self._levels.setdefault(merchant, {})
        levels |= {sku: _Level(begun_at, pieces) for sku, pieces in available.items()}

    def expire(self, merchant: str) -> None:
        """Read a merchant's stock again: this replica has changed some of it, or has told of a change."""
        self._expired_at = self._monotonic()
        self._levels.pop(merchant, None)
        self._reads.pop(merchant, None)

    def _begin(self, merchant: str, skus: Sequence[str]) -> asyncio.Task[Mapping[str, int]]:
        begun_at = self._monotonic()
        task = asyncio.create_task(self._read(merchant, skus, begun_at), name="read stock")
        reads = self._reads.setdefault(merchant, {})
        reads |= dict.fromkeys(skus, _Read(begun_at, task))

        def end(ended: asyncio.Task[Mapping[str, int]]) -> None:
            # Whoever still waits gets the exception, too.
            if not ended.cancelled():
                ended.exception()
            for sku in skus:
                if sku in reads and reads[sku].task is ended:
                    del reads[sku]
            if not reads and self._reads.get(merchant) is reads:
                del self._reads[merchant]

        task.add_done_callback(end)
        return task

    async def _read(self, merchant: str, skus: Sequence[str], begun_at: float) -> Mapping[str, int]:
        available = await self._source.available(merchant, skus)
        self.keep(merchant, available, begun_at)
        return available

    def _is_new(self, begun_at: float) -> bool:
        return begun_at > self._monotonic() - MAX_AGE_SECONDS
