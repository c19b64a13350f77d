"""Send what is due through one channel: claim, send, write the result."""

import asyncio
import random
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Generic, Protocol, TypeVar

import structlog
from opentelemetry import trace
from opentelemetry.trace import SpanKind
from prometheus_client import Counter

from orderplane.adapters.halves import Beat
from orderplane.adapters.providers import BreakerOpen
from orderplane.adapters.retry import retry, wait_for_event
from orderplane.adapters.telemetry.traces import context_from
from orderplane.events.notifications import Channel
from orderplane.ledgers.errors import Refused, Transient, Unclear
from orderplane.workers.notifier.channels import Messenger
from orderplane.workers.notifier.plan import Final, Outcome, Retry, State, Unknown, after_failure
from orderplane.workers.notifier.store import FAILURES

log = structlog.get_logger(__name__)
tracer = trace.get_tracer(__name__)

CONCURRENCY = 8
POLL_SECONDS = 1.0
WRITE_PAUSE = 0.5
DRAIN_SECONDS = 10.0
SENDING_SHARE = 0.7
"""The part of its lease in which an attempt may send; the rest is for writing the result."""

NOTIFICATIONS = Counter(
    "orderplane_notifications_total",
    "Messages by how they ended: sent, superseded, skipped or dead.",
    ["channel", "type", "result"],
)
ATTEMPTS_FAILED = Counter(
    "orderplane_notifier_attempts_failed_total",
    "Attempts after which a message is not over, by reason.",
    ["channel", "reason"],
)


class Message(Protocol):
    """What a dispatcher needs to know of a message."""

    @property
    def channel(self) -> Channel: ...
    @property
    def label(self) -> str: ...
    @property
    def ids(self) -> dict[str, str]: ...
    @property
    def traceparent(self) -> str | None: ...
    @property
    def attempt(self) -> int: ...
    @property
    def unknown_attempts(self) -> int: ...


M = TypeVar("M", bound=Message)


class Queue(Protocol[M]):
    """Messages that are due, as `NotificationStore` has them."""

    async def claim(self, channel: Channel, limit: int, lease: timedelta) -> Sequence[M]: ...
    async def finish(self, message: M, final: Final, /) -> bool: ...
    async def retry_later(self, message: M, reason: str, pause: timedelta, /) -> None: ...
    async def keep_unknown(self, message: M, reason: str, /) -> None: ...


class Dispatcher(Generic[M]):
    """Serves one channel of a queue until it is stopped. Several dispatchers of a channel share what is due.

    Args:
        messenger: None if the channel is not offered here: its messages are skipped.
        final_unsent: How a message ends without being sent, at a time and with `good_for`; None to send it.
        lease: How long a claim holds.
        good_for: How long a message is tried.
    """

    def __init__(
        self,
        channel: Channel,
        messenger: Messenger[M] | None,
        store: Queue[M],
        final_unsent: Callable[[M, datetime, timedelta], Final | None],
        *,
        lease: timedelta,
        good_for: timedelta,
    ) -> None:
        self._channel = channel
        self._messenger = messenger
        self._store = store
        self._final_unsent = final_unsent
        self._lease = lease
        self._good_for = good_for
        self._rng = random.Random()
        self._stopping = asyncio.Event()
        self._wake = asyncio.Event()
        self._in_flight: set[asyncio.Task[None]] = set()
        # While the circuit breaker is open, one message at a time tests whether the provider is back.
        self._is_down = False
        self._is_more_due = False

    def wake(self) -> None:
        """Claim soon: messages may have become due."""
        self._wake.set()

    def stop(self) -> None:
        """Claim nothing more; finish what is in flight."""
        self._stopping.set()
        self._wake.set()

    async def run(self, beat: Beat) -> None:
        """Serve until `stop`."""
        try:
            while not self._stopping.is_set():
                beat()
                self._wake.clear()
                free = (1 if self._is_down else CONCURRENCY) - len(self._in_flight)
                claimed = await self._claim(free) if free > 0 else []
                for message in claimed:
                    task = asyncio.create_task(self._deliver(message))
                    self._in_flight.add(task)
                    task.add_done_callback(self._delivered)
                self._is_more_due = len(claimed) == free
                await wait_for_event(self._wake, POLL_SECONDS)
            if self._in_flight:
                await asyncio.wait(self._in_flight, timeout=DRAIN_SECONDS)
        finally:
            for task in self._in_flight:
                task.cancel()
            await asyncio.gather(*self._in_flight, return_exceptions=True)

    def _delivered(self, task: asyncio.Task[None]) -> None:
        self._in_flight.discard(task)
        if not task.cancelled() and (problem := task.exception()) is not None:
            log.error("the result of an attempt cannot be written", exc_info=problem)
        # A claim costs as much for one message as for several, so wait until half of the places are free.
        if self._is_more_due and not self._is_down and len(self._in_flight) <= CONCURRENCY // 2:
            self._wake.set()

    async def _claim(self, limit: int) -> Sequence[M]:
        try:
            return await self._store.claim(self._channel, limit, self._lease)
        except Transient as problem:
            FAILURES.labels("postgres").inc()
            log.warning("no message can be claimed; retrying", channel=self._channel, why=problem.reason)
            return []

    async def _deliver(self, message: M) -> None:
        ids = message.ids
        lease = self._lease.total_seconds()
        with (
            structlog.contextvars.bound_contextvars(**ids),
            tracer.start_as_current_span(
                f"notify {message.label}",
                context=context_from(message.traceparent),
                kind=SpanKind.CONSUMER,
                attributes={f"orderplane.{name}": value for name, value in ids.items()},
            ),
        ):
            try:
                async with asyncio.timeout(lease):
                    outcome = await self._attempt(message, lease * SENDING_SHARE)
                    await self._write(message, outcome)
            except TimeoutError:
                log.warning("the result of an attempt was not written; the next one looks for the message")

    async def _attempt(self, message: M, seconds: float) -> Outcome:
        if self._messenger is None:
            return Final(State.SKIPPED, "NotOffered")
        unsent = self._final_unsent(message, datetime.now(UTC), self._good_for)
        if unsent is not None:
            return unsent
        try:
            async with asyncio.timeout(seconds):
                sent = await self._find(message) if message.unknown_attempts else None
                sent = sent or await self._messenger.send(message)
        except (Transient, Refused) as problem:
            self._is_down = isinstance(problem, BreakerOpen)
            return after_failure(problem, message.attempt, self._rng)
        except TimeoutError:
            return Unknown("TookTooLong")
        except Exception as problem:
            # Its text may hold an address. An unforeseen failure of one message must not stop the others.
            log.error("an attempt failed unexpectedly", problem=type(problem).__name__)
            return Unknown("InternalError")
        self._is_down = False
        return Final(State.SENT, provider_id=sent)

    async def _find(self, message: M) -> str | None:
        assert self._messenger is not None
        try:
            return await self._messenger.find(message)
        except Unclear as problem:
            # A search sends nothing, whatever its result.
            raise Transient(problem.reason, problem.message) from problem

    async def _write(self, message: M, outcome: Outcome) -> None:
        """Write the result, however long the database is down; the time-out of the caller ends it."""
        await retry(
            partial(self._write_once, message, outcome),
            on=(Transient,),
            on_failure=_note_failure,
            longest_pause=WRITE_PAUSE,
        )

    async def _write_once(self, message: M, outcome: Outcome) -> None:
        match outcome:
            case Final():
                await self._finish(message, outcome)
            case Retry():
                await self._store.retry_later(message, outcome.reason, outcome.pause)
                ATTEMPTS_FAILED.labels(message.channel.value, outcome.reason).inc()
                log.info("not sent; retrying", why=outcome.reason, attempt=message.attempt)
            case Unknown():
                await self._store.keep_unknown(message, outcome.reason)
                ATTEMPTS_FAILED.labels(message.channel.value, outcome.reason).inc()
                log.warning("perhaps sent; the next attempt looks for the message", why=outcome.reason)

    async def _finish(self, message: M, final: Final) -> None:
        result = final.state.value
        if await self._store.finish(message, final):
            NOTIFICATIONS.labels(message.channel.value, message.label, result.lower()).inc()
            log.info("a message is finished", state=result, why=final.reason)
        else:
            log.warning("a later attempt has begun; this result is not written", state=result)


def _note_failure(problem: Exception) -> None:
    FAILURES.labels("postgres").inc()
    why = problem.reason if isinstance(problem, Transient) else repr(problem)
    log.warning("the result of an attempt cannot be written; retrying", why=why)
