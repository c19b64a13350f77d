"""Counters in this process, for `limits`: few enough for memory, cheap enough for every request."""

import time

from limits.aio.storage import MemoryStorage
from limits.aio.storage.memory import Entry

MOST_KEYS = 100_000
"""Then the key that was first counted goes, and whoever it stood for begins anew."""

_DROPS_PER_HIT = 2


class BoundedMemoryStorage(MemoryStorage):
    """As the library's, which goes through all of its keys after every hit, and may grow for ever.

    Nothing here waits for anything, so each method is one step for the event loop and needs no lock.
    """

    def __init__(self, *, most_keys: int = MOST_KEYS) -> None:
        super().__init__()
        self._most_keys = most_keys

    async def incr(self, key: str, expiry: float, amount: int = 1) -> int:
        now = time.time()
        self._make_room(now)
        if self.expirations.get(key, 0.0) <= now:
            self.expirations.pop(key, None)
            self.expirations[key] = now + expiry
            self.storage[key] = 0
        self.storage[key] += amount
        return self.storage[key]

    async def acquire_entry(self, key: str, limit: int, expiry: int, amount: int = 1) -> bool:
        now = time.time()
        self._make_room(now)
        entries = [entry for entry in self.events.get(key, ()) if entry.expiry > now]
        if len(entries) + amount > limit:
            return False
        # Newest first, and the keys that were hit last at the end.
        self.events.pop(key, None)
        self.events[key] = [*(Entry(expiry) for _ in range(amount)), *entries]
        return True

    def _make_room(self, now: float) -> None:
        """Drop the oldest keys: those whose time is over, and what is beyond the bound."""
        for _ in range(_DROPS_PER_HIT):
            counted = next(iter(self.expirations), None)
            if counted is not None and (
                self.expirations[counted] <= now or len(self.expirations) >= self._most_keys
            ):
                del self.expirations[counted]
                self.storage.pop(counted, None)
            noted = next(iter(self.events), None)
            if noted is not None and (
                self.events[noted][0].expiry <= now or len(self.events) >= self._most_keys
            ):
                del self.events[noted]
