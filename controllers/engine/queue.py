"""Keys that wait to be reconciled."""

import asyncio
import heapq
import itertools
from typing import Protocol

from orderplane.crds.meta import Kind
from orderplane.ledgers.gate import Gate

Key = tuple[str, str]
"""Namespace and name."""


class KeyedQueue:
    """Each key waits at most once and is worked on by one worker at a time; the lowest rank goes first.

    A key that is added while it is being worked on is worked on once more afterwards, however often it
    was added. So the queue never holds more than one entry for each key that exists.
    """

    def __init__(self) -> None:
        self._ready: list[tuple[int, int, Key]] = []
        self._rank: dict[Key, int] = {}
        self._running: set[Key] = set()
        self._seen: dict[Key, Gate] = {}
        self._again: dict[Key, int] = {}
        self._timers: dict[Key, asyncio.TimerHandle] = {}
        self._count = itertools.count()
        self._wakeup = asyncio.Event()
        self._is_closed = False

    def __len__(self) -> int:
        return len(self._rank)

    @property
    def is_idle(self) -> bool:
        """Nothing waits and nobody works; timers may still be running."""
        return not self._rank and not self._running

    def add(self, key: Key, rank: int = 0, seen: Gate | None = None) -> None:
        """Have a key worked on soon; a better rank moves it forward.

        Args:
            seen: The order's gate as whoever asks has just seen it. It is kept only while nobody else asks:
                others may know of something that happened later.
        """
        if key in self._running:
            self._again[key] = min(rank, self._again.get(key, rank))
            return
        known = self._rank.get(key)
        if known is None and seen is not None:
            self._seen[key] = seen
        else:
            self._seen.pop(key, None)
        if known is not None and known <= rank:
            return
        self._rank[key] = rank
        heapq.heappush(self._ready, (rank, next(self._count), key))
        self._wakeup.set()

    def add_after(self, key: Key, seconds: float, rank: int = 0) -> None:
        """Have a key worked on in a while; of two such wishes the earlier holds."""
        if self._is_closed:
            return
        loop = asyncio.get_running_loop()
        timer = self._timers.get(key)
        if timer is not None:
            if timer.when() <= loop.time() + seconds:
                return
            timer.cancel()
        self._timers[key] = loop.call_later(seconds, self._ring, key, rank)

    def cancel_timer(self, key: Key) -> None:
        """Forget a wish for later."""
        timer = self._timers.pop(key, None)
        if timer is not None:
            timer.cancel()

    async def take(self) -> Key | None:
        """Wait for the next key, after which `done` must follow; None once the queue is closed."""
        while not self._is_closed:
            while self._ready:
                rank, _, key = heapq.heappop(self._ready)
                if self._rank.get(key) == rank:
                    del self._rank[key]
                    self._running.add(key)
                    return key
            self._wakeup.clear()
            await self._wakeup.wait()
        return None

    def seen(self, key: Key) -> Gate | None:
        """What the only one who asked for this key had seen; to be called once it is taken."""
        return self._seen.pop(key, None)

    def done(self, key: Key) -> None:
        """The key may be given to somebody else."""
        self._running.discard(key)
        rank = self._again.pop(key, None)
        if rank is not None:
            self.add(key, rank)

    def close(self) -> None:
        """Hand no more keys out, and stop every timer."""
        self._is_closed = True
        self._wakeup.set()
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()

    def _ring(self, key: Key, rank: int) -> None:
        self._timers.pop(key, None)
        self.add(key, rank)


class Wake(Protocol):
    """Asks that a key of a kind be reconciled soon, where this process runs that kind."""

    def __call__(self, kind: Kind, key: Key, seen: Gate | None = None) -> None:
        """Ask; `seen` as in `KeyedQueue.add`."""
        ...
