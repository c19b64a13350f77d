"""Runs one kind's reconciler: reconciles first, status writes after, failures again but ever slower."""

import asyncio
import random
import time
from collections.abc import Callable
from itertools import islice
from typing import Generic, Protocol, TypeVar

import structlog
from opentelemetry import propagate, trace
from prometheus_client import Counter, Gauge, Histogram

from orderplane.controllers.engine.backoff import (
    PROBE_SECONDS,
    WOKEN_BY_AN_ANSWER,
    FailureState,
    after_failure,
    pause_after,
    pause_after_race,
)
from orderplane.controllers.engine.delays import OUTAGES, Delay
from orderplane.controllers.engine.fair_queue import LOW_PRIORITY
from orderplane.controllers.engine.queue import Key, KeyedQueue
from orderplane.controllers.engine.waiting import WaitingKeys
from orderplane.crds.api_errors import ApiError, Conflict, Invalid, NotFound
from orderplane.crds.meta import Kind
from orderplane.crds.reasons import Reason
from orderplane.ledgers.awaiting import Caller
from orderplane.ledgers.errors import GateClosed, Transient

log = structlog.get_logger(__name__)
tracer = trace.get_tracer(__name__)

QUEUE_DEPTH = Gauge("orderplane_queue_depth", "Keys that wait.", ["kind", "queue"])
RECONCILES = Counter("orderplane_reconciles_total", "Reconciles by how they ended.", ["kind", "result"])
RECONCILE_SECONDS = Histogram(
    "orderplane_reconcile_duration_seconds",
    "How long one reconcile takes.",
    ["kind"],
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
)
STATUS_WRITES = Counter(
    "orderplane_status_writes_total", "Status writes by how they ended.", ["kind", "result"]
)
STALLED_KEYS = Gauge(
    "orderplane_stalled_keys",
    "Keys that this process has tried for too long or that need a person, also those whose object is gone.",
    ["kind"],
)
STALLED_STATUS_WRITES = Gauge(
    "orderplane_stalled_status_writes", "Keys whose status could not be written for a long time.", ["kind"]
)

LOOK_SECONDS = 0.25
"""Between two looks for what has begun to wait."""

H = TypeVar("H")
H_contra = TypeVar("H_contra", contravariant=True)


class Reconciler(Protocol[H_contra]):
    """What one kind does. Every method may be called any number of times."""

    @property
    def kind(self) -> Kind:
        """The kind whose keys these are."""
        ...

    async def reconcile(
        self, key: Key, failure: FailureState | None, hint: H_contra | None = None
    ) -> float | None:
        """Take the next steps of one key; answers the seconds after which to reconcile it again, if any.

        Args:
            failure: The failures in a row that came before.
            hint: What the caller that added the key had just read, to save reading it again; perhaps stale.

        Raises:
            Transient: it could not be done now.
            GateClosed, ApiError: another writer was faster; read again.
        """
        ...

    async def write_status(self, key: Key, delay: Delay | None) -> None:
        """Bring the status and the Kubernetes Events up to what the last reconcile found.

        It may be called before the first reconcile of the key has ended, and then says only what that waits
        for.

        Args:
            delay: What the key waits for.

        Raises:
            ApiError: it could not be written.
        """
        ...

    def report_pause(self, key: Key) -> float:
        """Seconds in which the status may still wait for the next step: one write is to tell both."""
        ...

    async def tell_unwritten(self, key: Key, failure: FailureState) -> None:
        """Tell by a Kubernetes Event that the status cannot be written: the status itself cannot say so.

        Raises:
            ApiError: the Event could not be written either.
        """
        ...

    async def refresh(self, key: Key) -> None:
        """Read the key past the cache."""
        ...

    def priority(self, key: Key) -> int:
        """Lower goes first: orders that are further along."""
        ...

    def traceparent(self, key: Key) -> str | None:
        """The trace that the key belongs to."""
        ...

    def order_of(self, key: Key) -> str:
        """The name of the order that the key belongs to, for logs."""
        ...


class Controller(Generic[H]):
    """Workers over two queues of one kind.

    Args:
        workers: How many keys are reconciled at once: the bulkhead between a slow provider and the rest.
        writers: How many statuses are written at once; few, so that reconciles get the API server first.
    """

    def __init__(
        self,
        reconciler: Reconciler[H],
        *,
        workers: int,
        writers: int,
        monotonic: Callable[[], float] = time.monotonic,
        unix_time: Callable[[], float] = time.time,
        rng: random.Random | None = None,
    ) -> None:
        self._reconciler = reconciler
        self._reconciles: KeyedQueue[H] = KeyedQueue(monotonic)
        self._status_writes: KeyedQueue[H] = KeyedQueue()
        self._workers = workers
        self._writers = writers
        self._monotonic = monotonic
        self._rng = rng or random.Random()
        self._failures: dict[Key, FailureState] = {}
        self._races: dict[Key, int] = {}
        self._unwritten: dict[Key, FailureState] = {}
        self._write_races: dict[Key, int] = {}
        self._begun: dict[Key, float] = {}
        self._waiting: WaitingKeys[H] = WaitingKeys(
            reconciler.kind,
            reconciler.order_of,
            self._failures,
            self._reconciles,
            workers,
            monotonic,
            unix_time,
        )
        self._resting: dict[Key, None] = {}
        self._probed_at = 0.0

    @property
    def kind(self) -> Kind:
        """The kind whose keys are worked on here."""
        return self._reconciler.kind

    @property
    def is_idle(self) -> bool:
        """Nothing to do right now."""
        return self._reconciles.is_idle and self._status_writes.is_idle

    @property
    def has_waiting(self) -> bool:
        """Whether a key waits for a worker, or a status for a writer."""
        return bool(len(self._reconciles) or len(self._status_writes))

    @property
    def longest_seconds(self) -> float:
        """How long the reconcile that takes longest has been under way; 0 where none is."""
        return self._monotonic() - min(self._begun.values()) if self._begun else 0.0

    def enqueue(self, key: Key, *, is_urgent: bool = True, hint: H | None = None) -> None:
        """Have a key reconciled soon, or behind everything urgent; `hint` is as in `KeyedQueue.add`."""
        self._reconciles.add(key, self._reconciler.priority(key) if is_urgent else LOW_PRIORITY, hint)

    def report(self, key: Key) -> None:
        """Have the status of a key brought up to date soon; nothing is done for it."""
        if key not in self._unwritten:
            # Else its next try is due already: reports shall not outrun the pauses between them.
            self._report(key)

    async def run(self) -> None:
        """Work until `stop`, or until cancelled; after `stop` what is in hand is finished, and reported."""
        kind = self.kind.value
        QUEUE_DEPTH.labels(kind, "reconciles").set_function(lambda: len(self._reconciles))
        QUEUE_DEPTH.labels(kind, "status_writes").set_function(lambda: len(self._status_writes))
        STALLED_KEYS.labels(kind).set_function(lambda: _count_stalled(self._failures))
        STALLED_STATUS_WRITES.labels(kind).set_function(lambda: _count_stalled(self._unwritten))
        reconciling = [asyncio.create_task(self._reconcile_all()) for _ in range(self._workers)]
        writing = [asyncio.create_task(self._write_all()) for _ in range(self._writers)]
        looking = asyncio.create_task(self._look_for_delays())
        tasks = [*reconciling, *writing, looking]
        try:
            # The first one ends because of `stop`, or has failed; the others finish what is in hand. A
            # TaskGroup would not notice one that a library has cancelled.
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            self.stop()
            looking.cancel()
            await asyncio.wait(reconciling)
            # The next process finds a status that was not written only when it looks at everything.
            self._status_writes.finish()
            await asyncio.wait(writing)
            for task in (*reconciling, *writing, *((looking,) if not looking.cancelling() else ())):
                task.result()
        finally:
            self.stop()
            self._status_writes.close()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def stop(self) -> None:
        """Begin nothing more."""
        self._reconciles.close()

    async def _look_for_delays(self) -> None:
        """Report what has begun to wait, and see that somebody asks whether it may go on."""
        while True:
            for key in self._waiting.untold():
                self.report(key)
            if self._resting and self._monotonic() - self._probed_at >= PROBE_SECONDS:
                self._probed_at = self._monotonic()
                self._wake(1)
            await asyncio.sleep(LOOK_SECONDS)

    def _wake(self, most: int) -> None:
        """Try some of the keys that rest since somebody did not answer."""
        for key in list(islice(self._resting, most)):
            del self._resting[key]
            self._reconciles.add(key, self._reconciler.priority(key))

    async def _reconcile_all(self) -> None:
        while (key := await self._reconciles.take()) is not None:
            self._begun[key] = self._monotonic()
            try:
                await self.reconcile(key, self._reconciles.take_hint(key))
            finally:
                del self._begun[key]
                self._reconciles.done(key)

    async def _write_all(self) -> None:
        while (key := await self._status_writes.take()) is not None:
            try:
                await self.write_status(key)
            finally:
                self._status_writes.done(key)

    async def reconcile(self, key: Key, hint: H | None = None) -> None:
        """One reconcile, with what follows from how it ended."""
        failure = self._failures.get(key)
        context = propagate.extract({"traceparent": self._reconciler.traceparent(key) or ""})
        started = self._monotonic()
        if self._resting.pop(key, False) is None:
            self._probed_at = started
        caller = Caller()
        result = "ok"
        try:
            with (
                self._waiting.calling(key, caller),
                tracer.start_as_current_span(
                    f"reconcile {self.kind.value}", context, attributes={"key": "/".join(key)}
                ),
            ):
                seconds = await self._reconciler.reconcile(key, failure, hint)
            self._succeed(key)
            if seconds is not None:
                self._reconcile_after(key, seconds)
        except (Conflict, NotFound, GateClosed) as race:
            result = "race"
            log.debug("lost a race", kind=self.kind.value, key="/".join(key), why=str(race))
            await self._refresh(key)
            self._reconcile_after(key, self._race(self._races, key))
        except Transient as problem:
            result = "retry"
            self._fail(key, problem, started, caller)
        except ApiError as problem:
            result = "retry"
            unavailable = Transient(Reason.API_SERVER_UNAVAILABLE, problem.summary, problem.retry_after)
            self._fail(key, unavailable, started, caller)
        except Exception as problem:
            result = "error"
            log.exception("reconcile failed", kind=self.kind.value, key="/".join(key))
            message = f"{type(problem).__name__}: see the operator's log"
            self._fail(key, Transient(Reason.INTERNAL_ERROR, message), started, caller)
        finally:
            RECONCILES.labels(self.kind.value, result).inc()
            RECONCILE_SECONDS.labels(self.kind.value).observe(self._monotonic() - started)
        self.report(key)

    async def write_status(self, key: Key) -> None:
        """One status write; one that fails is tried again ever slower, one that lost a race at once."""
        result = "ok"
        try:
            await self._reconciler.write_status(key, self._waiting.delay(key))
            self._forget_write(key)
        except NotFound:
            result = "gone"
            self._forget_write(key)
        except Conflict:
            result = "race"
            await self._refresh(key)
            self._status_writes.add_after(key, self._race(self._write_races, key))
        except ApiError as problem:
            result = "retry"
            is_final = isinstance(problem, Invalid)
            await self._fail_to_write(key, problem.summary, problem.retry_after, is_final=is_final)
        except Transient as problem:
            result = "retry"
            await self._fail_to_write(key, problem.message, problem.retry_after)
        except Exception as problem:
            result = "error"
            log.exception("status write failed", kind=self.kind.value, key="/".join(key))
            await self._fail_to_write(key, f"{type(problem).__name__}: see the operator's log")
        STATUS_WRITES.labels(self.kind.value, result).inc()

    def _report(self, key: Key) -> None:
        pause, priority = self._reconciler.report_pause(key), self._reconciler.priority(key)
        if pause:
            self._status_writes.add_after(key, pause, priority)
        else:
            self._status_writes.add(key, priority)

    def _succeed(self, key: Key) -> None:
        before = self._failures.pop(key, None)
        self._races.pop(key, None)
        self._waiting.goes_on(key)
        if before is not None and before.reason in OUTAGES:
            self._wake(WOKEN_BY_AN_ANSWER)

    def _fail(self, key: Key, problem: Transient, begun: float, caller: Caller) -> None:
        is_outage = problem.reason in OUTAGES
        whom = caller.last.whom if caller.last is not None and is_outage else None
        failure = after_failure(self._failures.get(key), problem, self._monotonic(), begun=begun, whom=whom)
        self._failures[key] = failure
        if is_outage:
            self._resting[key] = None
        self._reconcile_after(key, pause_after(failure, problem, self._rng))

    async def _fail_to_write(
        self, key: Key, message: str, retry_after: float | None = None, *, is_final: bool = False
    ) -> None:
        log.debug("status write failed", kind=self.kind.value, key="/".join(key), why=message)
        problem = Transient(Reason.STATUS_NOT_WRITTEN, message, retry_after, is_final=is_final)
        before = self._unwritten.get(key)
        failure = after_failure(before, problem, self._monotonic())
        self._unwritten[key] = failure
        if failure.is_stalled and not (before and before.is_stalled):
            log.warning("status not written", kind=self.kind.value, key="/".join(key), why=message)
            try:
                await self._reconciler.tell_unwritten(key, failure)
            except ApiError as unheard:
                log.warning("event not written", kind=self.kind.value, key="/".join(key), why=unheard.summary)
        self._status_writes.add_after(key, pause_after(failure, problem, self._rng))

    def _forget_write(self, key: Key) -> None:
        self._unwritten.pop(key, None)
        self._write_races.pop(key, None)

    def _race(self, races: dict[Key, int], key: Key) -> float:
        """Count one more lost race; answers the seconds until the next try."""
        races[key] = races.get(key, 0) + 1
        return pause_after_race(races[key], self._rng)

    def _reconcile_after(self, key: Key, seconds: float) -> None:
        self._reconciles.add_after(key, seconds, self._reconciler.priority(key))

    async def _refresh(self, key: Key) -> None:
        try:
            await self._reconciler.refresh(key)
        except ApiError as problem:
            log.debug("refresh failed", kind=self.kind.value, key="/".join(key), why=str(problem))


def _count_stalled(failures: dict[Key, FailureState]) -> int:
    return sum(failure.is_stalled for failure in failures.values())
