"""Which keys of a controller wait, for what, and what of that was told."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Generic, TypeVar

import structlog

from orderplane.controllers.engine.backoff import FailureState
from orderplane.controllers.engine.delays import Delay, delay_of
from orderplane.controllers.engine.queue import Key, KeyedQueue
from orderplane.crds.meta import Kind
from orderplane.ledgers.awaiting import TELL_SECONDS, Awaited, Caller, calling

log = structlog.get_logger(__name__)

H = TypeVar("H")


class WaitingKeys(Generic[H]):
    """Puts together what one controller knows of its keys.

    Args:
        order_of: The name of the order that a key belongs to.
        failures: The failures in a row of each key, as the controller counts them.
        queue: The keys that wait for one of so many `workers`.
        monotonic: Monotonic seconds.
        unix_time: The same moment.
    """

    def __init__(
        self,
        kind: Kind,
        order_of: Callable[[Key], str],
        failures: Mapping[Key, FailureState],
        queue: KeyedQueue[H],
        workers: int,
        monotonic: Callable[[], float],
        unix_time: Callable[[], float],
    ) -> None:
        self._kind = kind
        self._order_of = order_of
        self._failures = failures
        self._queue = queue
        self._workers = workers
        self._monotonic = monotonic
        self._unix_time = unix_time
        self._callers: dict[Key, Caller] = {}
        self._told: dict[Key, Delay] = {}

    @contextmanager
    def calling(self, key: Key, caller: Caller) -> Iterator[None]:
        """A reconcile of the key is under way."""
        self._callers[key] = caller
        try:
            with calling(caller):
                yield
        finally:
            del self._callers[key]

    def untold(self) -> list[Key]:
        """The keys that wait for something else than what was told of them."""
        waiting, blocked_by = {*self._callers, *self._failures}, self._blocked_by()
        if blocked_by is not None:
            waiting.update(self._queue.urgent_since(self._monotonic() - TELL_SECONDS))
        return [key for key in waiting if self._is_untold(key, blocked_by)]

    def delay(self, key: Key) -> Delay | None:
        """What the key waits for, which the caller tells now; it is logged once."""
        seen, told = self._seen(key, self._blocked_by()), self._told.get(key)
        if seen is None or seen.is_quiet:
            return seen
        if told is None or not seen.is_same(told):
            told = self._told[key] = seen.dated(self._monotonic(), self._unix_time())
            failure = self._failures.get(key)
            log.warning(
                "stalled" if told.is_stalled else "waiting",
                kind=self._kind.value,
                key="/".join(key),
                order=self._order_of(key),
                reason=told.reason,
                whom=told.whom,
                attempt=(failure.tries if failure else 0) + (key in self._callers),
                why=told.message,
            )
        return told

    def goes_on(self, key: Key) -> None:
        """The key waits for nothing any more."""
        if self._told.pop(key, None) is not None:
            log.info("goes on again", kind=self._kind.value, key="/".join(key))

    def _is_untold(self, key: Key, blocked_by: Awaited | None) -> bool:
        delay = self._seen(key, blocked_by)
        return delay is not None and not delay.is_quiet and not delay.is_same(self._told.get(key))

    def _seen(self, key: Key, blocked_by: Awaited | None) -> Delay | None:
        caller = self._callers.get(key)
        awaited = caller.awaited if caller is not None else blocked_by if key in self._queue else None
        return delay_of(self._failures.get(key), awaited, self._monotonic())

    def _blocked_by(self) -> Awaited | None:
        """What a key in the queue waits for: all workers wait for answers, and this call is the newest."""
        awaited = [caller.awaited for caller in self._callers.values() if caller.awaited is not None]
        return max(awaited, key=lambda each: each.since) if len(awaited) >= self._workers else None
