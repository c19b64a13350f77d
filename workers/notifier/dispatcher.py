"""Send what is due through one channel: claim, send, note how it ended."""

import asyncio
import random
from datetime import UTC, datetime, timedelta

import structlog
from opentelemetry import trace
from opentelemetry.trace import SpanKind

from orderplane.adapters.providers import BreakerOpen
from orderplane.adapters.retry import wait_for_event
from orderplane.adapters.telemetry.traces import context_from
from orderplane.events.notifications import Channel
from orderplane.ledgers.errors import Refused, Transient, Unclear
from orderplane.workers.notifier.messengers import Messenger
from orderplane.workers.notifier.metrics import ATTEMPTS_FAILED, FAILURES, NOTIFICATIONS
from orderplane.workers.notifier.plan import (
    Again,
    Doubt,
    End,
    Notification,
    Outcome,
    State,
    after_problem,
    end_unsent,
)
from orderplane.workers.notifier.store import NotificationStore

log = structlog.get_logger(__name__)
tracer = trace.get_tracer(__name__)

AT_ONCE = 8
POLL_SECONDS = 1.0
NOTE_PAUSE = 0.5
DRAIN_SECONDS = 10.0
SENDING_SHARE = 0.7
"""Of its claim an attempt may send for so long; the rest is for noting how it ended."""


class Dispatcher:
    """Serves one channel until it is stopped. Several of a channel share what is due.

    Args:
        messenger: None where the channel is not offered here: its messages are skipped.
        lease: How long a claim holds.
        good_for: How long after its event a message is tried.
    """

    def __init__(
        self,
        channel: Channel,
        messenger: Messenger | None,
        book: NotificationStore,
        *,
        lease: timedelta,
        good_for: timedelta,
    ) -> None:
        self._channel = channel
        self._messenger = messenger
        self._book = book
        self._lease = lease
        self._good_for = good_for
        self._rng = random.Random()
        self._stopping = asyncio.Event()
        self._news = asyncio.Event()
        self._under_way: set[asyncio.Task[None]] = set()
        # While the other side is gone one message at a time finds out whether it is back.
        self._is_down = False
        self._is_more_due = False

    def wake(self) -> None:
        """There may be something due."""
        self._news.set()

    def stop(self) -> None:
        """Claim nothing more, finish what is under way."""
        self._stopping.set()
        self._news.set()

    async def run(self) -> None:
        """Serve until `stop`."""
        try:
            while not self._stopping.is_set():
                self._news.clear()
                free = (1 if self._is_down else AT_ONCE) - len(self._under_way)
                claimed = await self._claim(free) if free > 0 else []
                for notice in claimed:
                    task = asyncio.create_task(self._deliver(notice))
                    self._under_way.add(task)
                    task.add_done_callback(self._is_over)
                self._is_more_due = len(claimed) == free
                await wait_for_event(self._news, POLL_SECONDS)
            if self._under_way:
                await asyncio.wait(self._under_way, timeout=DRAIN_SECONDS)
        finally:
            for task in self._under_way:
                task.cancel()
            await asyncio.gather(*self._under_way, return_exceptions=True)

    def _is_over(self, task: asyncio.Task[None]) -> None:
        self._under_way.discard(task)
        # A look for a single message costs as much as one for several.
        if self._is_more_due and not self._is_down and len(self._under_way) <= AT_ONCE // 2:
            self._news.set()

    async def _claim(self, most: int) -> list[Notification]:
        try:
            return await self._book.claim(self._channel, most, self._lease)
        except Transient as problem:
            FAILURES.labels("postgres").inc()
            log.warning(
                "nothing can be claimed; it is tried again", channel=self._channel, why=problem.reason
            )
            return []

    async def _deliver(self, notice: Notification) -> None:
        ids = {"event_id": str(notice.event_id), "channel": notice.channel.value, "order": notice.order}
        lease = self._lease.total_seconds()
        with (
            structlog.contextvars.bound_contextvars(**ids),
            tracer.start_as_current_span(
                f"notify {notice.type.value}",
                context=context_from(notice.traceparent),
                kind=SpanKind.CONSUMER,
                attributes={f"orderplane.{name}": value for name, value in ids.items()},
            ),
        ):
            try:
                async with asyncio.timeout(lease):
                    await self._note(notice, await self._attempt(notice, lease * SENDING_SHARE))
            except TimeoutError:
                log.warning("how it ended could not be noted; it is looked into once its claim is over")

    async def _attempt(self, notice: Notification, seconds: float) -> Outcome:
        if self._messenger is None:
            return End(State.SKIPPED, "NotOffered")
        unsent = end_unsent(notice, datetime.now(UTC), self._good_for)
        if unsent is not None:
            return unsent
        try:
            async with asyncio.timeout(seconds):
                sent = await self._find(notice) if notice.unknown_attempts else None
                sent = sent or await self._messenger.send(notice)
        except (Transient, Refused) as problem:
            self._is_down = isinstance(problem, BreakerOpen)
            return after_problem(problem, notice.attempt, self._rng)
        except TimeoutError:
            return Doubt("TookTooLong")
        except Exception as problem:
            # One message is not to take the others with it.
            log.error("a message fails in a way nobody foresaw", problem=type(problem).__name__)
            return Doubt("InternalError")
        self._is_down = False
        return End(State.SENT, provider_id=sent)

    async def _find(self, notice: Notification) -> str | None:
        assert self._messenger is not None
        try:
            return await self._messenger.find(notice)
        except Unclear as problem:
            # Looking sends nothing, whatever came of it.
            raise Transient(problem.reason, problem.message) from problem

    async def _note(self, notice: Notification, outcome: Outcome) -> None:
        """Write it down, however long the database is away; the caller's time-out ends it."""
        while True:
            try:
                match outcome:
                    case End():
                        await self._note_end(notice, outcome)
                    case Again():
                        ATTEMPTS_FAILED.labels(notice.channel.value, outcome.reason).inc()
                        await self._book.again(notice, outcome.reason, outcome.pause)
                        log.info("not sent, tried again", why=outcome.reason, attempt=notice.attempt)
                    case Doubt():
                        ATTEMPTS_FAILED.labels(notice.channel.value, outcome.reason).inc()
                        await self._book.doubt(notice, outcome.reason)
                        log.warning("perhaps sent, looked into once its claim is over", why=outcome.reason)
                return
            except Transient as problem:
                FAILURES.labels("postgres").inc()
                log.warning("how it ended is not noted yet; it is tried again", why=problem.reason)
                await asyncio.sleep(NOTE_PAUSE)

    async def _note_end(self, notice: Notification, end: End) -> None:
        if await self._book.end(notice, end):
            NOTIFICATIONS.labels(notice.channel.value, notice.type.value, end.state.value.lower()).inc()
            log.info("a message has ended", state=end.state.value, why=end.reason)
        else:
            log.warning("another notifier had taken the message over", state=end.state.value)
