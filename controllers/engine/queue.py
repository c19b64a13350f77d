"""Keys that wait to be reconciled."""

import asyncio
import time
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

from orderplane.controllers.engine.fair_queue import LOW_PRIORITY, FairQueue, Key
from orderplane.crds.meta import Kind

__all__ = ["Enqueue", "Key", "KeyedQueue"]

HINT_SECONDS = 5.0
"""A hint that waited longer is dropped: this process may have stood still, and the world gone on."""

H = TypeVar("H")
H_contra = TypeVar("H_contra", contravariant=True)


class KeyedQueue(Generic[H]):
    """Each key waits at most once and is worked on by one worker at a time.

    Namespaces take turns, see `FairQueue`; within one, the lowest priority goes first. A key that is added
    while it is being worked on is worked on once more afterwards, however often it was added. So the queue
    never holds more than one entry for each key that exists.
    """

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._waiting = FairQueue()
        self._urgent: dict[Key, float] = {}
        self._running: set[Key] = set()
        self._hints: dict[Key, tuple[float, H]] = {}
        self._added_while_running: dict[Key, int] = {}
        self._timers: dict[Key, asyncio.TimerHandle] = {}
        self._is_filled = asyncio.Event()
        self._is_finishing = False
        self._is_closed = False

    def __len__(self) -> int:
        return len(self._waiting)

    def __contains__(self, key: Key) -> bool:
        return key in self._waiting

    def urgent_since(self, horizon: float) -> list[Key]:
        """The keys that have waited since that time or longer, but for those with low priority.

        Args:
            horizon: Monotonic seconds.
        """
        return [key for key, at in self._urgent.items() if at <= horizon]

    @property
    def is_idle(self) -> bool:
        """Nothing waits and nothing is being worked on; timers may still be running."""
        return not self._waiting and not self._running

    def add(self, key: Key, priority: int = 0, hint: H | None = None) -> None:
        """Have a key worked on soon; a lower number moves it forward.

        Args:
            hint: What the caller has just learned about the key, for the worker. It is dropped when the key
                is added a second time: the other caller may know of something that happened later.
        """
        if key in self._running:
            self._added_while_running[key] = min(priority, self._added_while_running.get(key, priority))
            return
        if key not in self._waiting and hint is not None:
            self._hints[key] = self._monotonic(), hint
        else:
            self._hints.pop(key, None)
        self._waiting.add(key, priority)
        if priority < LOW_PRIORITY:
            self._urgent.setdefault(key, self._monotonic())
        self._is_filled.set()

    def add_after(self, key: Key, seconds: float, priority: int = 0) -> None:
        """Have a key worked on in a while, unless it is taken before; the earliest such request counts."""
        if self._is_closed or self._is_finishing:
            return
        loop = asyncio.get_running_loop()
        timer = self._timers.get(key)
        if timer is not None:
            if timer.when() <= loop.time() + seconds:
                return
            timer.cancel()
        self._timers[key] = loop.call_later(seconds, self._add_now, key, priority)

    async def take(self) -> Key | None:
        """Wait for the next key, after which `done` must follow; None once the queue has ended."""
        while not self._is_closed:
            key = self._waiting.take()
            if key is not None:
                self._running.add(key)
                self._urgent.pop(key, None)
                self._cancel_timer(key)
                return key
            if self._is_finishing:
                return None
            self._is_filled.clear()
            await self._is_filled.wait()
        return None

    def take_hint(self, key: Key) -> H | None:
        """The hint of a key that was taken just now, if it was added only once, and not long ago."""
        at, hint = self._hints.pop(key, (0.0, None))
        return hint if self._monotonic() - at <= HINT_SECONDS else None

    def done(self, key: Key) -> None:
        """The key may be given to another worker."""
        self._running.discard(key)
        self._waiting.done(key)
        priority = self._added_while_running.pop(key, None)
        if priority is not None:
            self.add(key, priority)

    def finish(self) -> None:
        """Hand out what waits, also for a timer, and then no more."""
        self._is_finishing = True
        for key in list(self._timers):
            self._cancel_timer(key)
            self.add(key)
        self._is_filled.set()

    def close(self) -> None:
        """Hand no more keys out, and stop every timer."""
        self._is_closed = True
        self._is_filled.set()
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()

    def _cancel_timer(self, key: Key) -> None:
        timer = self._timers.pop(key, None)
        if timer is not None:
            timer.cancel()

    def _add_now(self, key: Key, priority: int) -> None:
        self._timers.pop(key, None)
        self.add(key, priority)


class Enqueue(Protocol[H_contra]):
    """Has a key of a kind reconciled soon, where this process runs that kind's controller."""

    def __call__(
        self, kind: Kind, key: Key, hint: H_contra | None = None, *, is_status_only: bool = False
    ) -> None:
        """Add it; `hint` as in `KeyedQueue.add`.

        Args:
            is_status_only: Nothing is to be done for it, but its status may have to say something else.
        """
        ...
