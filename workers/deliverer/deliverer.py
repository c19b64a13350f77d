"""Send events to webhook endpoints: claim, send, write the result. Several deliverers share what is due."""

import asyncio
import random
import time
from collections import Counter as Tally
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial

import structlog
from prometheus_client import Counter, Gauge, Histogram

from orderplane.adapters.halves import Beat, Half
from orderplane.adapters.retry import retry, wait_for_event
from orderplane.adapters.webhook_endpoints.client import EndpointClient
from orderplane.adapters.webhook_endpoints.secrets import EndpointSecrets, SecretUnreadable
from orderplane.events.standard_webhooks import CONTENT_TYPE, signed_headers
from orderplane.ledgers.errors import Transient
from orderplane.workers.deliverer.plan import (
    Claimed,
    Delivered,
    Key,
    Outcome,
    Pace,
    Parked,
    after_attempt,
    disabled_for,
    failure_of,
    outcome_of,
    places,
)
from orderplane.workers.deliverer.store import PARK_BATCH, Attempt, DeliveryStore

log = structlog.get_logger(__name__)

POLL_SECONDS = 0.25
"""Pause between two looks for what is due: one statement, and a part of what an event may take to arrive."""
COUNT_SECONDS = 2.0
WRITE_PAUSE = 0.5
DRAIN_SECONDS = 20.0
"""For the requests under way; what takes longer is sent again."""
MAX_PACES = 10_000

DELIVERIES = Counter(
    "orderplane_event_deliveries_total",
    "Deliveries of events to webhook endpoints by how they ended: delivered or parked.",
    ["type", "result"],
)
ATTEMPTS = Counter(
    "orderplane_delivery_attempts_total",
    "Requests to webhook endpoints by result: Delivered, or why it was not.",
    ["result"],
)
ATTEMPT_SECONDS = Histogram(
    "orderplane_delivery_attempt_duration_seconds", "Time from a request to its answer."
)
DELAY = Histogram(
    "orderplane_delivery_delay_seconds",
    "Time from an event to its delivery, of those that the first attempt has delivered.",
    buckets=(0.1, 0.25, 0.5, 1, 2, 5, 10, 30, 60, 300),
)
WAITING = Gauge("orderplane_event_deliveries_waiting", "Deliveries that wait for their next attempt.")
OLDEST = Gauge(
    "orderplane_event_deliveries_oldest_age_seconds",
    "How long the oldest delivery is due, to endpoints that take what they get.",
)
FAILING = Gauge(
    "orderplane_webhook_endpoints_failing", "Endpoints that are enabled, and whose last attempt has failed."
)
DISABLED = Gauge(
    "orderplane_webhook_endpoints_disabled", "Endpoints that are disabled because they took nothing."
)
FAILURES = Counter(
    "orderplane_deliverer_failures_total", "Losses of PostgreSQL, which were waited for.", ["reason"]
)


@dataclass(frozen=True, slots=True)
class Rules:
    """Times of deliveries.

    Args:
        lease: How long a claim holds: longer than an attempt and the writing of its result.
        good_for: How long after its first attempt a delivery is tried.
        patience: How long an endpoint may take nothing until it is disabled.
        pauses: Seconds before each further attempt; the last one again and again.
    """

    lease: timedelta
    good_for: timedelta
    patience: timedelta
    pauses: tuple[float, ...]


class Deliverer:
    """See the module."""

    def __init__(
        self, store: DeliveryStore, client: EndpointClient, secrets: EndpointSecrets, rules: Rules
    ) -> None:
        self._store = store
        self._client = client
        self._secrets = secrets
        self._rules = rules
        self._rng = random.Random()
        self._stopping = asyncio.Event()
        self._wake = asyncio.Event()
        self._in_flight: dict[asyncio.Task[None], Key] = {}
        self._paces: dict[Key, Pace] = {}
        self._is_claiming = False
        # Of what is in flight, how much has to end until it is worth to claim again before the next poll.
        self._wake_at = -1

    @property
    def is_ready(self) -> bool:
        """Whether what is due can be claimed. Endpoints may be down."""
        return self._is_claiming

    @property
    def halves(self) -> list[Half]:
        """What has to run until the process stops."""
        return [
            Half("deliver", self._deliver_until_stopped, finish=self._stop),
            Half("count deliveries", self._count),
        ]

    async def renew_secrets(self) -> None:
        """Encrypt by the newest key what is encrypted by an older one. Raises Transient."""
        renewed = 0
        for key, secret, previous in await self._store.secrets():
            try:
                fresh = self._secrets.renewed(secret)
                fresh_previous = self._secrets.renewed(previous) if previous else None
            except SecretUnreadable as problem:
                log.error("a secret cannot be used", endpoint=key[1], why=str(problem))
                continue
            if fresh or fresh_previous:
                after = (fresh or secret, fresh_previous or previous)
                await self._store.renew(key, (secret, previous), after)
                renewed += 1
        log.info("every secret is encrypted by the newest key", renewed=renewed)

    def _stop(self) -> None:
        self._stopping.set()
        self._wake.set()

    async def _deliver_until_stopped(self, beat: Beat) -> None:
        try:
            while not self._stopping.is_set():
                beat()
                self._wake.clear()
                claimed, wanted = await self._claim()
                for delivery in claimed:
                    task = asyncio.create_task(self._deliver(delivery))
                    self._in_flight[task] = delivery.key
                    task.add_done_callback(self._delivered)
                # A claim costs as much for one delivery as for many.
                self._wake_at = len(self._in_flight) // 2 if wanted and len(claimed) == wanted else -1
                await wait_for_event(self._wake, POLL_SECONDS)
            if self._in_flight:
                await asyncio.wait(self._in_flight, timeout=DRAIN_SECONDS)
        finally:
            for task in self._in_flight:
                task.cancel()
            await asyncio.gather(*self._in_flight, return_exceptions=True)

    def _delivered(self, task: asyncio.Task[None]) -> None:
        del self._in_flight[task]
        if len(self._in_flight) <= self._wake_at:
            self._wake.set()
        if not task.cancelled() and (problem := task.exception()) is not None:
            log.error("an attempt failed unexpectedly; it is made again", exc_info=problem)

    async def _claim(self) -> tuple[list[Claimed], int]:
        """Deliveries to send, and how many were wanted."""
        try:
            due = await self._store.due()
            self._is_claiming = True
            wanted = places(due, Tally(self._in_flight.values()), self._paces, time.monotonic())
            claimed = await self._store.claim(wanted, self._rules.lease) if wanted else []
        except Transient as problem:
            self._is_claiming = False
            _note_failure(problem)
            return [], 0
        return claimed, sum(wanted.values())

    async def _deliver(self, delivery: Claimed) -> None:
        lease = self._rules.lease.total_seconds()
        with structlog.contextvars.bound_contextvars(
            event_id=str(delivery.event_id), endpoint=delivery.endpoint
        ):
            try:
                async with asyncio.timeout(lease):
                    await self._attempt(delivery)
            except TimeoutError:
                log.warning("the result of an attempt was not written; it is made again")

    async def _attempt(self, delivery: Claimed) -> None:
        try:
            keys = [self._secrets.decrypt(delivery.secret)]
            if delivery.previous_secret:
                keys.append(self._secrets.decrypt(delivery.previous_secret))
        except SecretUnreadable as problem:
            # Left claimed: it is tried again when the claim ends, perhaps with the right key.
            log.error("a request cannot be signed", why=str(problem))
            return
        at = datetime.now(UTC)
        headers = signed_headers(str(delivery.event_id), at, delivery.body, keys)
        answer = await self._client.post(
            delivery.url, {"Content-Type": CONTENT_TYPE, **headers}, delivery.body
        )
        failure = failure_of(answer.status, answer.failure)
        ATTEMPTS.labels(failure or "Delivered").inc()
        ATTEMPT_SECONDS.observe(answer.seconds)
        self._note_pace(delivery.key, failure is None, answer.seconds, answer.retry_after)
        outcome = outcome_of(
            failure,
            delivery,
            wish=answer.retry_after,
            good_for=self._rules.good_for,
            pauses=self._rules.pauses,
            rng=self._rng,
        )
        attempt = Attempt(at, answer.status, failure, answer.seconds, answer.text)
        await retry(
            partial(self._record, delivery, attempt, outcome),
            on=(Transient,),
            on_failure=_note_failure,
            longest_pause=WRITE_PAUSE,
        )

    async def _record(self, delivery: Claimed, attempt: Attempt, outcome: Outcome) -> None:
        failing_for = await self._store.record(delivery, attempt, outcome)
        _count(delivery, outcome, attempt)
        reason = disabled_for(attempt.reason, failing_for, self._rules.patience)
        if reason is not None and await self._store.disable(delivery.key, reason):
            log.warning("an endpoint takes nothing; it is disabled, and its shop is told", why=reason)

    def _note_pace(self, key: Key, is_taken: bool, seconds: float, wish: float | None) -> None:
        pace = after_attempt(
            self._paces.get(key, Pace()), is_taken=is_taken, seconds=seconds, wish=wish,
            now=time.monotonic(), pauses=self._rules.pauses,
        )  # fmt: skip
        self._paces.pop(key, None)
        if pace != Pace():
            if len(self._paces) >= MAX_PACES:
                del self._paces[next(iter(self._paces))]
            self._paces[key] = pace

    async def _count(self, beat: Beat) -> None:
        """Update the gauges, and park what waits for nobody, until cancelled."""
        while True:
            beat()
            try:
                while await self._store.park() == PARK_BATCH:
                    beat()
                counts = await self._store.counts()
            except Transient as problem:
                log.debug("deliveries cannot be counted", why=problem.reason)
            else:
                WAITING.set(counts.waiting)
                OLDEST.set(counts.oldest_seconds)
                FAILING.set(counts.failing)
                DISABLED.set(counts.disabled)
            await asyncio.sleep(COUNT_SECONDS)


def _count(delivery: Claimed, outcome: Outcome, attempt: Attempt) -> None:
    match outcome:
        case Delivered():
            DELIVERIES.labels(delivery.type, "delivered").inc()
            if delivery.attempt == 1:
                DELAY.observe(max(0.0, (attempt.at - delivery.created_at).total_seconds() + attempt.seconds))
        case Parked(reason):
            DELIVERIES.labels(delivery.type, "parked").inc()
            log.warning("a delivery is parked: see `orderplane webhooks deliveries`", why=reason)


def _note_failure(problem: Exception) -> None:
    FAILURES.labels("postgres").inc()
    why = problem.reason if isinstance(problem, Transient) else repr(problem)
    log.warning("PostgreSQL cannot be used; deliveries wait", why=why)
