"""Runs one kind's reconciler: steps first, reports after, failures again and again but ever slower."""

import asyncio
import random
import time
from collections.abc import Callable
from typing import Protocol

import structlog
from opentelemetry import propagate, trace

from orderplane.controllers.engine import metrics
from orderplane.controllers.engine.backoff import FailureState, after_failure, pause_after
from orderplane.controllers.engine.queue import Key, KeyedQueue
from orderplane.crds.api_errors import ApiError, Conflict, NotFound
from orderplane.crds.meta import Kind
from orderplane.crds.reasons import Reason
from orderplane.ledgers.errors import GateClosed, Transient
from orderplane.ledgers.gate import Gate

log = structlog.get_logger(__name__)
tracer = trace.get_tracer(__name__)

RACE_SECONDS = 0.05
"""After losing a race there is nothing to wait for but the winner's news."""


LOW_PRIORITY = 1_000
"""The rank of what is looked at only in case that news of it was lost."""


class Reconciler(Protocol):
    """What one kind does. Both methods may be run any number of times."""

    @property
    def kind(self) -> Kind:
        """The kind whose keys these are."""
        ...

    async def reconcile(
        self, key: Key, trouble: FailureState | None, seen: Gate | None = None
    ) -> float | None:
        """Take the next steps of one key; answers the seconds after which to look again, if any.

        Args:
            seen: The order's gate as it was a moment ago, which saves reading it. It decides nothing: every
                effect passes the gate itself.

        Raises:
            Transient: it could not be done now.
            GateClosed, ApiError: somebody else was faster; look again.
        """
        ...

    async def report(self, key: Key, trouble: FailureState | None) -> None:
        """Bring the status and the Events up to what the last reconcile found.

        Raises:
            ApiError: it could not be written.
        """
        ...

    async def refresh(self, key: Key) -> None:
        """Read the key past the cache."""
        ...

    def rank(self, key: Key) -> int:
        """Lower goes first: what is further along."""
        ...

    def traceparent(self, key: Key) -> str | None:
        """The trace that the key belongs to."""
        ...


class Controller:
    """Workers over two queues of one kind.

    Args:
        workers: How many keys are reconciled at once: the bulkhead between a slow provider and the rest.
        reporters: How many reports are written at once; few, so that steps get the API server first.
    """

    def __init__(
        self,
        reconciler: Reconciler,
        *,
        workers: int,
        reporters: int,
        clock: Callable[[], float] = time.monotonic,
        rng: random.Random | None = None,
    ) -> None:
        self._reconciler = reconciler
        self._steps = KeyedQueue()
        self._reports = KeyedQueue()
        self._workers = workers
        self._reporters = reporters
        self._clock = clock
        self._rng = rng or random.Random()
        self._troubles: dict[Key, FailureState] = {}

    @property
    def kind(self) -> Kind:
        """The kind whose keys are worked on here."""
        return self._reconciler.kind

    @property
    def is_idle(self) -> bool:
        """Nothing to do right now."""
        return self._steps.is_idle and self._reports.is_idle

    def wake(self, key: Key, *, is_urgent: bool = True, seen: Gate | None = None) -> None:
        """Have a key reconciled soon, or behind everything urgent; `seen` is as in `KeyedQueue.add`."""
        self._steps.add(key, self._reconciler.rank(key) if is_urgent else LOW_PRIORITY, seen)

    async def run(self) -> None:
        """Work until `stop`, after which what is in hand is still finished, or until cancelled."""
        kind = self.kind.value
        metrics.QUEUE_DEPTH.labels(kind, "steps").set_function(lambda: len(self._steps))
        metrics.QUEUE_DEPTH.labels(kind, "reports").set_function(lambda: len(self._reports))
        metrics.STALLED_KEYS.labels(kind).set_function(self._stalled)
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(self._workers):
                    group.create_task(self._work())
                for _ in range(self._reporters):
                    group.create_task(self._tell())
        finally:
            self.stop()

    def stop(self) -> None:
        """Begin nothing more."""
        self._steps.close()
        self._reports.close()

    async def _work(self) -> None:
        while (key := await self._steps.take()) is not None:
            try:
                await self.step(key, self._steps.seen(key))
            finally:
                self._steps.done(key)

    async def _tell(self) -> None:
        while (key := await self._reports.take()) is not None:
            try:
                await self.report(key)
            finally:
                self._reports.done(key)

    async def step(self, key: Key, seen: Gate | None = None) -> None:
        """One reconcile, with what follows from how it ended."""
        trouble = self._troubles.get(key)
        context = propagate.extract({"traceparent": self._reconciler.traceparent(key) or ""})
        started = self._clock()
        result = "ok"
        try:
            with tracer.start_as_current_span(
                f"reconcile {self.kind.value}", context, attributes={"key": "/".join(key)}
            ):
                again = await self._reconciler.reconcile(key, trouble, seen)
            self._troubles.pop(key, None)
            if again is not None:
                self._steps.add_after(key, again, self._reconciler.rank(key))
        except (Conflict, NotFound, GateClosed) as race:
            result = "race"
            log.debug("lost a race", kind=self.kind.value, key="/".join(key), why=str(race))
            await self._refresh(key)
            self._again(key, RACE_SECONDS)
        except Transient as problem:
            result = "retry"
            self._fail(key, problem)
        except ApiError as problem:
            result = "retry"
            self._fail(key, Transient(Reason.API_SERVER_UNAVAILABLE, problem.message, problem.retry_after))
        except Exception as problem:
            result = "error"
            log.exception("reconcile failed", kind=self.kind.value, key="/".join(key))
            self._fail(
                key, Transient(Reason.INTERNAL_ERROR, f"{type(problem).__name__}: see the operator's log")
            )
        finally:
            metrics.RECONCILES.labels(self.kind.value, result).inc()
            metrics.RECONCILE_SECONDS.labels(self.kind.value).observe(self._clock() - started)
        self._reports.add(key, self._reconciler.rank(key))

    async def report(self, key: Key) -> None:
        """One report; what fails is tried again, what lost a race is read again first."""
        result = "ok"
        try:
            await self._reconciler.report(key, self._told(key))
        except NotFound:
            result = "gone"
        except Conflict:
            result = "race"
            await self._refresh(key)
            self._reports.add_after(key, RACE_SECONDS)
        except (ApiError, Transient) as problem:
            result = "retry"
            log.debug("report failed", kind=self.kind.value, key="/".join(key), why=str(problem))
            self._reports.add_after(key, self._rng.uniform(0.5, 1.5))
        except Exception:
            result = "error"
            log.exception("report failed", kind=self.kind.value, key="/".join(key))
            self._reports.add_after(key, self._rng.uniform(5, 10))
        metrics.REPORTS.labels(self.kind.value, result).inc()

    def _told(self, key: Key) -> FailureState | None:
        trouble = self._troubles.get(key)
        return trouble.as_told_at(self._clock()) if trouble else None

    def _fail(self, key: Key, problem: Transient) -> None:
        before = self._troubles.get(key)
        trouble = after_failure(before, problem, self._clock())
        self._troubles[key] = trouble
        if trouble.is_stalled and not (before and before.is_stalled):
            log.warning("parked", kind=self.kind.value, key="/".join(key), reason=trouble.reason)
        self._again(key, pause_after(trouble, problem, self._rng))

    def _stalled(self) -> int:
        return sum(trouble.is_stalled for trouble in self._troubles.values())

    def _again(self, key: Key, seconds: float) -> None:
        self._steps.add_after(key, seconds, self._reconciler.rank(key))

    async def _refresh(self, key: Key) -> None:
        try:
            await self._reconciler.refresh(key)
        except ApiError as problem:
            log.debug("refresh failed", kind=self.kind.value, key="/".join(key), why=str(problem))
