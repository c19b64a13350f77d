"""Runs one kind's reconciler: reconciles first, status writes after, failures again but ever slower."""

import asyncio
import random
import time
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

import structlog
from opentelemetry import propagate, trace
from prometheus_client import Counter, Gauge, Histogram

from orderplane.controllers.engine.backoff import FailureState, after_failure, pause_after
from orderplane.controllers.engine.queue import Key, KeyedQueue
from orderplane.crds.api_errors import ApiError, Conflict, NotFound
from orderplane.crds.meta import Kind
from orderplane.crds.reasons import Reason
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
STALLED_KEYS = Gauge("orderplane_stalled_keys", "Keys that wait for a person to act.", ["kind"])

RACE_SECONDS = 0.05
"""The pause after losing a race: the winner's watch event is on its way."""

LOW_PRIORITY = 1_000
"""Of keys that are reconciled only in case an event or a notification about them was lost."""

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

    async def write_status(self, key: Key, failure: FailureState | None) -> None:
        """Bring the status and the Kubernetes Events up to what the last reconcile found.

        Raises:
            ApiError: it could not be written.
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
        rng: random.Random | None = None,
    ) -> None:
        self._reconciler = reconciler
        self._reconciles: KeyedQueue[H] = KeyedQueue()
        self._status_writes: KeyedQueue[H] = KeyedQueue()
        self._workers = workers
        self._writers = writers
        self._monotonic = monotonic
        self._rng = rng or random.Random()
        self._failures: dict[Key, FailureState] = {}

    @property
    def kind(self) -> Kind:
        """The kind whose keys are worked on here."""
        return self._reconciler.kind

    @property
    def is_idle(self) -> bool:
        """Nothing to do right now."""
        return self._reconciles.is_idle and self._status_writes.is_idle

    def enqueue(self, key: Key, *, is_urgent: bool = True, hint: H | None = None) -> None:
        """Have a key reconciled soon, or behind everything urgent; `hint` is as in `KeyedQueue.add`."""
        self._reconciles.add(key, self._reconciler.priority(key) if is_urgent else LOW_PRIORITY, hint)

    async def run(self) -> None:
        """Work until `stop`, after which what is in hand is still finished, or until cancelled."""
        kind = self.kind.value
        QUEUE_DEPTH.labels(kind, "reconciles").set_function(lambda: len(self._reconciles))
        QUEUE_DEPTH.labels(kind, "status_writes").set_function(lambda: len(self._status_writes))
        STALLED_KEYS.labels(kind).set_function(self._count_stalled)
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(self._workers):
                    group.create_task(self._reconcile_all())
                for _ in range(self._writers):
                    group.create_task(self._write_all())
        finally:
            self.stop()

    def stop(self) -> None:
        """Begin nothing more."""
        self._reconciles.close()
        self._status_writes.close()

    async def _reconcile_all(self) -> None:
        while (key := await self._reconciles.take()) is not None:
            try:
                await self.reconcile(key, self._reconciles.take_hint(key))
            finally:
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
        result = "ok"
        try:
            with tracer.start_as_current_span(
                f"reconcile {self.kind.value}", context, attributes={"key": "/".join(key)}
            ):
                seconds = await self._reconciler.reconcile(key, failure, hint)
            self._failures.pop(key, None)
            if seconds is not None:
                self._reconcile_after(key, seconds)
        except (Conflict, NotFound, GateClosed) as race:
            result = "race"
            log.debug("lost a race", kind=self.kind.value, key="/".join(key), why=str(race))
            await self._refresh(key)
            self._reconcile_after(key, RACE_SECONDS)
        except Transient as problem:
            result = "retry"
            self._fail(key, problem)
        except ApiError as problem:
            result = "retry"
            self._fail(key, Transient(Reason.API_SERVER_UNAVAILABLE, problem.message, problem.retry_after))
        except Exception as problem:
            result = "error"
            log.exception("reconcile failed", kind=self.kind.value, key="/".join(key))
            message = f"{type(problem).__name__}: see the operator's log"
            self._fail(key, Transient(Reason.INTERNAL_ERROR, message))
        finally:
            RECONCILES.labels(self.kind.value, result).inc()
            RECONCILE_SECONDS.labels(self.kind.value).observe(self._monotonic() - started)
        self._status_writes.add(key, self._reconciler.priority(key))

    async def write_status(self, key: Key) -> None:
        """One status write; one that fails is tried again, one that lost a race after reading anew."""
        result = "ok"
        failure = self._failures.get(key)
        try:
            await self._reconciler.write_status(
                key, failure.as_shown_at(self._monotonic()) if failure else None
            )
        except NotFound:
            result = "gone"
        except Conflict:
            result = "race"
            await self._refresh(key)
            self._status_writes.add_after(key, RACE_SECONDS)
        except (ApiError, Transient) as problem:
            result = "retry"
            log.debug("status write failed", kind=self.kind.value, key="/".join(key), why=str(problem))
            self._status_writes.add_after(key, self._rng.uniform(0.5, 1.5))
        except Exception:
            result = "error"
            log.exception("status write failed", kind=self.kind.value, key="/".join(key))
            self._status_writes.add_after(key, self._rng.uniform(5, 10))
        STATUS_WRITES.labels(self.kind.value, result).inc()

    def _fail(self, key: Key, problem: Transient) -> None:
        before = self._failures.get(key)
        failure = after_failure(before, problem, self._monotonic())
        self._failures[key] = failure
        if failure.is_stalled and not (before and before.is_stalled):
            log.warning("stalled", kind=self.kind.value, key="/".join(key), reason=failure.reason)
        self._reconcile_after(key, pause_after(failure, problem, self._rng))

    def _count_stalled(self) -> int:
        return sum(failure.is_stalled for failure in self._failures.values())

    def _reconcile_after(self, key: Key, seconds: float) -> None:
        self._reconciles.add_after(key, seconds, self._reconciler.priority(key))

    async def _refresh(self, key: Key) -> None:
        try:
            await self._reconciler.refresh(key)
        except ApiError as problem:
            log.debug("refresh failed", kind=self.kind.value, key="/".join(key), why=str(problem))
