"""Rate limit counters of one process, with a bound on their memory and the same cost for every hit."""

import math
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from orderplane.adapters.limits.counters import Limit, LimitStatus

MAX_KEYS = 100_000
"""Of each of the two kinds. Beyond this, the key that was hit longest ago starts again from zero."""

_DROPS_PER_HIT = 2

_Key = tuple[Limit, tuple[str, ...]]


@dataclass(slots=True)
class _Windows:
    """The hits of the current window and of the one before; windows begin at multiples of their length."""

    number: int
    current: int = 0
    previous: int = 0

    def move_to(self, number: int) -> None:
        if number != self.number:
            self.previous = self.current if number == self.number + 1 else 0
            self.current, self.number = 0, number


class MemoryCounters:
    """Implements `Counters`. No method awaits anything, so each is one step of the event loop: no locks.

    It counts as the library `limits` does in Redis. The storage of that library in memory costs a multiple.

    Args:
        unix_time: Seconds since the epoch.
    """

    def __init__(self, *, max_keys: int = MAX_KEYS, unix_time: Callable[[], float] = time.time) -> None:
        self._max_keys = max_keys
        self._unix_time = unix_time
        # The keys that were hit last are at the end of a dict.
        self._windows: dict[_Key, _Windows] = {}
        self._times: dict[_Key, deque[float]] = {}

    def __len__(self) -> int:
        return len(self._windows) + len(self._times)

    async def hit(self, limit: Limit, *key: str) -> LimitStatus:
        now = self._unix_time()
        self._drop_oldest(now)
        if limit.is_exact:
            times = self._times.pop((limit, key), None) or deque()
            self._times[limit, key] = times
            _forget(times, now - limit.seconds)
            is_within = len(times) < limit.amount
            if is_within:
                times.append(now)
            return _exact_status(limit, times, now, is_within=is_within)
        windows = self._windows.pop((limit, key), None) or _Windows(0)
        self._windows[limit, key] = windows
        windows.move_to(int(now // limit.seconds))
        is_within = math.floor(_weighted(limit, windows, now)) < limit.amount
        windows.current += is_within
        return _estimated_status(limit, windows, now, is_within=is_within)

    async def peek(self, limit: Limit, *key: str) -> LimitStatus:
        now = self._unix_time()
        if limit.is_exact:
            times = deque(self._times.get((limit, key), ()))
            _forget(times, now - limit.seconds)
            return _exact_status(limit, times, now, is_within=len(times) < limit.amount)
        known = self._windows.get((limit, key)) or _Windows(0)
        windows = _Windows(known.number, known.current, known.previous)
        windows.move_to(int(now // limit.seconds))
        is_within = math.floor(_weighted(limit, windows, now)) < limit.amount
        return _estimated_status(limit, windows, now, is_within=is_within)

    def _drop_oldest(self, now: float) -> None:
        """Drop some keys that count nothing any more, or whose room is needed."""
        for _ in range(_DROPS_PER_HIT):
            oldest = next(iter(self._windows), None)
            if oldest is not None and (
                (self._windows[oldest].number + 2) * oldest[0].seconds <= now
                or len(self._windows) >= self._max_keys
            ):
                del self._windows[oldest]
            oldest = next(iter(self._times), None)
            if oldest is not None and (
                not self._times[oldest]
                or self._times[oldest][-1] <= now - oldest[0].seconds
                or len(self._times) >= self._max_keys
            ):
                del self._times[oldest]


def _forget(times: deque[float], until: float) -> None:
    while times and times[0] <= until:
        times.popleft()


def _exact_status(limit: Limit, times: deque[float], now: float, *, is_within: bool) -> LimitStatus:
    reset = times[0] + limit.seconds - now if times else 0.0
    return LimitStatus(is_within, limit.amount - len(times), max(0.0, reset))


def _weighted(limit: Limit, windows: _Windows, now: float) -> float:
    """The hits of the last `limit.seconds`, as if those of the window before were spread evenly over it."""
    return windows.current + windows.previous * (1 - (now / limit.seconds) % 1)


def _estimated_status(limit: Limit, windows: _Windows, now: float, *, is_within: bool) -> LimitStatus:
    rest = limit.seconds - now % limit.seconds
    waits = []
    if windows.previous:
        # Its hits leave one by one.
        waits.append(rest % (limit.seconds / windows.previous))
    if windows.current:
        waits.append(rest)
    left = max(0, limit.amount - math.floor(_weighted(limit, windows, now)))
    return LimitStatus(is_within, left, min(waits, default=0.0))
