"""A storage of `limits` in this process, with a bound on its size and its cost per hit."""

import time

from limits.aio.storage import MemoryStorage
from limits.aio.storage.memory import Entry

MAX_KEYS = 100_000
"""Beyond this, the oldest key is dropped and starts again from zero."""

_DROPS_PER_HIT = 2


class BoundedMemoryStorage(MemoryStorage):
    """Replaces the scan of all keys after each hit, and the unlimited growth, of the library's storage.

    No method awaits anything, so each runs as one step of the event loop and needs no lock.
    """

    def __init__(self, *, max_keys: int = MAX_KEYS) -> None:
        super().__init__()
        self._max_keys = max_keys

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
        # Newest first, as the library reads it; popped, so that the keys hit last are at the end of the dict.
        self.events.pop(key, None)
        self.events[key] = [*(Entry(expiry) for _ in range(amount)), *entries]
        return True

    def _make_room(self, now: float) -> None:
        """Drop the oldest keys if they have expired or the bound is reached."""
        for _ in range(_DROPS_PER_HIT):
            counted = next(iter(self.expirations), None)
            if counted is not None and (
                self.expirations[counted] <= now or len(self.expirations) >= self._max_keys
            ):
                del self.expirations[counted]
                self.storage.pop(counted, None)
            noted = next(iter(self.events), None)
            if noted is not None and (
                self.events[noted][0].expiry <= now or len(self.events) >= self._max_keys
            ):
                del self.events[noted]
