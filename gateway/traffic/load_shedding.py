"""Load shedding: refuse new orders while they would wait too long. All other requests are served.

`OrderBacklog` says what is waiting, `BacklogEstimate` adds how fast it is worked off, `shed_reason` decides,
and a token bucket spreads bursts. docs/decisions/0013-load-shedding.md gives the reasons and the figures.
"""

import asyncio
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

import structlog
from prometheus_client import Counter, Gauge

from orderplane.adapters.halves import Beat
from orderplane.gateway.http.problems import Problem, unavailable
from orderplane.gateway.traffic.order_backlog import OrderBacklog
from orderplane.ledgers.errors import Transient

SHED = Counter("orderplane_orders_shed_total", "New orders that were refused.", ["reason"])
AGE = Gauge("orderplane_backlog_age_seconds", "Age of the oldest order that the operator has not touched.")
WAITING = Gauge("orderplane_backlog_orders", "Accepted orders without a label or an outcome.")
THROUGHPUT = Gauge("orderplane_backlog_orders_per_second", "Orders that left the backlog, moving average.")

READ_SECONDS = 1.0
STALE_SECONDS = 10.0
"""A reading older than this is not used; then only the API server's own back-pressure counts."""
AVERAGE_SECONDS = 10.0
"""Time constant of the moving average of the throughput."""
RETRY_SECONDS = 5.0
BURST_RETRY_SECONDS = 1.0

MIN_THROUGHPUT = 11.0
"""Orders per second that are assumed until the operator has shown more."""
HEADROOM = 2.0
"""New orders may come at this multiple of the throughput. Without a backlog that can grow, the measured
throughput could never exceed the admitted rate, and would stay low for ever."""
BURST_SECONDS = 0.5
"""The token bucket holds this many seconds of the allowed rate."""

MAX_CONCURRENT_WHILE_SHEDDING = 3
"""Requests for new orders that are processed at once while they are being refused. One of them may be the
repeat of an accepted order, which is answered."""

log = structlog.get_logger(__name__)


class ShedReason(StrEnum):
    """Why a new order is refused."""

    API_SERVER = "api_server"  # the API server answered 429 and asked for a pause
    AGE = "backlog_age"  # the operator does not take up new orders
    LENGTH = "backlog_length"  # it does, but the backlog is longer than can be worked off in time
    BURST = "burst"  # more orders at once than the token bucket allows


class BacklogSource(Protocol):
    """What is needed of `PostgresOrderBacklog`."""

    async def read(self) -> OrderBacklog: ...


@dataclass(frozen=True, slots=True)
class BacklogEstimate:
    """What a new order would have to wait for.

    Args:
        waiting: Orders that come before it.
        untouched_seconds: Age of the oldest order that the operator has not touched.
        throughput: Orders that leave the backlog per second.
    """

    waiting: int = 0
    untouched_seconds: float = 0.0
    throughput: float = 0.0


def updated_estimate(before: BacklogEstimate, backlog: OrderBacklog) -> BacklogEstimate:
    """The estimate after another reading. The throughput is an exponential moving average."""
    if backlog.seconds <= 0:
        return BacklogEstimate(backlog.waiting, backlog.untouched_seconds, before.throughput)
    left = max(0, before.waiting + backlog.entered - backlog.waiting) / backlog.seconds
    weight = 1 - math.exp(-backlog.seconds / AVERAGE_SECONDS)
    throughput = before.throughput + weight * (left - before.throughput)
    return BacklogEstimate(backlog.waiting, backlog.untouched_seconds, throughput)


def shed_reason(estimate: BacklogEstimate, shed_after: float) -> ShedReason | None:
    """Why a new order has to be refused; None if it can be admitted.

    The length is limited to what is worked off in half of `shed_after` seconds. So while orders move, no age
    comes near `shed_after`, and an age that exceeds it means that the operator has stopped.
    """
    if estimate.untouched_seconds > shed_after:
        return ShedReason.AGE
    if estimate.waiting >= max(estimate.throughput, MIN_THROUGHPUT) * shed_after / 2:
        return ShedReason.LENGTH
    return None


def allowed_rate(throughput: float) -> float:
    """New orders per second that may be admitted at this throughput."""
    return HEADROOM * max(throughput, MIN_THROUGHPUT)


class OrderTokenBucket:
    """A token bucket for new orders: it is refilled at the allowed rate.

    Args:
        monotonic: Monotonic seconds.
    """

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._tokens = allowed_rate(0.0) * BURST_SECONDS
        self._filled_at = monotonic()

    def has_token(self, throughput: float) -> bool:
        """Whether one more order may be admitted now."""
        now, rate = self._monotonic(), allowed_rate(throughput)
        self._tokens = min(rate * BURST_SECONDS, self._tokens + (now - self._filled_at) * rate)
        self._filled_at = now
        return self._tokens >= 1

    def take(self) -> None:
        """Take a token.

        The count stays at zero if there is none: with shedding off, `check` admits all orders.
        """
        self._tokens = max(0.0, self._tokens - 1)

    def give_back(self) -> None:
        """Return a token that was taken for a repeat of an older request."""
        self._tokens += 1


class LoadShedding:
    """Decides whether one more order is admitted.

    Args:
        pushback: Seconds for which the API server asked not to be called; 0 if it did not.
        shed_after: Seconds that a new order may have to wait; infinity turns the limits on the backlog off.
        monotonic: Monotonic seconds.
    """

    def __init__(
        self,
        source: BacklogSource,
        pushback: Callable[[], float],
        *,
        shed_after: float,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._source = source
        self._pushback = pushback
        self._shed_after = shed_after
        self._monotonic = monotonic
        self._bucket = OrderTokenBucket(monotonic)
        self._estimate = BacklogEstimate()
        self._read_at = -math.inf
        self._admitted_since_read = 0
        self._refused_since_read: ShedReason | None = None
        self._logged: ShedReason | None = None

    def admit(self) -> None:
        """Admit one new order.

        Raises:
            Problem: `overloaded`; nothing was created.
        """
        self.check()
        self._bucket.take()
        self._admitted_since_read += 1

    def give_back(self) -> None:
        """Undo `admit`: the order was a repeat of one that exists already."""
        self._bucket.give_back()
        self._admitted_since_read = max(0, self._admitted_since_read - 1)

    def check(self) -> None:
        """Require that a new order would be admitted now.

        Raises:
            Problem: `overloaded`; it is counted as refused.
        """
        pushback = self._pushback()
        if (reason := self._reason(pushback)) is not None:
            SHED.labels(reason.value).inc()
            self._refused_since_read = reason
            raise _overloaded(reason, pushback)

    async def watch(self, beat: Beat) -> None:
        """Read the backlog again and again, until cancelled."""
        is_known = True
        while True:
            beat()
            try:
                backlog = await self._source.read()
            except Transient as problem:
                if is_known:
                    log.warning("the backlog is not known", why=problem.message)
                is_known = False
            else:
                is_known = True
                self._update(backlog)
            await asyncio.sleep(READ_SECONDS)

    def _reason(self, pushback: float) -> ShedReason | None:
        if pushback > 0:
            return ShedReason.API_SERVER
        if math.isinf(self._shed_after) or (estimate := self._current_estimate()) is None:
            return None
        if (reason := shed_reason(estimate, self._shed_after)) is not None:
            return reason
        return None if self._bucket.has_token(estimate.throughput) else ShedReason.BURST

    def _current_estimate(self) -> BacklogEstimate | None:
        """The estimate with the orders admitted since the last reading; None if that is too old."""
        if self._monotonic() - self._read_at > STALE_SECONDS:
            return None
        last = self._estimate
        return BacklogEstimate(
            last.waiting + self._admitted_since_read, last.untouched_seconds, last.throughput
        )

    def _update(self, backlog: OrderBacklog) -> None:
        self._estimate = updated_estimate(self._estimate, backlog)
        self._read_at = self._monotonic()
        self._admitted_since_read = 0
        self._log_change()
        AGE.set(backlog.untouched_seconds)
        WAITING.set(backlog.waiting)
        THROUGHPUT.set(self._estimate.throughput)

    def _log_change(self) -> None:
        """Log once when shedding starts, changes its reason, or stops."""
        if self._refused_since_read is not self._logged:
            self._logged = self._refused_since_read
            log.info(
                "new orders are refused" if self._logged else "new orders are admitted", reason=self._logged
            )
        self._refused_since_read = None


class OrderAdmission:
    """While new orders are refused, answers most requests for one with 503 before anything is parsed.

    It comes after the body was read: a body that does not arrive takes no room here.

    To authenticate a caller and look up an idempotency key costs as much as many a read. During a burst that
    work alone would delay all other responses.
    """

    def __init__(
        self, load_shedding: LoadShedding, *, max_concurrent: int = MAX_CONCURRENT_WHILE_SHEDDING
    ) -> None:
        self._load_shedding = load_shedding
        self._max_concurrent = max_concurrent
        self._in_flight = 0

    @contextmanager
    def place(self) -> Iterator[None]:
        """A place for one new order, until the block ends.

        Raises:
            Problem: `overloaded`.
        """
        if self._in_flight >= self._max_concurrent:
            self._load_shedding.check()
        self._in_flight += 1
        try:
            yield
        finally:
            self._in_flight -= 1


def _overloaded(reason: ShedReason, pushback: float) -> Problem:
    match reason:
        case ShedReason.API_SERVER:
            why, seconds = "The API server sheds load", pushback
        case ShedReason.BURST:
            why, seconds = "Too many orders come at once", BURST_RETRY_SECONDS
        case _:
            why, seconds = "So many orders are waiting that this one would be late", RETRY_SECONDS
    return unavailable(
        f"{why}; this request made nothing. Repeat it with the same key.", seconds, code="overloaded"
    )
